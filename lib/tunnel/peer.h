// One end's view of the other: when to handshake, when to send a heartbeat, when to give up.
// Sans-I/O: events and `now_ns` in, actions out. The same class serves the client (which
// initiates) and the gateway (which answers). It holds no data keys for long: sessions go out as
// an action to whoever moves packets and keeps the SessionSet.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "lib/tunnel/cookie.h"
#include "lib/tunnel/keys.h"
#include "lib/tunnel/noise.h"
#include "lib/tunnel/session.h"

namespace adit::tunnel {

// Specification constants (WireGuard white paper, section 6.1).
inline constexpr uint64_t kRekeyAttemptNs = 90 * kSecondNs;
inline constexpr uint64_t kRekeyTimeoutNs = 5 * kSecondNs;
inline constexpr uint64_t kKeepaliveTimeoutNs = 10 * kSecondNs;
inline constexpr unsigned kInitiationsPerSecondMax = 50;

struct PeerConfig {
  bool initiates = false;  // true: the client
  ProtectionSet allowed;   // to offer (client) or to accept (gateway)
  // The gateway chooses the first of these that the client offers; unused entries are 0.
  std::array<Protection, 3> preference{};
  uint64_t heartbeat_ns = 0;   // send one when nothing authenticated was sent for so long
  uint64_t dead_after_ns = 0;  // aged out when nothing authenticated was heard for so long
  uint32_t slot = 0;           // low bits of every local index
  uint8_t slot_bits = 0;       // at most 28, to leave enough generations
  // Which lane it is, and how many are wanted (client) or may be granted (gateway).
  LaneChoice lanes;

  // These are allowed, and preferred in this order; at most three, all different.
  void accept(std::span<const Protection> protections);
};

struct Action {
  enum Kind : uint8_t {
    send_message,     // `message` to the other end, as is
    install_session,  // `session` into the SessionSet
    send_heartbeat,   // seal nothing (or a probe) in the current session and send it
    drop_sessions,    // forget all sessions: the tunnel is dead or closed
    dead,             // aged out, or the handshake was given up: the owner decides what next
  };
  Kind kind = send_message;
  uint16_t message_bytes = 0;
  std::array<uint8_t, sizeof(InitiationMessage)> message{};
  Session session;

  std::span<const uint8_t> message_span() const { return {message.data(), message_bytes}; }
};

// At most four actions follow from one event.
class Actions {
 public:
  const Action* begin() const { return actions_.data(); }
  const Action* end() const { return actions_.data() + count_; }
  unsigned size() const { return count_; }
  Action& add(Action::Kind kind) {
    Action& action = actions_[count_++];
    action.kind = kind;
    return action;
  }

 private:
  std::array<Action, 4> actions_{};
  unsigned count_ = 0;
};

// Why a handshake message was refused; one counter each.
enum class HandshakeReject : uint8_t {
  none,
  malformed,      // wrong length or type
  bad_mac,        // mac1
  not_authentic,  // an AEAD of the handshake did not open
  unknown_peer,
  replayed,       // TAI64N not above the last
  too_frequent,   // more than kInitiationsPerSecondMax
  no_protection,  // nothing offered that is allowed
  no_lane,        // another lane, or one that is not granted; an answer: more than were wanted
  unexpected,     // a response or cookie nobody waits for
};
const char* handshake_reject_name(HandshakeReject reason);

// What the gateway answers an offer with: the first preference that is offered and allowed. An
// empty offer is a stock peer's and gets ChaCha20-Poly1305 if that is allowed. nullopt if nothing
// fits.
std::optional<Protection> choose_protection(const PeerConfig& config, ProtectionSet offered);
// And how many lanes it grants: what is wanted, as far as it may. nullopt if the initiation is for
// another lane than the peer's.
std::optional<unsigned> choose_lanes(const PeerConfig& config, LaneChoice wanted);

class Peer {
 public:
  // `remote` by value: 96 bytes. `random` and `local` must outlive the peer.
  Peer(const Identity& local, const RemoteIdentity& remote, const PeerConfig& config,
       const RandomSource& random);

  // Client: begin a handshake now unless one is under way. `tai64n` is the wall clock's stamp;
  // the peer never sends one that is not above the last (see last_sent_stamp()).
  Actions connect(uint64_t now_ns, const Tai64n& tai64n);

  // Gateway: message 1 was opened and belongs to this peer. `reject` says why nothing was done.
  // An accepted initiation keeps the tunnel from being aged out for another kRekeyTimeoutNs, so
  // that the new session gets its chance; it does not count as heard.
  Actions on_initiation(uint64_t now_ns, const OpenedInitiation& opened, HandshakeReject& reject);
  // The same in two steps, between which another thread may call create_response(), the only part
  // that takes long, with what the first step says. A peer makes one answer at a time: before it
  // has ended, or kRekeyTimeoutNs have gone by, another initiation is too_frequent.
  struct Answer {
    uint32_t local_index = 0;
    Protection chosen = Protection::chacha20_poly1305;
    unsigned lanes = 1;  // granted
  };
  std::optional<Answer> begin_answer(uint64_t now_ns, const OpenedInitiation& opened,
                                     HandshakeReject& reject);
  // `session` and `response` as create_response() made them; unexpected, unless they are of the
  // answer that was begun last and has not ended.
  Actions end_answer(uint64_t now_ns, const Session& session, const ResponseMessage& response,
                     HandshakeReject& reject);
  // The answer that was begun cannot be made; another may be begun.
  void abandon_answer(const Answer& answer) {
    if (answering_index_ == answer.local_index) answering_index_ = 0;
  }
  // Client: messages 2 and 3. After a cookie reply the next initiation, at its ordinary time,
  // carries mac2.
  Actions on_response(uint64_t now_ns, const ResponseMessage& message, HandshakeReject& reject);
  Actions on_cookie_reply(uint64_t now_ns, const CookieReplyMessage& message,
                          HandshakeReject& reject);

  // What the data path saw. `heard`: an authenticated type 4 packet came. `sent`: one was sent
  // (`data`: it carried an inner packet). Type 5 counts only as on_plain_sent(): it wants a
  // session to exist and to be renewed, and proves nothing.
  void on_heard(uint64_t now_ns, bool carried_packet);
  void on_sent(uint64_t now_ns, bool carried_packet);
  void on_plain_sent(uint64_t now_ns);
  // How far the current session's send counter is, for rekey by message count.
  void on_send_counter(uint64_t counter);
  // Client: an inner packet waits and there is no usable session.
  void on_packet_waiting(uint64_t now_ns);

  // Does what is due. `tai64n` as in connect(). Call at next_deadline_ns() or later; calling
  // early does nothing.
  Actions tick(uint64_t now_ns, const Tai64n& tai64n);
  uint64_t next_deadline_ns() const;  // ~0 if nothing is ever due
  // The same but for what silence makes due: a heartbeat, heartbeat_ns after something was sent, and
  // the end, dead_after_ns after something was heard. Who sees by himself that neither is so may
  // tell the peer of all that later; if it awaits_confirmation(), at once.
  uint64_t next_deadline_but_silence_ns() const;
  // Gateway: a session has been made that nothing has come in yet.
  bool awaits_confirmation() const { return has_unconfirmed_; }

  // For persistence: the client must never send a stamp that is not above this one.
  const Tai64n& last_sent_stamp() const { return sent_stamp_; }
  void restore_sent_stamp(const Tai64n& stamp) { sent_stamp_ = stamp; }
  // For the gateway: the highest stamp accepted from this peer.
  const Tai64n& last_received_stamp() const { return received_stamp_; }
  void restore_received_stamp(const Tai64n& stamp) { received_stamp_ = stamp; }

  // Whether a session exists to send in: established, confirmed if we answered, not expired.
  bool has_session(uint64_t now_ns) const;
  // When the newest usable session was made; 0 = never.
  uint64_t last_handshake_ns() const { return session_made_ns_; }
  uint64_t last_heard_ns() const { return last_heard_ns_; }  // 0 = never
  // How many lanes the last handshake granted; 1 before the first.
  unsigned lanes_granted() const { return lanes_granted_; }

 private:
  // One deadline each; kNever when it is not running. tick() says what happens at each.
  enum Timer : uint8_t {
    kHandshakeWanted,  // begin a handshake
    kRetry,            // send the initiation again
    kGiveUp,           // the handshake has taken too long
    kUnanswered,       // data was sent and nothing heard since
    kKeepalive,        // data was heard and nothing sent since
    kHeartbeat,        // nothing authenticated was sent for heartbeat_ns
    kDead,             // nothing authenticated was heard for dead_after_ns
    kTimers,
  };
  static constexpr uint64_t kNever = ~uint64_t{0};

  bool running(Timer timer) const { return due_ns_[timer] != kNever; }
  bool due(Timer timer, uint64_t now_ns) const { return due_ns_[timer] <= now_ns; }
  void start(Timer timer, uint64_t at_ns) { due_ns_[timer] = at_ns; }
  void start_if_stopped(Timer timer, uint64_t at_ns);
  void stop(Timer timer) { due_ns_[timer] = kNever; }
  bool handshaking() const { return running(kRetry); }

  void want_handshake(uint64_t now_ns);
  void rekey_if_older(uint64_t now_ns, uint64_t age_ns);
  void begin_handshake(uint64_t now_ns, const Tai64n& tai64n, Actions& actions);
  void send_initiation(uint64_t now_ns, const Tai64n& tai64n, Actions& actions);
  void end_handshake();
  void die(Actions& actions);
  void heard(uint64_t now_ns);
  void restart_heartbeat(uint64_t now_ns);
  HandshakeReject judge(uint64_t now_ns, const OpenedInitiation& opened) const;
  uint32_t new_local_index();
  void remember_index(uint32_t local_index);

  const Identity* local_;
  const RandomSource* random_;
  RemoteIdentity remote_;
  CookieJar jar_;
  PeerConfig config_;
  std::array<uint64_t, kTimers> due_ns_;
  uint64_t last_initiation_ns_ = 0;  // sent (client) or accepted (gateway)
  uint64_t last_heard_ns_ = 0;
  uint64_t session_made_ns_ = 0;      // of the newest session that can be sent in
  uint64_t unconfirmed_made_ns_ = 0;  // gateway: of one whose first packet has not come
  // Local indices of the last sessions, newest first: no more than three of them live.
  std::array<uint32_t, 4> recent_indices_{};
  Tai64n sent_stamp_{};
  Tai64n received_stamp_{};
  uint32_t answering_index_ = 0;  // gateway: of the session whose answer is being made; 0 = none
  uint8_t lanes_granted_ = 1;
  bool has_initiation_ns_ = false;
  bool has_session_ = false;
  bool has_unconfirmed_ = false;
  bool rekeyed_by_count_ = false;  // the current session's counter has asked for a new one
  InitiatorState pending_;         // client: while handshaking()
};
// A gateway may hold a million of them.
static_assert(sizeof(Peer) <= 576);

}  // namespace adit::tunnel
