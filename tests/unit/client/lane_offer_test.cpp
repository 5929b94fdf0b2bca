// How many lanes a gateway is asked for that does not answer: it may be one that knows of none.
#include "client-lite/lane_offer.h"

#include <gtest/gtest.h>

#include <vector>

namespace adit::client {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr uint64_t kRetryNs = 5'200'000'000;  // as tunnel::Peer sends again

struct Sent {
  unsigned lanes;
  uint64_t after_ns;  // kNow
  friend bool operator==(const Sent&, const Sent&) = default;
};

// A gateway that never answers, for so long: what it is asked.
std::vector<Sent> asked_in_vain(LaneOffer offer, uint64_t duration_ns) {
  std::vector<Sent> sent;
  uint64_t retry_ns = kNow;
  while (true) {
    const uint64_t now_ns = std::min(retry_ns, offer.next_deadline_ns());
    if (now_ns >= kNow + duration_ns) return sent;
    // Another number is asked for at once.
    if (!offer.tick(now_ns) && now_ns < retry_ns) ADD_FAILURE() << "it was due";
    offer.on_initiation(now_ns);
    sent.push_back({offer.wanted(), now_ns - kNow});
    retry_ns = now_ns + kRetryNs;
  }
}

TEST(LaneOffer, AsksForOneSoonAfterEverySecondThatWasInVain) {
  LaneOffer offer(4);
  offer.begin(LaneSense::unknown);
  const uint64_t one_ns = kRetryNs + LaneOffer::kDoubtNs;
  const uint64_t again_ns = one_ns + LaneOffer::kOneNs;
  EXPECT_EQ(asked_in_vain(offer, 22 * kSecondNs), (std::vector<Sent>{{4, 0},
                                                                     {4, kRetryNs},
                                                                     {1, one_ns},
                                                                     {4, again_ns},
                                                                     {4, again_ns + kRetryNs},
                                                                     {1, again_ns + one_ns},
                                                                     {4, 2 * again_ns}}));
}

TEST(LaneOffer, LeavesAGatewayTimeForThreeAttemptsWithinItsPatience) {
  LaneOffer offer(2);
  offer.begin(LaneSense::lacks);
  std::vector<unsigned> lanes;
  for (const Sent& sent : asked_in_vain(offer, 15 * kSecondNs)) lanes.push_back(sent.lanes);
  EXPECT_EQ(lanes, (std::vector<unsigned>{2, 2, 1, 2}));
}

TEST(LaneOffer, NeverDoubtsWhoHasAnsweredBeforeOrWhereOneIsWanted) {
  for (auto [lanes, sense] : {std::pair{4u, LaneSense::has}, std::pair{1u, LaneSense::unknown}}) {
    LaneOffer offer(lanes);
    offer.begin(sense);
    for (const Sent& sent : asked_in_vain(offer, 100 * kSecondNs)) EXPECT_EQ(sent.lanes, lanes);
  }
}

TEST(LaneOffer, KeepsToWhatWasAnsweredAndSaysWhatThatTells) {
  LaneOffer offer(4);
  offer.begin(LaneSense::unknown);
  offer.on_initiation(kNow);
  offer.on_initiation(kNow + kRetryNs);
  LaneOffer late = offer;
  EXPECT_EQ(late.on_answer(), LaneSense::has);
  EXPECT_FALSE(late.tick(UINT64_MAX - 1));
  EXPECT_EQ(late.wanted(), 4u);

  ASSERT_TRUE(offer.tick(offer.next_deadline_ns()));
  offer.on_initiation(kNow + 7 * kSecondNs);
  EXPECT_EQ(offer.on_answer(), LaneSense::lacks);
  offer.on_initiation(kNow + 127 * kSecondNs);  // the session is renewed
  EXPECT_EQ(offer.next_deadline_ns(), UINT64_MAX);
  EXPECT_EQ(offer.wanted(), 1u);
  EXPECT_EQ(LaneOffer(1).on_answer(), LaneSense::unknown);
}

TEST(LaneOffer, WaitsForWhoAsksForACookie) {
  LaneOffer offer(4);
  offer.begin(LaneSense::unknown);
  offer.on_initiation(kNow);
  offer.on_initiation(kNow + kRetryNs);
  offer.on_cookie_reply();
  EXPECT_FALSE(offer.tick(kNow + 2 * kRetryNs));
  offer.on_initiation(kNow + 2 * kRetryNs);
  EXPECT_EQ(offer.wanted(), 4u);
  EXPECT_EQ(offer.next_deadline_ns(), UINT64_MAX);
  offer.on_initiation(kNow + 3 * kRetryNs);
  EXPECT_NE(offer.next_deadline_ns(), UINT64_MAX) << "which was not answered either";
}

// With the cookie the same number is asked for once more, and has its time again.
TEST(LaneOffer, WaitsForWhoAsksForACookieForOneLaneToo) {
  LaneOffer offer(4);
  offer.begin(LaneSense::unknown);
  offer.on_initiation(kNow);
  offer.on_initiation(kNow + kRetryNs);
  ASSERT_TRUE(offer.tick(offer.next_deadline_ns()));
  const uint64_t one_ns = kNow + kRetryNs + LaneOffer::kDoubtNs;
  offer.on_initiation(one_ns);
  offer.on_cookie_reply();
  EXPECT_FALSE(offer.tick(one_ns + kRetryNs));
  offer.on_initiation(one_ns + kRetryNs);
  EXPECT_EQ(offer.wanted(), 1u);
  EXPECT_EQ(offer.next_deadline_ns(), one_ns + kRetryNs + LaneOffer::kOneNs);
}

}  // namespace
}  // namespace adit::client
