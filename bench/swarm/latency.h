// How long packets took: counts by magnitude, three per cent wide, so that millions of them cost a
// few kilobytes and one increment each.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace adit::bench {

class Latency {
 public:
  void record(uint64_t cycles) {
    ++counts_[place(cycles)];
    ++total_;
  }
  uint64_t total() const { return total_; }

  // The cycles that a `share` (0 to 1) of all packets did not exceed; 0 where there are none.
  uint64_t percentile(double share) const {
    const auto wanted = static_cast<uint64_t>(share * static_cast<double>(total_));
    uint64_t seen = 0;
    for (unsigned i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted || (seen == total_ && seen != 0)) return highest(i);
    }
    return 0;
  }

 private:
  // 32 places for each power of two from 32 on; below, one for each value.
  static constexpr unsigned kSteps = 32;
  static unsigned place(uint64_t cycles) {
    if (cycles < 2 * kSteps) return static_cast<unsigned>(cycles);
    const auto shift = static_cast<unsigned>(std::bit_width(cycles)) - 6;
    return shift * kSteps + static_cast<unsigned>(cycles >> shift);
  }
  static uint64_t highest(unsigned place) {
    if (place < 2 * kSteps) return place;
    const unsigned shift = place / kSteps - 1;
    return ((uint64_t{place % kSteps + kSteps} + 1) << shift) - 1;
  }

  std::array<uint64_t, 60 * kSteps + 2 * kSteps> counts_{};
  uint64_t total_ = 0;
};

}  // namespace adit::bench
