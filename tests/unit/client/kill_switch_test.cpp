// Which routes the kill switch refuses, and their names in the undo journal.
#include "client-lite/kill_switch.h"

#include <gtest/gtest.h>

namespace adit::client {
namespace {

std::vector<std::string> names_of(const std::vector<Refusal>& refusals) {
  std::vector<std::string> names;
  for (const Refusal& refusal : refusals) names.push_back(refusal.to_string());
  return names;
}

TEST(KillSwitch, RefusesEachRouteOnceAndTheDefaultOneAsHalvesWithIpv6) {
  const Ipv4Prefix office = *Ipv4Prefix::parse("40.1.1.0/24");
  EXPECT_EQ(names_of(refusals_of(std::vector{office, office})),
            std::vector<std::string>{"40.1.1.0/24"});
  EXPECT_EQ(names_of(refusals_of(std::vector{Ipv4Prefix{}, office})),
            (std::vector<std::string>{"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1",
                                      "40.1.1.0/24"}));
  EXPECT_TRUE(refusals_of({}).empty());
}

TEST(KillSwitch, ItsNamesReadBackAsTheSame) {
  for (const Refusal& refusal : refusals_of(std::vector{Ipv4Prefix{}})) {
    EXPECT_EQ(Refusal::parse(refusal.to_string()), refusal) << refusal.to_string();
  }
  for (const char* text : {"", "::/0", "40.1.1.0", "40.1.1.1/24", "x"}) {
    const auto refusal = Refusal::parse(text);
    EXPECT_TRUE(!refusal || refusal->to_string() == "40.1.1.0/32") << text;
  }
}

}  // namespace
}  // namespace adit::client
