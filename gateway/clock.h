// Time. Every deadline is nanoseconds of CLOCK_BOOTTIME, which runs on through suspend.
#pragma once

#include <rte_cycles.h>
#include <time.h>

#include <cstdint>

namespace adit::gateway {

inline uint64_t boottime_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A worker's clock: asks the system at most every 100 microseconds, since that is all the
// precision a deadline in seconds wants; in between it costs one rdtsc.
class WorkerClock {
 public:
  WorkerClock() : period_cycles_(rte_get_tsc_hz() / 10'000) {}
  uint64_t now_ns() {
    cycles_ = rte_rdtsc();
    if (cycles_ - read_at_cycles_ >= period_cycles_) {
      read_at_cycles_ = cycles_;
      now_ns_ = boottime_ns();
    }
    return now_ns_;
  }
  // The time stamp counter when now_ns() was last called.
  uint64_t cycles() const { return cycles_; }

 private:
  uint64_t period_cycles_;
  uint64_t cycles_ = 0;
  uint64_t read_at_cycles_ = 0;
  uint64_t now_ns_ = 0;
};

}  // namespace adit::gateway
