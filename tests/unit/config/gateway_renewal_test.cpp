// Key renewal beside what the control threads make.
#include <gtest/gtest.h>

#include "gateway/renewal.h"

namespace adit::gateway {
namespace {

Config config_of(size_t subscribers, uint32_t threads) {
  Config config;
  config.pools.emplace_back();
  config.ports.emplace_back();
  config.subscribers.resize(subscribers);
  config.control_threads = threads;
  return config;
}

TEST(Renewal, IsAHandshakeOfEachLaneInTwoMinutes) {
  EXPECT_EQ(renewals_per_second(config_of(1'048'576, 1)), 8738u);
  Config config = config_of(1200, 1);
  EXPECT_EQ(renewals_per_second(config), 10u);
  config.tunnel.lanes_max = 4;
  EXPECT_EQ(renewals_per_second(config), 40u);
}

TEST(Renewal, IsDoneByTheOtherThreadsWhereThereAreSome) {
  EXPECT_EQ(handshakes_per_second(1), 5800u);
  EXPECT_EQ(handshakes_per_second(2), 5800u);
  EXPECT_EQ(handshakes_per_second(3), 11'600u);
}

TEST(Renewal, WarnsWhereTheThreadsAreTooFew) {
  const char* const said =
      "with all subscribers connected key renewal takes 8738 handshakes a second; "
      "control.threads: 1 makes some 5800, 3 would make 11600";
  EXPECT_EQ(renewal_warning(config_of(1'048'576, 1)), said);
  EXPECT_EQ(renewal_warning(config_of(1'048'576, 3)), "");
  EXPECT_EQ(renewal_warning(config_of(696'000, 1)), "") << "5,800 a second are just enough";
  EXPECT_NE(renewal_warning(config_of(696'120, 1)), "");
  EXPECT_NE(describe_check(config_of(1'048'576, 1)).find("warning: " + std::string(said) + "\n"),
            std::string::npos);
}

TEST(Renewal, NamesNoMoreThreadsThanThereMayBe) {
  Config config = config_of(1'048'576, 2);
  config.tunnel.lanes_max = 16;
  EXPECT_NE(renewal_warning(config).find(", 16 would make 87000"), std::string::npos)
      << renewal_warning(config);
}

}  // namespace
}  // namespace adit::gateway
