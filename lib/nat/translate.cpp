#include "lib/nat/translate.h"

#include <cstddef>

namespace adit::nat {
namespace {

constexpr uint8_t kTcpOptionEnd = 0;  // RFC 9293 §3.2
constexpr uint8_t kTcpOptionNop = 1;
constexpr uint8_t kTcpOptionMss = 2;
constexpr unsigned kTcpOptionMssBytes = 4;

template <typename Header>
Header* header_at(uint8_t* packet, unsigned offset) {
  return reinterpret_cast<Header*>(packet + offset);
}

// The ways out and in differ by which end is rewritten and by the sign of the deltas.
template <Direction direction>
void translate(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping) {
  constexpr bool outbound = direction == Direction::outbound;
  const auto signed_delta = [](uint16_t raw) {
    const ChecksumDelta delta = ChecksumDelta::from_raw(raw);
    return outbound ? delta : delta.inverse();
  };
  const Endpoint& to = outbound ? mapping.external : mapping.internal;

  auto* ip = header_at<Ipv4Header>(packet, 0);
  ip->checksum = signed_delta(mapping.l3_delta).apply(ip->checksum);
  (outbound ? ip->source : ip->destination) = to.address;

  switch (parsed.protocol) {
    case kIpUdp: {
      auto* udp = header_at<UdpHeader>(packet, parsed.header_bytes);
      udp->checksum = signed_delta(mapping.l4_delta).apply_udp(udp->checksum);
      (outbound ? udp->source_port : udp->destination_port) = to.port;
      break;
    }
    case kIpTcp: {
      auto* tcp = header_at<TcpHeader>(packet, parsed.header_bytes);
      tcp->checksum = signed_delta(mapping.l4_delta).apply(tcp->checksum);
      (outbound ? tcp->source_port : tcp->destination_port) = to.port;
      break;
    }
    case kIpIcmp: {
      // There is no pseudo-header in ICMP's checksum (RFC 792): the identifier alone counts.
      auto* icmp = header_at<IcmpHeader>(packet, parsed.header_bytes);
      icmp->checksum = signed_delta(mapping.port_delta).apply(icmp->checksum);
      icmp->id = to.port;
      break;
    }
    default:
      break;  // no mapping is ever made for another protocol
  }
}

// Protocols whose checksum covers a pseudo-header: DCCP (RFC 4340 §5.1) and UDP-Lite (RFC 3828
// §3.1). In both it stands at byte 6, as in UDP.
constexpr uint8_t kIpDccp = 33;
constexpr uint8_t kIpUdpLite = 136;

// Where the transport checksum stands that covers addresses; 0: there is none.
constexpr unsigned address_checksum_offset(uint8_t protocol) {
  switch (protocol) {
    case kIpTcp:
      return offsetof(TcpHeader, checksum);
    case kIpUdp:
    case kIpDccp:
    case kIpUdpLite:
      return offsetof(UdpHeader, checksum);
    default:
      return 0;
  }
}

}  // namespace

void translate_address(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping,
                       Direction direction) {
  const bool is_outbound = direction == Direction::outbound;
  auto* ip = header_at<Ipv4Header>(packet, 0);
  ChecksumDelta delta = ChecksumDelta::from_raw(mapping.l3_delta);
  if (!is_outbound) delta = delta.inverse();
  ip->checksum = delta.apply(ip->checksum);
  (is_outbound ? ip->source : ip->destination) =
      is_outbound ? mapping.external.address : mapping.internal.address;
  const unsigned offset = address_checksum_offset(parsed.protocol);
  if (offset == 0 || !parsed.is_first_fragment ||
      parsed.header_bytes + offset + sizeof(Be16) > parsed.total_bytes) {
    return;
  }
  auto* checksum = header_at<Be16>(packet, parsed.header_bytes + offset);
  switch (parsed.protocol) {
    case kIpTcp:
      *checksum = delta.apply(*checksum);
      break;
    case kIpUdp:
      *checksum = delta.apply_udp(*checksum);
      break;
    default:
      *checksum = udp_checksum_to_send(delta.apply(*checksum));
  }
}

void translate_outbound(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping) {
  translate<Direction::outbound>(packet, parsed, mapping);
}

void translate_inbound(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping) {
  translate<Direction::inbound>(packet, parsed, mapping);
}

bool decrement_ttl(uint8_t* packet) {
  auto* ip = header_at<Ipv4Header>(packet, 0);
  if (ip->ttl <= 1) return false;
  // TTL and protocol share a 16-bit word of the header; TTL is its high byte.
  const auto word = [&](unsigned ttl) {
    return Be16::from_host(static_cast<uint16_t>(ttl << 8 | ip->protocol));
  };
  ip->checksum = ChecksumDelta().replace(word(ip->ttl), word(ip->ttl - 1u)).apply(ip->checksum);
  ip->ttl = static_cast<uint8_t>(ip->ttl - 1);
  return true;
}

bool is_atomic(const uint8_t* packet) {
  const uint16_t field = reinterpret_cast<const Ipv4Header*>(packet)->fragment.host();
  return (field & kIpDontFragment) != 0 &&
         (field & (kIpMoreFragments | kIpFragmentOffsetMask)) == 0;
}

void set_id(uint8_t* packet, Be16 id) {
  auto* ip = header_at<Ipv4Header>(packet, 0);
  ip->checksum = ChecksumDelta().replace(ip->id, id).apply(ip->checksum);
  ip->id = id;
}

bool clamp_mss(uint8_t* packet, const ParsedIpv4& parsed, uint16_t mss_max) {
  if (parsed.protocol != kIpTcp || parsed.transport_bytes == 0) return false;
  uint8_t* const segment = packet + parsed.header_bytes;
  auto* tcp = header_at<TcpHeader>(segment, 0);
  if ((tcp->flags & kTcpSyn) == 0) return false;

  const unsigned end = parsed.transport_bytes;
  unsigned at = sizeof(TcpHeader);
  while (at < end && segment[at] != kTcpOptionEnd) {
    if (segment[at] == kTcpOptionNop) {
      ++at;
      continue;
    }
    if (at + 2 > end) return false;
    const unsigned option_bytes = segment[at + 1];
    if (option_bytes < 2 || at + option_bytes > end) return false;
    if (segment[at] == kTcpOptionMss && option_bytes == kTcpOptionMssBytes) {
      auto* mss = header_at<Be16>(segment, at + 2);
      if (mss->host() <= mss_max) return false;
      Be16 before = *mss;
      Be16 after = Be16::from_host(mss_max);
      *mss = after;
      if (at % 2 != 0) {
        // At an odd offset the value straddles two words of the sum: its bytes count swapped.
        before = Be16::from_raw(__builtin_bswap16(before.raw()));
        after = Be16::from_raw(__builtin_bswap16(after.raw()));
      }
      tcp->checksum = ChecksumDelta().replace(before, after).apply(tcp->checksum);
      return true;
    }
    at += option_bytes;
  }
  return false;
}

}  // namespace adit::nat
