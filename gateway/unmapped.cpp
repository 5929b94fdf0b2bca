// What passes without a mapping: packets to and from networks that are exempt from translation (RFC
// 6888 REQ-6), and addresses outside that are one subscriber's own. Those are either routed (they
// live behind its tunnel, and nothing is translated) or one to one with its inner address.
// Nothing here makes state, so a fragment is a packet like any other.
#include "gateway/pipeline.h"

namespace adit::gateway {

using Way = Packet::Way;

bool Pipeline::is_exempt(Ipv4Address address) const {
  for (const Ipv4Prefix& prefix : settings_.exempt) {
    if (prefix.contains(address)) return true;
  }
  return false;
}

// Whose own address it is: a tunnel's slot, TunnelRoutes::kNobody while its subscriber has none.
std::optional<uint32_t> Pipeline::owner_of(Ipv4Address address) const {
  return outer_routes_ == nullptr ? std::nullopt : outer_routes_->find(address);
}

// Outbound, once the destination is known to be nobody's inner address. What has to be mapped, and
// goes to no subscriber's own address, goes on as if there were none of this.
Fate Pipeline::choose_way(Packet& packet) {
  const Tunnel& tunnel = *packet.tunnel;
  const Ipv4Header& ip = packet.ip();
  if (tunnel.is_routed(ip.source)) {
    packet.way = Way::as_is;
  } else if (!tunnel.external_address.is_zero() && ip.source == tunnel.inner_address) {
    packet.way = Way::one_to_one;
  }
  if (const std::optional<uint32_t> owner = owner_of(ip.destination)) {
    if (!may_hairpin(packet)) return Fate::hairpin;
    // A mapping's fragments are followed to the Internet only.
    if (packet.way == Way::mapped && packet.parsed.is_fragment) return Fate::hairpin;
    packet.to = &tunnels_.at(*owner);
    // It would go round until its TTL ends.
    if (*owner == tunnel.proper_slot && packet.way == Way::as_is) return Fate::tunnel_to_itself;
    packet.hairpin = true;
    return Fate::next;
  }
  if (nat_.is_pool_address(ip.destination)) {
    return packet.way == Way::mapped ? Fate::next : check_unmapped_hairpin(packet);
  }
  if (is_exempt(ip.destination)) {
    if (inner_routes_->find(ip.destination)) return Fate::tunnel_to_tunnel;  // a LAN of a client's
    packet.way = Way::as_is;
  }
  return Fate::next;
}

// From a subscriber's own address to one that others share. Unlike a mapped packet (check_hairpin)
// it may be of any protocol, since it can be answered.
Fate Pipeline::check_unmapped_hairpin(Packet& packet) {
  if (!may_hairpin(packet) || packet.parsed.is_fragment) return Fate::hairpin;
  if (packet.parsed.protocol == kIpIcmp &&
      packet.transport<IcmpHeader>().type == kIcmpEchoRequest) {
    return answer_inner_ping(packet);
  }
  packet.hairpin = true;
  return Fate::next;
}

// TTL, size and MSS are dealt with, as for any other packet.
Fate Pipeline::leave_unmapped(Packet& packet) {
  if (packet.way == Way::mapped) return Fate::next;
  if (packet.way == Way::one_to_one) {
    const Fate fate = rewrite_one_to_one(packet, nat::Direction::outbound);
    if (fate != Fate::next) return fate;
  }
  return packet.hairpin ? turn_round(packet) : send_to_internet(packet.mbuf);
}

// From outside, and to no address of the gateway's.
Fate Pipeline::enter_unmapped(Packet& packet) {
  std::optional<uint32_t> slot = owner_of(packet.ip().destination);
  if (!slot && is_exempt(packet.ip().source)) {
    slot = inner_routes_->find(packet.ip().destination);
    if (slot && inner_routes_->find(packet.ip().source)) return Fate::bad_source;
  }
  if (!slot) return Fate::not_our_address;
  if (const Fate fate = check_public_source(packet); fate != Fate::next) return fate;
  return enter_tunnel(packet, tunnels_.at(*slot));
}

Fate Pipeline::enter_tunnel(Packet& packet, Tunnel& tunnel) {
  if (!is_ours(tunnel)) return hand_packet(packet, owners_.of(tunnels_.slot_of(tunnel)));
  const bool is_one_to_one = packet.ip().destination == tunnel.external_address;
  if (!tunnel.active || (is_one_to_one && tunnel.inner_address.is_zero())) {
    packet.tunnel = nullptr;
    tell_internet(packet, kIcmpUnreachable, kIcmpHostUnreachable, 0);
    return Fate::no_tunnel;
  }
  packet.tunnel = &tunnel;
  if (const Fate fate = forward_inbound(packet); fate != Fate::next) return fate;
  if (is_one_to_one) {
    const Fate fate = rewrite_one_to_one(packet, nat::Direction::inbound);
    if (fate != Fate::next) return fate;
  }
  counters_.inbound_bytes += packet.parsed.total_bytes;
  ++counters_.inbound_packets;
  return send_to_client(tunnel, packet.mbuf);
}

// Between a tunnel's inner address and the external address that is its alone. Ports and
// identifiers stay, and so does what an ICMP error quotes of them.
Fate Pipeline::rewrite_one_to_one(Packet& packet, nat::Direction direction) {
  const bool is_outbound = direction == nat::Direction::outbound;
  const Ipv4Address internal = packet.tunnel->inner_address;
  const Ipv4Address external = packet.tunnel->external_address;
  nat::Mapping mapping;
  const ParsedIpv4& parsed = packet.parsed;
  if (parsed.protocol != kIpIcmp || !parsed.is_first_fragment ||
      !is_icmp_error(packet.transport<IcmpHeader>().type)) {
    nat::bind_endpoints(mapping, {internal, {}}, {external, {}});
    nat::translate_address(packet.bytes(), parsed, mapping, direction);
    return Fate::next;
  }
  if (parsed.is_fragment) return Fate::local_fragment;  // its checksum cannot be checked
  if (!nat::icmp_checksum_ok(packet.span(), parsed)) return Fate::icmp_bad_checksum;
  nat::QuotedPacket quoted;
  if (!nat::parse_quoted(packet.span(), parsed, quoted)) return Fate::icmp_bad_quote;
  // About a packet that the other end has sent.
  if (is_outbound ? quoted.destination != internal : quoted.source != external) {
    return Fate::icmp_no_mapping;
  }
  const Be16 port = is_outbound ? quoted.destination_port : quoted.source_port;
  nat::bind_endpoints(mapping, {internal, port}, {external, port});
  if (is_outbound) {
    nat::translate_error_outbound(packet.span(), parsed, quoted, mapping, external);
  } else {
    nat::translate_error_inbound(packet.span(), parsed, quoted, mapping);
  }
  ++counters_.icmp_errors_translated;
  return Fate::next;
}

}  // namespace adit::gateway
