// What is different where several lanes are wanted: packets of the device take lanes, other threads
// send in lane 0 too and say so by reports, and lane 0's handshakes say how many lanes there are.
#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {

// Before lane 0's new session is in use.
void Client::begin_lanes(uint64_t now_ns) {
  const unsigned granted = peer_->lanes_granted();
  if (lanes_->granted() != granted || !lanes_->has_begun()) {
    log_.info("the gateway grants %u of %u lanes", granted, lanes_wanted_);
    const GatewayConfig& gateway = config_.gateways[gateway_index_];
    const tunnel::PresharedKey preshared{config_.preshared_key.value_or(KeyBytes{})};
    // Lane 0's peer has the same: the key can be used.
    lanes_->begin({.gateway_identity = *tunnel::make_remote_identity(
                       identity_, tunnel::PublicKey{gateway.public_key}, preshared),
                   .config = peer_config_of(gateway),
                   .gateway = gateway_,
                   .lanes = granted});
    if (phase_ == Phase::up) lanes_->on_up(now_ns);
    return;
  }
  lanes_->on_renewed(now_ns);
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
  lanes_wanted_ = 1;
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
