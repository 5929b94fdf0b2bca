// What the express way remembers of a packet between its passes over a burst (express.cpp).
#pragma once

#include <cstdint>

#include "lib/nat/mapping.h"

struct rte_mbuf;

namespace adit::gateway {

struct Tunnel;
struct TunnelLine;

// Packets that are under way together. A core has so many buffers for cache misses; more in flight
// only wait for one another.
inline constexpr unsigned kExpressGroup = 32;

struct ExpressPacket {
  // What the next pass does with it. `stages`: not ordinary, through the stages in its turn.
  enum Way : uint8_t { stages, outbound, inbound, gone };

  rte_mbuf* mbuf = nullptr;
  uint8_t* ip = nullptr;  // outer header of a tunnel packet, then the inner one
  TunnelLine* line = nullptr;
  nat::Mapping* mapping = nullptr;  // where it stands, if it stands where it nearly always does
  const void* wanted = nullptr;     // the line of memory that the next pass needs
  uint64_t internal = 0;            // nat::packed(): outbound
  uint32_t slot = 0;
  uint16_t total_bytes = 0;  // of the packet at `ip`
  nat::Protocol protocol = nat::Protocol::udp;
  Way way = stages;
  bool sealed = false;  // a type 4 packet, outbound
  bool opened = false;  // decrypted in place: the stages begin at the inner packet
};

}  // namespace adit::gateway
