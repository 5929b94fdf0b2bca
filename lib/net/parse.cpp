#include "lib/net/parse.h"

#include "lib/net/checksum.h"

namespace adit {
namespace {

constexpr bool has_id(uint8_t icmp_type) {
  // Echo, timestamp and their replies (RFC 792).
  return icmp_type == kIcmpEchoRequest || icmp_type == kIcmpEchoReply || icmp_type == 13 ||
         icmp_type == 14;
}

// Nobody can be answered at port 0, which is reserved (RFC 6335 §6; RFC 8085 §5.1 for UDP).
template <typename Header>
bool has_port_zero(const Header& header) {
  return header.source_port == Be16{} || header.destination_port == Be16{};
}

ParseError parse_transport(std::span<const uint8_t> segment, ParsedIpv4& out) {
  const uint8_t* at = segment.data();
  switch (out.protocol) {
    case kIpUdp: {
      if (segment.size() < sizeof(UdpHeader)) return ParseError::truncated;
      const auto* udp = reinterpret_cast<const UdpHeader*>(at);
      const unsigned length = udp->length_bytes.host();
      if (length < sizeof(UdpHeader) || has_port_zero(*udp)) return ParseError::bad_transport;
      // A first fragment holds only part of the datagram.
      if (!out.is_fragment && length > segment.size()) return ParseError::bad_transport;
      out.source_port = udp->source_port;
      out.destination_port = udp->destination_port;
      out.transport_bytes = sizeof(UdpHeader);
      return ParseError::none;
    }
    case kIpTcp: {
      if (segment.size() < sizeof(TcpHeader)) return ParseError::truncated;
      const auto* tcp = reinterpret_cast<const TcpHeader*>(at);
      const unsigned header = tcp->header_bytes();
      if (header < sizeof(TcpHeader) || header > segment.size() || has_port_zero(*tcp)) {
        return ParseError::bad_transport;
      }
      out.source_port = tcp->source_port;
      out.destination_port = tcp->destination_port;
      out.transport_bytes = static_cast<uint16_t>(header);
      return ParseError::none;
    }
    case kIpIcmp: {
      if (segment.size() < sizeof(IcmpHeader)) return ParseError::truncated;
      const auto* icmp = reinterpret_cast<const IcmpHeader*>(at);
      if (has_id(icmp->type)) out.source_port = out.destination_port = icmp->id;
      out.transport_bytes = sizeof(IcmpHeader);
      return ParseError::none;
    }
    default:
      return ParseError::none;
  }
}

}  // namespace

ParseError parse_ipv4(std::span<const uint8_t> bytes, HeaderChecksum checksum, ParsedIpv4& out) {
  out = ParsedIpv4{};
  if (bytes.size() < sizeof(Ipv4Header)) return ParseError::truncated;
  const auto* ip = reinterpret_cast<const Ipv4Header*>(bytes.data());
  if (ip->version_ihl >> 4 != 4) return ParseError::bad_version;
  const unsigned header = ip->header_bytes();
  const unsigned total = ip->total_bytes.host();
  if (header < sizeof(Ipv4Header) || header > total) return ParseError::bad_length;
  if (total > bytes.size()) return ParseError::truncated;
  if (checksum == HeaderChecksum::verify && internet_checksum(bytes.first(header)).raw() != 0) {
    return ParseError::bad_checksum;
  }
  const uint16_t fragment = ip->fragment.host();
  out.header_bytes = static_cast<uint16_t>(header);
  out.total_bytes = static_cast<uint16_t>(total);
  out.protocol = ip->protocol;
  out.is_first_fragment = (fragment & kIpFragmentOffsetMask) == 0;
  out.is_fragment = !out.is_first_fragment || (fragment & kIpMoreFragments) != 0;
  if (!out.is_first_fragment) return ParseError::none;
  return parse_transport(bytes.subspan(header, total - header), out);
}

}  // namespace adit
