// Heartbeats and probes that wait for more of their kind, and what may happen meanwhile.
#include <algorithm>

#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

constexpr unsigned kAtOnce = WaitingControls::kAtOnce;
constexpr uint64_t kWaitNs = WaitingControls::kWaitNs;

Bytes probe_of(uint8_t stamp, uint8_t kind = tunnel::kProbeRequest) {
  Bytes probe(sizeof(tunnel::ProbePacket), 0);
  probe[0] = kind;
  probe[15] = stamp;
  return probe;
}

class WaitingTest : public Rig {
 protected:
  WaitingTest() : Rig({.two_ports = true, .controls_wait = true, .workers = 1}) {
    for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
      fars_.push_back(open_tunnel(slot, slot % 2 == 0 ? Protection::plain
                                                      : Protection::chacha20_poly1305));
    }
    pipeline_->run_waiting(now_ns_, 0);
    sent_frames(0);
  }
  FarEnd& far(uint32_t slot) { return fars_[slot - 1]; }
  void probe(uint32_t slot) {
    receive_from(far(slot), far(slot).seal(probe_of(static_cast<uint8_t>(slot))));
  }
  // The tunnels whose probes have been answered since the last time.
  std::vector<uint32_t> answered() {
    std::vector<uint32_t> slots;
    for (const Bytes& packet : sent(0)) {
      const Bytes payload(packet.begin() + 28, packet.end());
      for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
        const auto inner = far(slot).open(payload);
        if (!inner) continue;
        EXPECT_EQ(*inner, probe_of(static_cast<uint8_t>(slot), tunnel::kProbeReply));
        slots.push_back(slot);
      }
    }
    return slots;
  }

  static constexpr uint32_t kTunnels = 15;
  std::vector<FarEnd> fars_;
};

TEST_F(WaitingTest, OneAloneWaitsSoLongAndNoLonger) {
  probe(1);
  now_ns_ += kWaitNs - 1;
  EXPECT_FALSE(pipeline_->run_waiting(now_ns_));
  EXPECT_EQ(answered(), std::vector<uint32_t>{});
  ++now_ns_;
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_));
  EXPECT_EQ(answered(), std::vector<uint32_t>{1});
  EXPECT_FALSE(pipeline_->run_waiting(now_ns_ + kWaitNs));
}

TEST_F(WaitingTest, TheFirstSaysHowLong) {
  probe(1);
  now_ns_ += kWaitNs - 1;
  probe(2);
  ++now_ns_;
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_));
  EXPECT_EQ(answered(), (std::vector<uint32_t>{1, 2}));
  probe(3);
  now_ns_ += kWaitNs - 1;
  EXPECT_FALSE(pipeline_->run_waiting(now_ns_)) << "it has not waited long";
}

TEST_F(WaitingTest, NobodyWaitsWhereThereIsNoTime) {
  probe(1);
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_, 0));
  EXPECT_EQ(answered(), std::vector<uint32_t>{1});
  EXPECT_FALSE(pipeline_->run_waiting(now_ns_, 0));
}

TEST_F(WaitingTest, EnoughOfThemWaitForNobody) {
  std::vector<uint32_t> all;
  for (uint32_t slot = 1; slot <= kAtOnce; ++slot) {
    EXPECT_FALSE(pipeline_->run_waiting(now_ns_));
    probe(slot);
    all.push_back(slot);
  }
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_));
  EXPECT_EQ(answered(), all);
}

// As many in one burst do not wait, and more than there is room for do not either.
TEST_F(WaitingTest, ABurstOfThemIsAnsweredAtOnce) {
  std::vector<Bytes> frames;
  for (uint32_t slot = 1; slot <= kAtOnce; ++slot) {
    frames.push_back(adit::test::udp_packet(far(slot).outer, kTunnelEndpoint,
                                            far(slot).seal(probe_of(static_cast<uint8_t>(slot)))));
  }
  receive_packets(0, frames);
  EXPECT_EQ(answered().size(), kAtOnce);
  for (uint32_t i = 0; i < 2 * kAtOnce + 3; ++i) probe(1 + i % kTunnels);
  EXPECT_EQ(answered().size(), 3u);
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_));
  EXPECT_EQ(answered().size(), 2 * kAtOnce);
}

TEST_F(WaitingTest, PacketsDoNotWaitNorDoPaddedProbes) {
  probe(1);
  FarEnd& sender = far(1);
  receive_from(sender, sender.seal(adit::test::udp_packet(kApplication, kService, Bytes(20, 1))));
  EXPECT_EQ(sent(public_port()).size(), 1u);
  Bytes padded = probe_of(1);
  padded.resize(500);
  receive_from(sender, sender.seal(padded));
  EXPECT_EQ(sent(0).size(), 1u);
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_, 0));
  EXPECT_EQ(answered(), std::vector<uint32_t>{1}) << "overtaken, and not taken for a replay";
  EXPECT_EQ(drops(Fate::replayed), 0u);
}

TEST_F(WaitingTest, OneWhoseTunnelIsClosedMeanwhileIsNotAnswered) {
  probe(1);
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  close.epoch = tunnels_->at(1).epoch;
  tell(close);
  EXPECT_TRUE(pipeline_->run_waiting(now_ns_, 0));
  EXPECT_EQ(sent_frames(0).size(), 0u);
  EXPECT_EQ(drops(Fate::unknown_index), 1u);
}

// Bare packets behind a heartbeat depend on what it says: that the session is confirmed, or where
// the client is now. In the same burst or in the next.
class WaitingForNobody : public WaitingTest, public testing::WithParamInterface<bool> {
 protected:
  // A heartbeat, and this behind it.
  void expect_to_pass(FarEnd& sender, const Bytes& inner) {
    const Bytes heartbeat = sender.seal({});
    const Bytes bare = sender.plain(inner);
    if (GetParam()) {
      receive_together(sender, {heartbeat, bare});
    } else {
      receive_from(sender, heartbeat);
      EXPECT_TRUE(pipeline_->run_waiting(now_ns_));
      receive_from(sender, bare);
    }
    EXPECT_EQ(sent(public_port()).size(), 1u);
    EXPECT_EQ(drops(Fate::wrong_address), 0u);
  }
};

TEST_P(WaitingForNobody, AFirstSessionIsConfirmed) {
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  close.epoch = tunnels_->at(1).epoch;
  tell(close);
  ToWorker open;
  open.kind = ToWorker::open_tunnel;
  open.slot = 1;
  open.epoch = 77;
  open.mtu_bytes = 1420;
  open.router = kRouter;
  open.address = kInner;
  tell(open);
  const tunnel::Session session = make_session(1, Protection::plain, 3);
  install(1, session);
  FarEnd sender(session, 1420);
  expect_to_pass(sender, adit::test::udp_packet(kApplication, kService, Bytes(20, 1)));
}

TEST_P(WaitingForNobody, AClientHasMoved) {
  FarEnd& sender = far(2);
  sender.outer.port = Be16::from_host(31000);
  const Endpoint application{Ipv4Address::from_host(kInner.host() + 1), Be16::from_host(1025)};
  expect_to_pass(sender, adit::test::udp_packet(application, kService, Bytes(20, 1)));
}

INSTANTIATE_TEST_SUITE_P(Bursts, WaitingForNobody, testing::Bool(), [](const auto& bursts) {
  return bursts.param ? "TheSame" : "TheNext";
});

// Its answer waits for the next hop's address, and is not forgotten there.
TEST_F(WaitingTest, WhoeverStillWaitsAtTheEndIsFreedWithoutANextHopToo) {
  ToWorker lose;
  lose.kind = ToWorker::lose_neighbour;
  for (unsigned last = 0; last < 256; ++last) {
    lose.address = Ipv4Address::from_octets(30, 1, 1, static_cast<uint8_t>(last));
    tell(lose);
  }
  probe(1);
}

TEST_F(WaitingTest, WhoeverStillWaitsAtTheEndIsFreed) {
  probe(1);
  probe(2);
}

}  // namespace
}  // namespace adit::gateway::test
