// A DHCP message inside the IPv4 and UDP packet that carries it through the tunnel.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "lib/dhcp/message.h"
#include "lib/net/headers.h"

namespace adit::dhcp {

inline constexpr size_t kPacketBytesMax = sizeof(Ipv4Header) + sizeof(UdpHeader) + kMessageBytesMax;

// A message and the addresses it travels between. The ports follow from its op.
struct Datagram {
  Ipv4Address source;
  Ipv4Address destination;
  Message message;
};

// Writes the whole packet, checksums included. Returns its bytes, or 0 when `out` has no room:
// kPacketBytesMax is always enough.
size_t wrap(const Datagram& datagram, std::span<uint8_t> out);

// Reads a packet for port 67 that holds a request or one for port 68 that holds a reply. Verifies
// the IPv4 checksum and the UDP checksum (RFC 768: 0 means none). nullopt for anything else, a
// fragment included: no message of ours needs one. The addresses are not judged.
std::optional<Datagram> unwrap(std::span<const uint8_t> packet);

}  // namespace adit::dhcp
