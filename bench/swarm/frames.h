// The frames of swarm's flows, both ways and at both ends, made once and sent or compared many
// times.
//
//   client 20.x.y.z:51820 ══► tunnel endpoint ┐
//                                             │ gateway, or dpdk-testpmd in its place
//   server 40.1.0.x:6600 ◄──────── NAT's pool ┘
//
// A Frame holds the headers up to the payload; the payload is payload.h's. Where the payload's sum
// is the same for all stamps, the checksums stand in the headers for good.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "lib/net/headers.h"
#include "lib/tunnel/session.h"
#include "lib/tunnel/wire.h"

namespace adit::bench {

enum Direction : uint8_t { kOutbound = 0, kInbound = 1 };
inline constexpr unsigned kDirections = 2;
constexpr const char* direction_name(unsigned direction) {
  return direction == kOutbound ? "outbound" : "inbound";
}

// Offsets in a frame without VLAN tag and IPv4 options.
inline constexpr unsigned kIpAt = sizeof(EthernetHeader);
inline constexpr unsigned kIpIdAt = kIpAt + 4;
inline constexpr unsigned kIpChecksumAt = kIpAt + 10;
inline constexpr unsigned kUdpAt = kIpAt + sizeof(Ipv4Header);
inline constexpr unsigned kUdpPayloadAt = kUdpAt + sizeof(UdpHeader);
inline constexpr unsigned kInnerHeaderBytes = sizeof(Ipv4Header) + sizeof(UdpHeader);
inline constexpr unsigned kInnerBytesMin = kInnerHeaderBytes + 32 + 4;  // a stamp and a little more
inline constexpr unsigned kInnerBytesMax = 1440;

struct alignas(64) Frame {
  static constexpr unsigned kHeaderBytesMax = 96;
  std::array<uint8_t, kHeaderBytesMax> bytes{};
  uint16_t header_bytes = 0;
  uint16_t frame_bytes = 0;  // 0: not known yet
};
static_assert(sizeof(Frame) == 128);

// One conversation. What its packets look like follows from this alone.
struct Flow {
  uint32_t number = 0;
  uint32_t client = 0;
  uint16_t inner_bytes = 64;
  Endpoint internal;
  Endpoint external;  // zero: its mapping is not known yet
  Endpoint remote;
};

// Addresses of the link under a frame.
struct Link {
  MacAddress from;
  MacAddress to;
};

// `from` to `to` through the link, inner_bytes of IPv4.
Frame plain_frame(const Link& link, const Flow& flow, const Endpoint& from, const Endpoint& to,
                  uint8_t ttl);

// What is around an inner packet in a tunnel.
struct Outer {
  Endpoint from;
  Endpoint to;
  uint32_t index = 0;  // the receiver's
  std::array<uint8_t, 3> tag{};
  // Of the padded inner packet in type 4; 0: it is type 5.
  uint16_t sealed_bytes = 0;
};
// The same in a tunnel. In type 4, whoever sends it seals what begins at kUdpPayloadAt, and then
// sets the UDP checksum.
Frame tunnel_frame(const Link& link, const Outer& outer, const Flow& flow, const Endpoint& from,
                   const Endpoint& to, uint8_t ttl);
void set_udp_checksum(uint8_t* frame);
bool is_udp_checksum_right(const uint8_t* frame);

// Whether two frames' headers are the same but for the IPv4 header's id and checksum, the latter
// being right: the gateway numbers tunnel packets.
bool has_headers(const uint8_t* received, const Frame& expected);

// Writes Ethernet, IPv4 and UDP around a datagram of `bytes` that stands at kUdpPayloadAt, UDP
// checksum included. Returns the bytes of the frame.
unsigned wrap_datagram(uint8_t* frame, const Link& link, const Endpoint& from, const Endpoint& to,
                       unsigned bytes);

}  // namespace adit::bench
