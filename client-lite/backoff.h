// How long to wait before the next attempt: doubling from one second to a minute, each wait spread
// over its upper half at random, so that a thousand clients of a gateway that restarted do not
// come back in step.
#pragma once

#include <algorithm>
#include <cstdint>

namespace adit::client {

class Backoff {
 public:
  static constexpr uint64_t kFirstNs = 1'000'000'000;
  static constexpr uint64_t kLongestNs = 60'000'000'000;

  // `random` is any 64 random bits.
  uint64_t next_ns(uint64_t random) {
    const uint64_t wait_ns = wait_ns_;
    wait_ns_ = std::min(wait_ns_ * 2, kLongestNs);
    return wait_ns / 2 + random % (wait_ns / 2 + 1);
  }
  void reset() { wait_ns_ = kFirstNs; }

 private:
  uint64_t wait_ns_ = kFirstNs;
};

}  // namespace adit::client
