#include "lib/dhcp/packet.h"

#include <cstring>

#include "lib/net/checksum.h"
#include "lib/net/parse.h"

namespace adit::dhcp {
namespace {

constexpr size_t kHeadersBytes = sizeof(Ipv4Header) + sizeof(UdpHeader);
constexpr uint8_t kTtl = 64;  // RFC 1700's default

constexpr uint16_t source_port(Op op) {
  return op == Op::request ? kClientPort : kServerPort;
}
constexpr uint16_t destination_port(Op op) {
  return op == Op::request ? kServerPort : kClientPort;
}

}  // namespace

size_t wrap(const Datagram& datagram, std::span<uint8_t> out) {
  if (out.size() < kHeadersBytes) return 0;
  const Message& message = datagram.message;
  const size_t message_bytes = serialize(message, out.subspan(kHeadersBytes));
  if (message_bytes == 0) return 0;
  const size_t total_bytes = kHeadersBytes + message_bytes;

  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(total_bytes));
  // RFC 6864 §4.1: what may not be fragmented needs no id.
  ip.fragment = Be16::from_host(kIpDontFragment);
  ip.ttl = kTtl;
  ip.protocol = kIpUdp;
  ip.source = datagram.source;
  ip.destination = datagram.destination;
  std::memcpy(out.data(), &ip, sizeof(ip));
  ip.checksum = internet_checksum(out.first(sizeof(ip)));
  std::memcpy(out.data(), &ip, sizeof(ip));

  UdpHeader udp{};
  udp.source_port = Be16::from_host(source_port(message.op));
  udp.destination_port = Be16::from_host(destination_port(message.op));
  udp.length_bytes = Be16::from_host(static_cast<uint16_t>(total_bytes - sizeof(ip)));
  std::memcpy(out.data() + sizeof(ip), &udp, sizeof(udp));
  udp.checksum = udp_checksum_to_send(transport_checksum(
      ip.source, ip.destination, kIpUdp, out.subspan(sizeof(ip), total_bytes - sizeof(ip))));
  std::memcpy(out.data() + sizeof(ip), &udp, sizeof(udp));
  return total_bytes;
}

std::optional<Datagram> unwrap(std::span<const uint8_t> packet) {
  ParsedIpv4 parsed;
  if (parse_ipv4(packet, HeaderChecksum::verify, parsed) != ParseError::none) return std::nullopt;
  if (parsed.protocol != kIpUdp || parsed.is_fragment) return std::nullopt;

  Ipv4Header ip;
  UdpHeader udp;
  std::memcpy(&ip, packet.data(), sizeof(ip));
  std::memcpy(&udp, packet.data() + parsed.header_bytes, sizeof(udp));
  const auto segment = packet.subspan(parsed.header_bytes, udp.length_bytes.host());
  if (udp.checksum.raw() != 0 &&
      transport_checksum(ip.source, ip.destination, kIpUdp, segment).raw() != 0) {
    return std::nullopt;
  }
  const auto message = parse(segment.subspan(sizeof(UdpHeader)));
  if (!message || udp.destination_port.host() != destination_port(message->op)) {
    return std::nullopt;
  }
  return Datagram{ip.source, ip.destination, *message};
}

}  // namespace adit::dhcp
