#include "client-lite/lane_link.h"

#include <algorithm>
#include <cstring>

#include "client-lite/clock.h"

namespace adit::client {
namespace {

using tunnel::HandshakeReject;

constexpr uint64_t kSecondNs = 1'000'000'000;
// The gateway wants to see a cookie, which is for this port, in the initiation after the next one's
// ordinary time, which is spread by a third of a second.
constexpr uint64_t kCookiePatienceNs = tunnel::kRekeyTimeoutNs + kSecondNs;

}  // namespace

void LaneLink::begin(const LaneTunnel& tunnel, uint64_t now_ns) {
  end();
  tunnel_ = tunnel;
  backoff_.reset();
  go_down(now_ns);
}

void LaneLink::end() {
  if (!tunnel_) return;
  publish_session(nullptr);
  peer_.reset();
  tunnel_.reset();
  down_since_ns_.reset();
  useless_since_ns_.reset();
}

void LaneLink::tick(const RoundTrip& round_trip, uint64_t heartbeat_ns, uint64_t now_ns) {
  if (!tunnel_) return;
  heartbeat_ns_ = heartbeat_ns;
  if (down_since_ns_ && now_ns >= retry_ns_) attempt(now_ns);
  take_reports(now_ns);
  if (peer_) act(peer_->tick(now_ns, tai64n_now()), now_ns);
  expire(now_ns);
  if (down_since_ns_) return;
  watch_path(round_trip, now_ns);
  if (down_since_ns_ || now_ns < next_heartbeat_ns_) return;
  next_heartbeat_ns_ = now_ns + heartbeat_ns;
  send_heartbeat(now_ns);
}

void LaneLink::expire(uint64_t now_ns) {
  if (now_ns >= session_ends_ns_) publish_session(nullptr);
}

uint64_t LaneLink::next_deadline_ns() const {
  if (!tunnel_) return kNever;
  const uint64_t peer_ns = peer_ ? peer_->next_deadline_ns() : kNever;
  if (down_since_ns_) return std::min(peer_ns, retry_ns_);
  return std::min({peer_ns, path_watch_.next_deadline_ns(), next_heartbeat_ns_, session_ends_ns_});
}

HandshakeReject LaneLink::on_message(std::span<const uint8_t> message, uint64_t now_ns) {
  if (!peer_) return HandshakeReject::unexpected;
  HandshakeReject reject = HandshakeReject::none;
  if (message.size() == sizeof(tunnel::ResponseMessage)) {
    tunnel::ResponseMessage response;
    std::memcpy(&response, message.data(), sizeof response);
    act(peer_->on_response(now_ns, response, reject), now_ns);
  } else {
    tunnel::CookieReplyMessage reply;
    std::memcpy(&reply, message.data(), sizeof reply);
    act(peer_->on_cookie_reply(now_ns, reply, reject), now_ns);
    if (reject == HandshakeReject::none) retry_ns_ = now_ns + kCookiePatienceNs;
  }
  return reject;
}

void LaneLink::on_path_changed(uint64_t now_ns) {
  if (!tunnel_) return;
  backoff_.reset();
  if (useless_since_ns_) useless_since_ns_ = now_ns;
  if (down_since_ns_) {
    down_since_ns_ = retry_ns_ = now_ns;
    return;
  }
  take_port();
  path_watch_.hurry(now_ns);
}

void LaneLink::on_tunnel_renewed(uint64_t now_ns) {
  if (!tunnel_) return;
  backoff_.reset();
  if (down_since_ns_) {
    retry_ns_ = now_ns;
    return;
  }
  parts_.sender.refresh(now_ns);
  if (path_watch_.is_doubted() || !parts_.sender.path(number_).usable(now_ns)) {
    go_down(now_ns);
  } else {
    path_watch_.hurry(now_ns);
  }
}

// Its answer tells that the lane lives.
void LaneLink::send_heartbeat(uint64_t now_ns) {
  if (!peer_ || down_since_ns_) return;
  if (!parts_.sender.send_probe(number_, tunnel::kProbeRequest, now_ns, now_ns)) return;
  path_watch_.on_sent(now_ns);
  peer_->on_sent(now_ns, true);
}

// A handshake from a port of its own: what an earlier one met with, this one may not.
void LaneLink::attempt(uint64_t now_ns) {
  retry_ns_ = now_ns + backoff_.next_ns(random_u64());
  if (!take_port()) return;
  tunnel::PeerConfig config = tunnel_->config;
  config.lanes = {static_cast<uint8_t>(tunnel_->lanes), static_cast<uint8_t>(number_)};
  peer_.emplace(parts_.identity, tunnel_->gateway_identity, config, parts_.random);
  peer_->restore_sent_stamp(parts_.stamps.last());
  act(peer_->connect(now_ns, tai64n_now()), now_ns);
}

void LaneLink::go_down(uint64_t now_ns) {
  publish_session(nullptr);
  peer_.reset();
  if (!down_since_ns_) down_since_ns_ = now_ns;
  if (!useless_since_ns_) useless_since_ns_ = now_ns;
  retry_ns_ = now_ns;
}

// False: there is no other to be had, and the old one, if any, stays.
bool LaneLink::take_port() {
  auto fresh = std::make_shared<UdpSocket>();
  std::string refusal;
  if (!fresh->open(0, parts_.rights, refusal)) {
    parts_.log.warning("lane %u: %s", number_, refusal.c_str());
    return socket_ != nullptr;
  }
  if (!parts_.config.offloads) fresh->forgo_segments();
  if (socket_) ++parts_.counters.rebinds;
  socket_ = std::move(fresh);
  // The threads share it from what is published, which nobody sends by.
  parts_.board.change([this](LanesView& view) {
    view.lane[number_].socket = std::make_shared<const UdpSocket>(socket_->share());
  });
  parts_.log.debug("lane %u: UDP port %u", number_, socket_->local_port());
  return true;
}

// By value in the caller: an action may end the peer that it came from.
void LaneLink::act(const tunnel::Actions& actions, uint64_t now_ns) {
  for (const tunnel::Action& action : actions) {
    switch (action.kind) {
      case tunnel::Action::send_message:
        send_message(action.message_span());
        break;
      case tunnel::Action::install_session:
        on_session(action.session, now_ns);
        break;
      case tunnel::Action::send_heartbeat:
        send_heartbeat(now_ns);
        break;
      case tunnel::Action::drop_sessions:
        break;  // dead follows
      case tunnel::Action::dead:
        return go_down(now_ns);
    }
  }
}

void LaneLink::send_message(std::span<const uint8_t> message) {
  parts_.stamps.keep(peer_->last_sent_stamp());
  ++parts_.counters.handshakes_sent;
  if (socket_->send({&message, 1}, tunnel_->gateway) == 0) ++parts_.counters.tx_send_error;
}

void LaneLink::on_session(const tunnel::Session& session, uint64_t now_ns) {
  ++parts_.counters.sessions;
  publish_session(&session);
  if (!down_since_ns_) return;
  parts_.log.info("lane %u is up, from UDP port %u", number_, socket_->local_port());
  down_since_ns_.reset();
  backoff_.reset();
  path_watch_ = {};
  next_heartbeat_ns_ = now_ns + heartbeat_ns_;
}

// What was heard last has answered what was sent before.
void LaneLink::take_reports(uint64_t now_ns) {
  LaneReport& report = parts_.board.report(number_);
  const uint64_t sent_ns = report.sent_ns.load(std::memory_order_relaxed);
  const uint64_t heard_ns = report.heard_ns.load(std::memory_order_relaxed);
  const bool has_sent = sent_ns > seen_sent_ns_;
  const bool has_heard = heard_ns > seen_heard_ns_;
  const bool has_heard_packet =
      report.heard_packet_ns.load(std::memory_order_relaxed) > seen_heard_ns_;
  seen_sent_ns_ = std::max(seen_sent_ns_, sent_ns);
  seen_heard_ns_ = std::max(seen_heard_ns_, heard_ns);
  if (report.is_awaited.exchange(false, std::memory_order_relaxed) && peer_) {
    peer_->on_packet_waiting(now_ns);
  }
  if (!peer_ || down_since_ns_) return;
  if (has_heard) {
    path_watch_.on_heard();
    useless_since_ns_.reset();
  }
  if (has_sent && sent_ns > heard_ns) path_watch_.on_sent(now_ns);
  if (has_sent && parts_.sender.path(number_).is_plain()) {
    peer_->on_plain_sent(now_ns);
  } else if (has_sent) {
    peer_->on_sent(now_ns, true);
  }
  if (has_heard) peer_->on_heard(now_ns, has_heard_packet);
  if (next_counter_) {
    peer_->on_send_counter(next_counter_->load(std::memory_order_relaxed));
  }
}

void LaneLink::watch_path(const RoundTrip& round_trip, uint64_t now_ns) {
  switch (path_watch_.tick(now_ns, round_trip)) {
    case PathWatch::Step::none:
      return;
    case PathWatch::Step::probe:
      return send_heartbeat(now_ns);
    case PathWatch::Step::rebind:
      parts_.log.info("lane %u has fallen silent: trying another port and a new session", number_);
      take_port();
      send_heartbeat(now_ns);
      return act(peer_->connect(now_ns, tai64n_now()), now_ns);
    case PathWatch::Step::dead:
      parts_.log.warning("lane %u has fallen silent", number_);
      return go_down(now_ns);
  }
}

// Null: it has none any more.
void LaneLink::publish_session(const tunnel::Session* session) {
  if (session == nullptr && !next_counter_) return;
  next_counter_ = session ? make_counter() : nullptr;
  session_ends_ns_ = session ? session->established_ns + tunnel::kRejectAfterNs : kNever;
  parts_.board.change([&](LanesView& view) {
    view.lane[number_].session = session ? *session : tunnel::Session{};
    view.lane[number_].next_counter = next_counter_;
  });
}

}  // namespace adit::client
