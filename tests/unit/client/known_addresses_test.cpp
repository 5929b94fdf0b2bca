// What the client goes by when a name server is slow, dead or out of reach, and which of a name's
// addresses is in turn.
#include "client-lite/known_addresses.h"

#include <gtest/gtest.h>

namespace adit::client {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr auto kFirst = Ipv4Address::from_octets(30, 1, 1, 10);
constexpr auto kSecond = Ipv4Address::from_octets(30, 2, 1, 10);
constexpr auto kThird = Ipv4Address::from_octets(30, 3, 1, 10);

using Addresses = std::vector<Ipv4Address>;

TEST(KnownAddresses, ADeadNameServerIsWaitedForEightSecondsWhereThereIsAnAddressToGoOnWith) {
  KnownAddresses known(2);
  EXPECT_EQ(known.ask(1, kNow), kNow + 15 * kSecondNs);
  known.on_answer(Addresses{kFirst});
  EXPECT_EQ(known.ask(1, kNow), kNow + 8 * kSecondNs);
  EXPECT_EQ(known.ask(0, kNow), kNow + 15 * kSecondNs) << "that is another's";
}

TEST(KnownAddresses, AnAnswerIsOfTheGatewayThatWasAskedForLast) {
  KnownAddresses known(3);
  known.ask(0, kNow);
  known.ask(2, kNow);
  known.on_answer(Addresses{kFirst});
  EXPECT_EQ(known.of(0), std::nullopt);
  EXPECT_EQ(known.of(2), kFirst);
  known.ask(2, kNow);
  EXPECT_EQ(known.of(2), kFirst) << "until there is another";
  known.on_answer(Addresses{kSecond});
  EXPECT_EQ(known.of(2), kSecond);
}

TEST(KnownAddresses, WhatSomebodyElseHasAskedForCountsToo) {
  KnownAddresses known(2);
  known.ask(0, kNow);
  known.set(1, Addresses{kSecond});
  known.on_answer(Addresses{kFirst});
  EXPECT_EQ(known.of(0), kFirst);
  EXPECT_EQ(known.of(1), kSecond);
}

TEST(KnownAddresses, EachAttemptThatFailsHasTheNextAddressInTurnRoundAndRound) {
  const Addresses all{kFirst, kSecond, kThird};
  KnownAddresses known(2);
  known.set(0, all);
  known.set(1, Addresses{kSecond});
  EXPECT_EQ(known.count(0), 3u);
  for (unsigned round = 0; round < 2; ++round) {
    for (const Ipv4Address address : all) {
      known.ask(0, kNow);
      known.on_answer(all);  // always the same order: glibc sorts
      EXPECT_EQ(known.of(0), address);
      EXPECT_EQ(known.on_failed(0, address), address != kThird);
    }
  }
  EXPECT_EQ(known.of(1), kSecond) << "that is another's";
  EXPECT_FALSE(known.on_failed(1, kSecond)) << "it has no other";
  EXPECT_EQ(known.of(1), kSecond);
}

TEST(KnownAddresses, OneThatWorksStaysInTurnInWhateverOrderTheNameIsAnswered) {
  KnownAddresses known(1);
  known.set(0, Addresses{kFirst, kSecond, kThird});
  known.on_failed(0, kFirst);
  for (const Addresses& answer : {Addresses{kThird, kFirst, kSecond},
                                  Addresses{kFirst, kThird, kSecond}}) {
    known.on_answer(answer);
    EXPECT_EQ(known.of(0), kSecond);
  }
  known.on_failed(0, kSecond);
  EXPECT_EQ(known.of(0), kThird) << "which has not failed";
  known.prefer(0, kSecond);
  EXPECT_EQ(known.of(0), kSecond) << "it was heard of meanwhile";
  known.prefer(0, Ipv4Address::from_octets(30, 9, 1, 10));
  EXPECT_EQ(known.of(0), kSecond) << "the name does not have that";
}

TEST(KnownAddresses, NewAddressesComeBeforeThoseThatFailedAndFormerOnesAreGone) {
  KnownAddresses known(1);
  known.set(0, Addresses{kFirst, kSecond});
  known.on_failed(0, kFirst);
  known.on_answer(Addresses{kFirst, kSecond, kThird});
  EXPECT_EQ(known.of(0), kSecond);
  known.on_failed(0, kSecond);
  EXPECT_EQ(known.of(0), kThird);
  known.on_answer(Addresses{kFirst, kSecond});
  EXPECT_EQ(known.count(0), 2u);
  EXPECT_EQ(known.of(0), kFirst);
  EXPECT_FALSE(known.on_failed(0, kThird)) << "an attempt at what it has no longer";
  EXPECT_EQ(known.of(0), kFirst);
}

// What failed before the tunnel was up is no part of the next round.
TEST(KnownAddresses, WhenOneWorkedEachHasItsTurnAnew) {
  KnownAddresses known(1);
  known.set(0, Addresses{kFirst, kSecond});
  EXPECT_TRUE(known.on_failed(0, kFirst));
  known.on_up(0);
  EXPECT_TRUE(known.on_failed(0, kSecond)) << "the other is left";
  EXPECT_FALSE(known.on_failed(0, kFirst));
}

TEST(KnownAddresses, HoweverOftenTheNetworkChangesANameHasTimeToBeAnswered) {
  KnownAddresses known(1);
  known.ask(0, kNow);
  EXPECT_TRUE(known.may_ask_again(kNow + kSecondNs)) << "the first change is heard at once";
  for (unsigned i = 2; i < 7; ++i) EXPECT_FALSE(known.may_ask_again(kNow + i * kSecondNs));
  EXPECT_TRUE(known.may_ask_again(kNow + 7 * kSecondNs));
  EXPECT_FALSE(known.may_ask_again(kNow + 8 * kSecondNs));
}

}  // namespace
}  // namespace adit::client
