#include "tests/support/fragments.h"

#include <algorithm>
#include <cstring>

namespace adit::test {

Ipv4Header header_of(const Bytes& packet) {
  Ipv4Header ip{};
  std::memcpy(&ip, packet.data(), std::min(packet.size(), sizeof ip));
  return ip;
}

Bytes piece_of(const Bytes& whole, size_t begin, size_t end) {
  const Ipv4Header ip = header_of(whole);
  const size_t payload = whole.size() - 20;
  end = std::min(end, payload);
  Ipv4Options options;
  options.tos = ip.tos;
  options.ttl = ip.ttl;
  options.id = ip.id.host();
  options.fragment =
      static_cast<uint16_t>(begin / 8 | (end < payload ? kIpMoreFragments : uint16_t{0}));
  return ipv4_packet(ip.source, ip.destination, ip.protocol,
                     std::span(whole).subspan(20 + begin, end - begin), options);
}

std::vector<Bytes> pieces_of(const Bytes& whole, size_t bytes) {
  std::vector<Bytes> pieces;
  for (size_t at = 0; at < whole.size() - 20; at += bytes) {
    pieces.push_back(piece_of(whole, at, at + bytes));
  }
  return pieces;
}

Bytes with_ttl(const Bytes& packet, uint8_t ttl) {
  const Ipv4Header ip = header_of(packet);
  return ipv4_packet(ip.source, ip.destination, ip.protocol, std::span(packet).subspan(20),
                     {.tos = ip.tos, .ttl = ttl, .id = ip.id.host(),
                      .fragment = ip.fragment.host()});
}

Bytes with_id(const Bytes& packet, uint16_t id) {
  const Ipv4Header ip = header_of(packet);
  return ipv4_packet(ip.source, ip.destination, ip.protocol, std::span(packet).subspan(20),
                     {.tos = ip.tos, .ttl = ip.ttl, .id = id, .fragment = ip.fragment.host()});
}

}  // namespace adit::test
