// The client's packets: from the TUN device to the socket and back, and what it says of its own.
#include <algorithm>
#include <cstring>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

using tunnel::HandshakeReject;
using tunnel::ProbePacket;

}  // namespace

void Client::on_tun_readable(uint64_t now_ns) {
  if (lanes_) return send_in_lanes(now_ns);
  Outbound batch;
  batch.usable = path_.usable(now_ns);
  const bool is_there = reader_.read(
      tun_, counters_, [&]() -> PacketBuffer& { return outbound_[batch.count]; },
      [&](std::span<const uint8_t> inner) { return path_.admit(inner); },
      [&](const Admitted& packet) { return put_out(packet, batch, now_ns); });
  if (!is_there) lose_device("taken away");
  send_batch(batch, now_ns);
  if (!batch.usable && !waiting_.empty() && peer_) peer_->on_packet_waiting(now_ns);
}

// Wraps what stands in the batch's next buffer. True if this filled the batch, which then is sent.
bool Client::put_out(const Admitted& packet, Outbound& batch, uint64_t now_ns) {
  PacketBuffer& buffer = outbound_[batch.count];
  if (!batch.usable) {
    if (!waiting_.push(buffer, packet)) ++counters_.tx_no_session;
    return false;
  }
  const PacketPath::Wrapped wrapped = path_.wrap(buffer, packet);
  if (wrapped.datagram.empty()) return false;
  batch.any_sealed = batch.any_sealed || wrapped.sealed;
  batch.datagrams[batch.count++] = wrapped.datagram;
  if (batch.count < kSendBatch) return false;
  send_batch(batch, now_ns);
  return true;
}

void Client::send_batch(Outbound& batch, uint64_t now_ns) {
  if (batch.count == 0) return;
  send_datagrams(std::span(batch.datagrams).first(batch.count), batch.any_sealed, now_ns);
  batch.count = 0;
  batch.any_sealed = false;
}

// `any_sealed`: at least one is type 4 and carries a packet.
void Client::send_datagrams(std::span<const std::span<const uint8_t>> datagrams, bool any_sealed,
                            uint64_t now_ns) {
  const bool sent_segments = udp_.sends_segments();
  path_watch_.on_sent(now_ns);
  const unsigned taken = udp_.send(datagrams, gateway_);
  counters_.tx_send_error += datagrams.size() - taken;
  if (sent_segments && !udp_.sends_segments()) {
    log_.info("the kernel cuts no messages for this device: datagrams go one by one from now on");
  }
  note_sent(any_sealed, now_ns);
}

// Packets of the device's went out.
void Client::note_sent(bool any_sealed, uint64_t now_ns) {
  path_mtu_.on_traffic(now_ns);
  if (!peer_) return;
  if (any_sealed) peer_->on_sent(now_ns, true);
  if (path_.is_plain()) {
    last_plain_sent_ns_ = now_ns;
    peer_->on_plain_sent(now_ns);
  }
  peer_->on_send_counter(path_.send_counter());
}

void Client::flush_waiting(uint64_t now_ns) {
  while (!waiting_.empty() && path_.usable(now_ns)) {
    PacketQueue::Waiting& waiting = waiting_.pop();
    const PacketPath::Wrapped wrapped = path_.wrap(waiting.buffer, waiting.packet);
    if (!wrapped.datagram.empty()) send_datagrams({&wrapped.datagram, 1}, wrapped.sealed, now_ns);
  }
}

void Client::on_udp_readable(uint64_t now_ns) {
  receive_from(udp_, [&](std::span<uint8_t> datagram, const Endpoint& source) {
    if (config_.answer) [[unlikely]] return on_peer_datagram(datagram, source, now_ns);
    if (second_ && source == second_->gateway) [[unlikely]] {
      return on_second_datagram(datagram, now_ns);
    }
    on_received(path_.receive(datagram, source, now_ns), datagram, now_ns);
  });
}

// The canary hears answers, and what the gateway sends while it takes the canary for us.
void Client::on_canary_readable(uint64_t now_ns) {
  receive_from(canary_, [&](std::span<uint8_t> datagram, const Endpoint& source) {
    const Received received = path_.receive(datagram, source, now_ns);
    if (received.kind != Received::probe_reply) return on_received(received, datagram, now_ns);
    binding_test_.on_reply(received.stamp, true, now_ns);
  });
}

// `take` gets each datagram that has come, and its source.
template <typename Take>
void Client::receive_from(UdpSocket& socket, const Take& take) {
  std::array<Arrival, kReceiveBatch> arrivals;
  const unsigned count = socket.receive(inbound_, arrivals);
  for_each_datagram(std::span(arrivals).first(count), take);
  writer_.flush();
}

void Client::on_received(const Received& received, std::span<const uint8_t> datagram,
                         uint64_t now_ns) {
  if (!peer_) return;  // between two attempts nothing is usable, and receive() has counted it
  if (received.heard) {
    path_watch_.on_heard();
    peer_->on_heard(now_ns, received.kind == Received::packet);
  }
  HandshakeReject reject = HandshakeReject::none;
  switch (received.kind) {
    case Received::dropped:
      return;
    case Received::response: {
      tunnel::ResponseMessage message;
      std::memcpy(&message, datagram.data(), sizeof message);
      act(peer_->on_response(now_ns, message, reject), now_ns);
      return count_reject(reject);
    }
    case Received::cookie_reply: {
      tunnel::CookieReplyMessage message;
      std::memcpy(&message, datagram.data(), sizeof message);
      act(peer_->on_cookie_reply(now_ns, message, reject), now_ns);
      if (reject == HandshakeReject::none) lane_offer_.on_cookie_reply();
      return count_reject(reject);
    }
    case Received::packet:
      return writer_.add(received.inner, received.parsed);
    case Received::dhcp:
      if (const auto datagram_in = dhcp::unwrap(received.inner)) {
        act(dhcp_.on_message(now_ns, datagram_in->message), now_ns);
      } else {
        ++counters_.rx_inner_malformed;
        report_no_address("its DHCP message is malformed");
      }
      return;
    case Received::heartbeat:
      if (path_.is_plain() && now_ns - last_plain_sent_ns_ < kPlainFlowsNs &&
          now_ns - last_answer_ns_ >= kAnswerIntervalNs) {
        last_answer_ns_ = now_ns;
        send_control(0, false, now_ns);
      }
      return;
    case Received::probe_request:
      return send_probe(tunnel::kProbeReply, received.stamp, now_ns);
    case Received::probe_reply:
      if (path_mtu_.on_reply(received.stamp, now_ns)) return apply_path_mtu(now_ns);
      if (binding_test_.on_reply(received.stamp, false, now_ns)) return;
      // The clock anew: a batch may have taken a while since the turn began.
      round_trip_.on_reply(received.stamp, adit::client::now_ns());
      return;
  }
}

void Client::count_reject(HandshakeReject reason) {
  switch (reason) {
    case HandshakeReject::none:
      return;
    case HandshakeReject::bad_mac:
      ++counters_.handshake_bad_mac;
      break;
    case HandshakeReject::not_authentic:
      ++counters_.handshake_not_authentic;
      break;
    case HandshakeReject::no_protection:
      ++counters_.handshake_no_protection;
      report("the gateway chose a protection that is not accepted here");
      break;
    case HandshakeReject::no_lane:
      ++counters_.handshake_no_lane;
      break;
    case HandshakeReject::unexpected:
      ++counters_.handshake_unexpected;
      break;
    case HandshakeReject::malformed:
    // A gateway's reasons, not a client's.
    case HandshakeReject::unknown_peer:
    case HandshakeReject::replayed:
    case HandshakeReject::too_frequent:
      ++counters_.handshake_malformed;
      break;
  }
}

// Seals and sends what stands in control_buffer_. `wants_answer`: silence after it means that the
// session is dead, so that Peer makes a new one.
void Client::send_control(size_t inner_bytes, bool wants_answer, uint64_t now_ns) {
  if (!peer_ || !path_.usable(now_ns)) {
    ++counters_.tx_no_session;
    if (peer_) peer_->on_packet_waiting(now_ns);
    return;
  }
  const PacketPath::Wrapped wrapped = path_.wrap_control(control_buffer_, inner_bytes);
  if (wrapped.datagram.empty()) return;
  if (udp_.send({&wrapped.datagram, 1}, gateway_) == 0) ++counters_.tx_send_error;
  if (wants_answer) path_watch_.on_sent(now_ns);
  peer_->on_sent(now_ns, wants_answer);
  peer_->on_send_counter(path_.send_counter());
}

// Of a handshake message: nor does a later one fall behind it.
void Client::keep_stamp(const tunnel::Tai64n& stamp) {
  stamps_.keep(stamp);
  if (peer_) peer_->restore_sent_stamp(stamps_.last());
  if (second_) second_->peer.restore_sent_stamp(stamps_.last());
}

void Client::send_message(std::span<const uint8_t> message, uint64_t now_ns) {
  keep_stamp(peer_->last_sent_stamp());
  ++counters_.handshakes_sent;
  // Every other one that stays unanswered goes from another port: the binding may be what is dead.
  if (++initiations_unanswered_ % 2 == 1 && initiations_unanswered_ > 1) rebind();
  if (udp_.send({&message, 1}, gateway_) == 0) ++counters_.tx_send_error;
  lane_offer_.on_initiation(now_ns);
}

}  // namespace adit::client
