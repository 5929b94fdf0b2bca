// Whose the tunnels are, and who keeps the external ports, as one worker knows it. Where nothing
// has ever been moved both follow from a number: a tunnel's slot, a port's window. What has been
// moved is an exception to that. Each worker has a view of its own, which it changes when another
// worker's message says so and at no other time (move.cpp); the control thread has one of the
// tunnels too.
//
// A packet looks at the exceptions only where there are any for numbers like its own, which a few
// hundred bytes say.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gateway/huge_memory.h"
#include "gateway/tunnel_table.h"
#include "lib/nat/port_block.h"

namespace adit::gateway {

// In place of a worker: the tunnel is being moved, and what comes for it has to wait.
inline constexpr unsigned kOnTheMove = 0xfe;

// For which of so many numbers, alike in their lowest bits, there may be an exception.
class Exceptions {
 public:
  bool may_be(uint32_t number) const {
    return (bits_[number / 64 % kWords] >> number % 64 & 1) != 0;
  }
  // One more, or one less.
  void add(uint32_t number) {
    ++count_;
    bits_[number / 64 % kWords] |= uint64_t{1} << number % 64;
  }
  void remove() {
    if (--count_ == 0) bits_ = {};
  }

 private:
  static constexpr unsigned kWords = nat::kUnitsPerAddress / 64;
  std::array<uint64_t, kWords> bits_{};
  uint32_t count_ = 0;
};

class TunnelOwners {
 public:
  // Where there is one worker nothing is ever set().
  TunnelOwners(const TunnelTable& tunnels, unsigned workers)
      : tunnels_(tunnels), moved_(workers > 1 ? tunnels.slots() : 0) {}

  // The worker whose the tunnel in this slot is; kOnTheMove.
  unsigned of(uint32_t slot) const {
    if (!exceptions_.may_be(slot) || moved_[slot] == kNotMoved) [[likely]] {
      return tunnels_.home(slot);
    }
    return moved_[slot] - 1u;
  }
  void set(uint32_t slot, unsigned worker);

 private:
  static constexpr uint8_t kNotMoved = 0;
  const TunnelTable& tunnels_;
  std::vector<uint8_t> moved_;  // by slot: a worker and one, or kNotMoved
  Exceptions exceptions_;
};

// Windows of external ports whose block is with a tunnel that has moved: they are kept by its
// owner, not by the worker in whose slice they lie.
class MovedPorts {
 public:
  // Units as in lib/nat/table.h.
  explicit MovedPorts(uint32_t units) : memory_(units * sizeof(uint32_t)) {}

  // For a port's window on any address.
  bool may_be(unsigned window) const { return exceptions_.may_be(window); }
  // The slot of the tunnel; 0: there is none, and the window is its own worker's.
  uint32_t tunnel_of(uint32_t unit) const { return slots()[unit]; }
  void set(uint32_t first_unit, unsigned units, uint32_t slot);

 private:
  uint32_t* slots() const { return reinterpret_cast<uint32_t*>(memory_.data()); }
  HugeMemory memory_;  // the machine's until a block is moved
  Exceptions exceptions_;  // by window, of any address
};

}  // namespace adit::gateway
