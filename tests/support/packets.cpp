#include "tests/support/packets.h"

#include <stdexcept>

namespace adit::test {
namespace {

void put16(Bytes& out, unsigned value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}

void put32(Bytes& out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

void put(Bytes& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void set16(Bytes& out, size_t at, unsigned value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}

void require_options(const Bytes& options) {
  if (options.size() % 4 != 0 || options.size() > 40) {
    throw std::invalid_argument("options are whole words, 40 bytes at most");
  }
}

// The pseudo-header's part of the sum (RFC 9293 §3.1).
uint32_t pseudo_header_sum(Ipv4Address source, Ipv4Address destination, uint8_t protocol,
                           size_t segment_bytes) {
  return (source.host() >> 16) + (source.host() & 0xffff) + (destination.host() >> 16) +
         (destination.host() & 0xffff) + protocol + static_cast<uint32_t>(segment_bytes);
}

}  // namespace

Bytes payload_bytes(size_t count, uint8_t seed) {
  Bytes out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(seed + i * 7 + 1);
  return out;
}

uint16_t plain_checksum(std::span<const uint8_t> bytes, uint32_t initial) {
  uint32_t sum = initial;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    const unsigned low = i + 1 < bytes.size() ? bytes[i + 1] : 0u;
    sum += bytes[i] * 256u + low;
    if (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(0xffff - sum);
}

Bytes ipv4_packet(Ipv4Address source, Ipv4Address destination, uint8_t protocol,
                  std::span<const uint8_t> payload, const Ipv4Options& ip) {
  require_options(ip.options);
  const size_t header_bytes = 20 + ip.options.size();
  Bytes out;
  out.push_back(static_cast<uint8_t>(0x40 | header_bytes / 4));
  out.push_back(ip.tos);
  put16(out, static_cast<unsigned>(header_bytes + payload.size()));
  put16(out, ip.id);
  put16(out, ip.fragment);
  out.push_back(ip.ttl);
  out.push_back(protocol);
  put16(out, 0);
  put32(out, source.host());
  put32(out, destination.host());
  put(out, ip.options);
  set16(out, 10, plain_checksum(out));
  put(out, payload);
  return out;
}

Bytes udp_packet(const Endpoint& from, const Endpoint& to, std::span<const uint8_t> payload,
                 const Ipv4Options& ip, UdpChecksum checksum) {
  Bytes segment;
  put16(segment, from.port.host());
  put16(segment, to.port.host());
  put16(segment, static_cast<unsigned>(8 + payload.size()));
  put16(segment, 0);
  put(segment, payload);
  if (checksum == UdpChecksum::present) {
    const uint16_t computed = plain_checksum(
        segment, pseudo_header_sum(from.address, to.address, kIpUdp, segment.size()));
    set16(segment, 6, computed == 0 ? 0xffff : computed);
  }
  return ipv4_packet(from.address, to.address, kIpUdp, segment, ip);
}

Bytes tcp_packet(const Endpoint& from, const Endpoint& to, std::span<const uint8_t> payload,
                 const TcpOptions& tcp, const Ipv4Options& ip) {
  require_options(tcp.options);
  Bytes segment;
  put16(segment, from.port.host());
  put16(segment, to.port.host());
  put32(segment, tcp.sequence);
  put32(segment, tcp.acknowledgement);
  segment.push_back(static_cast<uint8_t>((20 + tcp.options.size()) / 4 << 4));
  segment.push_back(tcp.flags);
  put16(segment, tcp.window);
  put16(segment, 0);
  put16(segment, 0);
  put(segment, tcp.options);
  put(segment, payload);
  set16(
      segment, 16,
      plain_checksum(segment, pseudo_header_sum(from.address, to.address, kIpTcp, segment.size())));
  return ipv4_packet(from.address, to.address, kIpTcp, segment, ip);
}

Bytes icmp_packet(Ipv4Address source, Ipv4Address destination, uint8_t type, uint8_t code,
                  uint32_t rest, std::span<const uint8_t> payload, const Ipv4Options& ip) {
  Bytes message;
  message.push_back(type);
  message.push_back(code);
  put16(message, 0);
  put32(message, rest);
  put(message, payload);
  set16(message, 2, plain_checksum(message));
  return ipv4_packet(source, destination, kIpIcmp, message, ip);
}

Bytes icmp_query(Ipv4Address source, Ipv4Address destination, uint8_t type, uint16_t id,
                 uint16_t sequence, std::span<const uint8_t> payload, const Ipv4Options& ip) {
  return icmp_packet(source, destination, type, 0, uint32_t{id} << 16 | sequence, payload, ip);
}

}  // namespace adit::test
