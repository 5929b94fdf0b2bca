// A client with lanes: one tunnel, several source ports and threads. Lane 0 is Client's own, with
// everything that a tunnel has; this keeps the others (lane_link.h), the threads that move their
// packets (lane_thread.h), and what they all share (lane_board.h).
//
//     Client ── begin(), end(), tick() ──► LaneLink 1..N ── handshakes ──► gateway
//        │                                     │ sessions, sockets
//        └── lane 0's session and socket ──► LaneBoard ◄──► LaneThread 1..N, and the main
//                                                           thread's own queue: send_from()
//
// A lane that is down for long is a tunnel that is broken: Client then makes a new one.
//
// Owner: Client, where more lanes than one are wanted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client-lite/lane_board.h"
#include "client-lite/lane_link.h"
#include "client-lite/lane_sender.h"
#include "client-lite/lane_thread.h"
#include "client-lite/status.h"

namespace adit::client {

class Lanes {
 public:
  // How long a lane may be down before the tunnel is made anew: several attempts.
  static constexpr uint64_t kDownNsMax = 20'000'000'000;

  // All must outlive it.
  Lanes(const Config& config, const Log& log, const tunnel::Identity& identity,
        const tunnel::RandomSource& random, SentStamps& stamps, Counters& counters,
        HostRights& rights);
  ~Lanes() { stop(); }

  // Makes the queues of `device`. False: `refusal` says why.
  bool open(const Tun& device, std::string& refusal);
  // Makes the threads, which have this thread's rights and filter of system calls. Where the system
  // gives no more of them there are fewer lanes.
  void start();
  void stop();
  // How many lanes there can be: 1 where there is no other thread.
  unsigned count() const { return 1 + static_cast<unsigned>(threads_.size()); }

  // Lane 0's, whose handshakes and receiving are Client's, and the counter that all share.
  void install(const tunnel::Session& session, const SharedCounter& counter);
  void drop_session();
  void set_socket(const UdpSocket& socket);

  // The device's address and MTU, as soon as they are known.
  void set_device(std::optional<Ipv4Interface> address, uint16_t mtu_bytes);
  // Lane 0's handshake has granted lanes, of which packets have theirs from now on. The others are
  // opened when the tunnel is up.
  void begin(const LaneTunnel& tunnel);
  void on_up(uint64_t now_ns);
  void end();
  // The tunnel is left for this one, lane 0 of which is up. What is under way in the others is
  // taken for as long as lane 0 takes it there.
  void move(const LaneTunnel& tunnel);
  bool has_begun() const { return tunnel_.has_value(); }
  unsigned granted() const { return tunnel_ ? tunnel_->lanes : 1; }

  // Sends what waits at the main thread's queue. False: the device was taken away.
  bool send_from(Tun& queue, uint64_t now_ns) { return sender_.send_from(queue, now_ns); }
  // When a packet was last sent in lane 0, if since the last call.
  std::optional<uint64_t> take_sent_ns();
  // Whether one has had to wait for lane 0's session since the last call.
  bool take_awaited() {
    return board_.report(0).is_awaited.exchange(false, std::memory_order_relaxed);
  }

  // Readable when handshake messages came in other lanes. `count` gets each one's reject.
  int mail_fd() const { return mail_out_.get(); }
  template <typename Count>
  void on_mail(uint64_t now_ns, const Count& count) {
    while (const std::optional<LaneMail> mail = next_mail()) {
      count(links_[mail->lane - 1]->on_message(mail->span(), now_ns));
    }
  }

  void on_path_changed(uint64_t now_ns);
  void on_renewed(uint64_t now_ns);
  void send_heartbeats(uint64_t now_ns);
  // Forgets the keys of sessions that have ended by time, and when that is to be done next: whether
  // or not there is a tunnel, or a way to the gateway.
  void expire(uint64_t now_ns);
  uint64_t next_expiry_ns() const;
  // Does what is due in a tunnel. The lane that has been down for too long, or nothing.
  std::optional<unsigned> tick(const RoundTrip& round_trip, uint64_t heartbeat_ns, uint64_t now_ns);
  uint64_t next_deadline_ns() const;

  // Adds what the threads have counted to `counters`.
  void add_counters(Counters& counters) const;
  std::vector<LaneStatus> make_status(uint64_t now_ns) const;

 private:
  void end_links();
  std::optional<LaneMail> next_mail();

  const Log& log_;
  LaneBoard board_;
  LaneSender sender_;  // the main thread's
  FileDescriptor mail_in_;
  FileDescriptor mail_out_;
  std::vector<std::unique_ptr<LaneLink>> links_;      // of lanes 1 and up
  std::vector<std::unique_ptr<LaneThread>> threads_;  // of the same
  std::optional<LaneTunnel> tunnel_;
  bool is_up_ = false;
  uint64_t session_ends_ns_ = UINT64_MAX;  // lane 0's, by time
  uint64_t next_look_ns_ = 0;  // at what the threads report
  uint64_t seen_sent_ns_ = 0;  // in lane 0
};

}  // namespace adit::client
