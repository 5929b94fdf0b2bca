// The stages of the inbound journey: from the Internet into a tunnel.
#include "gateway/pipeline.h"

namespace adit::gateway {

bool Pipeline::is_foreign_host(Ipv4Address address) const {
  if (address.is_multicast() || address.is_broadcast() || address.is_loopback() ||
      address.is_zero() || nat_.is_pool_address(address) || owner_of(address)) {
    return false;
  }
  for (const PortView& port : settings_.ports) {
    if (address == port.address.address) return false;
  }
  return true;
}

// Nobody out there may speak from our own addresses, or from one that is no single host.
Fate Pipeline::check_public_source(Packet& packet) {
  if (packet.hairpin) return Fate::next;  // its source is one that we have just given it
  const Ipv4Address source = packet.ip().source;
  return is_foreign_host(source) && !is_inside(source) ? Fate::next : Fate::bad_source;
}

Fate Pipeline::find_mapping(Packet& packet) {
  if (!nat::protocol_of(packet.parsed.protocol, packet.protocol)) {
    const Ipv4Header& ip = packet.ip();
    if (has_others_) {
      const unsigned owner = portless_owner(ip.protocol, ip.destination);
      if (owner != worker_) return hand_packet(packet, owner);
    }
    packet.portless = portless_.inbound(ip.protocol, ip.source, ip.destination, now_s_,
                                        PortlessMappings::Use::refresh);
    return packet.portless == nullptr ? Fate::no_mapping : go_to_portless_tunnel(packet);
  }
  if (packet.protocol == nat::Protocol::icmp) {
    const uint8_t type = packet.transport<IcmpHeader>().type;
    if (packet.parsed.is_fragment && (is_icmp_error(type) || type == kIcmpEchoRequest)) {
      return Fate::local_fragment;
    }
    if (is_icmp_error(type)) return find_mapping_of_error(packet);
    // RFC 5508 REQ-10, RFC 1812: our own addresses answer pings.
    if (type == kIcmpEchoRequest) return answer_ping(packet);
    constexpr uint8_t kTimestampReply = 14;  // RFC 792
    if (type != kIcmpEchoReply && type != kTimestampReply) return Fate::icmp_unsupported;
  }
  if (has_others_) {
    const unsigned owner = port_owner(packet.protocol, packet.destination());
    if (owner != worker_) return hand_inbound(packet, owner);
  }
  packet.mapping = find_inbound(packet, packet.destination());
  if (packet.mapping == nullptr) [[unlikely]] {
    return refuse(packet, Fate::no_mapping);
  }
  packet.tunnel = &tunnels_.at(packet.mapping->tunnel_slot);
  return Fate::next;
}

// The translator's port of a static forward is reserved, so that it knows of no mapping there.
nat::Mapping* Pipeline::find_inbound(const Packet& packet, const Endpoint& external) {
  nat::Mapping* const mapping =
      nat_.find_inbound(external.address, packet.protocol, external.port, now_s_);
  if (mapping != nullptr || forwards_ == nullptr) [[likely]] {
    return mapping;
  }
  return forwards_->find_inbound(packet.protocol, external);
}

// A packet that nobody inside has asked for. If it opens a TCP connection, its sender may hear so
// in time (held_syns.h); `reason` is why it is dropped if not.
Fate Pipeline::refuse(const Packet& packet, Fate reason) {
  if (packet.protocol != nat::Protocol::tcp || held_syns_ == nullptr) return reason;
  const uint8_t flags = packet.transport<TcpHeader>().flags;
  if ((flags & (kTcpSyn | kTcpAck | kTcpRst)) != kTcpSyn) return reason;
  if (!nat::may_send_icmp_error(packet.span(), packet.parsed)) return reason;
  const HeldSyns::Result result =
      held_syns_->hold({packet.destination(), packet.source()}, packet.span(), now_ns_);
  return result == HeldSyns::Result::table_full ? Fate::syn_table_full : Fate::unsolicited_syn;
}

// An error about a packet that we sent: its quoted source is the mapping's external endpoint
// (RFC 5508 REQ-4). Errors are not filtered by source (RFC 4787 REQ-12a).
Fate Pipeline::find_mapping_of_error(Packet& packet) {
  if (!nat::icmp_checksum_ok(packet.span(), packet.parsed)) return Fate::icmp_bad_checksum;
  if (!nat::parse_quoted(packet.span(), packet.parsed, packet.quoted)) return Fate::icmp_bad_quote;
  const nat::QuotedPacket& quoted = packet.quoted;
  if (quoted.source != packet.ip().destination) return Fate::icmp_no_mapping;
  const bool has_ports = nat::protocol_of(quoted.protocol, packet.protocol);
  const Endpoint external{quoted.source, quoted.source_port};
  if (has_others_) {
    const unsigned owner = has_ports ? port_owner(packet.protocol, external)
                                     : portless_owner(quoted.protocol, external.address);
    if (owner != worker_) return hand_packet(packet, owner);
  }
  packet.is_icmp_error = true;
  if (!has_ports) {
    packet.portless = portless_.inbound(quoted.protocol, quoted.destination, quoted.source, now_s_,
                                        PortlessMappings::Use::look);
    return packet.portless == nullptr ? Fate::icmp_no_mapping : go_to_portless_tunnel(packet);
  }
  packet.mapping = find_inbound(packet, external);
  if (packet.mapping == nullptr) return Fate::icmp_no_mapping;
  packet.tunnel = &tunnels_.at(packet.mapping->tunnel_slot);
  return Fate::next;
}

// Errors are let through whoever sends them (RFC 4787 REQ-12a); a protocol without ports has a
// mapping for each remote anyway, and a forward is for everybody.
Fate Pipeline::filter_inbound(Packet& packet) {
  if (filter_ == nullptr || packet.is_icmp_error || packet.portless != nullptr ||
      packet.mapping->is_forward) {
    return Fate::next;
  }
  if (filter_->admits(*packet.mapping, packet.source(), now_s_)) return Fate::next;
  // Its host has asked that anybody may send to it (RFC 6887 §11).
  if (packet.mapping->is_open && nat::Nat::is_held(*packet.mapping, now_s_)) return Fate::next;
  return refuse(packet, Fate::filtered);
}

Fate Pipeline::forward_inbound(Packet& packet) {
  const uint16_t mtu = packet.tunnel->mtu_bytes;
  if (packet.parsed.total_bytes > mtu && packet.has_dont_fragment()) [[unlikely]] {
    tell_internet(packet, kIcmpUnreachable, kIcmpFragmentationNeeded, mtu);
    return Fate::too_big;
  }
  // A hairpinned packet lost its hop on the way out: we are one router, not two.
  if (!packet.hairpin && !nat::decrement_ttl(packet.bytes())) {
    tell_internet(packet, kIcmpTimeExceeded, 0, 0);
    return Fate::ttl_exceeded;
  }
  if (settings_.mss_clamp && packet.parsed.protocol == kIpTcp &&
      nat::clamp_mss(packet.bytes(), packet.parsed, static_cast<uint16_t>(mtu - 40))) {
    ++counters_.mss_clamped;
  }
  return Fate::next;
}

Fate Pipeline::translate_inbound(Packet& packet) {
  if (packet.parsed.is_fragment && packet.portless == nullptr) [[unlikely]] {
    const Fate fate = begin_fragments(packet, FragmentRoute::to_tunnel);
    if (fate != Fate::next) return fate;
  }
  if (packet.portless != nullptr && !packet.is_icmp_error) {
    nat::translate_address(packet.bytes(), packet.parsed, *packet.portless,
                           nat::Direction::inbound);
  } else if (packet.is_icmp_error) {
    // Neither refreshes nor deletes (RFC 5508 REQ-6).
    const nat::Mapping& mapping = packet.portless != nullptr ? *packet.portless : *packet.mapping;
    nat::translate_error_inbound(packet.span(), packet.parsed, packet.quoted, mapping);
    ++counters_.icmp_errors_translated;
  } else {
    nat::Mapping& mapping = *packet.mapping;
    const uint8_t flags =
        packet.protocol == nat::Protocol::tcp ? packet.transport<TcpHeader>().flags : uint8_t{0};
    nat_.on_inbound(mapping, packet.source(), flags, now_s_);
    nat::translate_inbound(packet.bytes(), packet.parsed, mapping);
  }
  counters_.inbound_bytes += packet.parsed.total_bytes;
  ++counters_.inbound_packets;
  return Fate::next;
}

Fate Pipeline::wrap(Packet& packet) {
  if (!packet.parsed.is_fragment || packet.portless != nullptr) [[likely]] {
    return send_to_client(*packet.tunnel, packet.mbuf);
  }
  Fragments::Key key = fragment_key(packet, FragmentRoute::to_tunnel);
  key.destination = packet.mapping->external.address;  // as it came
  const Fate fate = send_to_client(*packet.tunnel, packet.mbuf);
  release_fragments(key);
  return fate;
}

}  // namespace adit::gateway
