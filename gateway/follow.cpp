// Fragments. A first fragment has ports and goes the ordinary way, and so does any fragment of a
// protocol without ports. The others follow their first by what fragments.h remembers of it, or
// wait for it there. And the other way round: what is too large for where it goes, and may be cut,
// is cut here.
#include <rte_mbuf.h>

#include <cassert>

#include "gateway/pipeline.h"
#include "lib/net/fragment.h"

namespace adit::gateway {
namespace {

// 9,000 bytes into the smallest tunnel, with options in every piece, are 20.
inline constexpr unsigned kPiecesMax = 32;

Fate fate_of(FragmentError error) {
  switch (error) {
    case FragmentError::none:
      break;
    case FragmentError::malformed:
      return Fate::fragment_malformed;
    case FragmentError::in_header:
      return Fate::fragment_overlap;
  }
  return Fate::next;
}

bool has_ports(uint8_t ip_protocol) {
  nat::Protocol protocol;
  return nat::protocol_of(ip_protocol, protocol);
}

Fragments::Key key_of(const Ipv4Header& ip) {
  return {ip.source, ip.destination, 0, 0, ip.id, ip.protocol, 0};
}

Fragments::Key outbound_key_of(const Ipv4Header& ip, const Tunnel& tunnel) {
  Fragments::Key key = key_of(ip);
  key.tunnel_slot = tunnel.slot;
  key.epoch = tunnel.epoch;
  return key;
}

}  // namespace

bool Pipeline::must_follow(const Packet& packet) {
  return !packet.parsed.is_first_fragment && has_ports(packet.parsed.protocol);
}

// A fragment from outside. Where uplink and public port share an address, only a first fragment
// tells a tunnel's UDP packet from a translated one's; the others follow it either way.
Fate Pipeline::sort_fragment(Packet& packet) {
  const PortView& port = settings_.ports[packet.port];
  const Ipv4Header& ip = packet.ip();
  if (has_others_ && !packet.has_met) {
    const unsigned place = meeting_place(ip);
    if (place != worker_) return hand_packet(packet, place);
  }
  const bool at_tunnel = port.is_uplink && packet.parsed.protocol == kIpUdp &&
                         ip.destination == settings_.tunnel_endpoint.address;
  const bool at_pool = port.is_public && nat_.is_pool_address(ip.destination);
  if (at_tunnel && packet.destination() == settings_.tunnel_endpoint) return begin_outer(packet);
  if (must_follow(packet) && (at_tunnel || at_pool)) {
    if (at_tunnel && fragments_.is_ours(key_of(ip))) return follow(packet);
    if (const Fate fate = check_public_source(packet); fate != Fate::next) return fate;
    return follow(packet);
  }
  if (at_pool) return go_inbound(packet);
  if (ip.destination == port.address.address) return Fate::local_fragment;
  return port.is_public && passes_unmapped_ ? enter_unmapped(packet) : Fate::not_our_address;
}

// The first fragment of a packet to our tunnel endpoint.
Fate Pipeline::begin_outer(Packet& packet) {
  FragmentRange range;
  Fate fate = fate_of(read_fragment(packet.bytes(), packet.parsed, range));
  if (fate != Fate::next) return fate;
  FragmentRoute route;
  route.way = FragmentRoute::to_ourselves;
  const Fragments::Key key = key_of(packet.ip());
  fate = fragments_.first(key, range, route, now_ns_);
  if (fate != Fate::next) return fate;
  fate = reassemble_outer(packet.mbuf);
  release_fragments(key);
  return fate;
}

Fate Pipeline::reassemble_outer(rte_mbuf* mbuf) {
  const unsigned header_bytes = rte_pktmbuf_mtod(mbuf, const Ipv4Header*)->header_bytes();
  rte_mbuf* whole = reassembly_.add(mbuf, header_bytes, now_ns_, counters_);
  if (whole == nullptr) return Fate::taken;
  Packet packet;
  packet.mbuf = whole;
  packet.port = settings_.uplink;
  // The pieces' header checksums were good; the whole has none.
  if (parse_ipv4(packet.span(), HeaderChecksum::trusted, packet.parsed) != ParseError::none ||
      packet.destination() != settings_.tunnel_endpoint) {
    finish(Fate::outer_fragment, whole);
    return Fate::taken;
  }
  finish(enter_outbound(packet), whole);
  return Fate::taken;
}

// A first fragment has its mapping and is about to be translated and sent, with a new id if it
// goes to the Internet. Those that come later will have its rewriting; those that wait already are
// let go by release_fragments().
Fate Pipeline::begin_fragments(const Packet& packet, FragmentRoute::Way way) {
  FragmentRange range;
  const Fate fate = fate_of(read_fragment(packet.bytes(), packet.parsed, range));
  if (fate != Fate::next) return fate;
  const nat::Mapping& mapping = *packet.mapping;
  const ChecksumDelta delta = ChecksumDelta::from_raw(mapping.l3_delta);
  const bool is_outbound = way == FragmentRoute::to_internet;
  FragmentRoute route;
  route.way = way;
  route.hairpin = packet.hairpin;
  route.l3_delta = is_outbound ? delta.raw() : delta.inverse().raw();
  route.address = is_outbound ? mapping.external.address : mapping.internal.address;
  route.tunnel_slot = packet.tunnel->slot;
  route.epoch = packet.tunnel->epoch;
  if (is_outbound) route.id = new_id(packet);
  const Fate refusal = fragments_.first(fragment_key(packet, way), range, route, now_ns_);
  if (refusal == Fate::next && is_outbound) nat::set_id(packet.bytes(), route.id);
  return refusal;
}

// Of a first fragment that has not been rewritten yet.
Fragments::Key Pipeline::fragment_key(const Packet& packet, FragmentRoute::Way way) {
  return way == FragmentRoute::to_internet ? outbound_key_of(packet.ip(), *packet.tunnel)
                                           : key_of(packet.ip());
}

void Pipeline::release_fragments(const Fragments::Key& key) {
  fragments_.release(key, [this](const FragmentRoute& route, rte_mbuf* mbuf) {
    finish(follow_route(route, mbuf), mbuf);
  });
}

// The first fragment of a datagram that is another worker's: those that come later go there too.
Fate Pipeline::hand_first_fragment(const Packet& packet, unsigned worker) {
  FragmentRange range;
  Fate fate = fate_of(read_fragment(packet.bytes(), packet.parsed, range));
  if (fate != Fate::next) return fate;
  FragmentRoute route;
  route.way = FragmentRoute::to_worker;
  route.worker = static_cast<uint8_t>(worker);
  route.tunnel_slot = fragments_.handed_share();
  route.hairpin = packet.hairpin;
  const Fragments::Key key = key_of(packet.ip());
  fate = fragments_.first(key, range, route, now_ns_);
  if (fate != Fate::next) return fate;
  fate = hand_packet(packet, worker);
  release_fragments(key);
  return fate;
}

// A later fragment, which has no tunnel yet if it came from outside.
Fate Pipeline::follow(Packet& packet) {
  FragmentRange range;
  Fate fate = fate_of(read_fragment(packet.bytes(), packet.parsed, range));
  if (fate != Fate::next) return fate;
  const Fragments::Key key = packet.tunnel != nullptr
                                 ? outbound_key_of(packet.ip(), *packet.tunnel)
                                 : key_of(packet.ip());
  FragmentRoute route;
  fate = fragments_.later(key, range, packet.mbuf, now_ns_, route);
  return fate == Fate::next ? follow_route(route, packet.mbuf) : fate;
}

// A hairpinned fragment has its external source now, and follows its first once more: inside.
Fate Pipeline::follow_round(rte_mbuf* mbuf) {
  Packet packet;
  packet.mbuf = mbuf;
  if (parse_ipv4(packet.span(), HeaderChecksum::trusted, packet.parsed) != ParseError::none) {
    return Fate::fragment_malformed;
  }
  ++counters_.hairpinned;
  return follow(packet);
}

// RFC 1812 §4.3.2.7: nothing is said about a fragment that is not the first.
Fate Pipeline::follow_route(const FragmentRoute& route, rte_mbuf* mbuf) {
  if (route.way == FragmentRoute::to_ourselves) return reassemble_outer(mbuf);
  if (route.way == FragmentRoute::to_worker) {
    HandedPacket handed;
    handed.mbuf = mbuf;
    handed.port = settings_.public_port;
    handed.kind = route.hairpin ? HandedPacket::turned : HandedPacket::fragment;
    return hand_over(route.worker, handed);
  }
  auto& ip = *rte_pktmbuf_mtod(mbuf, Ipv4Header*);
  const bool has_lost_its_hop = route.hairpin && route.way == FragmentRoute::to_tunnel;
  if (!has_lost_its_hop && !nat::decrement_ttl(rte_pktmbuf_mtod(mbuf, uint8_t*))) {
    return Fate::ttl_exceeded;
  }
  ip.checksum = ChecksumDelta::from_raw(route.l3_delta).apply(ip.checksum);
  if (route.way == FragmentRoute::to_internet) {
    ip.source = route.address;
    nat::set_id(rte_pktmbuf_mtod(mbuf, uint8_t*), route.id);
    return route.hairpin ? follow_round(mbuf) : send_to_internet(mbuf);
  }
  ip.destination = route.address;
  Tunnel& tunnel = tunnels_.at(route.tunnel_slot);
  if (!tunnel.active || tunnel.epoch != route.epoch) return Fate::stale_tunnel;
  counters_.inbound_bytes += rte_pktmbuf_data_len(mbuf);
  ++counters_.inbound_packets;
  return send_to_client(tunnel, mbuf);
}

// ---- Cutting what is too large ----

// Calls send(mbuf) for the packet, or for each of its fragments when it is larger than the MTU and
// may be cut (RFC 4787 REQ-13a). The fragments are new packets, in order.
template <typename Send>
Fate Pipeline::send_in_pieces(rte_mbuf* packet, unsigned mtu_bytes, Send send) {
  const unsigned bytes = rte_pktmbuf_data_len(packet);
  if (bytes <= mtu_bytes) [[likely]] {
    return send(packet);
  }
  const uint8_t* const begin = rte_pktmbuf_mtod(packet, const uint8_t*);
  if ((reinterpret_cast<const Ipv4Header*>(begin)->fragment.host() & kIpDontFragment) != 0) {
    return Fate::too_big;
  }
  Fragmentation fragmentation({begin, bytes}, mtu_bytes);
  const unsigned count = fragmentation.left();
  if (count > kPiecesMax) return Fate::too_big;
  rte_mbuf* pieces[kPiecesMax];
  if (rte_pktmbuf_alloc_bulk(pool_, pieces, count) != 0) return Fate::no_buffer;
  counters_.generated += count;
  ++counters_.packets_fragmented;
  for (unsigned i = 0; i < count; ++i) {
    assert(rte_pktmbuf_tailroom(pieces[i]) >= mtu_bytes);
    const unsigned written =
        fragmentation.next({rte_pktmbuf_mtod(pieces[i], uint8_t*), mtu_bytes});
    rte_pktmbuf_append(pieces[i], static_cast<uint16_t>(written));
    finish(send(pieces[i]), pieces[i]);
  }
  ++counters_.consumed;
  rte_pktmbuf_free(packet);
  return Fate::taken;
}

Fate Pipeline::send_to_internet(rte_mbuf* packet) {
  return send_in_pieces(packet, settings_.ports[settings_.public_port].mtu_bytes,
                        [this](rte_mbuf* mbuf) { return send_ip(settings_.public_port, mbuf); });
}

Fate Pipeline::send_to_client(Tunnel& tunnel, rte_mbuf* packet) {
  return send_in_pieces(packet, tunnel.mtu_bytes, [this, &tunnel](rte_mbuf* mbuf) {
    return send_into_tunnel(tunnel, mbuf, Seal::as_session);
  });
}

}  // namespace adit::gateway
