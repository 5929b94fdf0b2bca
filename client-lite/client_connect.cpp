// How the client gets from a gateway's name to a configured device, and what it does when that
// fails. client.h draws the phases.
#include <algorithm>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kSecondNs = 1'000'000'000;
// With another gateway to try: three initiations, five seconds apart.
constexpr uint64_t kHandshakePatienceNs = 15 * kSecondNs;
constexpr uint64_t kAddressPatienceNs = 10 * kSecondNs;  // DHCP has asked four times
// The wait before another gateway, or the same one after a tunnel broke.
constexpr uint64_t kShortWaitNs = kSecondNs / 4;

// Whom we answer is given up after so much silence: three heartbeats.
constexpr uint64_t kAnsweredDeadNs = 75 * kSecondNs;

constexpr uint16_t kOuterMtuBytes = 1500;  // where the route does not say
constexpr uint16_t kMtuBytesMin = 576;     // RFC 791: what every host takes

}  // namespace

void Client::begin_attempt(uint64_t now_ns) {
  if (config_.answer) return await_initiation(now_ns);
  if (is_choice_due_ && begin_survey(config_.gateways, now_ns)) {
    phase_ = Phase::choosing;
    attempt_ends_ns_ = kNever;
    return;
  }
  const GatewayConfig& gateway = config_.gateways[gateway_index_];
  phase_ = Phase::resolving;
  attempt_ends_ns_ = known_addresses_.ask(gateway_index_, now_ns);
  log_.debug("trying %s:%u", gateway.host.c_str(), gateway.port);
  resolver_.ask(gateway.host);
}

// Whatever the phase: what is left of the last attempt is dropped, but not what is on the host.
void Client::restart(uint64_t now_ns) {
  drop_peer(now_ns);
  begin_attempt(now_ns);
}

void Client::drop_peer(uint64_t now_ns) {
  end_second(now_ns);
  if (lanes_) lanes_->end();
  peer_.reset();
  path_.clear();
  counters_.tx_no_session += waiting_.size();
  waiting_.clear();
  dhcp_start_due_ = false;
  path_watch_ = {};
  path_mtu_.stop();
  offered_heartbeat_s_.reset();
  stop_binding_test();
}

void Client::on_resolved(uint64_t now_ns) {
  const std::optional<NameAnswer> answer = resolver_.take();
  if (!answer) return;
  if (answer->addresses.empty()) {
    if (phase_ == Phase::resolving) on_unresolved(answer->failure, now_ns);
    return;
  }
  known_addresses_.on_answer(answer->addresses);
  if (phase_ == Phase::resolving) reach(*known_addresses_.of(gateway_index_), now_ns);
}

void Client::on_unresolved(const std::string& reason, uint64_t now_ns) {
  const std::optional<Ipv4Address> known = known_addresses_.of(gateway_index_);
  if (!known) return give_up(reason, now_ns);
  report_gateway(reason + "; its last address, " + known->to_string() + ", is tried");
  reach(*known, now_ns);
  // Not for ever: the name may be found by then.
  if (phase_ == Phase::handshaking) attempt_ends_ns_ = now_ns + kHandshakePatienceNs;
}

void Client::reach(Ipv4Address gateway, uint64_t now_ns) {
  gateway_ = {gateway, Be16::from_host(config_.gateways[gateway_index_].port)};
  // The way to it must not lead into the tunnel; then the first packet may go.
  network_.set_gateway(gateway_.address);
  path_.set_gateway(gateway_);
  if (config_.address) {
    const std::string conflict = network_.conflict_of(*config_.address, gateway_.address);
    if (!conflict.empty()) return give_up(conflict, now_ns);
  }
  outer_path_ = network_.outer_path();
  lane_offer_.begin(lane_sense_of(gateway_index_));
  if (!make_peer()) return give_up("the gateway's public key is of low order", now_ns);
  phase_ = Phase::handshaking;
  attempt_ends_ns_ =
      now_ns + (has_another_to_try() ? kHandshakePatienceNs : tunnel::kRekeyAttemptNs);
  act(peer_->connect(now_ns, tai64n_now()), now_ns);
}

bool Client::make_peer() {
  peer_ = peer_of(config_.gateways[gateway_index_], lane_offer_.wanted());
  path_watch_ = PathWatch(pace());
  round_trip_.reset();
  return peer_.has_value();
}

// Nothing when its key is of low order.
std::optional<tunnel::Peer> Client::peer_of(const GatewayConfig& gateway, unsigned lanes) const {
  const tunnel::PresharedKey preshared{config_.preshared_key.value_or(KeyBytes{})};
  const auto remote =
      tunnel::make_remote_identity(identity_, tunnel::PublicKey{gateway.public_key}, preshared);
  if (!remote) return std::nullopt;
  tunnel::Peer peer(identity_, *remote, peer_config_of(gateway, lanes), random_);
  peer.restore_sent_stamp(stamps_.last());
  return peer;
}

tunnel::PeerConfig Client::peer_config_of(const GatewayConfig& gateway, unsigned lanes) const {
  tunnel::PeerConfig config;
  config.initiates = !config_.answer;
  // A stock peer negotiates nothing: bytes 1 and 2 of message 1 stay zero.
  if (!gateway.stock_wireguard) {
    config.accept(config_.protections);
    config.lanes.lanes = static_cast<uint8_t>(lanes);
  }
  if (config_.answer) config.dead_after_ns = kAnsweredDeadNs;
  return config;
}

// By value in the caller: an action may end the peer that it came from.
void Client::act(const tunnel::Actions& actions, uint64_t now_ns) {
  for (const tunnel::Action& action : actions) {
    switch (action.kind) {
      case tunnel::Action::send_message:
        send_message(action.message_span(), now_ns);
        break;
      case tunnel::Action::install_session:
        on_session(action.session, now_ns);
        break;
      case tunnel::Action::send_heartbeat:
        send_heartbeat(now_ns);
        break;
      case tunnel::Action::drop_sessions:
        path_.clear();
        if (lanes_) lanes_->drop_session();
        break;
      case tunnel::Action::dead:
        return give_up("the gateway does not answer", now_ns);
    }
  }
  // After the heartbeat that confirms a new session to the gateway.
  flush_waiting(now_ns);
}

void Client::on_session(const tunnel::Session& session, uint64_t now_ns) {
  SharedCounter counter;
  if (lanes_) {
    begin_lanes(now_ns);
    counter = make_counter();
    lanes_->install(session, counter);
  }
  path_.install(session, std::move(counter));
  ++counters_.sessions;
  initiations_unanswered_ = 0;
  path_watch_.on_heard();
  begin_tunnel(session.protection, now_ns);
}

void Client::begin_tunnel(tunnel::Protection protection, uint64_t now_ns) {
  if (phase_ != Phase::handshaking) {
    // A rekey, as far as we know. But the gateway may be a new process that knows of no lease and
    // drops what we send, so each new session asks for the address again: two small packets.
    dhcp_start_due_ = phase_ == Phase::up && !config_.address;
    return;
  }
  log_.info("session with %s, %s", gateway_.to_string().c_str(),
            tunnel::protection_name(protection));
  phase_ = Phase::addressing;
  set_heartbeat(now_ns);
  start_path_mtu(now_ns);
  if (config_.address) {
    configure(now_ns);
    return;
  }
  attempt_ends_ns_ = now_ns + kAddressPatienceNs;
  // The heartbeat goes first, in the caller: it confirms the session.
  dhcp_start_due_ = true;
}

// Another gateway, or another address of this one.
bool Client::has_another_to_try() const {
  return config_.gateways.size() > 1 || known_addresses_.count(gateway_index_) > 1;
}

// An attempt has taken too long. Without another gateway to try, DHCP goes on asking this one.
void Client::on_overdue(uint64_t now_ns) {
  if (phase_ == Phase::resolving) return on_unresolved("its name is not resolved", now_ns);
  if (phase_ == Phase::handshaking) return give_up("the gateway does not answer", now_ns);
  if (has_another_to_try()) return give_up("gives no address", now_ns);
  report_no_address("gives no address");
}

void Client::give_up(const std::string& reason, uint64_t now_ns) {
  const bool was_up = phase_ == Phase::up;
  report_gateway(reason);
  drop_peer(now_ns);
  ++counters_.gateway_changes;
  lane_offer_ = LaneOffer(lanes_max());

  phase_ = Phase::waiting;
  attempt_ends_ns_ = kNever;
  uint64_t wait_ns = kShortWaitNs + random_u64() % kShortWaitNs;
  const bool has_fresh_address = known_addresses_.on_failed(gateway_index_, gateway_.address);
  use_next(now_ns);
  // Each gateway had its turn, the last of them at each of its addresses: now it is time to be
  // patient. But not with one that was up.
  if (!was_up && ++failures_ % config_.gateways.size() == 0 && !has_fresh_address) {
    wait_ns = backoff_.next_ns(random_u64());
  }
  retry_ns_ = now_ns + wait_ns;
  log_.debug("next attempt in %.1f s", static_cast<double>(wait_ns) / 1e9);
}

void Client::act(const dhcp::Client::Step& step, uint64_t now_ns) {
  if (step.send) {
    const size_t bytes = dhcp::wrap(*step.send, control_buffer_.inner());
    if (bytes != 0) send_control(bytes, true, now_ns);
  }
  const std::string reason(step.text.data(), step.text.size());
  switch (step.event) {
    case dhcp::Client::Event::none:
      return;
    case dhcp::Client::Event::configured:
      return configure(now_ns);
    case dhcp::Client::Event::lost:
      report("the address lease is over" + (reason.empty() ? "" : ": " + reason));
      // On the host it stays until there is another, or packets would leave past the tunnel. What
      // is sent from it meanwhile the gateway refuses.
      settings_.reset();
      path_.set_address(std::nullopt);
      if (lanes_) publish_device();
      phase_ = Phase::addressing;
      attempt_ends_ns_ = now_ns + kAddressPatienceNs;
      return;
    case dhcp::Client::Event::refused: {
      const std::string problem =
          "gives no address: " + (reason.empty() ? "no reason given" : reason);
      if (has_another_to_try()) return give_up(problem, now_ns);
      return report_no_address(problem);
    }
  }
}

// Puts the fixed or leased address and what came with it on the device.
void Client::configure(uint64_t now_ns) {
  const bool leased = !config_.address;
  // What the gateway takes is known now.
  limit_path_mtu(now_ns);
  const HostNetwork::Settings settings =
      leased ? leased_settings(*dhcp_.lease()) : fixed_settings();
  const bool changed = !settings_ || settings_->address != settings.address;
  if (leased && changed) {
    const std::string conflict = network_.conflict_of(settings.address, gateway_.address);
    if (!conflict.empty()) {
      act(dhcp_.release(now_ns), now_ns);
      return give_up(conflict, now_ns);
    }
  }
  settings_ = settings;
  path_.set_address(settings.address.address);
  path_.set_mtu(settings.mtu_bytes);
  if (lanes_) publish_device();
  network_.apply(settings);
  if (leased) {
    if (last_address_ != settings.address.address) files_.write_address(settings.address.address);
    last_address_ = settings.address.address;
    offered_heartbeat_s_ = dhcp_.lease()->heartbeat_s;
    set_heartbeat(now_ns);
  }
  if (changed) {
    log_.info("address %s, MTU %u", settings.address.to_string().c_str(), settings.mtu_bytes);
  }
  last_error_.clear();
  if (phase_ != Phase::up) enter_up(now_ns);
}

void Client::enter_up(uint64_t now_ns) {
  phase_ = Phase::up;
  attempt_ends_ns_ = kNever;
  failures_ = 0;
  known_addresses_.on_up(gateway_index_);
  backoff_.reset();
  next_round_ns_ = now_ns + config_.return_check_ns;
  next_test_ns_ = now_ns;
  knows_marks_.reset();
  set_heartbeat(now_ns);
  if (lanes_) lanes_->on_up(now_ns);
  log_.info("up");
}

HostNetwork::Settings Client::fixed_settings() {
  HostNetwork::Settings settings;
  settings.address = *config_.address;
  settings.mtu_bytes = device_mtu_bytes(std::nullopt);
  settings.routes = config_.routes;
  return settings;
}

// The router (option 3) is only the next hop: which destinations traverse is said by our
// configuration and by classless routes (option 121), among which a default route may be.
HostNetwork::Settings Client::leased_settings(const dhcp::ClientLease& lease) {
  HostNetwork::Settings settings;
  settings.address = lease.address;
  if (!config_.accept_routes && !is_for_private_use(lease.address.prefix())) {
    settings.address.length_bits = 32;
  }
  if (lease.router) settings.router = *lease.router;
  settings.mtu_bytes = device_mtu_bytes(lease.mtu_bytes);
  settings.routes = config_.routes;
  if (config_.accept_routes) {
    for (const dhcp::Route& route : lease.routes) {
      settings.offered_routes.push_back(route.destination);
    }
  }
  if (config_.dns == Dns::kAuto) settings.dns.assign(lease.dns.begin(), lease.dns.end());
  return settings;
}

// What our own way to the gateway carries, as far as is known.
uint16_t Client::outer_mtu_bytes() {
  const uint16_t link_bytes = network_.outer_mtu_bytes(gateway_.address);
  const uint16_t known_bytes = link_bytes == 0 ? kOuterMtuBytes : link_bytes;
  return is_stock() ? known_bytes : std::min(known_bytes, path_mtu_.bytes());
}

// The configuration's word stands. Else the gateway's, if our own way to it carries as much.
uint16_t Client::device_mtu_bytes(std::optional<uint16_t> leased_bytes) {
  if (config_.mtu) return *config_.mtu;
  const uint16_t outer_bytes = outer_mtu_bytes();
  const unsigned fits = outer_bytes > kOuterOverheadBytes ? outer_bytes - kOuterOverheadBytes : 0;
  const unsigned wanted = std::min<unsigned>(leased_bytes.value_or(UINT16_MAX), fits);
  return static_cast<uint16_t>(std::clamp<unsigned>(wanted, kMtuBytesMin, kInnerBytesMax));
}

void Client::report(const std::string& problem) {
  if (problem != last_error_) log_.warning("%s", problem.c_str());
  last_error_ = problem;
}

void Client::report_gateway(const std::string& problem) {
  report(config_.gateways[gateway_index_].host + ": " + problem);
}

// Without another gateway to try, this one is asked on, and on_overdue() has nothing to add.
void Client::report_no_address(const std::string& problem) {
  if (!has_another_to_try()) attempt_ends_ns_ = kNever;
  report_gateway(problem);
}

}  // namespace adit::client
