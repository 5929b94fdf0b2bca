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
  if (source != gateway_) {
    gateway_ = source;
    path_.set_gateway(source);
    network_.set_gateway(source.address);
    outer_path_ = network_.outer_path(config_.fwmark.value_or(0));
  }
  act(actions, now_ns);
  return true;
}

}  // namespace adit::client
