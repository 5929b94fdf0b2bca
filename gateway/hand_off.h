// Packets from one worker to another: a bounded ring for each ordered pair of workers, so that a
// flow that goes this way keeps its order. Handed over is what has come to a worker that it does
// not belong to: of a device that cannot steer, a tunnel that has moved, a fragment, an ICMP error.
//
// Owner: main. Each ring has one writer and one reader, two workers; what is staged for it is its
// writer's.
#pragma once

#include <rte_ring_elem.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gateway/channel.h"
#include "lib/net/address.h"

struct rte_mbuf;

namespace adit::gateway {

struct HandedPacket {
  enum Kind : uint8_t {
    frame,     // as received on `port`
    packet,    // the same without its link header
    fragment,  // the same: a fragment whose datagram is the receiver's
    turned,    // from inside to an external address of ours: comes in as if received
    inner,     // an inner packet for tunnel `slot`, ready to be wrapped
    portless_out,      // from tunnel `slot`, to be mapped to external `address`
    portless_in,       // to tunnel `slot`, inner `address`
    portless_refused,  // back, to be dropped for `reason`
    to_send,   // a frame for `port`, whose transmit queue is the receiver's
    // Without a packet, about a tunnel that is moved (move.cpp): `epoch` is the number of the move.
    leaving,     // `slot` is going to leave `worker`, who sends this
    mark,        // all that `worker` has handed of `slot` is in front of this
    moved,       // `slot` is `worker`'s
    adopted,     // so it is, says that one
    block_home,  // a block of the receiver's is its own again: unit `slot`, `epoch` units
    // And about its sessions in the filter (move_sessions.cpp).
    expect,      // `count` sessions of `slot` are going to come from `worker`: is there room?
    expected,    // `reason`, a MoveRefusal: there is, or why not
    sessions,    // with a packet that is none: `count` records
  };
  rte_mbuf* mbuf = nullptr;
  uint32_t slot = 0;
  uint32_t epoch = 0;  // of the tunnel; of messages about a move, its number
  Ipv4Address address;
  uint16_t profile = 0;  // of its subscriber
  Kind kind = frame;
  uint8_t port = 0;
  uint8_t reason = 0;  // Fate
  bool hairpin = false;  // portless_in: has turned round
  uint8_t lanes = 1;     // portless_out: of the tunnel's subscriber
  uint8_t worker = 0;
  uint32_t count = 0;
};
static_assert(sizeof(HandedPacket) == 32);

class HandOff {
 public:
  static constexpr unsigned kRingPackets = 1024;

  // Throws std::runtime_error without memory. `name` is unique in the process.
  HandOff(const char* name, unsigned workers);
  HandOff(const HandOff&) = delete;
  HandOff& operator=(const HandOff&) = delete;

  unsigned workers() const { return workers_; }
  // How many of them the ring took, from the first on.
  unsigned push(unsigned from, unsigned to, std::span<const HandedPacket> packets) {
    return ring(from, to).push_burst(packets);
  }
  // Asked by the writer, before a push() that must not fail.
  bool has_room(unsigned from, unsigned to) { return !ring(from, to).full(); }
  unsigned pop(unsigned from, unsigned to, std::span<HandedPacket> packets) {
    return ring(from, to).pop(packets);
  }

 private:
  Channel<HandedPacket>& ring(unsigned from, unsigned to) { return *rings_[from * workers_ + to]; }

  const unsigned workers_;
  std::vector<std::unique_ptr<Channel<HandedPacket>>> rings_;
};

// What a worker has for the others until the end of its burst.
struct HandOutbox {
  std::array<HandedPacket, 32> packets;
  unsigned count = 0;
};

}  // namespace adit::gateway
