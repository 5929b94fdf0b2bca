// The control thread's part where ranges are deterministic: a tunnel opens where its range is at
// home, in a slot that is at home there, so that slots of tunnels that have moved go home too.
#include <algorithm>

#include "tests/eal/control_rig.h"
#include "tests/eal/lanes_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;
using tunnel::kSecondNs;

// ---- What it tells the workers ----

// Client 0's tunnel is the first worker's; it has moved to the second, or is about to.
class FarSlots : public ControlRig {
 protected:
  static constexpr unsigned kHome = 0;
  static constexpr unsigned kFar = 1;

  FarSlots() {
    config_.nat.allocation = Allocation::deterministic;
    start(1, 2);
    slot_ = connect(0);
    EXPECT_EQ(control_->move_tunnel(slot_, kFar), nullptr);
    tick();
  }
  // The slot of its tunnel.
  uint32_t connect(unsigned client) {
    const uint64_t before = accepted();
    now_ns_ += kSecondNs;
    receive(clients_[client].initiate(), endpoint_of(client), kHome);
    tick_until(before + 1);
    return control_->subscribers()[client].slot;
  }
  // The worker says so to the last move that it was told of.
  void answer(MoveRefusal refusal) {
    TunnelReport& report = tunnels_->report(slot_);
    report.move_refusal.store(static_cast<uint8_t>(refusal));
    const auto asked = std::ranges::find_if(told().rbegin(), told().rend(), [](const Told& it) {
      return it.message.kind == ToWorker::move_tunnel ||
             it.message.kind == ToWorker::move_free_slot;
    });
    ASSERT_NE(asked, told().rend());
    report.move_answered.store(asked->message.move_number);
    tick();
  }
  void let_tunnels_die() {
    now_ns_ += config_.tunnel.dead_after_ns;
    tick();
    tick();
    ASSERT_EQ(control_->open_tunnels(), 0u);
  }
  // How often a worker has been told to let the slot go home.
  size_t asked_to_bring_home() const {
    const std::vector<Told> moves = told(ToWorker::move_free_slot);
    return static_cast<size_t>(std::ranges::count_if(moves, [&](const Told& it) {
      return it.message.slot == slot_ && it.worker == kFar && it.message.port == kHome;
    }));
  }

  uint32_t slot_ = 0;
};

TEST_F(FarSlots, GoHomeWhenTheirTunnelHasEnded) {
  answer(MoveRefusal::none);
  ASSERT_EQ(control_->owner_of(slot_), kFar);
  let_tunnels_die();
  ASSERT_EQ(asked_to_bring_home(), 1u);
  EXPECT_EQ(told().back().message.kind, ToWorker::move_free_slot) << "behind its tunnel's end";
  EXPECT_NE(connect(1), slot_) << "it is on its way";
  answer(MoveRefusal::none);
  EXPECT_EQ(control_->owner_of(slot_), kHome);
  EXPECT_EQ(connect(2), slot_);
  EXPECT_EQ(told().back().worker, kHome);
  EXPECT_EQ(control_->counters().tunnels_moved, 1u);
}

TEST_F(FarSlots, AreAskedForAgainUntilTheyAreLetGo) {
  answer(MoveRefusal::none);
  let_tunnels_die();
  for (size_t times = 1; times < 4; ++times) {
    ASSERT_EQ(asked_to_bring_home(), times);
    answer(MoveRefusal::busy);
    tick();
    EXPECT_EQ(asked_to_bring_home(), times) << "not at once";
    now_ns_ += kSecondNs / 10;
    tick();
  }
  answer(MoveRefusal::none);
  EXPECT_EQ(connect(1), slot_);
  EXPECT_EQ(control_->counters().moves_refused, 0u);
}

// Its range goes with the tunnel, or stays: until it is known, nobody else has the slot.
TEST_F(FarSlots, OfATunnelThatEndsAmidItsMoveIsNobodysUntilItIsHome) {
  let_tunnels_die();
  EXPECT_NE(connect(1), slot_);
  answer(MoveRefusal::none);
  ASSERT_EQ(asked_to_bring_home(), 1u);
  answer(MoveRefusal::none);
  EXPECT_EQ(connect(2), slot_);
}

TEST_F(FarSlots, OfATunnelThatEndsWhileItIsToldToStayIsThere) {
  let_tunnels_die();
  EXPECT_NE(connect(1), slot_);
  answer(MoveRefusal::fragments);
  tick();
  EXPECT_EQ(asked_to_bring_home(), 0u);
  EXPECT_EQ(connect(2), slot_);
}

// ---- With workers ----

// Each worker has one slot.
class RangesAndControl : public LanesRig {
 protected:
  RangesAndControl()
      : LanesRig([](Config& config) {
          config.nat.allocation = Allocation::deterministic;
          config.nat.deterministic_ports = 64;
          config.tunnel.max_tunnels = kLaneWorkers;
          config.eal.balance = true;
        }) {}

  static Bytes datagram(unsigned port) {
    return udp_packet({kInner, Be16::from_host(static_cast<uint16_t>(port))}, kService,
                      payload_bytes(24));
  }
  nat::DeterministicRanges ranges() const { return config_.nat.ranges(); }
  // Some periods of the balance, in which every other packet is one that it is sent, or none.
  void pass_periods(LaneEnd& lane, const Endpoint& external, bool is_answered) {
    constexpr unsigned kSamples = 50;
    for (unsigned i = 0; i < 3 * kSamples; ++i) {
      now_ns_ += Balance::kPeriodNs / kSamples / 2;
      sweep();
      lane.end->send(now_ns_, datagram(2000));
      settle();
      now_ns_ += Balance::kPeriodNs / kSamples / 2;
      sweep();
      if (is_answered) receive(1, udp_packet(kService, external, payload_bytes(24)));
      settle();
    }
  }
};

TEST_F(RangesAndControl, SubscriberWhoseTunnelHasMovedComesBackToItsRange) {
  std::vector<Endpoint> known;
  for (unsigned round = 0; round < 3; ++round) {
    LaneEnd& site = begin(0, 1, 2);
    ASSERT_TRUE(is_up(site)) << "round " << round << ": there was no slot";
    const uint32_t slot = slot_of(site);
    const unsigned home = tunnels_->home(slot);
    EXPECT_EQ(control_->owner_of(slot), home);
    const unsigned to = (home + 1 + round % 2) % kLaneWorkers;
    ASSERT_EQ(control_->move_tunnel(slot, to), nullptr);
    settle();
    ASSERT_EQ(control_->owner_of(slot), to);
    for (unsigned port = 2000; port < 2010; ++port) {
      const std::optional<Endpoint> external = external_by(site, datagram(port));
      ASSERT_TRUE(external);
      EXPECT_EQ(ranges().ordinal_of(0, external->port.host()), 0u) << "whose it is, says a look-up";
      if (round == 0) known.push_back(*external);
      EXPECT_EQ(*external, known[port - 2000]) << "it has rested for no longer than it may";
    }
    pass(config_.tunnel.dead_after_ns + kSecondNs, {});
    ASSERT_EQ(control_->open_tunnels(), 0u);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// What it sends comes in elsewhere, but all that it is sent comes in where its range is at home.
TEST_F(RangesAndControl, TunnelFollowsWhatItSendsOnlyIfThatIsMore) {
  const unsigned home = settings_.shares[ranges().range_of(0)->first_port / nat::kWindowPorts];
  const unsigned elsewhere = (home + 1) % kLaneWorkers;
  LaneEnd& site = begin(0, 1, elsewhere);
  const uint32_t slot = slot_of(site);
  const Endpoint external = external_by(site, datagram(2000)).value();
  pass_periods(site, external, true);
  EXPECT_EQ(control_->owner_of(slot), home);
  pass_periods(site, external, false);
  EXPECT_EQ(control_->owner_of(slot), elsewhere);
}

}  // namespace
}  // namespace adit::gateway::test
