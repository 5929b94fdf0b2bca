// Several workers, fed by a network card in software with the key and the tables that the gateway
// programs. Which packets are handed over, that a flow keeps its order, and what a worker that
// stands still does to the others. What a packet looks like that goes this way, the conformance
// matrix says, which passes with any number of workers (ADIT_WORKERS).
#include <rte_mbuf.h>

#include <set>

#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr unsigned kWorkers = 3;

class Workers : public Rig {
 protected:
  explicit Workers(RigOptions options = {.two_ports = true}) : Rig(with_workers(options)) {}
  static RigOptions with_workers(RigOptions options) {
    options.workers = kWorkers;
    return options;
  }

  // The outer port whose packets the card brings to the tunnel's own worker, or to another one.
  void place(FarEnd& far, uint32_t slot, bool at_its_own) {
    for (unsigned port = 21000;; ++port) {
      far.outer.port = Be16::from_host(static_cast<uint16_t>(port));
      const bool is_own = queue_of(0, udp_packet(far.outer, kTunnelEndpoint, payload_bytes(20))) ==
                          tunnels_->home(slot);
      if (is_own == at_its_own) return;
    }
  }
  Bytes inner_packet(uint32_t slot, unsigned source_port, uint8_t seed = 1) {
    const Endpoint from{Ipv4Address::from_host(kInner.host() - 1 + slot),
                        Be16::from_host(static_cast<uint16_t>(source_port))};
    return udp_packet(from, kService, payload_bytes(24, seed));
  }
};

TEST_F(Workers, NothingIsHandedOverWhereTheCardSteers) {
  for (uint32_t slot = 1; slot <= 6; ++slot) {
    FarEnd far = open_tunnel(slot, Protection::plain);
    place(far, slot, true);
    receive_from(far, far.seal({}));  // a heartbeat: it has moved
    sent_frames(0);
    const uint64_t before = counters_.handed_over;
    for (unsigned i = 0; i < 100; ++i) {
      const Endpoint external = external_of(far, inner_packet(slot, 2000 + i));
      EXPECT_EQ(settings_.shares[external.port.host() / nat::kWindowPorts],
                tunnels_->home(slot));
      receive(1, udp_packet(kService, external, payload_bytes(24, 2)));
      EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
                udp_packet(kService, {Ipv4Address::from_host(kInner.host() - 1 + slot),
                                      Be16::from_host(static_cast<uint16_t>(2000 + i))},
                           payload_bytes(24, 2), {.ttl = 63}));
    }
    EXPECT_EQ(counters_.handed_over - before, 0u);
  }
}

// Its sender's index stands where a tunnel's packet has ours.
TEST_F(Workers, HandshakeStaysWithTheWorkerThatReceivedIt) {
  Bytes initiation(sizeof(tunnel::InitiationMessage));
  initiation[0] = static_cast<uint8_t>(tunnel::MessageType::initiation);
  for (uint8_t index = 0; index < 2 * kWorkers; ++index) {
    initiation[4] = index;
    receive_from(kClientOuter, initiation);
  }
  EXPECT_EQ(counters_.handed_over, 0u);
  EXPECT_EQ(handed_out().size(), 2 * kWorkers);
}

TEST_F(Workers, RoamedTunnelIsServedByItsOwnWorker) {
  for (const Protection protection : {Protection::plain, Protection::aes_256_gcm}) {
    const uint32_t slot = protection == Protection::plain ? 1 : 2;
    FarEnd far = open_tunnel(slot, protection);
    place(far, slot, false);
    receive_from(far, far.seal({}));
    sent_frames(0);
    const uint64_t before = counters_.handed_over;
    const bool plain = protection == Protection::plain;
    for (uint8_t i = 0; i < 20; ++i) {
      const Bytes inner = inner_packet(slot, 2000, i);
      receive_from(far, plain ? far.plain(inner) : far.seal(inner));
      const Bytes out = sent_one(1);
      EXPECT_EQ(Bytes(out.end() - 24, out.end()), payload_bytes(24, i));
    }
    EXPECT_EQ(counters_.handed_over - before, 20u);
    EXPECT_EQ(counters_.taken_over, counters_.handed_over);
  }
}

// As frames (the express way) and as packets (the stages), which may follow one another.
TEST_F(Workers, FlowKeepsItsOrder) {
  FarEnd far = open_tunnel(1, Protection::plain);
  place(far, 1, false);
  receive_from(far, far.seal({}));
  sent_frames(0);
  std::vector<Bytes> packets;
  const Endpoint from{kInner, Be16::from_host(1025)};
  for (uint8_t i = 0; i < 60; ++i) {
    // Every seventh has a TCP flag that is the stages' affair.
    packets.push_back(far.plain(
        tcp_packet(from, kService, payload_bytes(8, i),
                   {.flags = static_cast<uint8_t>(i % 7 == 0 ? kTcpSyn : kTcpAck)})));
  }
  receive_together(far, packets);
  const std::vector<Bytes> out = sent(1);
  ASSERT_EQ(out.size(), packets.size());
  for (uint8_t i = 0; i < 60; ++i) {
    EXPECT_EQ(Bytes(out[i].end() - 8, out[i].end()), payload_bytes(8, i)) << unsigned{i};
  }
}

// Consecutive, so that the kernel can make large packets of them; and no two workers' are the same
// within as many as there may be.
TEST_F(Workers, EachGivesOuterIdsOfItsOwnInTurn) {
  constexpr unsigned kBurst = 64;
  constexpr unsigned kIdsOfEach = 65'536 / 4;  // of three, as of four
  std::set<uint16_t> all;
  for (uint32_t slot = 1; slot <= kWorkers; ++slot) {
    FarEnd far = open_tunnel(slot, Protection::plain);
    place(far, slot, true);
    receive_from(far, far.seal({}));
    sent_frames(0);
    const Endpoint external = external_of(far, inner_packet(slot, 2000));
    const std::vector<Bytes> burst(kBurst, udp_packet(kService, external, payload_bytes(24, 2)));
    std::vector<uint16_t> ids;
    while (ids.size() < kIdsOfEach) {
      receive_packets(1, burst);
      for (const Bytes& packet : sent(0)) {
        ids.push_back(static_cast<uint16_t>(packet[4] << 8 | packet[5]));
      }
    }
    ASSERT_EQ(ids.size(), kIdsOfEach);
    unsigned gaps = 0;
    for (size_t i = 1; i < ids.size(); ++i) gaps += ids[i] != static_cast<uint16_t>(ids[i - 1] + 1);
    EXPECT_LE(gaps, 1u) << "but where they begin anew";
    all.insert(ids.begin(), ids.end());
    EXPECT_EQ(all.size(), slot * kIdsOfEach);
  }
}

TEST_F(Workers, BytesBehindTheDatagramAreNoPartOfItElsewhereEither) {
  FarEnd far = open_tunnel(1, Protection::plain);
  place(far, 1, false);
  receive_from(far, far.seal({}));
  sent_frames(0);
  Bytes packet = udp_packet(far.outer, kTunnelEndpoint, far.plain(inner_packet(1, 2000)));
  packet.insert(packet.end(), 6, 0xee);
  const auto total = static_cast<uint16_t>(packet.size());
  packet[2] = static_cast<uint8_t>(total >> 8);
  packet[3] = static_cast<uint8_t>(total);
  packet[10] = packet[11] = 0;
  const uint16_t sum = adit::test::plain_checksum({packet.data(), 20});
  packet[10] = static_cast<uint8_t>(sum >> 8);
  packet[11] = static_cast<uint8_t>(sum);
  receive(0, packet);
  EXPECT_EQ(sent_one(1).size(), inner_packet(1, 2000).size());
}

TEST_F(Workers, ErrorAboutAnothersPacketFindsItsWay) {
  for (uint32_t slot = 1; slot <= kWorkers; ++slot) {
    FarEnd far = open_tunnel(slot, Protection::plain);
    const Endpoint external = external_of(far, inner_packet(slot, 2000));
    const Bytes quoted = udp_packet(external, kService, payload_bytes(24, 1), {.ttl = 60});
    receive(1, icmp_packet(kServer, external.address, 3, 3, 0, quoted));
    const auto inside = far.open(sent_to_tunnel(far.outer));
    ASSERT_TRUE(inside);
    EXPECT_EQ(inside->at(20), 3);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// What another worker's ring has no room for is dropped by name; everybody else's packets pass.
TEST_F(Workers, WorkerThatStandsStillHoldsUpNobodyElse) {
  FarEnd still = open_tunnel(1, Protection::plain);
  FarEnd other = open_tunnel(2, Protection::plain);
  for (const auto& [far, slot] : {std::pair{&still, 1u}, std::pair{&other, 2u}}) {
    place(*far, slot, slot == 2);
    receive_from(*far, far->seal({}));
    sent_frames(0);
  }
  const unsigned owner = tunnels_->home(1);
  stand_still(owner);
  constexpr unsigned kPackets = HandOff::kRingPackets + 100;
  for (unsigned i = 0; i < kPackets; ++i) {
    receive_from(still, still.plain(inner_packet(1, 2000)));
    EXPECT_TRUE(sent_frames(1).empty());
    if (i % 50 != 0) continue;
    receive_from(other, other.plain(inner_packet(2, 2000)));
    EXPECT_EQ(sent_frames(1).size(), 1u);
  }
  const uint64_t lost = drops(Fate::hand_off_full);
  EXPECT_EQ(lost, kPackets - (HandOff::kRingPackets - 1));
  EXPECT_EQ(counters_.drops_total(), lost);

  go_on();
  EXPECT_EQ(sent_frames(1).size(), kPackets - lost);
  receive_from(still, still.plain(inner_packet(1, 2000)));
  EXPECT_EQ(sent_frames(1).size(), 1u);
  EXPECT_EQ(drops(Fate::hand_off_full), lost);
}

class WorkersReachOneAnother : public Workers {
 protected:
  WorkersReachOneAnother() : Workers({.tunnel_to_tunnel = true}) {}
};

TEST_F(WorkersReachOneAnother, TunnelsOfDifferentWorkersAreJoined) {
  FarEnd first = open_tunnel(1, Protection::plain);
  FarEnd second = open_tunnel(2, Protection::aes_256_gcm);
  ASSERT_NE(tunnels_->home(1), tunnels_->home(2));
  const Endpoint to{Ipv4Address::from_host(kInner.host() + 1), Be16::from_host(9)};
  receive_from(first, first.plain(udp_packet(kApplication, to, payload_bytes(30))));
  EXPECT_EQ(second.open(sent_to_tunnel(second.outer)),
            udp_packet(kApplication, to, payload_bytes(30), {.ttl = 63}));
  // The way to the second takes less than is configured, which its own worker was told.
  Bytes probe(16, 0);
  probe[0] = tunnel::kProbeRequest;
  probe[2] = 1000 / 256;
  probe[3] = 1000 % 256;
  receive_from(second, second.seal(probe));
  sent_frames(0);
  const Bytes large = udp_packet(kApplication, to, payload_bytes(1000),
                                 {.fragment = kIpDontFragment});
  receive_from(first, first.plain(large));
  const auto told = first.open(sent_to_tunnel(first.outer));
  ASSERT_TRUE(told);
  EXPECT_EQ(told->at(20), 3);  // fragmentation needed
  EXPECT_EQ(told->at(21), 4);
  EXPECT_EQ(told->at(26) * 256 + told->at(27), 1000);
  // It has gone, and all know it.
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 2;
  tell(close);
  receive_from(first, first.plain(udp_packet(kApplication, to, payload_bytes(30))));
  EXPECT_EQ(drops(Fate::tunnel_to_tunnel), 1u);
}

}  // namespace
}  // namespace adit::gateway::test
