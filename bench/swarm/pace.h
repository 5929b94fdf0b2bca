// How many of something are due, at a steady rate.
#pragma once

#include <cstdint>

namespace adit::bench {

class Pace {
 public:
  // Of packets whose way is measured: a longer rush would be a test of the queues in between, and
  // not of the rate.
  static constexpr double kRushMax = 256;

  explicit Pace(double a_cycle, double rush_max = kRushMax)
      : a_cycle_(a_cycle), rush_max_(rush_max) {}
  // So many cycles after the beginning. After a pause of ours, rush_max at most; what is due beyond
  // is left out and counted.
  double due(uint64_t cycles, uint64_t& skipped) {
    const double due = static_cast<double>(cycles) * a_cycle_ - offered_;
    if (due <= rush_max_) return due;
    skipped += static_cast<uint64_t>(due - rush_max_);
    offered_ += due - rush_max_;
    return rush_max_;
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
  double a_cycle_;
  double rush_max_;
  double offered_ = 0;
};

}  // namespace adit::bench
