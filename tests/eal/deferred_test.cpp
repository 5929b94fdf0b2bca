// What there is to say of a tunnel that is being moved is said when it is known to whom, and nothing
// overtakes it.
#include <algorithm>

#include "tests/eal/control_rig.h"

namespace adit::gateway::test {
namespace {

using Kinds = std::vector<ToWorker::Kind>;

// Two workers. Client 0's tunnel is the first one's, and is moved to the second.
class Deferred : public ControlRig {
 protected:
  static constexpr unsigned kFrom = 0;
  static constexpr unsigned kTo = 1;

  Deferred() {
    config_.pools[0].tunnel_to_tunnel = true;  // so that the others hear of each tunnel
    start(1, 2);
    slot_ = connect(0, kFrom);
  }

  // Its handshake comes in at a worker; its tunnel's slot, where it is told of one.
  uint32_t connect(unsigned client, unsigned worker) {
    const uint64_t before = accepted();
    now_ns_ += tunnel::kSecondNs;
    receive(clients_[client].initiate(), endpoint_of(client), worker);
    tick_until(before + 1);
    return told().empty() ? 0 : told().back().message.slot;
  }
  void begin_move() {
    ASSERT_EQ(control_->move_tunnel(slot_, kTo), nullptr);
    tick();
    const Told asked = told().back();
    ASSERT_EQ(asked.message.kind, ToWorker::move_tunnel);
    ASSERT_EQ(asked.worker, kFrom);
    number_ = asked.message.move_number;
    said_before_ = told().size();
  }
  // The worker has an answer for the control thread.
  void end_move(MoveRefusal refusal) {
    TunnelReport& report = tunnels_->report(slot_);
    report.move_refusal.store(static_cast<uint8_t>(refusal));
    report.move_answered.store(number_, std::memory_order_release);
    tick();
  }
  void let_tunnels_die() {
    now_ns_ += config_.tunnel.dead_after_ns;
    tick();
    ASSERT_EQ(control_->open_tunnels(), 0u);
  }
  // What the workers have been told since the move began.
  std::vector<Told> said() const {
    return {told().begin() + static_cast<std::ptrdiff_t>(said_before_), told().end()};
  }
  Kinds said_to(unsigned worker) const {
    Kinds kinds;
    for (const Told& told : said()) {
      if (told.worker == worker) kinds.push_back(told.message.kind);
    }
    return kinds;
  }

  uint32_t slot_ = 0;

 private:
  uint32_t number_ = 0;
  size_t said_before_ = 0;
};

TEST_F(Deferred, SessionOfATunnelThatIsBeingMovedGoesToItsNewWorker) {
  begin_move();
  connect(0, kTo);
  EXPECT_TRUE(said().empty());
  end_move(MoveRefusal::none);
  EXPECT_EQ(control_->owner_of(slot_), kTo);
  EXPECT_EQ(said_to(kFrom), Kinds{});
  ASSERT_EQ(said_to(kTo), Kinds{ToWorker::install_session});
  EXPECT_TRUE(session_of(clients_[0], said()[0])) << "its answer with it";
  EXPECT_EQ(said()[0].message.slot, slot_);
}

TEST_F(Deferred, SessionOfATunnelThatStaysGoesToItsWorker) {
  begin_move();
  connect(0, kTo);
  EXPECT_TRUE(said().empty());
  end_move(MoveRefusal::ports_stay);
  EXPECT_EQ(control_->owner_of(slot_), kFrom);
  EXPECT_EQ(said_to(kFrom), Kinds{ToWorker::install_session});
  EXPECT_EQ(said_to(kTo), Kinds{});
}

// Other tunnels' messages go their way, until one waits that they must not overtake.
TEST_F(Deferred, OthersWaitBehindWhatWaits) {
  const uint32_t other = connect(1, kTo);
  ASSERT_NE(other, slot_);
  begin_move();
  connect(1, kTo);
  EXPECT_EQ(said_to(kTo), Kinds{ToWorker::install_session});
  connect(0, kTo);
  connect(1, kTo);
  EXPECT_EQ(said().size(), 1u);
  end_move(MoveRefusal::none);
  const std::vector<Told> all = said();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1].message.slot, slot_);
  EXPECT_EQ(all[2].message.slot, other);
  connect(0, kTo);
  EXPECT_EQ(said().size(), 4u) << "nothing waits any more";
}

// It ends amid the move, and somebody else is given its slot.
TEST_F(Deferred, NextTunnelInTheSlotIsOpenedBehindTheLastOnesEnd) {
  begin_move();
  let_tunnels_die();
  connect(1, kFrom);
  EXPECT_TRUE(said().empty());
  end_move(MoveRefusal::none);
  EXPECT_EQ(said_to(kTo), (Kinds{ToWorker::drop_sessions, ToWorker::close_tunnel,
                                 ToWorker::open_tunnel, ToWorker::install_session}));
  EXPECT_EQ(said_to(kFrom), (Kinds{ToWorker::close_elsewhere, ToWorker::open_elsewhere}))
      << "it is one of the others now";
  for (const Told& told : said()) EXPECT_EQ(told.message.slot, slot_);
}

TEST_F(Deferred, SlotOfATunnelThatEndsAmidItsMoveIsItsNewWorkers) {
  begin_move();
  let_tunnels_die();
  end_move(MoveRefusal::none);
  EXPECT_EQ(connect(1, kTo), slot_);
  EXPECT_EQ(told().back().worker, kTo);
}

TEST_F(Deferred, WhatWaitsWhenItEndsIsFreed) {
  begin_move();
  connect(0, kTo);
  EXPECT_EQ(buffers_in_use(), 1u);
  stop();
  EXPECT_EQ(buffers_in_use(), 0u);
}

}  // namespace
}  // namespace adit::gateway::test
