// What arrives, and whether it is what must arrive. The packets that a trial is about are compared
// with their expectation at once; everything else, and everything that differs, is looked at
// slowly, and is wrong unless there is a good reason for it.
#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <cstring>

#include "bench/swarm/swarm.h"
#include "lib/net/checksum.h"
#include "lib/net/parse.h"

namespace adit::bench {

using tunnel::MessageType;
using tunnel::Protection;

namespace {

template <typename T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint64_t packed(const Endpoint& endpoint) {
  return uint64_t{endpoint.address.host()} << 16 | endpoint.port.host();
}

}  // namespace

unsigned Swarm::receive(unsigned side) {
  rte_mbuf* packets[kBurst];
  const uint16_t count = rte_eth_rx_burst(sides_[side].port, 0, packets, kBurst);
  if (count == 0) return 0;
  const uint64_t tsc = rte_rdtsc();
  if (options_.spoil != 0) spoil({packets, count});
  Arrival arrivals[kBurst];
  for (unsigned i = 0; i < count; ++i) {
    arrivals[i] = look_at(side, packets[i]);
    if (!arrivals[i].is_data) continue;
    const uint8_t* line = expected_frames_[arrivals[i].direction][arrivals[i].flow].bytes.data();
    rte_prefetch0(line);
    rte_prefetch0(line + 64);
  }
  for (unsigned i = 0; i < count; ++i) take(arrivals[i], side, tsc);
  rte_pktmbuf_free_bulk(packets, count);
  return count;
}

// At a glance: which flow's packet it would be.
Swarm::Arrival Swarm::look_at(unsigned side, rte_mbuf* mbuf) const {
  Arrival arrival{rte_pktmbuf_mtod(mbuf, uint8_t*), rte_pktmbuf_data_len(mbuf), kOutbound, false,
                  0};
  if (mbuf->nb_segs != 1 || arrival.bytes < kUdpPayloadAt + 1) return arrival;
  const uint8_t* const frame = arrival.frame;
  if (options_.yardstick) {
    arrival.direction = side == kClientsSide ? kInbound : kOutbound;
  } else if (load<uint32_t>(frame + kIpAt + 12) == options_.tunnel.address.value.raw() &&
             load<uint16_t>(frame + kUdpAt) == options_.tunnel.port.raw()) {
    arrival.direction = kInbound;
    // Sealed packets are nobody's before they are opened.
    if (frame[kUdpPayloadAt] != static_cast<uint8_t>(MessageType::plain)) return arrival;
  }
  const unsigned header_bytes = arriving_header_bytes_[arrival.direction];
  if (arrival.bytes < header_bytes + kStampBytes) return arrival;
  arrival.flow = load<uint32_t>(frame + header_bytes);
  arrival.is_data = arrival.flow < flows();
  return arrival;
}

void Swarm::take(const Arrival& arrival, unsigned side, uint64_t tsc) {
  if (arrival.is_data && is_expected(arrival)) [[likely]] {
    const unsigned header_bytes = arriving_header_bytes_[arrival.direction];
    return account(static_cast<Direction>(arrival.direction),
                   read_stamp(arrival.frame + header_bytes), tsc);
  }
  if (!take_other(arrival, side, tsc)) remember_wrong(arrival, side);
}

bool Swarm::is_expected(const Arrival& arrival) const {
  const Frame& expected = expected_frames_[arrival.direction][arrival.flow];
  return arrival.bytes == expected.frame_bytes && has_headers(arrival.frame, expected) &&
         is_payload(arrival.frame + expected.header_bytes,
                    expected.frame_bytes - expected.header_bytes);
}

void Swarm::account(Direction direction, const Stamp& stamp, uint64_t tsc, Came came) {
  // It may have its session already, but no address yet.
  if (direction == kInbound && absent_ != 0 && whereabouts_[flows_[stamp.flow].client].has_left) {
    came = Came::in_former_life;
  }
  if (came != Came::in_time && stamp.tsc >= trial_began_tsc_) {
    ++(came == Came::to_former_place ? trial_.lost_to_roaming : trial_.lost_to_churn);
    return;
  }
  uint32_t& seen = seen_sequence_[direction][stamp.flow];
  TrialResult::Counts& counts = trial_.counts[direction];
  if (static_cast<int32_t>(stamp.sequence - seen) > 0) {
    seen = stamp.sequence;
  } else {
    ++counts.reordered;
  }
  if (stamp.tsc < trial_began_tsc_) {
    ++trial_.late;
    return;
  }
  ++counts.received;
  trial_.latency.record(tsc - stamp.tsc);
}

// ---- Slowly ----

// Whether there is a reason for it.
bool Swarm::take_other(const Arrival& arrival, unsigned side, uint64_t tsc) {
  if (options_.yardstick || arrival.bytes < kIpAt) return false;
  const auto ether_type = load<Be16>(arrival.frame + 12).host();
  if (ether_type == kEtherTypeArp) return take_arp(side, arrival.frame, arrival.bytes);
  if (ether_type != kEtherTypeIpv4) return false;
  if (arrival.direction == kInbound) return take_from_tunnel(arrival, tsc);
  return arrival.is_data && learn_mapping(arrival, tsc);
}

// Answers for our own addresses; learns the gateway's.
bool Swarm::take_arp(unsigned number, const uint8_t* frame, unsigned bytes) {
  if (bytes < kIpAt + sizeof(ArpPacket)) return false;
  const auto arp = load<ArpPacket>(frame + kIpAt);
  // One port has two sides.
  for (unsigned i = 0; i < sides_.size(); ++i) {
    Side& side = sides_[i];
    if (side.port != sides_[number].port) continue;
    if (arp.sender_address == side.gateway && !side.is_resolved) {
      side.link.to = arp.sender_mac;
      side.is_resolved = true;
    }
    if (arp.operation.host() == kArpRequest && arp.target_address == side.router) {
      struct {
        EthernetHeader ethernet;
        ArpPacket arp;
      } reply{{arp.sender_mac, side.link.from, Be16::from_host(kEtherTypeArp)}, arp};
      reply.arp.operation = Be16::from_host(kArpReply);
      reply.arp.sender_mac = side.link.from;
      reply.arp.sender_address = side.router;
      reply.arp.target_mac = arp.sender_mac;
      reply.arp.target_address = arp.sender_address;
      send_control_frame(i, reinterpret_cast<const uint8_t*>(&reply), sizeof reply);
      return true;
    }
  }
  return true;
}

// From the tunnel endpoint, as its address says.
bool Swarm::take_from_tunnel(const Arrival& arrival, uint64_t tsc) {
  const Endpoint to{load<Ipv4Address>(arrival.frame + kIpAt + 16),
                    load<Be16>(arrival.frame + kUdpAt + 2)};
  const std::span datagram(arrival.frame + kUdpPayloadAt, arrival.bytes - kUdpPayloadAt);
  if (Flood::has(to.address)) {
    const bool is_cookie = flood_.take_answer(to, datagram, clock_.now_ns());
    trial_.flood_answered += is_cookie;
    return is_cookie;
  }
  const std::optional<uint32_t> client = client_at(to.address);
  if (!client || *client >= clients_.size() || !is_from_gateway(arrival.frame, arrival.bytes, to)) {
    return false;
  }
  const uint32_t moves = whereabouts_[*client].moves;
  const bool is_there = to == place_of(*client, moves);
  if (!is_there && to != place_of(*client, moves - 1)) return false;
  const Came came = is_there ? Came::in_time : Came::to_former_place;
  if (!arrival.is_data) return take_sealed(*client, datagram, came, tsc);
  return flows_[arrival.flow].client == *client && take_plain(arrival, to, came, tsc);
}

// Ethernet, IPv4 and UDP of a tunnel packet to this endpoint, field by field.
bool Swarm::is_from_gateway(const uint8_t* frame, unsigned bytes, const Endpoint& to) const {
  const Link link = sides_[kClientsSide].reversed();
  const auto ethernet = load<EthernetHeader>(frame);
  if (ethernet.destination != link.to || ethernet.source != link.from) return false;
  ParsedIpv4 parsed;
  const std::span packet(frame + kIpAt, bytes - kIpAt);
  if (parse_ipv4(packet, HeaderChecksum::verify, parsed) != ParseError::none) return false;
  const auto ip = load<Ipv4Header>(frame + kIpAt);
  const auto udp = load<UdpHeader>(frame + kUdpAt);
  return ip.version_ihl == 0x45 && ip.tos == 0 && ip.ttl == 64 && ip.fragment.host() == 0 &&
         ip.protocol == kIpUdp && parsed.total_bytes == packet.size() &&
         ip.source == options_.tunnel.address && ip.destination == to.address &&
         udp.source_port == options_.tunnel.port && udp.destination_port == to.port &&
         udp.length_bytes.host() == parsed.total_bytes - sizeof ip && is_udp_checksum_right(frame);
}

// Whatever is not type 5. In a plain session, what is sealed is never a data packet.
bool Swarm::take_sealed(uint32_t number, std::span<uint8_t> datagram, Came came, uint64_t tsc) {
  // What a client does not get cannot go on with a handshake.
  const bool is_sealed =
      !datagram.empty() && datagram[0] == static_cast<uint8_t>(MessageType::encrypted);
  if (came != Came::in_time && !is_sealed) return may_come(number, came, tsc);
  const Client::Received received = clients_[number].receive(datagram, clock_.now_ns());
  if (received.is_former) came = Came::in_former_life;
  if (received.kind == Client::Received::control) return may_come(number, came, tsc);
  if (received.kind != Client::Received::packet) return false;
  if (is_plain(number)) return false;
  const std::span<const uint8_t> inner = received.inner;
  if (inner.size() < kInnerHeaderBytes + kStampBytes) return false;
  const Stamp stamp = read_stamp(inner.data() + kInnerHeaderBytes);
  if (stamp.flow >= flows() || flows_[stamp.flow].client != number) return false;
  const Frame& expected = expected_frames_[kInbound][stamp.flow];
  const unsigned inner_bytes = flows_[stamp.flow].inner_bytes;
  const uint8_t* const headers = expected.bytes.data() + expected.header_bytes - kInnerHeaderBytes;
  const unsigned text_bytes =
      expected.frame_bytes - kUdpPayloadAt - tunnel::kEncryptedOverheadBytes;
  if (inner.size() != text_bytes || std::memcmp(inner.data(), headers, kInnerHeaderBytes) != 0 ||
      !is_payload(inner.data() + kInnerHeaderBytes, inner_bytes - kInnerHeaderBytes)) {
    return false;
  }
  for (const uint8_t padding : inner.subspan(inner_bytes)) {
    if (padding != 0) return false;
  }
  if (!may_come(number, came, stamp.tsc)) return false;
  account(kInbound, stamp, tsc, came);
  return true;
}

// A plain packet in a session that was or will be the current one, or to where its client was: all
// else must be as ever.
bool Swarm::take_plain(const Arrival& arrival, const Endpoint& to, Came came, uint64_t tsc) {
  const Flow& flow = flows_[arrival.flow];
  const auto header = load<tunnel::PlainHeader>(arrival.frame + kUdpPayloadAt);
  const auto [session, is_former] =
      clients_[flow.client].find_session(header.receiver_index.host());
  if (session == nullptr || session->protection != Protection::plain) return false;
  if (is_former) came = Came::in_former_life;
  const Frame expected =
      tunnel_frame(sides_[kClientsSide].reversed(),
                   {options_.tunnel, to, session->local_index, session->receive_tag, 0}, flow,
                   flow.remote, flow.internal, 63);
  if (arrival.bytes != expected.frame_bytes || !has_headers(arrival.frame, expected) ||
      !is_payload(arrival.frame + expected.header_bytes,
                  expected.frame_bytes - expected.header_bytes)) {
    return false;
  }
  const Stamp stamp = read_stamp(arrival.frame + expected.header_bytes);
  if (!may_come(flow.client, came, stamp.tsc)) return false;
  account(kInbound, stamp, tsc, came);
  return true;
}

// The first packet of a flow that reaches its server says where its mapping is.
bool Swarm::learn_mapping(const Arrival& arrival, uint64_t tsc) {
  Flow& flow = flows_[arrival.flow];
  if (!flow.external.is_zero()) return false;
  flow.external = {load<Ipv4Address>(arrival.frame + kIpAt + 12),
                   load<Be16>(arrival.frame + kUdpAt)};
  rebuild(flow);
  const bool is_its_own = !mapped_.contains(packed(flow.external));
  if (!is_expected(arrival) || !is_its_own) {
    flow.external = {};
    expected_frames_[kOutbound][flow.number] = {};
    return false;
  }
  mapped_.emplace(packed(flow.external), flow.number);
  account(kOutbound, read_stamp(arrival.frame + arriving_header_bytes_[kOutbound]), tsc);
  return true;
}

// Turns one bit of every so many IPv4 packets, as if it had come so.
void Swarm::spoil(std::span<rte_mbuf* const> packets) {
  if (trial_began_tsc_ == ~uint64_t{0}) return;
  for (rte_mbuf* mbuf : packets) {
    auto* const frame = rte_pktmbuf_mtod(mbuf, uint8_t*);
    if (load<Be16>(frame + 12).host() != kEtherTypeIpv4 || --until_spoilt_ != 0) continue;
    until_spoilt_ = options_.spoil;
    const auto bit = static_cast<unsigned>(spoil_random_() % (rte_pktmbuf_data_len(mbuf) * 8u));
    frame[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    ++trial_.spoilt;
  }
}

void Swarm::remember_wrong(const Arrival& arrival, unsigned side) {
  ++trial_.wrong;
  ++wrong_ever_;
  if (!trial_.first_wrong.empty()) return;
  std::string text = fmt::format("wrong, {} bytes at the {}: ", arrival.bytes,
                                 side == kClientsSide ? "clients" : "servers");
  const auto hex = [&text](const uint8_t* bytes, unsigned count) {
    for (unsigned i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  };
  hex(arrival.frame, std::min<unsigned>(arrival.bytes, 160));
  if (arrival.is_data) {
    const Frame& expected = expected_frames_[arrival.direction][arrival.flow];
    text += fmt::format("; expected {} bytes: ", expected.frame_bytes);
    hex(expected.bytes.data(), expected.header_bytes);
  }
  trial_.first_wrong = text;
}

}  // namespace adit::bench
