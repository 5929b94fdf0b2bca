// What a worker spends its time on: of its packets one a millisecond, whose it was and where it
// came in. So many cost nothing, and tell tunnels that matter from those that do not.
//
// Writer: the worker. Reader: the control thread, which may miss some if it does not look for a
// second, and takes none twice.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace adit::gateway {

struct Sample {
  uint32_t slot = 0;         // of the tunnel
  uint8_t received_by = 0;   // the worker
  bool is_outbound = false;  // from the tunnel
};

class PacketSamples {
 public:
  void add(const Sample& sample) {
    const uint32_t count = count_.load(std::memory_order_relaxed);
    const uint64_t packed = uint64_t{sample.slot} << 16 |
                            uint64_t{sample.received_by} << 8 | uint64_t{sample.is_outbound};
    places_[count % kPlaces].store(packed, std::memory_order_relaxed);
    count_.store(count + 1, std::memory_order_release);
  }
  // Calls visit(sample) for those since `seen`, where it stopped the last time.
  template <typename Visit>
  void read(uint32_t& seen, Visit&& visit) const {
    const uint32_t count = count_.load(std::memory_order_acquire);
    if (count - seen > kPlaces / 2) seen = count - kPlaces / 2;  // the others may change meanwhile
    for (; seen != count; ++seen) {
      const uint64_t packed = places_[seen % kPlaces].load(std::memory_order_relaxed);
      visit(Sample{.slot = static_cast<uint32_t>(packed >> 16),
                   .received_by = static_cast<uint8_t>(packed >> 8),
                   .is_outbound = (packed & 1) != 0});
    }
  }

 private:
  static constexpr uint32_t kPlaces = 2048;
  std::array<std::atomic<uint64_t>, kPlaces> places_{};
  std::atomic<uint32_t> count_{0};
};

}  // namespace adit::gateway
