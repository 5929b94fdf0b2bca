// A lane beyond the first, as the main thread sees it: its handshakes, its source port, and whether
// its way to the gateway carries anything. Its packets move on threads (lane_thread.h), which say
// by reports when something was sent and heard, and learn of sessions and sockets from the board.
//
//     down ──► attempt: a source port, a handshake ──► up ──► silent: another port, a handshake
//       ▲          │  unanswered: later, from another      │
//       └──────────┘◄───────────────────── still silent ──┘
//
// While it is down its packets wait: in another lane their endpoints would have another mapping.
//
// Owner: Lanes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "client-lite/backoff.h"
#include "client-lite/config.h"
#include "client-lite/counters.h"
#include "client-lite/lane_board.h"
#include "client-lite/lane_sender.h"
#include "client-lite/log.h"
#include "client-lite/path_watch.h"
#include "client-lite/sent_stamps.h"
#include "client-lite/udp_socket.h"
#include "lib/tunnel/peer.h"

namespace adit::client {

// What every lane of the client has in common.
struct LaneParts {
  const Config& config;
  const Log& log;
  const tunnel::Identity& identity;
  const tunnel::RandomSource& random;
  SentStamps& stamps;
  Counters& counters;
  LaneBoard& board;
  LaneSender& sender;  // the main thread's
  HostRights& rights;
};

// Of a tunnel that is up.
struct LaneTunnel {
  tunnel::RemoteIdentity gateway_identity;
  tunnel::PeerConfig config;  // lane 0's
  Endpoint gateway;
  unsigned lanes = 1;  // granted
};

class LaneLink {
 public:
  LaneLink(unsigned number, const LaneParts& parts) : number_(number), parts_(parts) {}

  // Forgets what was, and makes its first attempt at the next tick().
  void begin(const LaneTunnel& tunnel, uint64_t now_ns);
  void end();

  // Does what is due. `round_trip` is lane 0's, to the same gateway; `heartbeat_ns` the interval.
  void tick(const RoundTrip& round_trip, uint64_t heartbeat_ns, uint64_t now_ns);
  uint64_t next_deadline_ns() const;

  // Takes its session back once that has ended by time, and when that is.
  void expire(uint64_t now_ns);
  uint64_t session_ends_ns() const { return session_ends_ns_; }

  // Messages 2 and 3. The reason goes to whoever counts it.
  tunnel::HandshakeReject on_message(std::span<const uint8_t> message, uint64_t now_ns);
  // The host's way to the gateway is another: so is every binding on it.
  void on_path_changed(uint64_t now_ns);
  // Lane 0 has a new session, perhaps with a new process, which knows of no other lane: asks. What
  // was not answered before may be now.
  void on_tunnel_renewed(uint64_t now_ns);
  void send_heartbeat(uint64_t now_ns);

  bool is_down() const { return down_since_ns_.has_value(); }
  // Since when nothing has come in it, if it is or was down since: a session alone, in which
  // nothing is heard, is of no use.
  std::optional<uint64_t> useless_since_ns() const { return useless_since_ns_; }
  // 0: never, or no socket.
  uint64_t last_handshake_ns() const { return peer_ ? peer_->last_handshake_ns() : 0; }
  uint64_t last_heard_ns() const { return peer_ ? peer_->last_heard_ns() : 0; }
  uint16_t local_port() const { return socket_ ? socket_->local_port() : uint16_t{0}; }

 private:
  static constexpr uint64_t kNever = UINT64_MAX;

  void attempt(uint64_t now_ns);
  void go_down(uint64_t now_ns);
  bool take_port();
  void act(const tunnel::Actions& actions, uint64_t now_ns);
  void send_message(std::span<const uint8_t> message);
  void on_session(const tunnel::Session& session, uint64_t now_ns);
  void take_reports(uint64_t now_ns);
  void watch_path(const RoundTrip& round_trip, uint64_t now_ns);
  void publish_session(const tunnel::Session* session);

  const unsigned number_;
  const LaneParts parts_;
  std::optional<LaneTunnel> tunnel_;
  std::optional<tunnel::Peer> peer_;
  std::shared_ptr<UdpSocket> socket_;
  SharedCounter next_counter_;  // of the session, if there is one
  PathWatch path_watch_;
  Backoff backoff_;
  std::optional<uint64_t> down_since_ns_;
  std::optional<uint64_t> useless_since_ns_;
  uint64_t session_ends_ns_ = kNever;  // of the one published, by time
  uint64_t retry_ns_ = 0;              // when down: the next attempt
  uint64_t heartbeat_ns_ = 0;  // the interval
  uint64_t next_heartbeat_ns_ = 0;
  uint64_t seen_sent_ns_ = 0;
  uint64_t seen_heard_ns_ = 0;
};

}  // namespace adit::client
