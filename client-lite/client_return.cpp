// Back to the preferred gateway: its tunnel is made beside the one in use, which carries all
// packets until that one has a session and an address; then they change places (second_tunnel.h).
#include <cstring>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {

using tunnel::HandshakeReject;

void Client::begin_second(const Endpoint& gateway, uint64_t now_ns) {
  LaneOffer offer(lanes_max());
  offer.begin(lane_sense_of(order_[0]));
  std::optional<tunnel::Peer> peer = peer_of(config_.gateways[order_[0]], offer.wanted());
  // Another of its names leads to where we are already.
  if (!peer || gateway == gateway_) return;
  log_.info("%s has been stable: a tunnel to it is made", gateway.to_string().c_str());
  second_.emplace(gateway, std::move(*peer), PacketPath(counters_),
                  dhcp::Client(identity_.public_key.bytes, random_u64),
                  now_ns + SecondTunnel::kMakeNs, offer);
  second_->has_own_lease =
      config_.gateways[order_[0]].public_key != config_.gateways[gateway_index_].public_key;
  PacketPath& path = second_->path;
  path.set_gateway(gateway);
  path.set_takes_dhcp(!config_.address);
  path.set_lan(config_.lan);
  if (settings_) {
    path.set_address(settings_->address.address);
    path.set_mtu(settings_->mtu_bytes);
  }
  act_second(second_->peer.connect(now_ns, tai64n_now()), now_ns);
}

// While it has not answered: asks it for another number of lanes, if it is time to.
void Client::offer_second(uint64_t now_ns) {
  if (!second_->offer.tick(now_ns)) return;
  // Its key could be used before.
  second_->peer = *peer_of(config_.gateways[order_[0]], second_->offer.wanted());
  act_second(second_->peer.connect(now_ns, tai64n_now()), now_ns);
}

void Client::act_second(const tunnel::Actions& actions, uint64_t now_ns) {
  bool has_session = false;
  for (const tunnel::Action& action : actions) {
    switch (action.kind) {
      case tunnel::Action::send_message: {
        keep_stamp(second_->peer.last_sent_stamp());
        ++counters_.handshakes_sent;
        const std::span<const uint8_t> message = action.message_span();
        if (udp_.send({&message, 1}, second_->gateway) == 0) ++counters_.tx_send_error;
        second_->offer.on_initiation(now_ns);
        break;
      }
      case tunnel::Action::install_session:
        second_->path.install(action.session, lanes_ ? make_counter() : nullptr);
        ++counters_.sessions;
        note_lane_sense(second_->offer, order_[0]);
        has_session = true;
        break;
      case tunnel::Action::send_heartbeat:
        send_in_second(0, now_ns);
        break;
      case tunnel::Action::drop_sessions:
        break;
      case tunnel::Action::dead:
        return give_up_second("does not answer", now_ns);
    }
  }
  if (!has_session) return;
  if (config_.address) return change_places(now_ns);
  act_second(second_->dhcp.start(now_ns, last_address_), now_ns);
}

void Client::act_second(const dhcp::Client::Step& step, uint64_t now_ns) {
  if (step.send) {
    const size_t bytes = dhcp::wrap(*step.send, control_buffer_.inner());
    if (bytes != 0) send_in_second(bytes, now_ns);
  }
  switch (step.event) {
    case dhcp::Client::Event::none:
      return;
    case dhcp::Client::Event::configured:
      return change_places(now_ns);
    case dhcp::Client::Event::lost:
    case dhcp::Client::Event::refused:
      return give_up_second("gives no address: " + std::string(step.text.data(), step.text.size()),
                            now_ns);
  }
}

// Seals and sends what stands in control_buffer_.
void Client::send_in_second(size_t inner_bytes, uint64_t now_ns) {
  const auto datagram = second_->path.wrap_control(control_buffer_, inner_bytes).datagram;
  if (datagram.empty()) return;
  if (udp_.send({&datagram, 1}, second_->gateway) == 0) ++counters_.tx_send_error;
  second_->peer.on_sent(now_ns, false);
}

void Client::on_second_datagram(std::span<uint8_t> datagram, uint64_t now_ns) {
  SecondTunnel& second = *second_;
  const Received received = second.path.receive(datagram, second.gateway, now_ns);
  if (received.kind == Received::packet) return writer_.add(received.inner, received.parsed);
  if (second.is_left) return;
  if (received.heard) second.peer.on_heard(now_ns, false);
  HandshakeReject reject = HandshakeReject::none;
  switch (received.kind) {
    case Received::response: {
      tunnel::ResponseMessage message;
      std::memcpy(&message, datagram.data(), sizeof message);
      act_second(second.peer.on_response(now_ns, message, reject), now_ns);
      return count_reject(reject);
    }
    case Received::cookie_reply: {
      tunnel::CookieReplyMessage message;
      std::memcpy(&message, datagram.data(), sizeof message);
      second.peer.on_cookie_reply(now_ns, message, reject);
      if (reject == HandshakeReject::none) second.offer.on_cookie_reply();
      return count_reject(reject);
    }
    case Received::dhcp:
      if (const auto datagram_in = dhcp::unwrap(received.inner)) {
        act_second(second.dhcp.on_message(now_ns, datagram_in->message), now_ns);
      } else {
        ++counters_.rx_inner_malformed;
      }
      return;
    default:  // a heartbeat, or a probe: nobody has asked yet
      return;
  }
}

void Client::run_second(uint64_t now_ns) {
  if (second_) second_->path.expire(now_ns);
  if (second_ && now_ns >= second_->ends_ns) {
    return second_->is_left ? end_second(now_ns) : give_up_second("does not come up", now_ns);
  }
  if (second_ && !second_->is_left) offer_second(now_ns);
  if (second_ && !second_->is_left) act_second(second_->peer.tick(now_ns, tai64n_now()), now_ns);
  if (second_ && !second_->is_left) act_second(second_->dhcp.tick(now_ns), now_ns);
}

// What is on the host stays, but for what is different at the other gateway; so nothing slips past
// the tunnel, and connections live on where the address is the same.
void Client::change_places(uint64_t now_ns) {
  SecondTunnel& second = *second_;
  const Ipv4Interface address = config_.address ? *config_.address : second.dhcp.lease()->address;
  const std::string conflict = network_.conflict_of(address, second.gateway.address);
  if (!conflict.empty()) return give_up_second(conflict, now_ns);
  // First both are kept outside the tunnel, then one follows the other.
  network_.set_other_gateways({gateway_.address, second.gateway.address});
  std::swap(gateway_, second.gateway);
  std::swap(*peer_, second.peer);
  std::swap(dhcp_, second.dhcp);
  path_.swap(second.path);
  second.is_left = true;
  second.ends_ns = now_ns + SecondTunnel::kLingerNs;
  use(0);
  if (lanes_) move_lanes(second.offer);
  return_watch_.on_returned(now_ns);
  ++counters_.gateway_returns;
  log_.info("back at %s", gateway_.to_string().c_str());

  network_.set_gateway(gateway_.address);
  outer_path_ = network_.outer_path();
  dhcp_start_due_ = false;
  offered_heartbeat_s_.reset();
  stop_binding_test();
  path_watch_ = PathWatch(pace());
  round_trip_.reset();
  start_path_mtu(now_ns);
  phase_ = Phase::addressing;
  configure(now_ns);
  send_heartbeat(now_ns);
}

// As if it had been gone back to and had failed at once: it is tried less often from now on.
void Client::give_up_second(const std::string& reason, uint64_t now_ns) {
  log_.warning("%s: %s; the gateway in use stays so", config_.gateways[order_[0]].host.c_str(),
               reason.c_str());
  end_second(now_ns);
  return_watch_.on_returned(now_ns);
  return_watch_.on_left(now_ns);
}

// Wherever it stands. What its gateway has given, that has back.
void Client::end_second(uint64_t now_ns) {
  if (!second_) return;
  if (second_->has_own_lease) act_second(second_->dhcp.release(now_ns), now_ns);
  second_.reset();
  network_.set_other_gateways({});
}

}  // namespace adit::client
