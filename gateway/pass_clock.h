// How long each pass of the express way takes. Only scripts/bench has it compiled in
// (ADIT_PASS_CLOCK); elsewhere it is nothing.
#pragma once

#ifdef ADIT_PASS_CLOCK
#include <rte_cycles.h>
#endif

namespace adit::gateway {

#ifdef ADIT_PASS_CLOCK
inline uint64_t pass_cycles[3];  // board, open, depart: TSC cycles, all bursts together

class PassClock {
 public:
  void ends(unsigned pass) {
    const uint64_t now = rte_rdtsc_precise();
    pass_cycles[pass] += now - last_;
    last_ = now;
  }

 private:
  uint64_t last_ = rte_rdtsc_precise();
};
#else
class PassClock {
 public:
  void ends(unsigned) {}
};
#endif

}  // namespace adit::gateway
