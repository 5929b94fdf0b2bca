// One end's view of the other: when to handshake, when to send a heartbeat, when to give up.
// Sans-I/O: events and `now_ns` in, actions out. The same class serves the client (which
// initiates) and the gateway (which answers). It holds no data keys for long: sessions go out as
// an action to whoever moves packets and keeps the SessionSet.
#pragma once

#include <array>
#include <cstdint>
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
  bool initiates = false;          // true: the client
  ProtectionSet allowed;           // to offer (client) or to accept (gateway)
  // The gateway chooses the first of these that the client offers; unused entries are 0.
  std::array<Protection, 3> preference{};
  uint64_t heartbeat_ns = 0;       // send one when nothing authenticated was sent for so long
  uint64_t dead_after_ns = 0;      // aged out when nothing authenticated was heard for so long
  uint32_t slot = 0;               // low bits of every local index
  uint8_t slot_bits = 0;
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
  malformed,        // wrong length or type
  bad_mac,          // mac1
  not_authentic,    // an AEAD of the handshake did not open
  unknown_peer,
  replayed,         // TAI64N not above the last
  too_frequent,     // more than kInitiationsPerSecondMax
  no_protection,    // nothing offered that is allowed
  unexpected,       // a response or cookie nobody waits for
};
const char* handshake_reject_name(HandshakeReject reason);

class Peer {
 public:
  // `remote` by value: 96 bytes. `random` and `local` must outlive the peer.
  Peer(const Identity& local, const RemoteIdentity& remote, const PeerConfig& config,
       const RandomSource& random);

  // Client: begin a handshake now unless one is under way. `tai64n` is the wall clock's stamp;
  // the peer never sends one that is not above the last (see last_sent_stamp()).
  Actions connect(uint64_t now_ns, const Tai64n& tai64n);

  // Gateway: message 1 was opened and belongs to this peer. `reject` says why nothing was done.
  Actions on_initiation(uint64_t now_ns, const OpenedInitiation& opened, HandshakeReject& reject);
  // Client: messages 2 and 3.
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

  // For persistence: the client must never send a stamp that is not above this one.
  const Tai64n& last_sent_stamp() const;
  void restore_sent_stamp(const Tai64n& stamp);
  // For the gateway: the highest stamp accepted from this peer.
  const Tai64n& last_received_stamp() const;
  void restore_received_stamp(const Tai64n& stamp);

  bool has_session(uint64_t now_ns) const;
  uint64_t last_heard_ns() const;
  uint64_t last_handshake_ns() const;
};

}  // namespace adit::tunnel
