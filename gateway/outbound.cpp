// The stages of the outbound journey: from a tunnel to the Internet.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "gateway/pipeline.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using tunnel::EncryptedHeader;
using tunnel::MessageType;
using tunnel::PlainHeader;
using tunnel::Protection;
using tunnel::SessionSet;

namespace {

constexpr uint16_t kMtuBytesMin = 576;  // RFC 791: every host takes it

}  // namespace

// The packet begins at the tunnel header.
Fate Pipeline::find_tunnel(Packet& packet) {
  const std::span<uint8_t> bytes = packet.span();
  if (bytes.size() < sizeof(PlainHeader)) return Fate::tunnel_truncated;
  // Types 4 and 5 both have their receiver index at byte 4.
  const auto& header = *reinterpret_cast<const PlainHeader*>(bytes.data());
  switch (static_cast<MessageType>(header.type)) {
    case MessageType::plain:
      if (bytes.size() < sizeof(PlainHeader) + sizeof(Ipv4Header)) return Fate::tunnel_truncated;
      packet.plain = true;
      break;
    case MessageType::encrypted:
      if (bytes.size() < tunnel::kEncryptedOverheadBytes) return Fate::tunnel_truncated;
      break;
    case MessageType::initiation: {
      if (bytes.size() != sizeof(tunnel::InitiationMessage)) return Fate::tunnel_truncated;
      ToControl item;
      item.kind = ToControl::handshake;
      item.from = packet.from;
      item.packet = packet.mbuf;
      return hand_to_control(item);
    }
    case MessageType::response:  // we never initiate
    case MessageType::cookie_reply:
      return Fate::unexpected_message;
    default:
      return Fate::unknown_type;
  }
  Tunnel& tunnel = tunnels_.by_index(header.receiver_index.host());
  if (!is_ours(tunnel)) {
    return hand_tunnel_packet(packet, owners_.of(tunnels_.slot_of(tunnel)));
  }
  if (!tunnel.active) return Fate::unknown_index;
  packet.tunnel = &tunnel;
  return Fate::next;
}

// Looked up packet by packet, not a stage earlier: a packet in front, in the same burst, may have
// confirmed the session and so moved it.
Fate Pipeline::find_session(Packet& packet) {
  const auto& header = *reinterpret_cast<const PlainHeader*>(packet.bytes());
  const tunnel::SessionSet& sessions = packet.tunnel->open->sessions;
  packet.place = sessions.find(header.receiver_index.host());
  if (packet.place == SessionSet::kNone) return Fate::unknown_index;
  if (sessions.at(packet.place).expired(now_ns_)) return Fate::session_expired;
  return Fate::next;
}

// Only an authenticated packet confirms a session, counts as heard, or moves the tunnel, and the
// last only if its counter is the highest so far (rules 9, 11) and it is no mark.
Fate Pipeline::open_encrypted(Packet& packet) {
  if (packet.plain) return Fate::next;
  if (const Fate fate = find_session(packet); fate != Fate::next) return fate;
  Tunnel& tunnel = *packet.tunnel;
  const tunnel::Session& session = tunnel.open->sessions.at(packet.place);
  tunnel::ReplayWindow& replay = tunnel.open->sessions.replay(packet.place);
  const std::span<uint8_t> bytes = packet.span();
  const auto& header = *reinterpret_cast<const EncryptedHeader*>(bytes.data());
  const uint64_t counter = header.counter.host();
  if (!replay.would_accept(counter)) return Fate::replayed;
  const auto text = crypto_.open(session, bytes.data(), static_cast<unsigned>(bytes.size()));
  if (!text) return Fate::not_authentic;
  const bool is_highest = replay.is_highest(counter);
  replay.accept(counter);

  TunnelReport& report = tunnels_.report(tunnel.slot);
  if (packet.place == SessionSet::kNext) {
    tunnel.open->sessions.confirm(packet.place);
    packet.place = SessionSet::kCurrent;
    ++counters_.sessions_confirmed;
    refresh_line(tunnel);
  }
  const uint8_t* text_begin = bytes.data() + sizeof(EncryptedHeader);
  const bool is_mark = *text >= sizeof(tunnel::ProbePacket) && *text_begin == tunnel::kProbeMark;
  if (packet.from != tunnel.remote && is_highest && packet.place == SessionSet::kCurrent &&
      !is_mark) {
    if (!tunnel.remote.is_zero()) ++counters_.roamed;
    tunnel.remote = packet.from;
    refresh_line(tunnel);
    report.remote.store(uint64_t{packet.from.address.host()} << 16 | packet.from.port.host(),
                        std::memory_order_relaxed);
  }

  packet.strip(sizeof(EncryptedHeader));
  rte_pktmbuf_trim(packet.mbuf, tunnel::kTagBytes);
  const bool is_packet = *text >= sizeof(Ipv4Header) && packet.bytes()[0] >> 4 == 4;
  report.heard(now_ns_, is_packet);
  if (is_packet) [[likely]] return Fate::next;
  return answer_control_text(packet, *text);
}

// A plain packet proves its session by a 24-bit tag, and must come from where the tunnel is. It
// makes translator state and nothing else (rules 6, 8, 12): in a session that is not confirmed yet
// it is carried, but the session stays so, and nothing is lost if the heartbeat that confirms it
// is.
Fate Pipeline::open_plain(Packet& packet) {
  if (!packet.plain) return Fate::next;
  if (const Fate fate = find_session(packet); fate != Fate::next) return fate;
  const tunnel::Session& session = packet.tunnel->open->sessions.at(packet.place);
  if (session.protection != Protection::plain) return Fate::wrong_protection;
  const auto& header = *reinterpret_cast<const PlainHeader*>(packet.bytes());
  if (std::memcmp(header.session_tag, session.receive_tag.data(), sizeof header.session_tag) != 0) {
    return Fate::bad_tag;
  }
  if (packet.from != packet.tunnel->remote) {
    hint_new_address(packet);
    return Fate::wrong_address;
  }
  packet.strip(sizeof(PlainHeader));
  return Fate::next;
}

// The client's word, for its path may take less than is configured here.
void Pipeline::set_mtu(Tunnel& tunnel, uint16_t told_bytes) {
  const uint16_t mtu_bytes =
      std::clamp(told_bytes, std::min(kMtuBytesMin, tunnel.open->mtu_bytes_max),
                 tunnel.open->mtu_bytes_max);
  if (mtu_bytes == tunnel.mtu_bytes) return;
  tunnel.mtu_bytes = mtu_bytes;
  tunnels_.report(tunnel.slot).mtu_bytes.store(mtu_bytes, std::memory_order_relaxed);
  refresh_line(tunnel);
}

// The packet begins at the inner IPv4 header.
Fate Pipeline::read_inner(Packet& packet) {
  const ParseError error = parse_ipv4(packet.span(), HeaderChecksum::verify, packet.parsed);
  if (error != ParseError::none && packet.parsed.is_fragment) return Fate::fragment_tiny;
  switch (error) {
    case ParseError::none:
      break;
    case ParseError::truncated:
      return Fate::inner_truncated;
    case ParseError::bad_version:
      return Fate::inner_bad_version;
    case ParseError::bad_length:
      return Fate::inner_bad_length;
    case ParseError::bad_checksum:
      return Fate::inner_bad_checksum;
    case ParseError::bad_transport:
      return Fate::inner_bad_transport;
  }
  packet.trim();
  TunnelTraffic& traffic = packet.tunnel->open->traffic;
  ++traffic.rx_packets;
  traffic.rx_bytes += packet.parsed.total_bytes;
  ++counters_.outbound_packets;
  counters_.outbound_bytes += packet.parsed.total_bytes;
  return Fate::next;
}

namespace {
inline constexpr uint16_t kDhcpServerPort = 67;  // RFC 2131 §4.1
inline constexpr uint16_t kDhcpClientPort = 68;

bool is_dhcp_port(Be16 port) {
  return port.host() == kDhcpServerPort || port.host() == kDhcpClientPort;
}
}  // namespace

Fate Pipeline::check_inner_source(Packet& packet) {
  const ParsedIpv4& parsed = packet.parsed;
  if (parsed.protocol == kIpUdp &&
      (is_dhcp_port(parsed.destination_port) || is_dhcp_port(parsed.source_port))) [[unlikely]] {
    if (packet.plain) return Fate::dhcp_in_plain;  // rule 5
    // Whoever sends to clients' port 68 plays the server, and that is us.
    if (parsed.destination_port.host() == kDhcpClientPort) return Fate::rogue_dhcp;
    if (parsed.destination_port.host() == kDhcpServerPort) {
      if (parsed.is_fragment) return Fate::local_fragment;
      ToControl item;
      item.kind = ToControl::dhcp;
      item.slot = packet.tunnel->slot;
      item.epoch = packet.tunnel->epoch;
      item.packet = packet.mbuf;
      return hand_to_control(item);
    }
  }
  if (!packet.tunnel->owns(packet.ip().source)) return Fate::spoofed_source;
  return Fate::next;
}

bool Pipeline::is_own_network(Ipv4Address address) const {
  for (const Ipv4Prefix& network : settings_.inner_networks) {
    if (network.contains(address)) return true;
  }
  return false;
}

// RFC 4787 REQ-7: where inner networks are in use outside as well, an address of theirs means a
// host outside, unless it is ours or that of a client which others may reach by it.
bool Pipeline::is_inside(Ipv4Address address) const {
  if (!is_own_network(address)) [[likely]] {
    return false;
  }
  if (!settings_.inner_networks_outside) return true;
  for (const Ipv4Address router : settings_.inner_routers) {
    if (address == router) return true;
  }
  if (!settings_.tunnel_to_tunnel) return false;
  return inner_routes_->find_reached(address).has_value();
}

// Whether check_inner_destination() lets every packet to this address pass.
bool Pipeline::is_ordinary_destination(Ipv4Address address) const {
  return !address.is_multicast() && !address.is_broadcast() && !address.is_loopback() &&
         !address.is_zero() && !settings_.tunnel_to_tunnel && !is_own_network(address) &&
         !nat_.is_pool_address(address) && !is_exempt(address) && !owner_of(address);
}

Fate Pipeline::check_inner_destination(Packet& packet) {
  const Ipv4Address to = packet.ip().destination;
  if (to.is_multicast() || to.is_broadcast() || to.is_loopback() || to.is_zero()) {
    return Fate::bad_destination;
  }
  if (to == packet.tunnel->router) {
    if (packet.parsed.is_fragment) return Fate::to_router;
    if (packet.parsed.protocol == kIpIcmp &&
        packet.transport<IcmpHeader>().type == kIcmpEchoRequest) {
      return answer_inner_ping(packet);
    }
    if (settings_.port_control.enabled && packet.parsed.protocol == kIpUdp &&
        packet.parsed.destination_port.host() == pcp::kServerPort) {
      return answer_port_control(packet);
    }
    return Fate::to_router;
  }
  if (packet.tunnel->reaches_tunnels) {
    if (const std::optional<uint32_t> slot = inner_routes_->find_reached(to)) {
      return cross_to_tunnel(packet, tunnels_.at(*slot));
    }
  }
  if (is_inside(to)) return Fate::tunnel_to_tunnel;
  if (passes_unmapped_) {
    const Fate fate = choose_way(packet);
    if (fate != Fate::next || packet.way != Packet::Way::mapped || packet.hairpin) return fate;
  }
  if (nat_.is_pool_address(to)) return check_hairpin(packet);
  if (must_follow(packet)) [[unlikely]] return follow(packet);
  return Fate::next;
}

// To an external address of ours. Behind it are many hosts, told apart by ports: what has none
// cannot be hairpinned, and a query to the address itself is for us (RFC 5508 REQ-7 asks for
// hairpinned queries only where an address belongs to one host). Queries and errors are read here,
// and have to be whole for that.
Fate Pipeline::check_hairpin(Packet& packet) {
  const ParsedIpv4& parsed = packet.parsed;
  if (parsed.protocol == kIpIcmp) {
    if (parsed.is_fragment) return Fate::local_fragment;
    const uint8_t type = packet.transport<IcmpHeader>().type;
    if (type == kIcmpEchoRequest) return answer_inner_ping(packet);
    if (!is_icmp_error(type)) return Fate::icmp_unsupported;
  }
  nat::Protocol protocol{};
  if (!may_hairpin(packet) || !nat::protocol_of(parsed.protocol, protocol)) return Fate::hairpin;
  if (must_follow(packet)) [[unlikely]] return follow(packet);
  packet.hairpin = true;
  return Fate::next;
}

// From one client to another: both addresses are ours, so nothing is translated.
Fate Pipeline::cross_to_tunnel(Packet& packet, Tunnel& to) {
  // It would go round until its TTL ends.
  if (tunnels_.slot_of(to) == packet.tunnel->proper_slot) return Fate::tunnel_to_itself;
  // Its report, since the tunnel itself may be another worker's.
  const TunnelReport& report = tunnels_.report(tunnels_.slot_of(to));
  const uint16_t mtu = report.mtu_bytes.load(std::memory_order_relaxed);
  if (packet.parsed.total_bytes > mtu && packet.has_dont_fragment()) {
    tell_client(packet, kIcmpUnreachable, kIcmpFragmentationNeeded, mtu);
    return Fate::too_big;
  }
  if (!nat::decrement_ttl(packet.bytes())) {
    tell_client(packet, kIcmpTimeExceeded, 0, 0);
    return Fate::ttl_exceeded;
  }
  return is_ours(to) ? send_to_client(to, packet.mbuf)
                     : hand_to_tunnel(tunnels_.slot_of(to), packet.mbuf);
}

// What RFC 1812 asks of a router, and the MSS.
Fate Pipeline::forward_outbound(Packet& packet) {
  const uint16_t mtu = settings_.ports[settings_.public_port].mtu_bytes;
  if (packet.parsed.total_bytes > mtu && packet.has_dont_fragment() && !packet.hairpin)
      [[unlikely]] {
    tell_client(packet, kIcmpUnreachable, kIcmpFragmentationNeeded, mtu);
    return Fate::too_big;
  }
  if (!nat::decrement_ttl(packet.bytes())) {
    tell_client(packet, kIcmpTimeExceeded, 0, 0);
    return Fate::ttl_exceeded;
  }
  if (settings_.mss_clamp && packet.parsed.protocol == kIpTcp &&
      nat::clamp_mss(packet.bytes(), packet.parsed,
                     static_cast<uint16_t>(packet.tunnel->mtu_bytes - 40))) {
    ++counters_.mss_clamped;
  }
  return Fate::next;
}

Fate fate_of(nat::Refusal refusal) {
  switch (refusal) {
    case nat::Refusal::rate_limited:
      return Fate::rate_limited;
    case nat::Refusal::mapping_limit:
      return Fate::mapping_limit;
    case nat::Refusal::port_limit:
      return Fate::port_limit;
    case nat::Refusal::pool_exhausted:
      return Fate::pool_exhausted;
    case nat::Refusal::low_ports_full:
      return Fate::low_ports_full;
    case nat::Refusal::range_away:
      return Fate::range_away;
    case nat::Refusal::none:
      break;
  }
  assert(false && "a refusal has a reason");
  return Fate::port_limit;
}

namespace {

// Whether an ICMP message is a query, which may open a mapping (RFC 5508 REQ-1). A reply may not.
bool opens_icmp_mapping(uint8_t type) {
  constexpr uint8_t kTimestampRequest = 13;  // RFC 792
  return type == kIcmpEchoRequest || type == kTimestampRequest;
}
}  // namespace

Fate Pipeline::map_outbound(Packet& packet) {
  if (!nat::protocol_of(packet.parsed.protocol, packet.protocol)) {
    return map_portless_outbound(packet);
  }
  if (packet.protocol == nat::Protocol::icmp) {
    const uint8_t type = packet.transport<IcmpHeader>().type;
    if (is_icmp_error(type)) {
      return packet.parsed.is_fragment ? Fate::local_fragment : map_error_outbound(packet);
    }
    if (!opens_icmp_mapping(type)) return Fate::icmp_unsupported;
  }
  nat::Subscriber& subscriber = packet.tunnel->subscriber;
  const Endpoint internal = packet.source();
  packet.mapping = find_outbound(packet, internal);
  if (packet.mapping == nullptr) [[unlikely]] {
    nat::Refusal refusal = nat::Refusal::none;
    packet.mapping =
        nat_.create_outbound(subscriber, packet.protocol, internal, now_s_, refusal);
    if (packet.mapping == nullptr) {
      if (refusal == nat::Refusal::range_away) return Fate::range_away;  // for a moment
      // RFC 5508 REQ-8, RFC 6888 REQ-11: say so, administratively prohibited.
      tell_client(packet, kIcmpUnreachable, kIcmpAdminProhibited, 0);
      tell_limit(*packet.tunnel, fate_of(refusal));
      return fate_of(refusal);
    }
    refresh_line(*packet.tunnel);  // it may have a new block
  }
  return Fate::next;
}

// A static forward comes first, so that its endpoint has one external endpoint and no other.
nat::Mapping* Pipeline::find_outbound(const Packet& packet, const Endpoint& internal) {
  if (packet.tunnel->forward_count != 0) [[unlikely]] {
    nat::Mapping* const forward =
        forwards_->find_outbound(*packet.tunnel, packet.protocol, internal);
    if (forward != nullptr) return forward;
  }
  return nat_.find_outbound(packet.tunnel->subscriber, packet.protocol, internal, now_s_);
}

// An error that an inner host sends about a packet which we delivered to it (RFC 5508 REQ-5).
Fate Pipeline::map_error_outbound(Packet& packet) {
  if (!nat::icmp_checksum_ok(packet.span(), packet.parsed)) return Fate::icmp_bad_checksum;
  if (!nat::parse_quoted(packet.span(), packet.parsed, packet.quoted)) return Fate::icmp_bad_quote;
  if (!nat::protocol_of(packet.quoted.protocol, packet.protocol)) return Fate::icmp_no_mapping;
  const Endpoint internal{packet.quoted.destination, packet.quoted.destination_port};
  packet.mapping = find_outbound(packet, internal);
  if (packet.mapping == nullptr) return Fate::icmp_no_mapping;
  packet.is_icmp_error = true;
  return Fate::next;
}

// An error opens nothing: it answers what has come in already. A forward is open to all.
Fate Pipeline::open_filter(Packet& packet) {
  if (filter_ == nullptr || packet.is_icmp_error || packet.portless != nullptr ||
      packet.mapping->is_forward) {
    return Fate::next;
  }
  const Filter::Refusal refusal = filter_->open(*packet.mapping, packet.destination(), now_s_);
  if (refusal == Filter::Refusal::none) return Fate::next;
  // RFC 5508 REQ-8: without room to remember the remote, its answer could not come in.
  tell_client(packet, kIcmpUnreachable, kIcmpAdminProhibited, 0);
  if (refusal != Filter::Refusal::tunnel_limit) return Fate::session_table_full;
  tell_limit(*packet.tunnel, Fate::session_limit);
  return Fate::session_limit;
}

Be16 Pipeline::new_id(const Packet& packet) {
  return ids_.next(packet.mapping->external.address, packet.ip().destination,
                   packet.is_icmp_error ? nat::Protocol::icmp : packet.protocol);
}

// Without ports, one remote's packets are all of one subscriber, whose own ids tell them apart.
Fate Pipeline::translate_outbound(Packet& packet) {
  if (packet.portless != nullptr) {
    nat::translate_address(packet.bytes(), packet.parsed, *packet.portless,
                           nat::Direction::outbound);
    return packet.hairpin ? turn_round(packet) : send_to_internet(packet.mbuf);
  }
  if (!packet.parsed.is_fragment) [[likely]] {
    if (!nat::is_atomic(packet.bytes())) nat::set_id(packet.bytes(), new_id(packet));
    return rewrite_outbound(packet);
  }
  const Fragments::Key key = fragment_key(packet, FragmentRoute::to_internet);
  if (const Fate fate = begin_fragments(packet, FragmentRoute::to_internet); fate != Fate::next) {
    return fate;
  }
  const Fate fate = rewrite_outbound(packet);
  release_fragments(key);
  return fate;
}

Fate Pipeline::rewrite_outbound(Packet& packet) {
  nat::Mapping& mapping = *packet.mapping;
  if (packet.is_icmp_error) {
    // Neither refreshes nor deletes (RFC 5508 REQ-6).
    nat::translate_error_outbound(packet.span(), packet.parsed, packet.quoted, mapping,
                                  mapping.external.address);
    ++counters_.icmp_errors_translated;
  } else {
    const uint8_t flags =
        packet.protocol == nat::Protocol::tcp ? packet.transport<TcpHeader>().flags : uint8_t{0};
    nat_.on_outbound(mapping, packet.destination(), flags, now_s_);
    if ((flags & kTcpSyn) != 0 && held_syns_ != nullptr && !held_syns_->empty()) [[unlikely]] {
      held_syns_->forget({mapping.external, packet.destination()});
    }
    nat::translate_outbound(packet.bytes(), packet.parsed, mapping);
  }
  if (packet.hairpin) return turn_round(packet);
  return send_to_internet(packet.mbuf);
}

// The packet has its external source now (RFC 4787 REQ-9a, RFC 5382 REQ-8a) and comes in as if it
// had been received from outside.
Fate Pipeline::turn_round(Packet& packet) {
  ++counters_.hairpinned;
  if (packet.to != nullptr) return enter_tunnel(packet, *packet.to);
  if (packet.mapping != nullptr && !packet.is_icmp_error) {
    packet.parsed.source_port = packet.mapping->external.port;
  }
  return go_inbound(packet);
}

}  // namespace adit::gateway
