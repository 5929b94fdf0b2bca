// A tunnel moves where remotes are filtered: its sessions go along (gateway/move_sessions.cpp), each
// with its time; and it stays where there is no room for them.
#include "tests/eal/move_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

constexpr uint32_t kSlot = 1;  // whose home is worker 1
constexpr unsigned kPort = 2000;
const Endpoint kStranger{Ipv4Address::from_octets(50, 1, 1, 1), Be16::from_host(6600)};

RigOptions filtering(Filter::Settings sessions) {
  return {.filter = sessions,
          .nat = {.profiles = {nat::Profile{
                      .filtering = {nat::Filtering::address_and_port_dependent}}}}};
}

class MoveFiltered : public Moving {
 protected:
  explicit MoveFiltered(Filter::Settings sessions = {.sessions = 1024,
                                                     .sessions_per_tunnel = 512})
      : Moving(filtering(sessions)) {}

  static Endpoint remote(unsigned number) {
    return {kServer, Be16::from_host(static_cast<uint16_t>(7000 + number))};
  }
  void send_to(FarEnd& far, const Endpoint& to, uint32_t slot = kSlot, unsigned port = kPort) {
    receive_from(far, far.plain(udp_packet(internal(slot, port), to, payload_bytes(24))));
  }
  // To kService; says from where it left.
  Endpoint used(FarEnd& far) {
    sent_frames(1);
    return external_of(far, outbound(kSlot, kPort));
  }
  bool passes(const Endpoint& from, const Endpoint& external) {
    receive(1, udp_packet(from, external, payload_bytes(24)));
    return sent(0).size() == 1;
  }
  void pass_time(unsigned seconds) { now_ns_ += seconds * tunnel::kSecondNs; }
  void sweep_round() {
    for (unsigned i = 0; i < 1024; ++i) sweep();
  }
  uint32_t sessions_at(unsigned worker) const { return parts_[worker].filter->live(); }
  uint32_t counted(uint32_t slot = kSlot) const { return tunnels_->at(slot).filter_sessions; }
  // Until the owner has copied all that there was, and before anybody else hears of the move. By
  // steps.
  void copy(unsigned from, unsigned to) {
    ASSERT_TRUE(advance_moves(from)) << "is there room?";
    take_over(to, from, 1);
    ASSERT_TRUE(advance_moves(to)) << "there is";
    take_over(from, to, 1);
    for (unsigned i = 0; i < 100 && sessions_at(to) < counted(); ++i) {
      ASSERT_TRUE(advance_moves(from));
      take_over(to, from, 1);
    }
  }
};

TEST_F(MoveFiltered, SessionsGoAlongAndLeaveNothingBehind) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  constexpr unsigned kRemotes = 200;  // several buffers
  for (unsigned i = 0; i < kRemotes; ++i) send_to(far, remote(i));
  for (const unsigned to : {2u, 0u, 1u, 2u}) {
    const unsigned from = owner_of(kSlot);
    ASSERT_EQ(moved(kSlot, to), MoveRefusal::none);
    EXPECT_EQ(counted(), kRemotes + 1);
    EXPECT_EQ(sessions_at(to), kRemotes + 1);
    for (unsigned i = 0; i < kRemotes; ++i) ASSERT_TRUE(passes(remote(i), external)) << i;
    EXPECT_TRUE(passes(kService, external));
    EXPECT_FALSE(passes(kStranger, external));
    sweep_round();
    EXPECT_EQ(sessions_at(from), 0u);
    EXPECT_EQ(sessions_at(to), kRemotes + 1);
    EXPECT_EQ(counted(), kRemotes + 1);
  }
  EXPECT_EQ(drops(Fate::filtered), 4u);
  EXPECT_EQ(counters_.drops_total(), 4u);
  close(kSlot);
  sweep_round();
  for (unsigned worker = 0; worker < kWorkers; ++worker) EXPECT_EQ(sessions_at(worker), 0u);
}

TEST_F(MoveFiltered, EachSessionKeepsItsTime) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  send_to(far, remote(1));
  pass_time(100);
  const Endpoint external = used(far);
  ASSERT_EQ(moved(kSlot, 2), MoveRefusal::none);
  pass_time(200);
  renew(far, kSlot, Protection::plain);
  EXPECT_EQ(used(far), external);
  pass_time(1);
  EXPECT_TRUE(passes(kService, external));
  EXPECT_FALSE(passes(remote(1), external)) << "301 s after it was seen last";
  EXPECT_EQ(drops(Fate::filtered), 1u);
}

// The new worker's clock is behind the old one's.
TEST_F(MoveFiltered, SessionSeenInASecondThatIsStillToComeIsNotIdle) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  ASSERT_EQ(moved(kSlot, 2), MoveRefusal::none);
  now_ns_ -= tunnel::kSecondNs;
  EXPECT_TRUE(passes(kService, external));
}

TEST_F(MoveFiltered, LimitOfTheTunnelHoldsWhereItHasMoved) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  for (unsigned i = 0; i < 500; ++i) send_to(far, remote(i));
  ASSERT_EQ(moved(kSlot, 2), MoveRefusal::none);
  for (unsigned i = 500; i < 512; ++i) send_to(far, remote(i));
  EXPECT_EQ(counters_.drops_total(), 0u);
  send_to(far, remote(512));
  EXPECT_EQ(drops(Fate::session_limit), 1u);
}

// Opened, and used in another second, after the first copy has been made.
TEST_F(MoveFiltered, WhatChangesDuringTheMoveGoesAlongToo) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  for (unsigned i = 0; i < 100; ++i) send_to(far, remote(i));
  roam(far, 1);
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  pass_time(1);
  send_to(far, remote(7));
  send_to(far, remote(100));
  send_to(far, kStranger);
  now_ns_ -= tunnel::kSecondNs - kMoveNsMax / 2;
  go_on();
  ASSERT_EQ(answer_to_move(kSlot), MoveRefusal::none);
  EXPECT_EQ(counted(), 103u);
  EXPECT_TRUE(passes(remote(100), external));
  EXPECT_TRUE(passes(kStranger, external));
  pass_time(300);
  renew(far, kSlot, Protection::plain);
  EXPECT_EQ(used(far), external);
  pass_time(1);
  EXPECT_TRUE(passes(remote(7), external)) << "300 s after it was seen last";
  EXPECT_FALSE(passes(remote(8), external)) << "301 s";
}

// Idle at its old worker, and ended there, when it has been told: it ends at the new one too, and is
// counted until then.
TEST_F(MoveFiltered, WhatEndsDuringTheMoveEndsAtTheNewWorker) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  send_to(far, remote(1));
  pass_time(200);
  renew(far, kSlot, Protection::plain);
  used(far);
  roam(far, 1);
  now_ns_ += 101 * tunnel::kSecondNs - kMoveNsMax / 4;
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  now_ns_ += kMoveNsMax / 2;
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  for (unsigned i = 0; i < 1024; ++i) parts_[1].filter->sweep(now_s);
  EXPECT_EQ(counted(), 1u);
  go_on();
  ASSERT_EQ(answer_to_move(kSlot), MoveRefusal::none);
  EXPECT_EQ(counted(), 2u);
  sweep_round();
  EXPECT_EQ(counted(), 1u);
  EXPECT_EQ(sessions_at(2), 1u);
}

TEST_F(MoveFiltered, StaysWhereMoreAreOpenedMeanwhileThanThereIsRoomFor) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  roam(far, 1);
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  for (unsigned i = 0; i < 65; ++i) send_to(far, remote(i));
  go_on();
  EXPECT_EQ(answer_to_move(kSlot), MoveRefusal::sessions_full);
  EXPECT_EQ(owner_of(kSlot), 1u);
  for (unsigned i = 0; i < 65; ++i) EXPECT_TRUE(passes(remote(i), external));
  EXPECT_EQ(counted(), 66u);
  sweep_round();
  EXPECT_EQ(sessions_at(2), 0u) << "what came ahead of it";
  EXPECT_EQ(counted(), 66u);
  EXPECT_EQ(moved(kSlot, 2), MoveRefusal::none) << "the room is there again";
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(MoveFiltered, WorkerThatStandsStillIsNotWaitedFor) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  stand_still(2);
  move(kSlot, 2);
  EXPECT_EQ(answer_to_move(kSlot), std::nullopt);
  EXPECT_TRUE(passes(kService, external)) << "nobody has to wait yet";
  now_ns_ += kMoveNsMax + 1;
  sweep();
  EXPECT_EQ(answer_to_move(kSlot), MoveRefusal::late);
  go_on();
  EXPECT_FALSE(parts_[2].filter->is_expecting());
  EXPECT_EQ(moved(kSlot, 2), MoveRefusal::none);
  EXPECT_TRUE(passes(kService, external));
}

// An overloaded worker comes round seldom: that it copies for long is no reason for it to stay so.
TEST_F(MoveFiltered, CopyingMayTakeLongerThanAnAnswer) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  for (unsigned i = 0; i < 100; ++i) send_to(far, remote(i));
  roam(far, 1);
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  now_ns_ += kMoveNsMax + 1;
  go_on();
  ASSERT_EQ(answer_to_move(kSlot), MoveRefusal::none);
  for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(passes(remote(i), external)) << i;
}

TEST_F(MoveFiltered, CopyingThatDoesNotEndIsGivenUp) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  roam(far, 1);
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  now_ns_ += kCopyNsMax + 1;
  go_on();
  EXPECT_EQ(answer_to_move(kSlot), MoveRefusal::late);
  EXPECT_EQ(owner_of(kSlot), 1u);
  EXPECT_TRUE(passes(kService, external));
}

// What ended at the other worker is not found again at the first one, and what is opened anew there
// is the tunnel's like any other. Without a sweep, so that all that was left behind is there.
TEST_F(MoveFiltered, NothingLeftBehindComesToLifeWhenTheTunnelReturns) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  send_to(far, remote(1));
  ASSERT_EQ(moved(kSlot, 2), MoveRefusal::none);
  pass_time(150);
  const Endpoint external = used(far);
  pass_time(151);
  renew(far, kSlot, Protection::plain);
  EXPECT_EQ(used(far), external);
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  for (unsigned i = 0; i < 1024; ++i) parts_[2].filter->sweep(now_s);
  EXPECT_EQ(counted(), 1u);
  ASSERT_EQ(moved(kSlot, 1), MoveRefusal::none);
  EXPECT_FALSE(passes(remote(1), external));
  send_to(far, remote(1));
  EXPECT_TRUE(passes(remote(1), external));
  EXPECT_EQ(counted(), 2u);
  ASSERT_EQ(moved(kSlot, 0), MoveRefusal::none);
  EXPECT_TRUE(passes(remote(1), external)) << "it is one of the tunnel's";
  EXPECT_EQ(counted(), 2u);
}

// ---- No room ----

class MoveFilteredFewSessions : public MoveFiltered {
 protected:
  MoveFilteredFewSessions()
      : MoveFiltered({.sessions = kRigSessions, .sessions_per_tunnel = kRigSessionsPerTunnel}) {}
};

TEST_F(MoveFilteredFewSessions, StaysWhereTheOtherHasNoRoomAndGoesWhenThereIs) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  const Endpoint external = used(far);
  for (const uint32_t slot : {2u, 5u, 8u}) {
    FarEnd other = open_tunnel(slot, Protection::plain);
    for (unsigned i = 0; i < 3; ++i) send_to(other, remote(i), slot);
  }
  ASSERT_EQ(sessions_at(2), 9u);
  EXPECT_EQ(moved(kSlot, 2), MoveRefusal::sessions_full);
  EXPECT_EQ(owner_of(kSlot), 1u);
  EXPECT_TRUE(passes(kService, external));
  close(2);
  sweep_round();
  ASSERT_EQ(moved(kSlot, 2), MoveRefusal::none);
  EXPECT_TRUE(passes(kService, external));
  EXPECT_EQ(sessions_at(2), 7u);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// The room that is kept for a tunnel nobody else may take; then it is free again.
TEST_F(MoveFilteredFewSessions, RoomIsKeptUntilItHasCome) {
  FarEnd far = open_tunnel(kSlot, Protection::plain);
  used(far);
  FarEnd first = open_tunnel(2, Protection::plain);
  FarEnd second = open_tunnel(5, Protection::plain);
  for (unsigned i = 0; i < 3; ++i) send_to(first, remote(i), 2);
  send_to(second, remote(0), 5);
  roam(first, 2);
  roam(second, 2);
  go_by_steps();
  move(kSlot, 2);
  copy(1, 2);
  send_to(first, remote(3), 2);
  send_to(second, remote(1), 5);
  EXPECT_EQ(counters_.drops_total(), 0u);
  send_to(second, remote(2), 5);
  EXPECT_EQ(drops(Fate::session_table_full), 1u) << "six of ten, and four are kept";
  go_on();
  ASSERT_EQ(answer_to_move(kSlot), MoveRefusal::none);
  send_to(second, remote(2), 5);
  EXPECT_EQ(drops(Fate::session_table_full), 1u);
}

}  // namespace
}  // namespace adit::gateway::test
