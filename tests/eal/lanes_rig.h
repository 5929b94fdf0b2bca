// The rig with the real control thread, and clients that are real peers, one for each lane
// (tests/support/tunnel_end.h), at a source port each. Several workers; the uplink spreads by flow.
//
//   lane 0 ══ 20.1.1.10:port ══►┐
//   lane 1 ══ 20.1.1.10:port ══►┤ worker, by the card's hash ── rings ── Control
//   lane 2 ══ 20.1.1.10:port ══►┘
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gateway/control.h"
#include "gateway/settings.h"
#include "tests/eal/control_rings.h"
#include "tests/eal/rig.h"
#include "tests/support/tunnel_end.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::gateway::test {

inline constexpr unsigned kLaneWorkers = 3;

// What the rig is made of: a configuration with two subscribers, "site" and "other", who may have
// four lanes each, and eight external addresses.
class LaneWorld {
 protected:
  explicit LaneWorld(const std::function<void(Config&)>& change);

  tunnel::RandomSource random_ = tunnel::test::seeded_random(1);
  tunnel::Identity gateway_;
  std::array<tunnel::Identity, 2> clients_;  // by subscriber
  Config config_;
  std::vector<uint16_t> profiles_;
  nat::Settings translator_;
};

// The client's end of a lane.
struct LaneEnd {
  size_t subscriber = 0;
  unsigned lane = 0;
  Endpoint outer;
  std::unique_ptr<tunnel::test::End> end;
};

class LanesRig : protected LaneWorld, public Rig {
 protected:
  explicit LanesRig(const std::function<void(Config&)>& change = [](Config&) {});
  void TearDown() override;

  // A lane of `wanted`, at a source port that the card brings to `worker`, whose handshake is done,
  // if it is answered. Called again, it is the client's next start.
  LaneEnd& begin(unsigned lane, unsigned wanted, unsigned worker, size_t subscriber = 0);
  // Lanes 0 to `wanted` - 1, on the workers in turn; lane i's end is the i-th.
  std::vector<LaneEnd*> begin_all(unsigned wanted, size_t subscriber = 0);
  // Everything that is under way arrives.
  void settle();
  // Time passes; those in `alive` do what is due, which keeps them so.
  void pass(uint64_t duration_ns, const std::vector<LaneEnd*>& alive);

  bool is_up(const LaneEnd& lane) const { return lane.end->peer.has_session(now_ns_); }
  uint32_t slot_of(const LaneEnd& lane) const;
  uint64_t rejected(tunnel::HandshakeReject reason) const {
    return control_->counters().handshakes_rejected[static_cast<size_t>(reason)];
  }
  // Sends an inner packet by a lane; where it left from, or nullopt.
  std::optional<Endpoint> external_by(LaneEnd& lane, const Bytes& inner);

  std::unique_ptr<Control> control_;
  std::array<Counters, kLaneWorkers> time_;  // busy_cycles: what a worker has worked

 private:
  void take_told(unsigned worker, const ToControl& item) override;
  Endpoint outer_of(unsigned worker, size_t subscriber, unsigned lane) const;

  std::vector<std::unique_ptr<ControlRings>> rings_;  // by worker
  SteeringPlan plan_;
  std::vector<std::unique_ptr<LaneEnd>> lanes_;  // a later one at the same port takes its place
  std::vector<std::pair<Endpoint, Bytes>> outbox_;
};

}  // namespace adit::gateway::test
