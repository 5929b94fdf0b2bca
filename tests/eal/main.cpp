// Starts DPDK's environment without hugepages, devices or files, then runs the tests.
#include <gtest/gtest.h>

#include "gateway/eal.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const adit::gateway::Eal eal({"eal-gateway", "--lcores", "0@0", "--no-huge", "--no-shconf", "-m",
                                "256", "--no-pci", "--no-telemetry", "--log-level", "*:warning"});
  return RUN_ALL_TESTS();
}
