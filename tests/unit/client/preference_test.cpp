// The order of gateways, and when to go back to the first.
#include <gtest/gtest.h>

#include "client-lite/preference.h"

namespace adit::client {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kStart = 1000 * kSecondNs;

TEST(Preference, TheNearestComesFirstAndTheSilentKeepTheirOrder) {
  std::vector<Survey::Finding> findings(5);
  findings[1].round_trip_ns = 30;
  findings[3].round_trip_ns = 10;
  findings[4].round_trip_ns = 30;
  EXPECT_EQ(nearest_first(findings), (std::vector<size_t>{3, 1, 4, 0, 2}));
  EXPECT_EQ(in_order(3), (std::vector<size_t>{0, 1, 2}));
}

// When a gateway that is asked every second is gone back to, in seconds from `from_ns`; 0: not in a
// thousand.
template <typename Answers>
uint64_t returns_after(ReturnWatch& watch, uint64_t from_ns, const Answers& answers) {
  for (uint64_t second = 1; second <= 1000; ++second) {
    if (watch.on_round(answers(second), from_ns + second * kSecondNs)) return second;
  }
  return 0;
}
bool always(uint64_t) {
  return true;
}

TEST(ReturnWatch, GoesBackWhenTheGatewayHasAnsweredForSoLong) {
  ReturnWatch watch(10 * kSecondNs);
  watch.on_left(kStart);
  EXPECT_EQ(returns_after(watch, kStart, [](uint64_t second) { return second > 100; }), 111u);
}

TEST(ReturnWatch, DoesNotGoBackToOneThatComesAndGoes) {
  ReturnWatch watch(10 * kSecondNs);
  watch.on_left(kStart);
  EXPECT_EQ(returns_after(watch, kStart, [](uint64_t second) { return second % 10 != 0; }), 0u);
}

TEST(ReturnWatch, WantsThreeAnswersHoweverShortTheTime) {
  ReturnWatch watch(kSecondNs / 10);
  watch.on_left(kStart);
  EXPECT_EQ(returns_after(watch, kStart, always), 3u);
}

TEST(ReturnWatch, IsMorePatientWithOneThatFailedSoonAfter) {
  ReturnWatch watch(10 * kSecondNs);
  uint64_t now_ns = kStart;
  watch.on_left(now_ns);
  for (const uint64_t expected_s : {11, 21, 41, 81, 161, 321, 641, 641}) {
    const uint64_t second = returns_after(watch, now_ns, always);
    EXPECT_EQ(second, expected_s);
    now_ns += second * kSecondNs;
    watch.on_returned(now_ns);
    now_ns += 5 * kSecondNs;
    watch.on_left(now_ns);
  }
  // It lasts: all is forgiven.
  now_ns += returns_after(watch, now_ns, always) * kSecondNs;
  watch.on_returned(now_ns);
  now_ns += 3600 * kSecondNs;
  watch.on_left(now_ns);
  EXPECT_EQ(returns_after(watch, now_ns, always), 11u);
}

}  // namespace
}  // namespace adit::client
