// A figure that one thread counts and any may read. Relaxed loads and stores: an increment is an
// ordinary one, not a locked one, so two threads must not count in the same Count; who reads sees a
// whole value, which may be a moment old and says nothing of other memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace adit {

class Count {
 public:
  Count() = default;
  Count(const Count& other) : value_(other) {}
  Count& operator=(const Count& other) { return *this = uint64_t{other}; }
  Count& operator=(uint64_t value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }
  operator uint64_t() const { return value_.load(std::memory_order_relaxed); }
  Count& operator+=(uint64_t more) { return *this = *this + more; }
  Count& operator-=(uint64_t less) { return *this = *this - less; }
  Count& operator++() { return *this += 1; }
  Count& operator--() { return *this -= 1; }

 private:
  std::atomic<uint64_t> value_{0};
};
static_assert(sizeof(Count) == sizeof(uint64_t));

}  // namespace adit
