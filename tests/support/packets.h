// Builds the packets that tests send and expect: IPv4 with UDP, TCP or ICMP in it. Every checksum
// is computed from scratch, two bytes at a time, by code that shares nothing with lib/: a packet
// built here is what an incremental update has to arrive at, byte for byte.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/net/address.h"
#include "lib/net/headers.h"

namespace adit::test {

using Bytes = std::vector<uint8_t>;

// What an IPv4 header says besides addresses, protocol and lengths.
struct Ipv4Options {
  uint8_t tos = 0;
  uint8_t ttl = 64;
  uint16_t id = 0x1234;
  uint16_t fragment = kIpDontFragment;  // flags and offset, as in the header
  Bytes options = {};                   // a multiple of 4 bytes, at most 40
};

// RFC 768 lets a sender leave the checksum out.
enum class UdpChecksum : bool { absent, present };

struct TcpOptions {
  uint8_t flags = kTcpAck;
  uint32_t sequence = 1000;
  uint32_t acknowledgement = 2000;
  uint16_t window = 65535;
  Bytes options = {};  // a multiple of 4 bytes, at most 40
};

// `count` bytes that differ from one another and from `seed` to `seed`.
Bytes payload_bytes(size_t count, uint8_t seed = 0);

// Internet checksum of `bytes` (RFC 1071) with `initial` added to the sum, in host order.
uint16_t plain_checksum(std::span<const uint8_t> bytes, uint32_t initial = 0);

Bytes ipv4_packet(Ipv4Address source, Ipv4Address destination, uint8_t protocol,
                  std::span<const uint8_t> payload, const Ipv4Options& ip = {});
Bytes udp_packet(const Endpoint& from, const Endpoint& to, std::span<const uint8_t> payload,
                 const Ipv4Options& ip = {}, UdpChecksum checksum = UdpChecksum::present);
Bytes tcp_packet(const Endpoint& from, const Endpoint& to, std::span<const uint8_t> payload,
                 const TcpOptions& tcp = {}, const Ipv4Options& ip = {});
// An ICMP message whose header ends in `rest` (for queries identifier << 16 | sequence).
Bytes icmp_packet(Ipv4Address source, Ipv4Address destination, uint8_t type, uint8_t code,
                  uint32_t rest, std::span<const uint8_t> payload, const Ipv4Options& ip = {});
// A query or its reply: echo (8, 0), timestamp (13, 14).
Bytes icmp_query(Ipv4Address source, Ipv4Address destination, uint8_t type, uint16_t id,
                 uint16_t sequence, std::span<const uint8_t> payload, const Ipv4Options& ip = {});

}  // namespace adit::test
