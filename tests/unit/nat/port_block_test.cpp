// Granting of aligned runs of ports on one pool address.
#include "lib/nat/port_block.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace adit::nat {
namespace {

TEST(AddressUnits, GivesEveryUnitOutExactlyOnceInAlignedRuns) {
  std::mt19937_64 random(1);
  for (const unsigned units : {1u, 2u, 4u, 16u, 32u, 64u, 128u, 512u}) {
    AddressUnits address;
    std::set<unsigned> firsts;
    while (const auto first = address.take(units, random())) {
      EXPECT_EQ(*first % units, 0u) << "runs of " << units;
      EXPECT_TRUE(firsts.insert(*first).second) << "runs of " << units;
    }
    EXPECT_EQ(firsts.size(), kUnitsPerAddress / units) << "runs of " << units;
    EXPECT_EQ(address.free_units(), 0u);
  }
}

TEST(AddressUnits, NeverOverlapsAndReusesWhatCameBackWhenSizesMix) {
  std::mt19937 random(2);
  AddressUnits address;
  std::vector<bool> taken(kUnitsPerAddress);
  std::vector<std::pair<unsigned, unsigned>> runs;
  unsigned taken_units = 0;
  for (int round = 0; round < 100'000; ++round) {
    if (random() % 2 == 0 || runs.empty()) {
      const unsigned units = 1u << random() % 10;
      const auto first = address.take(units, random());
      if (!first) continue;
      for (unsigned unit = *first; unit < *first + units; ++unit) {
        ASSERT_FALSE(taken[unit]);
        taken[unit] = true;
      }
      runs.emplace_back(*first, units);
      taken_units += units;
    } else {
      std::swap(runs[random() % runs.size()], runs.back());
      const auto [first, units] = runs.back();
      runs.pop_back();
      address.give_back(first, units);
      for (unsigned unit = first; unit < first + units; ++unit) taken[unit] = false;
      taken_units -= units;
    }
    ASSERT_EQ(address.free_units(), kUnitsPerAddress - taken_units);
  }
}

TEST(AddressUnits, FindsTheLastFreeRunWhereverTheSearchBegins) {
  for (const unsigned units : {1u, 4u, 32u, 64u, 256u}) {
    AddressUnits address;
    while (address.take(units, 0)) {
    }
    const unsigned hole = kUnitsPerAddress - 2 * units;
    address.give_back(hole, units);
    std::mt19937_64 random(units);
    for (int round = 0; round < 200; ++round) {
      ASSERT_EQ(address.take(units, random()), hole);
      address.give_back(hole, units);
    }
  }
}

TEST(AddressUnits, BeginsAtRandom) {
  std::mt19937_64 random(4);
  std::set<unsigned> firsts;
  for (int round = 0; round < 2000; ++round) {
    AddressUnits address;
    firsts.insert(*address.take(4, random()));
  }
  // 2000 draws of 1024 places hit 879 different ones on average, deviation about 10.
  EXPECT_GT(firsts.size(), 820u);
}

TEST(AddressUnits, NeverGivesAWithdrawnUnit) {
  AddressUnits address;
  for (unsigned unit = 0; unit < kUnitsPerAddress; unit += 4) address.withdraw(unit + 1);
  EXPECT_FALSE(address.take(4, 12345).has_value());
  std::set<unsigned> firsts;
  while (const auto first = address.take(2, 99)) firsts.insert(*first);
  EXPECT_EQ(firsts.size(), kUnitsPerAddress / 4);
  for (const unsigned first : firsts) EXPECT_EQ(first % 4, 2u);
}

}  // namespace
}  // namespace adit::nat
