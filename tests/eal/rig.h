// A gateway without ports: the real pipeline, tables and crypto over packet buffers in memory, one
// or two ports that are arrays, and the far ends of tunnels. After every test the conservation law
// must hold: TearDown() checks it. No packet, and no message of the control thread, may allocate.
//
//   client's far end ══ 20.1.1.10:20001 ══► port 0 (uplink, 30.1.1.10:8000)
//   server 40.1.1.10 ◄── port 0 (one port for both) or port 1 (public, 30.2.1.10)
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/pipeline.h"
#include "lib/tunnel/seal.h"
#include "tests/support/allocation_count.h"
#include "tests/support/nic_model.h"
#include "tests/support/packets.h"

struct rte_mempool;

namespace adit::gateway::test {

using adit::test::Bytes;
using adit::test::NoAllocation;
using tunnel::Protection;

inline const Ipv4Address kGateway = Ipv4Address::from_octets(30, 1, 1, 10);
inline const Ipv4Address kPublic = Ipv4Address::from_octets(30, 2, 1, 10);
inline const Ipv4Address kServer = Ipv4Address::from_octets(40, 1, 1, 10);
inline const Ipv4Address kRouter = Ipv4Address::from_octets(192, 168, 1, 1);
inline const Ipv4Address kInner = Ipv4Address::from_octets(192, 168, 1, 10);
inline const Endpoint kTunnelEndpoint{kGateway, Be16::from_host(8000)};
inline const Endpoint kClientOuter{Ipv4Address::from_octets(20, 1, 1, 10), Be16::from_host(20001)};
inline const Endpoint kApplication{kInner, Be16::from_host(1025)};
inline const Endpoint kService{kServer, Be16::from_host(6600)};
inline const MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
inline const MacAddress kNextHopMac{{2, 0, 0, 0, 0, 2}};
// Of an ICMP error of ours: internetwork control (RFC 1812 §4.3.2.5), and the id of what it is
// about.
inline const adit::test::Ipv4Options kErrorHeader{.tos = 0xc0, .id = 0x1234, .fragment = 0};
// Small tables, so that tests can fill them.
inline constexpr unsigned kRigHeldSyns = 8;
inline constexpr uint32_t kRigSessions = 10;
inline constexpr uint32_t kRigSessionsPerTunnel = 4;
inline constexpr uint64_t kStartNs = 1'000'000 * tunnel::kSecondNs;

Bytes copy_of(const rte_mbuf* mbuf);
// The same of a frame in a transmit queue, with the checksums that the device has been asked for.
Bytes on_the_wire(const rte_mbuf* mbuf);
// `packet` behind an Ethernet header, as a next hop sends it to us; `vlan` 0: untagged.
Bytes frame_of(const Bytes& packet, uint16_t ether_type, uint16_t vlan);

// A row's description as the name of a test.
std::string row_name(std::string description);

// The far end of a tunnel: seals and opens with the reference in lib/tunnel.
class FarEnd {
 public:
  FarEnd(const tunnel::Session& ours, unsigned mtu_bytes);

  // The UDP payload of the next type 4 packet, or of a type 5 packet.
  Bytes seal(const Bytes& inner);
  Bytes seal_at(const Bytes& inner, uint64_t counter);
  Bytes plain(const Bytes& inner) const;
  // What is inside a type 4 or type 5 packet to us; nullopt if it is not for us or not authentic.
  std::optional<Bytes> open(Bytes payload);

  Endpoint outer = kClientOuter;
  uint64_t counter = 0;

 private:
  tunnel::Session session_;  // as the gateway has it
  unsigned mtu_bytes_;
  tunnel::Aead send_;
  tunnel::Aead receive_;
};

// What one port for both sides takes where there are several workers: no flow rules, so that it is
// spread as an uplink; a rule with a hash; or rules by source port.
enum class CardRules : uint8_t { none, hash, source_port };

struct RigOptions {
  bool two_ports = false;
  uint16_t vlan = 0;
  uint16_t mtu_bytes = 1500;
  bool tunnel_to_tunnel = false;
  bool answer_unsolicited_syn = true;
  bool express = true;  // false: every packet through the stages
  bool controls_wait = false;  // heartbeats, for others, until a test has a worker go on with them
  bool inner_networks_outside = false;
  std::vector<Ipv4Prefix> exempt = {};
  std::vector<Ipv4Prefix> outer = {};  // subscribers' own addresses outside
  std::vector<Forwards::Forward> forwards = {};  // their external addresses are the pool's
  PortControlSettings port_control = {};
  uint32_t limit_window_s = 0;  // and blocks are told of where it is not
  IcmpErrorSettings icmp_errors = {.per_second = 20};
  Filter::Settings filter = {.sessions = kRigSessions,
                             .sessions_per_tunnel = kRigSessionsPerTunnel};
  nat::Settings nat = {};  // where the pool is empty, it is the public port's address
  unsigned workers = 0;    // 0: ADIT_WORKERS of the environment, or one
  CardRules card_rules = CardRules::none;
  bool checksum_ip_by_port = false;  // the ports' devices write it
  bool checksum_udp_by_port = false;
};

class Rig : public testing::Test {
 protected:
  explicit Rig(const RigOptions& options = {});
  ~Rig() override;
  void TearDown() override;

  // Opens tunnel `slot` with one session, confirmed by a heartbeat, and the inner address
  // 192.168.1.(9 + slot); what else it is given, extend_open() says.
  FarEnd open_tunnel(uint32_t slot, Protection protection);
  virtual void extend_open(ToWorker&) {}
  tunnel::Session make_session(uint32_t slot, Protection protection, uint8_t generation = 1);
  void install(uint32_t slot, const tunnel::Session& session);
  // Its session has expired with the time that passed: it gets another.
  void renew(FarEnd& far, uint32_t slot, Protection protection);
  // Gives the tunnel's worker a message of the control thread; with `packet` in a buffer. The
  // others hear of it as far as it matters to them, as the control thread does it.
  void give(ToWorker message, const Bytes& packet);
  void tell(const ToWorker& message);
  // Gives one worker a message, where a test has a control thread of its own.
  void deliver(unsigned worker, const ToWorker& message);
  void deliver(unsigned worker, const Reply& reply);
  // Takes what one of several workers hands to the control thread.
  virtual void take_told(unsigned, const ToControl& item) { told_.push_back(item); }
  void sweep();
  // A worker takes nothing over until the others go on with it.
  void stand_still(unsigned worker) { still_ = worker; }
  void go_on();
  // From now on, until go_on(), workers take over what others hand them when a test says so.
  void go_by_steps() { by_steps_ = true; }
  // Worker `to` takes over up to `most` (at most kBurstMax) of what `from` has for it; or goes on
  // with a move. False: there is nothing.
  bool take_over(unsigned to, unsigned from, unsigned most);
  bool advance_moves(unsigned worker);
  // Asks the owner of a tunnel to move it to a worker, as the control thread does; and what it has
  // said to that, nullopt: nothing yet. Messages go to who is known to be the owner by that.
  void move(uint32_t slot, unsigned worker);
  void move_free_slot(uint32_t slot, unsigned worker);
  std::optional<MoveRefusal> answer_to_move(uint32_t slot);
  unsigned owner_of(uint32_t slot) const;
  unsigned queue_of(unsigned port, const Bytes& ip_packet) const;

  // Puts frames on a port; `receive` takes IPv4 packets and adds the Ethernet header.
  void receive_frame(unsigned port, const Bytes& frame);
  void receive_burst(unsigned port, const std::vector<Bytes>& frames);
  void receive(unsigned port, const Bytes& ip_packet);
  void receive_packets(unsigned port, const std::vector<Bytes>& ip_packets);  // in one burst
  // From a far end, at its outer address, or from another one.
  void receive_from(const FarEnd& far, const Bytes& payload);
  void receive_from(const Endpoint& outer, const Bytes& payload);
  void receive_together(const FarEnd& far, const std::vector<Bytes>& payloads);  // in one burst

  // Frames sent on a port since the last call; `sent` strips the Ethernet header, after checking
  // it.
  std::vector<Bytes> sent_frames(unsigned port);
  std::vector<Bytes> sent(unsigned port);
  Bytes sent_one(unsigned port);  // exactly one, else the test fails
  // UDP payload of the only packet sent to `to` from the tunnel endpoint; outer headers checked.
  Bytes sent_to_tunnel(const Endpoint& to);
  // What was handed to the control thread.
  std::vector<ToControl> handed_out();

  // Sends `inner` through the tunnel and says from which external endpoint it left.
  Endpoint external_of(FarEnd& far, const Bytes& inner);

  uint64_t drops(Fate reason) const { return counters_.drops(reason); }
  nat::Nat::Counts nat_counts() const;  // all workers', as the following
  uint64_t granted_entries() const;
  unsigned portless_live() const;
  unsigned fragmented_datagrams() const;
  unsigned held_fragments() const;
  unsigned sessions_live() const;
  void expect_only_drop(Fate reason);  // exactly one drop, for this reason, and nothing sent

  rte_mempool* pool() { return pool_; }
  unsigned public_port() const { return settings_.public_port; }
  Ipv4Address external_address() const { return two_ports_ ? kPublic : kGateway; }

  const bool two_ports_;
  uint64_t now_ns_ = kStartNs;
  PipelineSettings settings_;
  nat::Settings nat_settings_;
  Counters counters_;
  std::unique_ptr<TunnelTable> tunnels_;
  // What a worker has of its own; but all count in counters_.
  struct Parts {
    std::unique_ptr<nat::Nat> nat;
    std::unique_ptr<Crypto> crypto;
    std::unique_ptr<PortlessMappings> portless;
    std::unique_ptr<Fragments> fragments;
    std::unique_ptr<Reassembly> reassembly;
    std::unique_ptr<Neighbours> neighbours;
    std::unique_ptr<TunnelRoutes> inner_routes;
    std::unique_ptr<TunnelRoutes> outer_routes;
    std::unique_ptr<Forwards> forwards;
    std::unique_ptr<HeldSyns> held_syns;
    std::unique_ptr<Filter> filter;
    std::unique_ptr<Pipeline> pipeline;
  };
  std::vector<Parts> parts_;  // by worker
  // The first worker's, which is the only one in most tests.
  nat::Nat* nat_ = nullptr;
  Fragments* fragments_ = nullptr;
  HeldSyns* held_syns_ = nullptr;
  Filter* filter_ = nullptr;
  Pipeline* pipeline_ = nullptr;

 private:
  void make_parts(unsigned worker, const RigOptions& options);
  void run(unsigned worker, unsigned port, std::span<rte_mbuf*> packets);
  void take(unsigned worker, const ToWorker& message);
  void hand_round();
  void collect(unsigned worker);

  struct FreeAligned {
    void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  std::unique_ptr<std::byte[], FreeAligned> memory_;
  size_t memory_bytes_ = 0;
  // Where there are several workers:
  std::optional<HandOff> hand_off_;
  std::vector<adit::test::NicModel> nics_;           // by port
  std::array<std::vector<Bytes>, kPortsMax> sent_;   // in the order in which it was sent
  std::vector<ToControl> told_;
  std::optional<unsigned> still_;
  bool by_steps_ = false;
  struct AskedMove {
    uint32_t number = 0;
    unsigned worker = 0;
  };
  void ask_to_move(ToWorker message, uint32_t slot, unsigned worker);
  uint32_t moves_ = 1000;  // beyond all epochs
  std::array<AskedMove, 16> asked_{};                // by slot
  std::array<std::optional<unsigned>, 16> owners_;   // of those that have moved
  std::array<ToWorker, 16> opened_;                  // by slot
  rte_mempool* pool_ = nullptr;
};

class TwoPortRig : public Rig {
 protected:
  TwoPortRig() : Rig({.two_ports = true}) {}
};

}  // namespace adit::gateway::test
