// The control thread moves tunnels by what the workers' samples say (gateway/control_moves.cpp).
#include "tests/eal/lanes_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

class BalancingControl : public LanesRig {
 protected:
  BalancingControl()
      : LanesRig([](Config& config) {
          config.eal.balance = true;
          config.pools[0].nat.timeouts.port_rest_ns = tunnel::kSecondNs;  // lanes may begin anew
        }) {}

  static Bytes datagram() {
    return udp_packet({kInner, Be16::from_host(2000)}, kService, payload_bytes(24));
  }
  // From now on the card brings the client's packets to this worker.
  void roam(LaneEnd& lane, unsigned worker) {
    for (unsigned port = 30'000; port == 30'000 || !is_at(lane, worker); ++port) {
      lane.outer.port = Be16::from_host(static_cast<uint16_t>(port));
    }
    lane.end->transmit = [this, &lane](const Bytes& payload) {
      receive_from(lane.outer, payload);
    };
  }
  // A period, with packets in each of many of its milliseconds.
  void pass_period(LaneEnd& lane) {
    constexpr unsigned kSamples = 50;
    for (unsigned i = 0; i < kSamples; ++i) {
      now_ns_ += Balance::kPeriodNs / kSamples;
      sweep();
      lane.end->send(now_ns_, datagram());
      settle();
    }
  }

 private:
  bool is_at(const LaneEnd& lane, unsigned worker) const {
    return queue_of(0, udp_packet(lane.outer, kTunnelEndpoint, Bytes(20))) == worker;
  }
};

TEST_F(BalancingControl, TunnelThatHasMovedRestsAndItsSlotsNextOneDoesNot) {
  LaneEnd& first = begin(0, 1, 0);
  const uint32_t slot = slot_of(first);
  roam(first, 2);
  for (unsigned i = 0; i < 3; ++i) pass_period(first);
  ASSERT_EQ(control_->owner_of(slot), 2u);
  roam(first, 1);
  for (unsigned i = 0; i < 3; ++i) pass_period(first);
  EXPECT_EQ(control_->owner_of(slot), 2u) << "it rests";

  LaneEnd& next = begin(0, 2, 2);  // begins anew
  ASSERT_EQ(slot_of(next), slot);
  roam(next, 1);
  for (unsigned i = 0; i < 3; ++i) pass_period(next);
  EXPECT_EQ(control_->owner_of(slot), 1u);
}

}  // namespace
}  // namespace adit::gateway::test
