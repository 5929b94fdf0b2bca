// The control thread: handshakes, leases, neighbours, heartbeats, ageing. Never on a packet's way:
// slow packets come to it through a ring, and what it decides goes to the worker through another,
// together with the packet that announces it.
//
// Owner: main. Single thread; everything here is its own, but for TunnelTable's reports, which it
// reads, and the channels.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/arp.h"
#include "gateway/balance.h"
#include "gateway/channel.h"
#include "gateway/config.h"
#include "gateway/handshake_threads.h"
#include "gateway/messages.h"
#include "gateway/nat_log.h"
#include "gateway/ownership.h"
#include "gateway/pipeline.h"
#include "gateway/steering.h"
#include "gateway/tunnel_hand.h"
#include "gateway/tunnel_table.h"
#include "lib/dhcp/server.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/peer.h"
#include "lib/tunnel/remotes.h"
#include "lib/tunnel/source_limiter.h"

struct rte_mempool;

namespace adit::gateway {

// X(name): what the control thread counts.
#define ADIT_CONTROL_EVENTS(X)                                                        \
  X(handshakes_accepted) X(handshakes_limited) X(handshakes_crowded_out)              \
  X(cookies_sent) X(tunnels_opened) X(tunnels_aged_out)                               \
  X(tunnel_table_full) X(dhcp_exhausted) X(worker_ring_full) X(no_buffer)             \
  X(packets_taken) X(packets_given) X(tunnels_moved) X(moves_refused)                 \
  X(lanes_without_first) X(lanes_not_granted)

// Writer: the control thread. Readers: it, and the thread of the metrics; of the next as well.
struct ControlCounters {
#define X(name) Count name;
  ADIT_CONTROL_EVENTS(X)
#undef X
  // By tunnel::HandshakeReject.
  std::array<Count, 16> handshakes_rejected{};
};

// Of subscribers who have several at the moment. Writer: the control thread.
struct LaneCounts {
  Count granted;
  Count open;
};

// One who may connect, and what is known of its tunnel. Where it has several lanes, each is a
// Subscriber with a tunnel of its own: that of lane 0 keeps the others. Owner: Control.
struct Subscriber {
  const SubscriberConfig* config = nullptr;
  uint16_t profile = 0;  // index into nat::Settings::profiles
  uint32_t first_forward = 0;  // in Forwards
  std::optional<tunnel::Peer> peer;  // while it has a tunnel
  tunnel::Tai64n last_stamp{};                     // outlives the tunnel (replay)
  uint32_t slot = 0;                               // 0: no tunnel
  uint32_t epoch = 0;
  Ipv4Address address;  // inner; zero until leased
  uint8_t lane = 0;
  uint8_t lanes = 1;           // granted to lane 0's last handshake
  Ipv4Address paired_address;  // external, of all lanes; zero: there is one, and the worker chooses
  // Lanes 1 and up, each made at its first handshake and kept for its stamp.
  std::vector<std::unique_ptr<Subscriber>> further;
  tunnel::Protection protection = tunnel::Protection::chacha20_poly1305;  // of the last session
  size_t open_place = 0;  // in Control's open_, while it has a tunnel
  uint64_t opened_ns = 0;
  uint64_t complained_ns = 0;  // when the log last said that it gets no address
};

// Handshakes that have passed the cheap tests and wait for the dear ones: as many as a thread
// answers in kRekeyTimeoutNs, after which their clients send others. When all come at once, after a
// restart, each that is turned away comes again no sooner, and the thread has nothing to do.
inline constexpr unsigned kWaitingHandshakesMax = 32'768;

class Control final : private Arp::Sink {
 public:
  // A worker's rings.
  struct Link {
    Channel<ToWorker>* to_worker;
    Channel<Reply>* replies;
    Channel<ToControl>* from_worker;
    Channel<ToControl>* handshakes;  // apart, so that a flood of them fills nothing else
    const Counters* counters = nullptr;
    const PacketSamples* samples = nullptr;
    uint32_t samples_seen = 0;
    uint64_t busy_cycles = 0;  // when they were last looked at
    std::vector<Reply> written = {};  // in this tick, and not sent yet
    std::deque<ToWorker> waiting = {};  // state that to_worker had no room for
  };
  // Everything referred to outlives this. `profiles[i]` is subscriber i's. `spreads`: the uplink
  // brings its tunnels' packets to all workers alike, so that who receives a handshake should own
  // the tunnel. `all_transmit`: each worker has a transmit queue of its own on every port, so that
  // a tunnel may be moved. `handshake_cores`: where the further control threads run, if there are
  // any.
  Control(const Config& config, const std::vector<PortView>& ports,
          const std::vector<uint16_t>& profiles, TunnelTable& tunnels, rte_mempool* pool,
          std::vector<Link> links, const SteeringPlan& steering, bool spreads,
          bool all_transmit, const std::vector<uint32_t>& handshake_cores);
  ~Control() override;

  // Announces our addresses. Call when the worker runs.
  void start(uint64_t now_ns);
  // Everything that is due: call every millisecond or so. True: more waits, call again at once.
  bool tick(uint64_t now_ns);
  // A file descriptor that is readable when tick() has something to do sooner; -1: there is none.
  int event() const { return handshakes_.event(); }

  const ControlCounters& counters() const { return counters_; }
  const dhcp::Server& dhcp() const { return dhcp_; }
  const Arp& arp() const { return arp_; }
  const std::vector<Subscriber>& subscribers() const { return subscribers_; }
  const HandshakeThreads& handshakes() const { return handshakes_; }
  const LaneCounts& lane_counts() const { return lane_counts_; }
  unsigned open_tunnels() const { return static_cast<unsigned>(open_.size()); }
  // Asks the worker for a tunnel's mappings; they are in listed_mappings() when mappings_listed().
  void list_mappings(uint32_t slot);
  bool mappings_listed() const { return mappings_listed_; }
  const std::vector<ToControl>& listed_mappings() const { return listed_mappings_; }
  unsigned owner_of(uint32_t slot) const { return owners_.of(slot); }  // the worker
  // Begins to move a tunnel to a worker; what becomes of it the log says, and owner_of(). Else why
  // that is not possible, a sentence.
  const char* move_tunnel(uint32_t slot, unsigned worker);

 private:
  struct WaitingHandshake {
    tunnel::InitiationMessage initiation;
    Endpoint from;
    unsigned worker;  // that received it
    bool is_limited;  // came under load, and so with a cookie: its failure is its source's
    uint64_t came_ns;
  };

  bool take_items(uint64_t now_ns);
  void on_item(const ToControl& item, uint64_t now_ns);
  // control_handshakes.cpp
  bool take_handshakes(uint64_t now_ns);
  bool is_loaded(uint64_t now_ns);
  bool look_at(const ToControl& item, uint64_t now_ns);
  void reply_with_cookie(rte_mbuf* initiation, const Endpoint& from, uint64_t now_ns);
  void send_replies();
  bool answer_handshakes(uint64_t now_ns);
  bool begin_handshake(uint64_t now_ns);
  void go_on(HandshakeJob* job, uint64_t now_ns);
  bool decide(HandshakeJob& job, uint64_t now_ns);
  bool send_answer(const HandshakeJob& job, uint64_t now_ns);
  bool refuse(tunnel::HandshakeReject reason);

  uint32_t position_of(const Subscriber& subscriber) const {  // in the configuration
    return static_cast<uint32_t>(subscriber.config - config_.subscribers.data());
  }
  // control_lanes.cpp
  Subscriber* lane_of(HandshakeJob& job, uint64_t now_ns);
  Subscriber* open_lane_of(const HandshakeJob& job);
  void begin_lanes(Subscriber& subscriber);
  void close_further_lanes(Subscriber& subscriber);
  void count_lanes(const Subscriber& lane);
  Subscriber& lane_0_of(const Subscriber& lane) { return subscribers_[position_of(lane)]; }

  bool prepare_peer(Subscriber& subscriber);
  unsigned worker_for(const Subscriber& subscriber) const;
  void open_tunnel(Subscriber& subscriber, uint64_t now_ns);
  void close_tunnel(Subscriber& subscriber, const char* why);
  void tell_peer(Subscriber& subscriber);
  void follow(Subscriber& subscriber, uint64_t now_ns);
  void act(Subscriber& subscriber, const tunnel::Actions& actions, const Endpoint& to);

  void on_dhcp(const ToControl& item, uint64_t now_ns);
  void set_address(Subscriber& subscriber, Ipv4Address address);
  void expire_leases(uint64_t now_ns);

  void send_arp(unsigned port, const MacAddress& to, const ArpPacket& packet) override;
  void neighbour_found(unsigned port, Ipv4Address address, const MacAddress& mac) override;
  void neighbour_lost(unsigned port, Ipv4Address address) override;

  // control_moves.cpp
  void follow_move(uint64_t now_ns);
  bool ask_to_move(uint32_t slot, uint32_t epoch, unsigned worker);
  void give_back(uint32_t slot);
  void bring_slot_home(uint64_t now_ns);
  void balance(uint64_t now_ns);
  bool is_moving(uint32_t slot) const { return move_ && move_->slot == slot; }
  // Whether a message about the slot has to wait: its tunnel is on the move, or others wait already,
  // which must not be overtaken, for one tunnel may have what another one had.
  bool must_wait(uint32_t slot) const {
    return is_moving(slot) || (move_ && !move_->untold.empty());
  }

  rte_mbuf* packet_of(std::span<const uint8_t> bytes);
  void tell(unsigned worker, const ToWorker& message);
  void tell_what_waits();
  void tell_owner(const ToWorker& message);
  void tell_others(ToWorker message, ToWorker::Kind kind);
  void tell_all(const ToWorker& message);
  ToWorker message_about(const Subscriber& subscriber) const;

  const Config& config_;
  TunnelTable& tunnels_;
  TunnelOwners owners_;
  rte_mempool* pool_;
  std::vector<Link> links_;  // by worker
  const SteeringPlan& steering_;
  const bool spreads_;
  const bool all_transmit_;
  const bool routes_matter_;  // does every worker have to know whose an address is?
  tunnel::RandomSource random_;
  tunnel::Identity identity_;
  tunnel::Remotes remotes_;  // positions are subscribers'
  tunnel::CookieChecker cookies_;
  tunnel::SourceLimiter sources_;
  std::deque<WaitingHandshake> waiting_;
  uint64_t loaded_until_ns_ = 0;
  dhcp::Server dhcp_;
  Arp arp_;
  std::vector<Subscriber> subscribers_;
  std::vector<Subscriber*> by_slot_;   // nullptr: nobody has the slot
  std::vector<std::vector<uint32_t>> free_slots_;  // by worker; the lowest last: the first is 1
  unsigned asker_ = 0;                 // the worker whose item is in hand
  std::vector<Subscriber*> open_;      // those with a tunnel
  TunnelHand hand_;
  uint32_t next_epoch_ = 1;            // and number of a move
  uint64_t announce_again_ns_ = 0;
  NatLog nat_log_;
  // The tunnel that is being moved; one at a time. What there is to say of it meanwhile is said
  // when it is known to whom.
  struct Move {
    uint32_t slot = 0;
    uint32_t epoch = 0;  // 0: nobody has the slot
    uint32_t number = 0;
    unsigned to = 0;
    std::optional<Balance::Wish> wish;  // nullopt: somebody has asked for it
    struct Untold {
      ToWorker message;
      std::optional<ToWorker::Kind> to_others;  // nullopt: to the owner
    };
    std::vector<Untold> untold;
  };
  std::optional<Move> move_;
  std::deque<uint32_t> far_slots_;  // which are nobody's, and have to go home
  uint64_t bring_home_ns_ = 0;      // not before
  Balance balance_;
  uint64_t balance_at_ns_ = 0;
  unsigned balance_looks_ = 0;
  uint64_t balanced_cycles_ = 0;  // of the clock that busy cycles are counted by
  std::vector<ToControl> listed_mappings_;
  bool mappings_listed_ = false;
  ControlCounters counters_;
  LaneCounts lane_counts_;
  HandshakeThreads handshakes_;  // the first to end: its threads use others
};

}  // namespace adit::gateway
