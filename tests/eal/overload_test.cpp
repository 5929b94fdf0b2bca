// A worker that has no idle time gives a tunnel away: the real control thread decides on what the
// packet path has counted and sampled, and the tunnel moves with what it has.
#include <rte_cycles.h>

#include <map>

#include "gateway/balance.h"
#include "lib/tunnel/lanes.h"
#include "tests/eal/lanes_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

class Overloaded : public LanesRig {
 protected:
  static constexpr unsigned kBusy = 0;  // the worker that has all the work
  static constexpr unsigned kTunnels = 3;
  static constexpr uint64_t kStepNs = 10'000'000;

  Overloaded() : LanesRig([](Config& config) { config.eal.balance = true; }) {
    for (unsigned i = 0; i < kTunnels; ++i) tunnels_of_.push_back(&begin(i, kTunnels, kBusy));
  }

  // An endpoint whose packets take that lane.
  static Endpoint endpoint_of(unsigned lane) {
    for (uint16_t port = 2000;; ++port) {
      if (tunnel::lane_of(kInner, kIpUdp, port, kTunnels) == lane) {
        return {kInner, Be16::from_host(port)};
      }
    }
  }
  // A packet out and its answer back in, by each tunnel, with another one the first each time: it is
  // the one that is sampled when the workers' clock hands have moved.
  void carry_a_round() {
    now_ns_ += kStepNs;
    sweep();
    ++round_;
    for (unsigned turn = 0; turn < kTunnels; ++turn) {
      const unsigned i = (round_ + turn) % kTunnels;
      const auto external =
          external_by(*tunnels_of_[i], udp_packet(endpoint_of(i), kService, payload_bytes(24)));
      ASSERT_TRUE(external);
      const Endpoint first = externals_.emplace(i, *external).first->second;
      ASSERT_EQ(*external, first) << "another mapping";
      const size_t before = tunnels_of_[i]->end->received.size();
      receive(1, udp_packet(kService, *external, payload_bytes(24, 9)));
      settle();
      ASSERT_EQ(tunnels_of_[i]->end->received.size(), before + 1);
    }
  }
  // For some periods; all that time is the busy worker's, whose packets they are, or nobody's.
  void carry(uint64_t duration_ns, bool is_work) {
    for (const uint64_t ends_ns = now_ns_ + duration_ns; now_ns_ < ends_ns;) {
      const uint64_t began = rte_rdtsc();
      carry_a_round();
      if (is_work) time_[kBusy].busy_cycles += rte_rdtsc() - began;
      if (HasFatalFailure()) return;
    }
  }
  unsigned moved() const {
    unsigned count = 0;
    for (const LaneEnd* lane : tunnels_of_) count += control_->owner_of(slot_of(*lane)) != kBusy;
    return count;
  }

  std::vector<LaneEnd*> tunnels_of_;
  std::map<unsigned, Endpoint> externals_;  // by tunnel
  unsigned round_ = 0;
};

TEST_F(Overloaded, WorkerGivesATunnelAwayWithItsMappings) {
  carry(2 * Balance::kPeriodNs, false);
  EXPECT_EQ(control_->counters().tunnels_moved, 0u) << "it has time";
  carry(3 * Balance::kPeriodNs, true);
  EXPECT_GE(control_->counters().tunnels_moved, 1u);
  EXPECT_EQ(moved(), control_->counters().tunnels_moved);
  EXPECT_LT(moved(), kTunnels) << "one that has all would be no better off";
  EXPECT_EQ(control_->counters().moves_refused, 0u);
  EXPECT_EQ(nat_counts().mappings_created, kTunnels);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

}  // namespace
}  // namespace adit::gateway::test
