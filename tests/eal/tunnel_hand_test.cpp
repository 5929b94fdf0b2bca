#include "gateway/tunnel_hand.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <vector>

namespace adit::gateway {
namespace {

constexpr uint64_t kMillisecondNs = 1'000'000;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr TunnelHand::Silence kSilence{.heartbeat_ns = 25 * kSecondNs,
                                       .dead_after_ns = 75 * kSecondNs};

// Moves a hand a millisecond at a time, and notes where it stops.
class TunnelHandTest : public testing::Test {
 protected:
  void use(uint32_t slots) {
    tunnels_.emplace(slots);
    hand_.emplace(slots, kSilence);
  }
  void open(uint32_t slot) {
    hand_->open(slot);
    hand_->at(slot).due_ns = hand_->at(slot).due_but_silence_ns = TunnelHand::kNever;
  }
  void pass(uint64_t milliseconds) {
    for (uint64_t i = 0; i < milliseconds; ++i) {
      now_ns_ += kMillisecondNs;
      hand_->move(now_ns_, *tunnels_, [&](uint32_t slot) {
        ++stops_[slot];
        const TunnelReport& report = tunnels_->report(slot);
        hand_->at(slot).due_ns = TunnelHand::kNever;
        hand_->at(slot).seen_heard_ns = report.heard_ns.load();
        hand_->at(slot).seen_sent_ns = report.sent_ns.load();
      });
    }
  }

  std::optional<TunnelTable> tunnels_;
  std::optional<TunnelHand> hand_;
  uint64_t now_ns_ = 1000 * kSecondNs;
  std::map<uint32_t, unsigned> stops_;
};

TEST_F(TunnelHandTest, AnIdleTunnelIsPassed) {
  use(16);
  open(3);
  pass(1000);
  EXPECT_TRUE(stops_.empty());
}

TEST_F(TunnelHandTest, ANewTunnelIsLookedAtInTheNextRound) {
  use(16);
  hand_->open(3);
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{3, 1}}));
}

TEST_F(TunnelHandTest, APacketThatWasHeardIsLookedAtOnce) {
  use(16);
  for (const uint32_t slot : {1, 2, 3}) open(slot);
  tunnels_->report(1).heard(5, true);
  pass(1000);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

TEST_F(TunnelHandTest, HeartbeatsAndWhatIsSentPass) {
  use(16);
  for (const uint32_t slot : {1, 2, 3}) open(slot);
  tunnels_->report(1).heard(5, false);
  tunnels_->report(2).sent(5, false);
  tunnels_->report(3).sent(5, true);
  pass(1000);
  EXPECT_TRUE(stops_.empty());
}

TEST_F(TunnelHandTest, AHeartbeatThatMayConfirmASessionIsLookedAtOnce) {
  use(16);
  open(1);
  hand_->at(1).hears_all = true;
  tunnels_->report(1).heard(5, false);
  pass(1000);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

// A client that sends a heartbeat in 20 s, and is answered, until it falls silent.
TEST_F(TunnelHandTest, WhatIsDueForSilenceIsPutOffWhileThereIsNone) {
  use(16);
  open(1);
  hand_->at(1).seen_heard_ns = now_ns_;
  hand_->at(1).due_ns = now_ns_ + kSilence.heartbeat_ns;
  for (int i = 0; i < 10; ++i) {
    tunnels_->report(1).heard(now_ns_, false);
    tunnels_->report(1).sent(now_ns_, false);
    pass(20'000);
  }
  EXPECT_TRUE(stops_.empty());
  pass(4'999);
  EXPECT_TRUE(stops_.empty()) << "25 s have not gone by since something was sent";
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

TEST_F(TunnelHandTest, AClientThatIsSentToAndSaysNothingIsLookedAtWhenItIsDead) {
  use(16);
  open(1);
  hand_->at(1).seen_heard_ns = now_ns_;
  hand_->at(1).due_ns = now_ns_ + kSilence.heartbeat_ns;
  tunnels_->report(1).heard(now_ns_, false);
  for (int i = 0; i < 75; ++i) {
    tunnels_->report(1).sent(now_ns_, true);
    EXPECT_TRUE(stops_.empty());
    pass(999);
    EXPECT_TRUE(stops_.empty());
    pass(1);
  }
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

TEST_F(TunnelHandTest, WhatElseIsDueIsNotPutOff) {
  use(16);
  open(1);
  hand_->at(1).seen_heard_ns = now_ns_;
  hand_->at(1).due_ns = hand_->at(1).due_but_silence_ns = now_ns_ + 10 * kSecondNs;
  tunnels_->report(1).heard(now_ns_ + 9 * kSecondNs, false);
  tunnels_->report(1).sent(now_ns_ + 9 * kSecondNs, false);
  pass(9'999);
  EXPECT_TRUE(stops_.empty());
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

// Its slot's last tunnel was heard of a moment ago.
TEST_F(TunnelHandTest, ANewTunnelIsNotPutOffByAnEarlierOnesReport) {
  use(16);
  tunnels_->report(1).heard(now_ns_, false);
  tunnels_->report(1).sent(now_ns_, false);
  open(1);
  hand_->at(1).due_ns = now_ns_ + 5 * kSecondNs;
  pass(4'999);
  EXPECT_TRUE(stops_.empty());
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{1, 1}}));
}

TEST_F(TunnelHandTest, WhatIsDueIsLookedAtWithinARound) {
  use(16);
  open(7);
  hand_->at(7).due_ns = now_ns_ + 2 * kSecondNs;
  pass(1999);
  EXPECT_TRUE(stops_.empty());
  pass(TunnelHand::kRoundNs / kMillisecondNs + 1);
  EXPECT_EQ(stops_, (std::map<uint32_t, unsigned>{{7, 1}}));
}

TEST_F(TunnelHandTest, AClosedTunnelIsForgotten) {
  use(16);
  open(4);
  tunnels_->report(4).heard(5, true);
  hand_->close(4);
  pass(1000);
  EXPECT_TRUE(stops_.empty());
  hand_->open(4);
  pass(1000);
  EXPECT_EQ(stops_[4], 1u);
}

TEST_F(TunnelHandTest, OneMayCloseWhileItIsLookedAt) {
  use(16);
  for (const uint32_t slot : {1, 2, 3}) hand_->open(slot);
  unsigned looks = 0;
  for (int i = 0; i < 1000; ++i) {
    now_ns_ += kMillisecondNs;
    hand_->move(now_ns_, *tunnels_, [&](uint32_t slot) {
      ++looks;
      hand_->close(slot);
    });
  }
  EXPECT_EQ(looks, 3u);
}

// Ticks are not even, and a slot's share of a round is no whole number of them.
TEST_F(TunnelHandTest, ARoundTakesAsLongAsItSaysWhateverTheirNumber) {
  for (const uint32_t tunnels : {1u, 3u, 200u, 300u, 470u, 5000u}) {
    use(8192);
    for (uint32_t slot = 1; slot <= tunnels; ++slot) open(slot);
    pass(300);  // the first round begins at once, with all that a round may have
    uint64_t last_ns = 0;  // due at every look, the last one's rounds are counted
    std::vector<uint64_t> rounds_ns;
    for (int i = 0; i < 3000; ++i) {
      now_ns_ += 1'060'000;
      hand_->at(tunnels).due_ns = 0;
      hand_->move(now_ns_, *tunnels_, [&](uint32_t slot) {
        hand_->at(slot).due_ns = TunnelHand::kNever;
        if (slot != tunnels) return;
        if (last_ns != 0) rounds_ns.push_back(now_ns_ - last_ns);
        last_ns = now_ns_;
      });
    }
    ASSERT_GE(rounds_ns.size(), 10u) << tunnels;
    const uint64_t total_ns = std::accumulate(rounds_ns.begin(), rounds_ns.end(), uint64_t{0});
    const uint64_t mean_ns = total_ns / rounds_ns.size();
    EXPECT_NEAR(static_cast<double>(mean_ns), TunnelHand::kRoundNs, TunnelHand::kRoundNs * 0.02)
        << tunnels;
  }
}

// With very many, a round takes longer, but nobody is left out, and a tick never takes long.
TEST_F(TunnelHandTest, AMillionAreGoneOverInTime) {
  constexpr uint32_t kTunnels = 1 << 20;
  use(2 * kTunnels);
  pass(1);  // from when on time is counted
  for (uint32_t slot = 1; slot <= kTunnels; ++slot) hand_->open(slot);
  unsigned most = 0;
  unsigned looks = 0;
  for (int i = 0; i < 2700; ++i) {
    now_ns_ += kMillisecondNs;
    unsigned of_tick = 0;
    hand_->move(now_ns_, *tunnels_, [&](uint32_t slot) {
      ++of_tick;
      hand_->at(slot).due_ns = TunnelHand::kNever;
    });
    looks += of_tick;
    most = std::max(most, of_tick);
  }
  EXPECT_EQ(looks, kTunnels);
  EXPECT_LE(most, TunnelHand::kLooksPerSecond / 1000);
}

}  // namespace
}  // namespace adit::gateway
