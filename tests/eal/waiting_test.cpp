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
  WaitingTest() : Rig({.controls_wait = true, .workers = 1}) {
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

TEST_F(WaitingTest, NobodyWaitsBeforeASleep) {
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

TEST_F(WaitingTest, WhoeverStillWaitsAtTheEndIsFreed) {
  probe(1);
  probe(2);
}

}  // namespace
}  // namespace adit::gateway::test
