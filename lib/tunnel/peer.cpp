#include "lib/tunnel/peer.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "lib/tunnel/crypto.h"

namespace adit::tunnel {

namespace {

// White paper, section 6.1: retries are spread by up to a third of a second.
constexpr uint64_t kRetryJitterNs = 333'000'000;
constexpr uint64_t kInitiationIntervalNs = kSecondNs / kInitiationsPerSecondMax;
// Data that finds no answer for so long wants a new handshake (section 6.5).
constexpr uint64_t kUnansweredNs = kKeepaliveTimeoutNs + kRekeyTimeoutNs;
// One who only receives renews the session while there is still time for it (section 6.2).
constexpr uint64_t kRekeyOnReceiveNs = kRejectAfterNs - kKeepaliveTimeoutNs - kRekeyTimeoutNs;

uint32_t random_u32(const RandomSource& random) {
  std::array<uint8_t, 4> bytes{};
  random(bytes);
  uint32_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// The least stamp above `stamp`.
Tai64n successor(Tai64n stamp) {
  for (size_t i = stamp.size(); i-- > 0;) {
    if (++stamp[i] != 0) break;
  }
  return stamp;
}

}  // namespace

const char* handshake_reject_name(HandshakeReject reason) {
  switch (reason) {
    case HandshakeReject::none:
      return "none";
    case HandshakeReject::malformed:
      return "malformed";
    case HandshakeReject::bad_mac:
      return "bad_mac";
    case HandshakeReject::not_authentic:
      return "not_authentic";
    case HandshakeReject::unknown_peer:
      return "unknown_peer";
    case HandshakeReject::replayed:
      return "replayed";
    case HandshakeReject::too_frequent:
      return "too_frequent";
    case HandshakeReject::no_protection:
      return "no_protection";
    case HandshakeReject::no_lane:
      return "no_lane";
    case HandshakeReject::unexpected:
      return "unexpected";
  }
  return "unknown";
}

void PeerConfig::accept(std::span<const Protection> protections) {
  assert(protections.size() <= preference.size());
  preference = {};
  std::ranges::copy(protections, preference.begin());
  allowed = set_of(protections);
}

std::optional<Protection> choose_protection(const PeerConfig& config, ProtectionSet offered) {
  if (offered.bits == 0) {  // a stock peer can do one and negotiates nothing
    const auto chacha = Protection::chacha20_poly1305;
    return config.allowed.contains(chacha) ? std::optional(chacha) : std::nullopt;
  }
  for (const Protection preferred : config.preference) {
    if (offered.contains(preferred) && config.allowed.contains(preferred)) return preferred;
  }
  return std::nullopt;
}

std::optional<unsigned> choose_lanes(const PeerConfig& config, LaneChoice wanted) {
  if (wanted.lane != config.lanes.lane) return std::nullopt;
  return std::min(wanted.lanes, config.lanes.lanes);
}

Peer::Peer(const Identity& local, const RemoteIdentity& remote, const PeerConfig& config,
           const RandomSource& random)
    : local_(&local), random_(&random), remote_(remote), jar_(remote.public_key), config_(config) {
  assert(config.slot_bits <= 28 && (uint64_t{config.slot} >> config.slot_bits) == 0);
  assert(config.lanes.lane < config.lanes.lanes);
  due_ns_.fill(kNever);
}

Actions Peer::connect(uint64_t now_ns, const Tai64n& tai64n) {
  assert(config_.initiates);
  Actions actions;
  if (!handshaking()) begin_handshake(now_ns, tai64n, actions);
  return actions;
}

Actions Peer::on_initiation(uint64_t now_ns, const OpenedInitiation& opened,
                            HandshakeReject& reject) {
  const auto answer = begin_answer(now_ns, opened, reject);
  if (!answer) return {};
  ResponseMessage response;
  const auto session = create_response(opened, remote_, answer->local_index, answer->chosen, now_ns,
                                       *random_, response, answer->lanes);
  if (session) return end_answer(now_ns, *session, response, reject);
  abandon_answer(*answer);
  reject = HandshakeReject::not_authentic;
  return {};
}

// Why an initiation gets no answer; or none.
HandshakeReject Peer::judge(uint64_t now_ns, const OpenedInitiation& opened) const {
  if (config_.initiates) return HandshakeReject::unexpected;
  if (opened.remote_public_key != remote_.public_key) return HandshakeReject::unknown_peer;
  if (opened.timestamp <= received_stamp_) return HandshakeReject::replayed;
  const uint64_t interval_ns = answering_index_ != 0 ? kRekeyTimeoutNs : kInitiationIntervalNs;
  if (has_initiation_ns_ && now_ns < last_initiation_ns_ + interval_ns) {
    return HandshakeReject::too_frequent;
  }
  if (!choose_protection(config_, opened.offered)) return HandshakeReject::no_protection;
  return choose_lanes(config_, opened.wanted) ? HandshakeReject::none : HandshakeReject::no_lane;
}

// What guards against replays and floods is remembered now, not only when the answer is made.
std::optional<Peer::Answer> Peer::begin_answer(uint64_t now_ns, const OpenedInitiation& opened,
                                               HandshakeReject& reject) {
  reject = judge(now_ns, opened);
  if (reject != HandshakeReject::none) return std::nullopt;
  received_stamp_ = opened.timestamp;
  lanes_granted_ = static_cast<uint8_t>(*choose_lanes(config_, opened.wanted));
  last_initiation_ns_ = now_ns;
  has_initiation_ns_ = true;
  answering_index_ = new_local_index();
  if (config_.dead_after_ns != 0) {
    const bool ever_heard = running(kDead);
    const uint64_t grace_ns = ever_heard ? kRekeyTimeoutNs : config_.dead_after_ns;
    start(kDead, std::max(ever_heard ? due_ns_[kDead] : 0, now_ns + grace_ns));
  }
  return Answer{answering_index_, *choose_protection(config_, opened.offered), lanes_granted_};
}

Actions Peer::end_answer(uint64_t now_ns, const Session& session, const ResponseMessage& response,
                         HandshakeReject& reject) {
  Actions actions;
  const bool is_awaited = answering_index_ != 0 && session.local_index == answering_index_;
  reject = is_awaited ? HandshakeReject::none : HandshakeReject::unexpected;
  if (!is_awaited) return actions;
  answering_index_ = 0;
  remember_index(session.local_index);
  unconfirmed_made_ns_ = session.established_ns;
  has_unconfirmed_ = true;

  // The session first: its owner installs it before the answer that lets the other end use it.
  actions.add(Action::install_session).session = session;
  Action& answer = actions.add(Action::send_message);
  answer.message_bytes = sizeof(response);
  std::memcpy(answer.message.data(), &response, sizeof(response));
  jar_.stamp(std::span(answer.message).first<sizeof(response)>(), now_ns);
  return actions;
}

Actions Peer::on_response(uint64_t now_ns, const ResponseMessage& message,
                          HandshakeReject& reject) {
  Actions actions;
  const auto bytes = std::span(reinterpret_cast<const uint8_t*>(&message), sizeof(message));
  reject = HandshakeReject::none;
  if (message.type != static_cast<uint8_t>(MessageType::response)) {
    reject = HandshakeReject::malformed;
  } else if (!handshaking() || message.receiver_index.host() != pending_.local_index) {
    reject = HandshakeReject::unexpected;
  } else if (!check_mac1(local_->public_key, bytes)) {
    reject = HandshakeReject::bad_mac;
  } else if (!accept_choice(message.chosen, pending_.offered)) {
    reject = HandshakeReject::no_protection;
  } else if (!accept_lanes(message.lanes, pending_.wanted)) {
    reject = HandshakeReject::no_lane;
  }
  if (reject != HandshakeReject::none) return actions;

  // A response that does not open leaves the handshake as it is: the true one may still come.
  const auto session = open_response(*local_, remote_, pending_, message, now_ns);
  if (!session) {
    reject = HandshakeReject::not_authentic;
    return actions;
  }
  lanes_granted_ = static_cast<uint8_t>(*accept_lanes(message.lanes, pending_.wanted));
  end_handshake();
  remember_index(session->local_index);
  has_session_ = true;
  session_made_ns_ = now_ns;
  rekeyed_by_count_ = false;
  heard(now_ns);
  restart_heartbeat(now_ns);
  // The gateway sends nothing in the new session before something came in it (rule 8 leaves that
  // to type 4), so the first thing in it is a heartbeat, whatever the protection.
  actions.add(Action::install_session).session = *session;
  actions.add(Action::send_heartbeat);
  return actions;
}

Actions Peer::on_cookie_reply(uint64_t now_ns, const CookieReplyMessage& message,
                              HandshakeReject& reject) {
  if (!handshaking() || message.receiver_index.host() != pending_.local_index) {
    reject = HandshakeReject::unexpected;
  } else {
    reject =
        jar_.on_reply(message, now_ns) ? HandshakeReject::none : HandshakeReject::not_authentic;
  }
  return {};
}

void Peer::on_heard(uint64_t now_ns, bool carried_packet) {
  if (has_unconfirmed_) {
    has_unconfirmed_ = false;
    has_session_ = true;
    session_made_ns_ = unconfirmed_made_ns_;
    if (!running(kHeartbeat)) restart_heartbeat(now_ns);
  }
  if (!has_session_) return;  // a straggler of a tunnel already given up
  heard(now_ns);
  if (carried_packet) start_if_stopped(kKeepalive, now_ns + kKeepaliveTimeoutNs);
  rekey_if_older(now_ns, kRekeyOnReceiveNs);
}

void Peer::on_sent(uint64_t now_ns, bool carried_packet) {
  if (!has_session_) return;
  stop(kKeepalive);
  restart_heartbeat(now_ns);
  if (carried_packet && config_.initiates) {
    start_if_stopped(kUnanswered, now_ns + kUnansweredNs);
  }
  rekey_if_older(now_ns, kRekeyAfterNs);
}

void Peer::on_plain_sent(uint64_t now_ns) {
  if (has_session(now_ns)) {
    rekey_if_older(now_ns, kRekeyAfterNs);
  } else {
    on_packet_waiting(now_ns);
  }
}

void Peer::on_send_counter(uint64_t counter) {
  if (counter <= kRekeyAfterMessages || rekeyed_by_count_ || !has_session_) return;
  rekeyed_by_count_ = true;
  want_handshake(0);  // this event carries no time: what is wanted by time 0 is due at once
}

void Peer::on_packet_waiting(uint64_t now_ns) {
  want_handshake(now_ns);
}

Actions Peer::tick(uint64_t now_ns, const Tai64n& tai64n) {
  Actions actions;
  if (due(kDead, now_ns) || due(kGiveUp, now_ns)) {
    die(actions);
    return actions;
  }
  if (due(kUnanswered, now_ns)) {
    stop(kUnanswered);
    want_handshake(now_ns);
  }
  if (due(kHeartbeat, now_ns) && !has_session(now_ns)) {
    stop(kHeartbeat);  // nothing to send it in: the client makes a session, the gateway waits
    want_handshake(now_ns);
  }
  if (due(kRetry, now_ns)) {
    send_initiation(now_ns, tai64n, actions);
  } else if (due(kHandshakeWanted, now_ns)) {
    begin_handshake(now_ns, tai64n, actions);
  }
  if (due(kKeepalive, now_ns) || due(kHeartbeat, now_ns)) {
    stop(kKeepalive);
    restart_heartbeat(now_ns);
    if (has_session(now_ns)) actions.add(Action::send_heartbeat);
  }
  return actions;
}

uint64_t Peer::next_deadline_ns() const {
  return *std::min_element(due_ns_.begin(), due_ns_.end());
}

uint64_t Peer::next_deadline_but_silence_ns() const {
  static_assert(kHeartbeat + 1 == kDead && kDead + 1 == kTimers);
  return *std::min_element(due_ns_.begin(), due_ns_.begin() + kHeartbeat);
}

bool Peer::has_session(uint64_t now_ns) const {
  return has_session_ && now_ns < session_made_ns_ + kRejectAfterNs;
}

void Peer::start_if_stopped(Timer timer, uint64_t at_ns) {
  if (!running(timer)) start(timer, at_ns);
}

// Asks for a handshake, but not sooner than kRekeyTimeoutNs after the last initiation.
void Peer::want_handshake(uint64_t now_ns) {
  if (!config_.initiates || handshaking()) return;
  const uint64_t earliest_ns = has_initiation_ns_ ? last_initiation_ns_ + kRekeyTimeoutNs : 0;
  start_if_stopped(kHandshakeWanted, std::max(now_ns, earliest_ns));
}

// Only the client initiates, so it renews every session, and each of its sessions is one that it
// initiated.
void Peer::rekey_if_older(uint64_t now_ns, uint64_t age_ns) {
  if (has_session_ && now_ns > session_made_ns_ + age_ns) want_handshake(now_ns);
}

void Peer::begin_handshake(uint64_t now_ns, const Tai64n& tai64n, Actions& actions) {
  start(kGiveUp, now_ns + kRekeyAttemptNs);
  stop(kHandshakeWanted);
  send_initiation(now_ns, tai64n, actions);
}

void Peer::send_initiation(uint64_t now_ns, const Tai64n& tai64n, Actions& actions) {
  sent_stamp_ = std::max(tai64n, successor(sent_stamp_));
  last_initiation_ns_ = now_ns;
  has_initiation_ns_ = true;
  start(kRetry, now_ns + kRekeyTimeoutNs + random_u32(*random_) % kRetryJitterNs);

  InitiationMessage initiation;
  const auto state = create_initiation(*local_, remote_, new_local_index(), config_.allowed,
                                       sent_stamp_, *random_, initiation, config_.lanes);
  // make_remote_identity() has refused keys of low order, and no other key can fail.
  assert(state);
  pending_ = *state;
  Action& action = actions.add(Action::send_message);
  action.message_bytes = sizeof(initiation);
  std::memcpy(action.message.data(), &initiation, sizeof(initiation));
  jar_.stamp(action.message, now_ns);
}

void Peer::end_handshake() {
  stop(kRetry);
  stop(kGiveUp);
  stop(kHandshakeWanted);
  wipe(pending_.chaining_key);
  wipe(pending_.ephemeral.bytes);
  pending_ = {};
}

// Everything ends but the stamps and the rate limit, which guard the next beginning.
void Peer::die(Actions& actions) {
  end_handshake();
  due_ns_.fill(kNever);
  has_session_ = false;
  has_unconfirmed_ = false;
  answering_index_ = 0;
  actions.add(Action::drop_sessions);
  actions.add(Action::dead);
}

void Peer::heard(uint64_t now_ns) {
  last_heard_ns_ = now_ns;
  stop(kUnanswered);
  if (config_.dead_after_ns != 0) start(kDead, now_ns + config_.dead_after_ns);
}

void Peer::restart_heartbeat(uint64_t now_ns) {
  if (config_.heartbeat_ns != 0) start(kHeartbeat, now_ns + config_.heartbeat_ns);
}

uint32_t Peer::new_local_index() {
  for (;;) {
    const uint32_t generation = random_u32(*random_) << config_.slot_bits;
    const uint32_t index = generation | config_.slot;
    const bool taken =
        std::find(recent_indices_.begin(), recent_indices_.end(), index) != recent_indices_.end();
    if (index != 0 && !taken) return index;
  }
}

// A session that was never confirmed is displaced by the next one, so its index is free again;
// without this, answers that get lost would push the living ones out.
void Peer::remember_index(uint32_t local_index) {
  if (!has_unconfirmed_) {
    std::copy_backward(recent_indices_.begin(), recent_indices_.end() - 1, recent_indices_.end());
  }
  recent_indices_[0] = local_index;
}

}  // namespace adit::tunnel
