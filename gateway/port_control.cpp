// The Port Control Protocol's server (RFC 6887, RFC 6888 REQ-9), at the gateway's address inside
// each tunnel. What it makes are ordinary mappings, within the subscriber's limits, that do not end
// before their time.
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>

#include "gateway/pipeline.h"
#include "lib/net/checksum.h"
#include "lib/pcp/message.h"
#include "lib/tunnel/lanes.h"

namespace adit::gateway {
namespace {

using pcp::Result;

// RFC 6887 §8.2: how long a refusal is likely to stand.
inline constexpr uint32_t kShortErrorS = 30;
inline constexpr uint32_t kLongErrorS = 1800;

bool is_passing(Result result) {
  return result == Result::user_exceeded_quota || result == Result::no_resources ||
         result == Result::cannot_provide_external || result == Result::network_failure;
}

Result result_of(const nat::HoldRefusal& refusal) {
  switch (refusal.reason) {
    case nat::HoldRefusal::not_its_own:
      return Result::not_authorized;
    case nat::HoldRefusal::not_available:
      return Result::cannot_provide_external;
    case nat::HoldRefusal::at_limit:
      break;
  }
  const bool lacks_ports = refusal.no_mapping == nat::Refusal::pool_exhausted ||
                           refusal.no_mapping == nat::Refusal::range_away;
  return lacks_ports ? Result::no_resources : Result::user_exceeded_quota;
}

pcp::Answer refused(Result result) {
  pcp::Answer answer;
  answer.result = result;
  return answer;
}

}  // namespace

// From a client, to UDP port 5351 of our address inside. Whose source it is has been checked.
Fate Pipeline::answer_port_control(Packet& packet) {
  const ParsedIpv4& parsed = packet.parsed;
  const Ipv4Header& ip = packet.ip();
  const UdpHeader& udp = packet.transport<UdpHeader>();
  const std::span<const uint8_t> segment =
      packet.span().subspan(parsed.header_bytes, udp.length_bytes.host());
  if (udp.checksum.raw() != 0 &&
      transport_checksum(ip.source, ip.destination, kIpUdp, segment).raw() != 0) {
    return Fate::port_control_malformed;
  }
  const std::span<const uint8_t> message = segment.subspan(sizeof(UdpHeader));
  pcp::Request request;
  const auto read = pcp::read_request(message, request);
  if (!read) return Fate::port_control_malformed;

  pcp::Answer answer;
  answer.result = *read;
  if (answer.result == Result::success && request.client != ip.source) {
    answer.result = Result::address_mismatch;  // RFC 6887 §8.2: there is a translator in between
  }
  if (answer.result == Result::success && request.opcode != pcp::Opcode::announce) {
    answer = control_port(packet, request);
  }
  if (answer.result != Result::success) {
    answer.lifetime_s = is_passing(answer.result) ? kShortErrorS : kLongErrorS;
  }
  // What a client has here began with its tunnel (RFC 6887 §8.5).
  answer.epoch_s = now_s_ - packet.tunnel->opened_at_s;
  uint8_t response[pcp::kMessageBytesMax];
  return send_port_control(packet, {response, pcp::write_response(message, request, answer,
                                                                  response)});
}

// Whether the configuration has said where this endpoint is outside: another mapping would not be
// what its packets use.
bool Pipeline::is_fixed(const Tunnel& tunnel, nat::Protocol protocol,
                        const Endpoint& internal) const {
  if (tunnel.is_routed(internal.address)) return true;
  if (!tunnel.external_address.is_zero() && internal.address == tunnel.inner_address) return true;
  return tunnel.forward_count != 0 &&
         forwards_->find_outbound(tunnel, protocol, internal) != nullptr;
}

// A MAP or a PEER. Mapping is endpoint-independent, so a PEER differs by little: it opens the
// filter for its remote alone, and can neither end nor shorten anything (RFC 6887 §12).
pcp::Answer Pipeline::control_port(Packet& packet, const pcp::Request& request) {
  const bool is_map = request.opcode == pcp::Opcode::map;
  nat::Protocol protocol{};
  if (request.protocol == 0 && request.internal_port.raw() != 0) {
    return refused(Result::malformed_request);
  }
  // "All protocols" and "all ports" would be an address of one's own, and ICMP has no ports.
  if (!nat::protocol_of(request.protocol, protocol) || protocol == nat::Protocol::icmp ||
      request.internal_port.raw() == 0) {
    return refused(Result::unsupported_protocol);
  }
  if (!is_map && (request.remote.address.is_zero() || request.remote.port.raw() == 0)) {
    return refused(Result::malformed_request);
  }
  const Endpoint internal{packet.ip().source, request.internal_port};
  if (is_fixed(*packet.tunnel, protocol, internal)) return refused(Result::not_authorized);
  // What the endpoint sends comes by the lane that is its own, and would not find the mapping here.
  if (packet.tunnel->lane != tunnel::lane_of(internal.address, request.protocol,
                                             internal.port.host(), packet.tunnel->lanes)) {
    return refused(Result::not_authorized);
  }
  nat::Subscriber& subscriber = packet.tunnel->subscriber;
  if (is_map && request.lifetime_s == 0) {
    const bool is_gone = nat_.let_go(subscriber, protocol, internal, request.nonce, now_s_);
    pcp::Answer answer = refused(is_gone ? Result::success : Result::not_authorized);
    answer.external = request.wanted;
    return answer;
  }
  const PortControlSettings& settings = settings_.port_control;
  nat::Hold wish;
  wish.protocol = protocol;
  wish.internal = internal;
  wish.wanted = request.wanted;
  wish.only_wanted = request.prefer_failure;
  wish.is_open = is_map;
  wish.lifetime_s =
      std::clamp(request.lifetime_s, settings.lifetime_min_s, settings.lifetime_max_s);
  wish.nonce = request.nonce;
  nat::HoldRefusal refusal;
  nat::Mapping* mapping = nat_.hold(subscriber, wish, now_s_, refusal);
  refresh_line(*packet.tunnel);  // it may have a new block
  if (mapping == nullptr) {
    if (refusal.reason == nat::HoldRefusal::at_limit) {
      tell_limit(*packet.tunnel, fate_of(refusal.no_mapping));
    }
    return refused(result_of(refusal));
  }
  if (!is_map && filter_ != nullptr &&
      filter_->open(*mapping, request.remote, now_s_) != Filter::Refusal::none) {
    return refused(Result::excessive_remote_peers);
  }
  return {Result::success, mapping->held_until_s - now_s_, 0, mapping->external};
}

// Back to where `packet` came from, which ends with this.
Fate Pipeline::send_port_control(Packet& packet, std::span<const uint8_t> response) {
  rte_mbuf* mbuf = new_packet();
  if (mbuf == nullptr) return Fate::no_buffer;
  const Ipv4Header& asked = packet.ip();
  const auto udp_bytes = static_cast<uint16_t>(sizeof(UdpHeader) + response.size());
  const auto total = static_cast<uint16_t>(sizeof(Ipv4Header) + udp_bytes);
  auto* const ip = reinterpret_cast<Ipv4Header*>(rte_pktmbuf_append(mbuf, total));
  auto* const udp = reinterpret_cast<UdpHeader*>(ip + 1);
  *ip = {0x45, 0,  Be16::from_host(total), {}, Be16::from_host(kIpDontFragment), 64, kIpUdp,
         {},   asked.destination, asked.source};
  ip->checksum = internet_checksum({reinterpret_cast<const uint8_t*>(ip), sizeof *ip});
  *udp = {packet.parsed.destination_port, packet.parsed.source_port, Be16::from_host(udp_bytes),
          {}};
  std::memcpy(udp + 1, response.data(), response.size());
  udp->checksum = udp_checksum_to_send(
      transport_checksum(ip->source, ip->destination, kIpUdp,
                         {reinterpret_cast<const uint8_t*>(udp), udp_bytes}));
  ++counters_.port_controls_answered;
  finish(send_into_tunnel(*packet.tunnel, mbuf, Seal::as_session), mbuf);
  ++counters_.consumed;
  rte_pktmbuf_free(packet.mbuf);
  return Fate::taken;
}

}  // namespace adit::gateway
