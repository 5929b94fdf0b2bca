// What the gateway itself says: pings answered, ICMP errors, heartbeats.
#include <rte_mbuf.h>

#include <algorithm>
#include <utility>

#include "gateway/pipeline.h"

namespace adit::gateway {

rte_mbuf* Pipeline::new_packet() {
  rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
  if (mbuf != nullptr) ++counters_.generated;
  return mbuf;
}

// An echo request to an address of our own, from outside.
Fate Pipeline::answer_ping(Packet& packet) {
  if (!nat::icmp_checksum_ok(packet.span(), packet.parsed)) return Fate::icmp_bad_checksum;
  nat::make_echo_reply(packet.span(), packet.parsed);
  ++counters_.echoes_answered;
  return send_ip(packet.port, packet.mbuf);
}

// An echo request from a client, to our address inside or to an external one.
Fate Pipeline::answer_inner_ping(Packet& packet) {
  if (!nat::icmp_checksum_ok(packet.span(), packet.parsed)) return Fate::icmp_bad_checksum;
  nat::make_echo_reply(packet.span(), packet.parsed);
  ++counters_.echoes_answered;
  return send_into_tunnel(*packet.tunnel, packet.mbuf, Seal::as_session);
}

// To the port's own address, and neither a tunnel's packet nor a translated one's reply.
Fate Pipeline::answer_local(Packet& packet) {
  if (!is_foreign_host(packet.ip().source)) return Fate::bad_source;
  if (packet.parsed.protocol == kIpIcmp && !packet.parsed.is_fragment &&
      packet.transport<IcmpHeader>().type == kIcmpEchoRequest) {
    return answer_ping(packet);
  }
  return Fate::local_unhandled;
}

bool Pipeline::may_answer_with_error(const Packet& packet) {
  return nat::may_send_icmp_error(packet.span(), packet.parsed) && take_icmp_token(packet.tunnel);
}

namespace {

// Takes one of `per_second`; a second's worth is all that is ever saved up.
bool take_one(uint32_t& left, uint32_t& at_s, uint32_t now_s, uint32_t per_second) {
  if (at_s != now_s) {
    at_s = now_s;
    left = per_second;
  }
  if (left == 0) return false;
  --left;
  return true;
}

}  // namespace

// RFC 5508 REQ-9: policy may forbid errors, by which side they would go to.
bool Pipeline::may_tell(bool is_inside) {
  if (is_inside ? settings_.icmp_errors.to_clients : settings_.icmp_errors.to_internet) return true;
  ++counters_.icmp_errors_suppressed;
  return false;
}

// RFC 1812 §4.3.2.8: ICMP errors are rate-limited, by the tunnel concerned, if any, and by worker.
bool Pipeline::take_icmp_token(Tunnel* tunnel) {
  const IcmpErrorSettings& limits = settings_.icmp_errors;
  if ((tunnel == nullptr ||
       take_one(tunnel->open->icmp_errors_left, tunnel->open->icmp_errors_at_s, now_s_,
                lane_share(limits.per_tunnel_per_second, tunnel->lanes))) &&
      take_one(icmp_tokens_, icmp_tokens_at_s_, now_s_, limits.per_second)) {
    return true;
  }
  ++counters_.icmp_errors_suppressed;
  return false;
}

// An error to the inner host, from our address inside its tunnel.
void Pipeline::tell_client(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest) {
  if (!may_tell(true) || !may_answer_with_error(packet)) return;
  rte_mbuf* error = new_packet();
  if (error == nullptr) return;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(error, 576));
  const size_t length = nat::build_icmp_error(packet.span(), type, code, rest,
                                              packet.tunnel->router, packet.ip().source,
                                              {bytes, 576});
  rte_pktmbuf_trim(error, static_cast<uint16_t>(576 - length));
  ++counters_.icmp_errors_sent;
  finish(send_into_tunnel(*packet.tunnel, error, Seal::as_session), error);
}

// An error to a host on the Internet.
void Pipeline::tell_internet(const Packet& packet, uint8_t type, uint8_t code, uint32_t rest) {
  if (may_tell(nat_.is_pool_address(packet.ip().source)) && may_answer_with_error(packet)) {
    send_error_outside(packet.span(), type, code, rest);
  }
}

// To the sender of `about`, a packet or its beginning, from the address it wrote to if that is the
// translator's. Who wrote from such an address was hairpinned, and is inside.
void Pipeline::send_error_outside(std::span<const uint8_t> about, uint8_t type, uint8_t code,
                                  uint32_t rest) {
  rte_mbuf* error = new_packet();
  if (error == nullptr) return;
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(about.data());
  uint8_t* bytes = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(error, 576));
  const Ipv4Address from = nat_.is_pool_address(ip.destination)
                               ? ip.destination
                               : settings_.ports[settings_.public_port].address.address;
  const size_t length =
      nat::build_icmp_error(about, type, code, rest, from, ip.source, {bytes, 576});
  rte_pktmbuf_trim(error, static_cast<uint16_t>(576 - length));
  ++counters_.icmp_errors_sent;
  const bool is_inside = nat_.is_pool_address(ip.source) || owner_of(ip.source);
  finish(is_inside ? send_error_back_inside(error) : send_ip(settings_.public_port, error), error);
}

// An error of our own about a hairpinned packet takes the way of any that comes from outside.
Fate Pipeline::send_error_back_inside(rte_mbuf* error) {
  Packet packet;
  packet.mbuf = error;
  packet.hairpin = true;
  if (const Fate fate = read_ip(packet); fate != Fate::next) return fate;
  if (const auto owner = owner_of(packet.ip().destination)) {
    return enter_tunnel(packet, tunnels_.at(*owner));
  }
  for (const auto stage :
       {&Pipeline::find_mapping, &Pipeline::translate_inbound, &Pipeline::wrap}) {
    if (const Fate fate = (this->*stage)(packet); fate != Fate::next) return fate;
  }
  return Fate::taken;
}

// RFC 5382 REQ-4. Few at a time, so that they find room in the transmit queue.
void Pipeline::answer_held_syns() {
  constexpr unsigned kAnsweredAtATime = 32;
  for (unsigned i = 0; i < kAnsweredAtATime; ++i) {
    const std::span<const uint8_t> syn = held_syns_->take_due(now_ns_);
    if (syn.empty()) return;
    const auto& ip = *reinterpret_cast<const Ipv4Header*>(syn.data());
    const auto& tcp = *reinterpret_cast<const TcpHeader*>(syn.data() + ip.header_bytes());
    // Another worker has the port's tunnel now, and knows what has become of the connection.
    const Endpoint external{ip.destination, tcp.destination_port};
    if (has_others_ && port_owner(nat::Protocol::tcp, external) != worker_) continue;
    if (!may_tell(nat_.is_pool_address(ip.source)) || !take_icmp_token(nullptr)) continue;
    send_error_outside(syn, kIcmpUnreachable, kIcmpPortUnreachable, 0);
  }
}

// A heartbeat or the answer to a probe, sealed whatever the session. What goes to another address
// than the tunnel's own is no sign of life to the client there, whose heartbeats must go on.
Fate Pipeline::send_sealed_to(Tunnel& tunnel, rte_mbuf* mbuf, const Endpoint& to) {
  if (to == tunnel.remote) return send_into_tunnel(tunnel, mbuf, Seal::always);
  std::atomic<uint64_t>& sent_ns = tunnels_.report(tunnel.slot).sent_ns;
  const uint64_t sent_before_ns = sent_ns.load(std::memory_order_relaxed);
  const Endpoint kept = std::exchange(tunnel.remote, to);
  const Fate fate = send_into_tunnel(tunnel, mbuf, Seal::always);
  tunnel.remote = kept;
  sent_ns.store(sent_before_ns, std::memory_order_relaxed);
  return fate;
}

void Pipeline::send_heartbeat(Tunnel& tunnel, const Endpoint& to) {
  rte_mbuf* mbuf = new_packet();
  if (mbuf == nullptr) return;
  const Fate fate = send_sealed_to(tunnel, mbuf, to);
  if (!is_drop(fate)) ++counters_.heartbeats_sent;
  finish(fate, mbuf);
}

// What stands inside type 4 and is no IPv4 packet: nothing (a heartbeat), or a probe.
Fate Pipeline::answer_control_text(Packet& packet, unsigned text_bytes) {
  if (text_bytes == 0) {
    ++counters_.heartbeats_received;
    ++counters_.consumed;
    rte_pktmbuf_free(packet.mbuf);
    return Fate::taken;
  }
  if (text_bytes < sizeof(tunnel::ProbePacket)) return Fate::unknown_inner;
  auto& probe = *reinterpret_cast<tunnel::ProbePacket*>(packet.bytes());
  Tunnel& tunnel = *packet.tunnel;
  Endpoint to = tunnel.remote;
  switch (probe.kind) {
    case tunnel::kProbeRequest:
      if (probe.mtu_bytes.host() != 0) set_mtu(tunnel, probe.mtu_bytes.host());
      break;
    case tunnel::kProbeMark:
      to = tunnel.open->mark = packet.from;
      break;
    case tunnel::kProbeToMark:
      to = tunnel.open->mark;
      if (to.is_zero()) return Fate::unknown_inner;
      break;
    default:
      return Fate::unknown_inner;
  }
  probe.kind = tunnel::kProbeReply;
  ++counters_.probes_answered;
  return send_sealed_to(tunnel, packet.mbuf, to);
}

// Rule 12: a right plain packet from a wrong address. It cannot move the tunnel, but at most once
// a second an empty type 4 packet goes to where it came from; a real client answers that with a
// heartbeat, which can.
void Pipeline::hint_new_address(Packet& packet) {
  Tunnel& tunnel = *packet.tunnel;
  uint64_t& last_hint_ns = tunnel.open->remote_hint_ns;
  if (last_hint_ns != 0 && now_ns_ - last_hint_ns < tunnel::kSecondNs) return;
  last_hint_ns = now_ns_;
  send_heartbeat(tunnel, packet.from);
}

}  // namespace adit::gateway
