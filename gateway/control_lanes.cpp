// The control thread's part in a subscriber's lanes (docs/protocol.md): which of them a handshake
// is for, and what they have in common.
#include <algorithm>
#include <array>
#include <bit>

#include "gateway/control.h"

namespace adit::gateway {

namespace {

// A handshake that is going to be refused ends nothing.
bool is_acceptable(const SubscriberConfig& config, const tunnel::OpenedInitiation& opened) {
  tunnel::PeerConfig peer;
  peer.accept(config.protections);
  return tunnel::choose_protection(peer, opened.offered).has_value();
}

}  // namespace

// Which of its subscriber's lanes an initiation is for; nullptr: there is no such lane now. It is
// authentic, but may be a replay.
Subscriber* Control::lane_of(HandshakeJob& job, uint64_t now_ns) {
  Subscriber& subscriber = subscribers_[job.subscriber];
  tunnel::LaneChoice& wanted = job.opened.wanted;
  if (wanted.lane == 0) {
    const unsigned lanes = std::min<unsigned>(wanted.lanes, config_.lanes_of(*subscriber.config));
    // Its limits and its external address are those of a number of lanes, and a tunnel that begins
    // anew has all of them anew: not before the ports of the one that it ends could have rested.
    // Until then it gets of the lanes that there are as many as it wants.
    const uint64_t rest_ns = config_.pools[subscriber.config->pool].nat.timeouts.port_rest_ns;
    const bool may_begin_anew = job.opened.timestamp > subscriber.last_stamp &&
                                now_ns - subscriber.opened_ns >= rest_ns &&
                                is_acceptable(*subscriber.config, job.opened);
    if (subscriber.epoch != 0 && lanes != subscriber.lanes && may_begin_anew) {
      close_tunnel(subscriber, "begins anew with another number of lanes");
    }
    if (subscriber.epoch == 0) subscriber.lanes = static_cast<uint8_t>(lanes);
    wanted.lanes = std::min(wanted.lanes, subscriber.lanes);
    return &subscriber;
  }
  if (subscriber.epoch == 0 || wanted.lane >= subscriber.lanes) {
    ++(subscriber.epoch == 0 ? counters_.lanes_without_first : counters_.lanes_not_granted);
    return nullptr;
  }
  if (subscriber.further.size() < wanted.lane) subscriber.further.resize(wanted.lane);
  std::unique_ptr<Subscriber>& lane = subscriber.further[wanted.lane - 1u];
  if (lane == nullptr) {
    lane = std::make_unique<Subscriber>();
    lane->config = subscriber.config;
    lane->profile = subscriber.profile;
    lane->lane = wanted.lane;
  }
  if (lane->epoch == 0) {
    lane->lanes = subscriber.lanes;
    lane->address = subscriber.address;
    lane->paired_address = subscriber.paired_address;
  }
  return lane.get();
}

// Whose handshake it was when it was begun; nullptr: that has no tunnel any more.
Subscriber* Control::open_lane_of(const HandshakeJob& job) {
  Subscriber& subscriber = subscribers_[job.subscriber];
  const unsigned lane = job.opened.wanted.lane;
  Subscriber& of = lane == 0 ? subscriber : *subscriber.further[lane - 1];
  return of.peer ? &of : nullptr;
}

// Lane 0 opens: where others are to follow, the external address of all is chosen now, at random as
// a worker would choose it, since no worker may choose for the others' (RFC 4787 REQ-2).
void Control::begin_lanes(Subscriber& subscriber) {
  subscriber.paired_address = {};
  if (subscriber.lanes == 1) return;
  std::array<uint8_t, 8> bytes;
  random_(bytes);
  subscriber.paired_address = config_.nat.external_address(
      std::bit_cast<uint64_t>(bytes) % config_.nat.external_address_count());
}

// When it has opened or closed.
void Control::count_lanes(const Subscriber& lane) {
  if (lane.lanes == 1) return;
  const unsigned granted = lane.lane == 0 ? lane.lanes : 0;
  if (lane.epoch != 0) {
    ++lane_counts_.open;
    lane_counts_.granted += granted;
  } else {
    --lane_counts_.open;
    lane_counts_.granted -= granted;
  }
}

void Control::close_further_lanes(Subscriber& subscriber) {
  for (const auto& lane : subscriber.further) {
    if (lane != nullptr && lane->epoch != 0) close_tunnel(*lane, "ended with lane 0");
  }
}

}  // namespace adit::gateway
