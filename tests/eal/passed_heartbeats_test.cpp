// Heartbeats that the control thread's hand has passed, since nothing was due: they are told to the
// tunnel's peer in front of whatever happens to it next, and not behind.
#include "tests/eal/control_rig.h"

namespace adit::gateway::test {
namespace {

constexpr uint64_t kSecondNs = tunnel::kSecondNs;

class PassedHeartbeats : public ControlRig {
 protected:
  explicit PassedHeartbeats(unsigned threads = 1) {
    start(threads);
    begin_handshake();
    const ToWorker open = told(ToWorker::open_tunnel).back().message;
    slot_ = open.slot;
    tunnels_->report(slot_).begin(open.epoch);
  }
  ~PassedHeartbeats() override { stop(); }

  void begin_handshake() {
    const uint64_t before = accepted();
    receive(clients_[0].initiate(), endpoint_of(0));
    tick_until(before + 1);
  }
  // As its worker reports it.
  void heartbeat_comes() { tunnels_->report(slot_).heard(now_ns_, false); }
  void packet_is_sent() { tunnels_->report(slot_).sent(now_ns_, true); }
  void pass(uint64_t time_ns) {
    constexpr uint64_t kStepNs = kSecondNs / 20;
    for (uint64_t passed_ns = 0; passed_ns < time_ns; passed_ns += kStepNs) {
      now_ns_ += kStepNs;
      tick();
    }
  }
  bool awaits_confirmation() const {
    return control_->subscribers()[0].peer->awaits_confirmation();
  }
  uint64_t aged_out() const { return control_->counters().tunnels_aged_out; }

  uint32_t slot_ = 0;
};

TEST_F(PassedHeartbeats, ConfirmNoLaterSession) {
  EXPECT_TRUE(awaits_confirmation());
  heartbeat_comes();
  pass(kSecondNs);
  EXPECT_FALSE(awaits_confirmation());
  pass(19 * kSecondNs);
  heartbeat_comes();
  packet_is_sent();
  pass(10 * kSecondNs);
  begin_handshake();
  EXPECT_TRUE(awaits_confirmation());
  pass(kSecondNs);
  EXPECT_TRUE(awaits_confirmation()) << "by what was heard ten seconds before";
  heartbeat_comes();
  pass(kSecondNs);
  EXPECT_FALSE(awaits_confirmation());
}

// By another thread.
class WhileAnswersAreMade : public PassedHeartbeats {
 protected:
  WhileAnswersAreMade() : PassedHeartbeats(2) {}
};

TEST_F(WhileAnswersAreMade, AHeartbeatConfirmsNothing) {
  heartbeat_comes();
  pass(20 * kSecondNs);
  const auto stamp = [this] { return control_->subscribers()[0].peer->last_received_stamp(); };
  const tunnel::Tai64n before = stamp();
  receive(clients_[0].initiate(), endpoint_of(0));
  tick_while([&] { return stamp() == before; });
  ASSERT_EQ(accepted(), 1u) << "it is under way";
  heartbeat_comes();
  now_ns_ += kSecondNs / 1000;
  tick_until(2);
  pass(kSecondNs);
  EXPECT_TRUE(awaits_confirmation());
}

// A client that has slept, and is sent to all the while, wakes a second before it were given up: its
// handshake has five.
TEST_F(PassedHeartbeats, DoNotShortenALaterHandshakesTime) {
  heartbeat_comes();
  pass(kSecondNs);
  heartbeat_comes();
  const uint64_t dead_ns = now_ns_ + config_.tunnel.dead_after_ns;
  while (now_ns_ + kSecondNs < dead_ns) {
    packet_is_sent();
    pass(kSecondNs);
  }
  begin_handshake();
  pass(4 * kSecondNs);
  EXPECT_EQ(aged_out(), 0u);
  pass(3 * kSecondNs);
  EXPECT_EQ(aged_out(), 1u) << "nothing has come in the new session";
}

}  // namespace
}  // namespace adit::gateway::test
