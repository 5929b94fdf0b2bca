// The client's packets: from the TUN device to the socket and back, and what it says of its own.
#include <algorithm>
#include <cstring>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

using tunnel::HandshakeReject;
using tunnel::ProbePacket;

constexpr uint64_t kSecondNs = 1'000'000'000;
// Rule 12: a heartbeat that comes while plain packets flow may ask where we are. They flow when
// one was sent so lately, and the answer is given no more often than the gateway asks.
constexpr uint64_t kPlainFlowsNs = 10 * kSecondNs;
constexpr uint64_t kAnswerIntervalNs = kSecondNs;

}  // namespace

void Client::on_tun_readable(uint64_t now_ns) {
  std::array<std::span<const uint8_t>, kBatch> datagrams;
  unsigned count = 0;
  bool any_sealed = false;
  const bool usable = path_.usable(now_ns);
  for (PacketBuffer& buffer : outbound_) {
    size_t bytes = 0;
    const Tun::Outcome outcome = tun_.read(buffer.inner(), bytes);
    if (outcome == Tun::Outcome::gone) {
      log_.error("device %s was taken away", tun_.name().c_str());
      device_gone_ = true;
    }
    if (outcome != Tun::Outcome::packet) break;
    const std::optional<Admitted> packet = path_.admit(buffer.inner().first(bytes));
    if (!packet) continue;
    if (!usable) {
      if (!waiting_.push(buffer, *packet)) ++counters_.tx_no_session;
      continue;
    }
    const PacketPath::Wrapped wrapped = path_.wrap(buffer, *packet);
    if (wrapped.datagram.empty()) continue;
    any_sealed = any_sealed || wrapped.sealed;
    datagrams[count++] = wrapped.datagram;
  }
  if (count > 0) send_batch(std::span(datagrams).first(count), any_sealed, now_ns);
  if (!usable && !waiting_.empty() && peer_) peer_->on_packet_waiting(now_ns);
}

// `any_sealed`: at least one is type 4 and carries a packet.
void Client::send_batch(std::span<const std::span<const uint8_t>> datagrams, bool any_sealed,
                        uint64_t now_ns) {
  const unsigned taken = udp_.send(datagrams, gateway_);
  counters_.tx_send_error += datagrams.size() - taken;
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
    if (!wrapped.datagram.empty()) send_batch({&wrapped.datagram, 1}, wrapped.sealed, now_ns);
  }
}

void Client::on_udp_readable(uint64_t now_ns) {
  std::array<Arrival, kBatch> arrivals;
  const unsigned count = udp_.receive(inbound_, arrivals);
  for (unsigned i = 0; i < count; ++i) {
    const Received received = path_.receive(arrivals[i].bytes, arrivals[i].source, now_ns);
    on_received(received, arrivals[i].bytes, now_ns);
  }
}

void Client::on_received(const Received& received, std::span<const uint8_t> datagram,
                         uint64_t now_ns) {
  if (!peer_) return;  // between two attempts nothing is usable, and receive() has counted it
  if (received.heard) peer_->on_heard(now_ns, received.kind == Received::packet);
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
      return count_reject(reject);
    }
    case Received::packet:
      if (!tun_.write(received.inner)) {
        ++counters_.rx_device_error;
        return;
      }
      ++counters_.rx_packets;
      counters_.rx_bytes += received.inner.size();
      return;
    case Received::dhcp:
      if (const auto datagram_in = dhcp::unwrap(received.inner)) {
        act(dhcp_.on_message(now_ns, datagram_in->message), now_ns);
      } else {
        ++counters_.rx_inner_malformed;
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
  peer_->on_sent(now_ns, wants_answer);
  peer_->on_send_counter(path_.send_counter());
}

// Towards our own gateway a heartbeat is a probe, whose answer tells the round trip. A stock peer
// knows the empty one only, and does not answer it.
void Client::send_heartbeat(uint64_t now_ns) {
  if (is_stock()) return send_control(0, false, now_ns);
  const uint64_t stamp_ns = adit::client::now_ns();
  round_trip_.on_probe(stamp_ns);
  send_probe(tunnel::kProbeRequest, stamp_ns, now_ns);
}

void Client::send_probe(uint8_t kind, uint64_t stamp, uint64_t now_ns) {
  ProbePacket probe{};
  probe.kind = kind;
  probe.stamp = Be64::from_host(stamp);
  std::memcpy(control_buffer_.inner().data(), &probe, sizeof probe);
  send_control(sizeof probe, kind == tunnel::kProbeRequest, now_ns);
}

// A handshake message. Its stamp is on disk before it is on the wire: should the machine die in
// between, the next run skips it instead of repeating it.
void Client::send_message(std::span<const uint8_t> message) {
  last_stamp_ = std::max(last_stamp_, peer_->last_sent_stamp());
  const bool written = files_.write_stamp(last_stamp_);
  if (!written && !stamp_write_failed_) {
    log_.warning("cannot keep the last time stamp in %s: should this machine's clock go back, the "
                 "gateway will not listen until it has caught up",
                 config_.state_directory.c_str());
  }
  stamp_write_failed_ = !written;
  ++counters_.handshakes_sent;
  if (udp_.send({&message, 1}, gateway_) == 0) ++counters_.tx_send_error;
}

}  // namespace adit::client
