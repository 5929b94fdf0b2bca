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
#include <smmintrin.h>

#include <bit>
#include <cassert>
#include <tuple>
#include <utility>

#include "gateway/packet_offsets.h"
#include "gateway/pass_clock.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using nat::Mapping;
using tunnel::PlainHeader;
using Way = ExpressPacket::Way;

namespace {

constexpr uint64_t kMacMask = 0x0000'ffff'ffff'ffff;  // of eight bytes, as they lie
constexpr uint16_t kAnyFragment = raw16(kIpMoreFragments | kIpFragmentOffsetMask);
constexpr uint8_t kNoOptions = 0x45;  // version 4, a header of 20 bytes
constexpr unsigned kRoomInFront = kPayload + sizeof(PlainHeader) + kExpressLinkBytes;
constexpr uint8_t kTcpEvents = kTcpSyn | kTcpFin | kTcpRst;

// Of a header without options. One's complement arithmetic is that modulo 0xffff, so the sum of its
// words has to be a multiple of that: it is one if its product with the inverse modulo 2^64 is
// small.
ADIT_INLINED bool has_good_checksum(const uint8_t* ip) {
  constexpr uint64_t kMultipleMax = ~uint64_t{0} / 0xffff;
  constexpr uint64_t kInverse = 0 - kMultipleMax;
  static_assert(kInverse * 0xffff == 1);
  const uint64_t sum = uint64_t{load<uint32_t>(ip)} + load<uint32_t>(ip + 4) +
                       load<uint32_t>(ip + 8) + load<uint32_t>(ip + 12) + load<uint32_t>(ip + 16);
  return sum * kInverse <= kMultipleMax;  // no header's sum is zero
}

// Whether one of the ports behind an IPv4 header is 0, which is none, or one of DHCP's, 67 and 68.
ADIT_INLINED bool has_special_port(const uint8_t* ip) {
  constexpr auto kServer = static_cast<short>(raw16(67));
  constexpr auto kClient = static_cast<short>(raw16(68));
  const __m128i ports = _mm_set1_epi32(load<int>(ip + kSourcePort));
  const __m128i special =
      _mm_setr_epi16(0, 0, kServer, kServer, kClient, kClient, kClient, kClient);
  const __m128i found = _mm_cmpeq_epi16(ports, special);
  return _mm_testz_si128(found, found) == 0;
}

// Whether the UDP or TCP header behind an IPv4 header is whole and says nothing unusual; `total`
// is the IPv4 packet's, at least kPayload.
ADIT_INLINED bool has_ordinary_transport(const uint8_t* ip, unsigned total,
                                         nat::Protocol& protocol) {
  if (has_special_port(ip)) return false;
  if (ip[kProtocol] == kIpUdp) {
    protocol = nat::Protocol::udp;
    return load_host16(ip + kUdpBytes) == total - kIpBytes;
  }
  if (ip[kProtocol] != kIpTcp || total < kIpBytes + sizeof(TcpHeader)) return false;
  const unsigned header_bytes = (ip[kTcpOffset] >> 4) * 4u;
  protocol = nat::Protocol::tcp;
  return header_bytes >= sizeof(TcpHeader) && header_bytes <= total - kIpBytes &&
         (ip[kTcpFlags] & kTcpEvents) == 0;
}

}  // namespace

// ---- Over a burst ----

namespace {
// A prefetch does not retire before its address has been translated, which for a large table may
// mean a walk through the page tables. Issued between a hundred other instructions, few of those
// walks overlap, for the core looks no further ahead; issued in one go, all of them do.
ADIT_INLINED void ask_for_wanted(std::span<const ExpressPacket> group) {
#pragma GCC unroll 8
  for (const ExpressPacket& packet : group) rte_prefetch0(packet.wanted);
}
}  // namespace

void Pipeline::run_express(unsigned port, std::span<rte_mbuf*> packets, Controls controls) {
  assert(packets.size() <= kBurstMax);
#pragma GCC unroll 4
  for (const rte_mbuf* mbuf : packets) rte_prefetch0(mbuf);
#pragma GCC unroll 4
  for (const rte_mbuf* mbuf : packets) rte_prefetch0(rte_pktmbuf_mtod(mbuf, const void*));
  refresh_exits();
  const std::span<ExpressPacket> group(express_.data(), packets.size());
  PassClock clock;
  const bool any_sealed = (this->*links_[port].board)(links_[port], packets);
  ask_for_wanted(group);
  if (any_sealed) {
    ask_for_receiving(group);
    if (controls == Controls::may_wait && settings_.controls_wait) let_controls_wait(group);
  }
  clock.ends(0);
  open(group);
  if (gathered_.count != 0) {
    open_gathered();
    look_into_opened(group);
  }
  ask_for_wanted(group);
  if (wants_sample_) [[unlikely]] take_sample(group);
  if (has_encrypted_) ask_for_sending(group);
  seek(group);
  if (filter_ != nullptr) ask_for_sessions(group);
  clock.ends(1);
  (this->*depart_pass_)(port, group);
  clock.ends(2);
}

// ---- Board ----

// Returns whether one of them may be encrypted.
template <unsigned kTraits>
bool Pipeline::board(const Link& link, std::span<rte_mbuf*> packets) {
  bool any_sealed = false;
  for (size_t i = 0; i < packets.size(); ++i) {
    rte_mbuf* const mbuf = packets[i];
    ExpressPacket& packet = express_[i];
    packet.mbuf = mbuf;
    packet.sealed = false;
    packet.opened = false;
    packet.wanted = mbuf;
    packet.way = board_one<kTraits>(link, mbuf, packet);
    any_sealed |= packet.sealed;
  }
  return any_sealed;
}

template <unsigned kTraits>
Way Pipeline::board_one(const Link& link, const rte_mbuf* mbuf, ExpressPacket& packet) {
  const unsigned frame_bytes = rte_pktmbuf_data_len(mbuf);
  const unsigned link_bytes = link.header_bytes;
  if (frame_bytes < link_bytes + kPayload) [[unlikely]] return Way::stages;
  uint8_t* const frame = rte_pktmbuf_mtod(mbuf, uint8_t*);
  uint8_t* const ip = frame + link_bytes;
  uint64_t wrong = (load<uint64_t>(frame) ^ link.mac) & kMacMask;
  wrong |= (load<uint64_t>(ip - 6) ^ link.front) & link.front_mask;
  if (wrong != 0 || mbuf->nb_segs != 1) [[unlikely]] return Way::stages;
  if ((load<uint16_t>(ip + kFragment) & kAnyFragment) != 0) [[unlikely]] return Way::stages;
  const unsigned total = load_host16(ip + kTotal);
  if (total > frame_bytes - link_bytes) [[unlikely]] return Way::stages;
  constexpr uint64_t kTold = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_VLAN_STRIPPED;
  if ((mbuf->ol_flags & kTold) != RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
    if ((mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) [[unlikely]] return Way::stages;
    if (!has_good_checksum(ip)) [[unlikely]] return Way::stages;
  }
  packet.ip = ip;
  packet.total_bytes = static_cast<uint16_t>(total);
  if constexpr ((kTraits & board_trait::kFromUplink) != 0) {
    constexpr uint64_t kAnySourcePort = 0xffff'0000'ffff'ffff;  // destination, and its port
    const uint64_t to = load<uint64_t>(ip + kDestination) & kAnySourcePort;
    if (to == tunnel_endpoint_ && ip[kProtocol] == kIpUdp) {
      return board_outbound<kTraits>(ip, total, packet);
    }
  }
  if constexpr ((kTraits & board_trait::kFromPublic) != 0) {
    if (mbuf->data_off >= kRoomInFront) return board_inbound<kTraits>(ip, total, packet);
  }
  return Way::stages;
}

// To our tunnel endpoint.
template <unsigned kTraits>
Way Pipeline::board_outbound(const uint8_t* ip, unsigned total, ExpressPacket& packet) {
  constexpr unsigned kBytesMin = kPayload + sizeof(PlainHeader) + kIpBytes;
  if (total < kBytesMin || load_host16(ip + kUdpBytes) != total - kIpBytes) [[unlikely]] {
    return Way::stages;
  }
  const uint32_t slot = tunnels_.slot_of_index(load<uint32_t>(ip + kPayload + 4));
  if constexpr ((kTraits & board_trait::kHasOthers) != 0) {
    const unsigned owner = owners_.of(slot);
    packet.owner = owner;
    if (owner != worker_) {
      // What stands there in a handshake's message is its sender's index, and says nothing of ours:
      // the worker that has received it is the one that should own the tunnel.
      const bool is_handshake =
          ip[kPayload] < static_cast<uint8_t>(tunnel::MessageType::encrypted);
      return is_handshake ? Way::stages : Way::handed;
    }
  }
  packet.owner = slot;
  packet.line = &tunnels_.line(slot);
  packet.sealed = ip[kPayload] == static_cast<uint8_t>(tunnel::MessageType::encrypted);
  packet.wanted = packet.line;
  return Way::outbound;
}

// From the Internet.
template <unsigned kTraits>
Way Pipeline::board_inbound(const uint8_t* ip, unsigned total, ExpressPacket& packet) {
  if (total < kPayload || ip[kTtl] <= 1) [[unlikely]] return Way::stages;
  nat::Protocol protocol;
  if (!has_ordinary_transport(ip, total, protocol)) [[unlikely]] return Way::stages;
  if (!is_known_remote(load<uint32_t>(ip + kSource))) [[unlikely]] return Way::stages;
  const Ipv4Address to{Be32::from_raw(load<uint32_t>(ip + kDestination))};
  Mapping* const mapping =
      nat_.entry(to, protocol, Be16::from_raw(load<uint16_t>(ip + kDestinationPort)));
  if (mapping == nullptr) [[unlikely]] return Way::stages;
  if constexpr ((kTraits & board_trait::kHasOthers) != 0) {
    const unsigned owner =
        window_owner({to, Be16::from_raw(load<uint16_t>(ip + kDestinationPort))});
    packet.owner = owner;
    // A forward's port is its tunnel's worker's, whosever the window: an unusual packet of the same
    // flow goes there straight, and would overtake one that went round.
    const bool is_known = owner < settings_.workers && forwards_ == nullptr;
    if (owner != worker_) return is_known ? Way::handed : Way::stages;
  }
  packet.protocol = protocol;
  packet.mapping = mapping;
  packet.wanted = mapping;
  return Way::inbound;
}

BoardPass Pipeline::board_pass(const PortView& port) const {
  static constexpr auto kPasses = []<unsigned... kSet>(std::integer_sequence<unsigned, kSet...>) {
    return std::array<BoardPass, sizeof...(kSet)>{&Pipeline::board<kSet>...};
  }(std::make_integer_sequence<unsigned, board_trait::kSets>());
  return kPasses[(port.is_uplink ? board_trait::kFromUplink : 0) |
                 (port.is_public ? board_trait::kFromPublic : 0) |
                 (has_others_ ? board_trait::kHasOthers : 0)];
}

// ---- Open ----

void Pipeline::open(std::span<ExpressPacket> group) {
  for (ExpressPacket& packet : group) {
    if (packet.way == Way::outbound) {
      packet.way = open_outbound(packet);
      if (packet.way == Way::stages && packet.sealed && !packet.line->encrypted) [[unlikely]] {
        gather_control(packet);
      }
    } else if (packet.way == Way::inbound) {
      packet.way = open_inbound(packet);
    }
  }
}

// A pass of its own: right behind its decryption, which stores whole vectors, the loads of single
// words would wait for those stores to reach the cache.
void Pipeline::look_into_opened(std::span<ExpressPacket> group) {
  for (ExpressPacket& packet : group) {
    if (packet.way != Way::outbound || !packet.opened) continue;
    // What is said to the gateway, or comes where packets are bare, the stages look at.
    const bool is_ordinary = packet.line->encrypted && packet.total_bytes >= kIpBytes;
    packet.way = is_ordinary ? look_inside(packet) : Way::stages;
  }
}

// The session, and behind it the inner packet.
Way Pipeline::open_outbound(ExpressPacket& packet) {
  static_assert(offsetof(TunnelLine, index) == 4 && offsetof(PlainHeader, receiver_index) == 4);
  const TunnelLine& line = *packet.line;
  uint8_t* const outer = packet.ip;
  uint8_t* const header = outer + kPayload;
  const auto* const expected = reinterpret_cast<const uint8_t*>(&line.receive_word);
  // An index of zero is that of no session; it leads to the first slot, which nobody has.
  if (load<uint64_t>(header) != load<uint64_t>(expected) || now_s_ >= line.expires_s ||
      load<uint32_t>(outer + kSource) != line.remote.address.value.raw() ||
      load<uint16_t>(outer + kSourcePort) != line.remote.port.raw()) [[unlikely]] {
    return Way::stages;
  }
  const unsigned tunnel_bytes = packet.total_bytes - kPayload;
  if (line.encrypted) {
    const bool is_whole = tunnel_bytes >= tunnel::kEncryptedOverheadBytes;
    if (is_whole) gather_to_open(packet, header, tunnel_bytes);
    return Way::stages;  // unless it can be opened
  }
  packet.ip = header + sizeof(PlainHeader);
  packet.total_bytes = static_cast<uint16_t>(tunnel_bytes - sizeof(PlainHeader));
  return look_inside(packet);
}

// Nothing in it has been changed yet, so that it can still go through the stages.
Way Pipeline::look_inside(ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  const uint8_t* const ip = packet.ip;
  const unsigned total = load_host16(ip + kTotal);
  const uint32_t source = load<uint32_t>(ip + kSource);
  if (ip[0] != kNoOptions || (load<uint16_t>(ip + kFragment) & kAnyFragment) != 0 ||
      source != line.inner_address.value.raw() || line.block_bits == 0 || ip[kTtl] <= 1 ||
      total > packet.total_bytes || total > public_mtu_bytes_ || total < kPayload) [[unlikely]] {
    return Way::stages;
  }
  if (!has_good_checksum(ip)) [[unlikely]] return Way::stages;
  nat::Protocol protocol;
  if (!has_ordinary_transport(ip, total, protocol)) [[unlikely]] return Way::stages;
  if (!is_known_destination(load<uint32_t>(ip + kDestination))) [[unlikely]] return Way::stages;
  const uint16_t port = load<uint16_t>(ip + kSourcePort);
  const uint64_t hash = nat_.hash_of(line.hash_key, protocol, uint64_t{source} << 16 | port);
  Mapping* const home = &nat_.first_home(line.block_first, 1u << line.block_bits, protocol, hash);
  packet.total_bytes = static_cast<uint16_t>(total);
  packet.protocol = protocol;
  packet.owner = packet.slot() | uint64_t{source} << 32;
  packet.internal_port = port;
  packet.mapping = home;
  packet.wanted = home;
  if (line.more_blocks) {
    nat_.prefetch_outbound(tunnels_.at(packet.slot()).subscriber, protocol,
                           {line.inner_address, Be16::from_raw(port)});
  }
  return Way::outbound;
}

Way Pipeline::open_inbound(ExpressPacket& packet) {
  const Mapping& mapping = *packet.mapping;
  if (!mapping.is_live()) [[unlikely]] return Way::stages;
  packet.owner = mapping.tunnel_slot;
  packet.line = &tunnels_.line(mapping.tunnel_slot);
  packet.wanted = packet.line;
  rte_prefetch0(packet.ip - 64);            // where the outer headers will stand
  rte_prefetch0(&packet.mbuf->tx_offload);  // the buffer's second line
  return Way::inbound;
}

// Of the first that is a tunnel's here.
void Pipeline::take_sample(std::span<const ExpressPacket> group) {
  for (const ExpressPacket& packet : group) {
    const bool is_outbound = packet.way == Way::outbound;
    if (!is_outbound && packet.way != Way::inbound) continue;
    samples_.add({.slot = packet.slot(), .received_by = received_by_, .is_outbound = is_outbound});
    wants_sample_ = false;
    return;
  }
}

// ---- Seek ----

// Most mappings are at home. Those that are not stand in the same window, nearly always, whose line
// of tags says where: two more lines to ask for.
void Pipeline::seek(std::span<ExpressPacket> group) {
  struct Stray {
    ExpressPacket* packet;
    uint64_t hash;
  };
  Stray strays[kBurstMax];
  size_t count = 0;
  for (ExpressPacket& packet : group) {
    if (packet.way != Way::outbound) continue;
    if (packet.owns(*packet.mapping)) [[likely]] continue;
    const TunnelLine& line = *packet.line;
    const Endpoint internal{line.inner_address, Be16::from_raw(packet.internal_port)};
    const uint64_t hash = nat_.hash_of(line.hash_key, packet.protocol, nat::packed(internal));
    nat_.prefetch_first_window(line.block_first, 1u << line.block_bits, hash);
    rte_prefetch0(&tunnels_.at(packet.slot()).subscriber);
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
    const bool has_mapping = packet.way == Way::outbound || packet.way == Way::inbound;
    if (has_mapping) filter_->prefetch(*packet.mapping);
  }
}

// ---- What it has learned ----

namespace {
template <typename Cache>
ADIT_INLINED uint32_t& place_in(Cache& cache, uint32_t address) {
  static_assert(std::has_single_bit(std::tuple_size_v<Cache>));
  constexpr int kShift = 32 - std::countr_zero(std::tuple_size_v<Cache>);
  return cache[address * 0x9e3779b1u >> kShift];
}
}  // namespace

// Whether the stages let every packet to this address pass. What they ask for does not change
// while we run, so the answer is remembered.
bool Pipeline::is_known_destination(uint32_t raw) {
  return place_in(known_destinations_, raw) == raw || learn_destination(raw);
}

bool Pipeline::learn_destination(uint32_t raw) {
  if (raw == 0 || !is_ordinary_destination(Ipv4Address{Be32::from_raw(raw)})) return false;
  place_in(known_destinations_, raw) = raw;
  return true;
}

// The same of a source on the Internet.
bool Pipeline::is_known_remote(uint32_t raw) {
  return place_in(known_remotes_, raw) == raw || learn_remote(raw);
}

bool Pipeline::learn_remote(uint32_t raw) {
  const Ipv4Address address{Be32::from_raw(raw)};
  // Whether one of an inner network may be outside changes with who is inside.
  if (raw == 0 || !is_foreign_host(address) || is_own_network(address)) return false;
  place_in(known_remotes_, raw) = raw;
  return true;
}

}  // namespace adit::gateway
