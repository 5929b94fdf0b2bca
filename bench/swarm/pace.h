// How many of something are due, at a steady rate.
#pragma once

#include <cstdint>

namespace adit::bench {

class Pace {
 public:
  explicit Pace(double a_cycle) : a_cycle_(a_cycle) {}
  // So many cycles after the beginning. After a pause of ours, kRushMax at most; what is due beyond
  // is left out and counted, for a longer rush would be a test of the queues in between, and not of
  // the rate.
  double due(uint64_t cycles, uint64_t& skipped) {
    const double due = static_cast<double>(cycles) * a_cycle_ - offered_;
    if (due <= kRushMax) return due;
    skipped += static_cast<uint64_t>(due - kRushMax);
    offered_ += due - kRushMax;
    return kRushMax;
  }
  void offer(unsigned count) { offered_ += count; }
  // Of what is rare: whether one is due, which is offered then.
  bool is_due(uint64_t cycles) {
    uint64_t skipped = 0;
    const bool is_due = due(cycles, skipped) >= 1;
    offer(is_due ? 1 : 0);
    return is_due;
  }

 private:
  static constexpr double kRushMax = 256;
  double a_cycle_;
  double offered_ = 0;
};

}  // namespace adit::bench
