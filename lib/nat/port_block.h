// Port blocks: which of a pool address's ports are handed to whom. Ports are counted in units of
// 16, one window each. A block is an aligned run of a power of two of units, so that an index into
// it is a mask and no block straddles what a NIC steers as one. Lives in the table's
// memory, where all zero means that every port is to be had.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/nat/window.h"

namespace adit::nat {

inline constexpr unsigned kPortsPerAddress = 65536;
inline constexpr unsigned kUnitsPerAddress = kPortsPerAddress / kWindowPorts;

// One pool address's units: which are taken.
class AddressUnits {
 public:
  // Takes `units` (a power of two) contiguous, aligned units; returns the first, or nullopt when
  // there is no such run. `random` decides where the search begins. At most 64 words are read.
  std::optional<uint16_t> take(unsigned units, uint64_t random);
  void give_back(unsigned first, unsigned units) { set(first, units, false); }
  // Takes one unit for ever, if it is not taken: its ports are not ours to give.
  void withdraw(unsigned unit) {
    if ((taken_[unit / 64] >> unit % 64 & 1) == 0) set(unit, 1, true);
  }
  unsigned free_units() const { return kUnitsPerAddress - static_cast<unsigned>(taken_units_); }

 private:
  static constexpr unsigned kWords = kUnitsPerAddress / 64;

  std::optional<uint16_t> take_within_words(unsigned units, uint64_t random);
  std::optional<uint16_t> take_whole_words(unsigned units, uint64_t random);
  void set(unsigned first, unsigned units, bool taken);

  uint64_t taken_[kWords] = {};
  uint64_t taken_units_ = 0;
};

// What the translator keeps for a granted block; stands at the block's first window. It outlives
// the subscriber: a block returns only when all its ports have rested.
struct BlockRecord {
  uint16_t ports = 0;       // 0 = not granted
  uint16_t used = 0;        // mappings live or resting, over all protocols
  uint32_t granted_at = 0;  // its place in the list of granted blocks
};
static_assert(sizeof(BlockRecord) == 8);

// An entry of the list of granted blocks, which the clock hand goes along.
struct GrantedBlock {
  static constexpr uint32_t kAtOnce = 0;

  uint32_t unit = 0;        // with which it begins
  uint32_t due_s = kAtOnce;  // coarse clock: nothing in it is over before
};
static_assert(sizeof(GrantedBlock) == 8);

}  // namespace adit::nat
