// The other end of another client, without a gateway in between: it waits for a handshake where an
// ordinary client begins one, and learns from it where its peer is. For tests, and to see what the
// client alone can carry (scripts/bench peers).
#include <cstring>

#include "client-lite/client.h"
#include "lib/tunnel/cookie.h"

namespace adit::client {

using tunnel::HandshakeReject;

void Client::await_initiation(uint64_t now_ns) {
  attempt_ends_ns_ = UINT64_MAX;
  if (!make_peer()) return give_up("its public key is of low order", now_ns);
  peer_->restore_received_stamp(answered_stamp_);
  phase_ = Phase::handshaking;
  log_.debug("waiting for a handshake at port %u", udp_.local_port());
}

// False: the datagram is no initiation.
bool Client::answer_initiation(std::span<const uint8_t> datagram, const Endpoint& source,
                               uint64_t now_ns) {
  tunnel::InitiationMessage message;
  if (datagram.size() != sizeof message ||
      datagram[0] != static_cast<uint8_t>(tunnel::MessageType::initiation)) {
    return false;
  }
  if (!peer_) return true;  // between two attempts; it will be sent again
  ++counters_.rx_handshake;
  std::memcpy(&message, datagram.data(), sizeof message);
  HandshakeReject reject = HandshakeReject::none;
  if (!tunnel::check_mac1(identity_.public_key, datagram)) {
    count_reject(HandshakeReject::bad_mac);
    return true;
  }
  const auto opened = tunnel::open_initiation(identity_, message);
  const tunnel::PublicKey expected{config_.gateways[gateway_index_].public_key};
  if (!opened || opened->remote_public_key != expected) {
    count_reject(HandshakeReject::not_authentic);
    return true;
  }
  const tunnel::Actions actions = peer_->on_initiation(now_ns, *opened, reject);
  count_reject(reject);
  if (reject != HandshakeReject::none) return true;
  answered_stamp_ = peer_->last_received_stamp();
  answered_from_ = source;
  for (const tunnel::Action& action : actions) {
    if (action.kind == tunnel::Action::send_message) {
      const std::span<const uint8_t> response = action.message_span();
      if (udp_.send({&response, 1}, source) == 0) ++counters_.tx_send_error;
    } else if (action.kind == tunnel::Action::install_session) {
      path_.install(action.session);
      ++counters_.sessions;
    }
  }
  return true;
}

void Client::on_peer_datagram(std::span<uint8_t> datagram, const Endpoint& source,
                              uint64_t now_ns) {
  if (answer_initiation(datagram, source, now_ns)) return;
  on_received(receive_from_peer(datagram, source, now_ns), datagram, now_ns);
}

// Only what is authentic says where the other end is, and that the session is its: an initiation
// may be an old one that somebody has kept.
Received Client::receive_from_peer(std::span<uint8_t> datagram, const Endpoint& source,
                                   uint64_t now_ns) {
  const bool may_have_moved = source != gateway_ && source == answered_from_;
  if (may_have_moved) path_.set_gateway(source);
  const Received received = path_.receive(datagram, source, now_ns);
  if (!received.heard) {
    path_.set_gateway(gateway_);
    return received;
  }
  if (may_have_moved) {
    gateway_ = source;
    network_.set_gateway(source.address);
    outer_path_ = network_.outer_path();
  }
  if (phase_ == Phase::handshaking) begin_tunnel(*path_.protection(), now_ns);
  return received;
}

}  // namespace adit::client
