// Which tunnel is moved whereto (gateway/balance.h): rows of what the workers have seen in a
// period.
#include "gateway/balance.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>

namespace adit::gateway::test {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
using Wish = Balance::Wish;

class Balanced : public testing::Test {
 protected:
  // `outbound` packets of a tunnel at its worker, received by `at`, and as many inbound.
  void see(unsigned worker, uint32_t slot, unsigned outbound, unsigned at) {
    for (unsigned i = 0; i < outbound; ++i) {
      balance_.note(worker, {slot, static_cast<uint8_t>(at), true});
      balance_.note(worker, {slot, static_cast<uint8_t>(worker), false});
    }
  }
  std::optional<Wish> decide(std::array<double, 3> busy) {
    now_ns_ += Balance::kPeriodNs;
    return balance_.decide(busy, now_ns_);
  }

  Balance balance_{3};
  uint64_t now_ns_ = 1000 * kSecondNs;
};

TEST_F(Balanced, NothingIsWishedWhereAllIsWell) {
  EXPECT_FALSE(decide({0.5, 0.1, 0.9}));
  see(0, 1, 1000, 0);
  see(1, 2, 1000, 1);
  EXPECT_FALSE(decide({0.8, 0.1, 0.2}));
  see(0, 1, 1000, 0);
  EXPECT_FALSE(decide({0.95, 0.7, 0.95})) << "nobody has room";
}

TEST_F(Balanced, RoamedTunnelFollowsItsPackets) {
  see(0, 3, 100, 0);
  see(0, 6, 100, 2);
  see(0, 9, 30, 1);
  const auto wish = decide({0.5, 0.1, 0.2});
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->slot, 6u);
  EXPECT_EQ(wish->to, 2u);
  EXPECT_EQ(wish->reason, Wish::roamed);
}

// Where all replies go on coming in at the old worker: who is sent more than it sends stays.
TEST_F(Balanced, FollowsOnlyWhatItSavesWhereItsPortsStay) {
  Balance balance(3, true);
  const auto see_both = [&](uint32_t slot, unsigned outbound, unsigned inbound) {
    for (unsigned i = 0; i < outbound; ++i) balance.note(0, {slot, 2, true});
    for (unsigned i = 0; i < inbound; ++i) balance.note(0, {slot, 0, false});
  };
  see_both(3, 100, 100);
  see_both(6, 100, 150);
  EXPECT_FALSE(balance.decide(std::array{0.5, 0.1, 0.2}, 1000 * kSecondNs));
  see_both(3, 100, 100);
  see_both(6, 90, 89);
  const auto roamed = balance.decide(std::array{0.5, 0.1, 0.2}, 1005 * kSecondNs);
  ASSERT_TRUE(roamed);
  EXPECT_EQ(roamed->slot, 6u);
  EXPECT_EQ(roamed->reason, Wish::roamed);
  see_both(3, 100, 100);
  see_both(6, 500, 500);
  const auto overloaded = balance.decide(std::array{0.95, 0.1, 0.2}, 1010 * kSecondNs);
  ASSERT_TRUE(overloaded) << "load is another matter";
  EXPECT_EQ(overloaded->slot, 3u);
}

TEST_F(Balanced, TooFewPacketsOrFromTooManyPlacesAreNoRoaming) {
  see(0, 3, 19, 1);
  EXPECT_FALSE(decide({0.5, 0.1, 0.2}));
  see(0, 3, 90, 1);
  see(0, 3, 10, 2);
  EXPECT_FALSE(decide({0.5, 0.1, 0.2}));
  see(0, 3, 97, 1);
  see(0, 3, 3, 0);
  EXPECT_TRUE(decide({0.5, 0.1, 0.2}));
}

TEST_F(Balanced, NobodyRoamsToAWorkerThatHasNoTime) {
  see(0, 3, 100, 1);
  see(0, 6, 100, 0);
  EXPECT_FALSE(decide({0.5, 0.6, 0.7})) << "half of a half more is too much";
  see(0, 3, 100, 1);
  see(0, 6, 100, 0);
  EXPECT_TRUE(decide({0.5, 0.5, 0.7}));
}

TEST_F(Balanced, OverloadedWorkerGivesAwayTheLargestThatFits) {
  see(0, 3, 800, 0);
  see(0, 6, 150, 0);
  see(0, 9, 50, 0);
  const auto wish = decide({1.0, 0.6, 0.5});
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->slot, 6u) << "the heavy one would only overload another";
  EXPECT_EQ(wish->to, 2u);
  EXPECT_EQ(wish->reason, Wish::overloaded);
  see(0, 3, 1000, 0);
  EXPECT_FALSE(decide({1.0, 0.1, 0.2})) << "all of it would change nothing";
}

TEST_F(Balanced, WhatHasBeenMovedStaysForAWhile) {
  see(0, 3, 100, 1);
  balance_.rest(*decide({0.5, 0.1, 0.2}), now_ns_);
  see(1, 3, 100, 0);
  EXPECT_FALSE(decide({0.5, 0.1, 0.2}));
  now_ns_ += 60 * kSecondNs;
  see(1, 3, 100, 0);
  EXPECT_TRUE(decide({0.5, 0.1, 0.2}));
}

// What its predecessor in the slot has done and sent is not the next tunnel's.
TEST_F(Balanced, SlotsNextTunnelDoesNotRestAndHasNotRoamed) {
  see(0, 3, 100, 1);
  balance_.rest(*decide({0.5, 0.1, 0.2}), now_ns_);
  see(0, 3, 100, 1);
  balance_.forget(3);
  EXPECT_FALSE(decide({0.5, 0.1, 0.2}));
  see(0, 3, 100, 1);
  EXPECT_TRUE(decide({0.5, 0.1, 0.2}));
}

// Its packets come in at the worker that was overloaded: no reason to go back there.
TEST_F(Balanced, MovedForLoadIsNotTakenForRoamed) {
  see(0, 3, 700, 0);
  see(0, 6, 300, 0);
  const auto wish = decide({1.0, 0.1, 0.2});
  ASSERT_TRUE(wish);
  ASSERT_EQ(wish->slot, 6u);
  balance_.rest(*wish, now_ns_);
  now_ns_ += 300 * kSecondNs;
  see(1, 6, 300, 0);
  EXPECT_FALSE(decide({0.3, 0.3, 0.2}));
  now_ns_ += 300 * kSecondNs;
  see(1, 6, 300, 0);
  EXPECT_TRUE(decide({0.3, 0.3, 0.2}));
}

TEST(Samples, AreReadOnceEachAndTheLastOnesWhereThereWereTooMany) {
  const auto samples = std::make_unique<PacketSamples>();
  uint32_t seen = 0;
  std::vector<uint32_t> slots;
  const auto read = [&] {
    slots.clear();
    samples->read(seen, [&](const Sample& sample) {
      slots.push_back(sample.slot);
      EXPECT_EQ(sample.received_by, sample.slot % 64);
      EXPECT_EQ(sample.is_outbound, sample.slot % 2 == 0);
    });
  };
  const auto add = [&](uint32_t slot) {
    samples->add({slot, static_cast<uint8_t>(slot % 64), slot % 2 == 0});
  };
  for (const uint32_t slot : {5u, 1'000'006u}) add(slot);
  read();
  EXPECT_EQ(slots, (std::vector<uint32_t>{5, 1'000'006}));
  read();
  EXPECT_TRUE(slots.empty());
  for (uint32_t slot = 0; slot < 5000; ++slot) add(slot);
  read();
  ASSERT_EQ(slots.size(), 1024u);
  EXPECT_EQ(slots.front(), 5000u - 1024);
  EXPECT_EQ(slots.back(), 4999u);
}

}  // namespace
}  // namespace adit::gateway::test
