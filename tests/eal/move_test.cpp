// A tunnel is moved to another worker (gateway/move.cpp): what stays as it was, where it may not
// go, and what becomes of its blocks. That nothing is lost or overtaken, move_order_test.cpp shows.
#include "tests/eal/move_rig.h"
#include "tests/support/fragments.h"

namespace adit::gateway::test {
namespace {

using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::udp_packet;

class Move : public Moving {
 protected:
  using Moving::Moving;
};

TEST_F(Move, KeepsEveryMappingAndServesBothWays) {
  for (const uint32_t slot : {1u, 2u}) {
    FarEnd far = open_tunnel(slot, slot == 1 ? Protection::plain : Protection::aes_256_gcm);
    const unsigned home = tunnels_->home(slot);
    const unsigned to = (home + 1) % kWorkers;
    const auto seal = [&](const Bytes& inner) {
      return slot == 1 ? far.plain(inner) : far.seal(inner);
    };
    // Enough for a second block.
    constexpr unsigned kMappings = 100;
    std::vector<Endpoint> externals;
    for (unsigned i = 0; i < kMappings; ++i) {
      externals.push_back(external_of(far, outbound(slot, 2000 + i)));
      ASSERT_EQ(slice_of(externals.back()), home);
    }
    roam(far, to);
    const nat::Nat::Counts before = nat_counts();
    ASSERT_EQ(live_at(home), kMappings);
    ASSERT_EQ(moved(slot, to), MoveRefusal::none);

    EXPECT_EQ(live_at(home), 0u);
    EXPECT_EQ(live_at(to), kMappings);
    EXPECT_EQ(blocks_of(home), 0u);
    const nat::Nat::Counts after = nat_counts();
    EXPECT_EQ(after.mappings_resting, before.mappings_resting);
    EXPECT_EQ(after.blocks_granted, before.blocks_granted);
    EXPECT_EQ(after.spilled, before.spilled);
    const uint64_t handed = counters_.handed_over;
    for (unsigned i = 0; i < kMappings; ++i) {
      receive_from(far, seal(outbound(slot, 2000 + i)));
      EXPECT_EQ(sent_one(1), udp_packet(externals[i], kService, payload_bytes(24, 1), {.ttl = 63}));
    }
    EXPECT_EQ(counters_.handed_over - handed, 0u) << "what comes to its worker stays there";
    for (unsigned i = 0; i < kMappings; ++i) expect_reply(far, slot, 2000 + i, externals[i]);
    EXPECT_EQ(counters_.handed_over - handed, kMappings) << "the card knows of no moves";
    EXPECT_EQ(nat_counts().mappings_created, before.mappings_created);

    // New ports are the new worker's, on the same address.
    for (unsigned port = 3000; blocks_of(to) == after.blocks_granted; ++port) {
      const Endpoint external = external_of(far, outbound(slot, port));
      EXPECT_EQ(external.address, externals[0].address);
      if (blocks_of(to) == after.blocks_granted) continue;
      EXPECT_EQ(slice_of(external), to);
      const uint64_t handed_before = counters_.handed_over;
      expect_reply(far, slot, port, external);
      EXPECT_EQ(counters_.handed_over, handed_before);
    }
    close(slot);
    now_ns_ += 300 * tunnel::kSecondNs;
    for (unsigned i = 0; i < 20'000; ++i) sweep();
    EXPECT_EQ(nat_counts().blocks_granted, 0u);
    EXPECT_EQ(granted_entries(), 0u);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
  EXPECT_EQ(counters_.tunnels_adopted, 2u);
}

// To each worker in turn, and home again: its blocks' own worker among them.
TEST_F(Move, GoesRoundAndHome) {
  FarEnd far = open_tunnel(1, Protection::plain);
  std::vector<std::pair<unsigned, Endpoint>> known;
  for (unsigned round = 0; round < 7; ++round) {
    const unsigned to = (tunnels_->home(1) + round) % kWorkers;
    if (round != 0) {
      ASSERT_EQ(moved(1, to), MoveRefusal::none);
    }
    for (unsigned i = 0; i < 30; ++i) {
      const unsigned port = 2000 + 100 * round + i;
      known.emplace_back(port, external_of(far, outbound(1, port)));
    }
    for (const auto& [port, external] : known) {
      EXPECT_EQ(external_of(far, outbound(1, port)), external);
      expect_reply(far, 1, port, external);
    }
    EXPECT_EQ(live_at(to), known.size());
    EXPECT_EQ(nat_counts().mappings_live, known.size());
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// The message of a handshake, of its end, and what a slot's next tunnel is.
TEST_F(Move, MessagesAndItsSuccessorGoToTheNewWorker) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  external_of(far, outbound(1, 2000));
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  install(1, make_session(1, Protection::aes_256_gcm, 2));
  FarEnd renewed(make_session(1, Protection::aes_256_gcm, 2), 1440);
  renewed.outer = far.outer;
  sent_frames(0);
  receive_from(renewed, renewed.seal({}));
  EXPECT_EQ(counters_.sessions_confirmed, 2u);
  external_of(renewed, outbound(1, 2000));
  FarEnd next = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(next, outbound(1, 2000));
  EXPECT_EQ(slice_of(external), 2u);
  expect_reply(next, 1, 2000, external);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Move, RefusedWhereThereIsNoSuchTunnel) {
  EXPECT_EQ(moved(1, 2), MoveRefusal::gone);
  FarEnd far = open_tunnel(1, Protection::plain);
  EXPECT_EQ(moved(1, 2), MoveRefusal::none);
  EXPECT_EQ(owner_of(1), 2u);
}

TEST_F(Move, EndsWithItsTunnel) {
  FarEnd far = open_tunnel(1, Protection::plain);
  external_of(far, outbound(1, 2000));
  stand_still(0);
  move(1, 2);
  EXPECT_EQ(answer_to_move(1), std::nullopt);
  close(1);
  EXPECT_EQ(answer_to_move(1), MoveRefusal::gone);
  go_on();
  FarEnd next = open_tunnel(1, Protection::plain);
  expect_reply(next, 1, 2000, external_of(next, outbound(1, 2000)));
}

// What has to wait waits no longer than that, and others do not wait at all.
TEST_F(Move, WorkerThatStandsStillEndsIt) {
  FarEnd far = open_tunnel(1, Protection::plain);
  FarEnd other = open_tunnel(2, Protection::plain);
  const Endpoint external = external_of(far, outbound(1, 2000));
  roam(far, 2);
  roam(other, 2);
  stand_still(0);
  move(1, 2);
  EXPECT_EQ(answer_to_move(1), std::nullopt);
  receive_from(far, far.plain(outbound(1, 2000)));
  EXPECT_TRUE(sent_frames(1).empty()) << "held";
  receive_from(other, other.plain(outbound(2, 2000)));
  EXPECT_EQ(sent_frames(1).size(), 1u);
  expect_reply(far, 1, 2000, external);
  now_ns_ += kMoveNsMax + 1;
  sweep();
  EXPECT_EQ(answer_to_move(1), MoveRefusal::late);
  EXPECT_EQ(sent_one(1), udp_packet(external, kService, payload_bytes(24, 1), {.ttl = 63}));
  EXPECT_EQ(external_of(far, outbound(1, 2000)), external);
  go_on();  // its answer, which nobody wants any more
  EXPECT_EQ(external_of(far, outbound(1, 2000)), external);
  EXPECT_EQ(live_at(1), 1u);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  EXPECT_EQ(external_of(far, outbound(1, 2000)), external);
  expect_reply(far, 1, 2000, external);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Move, WhatCannotBeHeldIsDroppedByName) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, outbound(1, 2000));
  roam(far, 2);
  stand_still(0);
  move(1, 2);
  constexpr unsigned kTooMany = 10;
  for (unsigned i = 0; i < kHeldForMoveMax + kTooMany; ++i) {
    receive_from(far, far.plain(outbound(1, 2000, static_cast<uint8_t>(i))));
  }
  EXPECT_EQ(drops(Fate::move_hold_full), kTooMany);
  EXPECT_TRUE(sent_frames(1).empty());
  go_on();
  EXPECT_EQ(answer_to_move(1), MoveRefusal::none);
  const std::vector<Bytes> out = sent(1);
  ASSERT_EQ(out.size(), kHeldForMoveMax);
  for (unsigned i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i], udp_packet(external, kService, payload_bytes(24, static_cast<uint8_t>(i)),
                                 {.ttl = 63}));
  }
  EXPECT_EQ(counters_.drops_total(), kTooMany);
}

// ---- Blocks ----

// The worker of slots 1, 4, 7 has two blocks to grant.
class MoveFewPorts : public Moving {
 protected:
  MoveFewPorts()
      : Moving({.nat = {.first_port = 896, .last_port = 1535,
                        .profiles = {nat::Profile{.limits = {.blocks = 1}}}}}) {}
  void age(unsigned seconds) {
    for (unsigned i = 0; i < seconds; ++i) {
      now_ns_ += tunnel::kSecondNs;
      for (unsigned j = 0; j < 10; ++j) sweep();
    }
  }
  void expect_no_room(FarEnd& far, uint32_t slot) {
    const uint64_t before = drops(Fate::pool_exhausted);
    receive_from(far, far.plain(outbound(slot, 2000)));
    EXPECT_EQ(drops(Fate::pool_exhausted), before + 1);
    sent_frames(0);
  }
};

TEST_F(MoveFewPorts, IdleMappingsAgeAtTheNewWorkerAndTheBlockGoesHome) {
  FarEnd first = open_tunnel(1, Protection::plain);
  FarEnd second = open_tunnel(4, Protection::plain);
  FarEnd third = open_tunnel(7, Protection::plain);
  const Endpoint external = external_of(first, outbound(1, 2000));
  external_of(second, outbound(4, 2000));
  expect_no_room(third, 7);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  expect_no_room(third, 7);

  age(150);
  expect_reply(first, 1, 2000, external);
  age(300);
  EXPECT_EQ(live_at(2), 1u) << "the timer is UDP's, five minutes from the last use on";
  age(2);
  EXPECT_EQ(live_at(2), 0u);
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
  age(125);
  EXPECT_EQ(blocks_of(1) + blocks_of(2), 0u);

  // Both are there for others again.
  renew(first, 1, Protection::plain);
  renew(second, 4, Protection::plain);
  renew(third, 7, Protection::plain);
  const Endpoint again = external_of(third, outbound(7, 2000));
  EXPECT_EQ(slice_of(again), 1u);
  EXPECT_EQ(slice_of(external_of(second, outbound(4, 2000))), 1u);
  EXPECT_EQ(slice_of(external_of(first, outbound(1, 2000))), 2u);
  expect_reply(third, 7, 2000, again);
}

TEST_F(MoveFewPorts, BlockOfAClosedTunnelRestsAtHome) {
  FarEnd first = open_tunnel(1, Protection::plain);
  FarEnd second = open_tunnel(4, Protection::plain);
  FarEnd third = open_tunnel(7, Protection::plain);
  const Endpoint external = external_of(first, outbound(1, 2000));
  external_of(second, outbound(4, 2000));
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  close(1);
  EXPECT_EQ(live_at(2), 0u);
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
  // The slot's next tunnel stays where the old one was, until that one's block has gone home.
  FarEnd next = open_tunnel(1, Protection::plain);
  EXPECT_EQ(moved(1, 0), MoveRefusal::busy);
  age(1);
  EXPECT_EQ(blocks_of(2), 0u);
  EXPECT_EQ(blocks_of(1), 2u);
  expect_no_room(third, 7);
  EXPECT_EQ(moved(1, 0), MoveRefusal::none);
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  EXPECT_EQ(drops(Fate::no_mapping), 2u);
  age(125);
  external_of(third, outbound(7, 2000));
  EXPECT_EQ(nat_counts().mappings_resting, 0u);
}

// Nothing of the move is left in its worker's view once it is back and has gone.
TEST_F(MoveFewPorts, PortsThatCameHomeWithTheirTunnelAreLikeAnyOthers) {
  FarEnd first = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(first, outbound(1, 2000));
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  ASSERT_EQ(moved(1, 1), MoveRefusal::none);
  const uint64_t handed = counters_.handed_over;
  expect_reply(first, 1, 2000, external);
  EXPECT_EQ(counters_.handed_over, handed);
  close(1);
  age(125);
  FarEnd next = open_tunnel(1, Protection::plain);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  for (const uint32_t slot : {4u, 7u}) {  // they have all ports that there are
    FarEnd far = open_tunnel(slot, Protection::plain);
    const Endpoint theirs = external_of(far, outbound(slot, 2000));
    go_by_steps();
    receive(1, udp_packet(kService, theirs, payload_bytes(24, 2)));
    ASSERT_FALSE(take_over(2, 1, kBurstMax));
    EXPECT_EQ(sent_frames(0).size(), 1u);
    go_on();
  }
}

// A packet is on its way to the worker that has just sent the block home: it goes back, behind it.
TEST_F(MoveFewPorts, PacketForABlockThatGoesHomeGoesBackBehindIt) {
  FarEnd first = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(first, outbound(1, 2000));
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  age(303);
  now_ns_ += 130 * tunnel::kSecondNs;
  go_by_steps();
  for (unsigned i = 0; i < 5000 && blocks_of(2) != 0; ++i) sweep();
  EXPECT_EQ(blocks_of(2), 0u);
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  EXPECT_TRUE(take_over(2, 1, kBurstMax)) << "the packet";
  EXPECT_TRUE(take_over(1, 2, 1)) << "the block";
  EXPECT_EQ(drops(Fate::no_mapping), 0u);
  EXPECT_TRUE(take_over(1, 2, 1));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
  go_on();
}

// ---- What does not move ----

class MoveLowPorts : public Moving {
 protected:
  MoveLowPorts() : Moving({.nat = {.low_ports = 512, .first_low_port = 512}}) {}
};

TEST_F(MoveLowPorts, TunnelWithLowPortsStays) {
  FarEnd far = open_tunnel(1, Protection::plain);
  external_of(far, outbound(1, 500));
  EXPECT_EQ(moved(1, 2), MoveRefusal::ports_stay);
  FarEnd other = open_tunnel(2, Protection::plain);
  external_of(other, outbound(2, 5000));
  EXPECT_EQ(moved(2, 1), MoveRefusal::none);
}

// ---- What else a worker keeps ----

TEST_F(Move, WaitsForFragmentsThatAreOnTheirWay) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, outbound(1, 2000));
  const Bytes out = udp_packet(internal(1, 2000), kService, payload_bytes(500), {.fragment = 0});
  const std::vector<Bytes> pieces = adit::test::pieces_of(out, 400);
  receive_from(far, far.plain(pieces[0]));
  move(1, 2);
  EXPECT_EQ(answer_to_move(1), std::nullopt);
  receive_from(far, far.plain(pieces[1]));
  EXPECT_EQ(answer_to_move(1), MoveRefusal::none);
  EXPECT_EQ(sent_frames(1).size(), 2u);

  // From outside, in any order, to a port in the old worker's slice.
  const Bytes in = udp_packet(kService, external, payload_bytes(500), {.fragment = 0});
  const Bytes wanted =
      udp_packet(kService, internal(1, 2000), payload_bytes(500), {.ttl = 63, .fragment = 0});
  for (const bool is_first_late : {false, true}) {
    const uint16_t id = is_first_late ? 8 : 7;
    std::vector<Bytes> parts = adit::test::pieces_of(adit::test::with_id(in, id), 400);
    if (is_first_late) std::swap(parts[0], parts[1]);
    for (const Bytes& part : parts) receive(1, part);
    std::vector<Bytes> got;
    for (const Bytes& packet : sent(0)) {
      got.push_back(far.open(Bytes(packet.begin() + 28, packet.end())).value_or(Bytes{}));
    }
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got, adit::test::pieces_of(adit::test::with_id(wanted, id), 400));
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// A first fragment that has to wait for the move, and the others that wait for it.
TEST_F(Move, FragmentsFollowAFirstThatWasHeld) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, outbound(1, 2000));
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  stand_still(0);
  move(1, 0);
  const Bytes in = udp_packet(kService, external, payload_bytes(500), {.fragment = 0});
  constexpr uint16_t kDatagrams = 8;  // which meet at different workers
  for (uint16_t id = 1; id <= kDatagrams; ++id) {
    for (const Bytes& part : adit::test::pieces_of(adit::test::with_id(in, id), 400)) {
      receive(1, part);
    }
  }
  // Some meet at the owner itself.
  const size_t before = sent_frames(0).size();
  EXPECT_LT(before, 2u * kDatagrams);
  go_on();
  EXPECT_EQ(answer_to_move(1), MoveRefusal::none);
  EXPECT_EQ(before + sent_frames(0).size(), 2u * kDatagrams);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Move, PortlessMappingsStayWhoseverTunnelItIs) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  external_of(far, outbound(1, 2000));
  const Bytes body = payload_bytes(40);
  for (const unsigned worker : {1u, 2u, 0u, 1u}) {
    if (worker != owner_of(1)) {
      ASSERT_EQ(moved(1, worker), MoveRefusal::none);
    }
    for (const uint8_t protocol : {kIpEsp, kIpGre, IpProtocol{253}}) {
      receive_from(far, far.seal(ipv4_packet(kInner, kServer, protocol, body)));
      EXPECT_EQ(sent_one(1), ipv4_packet(kPublic, kServer, protocol, body, {.ttl = 63}));
      receive(1, ipv4_packet(kServer, kPublic, protocol, body));
      EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
                ipv4_packet(kServer, kInner, protocol, body, {.ttl = 63}));
    }
  }
  EXPECT_EQ(portless_live(), 3u);
}

class MoveAmongOthers : public Moving {
 protected:
  static inline const Endpoint kForward{kPublic, Be16::from_host(5000)};
  MoveAmongOthers()
      : Moving({.tunnel_to_tunnel = true,
                .forwards = {{nat::Protocol::udp, kForward, internal(1, 9)}}}) {}
  void extend_open(ToWorker& open) override { open.forward_count = open.slot == 1; }
};

TEST_F(MoveAmongOthers, IsReachedByOtherTunnelsAndByItsForward) {
  FarEnd far = open_tunnel(1, Protection::plain);
  FarEnd other = open_tunnel(2, Protection::aes_256_gcm);
  roam(other, tunnels_->home(2));
  const Bytes across = udp_packet(internal(2, 7), internal(1, 9), payload_bytes(30));
  const Bytes wanted = udp_packet(internal(2, 7), internal(1, 9), payload_bytes(30), {.ttl = 63});
  size_t sent_before = 0;
  for (const unsigned worker : {1u, 2u, 0u, 1u}) {
    if (worker != owner_of(1)) {
      const unsigned from = owner_of(1);
      go_by_steps();
      move(1, worker);
      const auto receive_both = [&] {
        receive_from(other, other.seal(across));
        receive(1, udp_packet(kService, kForward, payload_bytes(24, 3)));
      };
      receive_both();  // on their way to the old worker
      advance_moves(from);
      for (unsigned to = 0; to < kWorkers; ++to) {
        take_over(to, from, kBurstMax);
        if (to != from) advance_moves(to);
      }
      sent_before = sent_frames(0).size();
      receive_both();  // held, unless they come in at the old worker
      const uint64_t handed = counters_.handed_over;
      go_on();
      if (from != owner_of(2) && worker != owner_of(2)) {
        EXPECT_EQ(counters_.handed_over, handed + 1) << "the third worker hands on what it held";
      }
      ASSERT_EQ(answer_to_move(1), MoveRefusal::none);
      EXPECT_EQ(sent_before + sent_frames(0).size(), 4u);
    }
    receive_from(other, other.seal(across));
    EXPECT_EQ(far.open(sent_to_tunnel(far.outer)), wanted);
    expect_reply(far, 1, 9, kForward);
    EXPECT_EQ(external_of(far, outbound(1, 9)), kForward);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

}  // namespace
}  // namespace adit::gateway::test
