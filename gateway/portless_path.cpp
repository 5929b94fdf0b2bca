// What is different on the way of a packet without ports (portless.h): its mapping may be kept by
// another worker than its tunnel's, and then the packet goes by both.
#include "gateway/pipeline.h"

namespace adit::gateway {

Fate fate_of(PortlessMappings::Refusal refusal) {
  switch (refusal) {
    case PortlessMappings::Refusal::none:
      break;
    case PortlessMappings::Refusal::clash:
      return Fate::portless_clash;
    case PortlessMappings::Refusal::tunnel_limit:
      return Fate::portless_limit;
    case PortlessMappings::Refusal::table_full:
      return Fate::portless_table_full;
  }
  return Fate::next;
}

Fate Pipeline::map_portless_outbound(Packet& packet) {
  const Ipv4Header& ip = packet.ip();
  const Tunnel& tunnel = *packet.tunnel;
  const Ipv4Address external = nat_.address_of(tunnel.subscriber);
  if (has_others_) {
    const unsigned owner = portless_owner(ip.protocol, external);
    if (owner != worker_) return hand_portless_out(packet, owner);
  }
  auto refusal = PortlessMappings::Refusal::none;
  packet.portless =
      portless_.outbound({tunnel.slot, tunnel.epoch, tunnel.subscriber.profile, tunnel.lanes},
                         ip.protocol, ip.source, ip.destination, external, now_s_, refusal);
  return packet.portless != nullptr ? Fate::next : refuse_portless(packet, fate_of(refusal));
}

Fate Pipeline::refuse_portless(Packet& packet, Fate reason) {
  if (reason == Fate::portless_table_full) return reason;
  tell_client(packet, kIcmpUnreachable, kIcmpAdminProhibited, 0);
  if (reason == Fate::portless_limit) tell_limit(*packet.tunnel, reason);
  return reason;
}

// Its mapping may be here and its tunnel another worker's.
Fate Pipeline::go_to_portless_tunnel(Packet& packet) {
  packet.tunnel = &tunnels_.at(packet.portless->tunnel_slot);
  return is_ours(*packet.tunnel) ? Fate::next : hand_portless_in(packet);
}

// ---- Between workers ----

Fate Pipeline::hand_portless_out(const Packet& packet, unsigned worker) {
  const Tunnel& tunnel = *packet.tunnel;
  HandedPacket handed;
  handed.mbuf = packet.mbuf;
  handed.kind = HandedPacket::portless_out;
  handed.slot = tunnel.slot;
  handed.epoch = tunnel.epoch;
  handed.profile = tunnel.subscriber.profile;
  handed.lanes = tunnel.lanes;
  handed.address = nat_.address_of(tunnel.subscriber);
  return hand_over(worker, handed);
}

Fate Pipeline::map_others_portless(Packet& packet, const HandedPacket& handed) {
  const ParseError error = parse_ipv4(packet.span(), HeaderChecksum::trusted, packet.parsed);
  if (error != ParseError::none) return Fate::inner_bad_length;
  const Ipv4Header& ip = packet.ip();
  auto refusal = PortlessMappings::Refusal::none;
  packet.portless =
      portless_.outbound({handed.slot, handed.epoch, handed.profile, handed.lanes}, ip.protocol,
                         ip.source, ip.destination, handed.address, now_s_, refusal);
  if (packet.portless != nullptr) {
    if (const std::optional<uint32_t> slot = owner_of(ip.destination)) {
      packet.hairpin = true;
      packet.to = &tunnels_.at(*slot);
    }
    return translate_outbound(packet);
  }
  HandedPacket back = handed;
  back.kind = HandedPacket::portless_refused;
  back.reason = static_cast<uint8_t>(fate_of(refusal));
  return hand_over(owners_.of(handed.slot), back);
}

Fate Pipeline::hear_portless_refused(Packet& packet, const HandedPacket& handed) {
  Tunnel& tunnel = tunnels_.at(handed.slot);
  if (!tunnel.active || tunnel.epoch != handed.epoch) return Fate::stale_tunnel;
  if (parse_ipv4(packet.span(), HeaderChecksum::trusted, packet.parsed) != ParseError::none) {
    return Fate::inner_bad_length;
  }
  packet.tunnel = &tunnel;
  return refuse_portless(packet, static_cast<Fate>(handed.reason));
}

Fate Pipeline::hand_portless_in(const Packet& packet) {
  HandedPacket handed;
  handed.mbuf = packet.mbuf;
  handed.kind = HandedPacket::portless_in;
  handed.port = packet.port;
  handed.slot = packet.portless->tunnel_slot;
  handed.epoch = PortlessMappings::epoch_of(*packet.portless);
  handed.address = packet.portless->internal.address;
  handed.hairpin = packet.hairpin;
  return hand_over(owners_.of(handed.slot), handed);
}

// As found by the worker that keeps the mapping: find_mapping() has been passed there.
Fate Pipeline::enter_portless(Packet& packet, const HandedPacket& handed) {
  Tunnel& tunnel = tunnels_.at(handed.slot);
  if (!tunnel.active || tunnel.epoch != handed.epoch) return Fate::stale_tunnel;
  if (parse_ipv4(packet.span(), HeaderChecksum::trusted, packet.parsed) != ParseError::none) {
    return Fate::ip_bad_length;
  }
  nat::Mapping mapping;
  nat::bind_endpoints(mapping, {handed.address, {}}, {packet.ip().destination, {}});
  packet.tunnel = &tunnel;
  packet.hairpin = handed.hairpin;
  packet.portless = &mapping;
  if (packet.parsed.protocol == kIpIcmp) {
    packet.is_icmp_error = nat::parse_quoted(packet.span(), packet.parsed, packet.quoted);
    if (!packet.is_icmp_error) return Fate::icmp_bad_quote;
  }
  return pass(packet, &Pipeline::forward_inbound, &Pipeline::translate_inbound, &Pipeline::wrap);
}

}  // namespace adit::gateway
