#include "lib/tunnel/source_limiter.h"

#include <gtest/gtest.h>

#include "lib/tunnel/session.h"

namespace adit::tunnel {
namespace {

constexpr uint64_t kTokenNs = kSecondNs / 20;
constexpr size_t kSources = 4096;

Endpoint source(uint32_t host, uint16_t port = 20'001) {
  return {Ipv4Address::from_host(host), Be16::from_host(port)};
}

class Limiter : public testing::Test {
 protected:
  // How many tokens the source is given at once.
  unsigned taken_by(const Endpoint& from, uint64_t now_ns) {
    unsigned count = 0;
    while (limiter.may(from, now_ns)) {
      limiter.charge(from, now_ns);
      ++count;
    }
    return count;
  }

  const uint64_t now = 7 * kSecondNs;
  SourceLimiter limiter{{.per_second = 20, .burst = 5}, kSources, 0x9e3779b97f4a7c15};
};

TEST_F(Limiter, GivesABurstAndThenItsRate) {
  EXPECT_EQ(taken_by(source(1), now), 5u);
  EXPECT_EQ(taken_by(source(1), now + kTokenNs - 1), 0u);
  EXPECT_EQ(taken_by(source(1), now + kTokenNs), 1u);
  EXPECT_EQ(taken_by(source(1), now + 3 * kTokenNs), 2u);
  EXPECT_EQ(taken_by(source(1), now + kSecondNs), 5u) << "never more than the burst";
  unsigned in_ten_seconds = 0;
  for (uint64_t t = 0; t < 10 * kSecondNs; t += kTokenNs / 7) {
    in_ten_seconds += taken_by(source(2), now + t);
  }
  EXPECT_NEAR(in_ten_seconds, 200 + 5, 1);
}

TEST_F(Limiter, IsAskedWithoutACharge) {
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(limiter.may(source(1), now));
  EXPECT_EQ(taken_by(source(1), now), 5u);
}

TEST_F(Limiter, ASourceIsAnAddressAndASixteenthOfItsPorts) {
  EXPECT_EQ(taken_by(source(1, 0x4000), now), 5u);
  EXPECT_EQ(taken_by(source(1, 0x4fff), now), 0u);
  EXPECT_EQ(taken_by(source(1, 0x3fff), now), 5u);
  EXPECT_EQ(taken_by(source(1, 0x5000), now), 5u);
  EXPECT_EQ(taken_by(source(2, 0x4000), now), 5u);
}

// Eight were let in before the first of them failed: three more than there are tokens.
TEST_F(Limiter, ChargesWhatHasYetToComeBack) {
  for (int i = 0; i < 8; ++i) limiter.charge(source(1), now);
  EXPECT_EQ(taken_by(source(1), now + 4 * kTokenNs - 1), 0u);
  EXPECT_EQ(taken_by(source(1), now + 4 * kTokenNs), 1u);
  EXPECT_EQ(taken_by(source(1), now + 9 * kTokenNs), 5u) << "and no more than that";
}

TEST_F(Limiter, RemembersAsManyAsItHasRoomFor) {
  for (uint32_t i = 0; i < kSources / 8; ++i) ASSERT_EQ(taken_by(source(i), now), 5u);
  unsigned forgotten = 0;
  for (uint32_t i = 0; i < kSources / 8; ++i) forgotten += limiter.may(source(i), now);
  EXPECT_LT(forgotten, kSources / 8 / 100) << "an eighth full, few lines overflow";
}

// Of five that share a line of four, the one that has taken least makes room.
TEST(SourceLimiter, ForgetsTheOneNearestToFull) {
  constexpr uint64_t kNow = 7 * kSecondNs;
  SourceLimiter limiter({.per_second = 20, .burst = 5}, 8, 1);  // with this seed all share a line
  const auto take = [&](uint32_t host, unsigned tokens) {
    unsigned taken = 0;
    for (; taken < tokens && limiter.may(source(host), kNow); ++taken) {
      limiter.charge(source(host), kNow);
    }
    return taken;
  };
  EXPECT_EQ(take(1, 4), 4u);
  EXPECT_EQ(take(2, 1), 1u);
  EXPECT_EQ(take(3, 3), 3u);
  EXPECT_EQ(take(4, 2), 2u);
  EXPECT_EQ(take(5, 9), 5u) << "in the place of 2";
  EXPECT_EQ(take(5, 9), 0u);
  EXPECT_EQ(take(4, 9), 3u);
  EXPECT_EQ(take(3, 9), 2u);
  EXPECT_EQ(take(1, 9), 1u);
}

// However many come, who came last is limited, and those that are quiet leave their places.
TEST_F(Limiter, HasRoomForWhoeverComes) {
  for (uint32_t i = 0; i < 4 * kSources; ++i) {
    ASSERT_EQ(taken_by(source(i), now + i), 5u);
    ASSERT_FALSE(limiter.may(source(i), now + i));
  }
  const uint64_t later = now + 2 * kSecondNs;
  for (uint32_t i = 0; i < 4 * kSources; ++i) ASSERT_EQ(taken_by(source(i), later + i), 5u);
}

TEST(SourceLimiter, MayHaveABurstOfOne) {
  SourceLimiter limiter({.per_second = 1, .burst = 1}, kSources, 1);
  EXPECT_TRUE(limiter.may(source(1), 0));
  limiter.charge(source(1), 0);
  EXPECT_FALSE(limiter.may(source(1), kSecondNs - 1));
  EXPECT_TRUE(limiter.may(source(1), kSecondNs));
}

}  // namespace
}  // namespace adit::tunnel
