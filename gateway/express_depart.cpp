// The express way's last pass: what has been found is rewritten, gets its new headers, and goes
// into a transmit queue.
#include <rte_mbuf.h>

#include <bit>
#include <cstring>
#include <utility>

#include "gateway/packet_offsets.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using nat::Mapping;
using tunnel::PlainHeader;
using tunnel::SessionSet;

static_assert(std::endian::native == std::endian::little);  // of words, the low bytes come first

namespace {

// One's complement addition.
ADIT_INLINED uint16_t add(uint16_t a, uint16_t b) {
  uint16_t sum;
  const bool carry = __builtin_add_overflow(a, b, &sum);
  return static_cast<uint16_t>(sum + carry);
}

ADIT_INLINED uint16_t complement(uint16_t word) { return static_cast<uint16_t>(~word); }

// One hop less, and the checksums for that and for a rewritten endpoint.
ADIT_INLINED void rewrite(uint8_t* ip, nat::Protocol protocol, uint16_t l3_delta,
                          uint16_t l4_delta) {
  constexpr uint16_t kOneHopLess = 0xffff - 1;  // of the word whose low byte is the TTL
  --ip[kTtl];
  const uint16_t l3 = add(add(complement(load<uint16_t>(ip + kIpChecksum)), l3_delta), kOneHopLess);
  store(ip + kIpChecksum, complement(l3));
  if (protocol == nat::Protocol::tcp) [[unlikely]] {
    const uint16_t before = complement(load<uint16_t>(ip + kTcpChecksum));
    store(ip + kTcpChecksum, complement(add(before, l4_delta)));
    return;
  }
  const uint16_t before = load<uint16_t>(ip + kUdpChecksum);
  if (before == 0) return;  // there is none
  const uint16_t after = complement(add(complement(before), l4_delta));
  store(ip + kUdpChecksum, after == 0 ? uint16_t{0xffff} : after);
}

ADIT_INLINED Endpoint endpoint_at(const uint8_t* address, const uint8_t* port) {
  return {Ipv4Address{Be32::from_raw(load<uint32_t>(address))},
          Be16::from_raw(load<uint16_t>(port))};
}

// nat::is_in_use() of a mapping that has been used this second.
ADIT_INLINED bool is_in_same_use(const Mapping& mapping, nat::Protocol protocol,
                                 const uint8_t* address, const uint8_t* port) {
  if (protocol != nat::Protocol::tcp) return !mapping.is_dns_only;
  return mapping.tcp_state == nat::TcpState::established &&
         mapping.tcp_remote.address.value.raw() == load<uint32_t>(address) &&
         mapping.tcp_remote.port.raw() == load<uint16_t>(port);
}

// A line's count of packets and, behind it, of bytes, as one number. Returns whether it is time to
// report them.
ADIT_INLINED bool add_traffic(TunnelLine& line, size_t offset, uint64_t bytes) {
  static_assert(offsetof(TunnelLine, rx_bytes) == offsetof(TunnelLine, rx_packets) + 4);
  static_assert(offsetof(TunnelLine, tx_bytes) == offsetof(TunnelLine, tx_packets) + 4);
  uint8_t* const at = reinterpret_cast<uint8_t*>(&line) + offset;
  const uint64_t sum = load<uint64_t>(at) + (bytes << 32 | 1);
  store(at, sum);
  return static_cast<int64_t>(sum) < 0;
}

}  // namespace

struct Pipeline::Tally {
  uint64_t outbound_packets = 0;
  uint64_t outbound_bytes = 0;
  uint64_t inbound_packets = 0;
  uint64_t inbound_bytes = 0;
};

template <unsigned kTraits>
void Pipeline::depart(unsigned port, std::span<ExpressPacket> group) {
  Tally tally;
  for (ExpressPacket& packet : group) {
    if (packet.way == ExpressPacket::outbound) {
      if (depart_outbound<kTraits>(packet, tally)) continue;
    } else if (packet.way == ExpressPacket::inbound) {
      if (depart_inbound<kTraits>(packet, tally)) continue;
    } else if (packet.way == ExpressPacket::gone) {
      continue;
    } else if (packet.way == ExpressPacket::handed) {
      hand_frame(port, packet.mbuf, packet.slot());
      continue;
    } else if (packet.opened && knows_hop(uplink_exit_, packet.line->remote.address.value.raw()) &&
               gather_answer(packet)) {
      const CryptoJob& answer = gathered_.jobs[gathered_.count - 1];
      wrap_express<kTraits>(packet.mbuf, answer.packet,
                   answer.text_bytes + unsigned{tunnel::kEncryptedOverheadBytes}, *packet.line);
      continue;
    }
    if (gathered_.count != 0) seal_gathered();
    if (packet.opened) {
      run_inner_stages(packet);
    } else {
      run_stages(port, packet.mbuf);
    }
    refresh_exits();
  }
  if (gathered_.count != 0) seal_gathered();
  counters_.outbound_packets += tally.outbound_packets;
  counters_.outbound_bytes += tally.outbound_bytes;
  counters_.inbound_packets += tally.inbound_packets;
  counters_.inbound_bytes += tally.inbound_bytes;
}

// What open_gathered() has opened and is not ordinary inside.
void Pipeline::run_inner_stages(const ExpressPacket& express) {
  const uint8_t* const outer = express.ip - sizeof(tunnel::EncryptedHeader) - kPayload;
  set_data(express.mbuf, express.ip, express.total_bytes);
  Packet packet;
  packet.mbuf = express.mbuf;
  packet.port = settings_.uplink;
  packet.tunnel = &tunnels_.at(express.slot());
  packet.from = endpoint_at(outer + kSource, outer + kSourcePort);  // the tunnel may have moved
  packet.place = SessionSet::kCurrent;
  const bool is_packet = express.total_bytes >= kIpBytes && express.ip[0] >> 4 == 4;
  tunnels_.report(express.slot()).heard(now_ns_, is_packet);
  finish(is_packet ? go_on_outbound(packet) : answer_control_text(packet, express.total_bytes),
         packet.mbuf);
}

// ---- Outbound ----

template <unsigned kTraits>
bool Pipeline::depart_outbound(ExpressPacket& packet, Tally& tally) {
  uint8_t* const ip = packet.ip;
  TunnelLine& line = *packet.line;
  Mapping* mapping = packet.mapping;
  if (!packet.owns(*mapping) || !mapping->is_live() || mapping->last_seen_s != now_s_)
      [[unlikely]] {
    mapping = find_or_make(packet);
    if (mapping == nullptr) return false;
  }
  uint8_t* const to = ip + kDestination;
  uint8_t* const to_port = ip + kDestinationPort;
  if constexpr ((kTraits & depart_trait::kFiltered) != 0) {
    const Filter::Refusal refusal = filter_->open(*mapping, endpoint_at(to, to_port), now_s_);
    if (refusal != Filter::Refusal::none) return false;
  }
  if (mapping->last_seen_s != now_s_ || !is_in_same_use(*mapping, packet.protocol, to, to_port))
      [[unlikely]] {
    const uint8_t flags = packet.protocol == nat::Protocol::tcp ? ip[kTcpFlags] : uint8_t{0};
    nat_.on_outbound(*mapping, endpoint_at(to, to_port), flags, now_s_);
  }
  rewrite(ip, packet.protocol, mapping->l3_delta, mapping->l4_delta);
  store(ip + kSource, mapping->external.address.value.raw());
  store(ip + kSourcePort, mapping->external.port.raw());
  if ((load<uint16_t>(ip + kFragment) & raw16(kIpDontFragment)) == 0) {
    const Ipv4Address remote = endpoint_at(to, to_port).address;
    nat::set_id(ip, ids_.next(mapping->external.address, remote, packet.protocol));
  }

  const unsigned total = packet.total_bytes;
  ++tally.outbound_packets;
  tally.outbound_bytes += total;
  if (add_traffic(line, offsetof(TunnelLine, rx_packets), total)) [[unlikely]] {
    report_traffic(packet.slot());
  }
  send_express(public_exit_, packet.mbuf, ip, total, load<uint32_t>(to));
  return true;
}

// Of one that is not at home, not used this second, or not made yet.
Mapping* Pipeline::find_or_make(const ExpressPacket& packet) {
  Tunnel& tunnel = tunnels_.at(packet.slot());
  if (tunnel.forward_count != 0) return nullptr;  // it may have one by configuration
  const Endpoint internal{packet.line->inner_address, Be16::from_raw(packet.internal_port)};
  return nat_.find_or_make_at_home(tunnel.subscriber, packet.protocol, internal, now_s_);
}

// ---- Inbound ----

template <unsigned kTraits>
bool Pipeline::depart_inbound(ExpressPacket& packet, Tally& tally) {
  uint8_t* const ip = packet.ip;
  TunnelLine& line = *packet.line;
  Mapping* mapping = packet.mapping;
  const unsigned total = packet.total_bytes;
  if (line.index == 0 || now_s_ >= line.expires_s || total > line.mtu_bytes) return false;
  if (!mapping->is_live() || mapping->tunnel_slot != packet.slot()) return false;
  if (mapping->last_seen_s != now_s_) [[unlikely]] {
    mapping = nat_.find_inbound(mapping->external.address, packet.protocol,
                                mapping->external.port, now_s_);
    if (mapping == nullptr) return false;
  }
  const uint8_t* const from = ip + kSource;
  const uint8_t* const from_port = ip + kSourcePort;
  if constexpr ((kTraits & depart_trait::kFiltered) != 0) {
    if (!filter_->admits(*mapping, endpoint_at(from, from_port), now_s_)) return false;
  }
  if (mapping->last_seen_s != now_s_ ||
      !is_in_same_use(*mapping, packet.protocol, from, from_port)) [[unlikely]] {
    const uint8_t flags = packet.protocol == nat::Protocol::tcp ? ip[kTcpFlags] : uint8_t{0};
    nat_.on_inbound(*mapping, endpoint_at(from, from_port), flags, now_s_);
  }
  rewrite(ip, packet.protocol, complement(mapping->l3_delta), complement(mapping->l4_delta));
  store(ip + kDestination, mapping->internal.address.value.raw());
  store(ip + kDestinationPort, mapping->internal.port.raw());

  ++tally.inbound_packets;
  tally.inbound_bytes += total;
  uint8_t* header = ip - sizeof(PlainHeader);
  unsigned tunnel_bytes = total + unsigned{sizeof(PlainHeader)};
  if (!line.encrypted) {
    store(header, line.send_word);
    store(header + 4, line.remote_index.raw());
  } else if (knows_hop(uplink_exit_, line.remote.address.value.raw()) && gather_to_seal(packet)) {
    const CryptoJob& job = gathered_.jobs[gathered_.count - 1];
    header = job.packet;
    tunnel_bytes = job.text_bytes + unsigned{tunnel::kEncryptedOverheadBytes};
  } else {
    set_data(packet.mbuf, ip, total);
    finish(send_into_tunnel(tunnels_.at(packet.slot()), packet.mbuf, Seal::as_session),
           packet.mbuf);
    refresh_exits();
    return true;
  }
  if (add_traffic(line, offsetof(TunnelLine, tx_packets), total)) [[unlikely]] {
    report_traffic(packet.slot());
  }
  wrap_express<kTraits>(packet.mbuf, header, tunnel_bytes, line);
  return true;
}

// The outer UDP and IPv4 headers in front of a tunnel header, as send_outer_udp() writes them, in
// words of eight bytes.
template <unsigned kTraits>
void Pipeline::wrap_express(rte_mbuf* mbuf, uint8_t* payload, unsigned payload_bytes,
                            const TunnelLine& line) {
  uint8_t* const ip = payload - kPayload;
  const unsigned udp_bytes = payload_bytes + unsigned{sizeof(UdpHeader)};
  const unsigned total = udp_bytes + kIpBytes;
  const uint16_t raw_udp_bytes = raw16(udp_bytes);
  const uint32_t to = line.remote.address.value.raw();
  // The sum of the pseudo-header is what a device wants that completes the checksum.
  const uint16_t address = add(static_cast<uint16_t>(to), static_cast<uint16_t>(to >> 16));
  const uint16_t udp_sum = add(add(outer_.udp_sum, address), raw_udp_bytes);
  const uint64_t id = raw16(next_outer_id());
  store(ip, outer_.ip_begin | uint64_t{raw16(total)} << 16 | id << 32);
  store(ip + kTtl, outer_.ip_middle);
  store(ip + kDestination,
        to | uint64_t{outer_.source_port} << 32 | uint64_t{line.remote.port.raw()} << 48);
  store(ip + kUdpBytes, raw_udp_bytes | uint32_t{udp_sum} << 16);
  if constexpr ((kTraits & depart_trait::kIpSumByPort) == 0) {
    store(ip + kIpChecksum, internet_checksum({ip, kIpBytes}).raw());
  }
  if constexpr ((kTraits & depart_trait::kUdpSumByPort) == 0) {
    store(ip + kUdpChecksum, uint16_t{0});
    if (!line.encrypted) write_outer_udp_checksum(ip);  // what is not sealed yet gets it then
  }
  if constexpr ((kTraits & (depart_trait::kIpSumByPort | depart_trait::kUdpSumByPort)) != 0) {
    mbuf->ol_flags |= outer_.offloads;
    mbuf->tx_offload = outer_.header_lengths;
  }
  send_express(uplink_exit_, mbuf, ip, total, to);
}

DepartPass Pipeline::depart_pass() const {
  static constexpr auto kPasses = []<unsigned... kSet>(std::integer_sequence<unsigned, kSet...>) {
    return std::array<DepartPass, sizeof...(kSet)>{&Pipeline::depart<kSet>...};
  }(std::make_integer_sequence<unsigned, depart_trait::kSets>());
  const PortView& uplink = settings_.ports[settings_.uplink];
  return kPasses[(filter_ != nullptr ? depart_trait::kFiltered : 0) |
                 (uplink.checksum_ip_by_port ? depart_trait::kIpSumByPort : 0) |
                 (uplink.checksum_udp_by_port ? depart_trait::kUdpSumByPort : 0)];
}

// ---- The way out ----

void Pipeline::set_data(rte_mbuf* mbuf, const uint8_t* begin, unsigned bytes) {
  mbuf->data_off = static_cast<uint16_t>(begin - static_cast<const uint8_t*>(mbuf->buf_addr));
  mbuf->data_len = static_cast<uint16_t>(bytes);
  mbuf->pkt_len = bytes;
}

// Whether a packet to this address can go into the transmit queue now.
bool Pipeline::knows_hop(const Exit& exit, uint32_t to) {
  const uint32_t hop = (to & exit.mask) == exit.subnet ? to : exit.next_hop;
  return hop == exit.hop && exit.queue->count != exit.queue->packets.size();
}

// The packet of `bytes` at `ip`, whose destination is `to`, as it lies; its link header is to come.
void Pipeline::send_express(const Exit& exit, rte_mbuf* mbuf, uint8_t* ip, unsigned bytes,
                            uint32_t to) {
  if (!knows_hop(exit, to)) [[unlikely]] return send_by_stages(exit, mbuf, ip, bytes);
  std::memcpy(ip - kExpressLinkBytes, exit.header.data(), kExpressLinkBytes);
  set_data(mbuf, ip - exit.header_bytes, bytes + exit.header_bytes);
  TxQueue& queue = *exit.queue;
  queue.packets[queue.count++] = mbuf;
}

void Pipeline::send_by_stages(const Exit& exit, rte_mbuf* mbuf, uint8_t* ip, unsigned bytes) {
  set_data(mbuf, ip, bytes);
  finish(send_ip(exit.port, mbuf), mbuf);
  refresh_exits();
}

}  // namespace adit::gateway
