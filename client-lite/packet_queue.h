// Packets that wait for a session: a handshake takes a round trip, and the packet that asked for
// it should not be lost. Bounded and in order; its memory is fixed, and untouched until needed.
//
// Owner: Client, or LaneSender.
#pragma once

#include <array>
#include <cstring>

#include "client-lite/packet_path.h"

namespace adit::client {

class PacketQueue {
 public:
  static constexpr unsigned kPacketsMax = 64;

  bool empty() const { return count_ == 0; }
  unsigned size() const { return count_; }

  // Copies the inner packet that stands in `buffer`, which may be what pop() gave: then it waits
  // on, behind the others. `came_ns` is for who wants to know it. False when there is no room.
  bool push(PacketBuffer& buffer, const Admitted& packet, uint64_t came_ns = 0) {
    if (count_ == kPacketsMax) return false;
    Waiting& waiting = waiting_[(first_ + count_) % kPacketsMax];
    if (&waiting.buffer != &buffer) {
      std::memcpy(waiting.buffer.inner().data(), buffer.inner().data(), packet.bytes);
    }
    waiting.packet = packet;
    waiting.came_ns = came_ns;
    ++count_;
    return true;
  }

  struct Waiting {
    PacketBuffer buffer;
    Admitted packet;
    uint64_t came_ns;
  };
  // The one that has waited longest; it stays valid until the next push(). Not when empty().
  Waiting& pop() {
    Waiting& waiting = waiting_[first_];
    first_ = (first_ + 1) % kPacketsMax;
    --count_;
    return waiting;
  }
  // When that came. Not when empty().
  uint64_t first_came_ns() const { return waiting_[first_].came_ns; }
  void clear() { count_ = 0; }

 private:
  std::array<Waiting, kPacketsMax> waiting_;
  unsigned first_ = 0;
  unsigned count_ = 0;
};

}  // namespace adit::client
