// What the client goes by when a name server is slow, dead or out of reach.
#include "client-lite/known_addresses.h"

#include <gtest/gtest.h>

namespace adit::client {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr auto kFirst = Ipv4Address::from_octets(30, 1, 1, 10);
constexpr auto kSecond = Ipv4Address::from_octets(30, 2, 1, 10);

TEST(KnownAddresses, ADeadNameServerIsWaitedForEightSecondsWhereThereIsAnAddressToGoOnWith) {
  KnownAddresses known(2);
  EXPECT_EQ(known.ask(1, kNow), kNow + 15 * kSecondNs);
  known.on_answer(kFirst);
  EXPECT_EQ(known.ask(1, kNow), kNow + 8 * kSecondNs);
  EXPECT_EQ(known.ask(0, kNow), kNow + 15 * kSecondNs) << "that is another's";
}

TEST(KnownAddresses, AnAnswerIsOfTheGatewayThatWasAskedForLast) {
  KnownAddresses known(3);
  known.ask(0, kNow);
  known.ask(2, kNow);
  known.on_answer(kFirst);
  EXPECT_EQ(known.of(0), std::nullopt);
  EXPECT_EQ(known.of(2), kFirst);
  known.ask(2, kNow);
  EXPECT_EQ(known.of(2), kFirst) << "until there is another";
  known.on_answer(kSecond);
  EXPECT_EQ(known.of(2), kSecond);
}

TEST(KnownAddresses, WhatSomebodyElseHasAskedForCountsToo) {
  KnownAddresses known(2);
  known.ask(0, kNow);
  known.set(1, kSecond);
  known.on_answer(kFirst);
  EXPECT_EQ(known.of(0), kFirst);
  EXPECT_EQ(known.of(1), kSecond);
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
