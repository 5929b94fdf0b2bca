// A swarm of clients and the servers they talk to, on two virtual ports (or one), with a gateway in
// between: real handshakes, real leases, then packets at a given rate, each of which knows when it
// was sent and what it must look like when it comes back.
//
// One thread polls, sends, keeps the clients' timers and judges every packet that arrives. Frames
// are made beforehand (frames.h), so that sending one is a copy and a stamp.
//
// With `yardstick` there is no gateway but something that hands frames on unchanged, such as
// dpdk-testpmd: the same frames are sent, and must come out as they are.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/swarm/client.h"
#include "bench/swarm/flood.h"
#include "bench/swarm/frames.h"
#include "bench/swarm/pace.h"
#include "bench/swarm/payload.h"
#include "bench/swarm/places.h"
#include "bench/swarm/trial.h"
#include "gateway/clock.h"
#include "gateway/port.h"

struct rte_mbuf;
struct rte_mempool;

namespace adit::bench {

struct SwarmOptions {
  uint32_t clients = 63;
  uint32_t flows_per_client = 16;
  uint32_t holding_back = 0;  // clients, the last ones, that have no flows and come in a storm
  uint32_t connecting_max = 32;  // at a time; far more, and the gateway asks for cookies
  // Of the clients, in turn; with `yardstick` one.
  std::vector<tunnel::Protection> protections = {tunnel::Protection::plain};
  uint64_t seed = 1;
  tunnel::PublicKey gateway_key;
  Endpoint tunnel;             // the gateway's, at the uplink
  Ipv4Address public_address;  // of the gateway's public port
  Ipv4Address uplink_router;   // what the swarm is to the gateway: its next hops
  Ipv4Address public_router;
  bool yardstick = false;
  uint32_t spoil = 0;  // one bit of every so many packets received in a trial is turned; 0: none
};

class Swarm {
 public:
  // `servers` may be the same port. `log` gets a line now and then.
  Swarm(const SwarmOptions& options, const gateway::Port& clients, const gateway::Port& servers,
        rte_mempool* pool, std::function<void(const std::string&)> log);

  // Until every client has its tunnel and address, and every flow its mapping. Throws
  // std::runtime_error that says what was missing after so long.
  void bring_up(double timeout_s);
  // The gateway is about to end: its devices are left alone, and nobody has tunnel, address or
  // mapping any more. Nothing but rest() until bring_up(), when another one is there: those who do
  // not hold back come again, the others in the next storm.
  void lose_gateway();
  TrialResult run(const TrialOptions& options);
  // Of the flows' inner packets, in turn.
  void set_sizes(const std::vector<uint16_t>& inner_bytes);
  // The flow's next packet; returns its bytes. `frame` has room for any.
  unsigned write(Direction direction, uint32_t flow, uint64_t tsc, uint8_t* frame);
  // One round of what must go on between trials; sleeps a little.
  void rest();

  uint32_t flows() const { return static_cast<uint32_t>(flows_.size()); }
  uint64_t wrong_ever() const { return wrong_ever_; }
  uint64_t deaths() const;

 private:
  static constexpr unsigned kBurst = 64;
  static constexpr unsigned kClientsSide = 0;
  static constexpr unsigned kServersSide = 1;
  struct Side {
    uint16_t port = 0;
    Ipv4Address router;   // ours
    Ipv4Address gateway;  // the other end's
    Link link;            // as we send; the gateway's address is asked for by ARP
    bool is_resolved = false;
    Link reversed() const { return {link.to, link.from}; }
  };
  // Where a client is, and whether it is somebody else than before.
  struct Whereabouts {
    uint32_t moves = 0;
    bool has_left = false;     // and has not come up again
    uint64_t settled_tsc = 0;  // what is sent from then on finds it
  };
  // Of a client that comes back.
  struct Absence {
    uint32_t client;
    uint64_t ends_ns;
  };
  // Whether a packet of the gateway finds its client. What the gateway sends before it knows that
  // the client has changed is right, and lost all the same.
  enum class Came : uint8_t { in_time, to_former_place, in_former_life };
  // A frame that may be a data packet of ours, while a burst is looked at.
  struct Arrival {
    uint8_t* frame;
    uint16_t bytes;
    uint8_t direction;
    bool is_data;
    uint32_t flow;
  };

  // restart.cpp
  void forget_mappings();
  void take_devices();

  // swarm.cpp
  void make_flows();
  void rebuild_flows_of(uint32_t client);
  void rebuild(Flow& flow);
  void rebuild_all();
  void on_client_changed(const Client& client);
  void note_arrival(uint32_t client);
  void send_datagram(const Client& client, std::span<const uint8_t> datagram);
  void send_control_frame(unsigned side, const uint8_t* frame, unsigned bytes);
  void ask_for_gateway(unsigned side);
  void wait_until(double timeout_s, const char* what, const std::function<bool()>& is_done);
  void open_mappings(double timeout_s);
  bool poll();  // whether anything came
  void connect_next(uint64_t now_ns);
  void tick(uint64_t now_ns);
  bool is_plain(uint32_t client) const {
    return client_world_.protection_of(client) == tunnel::Protection::plain;
  }
  Endpoint outer_endpoint(uint32_t client) const {
    return place_of(client, whereabouts_[client].moves);
  }

  // unrest.cpp
  void roam();
  void leave();
  void come_back(uint64_t now_ns);
  void note_return(uint32_t client);
  void wait_for_absent();
  std::optional<uint32_t> pick_settled();
  bool may_come(uint32_t client, Came came, uint64_t sent_tsc) const;
  std::span<const uint32_t> present(std::span<const uint32_t> flows,
                                    std::array<uint32_t, kBurst>& room);

  // transmit.cpp
  void send_due(Direction direction, Pace& pace, double due);
  void send(Direction direction, std::span<const uint32_t> flows);
  void send_flood(unsigned count);
  void report_progress(double seconds) const;

  // receive.cpp
  unsigned receive(unsigned side);
  Arrival look_at(unsigned side, rte_mbuf* mbuf) const;
  void take(const Arrival& arrival, unsigned side, uint64_t tsc);
  bool is_expected(const Arrival& arrival) const;
  void account(Direction direction, const Stamp& stamp, uint64_t tsc, Came came = Came::in_time);
  bool take_other(const Arrival& arrival, unsigned side, uint64_t tsc);
  bool take_arp(unsigned side, const uint8_t* frame, unsigned bytes);
  bool take_from_tunnel(const Arrival& arrival, uint64_t tsc);
  bool is_from_gateway(const uint8_t* frame, unsigned bytes, const Endpoint& to) const;
  bool take_sealed(uint32_t client, std::span<uint8_t> datagram, Came came, uint64_t tsc);
  bool take_plain(const Arrival& arrival, const Endpoint& to, Came came, uint64_t tsc);
  bool learn_mapping(const Arrival& arrival, uint64_t tsc);
  void spoil(std::span<rte_mbuf* const> packets);
  void remember_wrong(const Arrival& arrival, unsigned side);

  const SwarmOptions options_;
  const std::function<void(const std::string&)> log_;
  rte_mempool* const pool_;
  std::array<Side, 2> sides_;
  const bool one_port_;
  bool has_gateway_ = true;
  gateway::WorkerClock clock_;
  gateway::Crypto crypto_;
  ClientWorld client_world_;
  std::deque<Client> clients_;
  std::vector<bool> is_up_;
  std::vector<uint64_t> connecting_since_tsc_;  // by client; 0: has come up since, or not begun
  std::vector<Whereabouts> whereabouts_;        // by client
  std::vector<Absence> absences_;               // of those who have left and not begun anew
  uint32_t absent_ = 0;                         // who have left and are not up again
  std::minstd_rand unrest_random_;
  Flood flood_;
  uint32_t clients_wanted_;
  uint32_t connecting_max_;  // at a time
  uint32_t clients_started_ = 0;
  uint32_t clients_up_ = 0;
  uint32_t hand_ = 0;  // the client whose timers are looked at next
  uint64_t ticked_ns_ = 0;
  uint64_t asked_ns_ = 0;

  std::vector<Flow> flows_;
  std::vector<uint16_t> sizes_ = {64};
  std::array<std::vector<Frame>, kDirections> send_frames_;
  std::array<std::vector<Frame>, kDirections> expected_frames_;
  std::array<std::vector<uint32_t>, kDirections> next_sequence_;
  std::array<std::vector<uint32_t>, kDirections> seen_sequence_;
  std::array<unsigned, kDirections> arriving_header_bytes_{};
  std::unordered_map<uint64_t, uint32_t> mapped_;  // flow by external endpoint
  std::vector<uint32_t> order_;                    // in which flows take turns
  std::array<uint32_t, kDirections> turn_{};

  // Of the trial under way.
  TrialResult trial_;
  uint64_t trial_began_tsc_ = ~uint64_t{0};
  uint64_t came_up_tsc_ = 0;  // when the last client did
  uint64_t wrong_ever_ = 0;
  uint64_t until_spoilt_ = 0;
  std::minstd_rand spoil_random_;
};

}  // namespace adit::bench
