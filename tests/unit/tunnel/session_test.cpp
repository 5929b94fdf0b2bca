#include "lib/tunnel/session.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace adit::tunnel {
namespace {

static_assert(std::is_trivially_copyable_v<Session>, "it travels in a ring message");

Session initiated(uint32_t index, uint64_t made_ns = 0) {
  Session session;
  session.local_index = index;
  session.initiator = true;
  session.established_ns = made_ns;
  return session;
}
Session answered(uint32_t index, uint64_t made_ns = 0) {
  Session session = initiated(index, made_ns);
  session.initiator = false;
  return session;
}

TEST(SessionSet, HoldsNothingAtFirst) {
  SessionSet set;
  EXPECT_EQ(set.find(1), SessionSet::kNone);
  EXPECT_EQ(set.find(0), SessionSet::kNone) << "an index of 0 belongs to no session";
  EXPECT_FALSE(set.at(SessionSet::kCurrent).exists());
}

TEST(SessionSet, UsesAnInitiatedSessionAtOnceAndKeepsTheOldOne) {
  SessionSet set;
  EXPECT_FALSE(set.install(initiated(1)).exists());
  set.send_counter(SessionSet::kCurrent) = 9;
  set.replay(SessionSet::kCurrent).accept(4);
  EXPECT_FALSE(set.install(initiated(2)).exists());
  EXPECT_EQ(set.find(2), SessionSet::kCurrent);
  EXPECT_EQ(set.find(1), SessionSet::kPrevious);
  EXPECT_EQ(set.send_counter(SessionSet::kCurrent), 0u);
  EXPECT_EQ(set.send_counter(SessionSet::kPrevious), 9u) << "the counter moves with its key";
  EXPECT_FALSE(set.replay(SessionSet::kPrevious).would_accept(4));
  EXPECT_TRUE(set.replay(SessionSet::kCurrent).would_accept(4));
  EXPECT_EQ(set.install(initiated(3)).local_index, 1u) << "the third displaces the first";
}

TEST(SessionSet, UsesAnAnsweredSessionOnlyWhenItIsConfirmed) {
  SessionSet set;
  EXPECT_FALSE(set.install(answered(1)).exists());
  EXPECT_EQ(set.find(1), SessionSet::kNext);
  EXPECT_FALSE(set.at(SessionSet::kCurrent).exists());
  set.replay(SessionSet::kNext).accept(0);
  EXPECT_TRUE(set.confirm(SessionSet::kNext));
  EXPECT_EQ(set.find(1), SessionSet::kCurrent);
  EXPECT_FALSE(set.replay(SessionSet::kCurrent).would_accept(0));
  EXPECT_FALSE(set.confirm(SessionSet::kCurrent));
  EXPECT_FALSE(set.confirm(SessionSet::kPrevious));
  EXPECT_FALSE(set.confirm(SessionSet::kNext)) << "there is none";

  set.install(answered(2));
  EXPECT_EQ(set.find(1), SessionSet::kCurrent) << "the old one goes on until then";
  EXPECT_TRUE(set.confirm(SessionSet::kNext));
  EXPECT_EQ(set.find(2), SessionSet::kCurrent);
  EXPECT_EQ(set.find(1), SessionSet::kPrevious);
  set.install(answered(3));
  EXPECT_TRUE(set.confirm(SessionSet::kNext));
  EXPECT_EQ(set.find(1), SessionSet::kNone);
}

TEST(SessionSet, ReplacesAnAnsweredSessionThatNobodyConfirmed) {
  SessionSet set;
  set.install(answered(1));
  set.confirm(SessionSet::kNext);
  set.install(answered(2));
  EXPECT_EQ(set.install(answered(3)).local_index, 2u);
  EXPECT_EQ(set.find(1), SessionSet::kCurrent);
  EXPECT_EQ(set.find(2), SessionSet::kNone);
  EXPECT_EQ(set.find(3), SessionSet::kNext);
}

TEST(SessionSet, ForgetsSessionsAtTheirEnd) {
  SessionSet set;
  set.install(initiated(1, 0));
  set.install(initiated(2, 100 * kSecondNs));
  EXPECT_EQ(set.expire(kRejectAfterNs - 1), 0u);
  EXPECT_EQ(set.expire(kRejectAfterNs), 1u);
  EXPECT_EQ(set.find(1), SessionSet::kNone);
  EXPECT_EQ(set.find(2), SessionSet::kCurrent);
  EXPECT_EQ(set.expire(280 * kSecondNs), 1u);
  EXPECT_EQ(set.find(2), SessionSet::kNone);
}

TEST(SessionSet, DoesNotTakeAClockALittleBehindForExpiry) {
  SessionSet set;
  set.install(initiated(1, 1000));
  EXPECT_EQ(set.expire(999), 0u);
}

TEST(SessionSet, ForgetsEverythingWhenCleared) {
  SessionSet set;
  set.install(initiated(1));
  set.install(answered(2));
  set.clear();
  EXPECT_EQ(set.find(1), SessionSet::kNone);
  EXPECT_EQ(set.find(2), SessionSet::kNone);
}

}  // namespace
}  // namespace adit::tunnel
