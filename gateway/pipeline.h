// The way of a packet through one worker. pipeline.cpp tells it top to bottom; outbound.cpp and
// inbound.cpp hold the stages of the two journeys, unmapped.cpp what is different for packets that
// are not translated by a mapping, follow.cpp for fragments, send.cpp what all end with, and
// answers.cpp the packets that the gateway itself has to say. What belongs to another worker is
// handed over in take_over.cpp; move.cpp makes a tunnel another worker's, move_sessions.cpp the
// filter's sessions with it.
//
// Owner: a worker, or a test with packets in memory. One thread. Nothing here allocates, locks,
// logs, waits or makes a system call.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "gateway/counters.h"
#include "gateway/crypto.h"
#include "gateway/filter.h"
#include "gateway/express.h"
#include "gateway/forwards.h"
#include "gateway/hand_off.h"
#include "gateway/held_syns.h"
#include "gateway/inlined.h"
#include "gateway/fragments.h"
#include "gateway/tunnel_routes.h"
#include "gateway/messages.h"
#include "gateway/move.h"
#include "gateway/neighbours.h"
#include "gateway/ownership.h"
#include "gateway/packet.h"
#include "gateway/pipeline_settings.h"
#include "gateway/portless.h"
#include "gateway/reassembly.h"
#include "gateway/samples.h"
#include "gateway/tunnel_table.h"
#include "lib/nat/ipv4_ids.h"
#include "lib/nat/nat.h"
#include "lib/pcp/message.h"

struct rte_mempool;

namespace adit::gateway {

// Frames for one port, in order. Room for a burst, its answers and the control thread's packets;
// the worker empties it after every burst.
struct TxQueue {
  std::array<rte_mbuf*, 4 * kBurstMax> packets{};
  unsigned count = 0;
};

Fate fate_of(nat::Refusal refusal);
Fate fate_of(PortlessMappings::Refusal refusal);

// What the tables of routes and forwards know of a tunnel: every worker's own, whoever's it is.
struct RoutedTunnel {
  uint32_t slot = 0;
  bool reached = false;  // by other clients
  Ipv4Address address;
  Ipv4Address external_address;
  std::span<const Ipv4Prefix> inner;   // prefixes behind the client
  std::span<const Ipv4Prefix> routed;  // of the Internet
  Forwards::Range forwards;
};

class Pipeline {
 public:
  // Everything referred to outlives the pipeline, which is its only user. `inner_routes` is null
  // where neither tunnel_to_tunnel nor exempt needs it, `outer_routes` where no subscriber has
  // addresses of its own outside, `held_syns` where policy leaves unsolicited SYNs without an
  // answer, `filter` where all is filtered endpoint-independently, `forwards` where there are none.
  struct Tables {
    TunnelTable& tunnels;
    nat::Nat& nat;
    PortlessMappings& portless;
    Fragments& fragments;
    Reassembly& reassembly;
    Neighbours& neighbours;
    TunnelRoutes* inner_routes;
    HeldSyns* held_syns;
    Filter* filter;
    TunnelRoutes* outer_routes = nullptr;
    Forwards* forwards = nullptr;
    HandOff* hand_off = nullptr;  // null where there is one worker
  };
  Pipeline(const PipelineSettings& settings, const Tables& tables, Crypto& crypto,
           rte_mempool* pool, Counters& counters);

  // Takes ownership of `packets` (at most kBurstMax), received on `port`. What is to be sent
  // stands in tx() afterwards, what is for the control thread in control_outbox().
  void run(unsigned port, std::span<rte_mbuf*> packets, uint64_t now_ns);
  // The same of what another worker has handed over.
  void take_over(unsigned from, std::span<const HandedPacket> packets, uint64_t now_ns);
  // Does what the control thread asks, or sends its replies; takes ownership of their packets.
  void take(const ToWorker& message, uint64_t now_ns);
  void take(std::span<const Reply> replies, uint64_t now_ns);
  // The control thread never heard that this neighbour is wanted.
  void forget_neighbour(unsigned port, Ipv4Address address);
  // Heartbeats may wait for others: call once in a loop, before run(). As after that, what to send
  // stands in tx() afterwards. True: some have been taken in hand.
  bool run_waiting(uint64_t now_ns, uint64_t wait_ns = WaitingControls::kWaitNs);
  // Moves the clock hands of its tables a little, and answers what has waited long enough: call
  // once a millisecond. As after run(), packets to send stand in tx() afterwards.
  void sweep(uint64_t now_ns);
  // Frees every packet still held. Call once, at the end.
  void drain();

  TxQueue& tx(unsigned port) { return tx_[port]; }
  // Passes on what is for other workers: call when a burst is done.
  void flush_hand_off();
  // Goes on with a tunnel that is being moved: call once in a loop, with tx() and what is for other
  // workers passed on. True: something has happened, pass on again.
  bool advance_moves(uint64_t now_ns);
  // Hands a frame to the worker that has a transmit queue of the port.
  void hand_frame_to_send(unsigned port, rte_mbuf* frame, unsigned worker);
  struct ControlOutbox {
    std::array<ToControl, 2 * kBurstMax> items{};
    unsigned count = 0;
  };
  ControlOutbox& control_outbox() { return control_outbox_; }
  const PacketSamples& samples() const { return samples_; }

 private:
  // pipeline.cpp: the journeys, and what kind of packet is it?
  void set_time(uint64_t now_ns);
  void run_burst(unsigned port, std::span<rte_mbuf*> packets, Controls controls);
  void run_stages(unsigned port, rte_mbuf* mbuf);
  void sweep_tunnels();
  template <typename... Stage>
  Fate pass(Packet& packet, Stage... stages);
  Fate travel(Packet& packet);
  Fate go_outbound(Packet& packet);
  Fate go_on_outbound(Packet& packet);
  Fate go_inbound(Packet& packet);
  Fate read_frame(Packet& packet);
  Fate read_ip(Packet& packet);
  Fate sort_by_journey(Packet& packet);
  Fate enter_outbound(Packet& packet);

  // express.cpp: both journeys for ordinary packets, a burst at a time
  using Link = ExpressLink;
  using Exit = ExpressExit;
  void run_express(unsigned port, std::span<rte_mbuf*> packets, Controls controls);
  template <unsigned kTraits>
  bool board(const Link& link, std::span<rte_mbuf*> packets);
  BoardPass board_pass(const PortView& port) const;
  void open(std::span<ExpressPacket> group);
  void look_into_opened(std::span<ExpressPacket> group);
  void take_sample(std::span<const ExpressPacket> group);
  void seek(std::span<ExpressPacket> group);
  void ask_for_sessions(std::span<const ExpressPacket> group);
  template <unsigned kTraits>
  ADIT_INLINED ExpressPacket::Way board_one(const Link& link, const rte_mbuf* mbuf,
                                           ExpressPacket& packet);
  template <unsigned kTraits>
  ADIT_INLINED ExpressPacket::Way board_outbound(const uint8_t* ip, unsigned total,
                                                ExpressPacket& packet);
  template <unsigned kTraits>
  ADIT_INLINED ExpressPacket::Way board_inbound(const uint8_t* ip, unsigned total,
                                               ExpressPacket& packet);
  ADIT_INLINED ExpressPacket::Way open_outbound(ExpressPacket& packet);
  ADIT_INLINED ExpressPacket::Way open_inbound(ExpressPacket& packet);
  ADIT_INLINED ExpressPacket::Way look_inside(ExpressPacket& packet);
  ADIT_INLINED bool is_known_destination(uint32_t raw);
  ADIT_INLINED bool is_known_remote(uint32_t raw);
  bool learn_destination(uint32_t raw);
  bool learn_remote(uint32_t raw);

  // express_depart.cpp: rewriting and new headers, and the way out
  struct Tally;
  template <unsigned kTraits>
  void depart(unsigned port, std::span<ExpressPacket> group);
  DepartPass depart_pass() const;
  template <unsigned kTraits>
  ADIT_INLINED bool depart_outbound(ExpressPacket& packet, Tally& tally);
  template <unsigned kTraits>
  ADIT_INLINED bool depart_inbound(ExpressPacket& packet, Tally& tally);
  nat::Mapping* find_or_make(const ExpressPacket& packet);
  void run_inner_stages(const ExpressPacket& packet);
  template <unsigned kTraits>
  ADIT_INLINED void wrap_express(rte_mbuf* mbuf, uint8_t* payload, unsigned payload_bytes,
                                 const TunnelLine& line);
  ADIT_INLINED static bool knows_hop(const Exit& exit, uint32_t to);
  ADIT_INLINED void send_express(const Exit& exit, rte_mbuf* mbuf, uint8_t* ip, unsigned bytes,
                                 uint32_t to);
  void send_by_stages(const Exit& exit, rte_mbuf* mbuf, uint8_t* ip, unsigned bytes);
  ADIT_INLINED static void set_data(rte_mbuf* mbuf, const uint8_t* begin, unsigned bytes);

  // express_sealed.cpp: encrypted packets, gathered and done together
  void ask_for_receiving(std::span<const ExpressPacket> group);
  void ask_for_sending(std::span<const ExpressPacket> group);
  void gather_to_open(ExpressPacket& packet, uint8_t* header, unsigned tunnel_bytes);
  void open_gathered();
  bool gather_to_seal(const ExpressPacket& packet);
  void seal_gathered();
  static void write_outer_udp_checksum(uint8_t* ip);

  // express_control.cpp: what is said to the gateway itself
  bool is_current(const TunnelLine& line, const uint8_t* outer) const;
  void let_controls_wait(std::span<ExpressPacket> group);
  bool may_go_on_waiting();
  void gather_control(ExpressPacket& packet);
  bool gather_answer(const ExpressPacket& packet);

  // express_lines.cpp: what it knows beforehand
  void prepare_express();
  void prepare_exit(Exit& exit, unsigned port);
  void refresh_exit(Exit& exit);
  void refresh_exits() {
    refresh_exit(public_exit_);
    refresh_exit(uplink_exit_);
  }
  void refresh_line(const Tunnel& tunnel);
  void report_traffic(uint32_t slot);

  // outbound.cpp: from a tunnel to the Internet
  Fate find_tunnel(Packet& packet);
  Fate find_session(Packet& packet);
  Fate open_encrypted(Packet& packet);
  Fate open_plain(Packet& packet);
  Fate read_inner(Packet& packet);
  Fate check_inner_source(Packet& packet);
  Fate check_inner_destination(Packet& packet);
  Fate cross_to_tunnel(Packet& packet, Tunnel& to);
  Fate check_hairpin(Packet& packet);
  bool may_hairpin(const Packet& packet) const {
    return nat_.profile_of(packet.tunnel->subscriber).hairpin;
  }
  Fate forward_outbound(Packet& packet);
  Fate map_outbound(Packet& packet);
  nat::Mapping* find_outbound(const Packet& packet, const Endpoint& internal);
  Fate map_portless_outbound(Packet& packet);
  Fate refuse_portless(Packet& packet, Fate reason);
  Fate open_filter(Packet& packet);
  Be16 new_id(const Packet& packet);
  Fate translate_outbound(Packet& packet);
  Fate turn_round(Packet& packet);
  Fate rewrite_outbound(Packet& packet);
  void set_mtu(Tunnel& tunnel, uint16_t told_bytes);
  Fate map_error_outbound(Packet& packet);

  // inbound.cpp: from the Internet into a tunnel
  Fate check_public_source(Packet& packet);
  Fate find_mapping(Packet& packet);
  nat::Mapping* find_inbound(const Packet& packet, const Endpoint& external);
  Fate find_mapping_of_error(Packet& packet);
  Fate go_to_portless_tunnel(Packet& packet);
  Fate refuse(const Packet& packet, Fate reason);
  Fate filter_inbound(Packet& packet);
  Fate forward_inbound(Packet& packet);
  Fate translate_inbound(Packet& packet);
  Fate wrap(Packet& packet);

  // unmapped.cpp: what no mapping translates
  bool is_exempt(Ipv4Address address) const;
  std::optional<uint32_t> owner_of(Ipv4Address address) const;
  Fate choose_way(Packet& packet);
  Fate check_unmapped_hairpin(Packet& packet);
  Fate leave_unmapped(Packet& packet);
  Fate enter_unmapped(Packet& packet);
  Fate enter_tunnel(Packet& packet, Tunnel& tunnel);
  Fate rewrite_one_to_one(Packet& packet, nat::Direction direction);

  // follow.cpp: fragments
  Fate sort_fragment(Packet& packet);
  Fate begin_outer(Packet& packet);
  Fate reassemble_outer(rte_mbuf* mbuf);
  Fate begin_fragments(const Packet& packet, FragmentRoute::Way way);
  void release_fragments(const Fragments::Key& key);
  Fate hand_first_fragment(const Packet& packet, unsigned worker);
  Fate follow(Packet& packet);
  Fate follow_round(rte_mbuf* mbuf);
  Fate follow_route(const FragmentRoute& route, rte_mbuf* mbuf);
  static Fragments::Key fragment_key(const Packet& packet, FragmentRoute::Way way);
  static bool must_follow(const Packet& packet);
  template <typename Send>
  Fate send_in_pieces(rte_mbuf* packet, unsigned mtu_bytes, Send send);
  Fate send_to_internet(rte_mbuf* packet);
  Fate send_to_client(Tunnel& tunnel, rte_mbuf* packet);

  // take_over.cpp: between workers
  bool is_ours(const Tunnel& tunnel) const {
    return !has_others_ || owners_.of(tunnels_.slot_of(tunnel)) == worker_;
  }
  unsigned window_owner(const Endpoint& external) const {
    const unsigned window = external.port.host() / nat::kWindowPorts;
    if (moved_ports_.may_be(window)) [[unlikely]] return moved_window_owner(external);
    return settings_.shares[window];
  }
  unsigned moved_window_owner(const Endpoint& external) const;
  unsigned port_owner(nat::Protocol protocol, const Endpoint& external) const;
  unsigned portless_owner(uint8_t protocol, Ipv4Address external) const;
  unsigned meeting_place(const Ipv4Header& ip) const;
  Fate hand_over(unsigned worker, const HandedPacket& packet);
  void flush_hand_outbox(unsigned worker);
  Fate hand_packet(const Packet& packet, unsigned worker);
  void hand_frame(unsigned port, rte_mbuf* mbuf, unsigned worker);
  Fate hand_tunnel_packet(Packet& packet, unsigned worker);
  Fate hand_inbound(const Packet& packet, unsigned worker);
  Fate hand_to_tunnel(uint32_t slot, rte_mbuf* mbuf);
  Fate hand_portless_out(const Packet& packet, unsigned worker);
  Fate hand_portless_in(const Packet& packet);
  void take_one_over(const HandedPacket& handed);
  void pass_on(const HandedPacket& handed);
  Fate come_round(Packet& packet);
  Fate map_others_portless(Packet& packet, const HandedPacket& handed);
  Fate hear_portless_refused(Packet& packet, const HandedPacket& handed);
  Fate enter_portless(Packet& packet, const HandedPacket& handed);

  // move.cpp: a tunnel becomes another worker's
  void begin_move(const ToWorker& message);
  MoveRefusal why_to_stay(const Tunnel& tunnel, uint32_t epoch) const;
  bool ask_others();
  void stay(MoveRefusal refusal);
  bool let_go();
  bool tell_others();
  void hear_leaving(const HandedPacket& handed);
  void hear_mark(const HandedPacket& handed);
  void hear_moved(const HandedPacket& handed);
  void hear_adopted(const HandedPacket& handed);
  bool send_mark();
  Fate hold_for_move(const HandedPacket& packet);
  void adopt(Tunnel& tunnel);
  bool say_adopted();
  bool let_go_of_held();
  void end_holding();
  void send_block_home();
  void hear_block_home(const HandedPacket& handed);
  void answer_move(uint32_t slot, uint32_t number, MoveRefusal refusal);
  bool tell_worker(unsigned worker, const HandedPacket& message);
  bool tell_worker(unsigned worker, HandedPacket::Kind kind, uint32_t slot, uint32_t number,
                   unsigned about);
  bool tell_of_departure(HandedPacket::Kind kind, unsigned about);

  // move_sessions.cpp: its sessions in the filter go along
  bool copy_sessions();
  bool copy_what_has_changed();
  bool send_sessions();
  void hear_expect(const HandedPacket& handed);
  bool answer_whether_there_is_room();
  void hear_expected(const HandedPacket& handed);
  void hear_sessions(const HandedPacket& handed);
  void forget_buffer(rte_mbuf* mbuf);
  void forget_arrival(const HandedPacket& handed);

  // send.cpp: the way out, shared
  enum class Seal : bool { as_session, always };  // always: DHCP, heartbeats, probes (rule 5)
  Fate send_into_tunnel(Tunnel& tunnel, rte_mbuf* mbuf, Seal seal);
  Fate send_outer_udp(rte_mbuf* payload, const Endpoint& to);
  Fate send_ip(unsigned port, rte_mbuf* packet);
  Fate send_frame(unsigned port, rte_mbuf* packet, const MacAddress& to, uint16_t ether_type);
  Fate transmit(unsigned port, rte_mbuf* frame);
  // One behind the other: the kernel's own, where it cuts a large packet (kernel_sender.h).
  uint16_t next_outer_id() {
    return static_cast<uint16_t>(first_outer_id_ | (outer_ids_++ & outer_ids_mask_));
  }
  void finish(Fate fate, rte_mbuf* mbuf);  // counts and frees what a sender refused
  Fate hand_to_control(const ToControl& item);
  void set_neighbour(const ToWorker& message);

  // answers.cpp: what the gateway itself says
  Fate answer_ping(Packet& packet);
  Fate answer_inner_ping(Packet& packet);
  Fate answer_local(Packet& packet);
  bool may_answer_with_error(const Packet& packet);
  bool may_tell(bool is_inside);
  bool take_icmp_token(Tunnel* tunnel);
  void tell_client(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest);
  void tell_internet(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest);
  void send_error_outside(std::span<const uint8_t> about, uint8_t type, uint8_t code,
                          uint32_t rest);
  Fate send_error_back_inside(rte_mbuf* error);
  void answer_held_syns();
  Fate answer_control_text(Packet& packet, unsigned text_bytes);
  Fate send_sealed_to(Tunnel& tunnel, rte_mbuf* mbuf, const Endpoint& to);
  void send_heartbeat(Tunnel& tunnel, const Endpoint& to);
  void hint_new_address(Packet& packet);
  rte_mbuf* new_packet();

  // port_control.cpp: mappings that clients ask for
  Fate answer_port_control(Packet& packet);
  bool is_fixed(const Tunnel& tunnel, nat::Protocol protocol, const Endpoint& internal) const;
  pcp::Answer control_port(Packet& packet, const pcp::Request& request);
  Fate send_port_control(Packet& packet, std::span<const uint8_t> response);

  // messages.cpp
  void open_tunnel(const ToWorker& message);
  void add_routes(const RoutedTunnel& tunnel);
  void remove_routes(const RoutedTunnel& tunnel);
  void move_route(uint32_t slot, Ipv4Address from, Ipv4Address to, bool reached);
  void close_tunnel(const ToWorker& message);
  void set_address(Tunnel& tunnel, Ipv4Address address);
  void install_session(const ToWorker& message);
  void list_mappings(const Tunnel& tunnel);
  void tell_block(const nat::BlockEvent& event);
  void tell_limit(Tunnel& tunnel, Fate limit);

  bool is_own_network(Ipv4Address address) const;
  bool is_ordinary_destination(Ipv4Address address) const;
  bool is_inside(Ipv4Address address) const;  // and so never outside
  bool is_foreign_host(Ipv4Address address) const;  // one host, and not ourselves

  const PipelineSettings settings_;
  const bool passes_unmapped_;  // is there any work for unmapped.cpp?
  const bool has_others_;       // workers beside this one
  const unsigned worker_;
  TunnelTable& tunnels_;
  nat::Nat& nat_;
  PortlessMappings& portless_;
  Fragments& fragments_;
  Reassembly& reassembly_;
  Crypto& crypto_;
  Neighbours& neighbours_;
  TunnelRoutes* const inner_routes_;
  TunnelRoutes* const outer_routes_;
  HeldSyns* const held_syns_;
  Filter* const filter_;
  Forwards* const forwards_;
  HandOff* const hand_off_;
  rte_mempool* pool_;
  Counters& counters_;

  uint64_t now_ns_ = 0;  // of the burst in hand
  uint8_t received_by_ = 0;  // the worker that it came from
  bool wants_sample_ = false;
  uint32_t now_s_ = 0;   // the translator's coarse clock
  // IPv4 identifications of what we send without DF (RFC 6864). Each worker has a range of its own.
  uint16_t outer_ids_ = 0;  // given so far
  const uint16_t outer_ids_mask_;
  const uint16_t first_outer_id_;
  uint32_t icmp_tokens_ = 0;
  uint32_t icmp_tokens_at_s_ = 0;
  std::array<Neighbour*, kPortsMax> last_neighbour_{};  // of the port's last packet: a cache
  std::array<TxQueue, kPortsMax> tx_{};
  ControlOutbox control_outbox_;
  std::vector<HandOutbox> hand_outboxes_;  // by worker; its own stays empty
  PacketSamples samples_;
  TunnelOwners owners_;
  MovedPorts moved_ports_;
  Departure departure_;
  RoomAnswer room_answer_;
  Holding holding_;

  // What express.cpp compares packets with, as it lies in memory.
  std::array<Link, kPortsMax> links_{};
  uint64_t tunnel_endpoint_ = 0;  // destination address, any source port, destination port
  uint16_t public_mtu_bytes_ = 0;
  bool has_encrypted_ = false;  // has there been a tunnel whose packets are?
  // And how they leave: by either port, and in front of a tunnel packet.
  Exit public_exit_;
  Exit uplink_exit_;
  ExpressOuter outer_;
  DepartPass depart_pass_ = nullptr;
  // Zero is no address; what an empty place holds does not belong there.
  std::array<uint32_t, 1024> known_destinations_{};
  std::array<uint32_t, 1024> known_remotes_{};
  std::array<ExpressPacket, kBurstMax> express_;
  ExpressGathered gathered_;
  WaitingControls waiting_;
  uint32_t line_hand_ = 0;  // the slot that the sweep has looked at last
  uint32_t lines_end_ = 1;  // and behind the last that it has to: the lowest are used first
  nat::Ipv4Ids ids_;        // of what is translated; large, and used where DF is clear
};

// Each journey is a list of stages. A stage returns Fate::next for a packet that goes on,
// Fate::taken for one that somebody else owns now, or the reason for which it is dropped.
template <typename... Stage>
Fate Pipeline::pass(Packet& packet, Stage... stages) {
  Fate fate = Fate::next;
  ((fate = (this->*stages)(packet), fate == Fate::next) && ...);
  return fate;
}

}  // namespace adit::gateway
