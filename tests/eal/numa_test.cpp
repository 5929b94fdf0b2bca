#include "gateway/numa.h"

#include <gtest/gtest.h>

#include <array>

namespace adit::gateway {
namespace {

TEST(Numa, CoresOnAnotherNodeThanTheDeviceAreNamed) {
  EXPECT_EQ(far_cores_text("wan", 1, std::array{1, 1, 0, 1, 2}),
            "port wan: its device is on NUMA node 1, worker 1 on 0, worker 3 on 2: every packet "
            "crosses between them");
  EXPECT_EQ(far_cores_text("wan", 1, std::array{0, 1}),
            "port wan: its device is on NUMA node 1, the control thread on 0: every packet "
            "crosses between them");
}

TEST(Numa, NothingIsSaidOfCoresNearby) {
  EXPECT_EQ(far_cores_text("wan", 0, std::array{0, 0, 0}), "");
  EXPECT_EQ(far_cores_text("wan", -1, std::array{0, 1, 0}), "") << "a virtual device";
}

}  // namespace
}  // namespace adit::gateway
