#include "client-lite/packet_lanes.h"

#include "lib/net/headers.h"
#include "lib/pcp/message.h"
#include "lib/tunnel/lanes.h"

namespace adit::client {
namespace {

struct InternalEndpoint {
  Ipv4Address address;
  uint8_t protocol = 0;
  Be16 port;
};

template <typename Header>
const Header& header_at(std::span<const uint8_t> bytes, size_t offset) {
  return *reinterpret_cast<const Header*>(bytes.data() + offset);
}

// Where the packet went that an ICMP error quotes. Nothing where the quote ends before it says so,
// or is of a fragment without ports.
std::optional<InternalEndpoint> quoted_endpoint(std::span<const uint8_t> quote) {
  constexpr size_t kTransportBytes = 8;  // RFC 792: so much of it is quoted at least
  if (quote.size() < sizeof(Ipv4Header)) return std::nullopt;
  const auto& ip = header_at<Ipv4Header>(quote, 0);
  const size_t header_bytes = ip.header_bytes();
  if (ip.version_ihl >> 4 != 4 || header_bytes < sizeof(Ipv4Header) ||
      quote.size() < header_bytes + kTransportBytes ||
      (ip.fragment.host() & kIpFragmentOffsetMask) != 0) {
    return std::nullopt;
  }
  InternalEndpoint endpoint{ip.destination, ip.protocol, {}};
  if (ip.protocol == kIpTcp || ip.protocol == kIpUdp) {
    // Both begin with their ports.
    endpoint.port = header_at<UdpHeader>(quote, header_bytes).destination_port;
  } else if (ip.protocol == kIpIcmp) {
    endpoint.port = header_at<IcmpHeader>(quote, header_bytes).id;
  }
  return endpoint;
}

// Of `source`'s endpoints the one that a PCP request is about. Nothing: it asks for no mapping.
std::optional<InternalEndpoint> requested_endpoint(std::span<const uint8_t> message,
                                                   Ipv4Address source) {
  if (message.size() < sizeof(pcp::RequestHeader) + sizeof(pcp::MapBody)) return std::nullopt;
  const auto& header = header_at<pcp::RequestHeader>(message, 0);
  const auto opcode = static_cast<pcp::Opcode>(header.opcode);
  if (header.version != pcp::kVersion ||
      (opcode != pcp::Opcode::map && opcode != pcp::Opcode::peer)) {
    return std::nullopt;
  }
  const auto& body = header_at<pcp::MapBody>(message, sizeof header);
  return InternalEndpoint{source, body.protocol, body.internal_port};
}

bool has_ports(uint8_t protocol) {
  return protocol == kIpTcp || protocol == kIpUdp || protocol == kIpIcmp;
}

}  // namespace

std::optional<uint8_t> PacketLanes::choose(std::span<const uint8_t> inner, const Admitted& packet,
                                           uint64_t now_ns) {
  if (lanes_ < 2 || packet.always_sealed) return uint8_t{0};
  const ParsedIpv4& parsed = packet.parsed;
  if (!parsed.is_fragment || !has_ports(parsed.protocol)) return lane_by_endpoint(inner, parsed);
  const auto& ip = header_at<Ipv4Header>(inner, 0);
  Datagram datagram{ip.source, ip.destination, ip.id, ip.protocol};
  Datagram& place = place_of(datagram);
  if (!parsed.is_first_fragment) {
    if (!place.is_same(datagram) || now_ns >= place.ends_ns) return std::nullopt;
    return place.lane;
  }
  datagram.lane = lane_by_endpoint(inner, parsed);
  datagram.ends_ns = now_ns + kFragmentNs;
  place = datagram;
  return datagram.lane;
}

uint8_t PacketLanes::lane_by_endpoint(std::span<const uint8_t> inner,
                                      const ParsedIpv4& parsed) const {
  const auto& ip = header_at<Ipv4Header>(inner, 0);
  const InternalEndpoint own{ip.source, ip.protocol, parsed.source_port};
  const auto payload = [&] {
    return inner.first(parsed.total_bytes).subspan(parsed.payload_offset());
  };
  std::optional<InternalEndpoint> other;
  if (ip.protocol == kIpIcmp &&
      is_icmp_error(header_at<IcmpHeader>(inner, parsed.header_bytes).type)) {
    other = quoted_endpoint(payload());
  } else if (ip.protocol == kIpUdp && parsed.destination_port.host() == pcp::kServerPort &&
             network_.contains(ip.destination)) {
    other = requested_endpoint(payload(), ip.source);
  }
  const InternalEndpoint& endpoint = other ? *other : own;
  return static_cast<uint8_t>(
      tunnel::lane_of(endpoint.address, endpoint.protocol, endpoint.port.host(), lanes_));
}

PacketLanes::Datagram& PacketLanes::place_of(const Datagram& datagram) {
  const uint64_t addresses =
      uint64_t{datagram.source.value.raw()} << 32 | datagram.destination.value.raw();
  const uint64_t mixed =
      (addresses ^ uint64_t{datagram.id.raw()} << 8 ^ datagram.protocol) * 0x9e3779b97f4a7c15;
  return datagrams_[static_cast<size_t>(mixed >> 56)];
}

}  // namespace adit::client
