// Adaptive heartbeats: which intervals are tried, and what a trial consists of.
#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "client-lite/adaptive_heartbeat.h"
#include "client-lite/binding_test.h"

namespace adit::client {
namespace {

using Send = BindingTest::Send;
using Outcome = BindingTest::Outcome;

constexpr uint64_t kSecondNs = 1'000'000'000;

// Tries against a NAT that keeps a flow through so much silence, until nothing is left to be tried;
// returns the intervals tried, in milliseconds.
std::vector<uint64_t> learn(AdaptiveHeartbeat& heartbeat, uint64_t nat_keeps_ns) {
  std::vector<uint64_t> tried_ms;
  while (const auto interval_ns = heartbeat.next_ns()) {
    tried_ms.push_back(*interval_ns / 1'000'000);
    EXPECT_LE(heartbeat.interval_ns(), *interval_ns);
    if (tried_ms.size() > 40) break;
    if (AdaptiveHeartbeat::silence_ns(*interval_ns) < nat_keeps_ns) {
      heartbeat.on_kept(*interval_ns);
    } else {
      heartbeat.on_forgotten(*interval_ns);
    }
  }
  return tried_ms;
}

AdaptiveHeartbeat between(uint64_t min_s, uint64_t max_s) {
  AdaptiveHeartbeat heartbeat;
  heartbeat.set_bounds(min_s * kSecondNs, max_s * kSecondNs);
  return heartbeat;
}

TEST(AdaptiveHeartbeat, DoublesFromTheLeastToTheMost) {
  AdaptiveHeartbeat heartbeat = between(10, 60);
  EXPECT_EQ(heartbeat.interval_ns(), 10 * kSecondNs) << "the least until more is known";
  EXPECT_EQ(learn(heartbeat, 3600 * kSecondNs),
            (std::vector<uint64_t>{10'000, 20'000, 40'000, 60'000}));
  EXPECT_EQ(heartbeat.interval_ns(), 60 * kSecondNs);
  EXPECT_FALSE(heartbeat.forgotten_ns());
}

TEST(AdaptiveHeartbeat, HalvesTheRestOnceANatForgot) {
  AdaptiveHeartbeat heartbeat = between(10, 600);
  EXPECT_EQ(learn(heartbeat, 30 * kSecondNs),
            (std::vector<uint64_t>{10'000, 20'000, 40'000, 30'000, 25'000, 22'500}));
  EXPECT_EQ(heartbeat.interval_ns(), 22'500'000'000u);
  EXPECT_EQ(heartbeat.forgotten_ns(), 25 * kSecondNs);
}

// Whatever the NAT: below what it keeps, with room for a heartbeat that is lost, and no trial ever
// raises what is used beyond it.
TEST(AdaptiveHeartbeat, EndsBelowWhatAnyNatKeepsAndNotFarBelow) {
  for (uint64_t keeps_s = 14; keeps_s < 700; ++keeps_s) {
    AdaptiveHeartbeat heartbeat = between(10, 600);
    EXPECT_LT(learn(heartbeat, keeps_s * kSecondNs).size(), 16u) << keeps_s;
    const uint64_t interval_ns = heartbeat.interval_ns();
    EXPECT_LT(AdaptiveHeartbeat::silence_ns(interval_ns), keeps_s * kSecondNs);
    const uint64_t longer_ns = interval_ns + interval_ns / 8 + kSecondNs;
    EXPECT_TRUE(interval_ns == 600 * kSecondNs ||
                AdaptiveHeartbeat::silence_ns(longer_ns) >= keeps_s * kSecondNs)
        << keeps_s;
  }
}

TEST(AdaptiveHeartbeat, StaysAtTheLeastThoughANatForgetsEvenThat) {
  AdaptiveHeartbeat heartbeat = between(10, 600);
  EXPECT_EQ(learn(heartbeat, 5 * kSecondNs), (std::vector<uint64_t>{10'000}));
  EXPECT_EQ(heartbeat.interval_ns(), 10 * kSecondNs);
  EXPECT_TRUE(heartbeat.is_min_forgotten());
}

TEST(AdaptiveHeartbeat, SeesLaterThatANatHasChangedItsMind) {
  AdaptiveHeartbeat heartbeat = between(10, 600);
  learn(heartbeat, 60 * kSecondNs);
  const uint64_t before_ns = heartbeat.interval_ns();
  heartbeat.look_again();
  EXPECT_EQ(heartbeat.interval_ns(), before_ns) << "used until it is known better";
  const std::vector<uint64_t> tried_ms = learn(heartbeat, 30 * kSecondNs);
  EXPECT_EQ(tried_ms[0], before_ns / 1'000'000);
  EXPECT_EQ(tried_ms[1], 10'000u) << "from the safe end again";
  EXPECT_LT(AdaptiveHeartbeat::silence_ns(heartbeat.interval_ns()), 30 * kSecondNs);
  heartbeat.look_again();
  learn(heartbeat, 300 * kSecondNs);
  EXPECT_GT(heartbeat.interval_ns(), 200 * kSecondNs);
}

TEST(AdaptiveHeartbeat, KeepsToItsBoundsWhenTheyChange) {
  AdaptiveHeartbeat heartbeat = between(10, 600);
  learn(heartbeat, 120 * kSecondNs);
  ASSERT_GT(heartbeat.interval_ns(), 60 * kSecondNs);
  heartbeat.set_bounds(10 * kSecondNs, 25 * kSecondNs);
  EXPECT_EQ(heartbeat.interval_ns(), 25 * kSecondNs);
  EXPECT_FALSE(heartbeat.next_ns()) << "what is kept is kept for less, too";
  heartbeat.set_bounds(10 * kSecondNs, 5 * kSecondNs);  // the most counts
  EXPECT_EQ(heartbeat.interval_ns(), 5 * kSecondNs);
  // A trial of the old bounds that ends now.
  heartbeat.on_kept(110 * kSecondNs);
  EXPECT_EQ(heartbeat.interval_ns(), 5 * kSecondNs);
  heartbeat.set_bounds(10 * kSecondNs, 600 * kSecondNs);
  EXPECT_EQ(heartbeat.interval_ns(), 110 * kSecondNs) << "what was learnt is not lost";
  heartbeat.set_bounds(10 * kSecondNs, 5 * kSecondNs);
  heartbeat.forget();
  EXPECT_EQ(heartbeat.next_ns(), 5 * kSecondNs);
}

// A gateway and a NAT around a test: answers what they would, until the test ends.
struct Bench {
  static constexpr uint64_t kWaitNs = kSecondNs / 4;

  bool knows_marks = true;
  bool canary_blocked = false;
  uint64_t nat_keeps_ns = 3600 * kSecondNs;
  uint64_t tunnel_dead_from_ns = UINT64_MAX;
  unsigned lose = 0;  // of each exchange, the first tries

  BindingTest test{};
  std::vector<Send> sent{};
  uint64_t now_ns = 1000 * kSecondNs;
  uint64_t canary_used_ns = 0;

  Outcome run(uint64_t silence_ns) {
    test.begin(now_ns, silence_ns);
    uint64_t random = 1;
    unsigned tries = 0;
    while (test.is_running() && sent.size() < 100) {
      now_ns = std::max(now_ns, test.next_deadline_ns());
      EXPECT_EQ(test.tick(test.next_deadline_ns() - 1, kWaitNs, 0), Send::nothing);
      const uint64_t stamp_before = test.stamp();
      const Send send = test.tick(now_ns, kWaitNs, ++random);
      if (send == Send::nothing) continue;
      sent.push_back(send);
      tries = test.stamp() == stamp_before ? tries + 1 : 1;
      if (tries > lose) answer(send);
    }
    return test.take_outcome();
  }

  void answer(Send send) {
    const bool from_tunnel = send != Send::mark_from_canary;
    if (from_tunnel && now_ns >= tunnel_dead_from_ns) return;
    if (send == Send::mark_from_tunnel) {
      if (knows_marks) test.on_reply(test.stamp(), false, now_ns);
      return;
    }
    if (canary_blocked) return;
    if (send == Send::mark_from_canary) {
      canary_used_ns = now_ns;
    } else if (now_ns > canary_used_ns + nat_keeps_ns) {
      return;
    }
    test.on_reply(test.stamp(), true, now_ns);
  }
};

TEST(BindingTest, AsksAfterASilenceThatTheCanaryHasKept) {
  Bench bench;
  EXPECT_EQ(bench.run(30 * kSecondNs), Outcome::kept);
  EXPECT_EQ(bench.sent, (std::vector{Send::mark_from_tunnel, Send::mark_from_canary, Send::question,
                                     Send::mark_from_canary, Send::question}));
  EXPECT_GE(bench.now_ns, bench.canary_used_ns + 30 * kSecondNs);
  EXPECT_EQ(bench.test.take_outcome(), Outcome::none) << "an outcome is told once";
}

TEST(BindingTest, IsForgottenOnlyIfTheSameQuestionIsAnsweredWithoutSilence) {
  Bench bench{.nat_keeps_ns = 29 * kSecondNs};
  EXPECT_EQ(bench.run(30 * kSecondNs), Outcome::forgotten);
  EXPECT_EQ(bench.sent.size(), 4 + BindingTest::kTries + 2);
  Bench dead{.tunnel_dead_from_ns = 1010 * kSecondNs};
  EXPECT_EQ(dead.run(30 * kSecondNs), Outcome::unknown) << "the tunnel itself does not get through";
}

TEST(BindingTest, OutlivesALossInEachExchange) {
  Bench bench{.lose = BindingTest::kTries - 1};
  EXPECT_EQ(bench.run(30 * kSecondNs), Outcome::kept);
  Bench worse{.lose = BindingTest::kTries};
  EXPECT_EQ(worse.run(30 * kSecondNs), Outcome::unsupported);
}

TEST(BindingTest, NeverSendsFromTheCanaryToAGatewayThatKnowsNoMarks) {
  Bench bench{.knows_marks = false};
  EXPECT_EQ(bench.run(30 * kSecondNs), Outcome::unsupported);
  EXPECT_EQ(bench.sent, std::vector(BindingTest::kTries, Send::mark_from_tunnel));
}

TEST(BindingTest, SaysNothingWhereOnlyTheTunnelsPortIsLetOut) {
  Bench bench{.canary_blocked = true};
  EXPECT_EQ(bench.run(30 * kSecondNs), Outcome::unknown);
}

TEST(BindingTest, TakesNoAnswerThatWasNotAskedForOrCameToTheWrongSocket) {
  BindingTest test;
  EXPECT_FALSE(test.on_reply(0, true, 1));
  test.begin(kSecondNs, 30 * kSecondNs);
  ASSERT_EQ(test.tick(kSecondNs, kSecondNs, 7), Send::mark_from_tunnel);
  EXPECT_FALSE(test.on_reply(8, false, kSecondNs));
  EXPECT_FALSE(test.on_reply(7, true, kSecondNs));
  EXPECT_TRUE(test.on_reply(7, false, kSecondNs));
  EXPECT_FALSE(test.on_reply(7, true, kSecondNs)) << "the next exchange has not begun";
  ASSERT_EQ(test.tick(kSecondNs, kSecondNs, 9), Send::mark_from_canary);
  EXPECT_FALSE(test.on_reply(9, false, kSecondNs));
  EXPECT_TRUE(test.on_reply(9, true, kSecondNs));
  test.stop();
  EXPECT_EQ(test.tick(100 * kSecondNs, kSecondNs, 9), Send::nothing);
}

}  // namespace
}  // namespace adit::client
