// What the client says of itself to `adit-client status`, and at its end.
#include <algorithm>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;

}  // namespace

Status Client::make_status() const {
  static constexpr const char* kPhaseNames[] = {"waiting",     "choosing",   "resolving",
                                                "handshaking", "addressing", "up"};
  const uint64_t turn_ns = now_ns();
  const GatewayConfig& gateway = config_.gateways[gateway_index_];
  Status status;
  status.device = tun_.name();
  status.state = kPhaseNames[static_cast<size_t>(phase_)];
  status.gateway = gateway.host + ":" + std::to_string(gateway.port);
  if (!gateway_.is_zero()) status.endpoint = gateway_.to_string();
  status.local_port = udp_.local_port();
  if (const auto protection = path_.protection()) {
    status.protection = tunnel::protection_name(*protection);
  }
  if (settings_) {
    status.address = settings_->address.to_string();
    if (!settings_->router.is_zero()) status.router = settings_->router.to_string();
    status.mtu_bytes = settings_->mtu_bytes;
    for (const Ipv4Address& server : network_.dns_servers()) {
      status.dns.push_back(server.to_string());
    }
    for (const Ipv4Prefix& route : network_.traversing()) {
      status.routes.push_back(route.to_string());
    }
  }
  status.uptime_ns = turn_ns - started_ns_;
  status.heartbeat_ns = heartbeat_ns_;
  if (learns_heartbeat()) {
    status.heartbeat_learning = knows_marks_ == false ? "unsupported"
                                : adaptive_.next_ns() ? "learning"
                                                      : "learnt";
    status.heartbeat_too_long_ns = adaptive_.forgotten_ns();
  }
  if (peer_ && peer_->last_heard_ns() != 0) {
    status.last_heard_ago_ns = turn_ns - peer_->last_heard_ns();
    status.last_handshake_ago_ns = turn_ns - peer_->last_handshake_ns();
  }
  if (dhcp_.lease() && dhcp_.lease()->expires_ns != kNever) {
    status.lease_left_ns = dhcp_.lease()->expires_ns - std::min(turn_ns, dhcp_.lease()->expires_ns);
  }
  if (round_trip_.has_sample()) {
    status.round_trip_ns = round_trip_.smoothed_ns();
    status.round_trip_variation_ns = round_trip_.variation_ns();
  }
  status.last_error = last_error_.empty() ? network_.problem() : last_error_;
  status.counters = counters_;
  if (lanes_) add_lanes(status, turn_ns);
  return status;
}

}  // namespace adit::client
