// What in it grows old, and what ends.
#include <rte_cycles.h>

#include <algorithm>
#include <stdexcept>

#include "bench/datapath/world.h"

namespace adit::bench {

uint64_t World::sweep(unsigned milliseconds) {
  constexpr uint64_t kMillisecondNs = 1'000'000;
  uint64_t cycles = 0;
  for (unsigned i = 0; i < milliseconds; ++i) {
    now_ns_ += kMillisecondNs;
    const uint64_t start = rte_rdtsc_precise();
    for (const Parts& parts : parts_) parts.pipeline->sweep(now_ns_);
    cycles += rte_rdtsc_precise() - start;
  }
  return cycles;
}

uint64_t World::expire_mappings() {
  now_ns_ += (nat_settings_.profiles[0].timeouts.udp_s + 1) * tunnel::kSecondNs;
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  const uint64_t start = rte_rdtsc_precise();
  for (const Parts& parts : parts_) {
    for (uint64_t left = parts.nat->granted_entries(); left > 0;) {
      const auto step = static_cast<unsigned>(std::min<uint64_t>(left, 1024));
      parts.nat->sweep(now_s, step);
      left -= step;
    }
  }
  const uint64_t cycles = rte_rdtsc_precise() - start;
  for (const Parts& parts : parts_) {
    if (parts.nat->counts().mappings_live != 0) {
      throw std::runtime_error("mappings outlived their time");
    }
  }
  return cycles;
}

}  // namespace adit::bench
