// What is under way for a tunnel, or held, while it moves to another worker, or closes; and what two
// workers make of it whose clocks differ.
#include "tests/eal/move_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

constexpr unsigned kPort = 2000;
const TcpOptions kSyn{.flags = kTcpSyn};

class MoveMeanwhile : public Moving {
 protected:
  using Moving::Moving;
  // Its slot has another tunnel, whose messages have come to everybody before anything that workers
  // have for each other.
  void give_slot_to_another(uint32_t slot) {
    close(slot);
    ToWorker open;
    open.kind = ToWorker::open_tunnel;
    open.slot = slot;
    open.epoch = slot + 100;
    open.subscriber = 9;
    open.mtu_bytes = 1440;
    open.router = kRouter;
    open.address = inner_address(slot);
    tell(open);
    install(slot, make_session(slot, Protection::plain, 2));
    sent_frames(0);
  }
};

// ---- A SYN that nobody asked for ----

class MoveWithHeldSyn : public MoveMeanwhile {
 protected:
  // A mapping of tunnel 1 that has ended, so that a SYN finds none, and its own endpoint gets it
  // back; and the SYN, which its worker holds.
  void hold_syn() {
    far_ = open_tunnel(1, Protection::plain);
    external_ = external_of(*far_, tcp_packet(internal(1, kPort), kService, {}, kSyn));
    now_ns_ += 300 * tunnel::kSecondNs;
    renew(*far_, 1, Protection::plain);
    syn_ = tcp_packet(kService, external_, {}, kSyn);
    receive(1, syn_);
    ASSERT_EQ(drops(Fate::unsolicited_syn), 1u);
  }
  void pass_six_seconds() {
    now_ns_ += HeldSyns::kHoldNs;
    sweep();
  }

  std::optional<FarEnd> far_;
  Endpoint external_;
  Bytes syn_;
};

TEST_F(MoveWithHeldSyn, IsNotAnsweredWhenTheInnerHostHasConnectedByTheNewWorker) {
  hold_syn();
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  ASSERT_EQ(external_of(*far_, tcp_packet(internal(1, kPort), kService, {}, kSyn)), external_);
  pass_six_seconds();
  EXPECT_TRUE(sent_frames(1).empty()) << "an answer would have killed the connection";
}

TEST_F(MoveWithHeldSyn, IsAnsweredWhereTheTunnelHasStayed) {
  hold_syn();
  pass_six_seconds();
  EXPECT_EQ(sent_one(1), icmp_packet(kPublic, kServer, 3, 3, 0, syn_, kErrorHeader));
}

// ---- Held packets ----

// While some of as many as can be held go on, as many more may come.
TEST_F(MoveMeanwhile, WhatHasGoneOnMakesRoomForMore) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, outbound(1, kPort));
  roam(far, 2);
  stand_still(0);
  move(1, 2);
  unsigned count = 0;
  const auto receive_one = [&] {
    receive_from(far, far.plain(outbound(1, kPort, static_cast<uint8_t>(count++))));
  };
  while (count < kHeldForMoveMax) receive_one();
  go_by_steps();
  take_over(0, 1, 1);
  advance_moves(0);  // the mark
  take_over(1, 0, 1);
  advance_moves(1);  // it lets go
  take_over(2, 1, 1);
  advance_moves(2);  // the first ones of those held
  const size_t first = sent_frames(1).size();
  ASSERT_GT(first, 0u);
  ASSERT_LT(first, kHeldForMoveMax);
  for (size_t i = 0; i < first; ++i) receive_one();
  EXPECT_EQ(drops(Fate::move_hold_full), 0u);
  go_on();
  const std::vector<Bytes> rest = sent(1);
  ASSERT_EQ(first + rest.size(), count);
  for (size_t i = 0; i < rest.size(); ++i) {
    ASSERT_EQ(rest[i], udp_packet(external, kService,
                                  payload_bytes(24, static_cast<uint8_t>(first + i)), {.ttl = 63}));
  }
}

// ---- Packets handed over for a tunnel that goes meanwhile ----

class MoveAmongNeighbours : public MoveMeanwhile {
 protected:
  MoveAmongNeighbours() : MoveMeanwhile({.tunnel_to_tunnel = true}) {}
};

TEST_F(MoveAmongNeighbours, PacketOfOneClientToAnotherIsNotForTheSlotsNextTunnel) {
  open_tunnel(1, Protection::plain);
  FarEnd other = open_tunnel(2, Protection::plain);
  roam(other, 2);
  go_by_steps();
  receive_from(other, other.plain(udp_packet(internal(2, 7), internal(1, 9), payload_bytes(30))));
  give_slot_to_another(1);
  go_on();
  EXPECT_EQ(drops(Fate::stale_tunnel), 1u);
  EXPECT_EQ(counters_.drops_total(), 1u);
}

TEST_F(MoveMeanwhile, PortlessReplyIsNotForTheSlotsNextTunnel) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Bytes body = payload_bytes(40);
  uint8_t protocol = 200;  // whose mappings are kept by another worker than the tunnel's
  while ((kPublic.host() + protocol) % kWorkers == tunnels_->home(1)) ++protocol;
  receive_from(far, far.plain(ipv4_packet(kInner, kServer, protocol, body)));
  EXPECT_EQ(sent_frames(1).size(), 1u);
  const unsigned keeper = (kPublic.host() + protocol) % kWorkers;
  go_by_steps();
  receive(1, ipv4_packet(kServer, kPublic, protocol, body));
  for (unsigned worker = 0; worker < kWorkers; ++worker) take_over(keeper, worker, kBurstMax);
  give_slot_to_another(1);
  go_on();
  EXPECT_EQ(drops(Fate::stale_tunnel), 1u);
  EXPECT_EQ(counters_.drops_total(), 1u);
}

// ---- Clocks ----

class MoveLimited : public MoveMeanwhile {
 protected:
  MoveLimited()
      : MoveMeanwhile({.limit_window_s = 60,
                       .nat = {.profiles = {nat::Profile{.limits = {.mappings = 1}}}}}) {}
  size_t limits_told() {
    size_t told = 0;
    for (const ToControl& item : handed_out()) told += item.kind == ToControl::limit_met;
    return told;
  }
};

// The new worker is a second behind: the limit has been met in time to come, and so within the
// window.
TEST_F(MoveLimited, LimitMetIsToldOnceAWindowThoughTheNewWorkersClockIsBehind) {
  FarEnd far = open_tunnel(1, Protection::plain);
  external_of(far, outbound(1, kPort));
  receive_from(far, far.plain(outbound(1, kPort + 1)));
  EXPECT_EQ(limits_told(), 1u);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  now_ns_ -= tunnel::kSecondNs;
  receive_from(far, far.plain(outbound(1, kPort + 1)));
  EXPECT_EQ(limits_told(), 0u);
  now_ns_ += 61 * tunnel::kSecondNs;
  receive_from(far, far.plain(outbound(1, kPort + 1)));
  EXPECT_EQ(limits_told(), 1u);
  EXPECT_EQ(drops(Fate::mapping_limit), 3u);
}

}  // namespace
}  // namespace adit::gateway::test
