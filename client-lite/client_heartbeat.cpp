// The tunnel's heartbeats. Their interval is configured, or the gateway's, or learnt: then bindings
// of a second socket are tried at rising silences (binding_test.h), and the interval stays below
// what the NATs on the way were seen to keep (adaptive_heartbeat.h).
#include <algorithm>
#include <cstring>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kSecondNs = 1'000'000'000;
// Where neither the configuration nor the gateway says: below the 30 s after which the least
// patient NATs forget a UDP flow (RFC 4787 REQ-5 asks for two minutes, few give it).
constexpr uint64_t kHeartbeatNs = 25 * kSecondNs;
constexpr uint64_t kHeartbeatNsMin = kSecondNs;
constexpr uint64_t kHeartbeatNsMax = 3600 * kSecondNs;
// Until a binding is tested again: when the path has changed, when a test told nothing, and when
// there is no reason to think that it will.
constexpr uint64_t kTestOnNewPathNs = 10 * kSecondNs;
constexpr uint64_t kTestAgainNs = 60 * kSecondNs;
constexpr uint64_t kTestAgainLaterNs = 600 * kSecondNs;

}  // namespace

// The gateway's word is also the most that can be learnt, for it takes a client that has been
// silent for a few of its heartbeats for gone. To a fixed address it says nothing: then the usual
// interval is the most.
void Client::set_heartbeat(uint64_t now_ns) {
  const uint64_t usual_ns = offered_heartbeat_s_ ? *offered_heartbeat_s_ * kSecondNs : kHeartbeatNs;
  uint64_t interval_ns = config_.heartbeat_ns.value_or(usual_ns);
  if (config_.adaptive_heartbeat) {
    const uint64_t max_ns = config_.heartbeat_max_ns.value_or(usual_ns);
    adaptive_.set_bounds(config_.heartbeat_min_ns, std::min(max_ns, usual_ns));
    const bool can_learn = learns_heartbeat() && knows_marks_ != false;
    interval_ns =
        can_learn || adaptive_.is_tried() ? adaptive_.interval_ns() : std::min(usual_ns, max_ns);
  }
  interval_ns = std::clamp(interval_ns, kHeartbeatNsMin, kHeartbeatNsMax);
  if (interval_ns != heartbeat_ns_ || next_heartbeat_ns_ <= now_ns) {
    // What is learnt holds from a heartbeat on: the last one was sent for a shorter silence.
    next_heartbeat_ns_ = learns_heartbeat() ? now_ns : now_ns + interval_ns;
  }
  heartbeat_ns_ = interval_ns;
}

// There may be other NATs on the way, or the one that was there has forgotten us.
void Client::relearn_heartbeat() {
  if (!learns_heartbeat()) return;
  stop_binding_test();
  adaptive_.forget();
  const uint64_t turn_ns = now_ns();
  next_test_ns_ = turn_ns + kTestOnNewPathNs;
  set_heartbeat(turn_ns);
}

void Client::stop_binding_test() {
  binding_test_.stop();
  canary_ = {};
  next_test_ns_ = kNever;
}

void Client::learn_heartbeat(uint64_t now_ns) {
  if (!learns_heartbeat() || !outer_path_) return;
  if (now_ns >= next_test_ns_) begin_binding_test(now_ns);
  switch (binding_test_.tick(now_ns, PathWatch::wait_ns(round_trip_), random_u64())) {
    case BindingTest::Send::nothing:
      break;
    case BindingTest::Send::mark_from_tunnel:
      send_probe(tunnel::kProbeMark, binding_test_.stamp(), now_ns);
      break;
    case BindingTest::Send::mark_from_canary:
      send_from_canary(binding_test_.stamp());
      break;
    case BindingTest::Send::question:
      send_probe(tunnel::kProbeToMark, binding_test_.stamp(), now_ns);
      break;
  }
  const BindingTest::Outcome outcome = binding_test_.take_outcome();
  if (outcome != BindingTest::Outcome::none) take_binding_result(outcome, now_ns);
}

void Client::begin_binding_test(uint64_t now_ns) {
  next_test_ns_ = kNever;
  std::string refusal;
  if (canary_.fd() < 0 &&
      (!canary_.open(0, rights_, refusal) || !watch(canary_.fd(), kTagCanary))) {
    log_.warning("heartbeats are not learnt: %s", refusal.c_str());
    canary_ = {};
    next_test_ns_ = now_ns + kTestAgainLaterNs;
    return;
  }
  if (!adaptive_.next_ns()) adaptive_.look_again();
  tested_ns_ = adaptive_.next_ns().value_or(adaptive_.interval_ns());
  binding_test_.begin(now_ns, AdaptiveHeartbeat::silence_ns(tested_ns_));
}

void Client::take_binding_result(BindingTest::Outcome outcome, uint64_t now_ns) {
  const double silence_s = static_cast<double>(AdaptiveHeartbeat::silence_ns(tested_ns_)) / 1e9;
  next_test_ns_ = now_ns + kTestAgainLaterNs;
  switch (outcome) {
    case BindingTest::Outcome::none:
      return;
    case BindingTest::Outcome::unknown:
      knows_marks_ = true;
      next_test_ns_ = now_ns + kTestAgainNs;
      return;
    case BindingTest::Outcome::unsupported:
      if (knows_marks_.has_value()) return;
      log_.info("the gateway cannot tell how long a NAT keeps a flow");
      knows_marks_ = false;
      return set_heartbeat(now_ns);
    case BindingTest::Outcome::kept:
      log_.debug("a flow was kept through %.1f s of silence", silence_s);
      adaptive_.on_kept(tested_ns_);
      break;
    case BindingTest::Outcome::forgotten:
      log_.debug("a flow was forgotten within %.1f s of silence", silence_s);
      adaptive_.on_forgotten(tested_ns_);
      break;
  }
  knows_marks_ = true;
  set_heartbeat(now_ns);
  if (adaptive_.next_ns()) {
    next_test_ns_ = now_ns;
    return;
  }
  next_test_ns_ = now_ns + AdaptiveHeartbeat::kSettledNs;
  log_.info("a heartbeat every %.1f s is enough", static_cast<double>(heartbeat_ns_) / 1e9);
  if (adaptive_.is_min_forgotten()) {
    log_.warning("a NAT forgets us within %.1f s: heartbeat_min is too long", silence_s);
  }
}

// As a control packet, but the tunnel's own path has had no part in it.
void Client::send_from_canary(uint64_t stamp) {
  if (!path_.usable(now_ns())) return;
  write_probe(tunnel::kProbeMark, stamp);
  const auto datagram = path_.wrap_control(control_buffer_, sizeof(tunnel::ProbePacket)).datagram;
  if (datagram.empty()) return;
  if (canary_.send({&datagram, 1}, gateway_) == 0) ++counters_.tx_send_error;
}

// Towards our own gateway a heartbeat is a probe, whose answer tells the round trip. A stock peer
// knows the empty one only, and does not answer it.
void Client::send_heartbeat(uint64_t now_ns) {
  if (is_stock()) return send_control(0, false, now_ns);
  const uint64_t stamp_ns = adit::client::now_ns();
  round_trip_.on_probe(stamp_ns);
  send_probe(tunnel::kProbeRequest, stamp_ns, now_ns);
}

void Client::write_probe(uint8_t kind, uint64_t stamp) {
  tunnel::ProbePacket probe{};
  probe.kind = kind;
  probe.mtu_bytes = told_mtu();
  probe.stamp = Be64::from_host(stamp);
  std::memcpy(control_buffer_.inner().data(), &probe, sizeof probe);
}

void Client::send_probe(uint8_t kind, uint64_t stamp, uint64_t now_ns) {
  write_probe(kind, stamp);
  send_control(sizeof(tunnel::ProbePacket), kind == tunnel::kProbeRequest, now_ns);
}

}  // namespace adit::client
