// Between workers: what belongs to another one is handed over, and what others have found to be
// ours is taken over. A packet goes as it came wherever that is possible, so that its owner does
// with it what it would do if it had received it.
//
//   a tunnel's packet            the tunnel's worker, which its slot says
//   a reply                      the worker of the port's window (steering.h), or if the window's
//                                tunnel has moved, that one's worker
//   a fragment                   first where all of its datagram meet, then as its first fragment
//   an ICMP error                as the packet that it quotes
//   a protocol without ports     the worker that keeps (protocol, external address); and then
//                                its tunnel's (portless_path.cpp)
#include <rte_mbuf.h>

#include "gateway/config.h"
#include "gateway/pipeline.h"

namespace adit::gateway {

// ---- Handing over ----

Fate Pipeline::hand_over(unsigned worker, const HandedPacket& packet) {
  if (worker == kOnTheMove) [[unlikely]] return hold_for_move(packet);
  HandOutbox& outbox = hand_outboxes_[worker];
  if (outbox.count == outbox.packets.size()) flush_hand_outbox(worker);
  outbox.packets[outbox.count++] = packet;
  return Fate::taken;
}

void Pipeline::flush_hand_outbox(unsigned worker) {
  HandOutbox& outbox = hand_outboxes_[worker];
  const unsigned taken =
      hand_off_->push(worker_, worker, {outbox.packets.data(), outbox.count});
  counters_.handed_over += taken;
  for (unsigned i = taken; i < outbox.count; ++i) {
    finish(Fate::hand_off_full, outbox.packets[i].mbuf);
  }
  outbox.count = 0;
}

void Pipeline::flush_hand_off() {
  for (unsigned worker = 0; worker < hand_outboxes_.size(); ++worker) {
    if (hand_outboxes_[worker].count != 0) flush_hand_outbox(worker);
  }
}

// From its IPv4 header on, which has been found good.
Fate Pipeline::hand_packet(const Packet& packet, unsigned worker) {
  HandedPacket handed;
  handed.mbuf = packet.mbuf;
  handed.port = packet.port;
  handed.kind = packet.hairpin              ? HandedPacket::turned
                : packet.parsed.is_fragment ? HandedPacket::fragment
                                            : HandedPacket::packet;
  packet.mbuf->ol_flags &= ~RTE_MBUF_F_RX_IP_CKSUM_MASK;
  packet.mbuf->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
  return hand_over(worker, handed);
}

void Pipeline::hand_frame_to_send(unsigned port, rte_mbuf* frame, unsigned worker) {
  HandedPacket handed;
  handed.mbuf = frame;
  handed.port = static_cast<uint8_t>(port);
  handed.kind = HandedPacket::to_send;
  hand_over(worker, handed);
}

void Pipeline::hand_frame(unsigned port, rte_mbuf* mbuf, unsigned worker) {
  HandedPacket handed;
  handed.mbuf = mbuf;
  handed.port = static_cast<uint8_t>(port);
  hand_over(worker, handed);
}

// A tunnel's packet that begins at its tunnel header now, and ends with its datagram.
Fate Pipeline::hand_tunnel_packet(Packet& packet, unsigned worker) {
  rte_pktmbuf_prepend(packet.mbuf, static_cast<uint16_t>(packet.parsed.payload_offset()));
  packet.ip().total_bytes = Be16::from_host(rte_pktmbuf_data_len(packet.mbuf));
  return hand_packet(packet, worker);
}

// Of a datagram in fragments, the others follow the first, once it is known whereto.
Fate Pipeline::hand_inbound(const Packet& packet, unsigned worker) {
  if (!packet.parsed.is_fragment || !packet.parsed.is_first_fragment || worker == kOnTheMove) {
    return hand_packet(packet, worker);
  }
  return hand_first_fragment(packet, worker);
}

Fate Pipeline::hand_to_tunnel(uint32_t slot, rte_mbuf* mbuf) {
  HandedPacket handed;
  handed.mbuf = mbuf;
  handed.kind = HandedPacket::inner;
  handed.slot = slot;
  handed.epoch = tunnels_.report(slot).epoch.load(std::memory_order_relaxed);
  return hand_over(owners_.of(slot), handed);
}

// ---- Whose is it? ----

// As window_owner(), of a port that is no forward's: kWorkersMax, nobody; where the window has moved
// on some address.
unsigned Pipeline::moved_window_owner(const Endpoint& external) const {
  const uint32_t slot = moved_ports_.tunnel_of(nat_.unit_of(external.address, external.port));
  return slot != 0 ? owners_.of(slot) : settings_.shares[external.port.host() / nat::kWindowPorts];
}

unsigned Pipeline::port_owner(nat::Protocol protocol, const Endpoint& external) const {
  if (forwards_ != nullptr) {
    if (const nat::Mapping* forward = forwards_->find_inbound(protocol, external)) {
      return owners_.of(forward->tunnel_slot);
    }
  }
  const unsigned owner = window_owner(external);
  return owner == kWorkersMax ? worker_ : owner;  // nobody's: whoever has it says so
}

unsigned Pipeline::portless_owner(uint8_t protocol, Ipv4Address external) const {
  return (external.host() + protocol) % settings_.workers;
}

// Where the fragments of a datagram meet, wherever they come in.
unsigned Pipeline::meeting_place(const Ipv4Header& ip) const {
  const uint32_t mixed = (ip.source.host() ^ ip.destination.host() ^ ip.id.host()) * 0x9e3779b1u;
  return static_cast<unsigned>(uint64_t{mixed} * settings_.workers >> 32);
}

// ---- Taking over ----

void Pipeline::take_over(unsigned from, std::span<const HandedPacket> packets, uint64_t now_ns) {
  set_time(now_ns);
  received_by_ = static_cast<uint8_t>(from);
  rte_mbuf* burst[kBurstMax];
  for (size_t i = 0; i < packets.size();) {
    // Frames of one port are a burst, as they were.
    unsigned count = 0;
    const uint8_t port = packets[i].port;
    while (i < packets.size() && count < kBurstMax && packets[i].port == port &&
           packets[i].kind == HandedPacket::frame) {
      burst[count++] = packets[i++].mbuf;
    }
    counters_.taken_over += count;
    if (count != 0) {
      run_burst(port, {burst, count}, Controls::at_once);
    } else {
      counters_.taken_over += packets[i].mbuf != nullptr;
      take_one_over(packets[i++]);
    }
  }
}

void Pipeline::take_one_over(const HandedPacket& handed) {
  Packet packet;
  packet.mbuf = handed.mbuf;
  packet.port = handed.port;
  switch (handed.kind) {
    case HandedPacket::frame:
      return run_stages(handed.port, handed.mbuf);
    case HandedPacket::fragment:
      packet.has_met = true;
      [[fallthrough]];
    case HandedPacket::packet:
      return finish(pass(packet, &Pipeline::read_ip, &Pipeline::sort_by_journey), handed.mbuf);
    case HandedPacket::turned:
      packet.hairpin = packet.has_met = true;
      return finish(pass(packet, &Pipeline::read_ip, &Pipeline::come_round), handed.mbuf);
    case HandedPacket::inner: {
      Tunnel& tunnel = tunnels_.at(handed.slot);
      if (!is_ours(tunnel)) return pass_on(handed);
      const bool is_stale = !tunnel.active || tunnel.epoch != handed.epoch;
      return finish(is_stale ? Fate::stale_tunnel : send_to_client(tunnel, handed.mbuf),
                    handed.mbuf);
    }
    case HandedPacket::portless_out:
      return finish(map_others_portless(packet, handed), handed.mbuf);
    case HandedPacket::portless_in:
      if (!is_ours(tunnels_.at(handed.slot))) return pass_on(handed);
      return finish(enter_portless(packet, handed), handed.mbuf);
    case HandedPacket::portless_refused:
      if (!is_ours(tunnels_.at(handed.slot))) return pass_on(handed);
      return finish(hear_portless_refused(packet, handed), handed.mbuf);
    case HandedPacket::to_send:
      return finish(transmit(handed.port, handed.mbuf), handed.mbuf);
    case HandedPacket::leaving:
      return hear_leaving(handed);
    case HandedPacket::mark:
      return hear_mark(handed);
    case HandedPacket::moved:
      return hear_moved(handed);
    case HandedPacket::adopted:
      return hear_adopted(handed);
    case HandedPacket::block_home:
      return hear_block_home(handed);
    case HandedPacket::expect:
      return hear_expect(handed);
    case HandedPacket::expected:
      return hear_expected(handed);
    case HandedPacket::sessions:
      return hear_sessions(handed);
  }
}

// To a tunnel that was ours when it was handed over, or that was waited for (move.cpp).
void Pipeline::pass_on(const HandedPacket& handed) {
  hand_over(owners_.of(handed.slot), handed);
}

// From another worker's tunnel to an address outside that is a subscriber's or the pool's.
Fate Pipeline::come_round(Packet& packet) {
  if (nat_.is_pool_address(packet.ip().destination)) {
    return must_follow(packet) ? follow(packet) : go_inbound(packet);
  }
  const std::optional<uint32_t> slot = owner_of(packet.ip().destination);
  return slot ? enter_tunnel(packet, tunnels_.at(*slot)) : Fate::not_our_address;
}

}  // namespace adit::gateway
