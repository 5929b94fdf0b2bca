// The express way: what the stages do, for packets that are ordinary in every respect. Whole, no
// options, UDP or TCP, of a tunnel whose session is current and which is where it was, with a
// mapping that is in use, or that takes no more than a free port: nearly every packet. The tests
// that it has to pass are folded into few branches, and a burst is gone over in four passes, so
// that each line of memory has been asked for a pass before it is needed:
//
//   board   outer or public headers              asks for the tunnel's line or the mapping
//   open    session, decryption, inner headers   asks for the mapping or the tunnel's line
//   seek    is the mapping at home?              if not, asks for where it stands
//   depart  mapping, rewriting, new headers      puts it into the transmit queue
//
// Whatever is not ordinary goes through the stages of pipeline.cpp, in its turn, so that no packet
// overtakes another. The express way never drops a packet that the stages would not, nor sends a
// byte that they would not: tests/eal/express_test.cpp holds one against the other.
#include "gateway/express.h"

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>
#include <utility>

#include "gateway/packet_offsets.h"
#include "gateway/pass_clock.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using nat::Mapping;
using tunnel::PlainHeader;
using tunnel::SessionSet;

namespace {

constexpr uint64_t kMacMask = 0x0000'ffff'ffff'ffff;  // of eight bytes, as they lie
constexpr uint16_t kAnyFragment = raw16(kIpMoreFragments | kIpFragmentOffsetMask);
constexpr uint8_t kNoOptions = 0x45;  // version 4, a header of 20 bytes
constexpr uint8_t kTcpEvents = kTcpSyn | kTcpFin | kTcpRst;
constexpr unsigned kDhcpPorts = 67;  // and 68

// One's complement sum of a header without options: 0xffff if its checksum is right.
ADIT_INLINED bool has_good_checksum(const uint8_t* ip) {
  const uint64_t sum = uint64_t{load<uint32_t>(ip)} + load<uint32_t>(ip + 4) +
                       load<uint32_t>(ip + 8) + load<uint32_t>(ip + 12) + load<uint32_t>(ip + 16);
  return fold(sum) == 0xffff;
}

ADIT_INLINED bool has_port_zero(const uint8_t* ip) {
  return load<uint16_t>(ip + kSourcePort) == 0 || load<uint16_t>(ip + kDestinationPort) == 0;
}

// Whether the UDP or TCP header behind an IPv4 header is whole and says nothing unusual; `total`
// is the IPv4 packet's.
ADIT_INLINED bool has_ordinary_transport(const uint8_t* ip, unsigned total,
                                         nat::Protocol& protocol) {
  if (ip[kProtocol] == kIpUdp) {
    const unsigned udp_bytes = load_host16(ip + kUdpBytes);
    protocol = nat::Protocol::udp;
    return total >= kPayload && udp_bytes >= sizeof(UdpHeader) && udp_bytes <= total - kIpBytes &&
           !has_port_zero(ip);
  }
  if (ip[kProtocol] != kIpTcp || total < kIpBytes + sizeof(TcpHeader)) return false;
  const unsigned header_bytes = (ip[kTcpOffset] >> 4) * 4u;
  protocol = nat::Protocol::tcp;
  return header_bytes >= sizeof(TcpHeader) && header_bytes <= total - kIpBytes &&
         (ip[kTcpFlags] & kTcpEvents) == 0 && !has_port_zero(ip);
}

// One's complement addition.
uint16_t add(uint16_t a, uint16_t b) {
  uint16_t sum;
  const bool carry = __builtin_add_overflow(a, b, &sum);
  return static_cast<uint16_t>(sum + carry);
}

// One hop less, and the checksums for that and for a rewritten endpoint.
ADIT_INLINED void rewrite(uint8_t* ip, nat::Protocol protocol, uint16_t l3_delta,
                          uint16_t l4_delta) {
  static_assert(std::endian::native == std::endian::little);  // TTL is the low byte of its word
  constexpr uint16_t kOneHopLess = 0xffff - 1;
  --ip[kTtl];
  const auto complement = [](uint16_t word) { return static_cast<uint16_t>(~word); };
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

}  // namespace

// ---- Over a burst ----

namespace {
// A prefetch does not retire before its address has been translated, which for a large table may
// mean a walk through the page tables. Issued between a hundred other instructions, few of those
// walks overlap, for the core looks no further ahead; issued in one go, all of them do.
void ask_for_wanted(std::span<const ExpressPacket> group) {
  for (const ExpressPacket& packet : group) rte_prefetch0(packet.wanted);
}
}  // namespace

void Pipeline::run_express(unsigned port, std::span<rte_mbuf*> packets) {
  const auto ask_for_buffers = [&](size_t from) {
    const size_t end = std::min(from + kExpressGroup, packets.size());
    for (size_t i = from; i < end; ++i) rte_prefetch0(packets[i]);
  };
  const auto ask_for_headers = [&](size_t from) {
    const size_t end = std::min(from + kExpressGroup, packets.size());
    for (size_t i = from; i < end; ++i) rte_prefetch0(rte_pktmbuf_mtod(packets[i], void*));
  };
  Tally tally;
  ask_for_buffers(0);
  ask_for_buffers(kExpressGroup);
  ask_for_headers(0);
  for (size_t begin = 0; begin < packets.size(); begin += kExpressGroup) {
    const size_t count = std::min<size_t>(kExpressGroup, packets.size() - begin);
    const std::span<ExpressPacket> group(express_.data(), count);
    PassClock clock;
    for (size_t i = 0; i < count; ++i) board(port, packets[begin + i], group[i], tally);
    ask_for_wanted(group);
    if (tally.sealed != 0) ask_for_receive_keys(group);
    clock.ends(0);
    for (ExpressPacket& packet : group) open(packet);
    if (gathered_.count != 0) open_gathered();
    for (ExpressPacket& packet : group) look_inside(packet);
    ask_for_wanted(group);
    ask_for_headers(begin + kExpressGroup);
    ask_for_buffers(begin + 2 * kExpressGroup);
    seek(group);
    if (filter_ != nullptr) ask_for_sessions(group);
    clock.ends(1);
    for (ExpressPacket& packet : group) depart(port, packet, tally);
    if (gathered_.count != 0) seal_gathered();
    clock.ends(2);
  }
  counters_.outbound_packets += tally.outbound_packets;
  counters_.outbound_bytes += tally.outbound_bytes;
  counters_.inbound_packets += tally.inbound_packets;
  counters_.inbound_bytes += tally.inbound_bytes;
}

void Pipeline::board(unsigned port_number, rte_mbuf* mbuf, ExpressPacket& packet, Tally& tally) {
  packet.mbuf = mbuf;
  packet.wanted = mbuf;
  packet.way = ExpressPacket::stages;
  packet.sealed = false;
  packet.opened = false;
  const PortView& port = settings_.ports[port_number];
  const Link& link = links_[port_number];
  uint8_t* const frame = rte_pktmbuf_mtod(mbuf, uint8_t*);
  const unsigned frame_bytes = rte_pktmbuf_data_len(mbuf);
  if (frame_bytes < link.header_bytes + kPayload) return;
  uint8_t* const ip = frame + link.header_bytes;
  const unsigned total = load_host16(ip + kTotal);

  uint64_t wrong = (load<uint64_t>(frame) ^ link.mac) & kMacMask;
  wrong |= load<uint16_t>(ip - 2) ^ raw16(kEtherTypeIpv4);
  wrong |= static_cast<uint64_t>(ip[0] ^ kNoOptions);
  wrong |= load<uint16_t>(ip + kFragment) & kAnyFragment;
  wrong |= static_cast<uint64_t>(mbuf->nb_segs ^ 1);
  wrong |= static_cast<uint64_t>(total > frame_bytes - link.header_bytes);
  if (link.vlan_type != 0) {
    wrong |= load<uint16_t>(frame + 12) ^ link.vlan_type;
    wrong |= (load<uint16_t>(frame + 14) ^ link.vlan_id) & raw16(0xfff);
  }
  if (wrong != 0) return;
  constexpr uint64_t kTold = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_VLAN_STRIPPED;
  if ((mbuf->ol_flags & kTold) != RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
    if ((mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 || !has_good_checksum(ip)) return;
  }
  packet.ip = ip;
  packet.total_bytes = static_cast<uint16_t>(total);
  if (port.is_uplink && ip[kProtocol] == kIpUdp &&
      raw_endpoint(ip + kDestination, ip + kDestinationPort) == tunnel_endpoint_) {
    constexpr unsigned kBytesMin = kPayload + sizeof(PlainHeader) + kIpBytes;
    if (total < kBytesMin || load_host16(ip + kUdpBytes) != total - kIpBytes) return;
    packet.slot = tunnels_.slot_of_index(load<uint32_t>(ip + kPayload + 4));
    packet.line = &tunnels_.line(packet.slot);
    packet.wanted = packet.line;
    packet.sealed = ip[kPayload] == static_cast<uint8_t>(tunnel::MessageType::encrypted);
    tally.sealed += packet.sealed;
    packet.way = ExpressPacket::outbound;
    return;
  }
  constexpr unsigned kRoomInFront = kPayload + sizeof(PlainHeader) + sizeof(VlanTag);
  if (!port.is_public || ip[kTtl] <= 1 || mbuf->data_off < kRoomInFront) return;
  if (!has_ordinary_transport(ip, total, packet.protocol)) return;
  if (!is_known_remote(load<uint32_t>(ip + kSource))) return;
  const Ipv4Address to{Be32::from_raw(load<uint32_t>(ip + kDestination))};
  packet.mapping = nat_.entry(to, packet.protocol,
                              Be16::from_raw(load<uint16_t>(ip + kDestinationPort)));
  if (packet.mapping == nullptr) return;
  packet.wanted = packet.mapping;
  packet.way = ExpressPacket::inbound;
}

void Pipeline::open(ExpressPacket& packet) {
  if (packet.way == ExpressPacket::outbound) {
    open_outbound(packet);
  } else if (packet.way == ExpressPacket::inbound) {
    const Mapping& mapping = *packet.mapping;
    if (!mapping.is_live()) {
      packet.way = ExpressPacket::stages;
      return;
    }
    packet.slot = mapping.tunnel_slot;
    packet.line = &tunnels_.line(packet.slot);
    packet.wanted = packet.line;
    rte_prefetch0(packet.ip - 64);            // where the outer headers will stand
    rte_prefetch0(&packet.mbuf->tx_offload);  // the buffer's second line
  }
}

void Pipeline::depart(unsigned port, ExpressPacket& packet, Tally& tally) {
  switch (packet.way) {
    case ExpressPacket::outbound:
      if (depart_outbound(packet, tally)) return;
      break;
    case ExpressPacket::inbound:
      if (depart_inbound(packet, tally)) return;
      break;
    case ExpressPacket::gone:
      return;
    case ExpressPacket::stages:
      break;
  }
  if (gathered_.count != 0) seal_gathered();
  if (packet.opened) return run_inner_stages(packet);
  run_stages(port, packet.mbuf);
}

// ---- Outbound ----

// The session, and behind it the inner packet.
void Pipeline::open_outbound(ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  uint8_t* const outer = packet.ip;
  const uint8_t* const header = outer + kPayload;
  packet.way = ExpressPacket::stages;
  const uint64_t remote = raw_endpoint(outer + kSource, outer + kSourcePort);
  uint64_t wrong = load<uint32_t>(header) ^ line.receive_word;
  wrong |= load<uint32_t>(header + 4) ^ line.index;
  wrong |= remote ^ nat::packed(line.remote);
  wrong |= static_cast<uint64_t>(line.index == 0) | static_cast<uint64_t>(now_s_ >= line.expires_s);
  if (wrong != 0) return;
  const unsigned tunnel_bytes = packet.total_bytes - kPayload;
  if (!line.encrypted) {
    packet.ip = outer + kPayload + sizeof(PlainHeader);
    packet.total_bytes = static_cast<uint16_t>(tunnel_bytes - sizeof(PlainHeader));
  } else {
    if (tunnel_bytes < tunnel::kEncryptedOverheadBytes + kIpBytes) return;
    return gather_to_open(packet, outer + kPayload, tunnel_bytes);
  }
  packet.way = ExpressPacket::outbound;
}

// A pass of its own: right behind its decryption, which stores whole vectors, the loads of single
// words would wait for those stores to reach the cache.
void Pipeline::look_inside(ExpressPacket& packet) {
  if (packet.way == ExpressPacket::outbound && !is_ordinary_inner(packet)) {
    packet.way = ExpressPacket::stages;
  }
}

// What open_gathered() has opened and is not ordinary inside.
void Pipeline::run_inner_stages(const ExpressPacket& express) {
  set_data(express.mbuf, express.ip, express.total_bytes);
  Packet packet;
  packet.mbuf = express.mbuf;
  packet.port = settings_.uplink;
  packet.tunnel = &tunnels_.at(express.slot);
  packet.from = packet.tunnel->remote;
  packet.place = SessionSet::kCurrent;
  const bool is_packet = express.ip[0] >> 4 == 4;
  finish(is_packet ? go_on_outbound(packet) : answer_control_text(packet, express.total_bytes),
         packet.mbuf);
}

// Nothing in it has been changed yet, so that it can still go through the stages.
bool Pipeline::is_ordinary_inner(ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  const uint8_t* const ip = packet.ip;
  const unsigned room = packet.total_bytes;
  const unsigned total = load_host16(ip + kTotal);
  uint64_t wrong = static_cast<uint64_t>(ip[0] ^ kNoOptions);
  wrong |= load<uint16_t>(ip + kFragment) & kAnyFragment;
  wrong |= load<uint32_t>(ip + kSource) ^ line.inner_address.value.raw();
  wrong |= static_cast<uint64_t>(total > room) | static_cast<uint64_t>(total > public_mtu_bytes_);
  wrong |= static_cast<uint64_t>(ip[kTtl] <= 1) | static_cast<uint64_t>(line.block_bits == 0);
  if (wrong != 0 || room < kPayload) return false;
  if (!has_good_checksum(ip)) return false;
  if (!has_ordinary_transport(ip, total, packet.protocol)) return false;
  if (packet.protocol == nat::Protocol::udp &&
      (load_host16(ip + kSourcePort) - kDhcpPorts < 2u ||
       load_host16(ip + kDestinationPort) - kDhcpPorts < 2u)) {
    return false;
  }
  if (!is_known_destination(load<uint32_t>(ip + kDestination))) return false;
  packet.total_bytes = static_cast<uint16_t>(total);
  packet.internal = raw_endpoint(ip + kSource, ip + kSourcePort);
  const uint64_t hash = nat_.hash_of(line.hash_key, packet.protocol, packet.internal);
  packet.mapping =
      &nat_.first_home(line.block_first, 1u << line.block_bits, packet.protocol, hash);
  packet.wanted = packet.mapping;
  if (line.more_blocks) {
    nat_.prefetch_outbound(tunnels_.at(packet.slot).subscriber, packet.protocol,
                           {line.inner_address, Be16::from_raw(load<uint16_t>(ip + kSourcePort))});
  }
  return true;
}

// Most mappings are at home. Those that are not stand in the same window, nearly always, whose line
// of tags says where: two more lines to ask for.
void Pipeline::seek(std::span<ExpressPacket> group) {
  struct Stray {
    ExpressPacket* packet;
    uint64_t hash;
  };
  Stray strays[kExpressGroup];
  size_t count = 0;
  for (ExpressPacket& packet : group) {
    if (packet.way == ExpressPacket::inbound && packet.line->encrypted) ask_for_send_keys(packet);
    if (packet.way != ExpressPacket::outbound) continue;
    if (nat::packed(packet.mapping->internal) == packet.internal) [[likely]] continue;
    const TunnelLine& line = *packet.line;
    const uint64_t hash = nat_.hash_of(line.hash_key, packet.protocol, packet.internal);
    nat_.prefetch_first_window(line.block_first, 1u << line.block_bits, hash);
    rte_prefetch0(&tunnels_.at(packet.slot).subscriber);
    strays[count++] = {&packet, hash};
  }
  for (size_t i = 0; i < count; ++i) {
    ExpressPacket& packet = *strays[i].packet;
    const TunnelLine& line = *packet.line;
    Mapping* const found = nat_.beside_first_home(line.block_first, 1u << line.block_bits,
                                                  packet.protocol, strays[i].hash);
    if (found == nullptr) continue;
    packet.mapping = found;
    rte_prefetch0(found);
  }
}

void Pipeline::ask_for_sessions(std::span<const ExpressPacket> group) {
  for (const ExpressPacket& packet : group) {
    const bool has_mapping =
        packet.way == ExpressPacket::outbound || packet.way == ExpressPacket::inbound;
    if (has_mapping) filter_->prefetch(*packet.mapping);
  }
}

bool Pipeline::depart_outbound(ExpressPacket& packet, Tally& tally) {
  uint8_t* const ip = packet.ip;
  TunnelLine& line = *packet.line;
  const Endpoint to{Ipv4Address{Be32::from_raw(load<uint32_t>(ip + kDestination))},
                    Be16::from_raw(load<uint16_t>(ip + kDestinationPort))};
  Mapping* mapping = packet.mapping;
  // Not at home, not used this second, or not made yet: the translator knows.
  if (nat::packed(mapping->internal) != packet.internal || mapping->tunnel_slot != packet.slot ||
      !mapping->is_live() || mapping->last_seen_s != now_s_) [[unlikely]] {
    const Endpoint internal{line.inner_address, Be16::from_raw(load<uint16_t>(ip + kSourcePort))};
    Tunnel& tunnel = tunnels_.at(packet.slot);
    if (tunnel.forward_count != 0) return false;  // it may have one by configuration
    mapping = nat_.find_or_make_at_home(tunnel.subscriber, packet.protocol, internal, now_s_);
    if (mapping == nullptr) return false;
  }
  if (filter_ != nullptr && filter_->open(*mapping, to, now_s_) != Filter::Refusal::none) {
    return false;
  }
  if (!nat::is_in_use(*mapping, packet.protocol, to, now_s_)) [[unlikely]] {
    const uint8_t flags = packet.protocol == nat::Protocol::tcp ? ip[kTcpFlags] : uint8_t{0};
    nat_.on_outbound(*mapping, to, flags, now_s_);
  }
  rewrite(ip, packet.protocol, mapping->l3_delta, mapping->l4_delta);
  store(ip + kSource, mapping->external.address.value.raw());
  store(ip + kSourcePort, mapping->external.port.raw());
  if ((load<uint16_t>(ip + kFragment) & raw16(kIpDontFragment)) == 0) {
    nat::set_id(ip, ids_.next(mapping->external.address, to.address, packet.protocol));
  }

  const uint16_t total = packet.total_bytes;
  ++line.rx_packets;
  line.rx_bytes += total;
  if (line.rx_bytes >> 31 != 0) [[unlikely]] report_traffic(packet.slot);
  ++tally.outbound_packets;
  tally.outbound_bytes += total;
  send_express(settings_.public_port, packet.mbuf, ip, total, to.address.value.raw());
  return true;
}

// ---- Inbound ----

bool Pipeline::depart_inbound(ExpressPacket& packet, Tally& tally) {
  uint8_t* const ip = packet.ip;
  TunnelLine& line = *packet.line;
  Mapping* mapping = packet.mapping;
  const uint16_t total = packet.total_bytes;
  if (line.index == 0 || now_s_ >= line.expires_s || total > line.mtu_bytes) return false;
  if (!mapping->is_live() || mapping->tunnel_slot != packet.slot) return false;
  if (mapping->last_seen_s != now_s_) [[unlikely]] {
    mapping = nat_.find_inbound(mapping->external.address, packet.protocol,
                                mapping->external.port, now_s_);
    if (mapping == nullptr) return false;
  }
  const Endpoint from{Ipv4Address{Be32::from_raw(load<uint32_t>(ip + kSource))},
                      Be16::from_raw(load<uint16_t>(ip + kSourcePort))};
  if (filter_ != nullptr && !filter_->admits(*mapping, from, now_s_)) return false;
  if (!nat::is_in_use(*mapping, packet.protocol, from, now_s_)) [[unlikely]] {
    const uint8_t flags = packet.protocol == nat::Protocol::tcp ? ip[kTcpFlags] : uint8_t{0};
    nat_.on_inbound(*mapping, from, flags, now_s_);
  }
  rewrite(ip, packet.protocol, static_cast<uint16_t>(~mapping->l3_delta),
          static_cast<uint16_t>(~mapping->l4_delta));
  store(ip + kDestination, mapping->internal.address.value.raw());
  store(ip + kDestinationPort, mapping->internal.port.raw());

  ++tally.inbound_packets;
  tally.inbound_bytes += total;
  if (line.encrypted && !(knows_hop(settings_.uplink, line.remote.address.value.raw()) &&
                          gather_to_seal(packet))) {
    set_data(packet.mbuf, ip, total);
    finish(send_into_tunnel(tunnels_.at(packet.slot), packet.mbuf, Seal::as_session), packet.mbuf);
    return true;
  }
  ++line.tx_packets;
  line.tx_bytes += total;
  if (line.tx_bytes >> 31 != 0) [[unlikely]] report_traffic(packet.slot);
  if (line.encrypted) {
    const CryptoJob& job = gathered_.jobs[gathered_.count - 1];
    wrap_express(packet.mbuf, job.packet, job.text_bytes + tunnel::kEncryptedOverheadBytes,
                 line.remote, true);
    return true;
  }
  uint8_t* const header = ip - sizeof(PlainHeader);
  store(header, line.send_word);
  store(header + 4, line.remote_index.raw());
  const unsigned bytes = total + static_cast<unsigned>(sizeof(PlainHeader));
  wrap_express(packet.mbuf, header, bytes, line.remote, false);
  return true;
}

// The outer UDP and IPv4 headers in front of a tunnel header, as send_outer_udp() writes them; what
// is not sealed yet has no checksum in software yet.
void Pipeline::wrap_express(rte_mbuf* mbuf, uint8_t* payload, unsigned payload_bytes,
                            const Endpoint& to, bool is_to_be_sealed) {
  const PortView& port = settings_.ports[settings_.uplink];
  uint8_t* const ip = payload - kPayload;
  const unsigned udp_bytes = payload_bytes + static_cast<unsigned>(sizeof(UdpHeader));
  const unsigned total = udp_bytes + kIpBytes;
  // As in outer_template_, with what differs from packet to packet.
  std::memcpy(ip, outer_template_.data(), kPayload);
  store(ip + kTotal, raw16(total));
  store(ip + 4, raw16(outer_id_++));
  store(ip + kDestination, to.address.value.raw());
  store(ip + kDestinationPort, to.port.raw());
  store(ip + kUdpBytes, raw16(udp_bytes));
  if (!port.checksum_ip_by_port) {
    store(ip + kIpChecksum, internet_checksum({ip, kIpBytes}).raw());
  } else {
    mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
  }
  if (port.checksum_udp_by_port) {
    // The device wants the pseudo-header's sum.
    const uint32_t raw = to.address.value.raw();
    const uint16_t address = add(static_cast<uint16_t>(raw), static_cast<uint16_t>(raw >> 16));
    store(ip + kUdpChecksum, add(add(outer_sum_, address), raw16(udp_bytes)));
    mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
  } else if (!is_to_be_sealed) {
    write_outer_udp_checksum(ip);
  }
  if (port.checksum_ip_by_port || port.checksum_udp_by_port) {
    mbuf->l2_len = links_[settings_.uplink].header_bytes & 0x7f;
    mbuf->l3_len = kIpBytes;
  }
  send_express(settings_.uplink, mbuf, ip, total, to.address.value.raw());
}

// ---- What it knows beforehand ----

namespace {
template <typename Cache>
uint32_t& place_in(Cache& cache, uint32_t address) {
  static_assert(std::has_single_bit(std::tuple_size_v<Cache>));
  constexpr int kShift = 32 - std::countr_zero(std::tuple_size_v<Cache>);
  return cache[address * 0x9e3779b1u >> kShift];
}
}  // namespace

// Whether the stages let every packet to this address pass. What they ask for does not change
// while we run, so the answer is remembered; zero, which is no address, marks an empty place.
bool Pipeline::is_known_destination(uint32_t raw) {
  uint32_t& known = place_in(known_destinations_, raw);
  if (known == raw) [[likely]] return raw != 0;
  if (!is_ordinary_destination(Ipv4Address{Be32::from_raw(raw)})) return false;
  known = raw;
  return true;
}

// The same of a source on the Internet.
bool Pipeline::is_known_remote(uint32_t raw) {
  uint32_t& known = place_in(known_remotes_, raw);
  if (known == raw) [[likely]] return raw != 0;
  const Ipv4Address address{Be32::from_raw(raw)};
  // Whether one of an inner network may be outside changes with who is inside.
  if (!is_foreign_host(address) || is_own_network(address)) return false;
  known = raw;
  return true;
}

// ---- The way out ----

void Pipeline::set_data(rte_mbuf* mbuf, const uint8_t* begin, unsigned bytes) {
  mbuf->data_off = static_cast<uint16_t>(begin - static_cast<const uint8_t*>(mbuf->buf_addr));
  mbuf->data_len = static_cast<uint16_t>(bytes);
  mbuf->pkt_len = bytes;
}

// Whether a packet to this address can go into the transmit queue now.
bool Pipeline::knows_hop(unsigned port, uint32_t to) const {
  const Link& link = links_[port];
  const bool on_link = ((to ^ link.subnet) & link.mask) == 0 || link.next_hop == 0;
  const Neighbour* neighbour = last_neighbour_[port];
  return neighbour != nullptr && neighbour->resolved &&
         neighbour->address.value.raw() == (on_link ? to : link.next_hop) &&
         tx_[port].count != tx_[port].packets.size();
}

// The packet of `bytes` at `ip`, whose destination is `to`, as it lies; its link header is to come.
void Pipeline::send_express(unsigned port, rte_mbuf* mbuf, uint8_t* ip, unsigned bytes,
                            uint32_t to) {
  const Link& link = links_[port];
  if (!knows_hop(port, to)) [[unlikely]] {
    set_data(mbuf, ip, bytes);
    return finish(send_ip(port, mbuf), mbuf);
  }
  uint8_t* const frame = ip - link.header_bytes;
  std::memcpy(frame, last_neighbour_[port]->mac.bytes.data(), 6);
  std::memcpy(frame + 6, link.source_and_type.data(), 8);
  if (link.vlan_type != 0) {
    store(frame + 14, link.vlan_id);
    store(frame + 16, raw16(kEtherTypeIpv4));
  }
  set_data(mbuf, frame, bytes + link.header_bytes);
  TxQueue& queue = tx_[port];
  queue.packets[queue.count++] = mbuf;
}

}  // namespace adit::gateway
