// What is different where several lanes are wanted: packets of the device take lanes, other threads
// send in lane 0 too and say so by reports, and lane 0's handshakes say how many lanes there are.
#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {

// Lane 0, whose last handshake has granted lanes.
LaneTunnel Client::lane_tunnel() const {
  const GatewayConfig& gateway = config_.gateways[gateway_index_];
  const tunnel::PresharedKey preshared{config_.preshared_key.value_or(KeyBytes{})};
  // Lane 0's peer has the same: the key can be used.
  return {.gateway_identity = *tunnel::make_remote_identity(
              identity_, tunnel::PublicKey{gateway.public_key}, preshared),
          .config = peer_config_of(gateway, lane_offer_.wanted()),
          .gateway = gateway_,
          .lanes = peer_->lanes_granted()};
}

// Before lane 0's new session is in use.
void Client::begin_lanes(uint64_t now_ns) {
  if (phase_ == Phase::handshaking) note_lane_sense(lane_offer_, gateway_index_);
  const unsigned granted = peer_->lanes_granted();
  if (lanes_->granted() != granted || !lanes_->has_begun()) {
    log_.info("the gateway grants %u of %u lanes", granted, lane_offer_.wanted());
    lanes_->begin(lane_tunnel());
    if (phase_ == Phase::up) lanes_->on_up(now_ns);
    return;
  }
  lanes_->on_renewed(now_ns);
}

// By which offer it has answered.
void Client::note_lane_sense(LaneOffer& offer, size_t gateway) {
  const LaneSense sense = offer.on_answer();
  if (sense == LaneSense::unknown) return;
  if (sense == LaneSense::lacks && lane_senses_[gateway] != LaneSense::lacks) {
    log_.warning("%s answers, but not who asks for lanes: going on with one",
                 config_.gateways[gateway].host.c_str());
  }
  lane_senses_[gateway] = sense;
}

// The second tunnel, which was made by this offer, has become the first. What waits in the old
// one's lanes is dropped.
void Client::move_lanes(const LaneOffer& offer) {
  lane_offer_ = offer;
  lanes_->move(lane_tunnel());
  lanes_->install(path_.session(), path_.shared_counter());
  log_.info("the gateway grants %u of %u lanes", lanes_->granted(), offer.wanted());
}

// While the gateway has not answered: asks for another number of lanes, if it is time to.
void Client::offer_lanes(uint64_t now_ns) {
  if (!lane_offer_.tick(now_ns) || !make_peer()) return;
  act(peer_->connect(now_ns, tai64n_now()), now_ns);
}

// What the device is now, to the threads.
void Client::publish_device() {
  lanes_->set_device(settings_ ? std::optional(settings_->address) : std::nullopt,
                     settings_ ? settings_->mtu_bytes : uint16_t{0});
}

void Client::send_in_lanes(uint64_t now_ns) {
  if (!lanes_->send_from(tun_, now_ns)) lose_device("taken away");
}

void Client::tend_lanes(uint64_t now_ns) {
  lanes_->expire(now_ns);
  if (peer_) {
    if (const auto sent_ns = lanes_->take_sent_ns()) {
      if (*sent_ns > peer_->last_heard_ns()) path_watch_.on_sent(now_ns);
      note_sent(!path_.is_plain(), now_ns);
    }
    if (lanes_->take_awaited() && !path_.usable(now_ns)) peer_->on_packet_waiting(now_ns);
  }
  if (!outer_path_) return;
  const std::optional<unsigned> down = lanes_->tick(round_trip_, heartbeat_ns_, now_ns);
  if (!down) return;
  // Whatever the reason, this tunnel will not do; one lane has come up before.
  report_gateway("lane " + std::to_string(*down) + " stays down: going on with one lane");
  lane_offer_ = LaneOffer(1);
  restart(now_ns);
}

void Client::add_lanes(Status& status, uint64_t now_ns) const {
  status.lanes = lanes_->make_status(now_ns);
  LaneStatus& own = status.lanes[0];
  own.is_up = phase_ == Phase::up;
  own.local_port = status.local_port;
  own.last_handshake_ago_ns = status.last_handshake_ago_ns;
  own.last_heard_ago_ns = status.last_heard_ago_ns;
  own.rx_bytes = counters_.rx_bytes;
  lanes_->add_counters(status.counters);
}

}  // namespace adit::client
