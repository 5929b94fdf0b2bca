// The client: one thread, one epoll loop, one tunnel. It owns the state machines (Peer, the DHCP
// client), the packet path and what is on the host, and moves events between them. (Where several
// lanes are wanted, this is lane 0, and lanes.h keeps the others and their threads.)
//
//     waiting ──► choosing ──► resolving ──► handshaking ──► addressing ──► up
//        ▲                         └────────────┴── gives up ────┴──────────┘
//
// `choosing` is left out unless the nearest gateway is wanted, `addressing` when the address is
// fixed. The tunnel's own heartbeat runs here and not in Peer, because it is a probe, goes out even
// while packets flow (docs/protocol.md, rule 9), and its interval comes with the lease or is learnt.
//
// While a way back to the preferred gateway is made, there is a second tunnel beside this one
// (second_tunnel.h).
//
// A gateway is given up when a handshake is not answered, or when what was sent stays unanswered
// through several probes, the last of them from another source port (path_watch.h); then the next
// is tried. What is on the host stays meanwhile, so that connections survive and nothing leaks past
// the tunnel.
//
// Owner: main.
#pragma once

#include <signal.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client-lite/adaptive_heartbeat.h"
#include "client-lite/backoff.h"
#include "client-lite/binding_test.h"
#include "client-lite/config.h"
#include "client-lite/control_socket.h"
#include "client-lite/device_reader.h"
#include "client-lite/device_writer.h"
#include "client-lite/host_network.h"
#include "client-lite/host_rights.h"
#include "client-lite/known_addresses.h"
#include "client-lite/lane_offer.h"
#include "client-lite/lanes.h"
#include "client-lite/log.h"
#include "client-lite/network_watch.h"
#include "client-lite/packet_path.h"
#include "client-lite/packet_queue.h"
#include "client-lite/path_mtu.h"
#include "client-lite/path_watch.h"
#include "client-lite/preference.h"
#include "client-lite/resolver.h"
#include "client-lite/round_trip.h"
#include "client-lite/second_tunnel.h"
#include "client-lite/sent_stamps.h"
#include "client-lite/state_files.h"
#include "client-lite/status.h"
#include "client-lite/survey.h"
#include "client-lite/tun.h"
#include "client-lite/udp_socket.h"
#include "lib/dhcp/client.h"
#include "lib/tunnel/peer.h"

namespace adit::client {

class Client {
 public:
  // Both must outlive the client.
  Client(const Config& config, const Log& log);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Makes the device and the sockets. False: the log says why, and nothing is left behind.
  bool open();
  // Runs until it is told to end (returns true), or until the device is taken away or the child
  // with the rights is gone (false). Either way everything is undone, as far as can be; but in the
  // latter cases a kill switch holds. The signals of ending_signals() must be blocked.
  bool run();
  // SIGTERM, SIGINT, SIGQUIT and SIGHUP, but those that whoever started us wants ignored (nohup).
  static sigset_t ending_signals();

 private:
  enum class Phase : uint8_t { waiting, choosing, resolving, handshaking, addressing, up };
  enum Tag : uint64_t {
    kTagTun, kTagUdp, kTagTimer, kTagSignal, kTagResolver, kTagControl, kTagNetwork, kTagClock,
    kTagCanary, kTagSurvey, kTagSurveyResolver, kTagLanes, kTagDns, kTagRights
  };
  // Datagrams that are to be sent with one call, in outbound_.
  struct Outbound {
    bool usable = false;      // there is a session to send in
    bool any_sealed = false;  // one is type 4 and carries a packet
    unsigned count = 0;
    std::array<std::span<const uint8_t>, kSendBatch> datagrams;
  };

  // client.cpp: the loop.
  bool open_device(std::string& refusal);
  bool lock_device(std::string& refusal);
  bool watch(int fd, Tag tag);
  bool watch_all();
  bool give_up_rights(std::span<const std::string> writable_directories, std::string& refusal);
  void on_event(Tag tag, uint64_t now_ns);
  void run_timers(uint64_t now_ns);
  void arm_timer();
  uint64_t next_deadline_ns() const;
  bool was_stopped(uint64_t due_ns, uint64_t now_ns) const;
  void lose_device(const char* how);
  void fail(std::string reason);
  void shut_down();

  // client_status.cpp: what it says of itself.
  Status make_status() const;

  // client_connect.cpp: from a gateway's name to a configured device.
  void begin_attempt(uint64_t now_ns);
  void restart(uint64_t now_ns);
  void drop_peer(uint64_t now_ns);
  void on_resolved(uint64_t now_ns);
  void on_unresolved(const std::string& reason, uint64_t now_ns);
  void reach(Ipv4Address gateway, uint64_t now_ns);
  bool has_another_to_try() const;
  bool make_peer();
  // Which asks for so many lanes.
  std::optional<tunnel::Peer> peer_of(const GatewayConfig& gateway, unsigned lanes) const;
  tunnel::PeerConfig peer_config_of(const GatewayConfig& gateway, unsigned lanes) const;
  void act(const tunnel::Actions& actions, uint64_t now_ns);
  void on_session(const tunnel::Session& session, uint64_t now_ns);
  void begin_tunnel(tunnel::Protection protection, uint64_t now_ns);
  void on_overdue(uint64_t now_ns);
  void give_up(const std::string& reason, uint64_t now_ns);
  void act(const dhcp::Client::Step& step, uint64_t now_ns);
  void configure(uint64_t now_ns);
  void enter_up(uint64_t now_ns);
  HostNetwork::Settings fixed_settings();
  HostNetwork::Settings leased_settings(const dhcp::ClientLease& lease);
  uint16_t outer_mtu_bytes();
  uint16_t device_mtu_bytes(std::optional<uint16_t> leased_bytes);
  bool has_tunnel() const { return phase_ == Phase::up || phase_ == Phase::addressing; }
  bool is_stock() const { return config_.gateways[gateway_index_].stock_wireguard; }
  // Who only answers cannot begin anew: he waits.
  bool watches_path() const { return outer_path_ && !config_.answer; }
  const PathWatch::Pace& pace() const {
    return is_stock() ? PathWatch::kByHandshakes : PathWatch::kByProbes;
  }
  void report(const std::string& problem);
  void report_gateway(const std::string& problem);
  void report_no_address(const std::string& problem);

  // client_answer.cpp: where the other end is a client, too.
  void await_initiation(uint64_t now_ns);
  bool answer_initiation(std::span<const uint8_t> datagram, const Endpoint& source,
                         uint64_t now_ns);
  void on_peer_datagram(std::span<uint8_t> datagram, const Endpoint& source, uint64_t now_ns);
  Received receive_from_peer(std::span<uint8_t> datagram, const Endpoint& source, uint64_t now_ns);

  // client_choice.cpp: which gateway is tried, and when to go back to the first.
  bool chooses_nearest() const {
    return config_.gateway_choice == GatewayChoice::kNearest && config_.gateways.size() > 1;
  }
  bool waits_to_return() const {
    return phase_ == Phase::up && position_ > 0 && config_.return_after_ns.has_value() &&
           !second_;
  }
  void use(size_t position);
  void use_next(uint64_t now_ns);
  bool begin_survey(std::span<const GatewayConfig> gateways, uint64_t now_ns);
  void watch_gateways(uint64_t now_ns);
  void on_choice(uint64_t now_ns);
  void on_first_asked(uint64_t now_ns);

  // client_return.cpp: another gateway's tunnel beside the one in use, and going over to it.
  void begin_second(const Endpoint& gateway, uint64_t now_ns);
  void offer_second(uint64_t now_ns);
  void act_second(const tunnel::Actions& actions, uint64_t now_ns);
  void act_second(const dhcp::Client::Step& step, uint64_t now_ns);
  void send_in_second(size_t inner_bytes, uint64_t now_ns);
  void on_second_datagram(std::span<uint8_t> datagram, uint64_t now_ns);
  void run_second(uint64_t now_ns);
  void change_places(uint64_t now_ns);
  void give_up_second(const std::string& reason, uint64_t now_ns);
  void end_second(uint64_t now_ns);

  // client_heartbeat.cpp: the tunnel's heartbeats, and how seldom they may be.
  bool learns_heartbeat() const {
    return config_.adaptive_heartbeat && !is_stock() && !config_.answer;
  }
  void set_heartbeat(uint64_t now_ns);
  void relearn_heartbeat();
  void stop_binding_test();
  void learn_heartbeat(uint64_t now_ns);
  void begin_binding_test(uint64_t now_ns);
  void take_binding_result(BindingTest::Outcome outcome, uint64_t now_ns);
  void send_from_canary(uint64_t stamp);
  void send_heartbeat(uint64_t now_ns);
  void write_probe(uint8_t kind, uint64_t stamp);
  void send_probe(uint8_t kind, uint64_t stamp, uint64_t now_ns);

  // client_path.cpp: the outer path.
  void on_network_readable(uint64_t now_ns);
  void on_clock_set(uint64_t now_ns);
  void look_at_network(uint64_t now_ns);
  void mend_network(uint64_t now_ns);
  void on_awake(uint64_t now_ns);
  void on_path_changed(uint64_t now_ns);
  void rebind();
  void watch_path(uint64_t now_ns);
  uint16_t path_mtu_bytes_max();
  void start_path_mtu(uint64_t now_ns);
  void limit_path_mtu(uint64_t now_ns);
  void probe_path_mtu(uint64_t now_ns);
  void apply_path_mtu(uint64_t now_ns);
  Be16 told_mtu() const;

  // client_lanes.cpp: what is different where there are lanes. Only then is lanes_ there.
  unsigned lanes_max() const { return lanes_ ? lanes_->count() : 1; }
  // For one that is never asked for lanes there is nothing to doubt.
  LaneSense lane_sense_of(size_t gateway) const {
    return config_.gateways[gateway].stock_wireguard ? LaneSense::has : lane_senses_[gateway];
  }
  LaneTunnel lane_tunnel() const;
  void begin_lanes(uint64_t now_ns);
  void note_lane_sense(LaneOffer& offer, size_t gateway);
  void move_lanes(const LaneOffer& offer);
  void offer_lanes(uint64_t now_ns);
  void publish_device();
  void send_in_lanes(uint64_t now_ns);
  void tend_lanes(uint64_t now_ns);
  void add_lanes(Status& status, uint64_t now_ns) const;

  // client_packets.cpp: packets.
  void on_tun_readable(uint64_t now_ns);
  bool put_out(const Admitted& packet, Outbound& batch, uint64_t now_ns);
  void send_batch(Outbound& batch, uint64_t now_ns);
  void send_datagrams(std::span<const std::span<const uint8_t>> datagrams, bool any_sealed,
                      uint64_t now_ns);
  void note_sent(bool any_sealed, uint64_t now_ns);
  void flush_waiting(uint64_t now_ns);
  void on_udp_readable(uint64_t now_ns);
  void on_canary_readable(uint64_t now_ns);
  template <typename Take>
  void receive_from(UdpSocket& socket, const Take& take);
  void on_received(const Received& received, std::span<const uint8_t> datagram, uint64_t now_ns);
  void count_reject(tunnel::HandshakeReject reason);
  void send_control(size_t inner_bytes, bool wants_answer, uint64_t now_ns);
  void keep_stamp(const tunnel::Tai64n& stamp);
  void send_message(std::span<const uint8_t> message, uint64_t now_ns);

  const Config& config_;
  const Log& log_;
  tunnel::RandomSource random_;
  tunnel::Identity identity_;
  Counters counters_;
  PacketPath path_{counters_};
  HostRights rights_;
  HostNetwork network_;
  StateFiles files_;
  SentStamps stamps_;
  Backoff backoff_;
  RoundTrip round_trip_;
  PathWatch path_watch_;
  PathMtu path_mtu_;
  Survey survey_;
  ReturnWatch return_watch_;
  AdaptiveHeartbeat adaptive_;
  BindingTest binding_test_;
  NetworkWatch network_watch_;
  SleepMeter sleep_meter_;
  Resolver resolver_;
  Tun tun_;
  UdpSocket udp_;
  UdpSocket canary_;  // open while heartbeats are learnt
  FileDescriptor device_lock_;
  FileDescriptor epoll_;
  FileDescriptor timer_;
  FileDescriptor signals_;
  ControlSocket control_;
  std::optional<tunnel::Peer> peer_;  // towards the gateway being tried
  dhcp::Client dhcp_;
  std::optional<SecondTunnel> second_;

  Phase phase_ = Phase::waiting;
  bool stopping_ = false;
  bool failed_ = false;  // without the device, or the rights, it cannot go on
  bool dhcp_start_due_ = false;  // a new session: DHCP begins when the turn's packets are sent
  std::vector<size_t> order_;    // of the gateways, by preference
  size_t position_ = 0;          // in it, of the one in use
  size_t gateway_index_ = 0;     // what stands there
  KnownAddresses known_addresses_;
  bool is_choice_due_ = false;   // the order is to be found anew
  uint64_t next_round_ns_ = 0;   // of asking the first while another is used; never: it is asked
  unsigned failures_ = 0;  // attempts given up since the tunnel was up
  Endpoint gateway_;
  std::optional<uint16_t> offered_heartbeat_s_;  // by this gateway, with the lease
  std::optional<OuterPath> outer_path_;  // to the gateway; nothing: the host has no way there
  unsigned initiations_unanswered_ = 0;
  tunnel::Tai64n answered_stamp_{};
  Endpoint answered_from_;  // where the last initiation that was answered came from
  std::optional<Ipv4Address> last_address_;
  std::optional<HostNetwork::Settings> settings_;  // as applied
  std::string last_error_;

  uint64_t started_ns_ = 0;
  uint64_t armed_ns_ = 0;           // what the timer is set to
  uint64_t retry_ns_ = 0;           // when waiting: the next attempt
  uint64_t attempt_ends_ns_ = 0;    // then an attempt that has not come up is given up
  uint64_t heartbeat_ns_ = 0;       // the interval
  uint64_t next_heartbeat_ns_ = 0;
  uint64_t next_test_ns_ = 0;       // of a binding
  uint64_t tested_ns_ = 0;          // the interval that the running one is about
  std::optional<bool> knows_marks_;  // whether the gateway in use does
  uint64_t last_plain_sent_ns_ = 0;
  uint64_t last_answer_ns_ = 0;     // rule 12: when a heartbeat was last answered

  uint64_t look_ns_ = UINT64_MAX;   // when to look at the host's network
  uint64_t looked_ns_ = 0;          // when that was done last
  uint64_t look_takes_ns_ = 0;      // as long as it did then
  uint64_t doubted_ns_ = 0;         // when a change of it last cast doubt on the path
  uint64_t mend_ns_ = UINT64_MAX;   // when to see whether all is as it was set up
  uint64_t mended_ns_ = 0;          // when something last was not
  uint64_t awake_ns_ = 0;           // when the machine was last found to have slept

  LaneOffer lane_offer_{1};             // to the gateway that is tried
  std::vector<LaneSense> lane_senses_;  // of the gateways
  std::unique_ptr<Lanes> lanes_;

  PacketQueue waiting_;
  DeviceReader reader_;
  DeviceWriter writer_{tun_, counters_};
  std::array<PacketBuffer, kSendBatch> outbound_;
  std::array<ArrivalBuffer, kReceiveBatch> inbound_;
  PacketBuffer control_buffer_;
};

}  // namespace adit::client
