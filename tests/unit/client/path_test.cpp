// What the client makes of its outer path: whether it is alive, what it carries, whether it slept.
#include <gtest/gtest.h>

#include <optional>

#include "client-lite/network_watch.h"
#include "client-lite/path_mtu.h"
#include "client-lite/path_watch.h"

namespace adit::client {
namespace {

using Step = PathWatch::Step;

constexpr uint64_t kMillisecondNs = 1'000'000;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kStart = 1000 * kSecondNs;

RoundTrip round_trip_of(uint64_t sample_ns) {
  RoundTrip round_trip;
  round_trip.on_probe(kStart);
  round_trip.on_reply(kStart, kStart + sample_ns);
  return round_trip;
}

// Ticks at every deadline until a step comes; when that was, and which.
struct Ticked {
  Step step;
  uint64_t at_ns;
};
Ticked next_step(PathWatch& watch, const RoundTrip& round_trip = {}) {
  for (unsigned i = 0; i < 10 && watch.next_deadline_ns() != UINT64_MAX; ++i) {
    const uint64_t at_ns = watch.next_deadline_ns();
    EXPECT_EQ(watch.tick(at_ns - 1, round_trip), Step::none);
    if (const Step step = watch.tick(at_ns, round_trip); step != Step::none) return {step, at_ns};
  }
  return {Step::none, 0};
}

TEST(PathWatch, AsksThriceThenByAnotherPortThenGivesUp) {
  PathWatch watch;
  const RoundTrip round_trip = round_trip_of(100 * kMillisecondNs);
  const uint64_t wait_ns = PathWatch::wait_ns(round_trip);
  EXPECT_EQ(wait_ns, 300 * kMillisecondNs);  // 100 ms and four times half of it
  watch.on_sent(kStart);
  watch.on_sent(kStart + 500 * kMillisecondNs);  // the first counts
  uint64_t at_ns = kStart + PathWatch::kQuietNs;
  for (const Step step : {Step::probe, Step::probe, Step::probe, Step::rebind, Step::probe,
                          Step::probe, Step::dead}) {
    const Ticked ticked = next_step(watch, round_trip);
    EXPECT_EQ(ticked.step, step);
    EXPECT_EQ(ticked.at_ns, at_ns);
    at_ns += wait_ns;
  }
  EXPECT_EQ(watch.next_deadline_ns(), UINT64_MAX);
}

TEST(PathWatch, AStockPeerIsGivenTimeForHandshakes) {
  PathWatch watch(PathWatch::kByHandshakes);
  const RoundTrip round_trip = round_trip_of(100 * kMillisecondNs);  // of another gateway's probes
  for (const uint64_t begin_ns : {kStart, kStart + 100 * kSecondNs}) {
    watch.on_sent(begin_ns);
    uint64_t at_ns = begin_ns + 5 * kSecondNs;
    for (const Step step : {Step::probe, Step::rebind, Step::probe, Step::dead}) {
      const Ticked ticked = next_step(watch, round_trip);
      EXPECT_EQ(ticked.step, step);
      EXPECT_EQ(ticked.at_ns, at_ns);
      at_ns += 4 * kSecondNs;
    }
  }
  // Doubted, it is asked at once; and an answer to packets is one, too.
  watch.hurry(kStart + 200 * kSecondNs);
  EXPECT_EQ(next_step(watch).at_ns, kStart + 200 * kSecondNs);
  watch.on_heard();
  EXPECT_EQ(next_step(watch).step, Step::none);
}

TEST(PathWatch, IsContentWhenAnythingIsHeard) {
  PathWatch watch;
  watch.on_sent(kStart);
  watch.on_heard();
  EXPECT_EQ(next_step(watch).step, Step::none);
  // In the middle of asking, too; and then begins anew.
  watch.on_sent(kStart);
  next_step(watch);
  next_step(watch);
  watch.on_heard();
  EXPECT_EQ(next_step(watch).step, Step::none);
  watch.on_sent(kStart + 60 * kSecondNs);
  EXPECT_EQ(next_step(watch).at_ns, kStart + 60 * kSecondNs + PathWatch::kQuietNs);
}

TEST(PathWatch, MovesItsDeadlineNoMoreThanOnceInTheQuietTime) {
  PathWatch watch;
  watch.on_sent(kStart);
  const uint64_t deadline_ns = watch.next_deadline_ns();
  for (uint64_t at_ns = kStart; at_ns < deadline_ns; at_ns += 10 * kMillisecondNs) {
    watch.on_heard();
    watch.on_sent(at_ns);
    EXPECT_EQ(watch.next_deadline_ns(), deadline_ns);
  }
  // What is open now was asked 10 ms ago.
  EXPECT_EQ(watch.tick(deadline_ns, {}), Step::none);
  EXPECT_EQ(watch.next_deadline_ns(), deadline_ns - 10 * kMillisecondNs + PathWatch::kQuietNs);
}

TEST(PathWatch, AHeartbeatIsAProbeAlready) {
  PathWatch watch;
  watch.on_probe(kStart, {});
  const Ticked ticked = next_step(watch);
  EXPECT_EQ(ticked.step, Step::probe);
  EXPECT_EQ(ticked.at_ns, kStart + PathWatch::kWaitNsDefault);
}

TEST(PathWatch, HurriedItAsksAtOnce) {
  PathWatch watch;
  watch.on_sent(kStart);
  watch.hurry(kStart + 1);
  EXPECT_EQ(next_step(watch).at_ns, kStart + 1);
}

TEST(PathWatch, WaitsWithinBounds) {
  EXPECT_EQ(PathWatch::wait_ns(round_trip_of(1 * kMillisecondNs)), PathWatch::kWaitNsMin);
  EXPECT_EQ(PathWatch::wait_ns(round_trip_of(5 * kSecondNs)), PathWatch::kWaitNsMax);
}

// A path that carries packets up to a size and swallows the rest.
class Path {
 public:
  explicit Path(uint16_t carries_bytes) : carries_bytes_(carries_bytes) {}

  // Answers at once what it carries; until nothing is due before `until_ns`.
  void run(PathMtu& mtu, uint64_t until_ns) {
    while (mtu.next_deadline_ns() <= until_ns) {
      now_ns = std::max(now_ns, mtu.next_deadline_ns());
      const auto probe = mtu.tick(now_ns, kSecondNs, ++stamp_);
      if (!probe) continue;
      ++probes;
      if (probe->bytes > carries_bytes_) continue;
      EXPECT_TRUE(mtu.on_reply(probe->stamp, now_ns));
    }
  }
  void becomes(uint16_t carries_bytes) { carries_bytes_ = carries_bytes; }

  uint64_t now_ns = kStart;
  unsigned probes = 0;

 private:
  uint16_t carries_bytes_;
  uint64_t stamp_ = 0;
};

TEST(PathMtu, TakesOneProbeWhereThePathCarriesTheLargest) {
  PathMtu mtu;
  EXPECT_EQ(mtu.bytes(), PathMtu::kBaseBytes);
  mtu.start(kStart, 1500);
  Path path(1500);
  path.run(mtu, kStart + 3600 * kSecondNs);
  EXPECT_EQ(mtu.bytes(), 1500);
  EXPECT_EQ(path.probes, 1u);
}

TEST(PathMtu, ComesNearWhateverThePathCarries) {
  for (unsigned carries = PathMtu::kLeastBytes; carries <= 1500; ++carries) {
    PathMtu mtu;
    mtu.start(kStart, 1500);
    Path path(static_cast<uint16_t>(carries));
    path.run(mtu, kStart + 60 * kSecondNs);
    EXPECT_LE(mtu.bytes(), carries);
    EXPECT_GE(mtu.bytes() + PathMtu::kNearBytes, carries);
    EXPECT_FALSE(mtu.is_searching());
    EXPECT_LE(path.now_ns, kStart + 30 * kSecondNs);
  }
}

TEST(PathMtu, IsNeverAboveWhatIsKnownWhileItSearches) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  Path path(700);
  for (unsigned i = 0; i < 40; ++i) {
    path.run(mtu, kStart + i * kSecondNs);
    EXPECT_LE(mtu.bytes(), PathMtu::kBaseBytes);
  }
  EXPECT_LE(mtu.bytes(), 700);
}

TEST(PathMtu, TriesLargerOnesAgainAfterAWhile) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  Path path(1400);
  path.run(mtu, kStart + 60 * kSecondNs);
  path.becomes(1500);
  path.run(mtu, path.now_ns + PathMtu::kRaiseNs + kSecondNs);
  EXPECT_EQ(mtu.bytes(), 1500);
}

TEST(PathMtu, TrafficHasItConfirmedAndFoundNarrowItSearchesAgain) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  Path path(1500);
  path.run(mtu, kStart);
  path.becomes(1300);
  // One packet, whose answer may be what was too large.
  mtu.on_traffic(kStart + kSecondNs);
  EXPECT_EQ(mtu.next_deadline_ns(), kStart + PathMtu::kConfirmNs);
  path.run(mtu, kStart + 60 * kSecondNs);
  EXPECT_LE(mtu.bytes(), 1300);
  EXPECT_GE(mtu.bytes() + PathMtu::kNearBytes, 1300);
}

TEST(PathMtu, TrafficThatIsConfirmedNeverPutsOffTheLargerOne) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  Path path(1400);
  path.run(mtu, kStart + 60 * kSecondNs);
  path.becomes(1500);
  const uint64_t begin_ns = path.now_ns;
  for (unsigned i = 0; i < 700; ++i) {
    mtu.on_traffic(begin_ns + i * kSecondNs);
    path.run(mtu, begin_ns + i * kSecondNs);
  }
  EXPECT_EQ(mtu.bytes(), 1500);
}

TEST(PathMtu, ALateAnswerCountsAndAForeignOneDoesNot) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  const auto first = mtu.tick(kStart, kSecondNs, 5);
  const auto second = mtu.tick(kStart + kSecondNs, kSecondNs, 6);
  EXPECT_EQ(second->stamp, first->stamp);
  EXPECT_FALSE(mtu.on_reply(6, kStart));
  EXPECT_TRUE(mtu.on_reply(5, kStart + 1500 * kMillisecondNs));
  EXPECT_FALSE(mtu.on_reply(5, kStart + 1600 * kMillisecondNs)) << "the other one's";
  EXPECT_EQ(mtu.bytes(), 1500);
}

TEST(PathMtu, WhatTheLinkRefusesIsTooLargeAtOnce) {
  PathMtu mtu;
  mtu.start(kStart, 1500);
  EXPECT_EQ(mtu.tick(kStart, kSecondNs, 1)->bytes, 1500);
  mtu.on_refused(kStart);
  EXPECT_EQ(mtu.tick(kStart, kSecondNs, 2)->bytes, PathMtu::kBaseBytes);
}

TEST(PathMtu, ASmallLinkIsNotExceeded) {
  PathMtu mtu;
  mtu.start(kStart, 1000);
  EXPECT_EQ(mtu.bytes(), 1000);
  mtu.start(kStart, 100);
  EXPECT_EQ(mtu.bytes(), PathMtu::kLeastBytes);
}

TEST(SleepMeter, TellsSleepFromTimeThatPasses) {
  SleepMeter meter;
  EXPECT_FALSE(meter.slept(500 * kSecondNs, 100 * kSecondNs)) << "slept before we began";
  EXPECT_FALSE(meter.slept(900 * kSecondNs, 500 * kSecondNs));
  EXPECT_TRUE(meter.slept(1500 * kSecondNs, 501 * kSecondNs));
  EXPECT_FALSE(meter.slept(1501 * kSecondNs, 502 * kSecondNs));
}

}  // namespace
}  // namespace adit::client
