// The part of translate.h that concerns ICMP: errors that quote a packet, and messages of our own.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "lib/nat/translate.h"

namespace adit::nat {
namespace {

constexpr uint8_t kIcmpTimestampRequest = 13;  // RFC 792
constexpr uint8_t kIcmpTimestampReply = 14;
constexpr unsigned kQuotedTransportBytesMin = 8;   // RFC 792: 64 bits of the original's payload
constexpr size_t kIcmpErrorBytesMax = 576;         // RFC 1812 §4.3.2.3
constexpr uint8_t kTtlOfOwnPackets = 64;           // RFC 1700's recommended default
constexpr uint8_t kTosInternetworkControl = 0xc0;  // RFC 1812 §4.3.2.5: precedence 6

constexpr bool is_icmp_query(uint8_t type) {
  return type == kIcmpEchoRequest || type == kIcmpEchoReply || type == kIcmpTimestampRequest ||
         type == kIcmpTimestampReply;
}

// Overwrites `field`, which an ICMP checksum covers, and adds the change to that checksum's delta.
// Every field it is used for stands at an even offset from the ICMP header: IPv4 headers are
// whole 4-byte words long.
template <typename Field>
void overwrite(Field& field, Field value, ChecksumDelta& icmp_delta) {
  icmp_delta = icmp_delta.replace(field, value);
  field = value;
}

enum class QuotedEnd : bool { source, destination };

// Rewrites one end of the quoted packet to `to`, with the checksums of its own that the quote
// holds. Returns what that did to the sum of the quote's bytes.
ChecksumDelta rewrite_quote(std::span<uint8_t> packet, const ParsedIpv4& parsed,
                            const QuotedPacket& quoted, QuotedEnd end, const Endpoint& to) {
  ChecksumDelta icmp_delta;
  auto* ip = reinterpret_cast<Ipv4Header*>(packet.data() + quoted.offset);
  Ipv4Address& address = end == QuotedEnd::source ? ip->source : ip->destination;
  const ChecksumDelta l3_delta = ChecksumDelta().replace(address, to.address);
  overwrite(ip->checksum, l3_delta.apply(ip->checksum), icmp_delta);
  overwrite(address, to.address, icmp_delta);

  const unsigned transport_offset = quoted.offset + quoted.header_bytes;
  uint8_t* transport = packet.data() + transport_offset;
  const auto port_delta = [&](Be16 before) { return ChecksumDelta().replace(before, to.port); };
  switch (quoted.protocol) {
    case kIpUdp: {
      auto* udp = reinterpret_cast<UdpHeader*>(transport);
      Be16& port = end == QuotedEnd::source ? udp->source_port : udp->destination_port;
      const ChecksumDelta l4_delta = l3_delta + port_delta(port);
      overwrite(udp->checksum, l4_delta.apply_udp(udp->checksum), icmp_delta);
      overwrite(port, to.port, icmp_delta);
      break;
    }
    case kIpTcp: {
      auto* tcp = reinterpret_cast<TcpHeader*>(transport);
      Be16& port = end == QuotedEnd::source ? tcp->source_port : tcp->destination_port;
      constexpr unsigned kChecksumEnd = offsetof(TcpHeader, checksum) + sizeof(Be16);
      if (transport_offset + kChecksumEnd <= parsed.total_bytes) {
        const ChecksumDelta l4_delta = l3_delta + port_delta(port);
        overwrite(tcp->checksum, l4_delta.apply(tcp->checksum), icmp_delta);
      }
      overwrite(port, to.port, icmp_delta);
      break;
    }
    case kIpIcmp: {
      auto* icmp = reinterpret_cast<IcmpHeader*>(transport);
      overwrite(icmp->checksum, port_delta(icmp->id).apply(icmp->checksum), icmp_delta);
      overwrite(icmp->id, to.port, icmp_delta);
      break;
    }
    default:
      break;  // no ports: the address was all
  }
  return icmp_delta;
}

void rewrite_address(Ipv4Header& ip, Ipv4Address& address, Ipv4Address to) {
  ip.checksum = ChecksumDelta().replace(address, to).apply(ip.checksum);
  address = to;
}

}  // namespace

bool parse_quoted(std::span<const uint8_t> packet, const ParsedIpv4& parsed, QuotedPacket& out) {
  const unsigned offset = parsed.header_bytes + unsigned{sizeof(IcmpHeader)};
  if (parsed.total_bytes < offset + sizeof(Ipv4Header)) return false;
  const std::span<const uint8_t> quote = packet.subspan(offset, parsed.total_bytes - offset);
  const auto* ip = reinterpret_cast<const Ipv4Header*>(quote.data());
  const unsigned header = ip->header_bytes();
  if (ip->version_ihl >> 4 != 4 || header < sizeof(Ipv4Header)) return false;
  // RFC 5508 REQ-3b: options are skipped, not refused. RFC 4884 extensions lie behind the quote;
  // no length changes, so they ride along.
  if (quote.size() < header + kQuotedTransportBytesMin) return false;
  if (internet_checksum(quote.first(header)).raw() != 0) return false;
  if ((ip->fragment.host() & kIpFragmentOffsetMask) != 0) return false;

  out = QuotedPacket{};
  out.offset = static_cast<uint16_t>(offset);
  out.header_bytes = static_cast<uint16_t>(header);
  out.protocol = ip->protocol;
  out.source = ip->source;
  out.destination = ip->destination;
  const uint8_t* transport = quote.data() + header;
  if (ip->protocol == kIpUdp || ip->protocol == kIpTcp) {
    // Both begin with their ports; of TCP, 8 bytes hold no more.
    const auto* ports = reinterpret_cast<const UdpHeader*>(transport);
    out.source_port = ports->source_port;
    out.destination_port = ports->destination_port;
  } else if (ip->protocol == kIpIcmp) {
    const auto* icmp = reinterpret_cast<const IcmpHeader*>(transport);
    if (!is_icmp_query(icmp->type)) return false;
    out.source_port = out.destination_port = icmp->id;
  }
  return true;
}

bool icmp_checksum_ok(std::span<const uint8_t> packet, const ParsedIpv4& parsed) {
  const size_t message_bytes = size_t{parsed.total_bytes} - parsed.header_bytes;
  return internet_checksum(packet.subspan(parsed.header_bytes, message_bytes)).raw() == 0;
}

void translate_error_inbound(std::span<uint8_t> packet, const ParsedIpv4& parsed,
                             const QuotedPacket& quoted, const Mapping& mapping) {
  const ChecksumDelta icmp_delta =
      rewrite_quote(packet, parsed, quoted, QuotedEnd::source, mapping.internal);
  auto* icmp = reinterpret_cast<IcmpHeader*>(packet.data() + parsed.header_bytes);
  icmp->checksum = icmp_delta.apply(icmp->checksum);
  auto* ip = reinterpret_cast<Ipv4Header*>(packet.data());
  rewrite_address(*ip, ip->destination, mapping.internal.address);
}

void translate_error_outbound(std::span<uint8_t> packet, const ParsedIpv4& parsed,
                              const QuotedPacket& quoted, const Mapping& mapping,
                              Ipv4Address outer_source) {
  const ChecksumDelta icmp_delta =
      rewrite_quote(packet, parsed, quoted, QuotedEnd::destination, mapping.external);
  auto* icmp = reinterpret_cast<IcmpHeader*>(packet.data() + parsed.header_bytes);
  icmp->checksum = icmp_delta.apply(icmp->checksum);
  auto* ip = reinterpret_cast<Ipv4Header*>(packet.data());
  rewrite_address(*ip, ip->source, outer_source);
}

size_t build_icmp_error(std::span<const uint8_t> about, uint8_t type, uint8_t code, uint32_t rest,
                        Ipv4Address source, Ipv4Address destination, std::span<uint8_t> out) {
  constexpr size_t kHeaders = sizeof(Ipv4Header) + sizeof(IcmpHeader);
  const auto* original = reinterpret_cast<const Ipv4Header*>(about.data());
  // Link padding behind the packet is not part of it.
  const size_t quote_bytes =
      std::min({about.size(), size_t{original->total_bytes.host()}, kIcmpErrorBytesMax - kHeaders});
  const size_t total = kHeaders + quote_bytes;

  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.tos = kTosInternetworkControl;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(total));
  // There is no counter here to take an identification from; the original's varies as well.
  ip.id = original->id;
  ip.ttl = kTtlOfOwnPackets;
  ip.protocol = kIpIcmp;
  ip.source = source;
  ip.destination = destination;
  ip.checksum = internet_checksum({reinterpret_cast<const uint8_t*>(&ip), sizeof ip});

  IcmpHeader icmp{};
  icmp.type = type;
  icmp.code = code;
  icmp.id = Be16::from_host(static_cast<uint16_t>(rest >> 16));
  icmp.sequence = Be16::from_host(static_cast<uint16_t>(rest));

  std::memmove(out.data() + kHeaders, about.data(), quote_bytes);
  std::memcpy(out.data(), &ip, sizeof ip);
  std::memcpy(out.data() + sizeof ip, &icmp, sizeof icmp);
  auto* written = reinterpret_cast<IcmpHeader*>(out.data() + sizeof ip);
  written->checksum = internet_checksum(out.subspan(sizeof ip, total - sizeof ip));
  return total;
}

bool may_send_icmp_error(std::span<const uint8_t> packet, const ParsedIpv4& parsed) {
  if (!parsed.is_first_fragment) return false;
  const auto* ip = reinterpret_cast<const Ipv4Header*>(packet.data());
  if (parsed.protocol == kIpIcmp && is_icmp_error(packet[parsed.header_bytes])) return false;
  if (ip->destination.is_broadcast() || ip->destination.is_multicast()) return false;
  // RFC 1812 §4.3.2.7: a source that defines no single host. Class E holds broadcast as well.
  const bool class_e = ip->source.host() >> 28 == 0xf;
  return !ip->source.is_zero() && !ip->source.is_loopback() && !ip->source.is_multicast() &&
         !class_e;
}

void make_echo_reply(std::span<uint8_t> packet, const ParsedIpv4& parsed) {
  auto* ip = reinterpret_cast<Ipv4Header*>(packet.data());
  std::swap(ip->source, ip->destination);  // the sum of the header stays the same
  const auto ttl_word = [&](uint8_t ttl) {
    return Be16::from_host(static_cast<uint16_t>(ttl << 8 | ip->protocol));
  };
  ip->checksum =
      ChecksumDelta().replace(ttl_word(ip->ttl), ttl_word(kTtlOfOwnPackets)).apply(ip->checksum);
  ip->ttl = kTtlOfOwnPackets;

  auto* icmp = reinterpret_cast<IcmpHeader*>(packet.data() + parsed.header_bytes);
  const auto type_word = [&](uint8_t type) {
    return Be16::from_host(static_cast<uint16_t>(type << 8 | icmp->code));
  };
  icmp->checksum = ChecksumDelta()
                       .replace(type_word(icmp->type), type_word(kIcmpEchoReply))
                       .apply(icmp->checksum);
  icmp->type = kIcmpEchoReply;
}

}  // namespace adit::nat
