// Which of a client's lanes a packet belongs to (docs/protocol.md, "Lanes"). An internal endpoint
// has one lane always, whatever it sends to, so that it has one mapping; a flow keeps its order.
#pragma once

#include <cstdint>

#include "lib/net/address.h"
#include "lib/tunnel/wire.h"

namespace adit::tunnel {

// The lane of what `source` sends, below `lanes` (1-kLanesMax). `port` is the source port of UDP
// and TCP, the identifier of ICMP queries, and 0 of whatever has neither. Both ends have to agree,
// so the protocol says how it is computed; it keeps nothing secret.
constexpr unsigned lane_of(Ipv4Address source, uint8_t protocol, uint16_t port, unsigned lanes) {
  uint64_t mixed = uint64_t{source.host()} << 24 | uint64_t{protocol} << 16 | port;
  mixed *= 0x9e3779b97f4a7c15;
  mixed ^= mixed >> 32;
  mixed *= 0xbb67ae8584caa73b;
  return static_cast<unsigned>((mixed >> 32) * lanes >> 32);
}

}  // namespace adit::tunnel
