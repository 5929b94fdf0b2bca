// What the express way (express.cpp) knows of the ports, and remembers of a packet between its
// passes over a burst.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "gateway/crypto.h"
#include "gateway/packet.h"
#include "lib/nat/mapping.h"

struct rte_mbuf;

namespace adit::gateway {

class Pipeline;
struct ExpressLink;
struct ExpressPacket;
struct Tunnel;
struct TunnelLine;
struct TxQueue;

// What of the configuration a pass would ask of every packet: a bit each. Instead the pass is
// compiled for each set of those that concern it, and a worker's is chosen when it starts.
namespace board_trait {
inline constexpr unsigned kFromUplink = 1;  // the port's
inline constexpr unsigned kFromPublic = 2;  // one port may be both
inline constexpr unsigned kHasOthers = 4;   // workers beside this one
inline constexpr unsigned kSets = 8;
}  // namespace board_trait
namespace depart_trait {
inline constexpr unsigned kFiltered = 1;
inline constexpr unsigned kIpSumByPort = 2;   // the uplink's device writes these checksums
inline constexpr unsigned kUdpSumByPort = 4;
inline constexpr unsigned kSets = 8;
}  // namespace depart_trait
using BoardPass = bool (Pipeline::*)(const ExpressLink& link, std::span<rte_mbuf*> packets);
using DepartPass = void (Pipeline::*)(unsigned port, std::span<ExpressPacket> group);

// In front of an IPv4 header: what is written there for its link header, which ends it.
inline constexpr unsigned kExpressLinkBytes = 32;

// What packets of a port are compared with, as it lies in memory.
struct ExpressLink {
  uint64_t mac = 0;
  uint64_t front = 0;  // the six bytes before the IPv4 header and its first two: VLAN, EtherType,
  uint64_t front_mask = 0;  // version and length; of what counts
  uint16_t header_bytes = 0;  // Ethernet, with the VLAN tag where there is one
  BoardPass board = nullptr;
};

// How they leave by a port.
struct ExpressExit {
  uint32_t subnet = 0;
  uint32_t mask = 0;
  uint32_t next_hop = 0;
  uint32_t hop = 0;  // who the header below is for: the last packet's; 0: nobody
  uint16_t header_bytes = 0;
  uint8_t port = 0;
  TxQueue* queue = nullptr;
  std::array<uint8_t, kExpressLinkBytes> header{};  // stands at the end of it
};

// What is in front of a tunnel packet.
struct ExpressOuter {
  uint64_t ip_begin = 0;   // version and length
  uint64_t ip_middle = 0;  // TTL, protocol, source
  uint32_t source_port = 0;
  uint16_t udp_sum = 0;         // of the pseudo-header, without length and destination
  uint64_t offloads = 0;        // flags of the buffer where the device writes a checksum,
  uint64_t header_lengths = 0;  // and its tx_offload
};

struct ExpressPacket {
  // What the next pass does with it. `stages`: not ordinary, through the stages in its turn.
  // `handed`: to worker `slot`.
  enum Way : uint8_t { stages, outbound, inbound, gone, handed };

  rte_mbuf* mbuf = nullptr;
  uint8_t* ip = nullptr;  // outer header of a tunnel packet, then the inner one
  TunnelLine* line = nullptr;
  nat::Mapping* mapping = nullptr;  // where it stands, if it stands where it nearly always does
  const void* wanted = nullptr;     // the line of memory that the next pass needs
  // The tunnel's slot, and of an outbound packet above it the internal address: eight bytes as a
  // Mapping begins with, to be compared at once.
  uint64_t owner = 0;
  uint16_t internal_port = 0;  // outbound, as it lies: what a Mapping has behind that
  uint16_t total_bytes = 0;    // of the packet at `ip`
  nat::Protocol protocol = nat::Protocol::udp;
  Way way = stages;
  bool sealed = false;  // a type 4 packet, outbound
  bool opened = false;  // decrypted in place: the stages begin at the inner packet

  uint32_t slot() const { return static_cast<uint32_t>(owner); }
  // Outbound: whether the mapping is, or was, its endpoint's.
  bool owns(const nat::Mapping& of) const {
    static_assert(offsetof(nat::Mapping, tunnel_slot) == 0);
    static_assert(offsetof(nat::Mapping, internal) == 4);
    static_assert(offsetof(Endpoint, address) == 0 && offsetof(Endpoint, port) == 4);
    uint64_t its_owner;
    std::memcpy(&its_owner, static_cast<const void*>(&of), sizeof its_owner);
    return its_owner == owner && of.internal.port.raw() == internal_port;
  }
};

// A group's encrypted packets, which are opened or sealed together.
struct ExpressGathered {
  std::array<CryptoJob, kBurstMax> jobs;
  std::array<ExpressPacket*, kBurstMax> packets;  // whose they are, to open
  unsigned count = 0;
};

// Heartbeats and probes that wait for more of their kind. A tunnel sends one in some seconds, so
// each comes with all its memory cold, and its cipher has lanes for eight: together they cost half
// as much. While a million tunnels are idle, eight come in 190 µs.
struct WaitingControls {
  static constexpr unsigned kAtOnce = 8;
  static constexpr uint64_t kWaitNs = 200'000;  // the first of them at most

  struct One {
    rte_mbuf* mbuf = nullptr;
    const uint8_t* ip = nullptr;  // its outer header
    const TunnelLine* line = nullptr;
  };
  std::array<One, 2 * kAtOnce> packets;
  unsigned count = 0;
  unsigned looked_at = 0;  // so many say nothing new of their tunnels
  uint64_t since_ns = 0;   // when the first came
};
// Whether those of a burst may.
enum class Controls : bool { at_once, may_wait };

}  // namespace adit::gateway
