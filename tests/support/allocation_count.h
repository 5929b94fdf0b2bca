// How often this thread has asked the C library for memory, by operator new or otherwise: a program
// that this is linked into has its own malloc(), which counts and passes on.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

namespace adit::test {

uint64_t allocations();

// The test fails if its thread allocates within this one's life.
class NoAllocation {
 public:
  NoAllocation() = default;
  ~NoAllocation() { EXPECT_EQ(allocations(), before_) << "allocations on the packet path"; }
  NoAllocation(const NoAllocation&) = delete;
  NoAllocation& operator=(const NoAllocation&) = delete;

 private:
  const uint64_t before_ = allocations();
};

}  // namespace adit::test
