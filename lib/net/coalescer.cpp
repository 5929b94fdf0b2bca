#include "lib/net/coalescer.h"

#include <cstddef>
#include <cstring>

#include "lib/net/checksum.h"

namespace adit {
namespace {

// The kernel's UDP_MAX_SEGMENTS, of the kernels that have the smaller one.
constexpr unsigned kUdpSegmentsMax = 64;
constexpr unsigned kIpv4Bytes = sizeof(Ipv4Header);  // packets with options are left alone

const Ipv4Header& ip_of(std::span<const uint8_t> packet) {
  return *reinterpret_cast<const Ipv4Header*>(packet.data());
}
const TcpHeader& tcp_of(std::span<const uint8_t> packet) {
  return *reinterpret_cast<const TcpHeader*>(packet.data() + kIpv4Bytes);
}
const UdpHeader& udp_of(std::span<const uint8_t> packet) {
  return *reinterpret_cast<const UdpHeader*>(packet.data() + kIpv4Bytes);
}

// Of a UDP datagram too: a checksum that is absent was refused before.
bool has_sound_checksum(std::span<const uint8_t> packet) {
  const Ipv4Header& ip = ip_of(packet);
  return transport_checksum(ip.source, ip.destination, ip.protocol, packet.subspan(kIpv4Bytes))
             .raw() == 0;
}

// Addresses and ports, which stand one after another where there are no IPv4 options.
uint64_t load(const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}
const uint8_t* addresses_of(std::span<const uint8_t> packet) {
  return packet.data() + offsetof(Ipv4Header, source);
}
uint32_t ports_of(std::span<const uint8_t> packet) {
  uint32_t ports;
  std::memcpy(&ports, packet.data() + kIpv4Bytes, sizeof ports);
  return ports;
}

// The product's high bits, which every bit of the flow has a part in.
unsigned slot_of(std::span<const uint8_t> packet) {
  const uint64_t flow = load(addresses_of(packet)) ^ uint64_t{ports_of(packet)} << 16 ^
                        ip_of(packet).protocol;
  return static_cast<unsigned>((flow * 0x9e3779b97f4a7c15) >> (64 - Coalescer::kSlotBits));
}

bool is_same_flow(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return load(addresses_of(a)) == load(addresses_of(b)) && ports_of(a) == ports_of(b) &&
         ip_of(a).protocol == ip_of(b).protocol;
}

}  // namespace

void Coalescer::add(std::span<uint8_t> packet, const ParsedIpv4& parsed) {
  const unsigned index = packets_++;
  payloads_[index] = packet;
  next_[index] = kNone;
  const bool has_ports = (parsed.protocol == kIpTcp || parsed.protocol == kIpUdp) &&
                         parsed.header_bytes == kIpv4Bytes && !parsed.is_fragment;
  uint8_t* slot = has_ports ? &slots_[slot_of(packet)] : nullptr;
  const bool can = has_ports && can_begin(packet, parsed);
  if (can && *slot != kNone) {
    Run& run = runs_[*slot];
    if (is_same_flow(run.first, packet) && extends(run, packet, parsed)) {
      next_[run.last_index] = static_cast<uint8_t>(index);
      run.last_index = static_cast<uint8_t>(index);
      append(run, packet);
      // What is short or pushed is the end of what its sender had to say.
      if (packet.size() < size_t{run.headers_bytes} + run.segment_bytes || run.push) *slot = kNone;
      return;
    }
  }
  runs_[runs_count_] = Run{.first = packet,
                           .headers_bytes = parsed.payload_offset(),
                           .segment_bytes =
                               static_cast<uint16_t>(packet.size() - parsed.payload_offset()),
                           .packets = 1,
                           .first_index = static_cast<uint8_t>(index),
                           .last_index = static_cast<uint8_t>(index),
                           .protocol = parsed.protocol,
                           .first_is_sound = false,
                           .ids_stand_still = false,
                           .push = false,
                           .bytes = static_cast<uint32_t>(packet.size()),
                           .large_bytes = static_cast<uint32_t>(packet.size())};
  if (!has_ports) {
    forget_flows();
  } else {
    const bool is_open = can && (parsed.protocol == kIpUdp || !(tcp_of(packet).flags & kTcpPsh));
    *slot = is_open ? static_cast<uint8_t>(runs_count_) : kNone;
  }
  ++runs_count_;
}

// Whether `packet`, without IPv4 options and no fragment, may be a part of a large one.
bool Coalescer::can_begin(std::span<const uint8_t> packet, const ParsedIpv4& parsed) const {
  if (packet.size() <= parsed.payload_offset()) return false;
  if (parsed.protocol == kIpTcp) {
    const TcpHeader& tcp = tcp_of(packet);
    return tcp_ && (tcp.flags & ~kTcpPsh) == kTcpAck && tcp.urgent == Be16{} &&
           (tcp.data_offset & 15) == 0;
  }
  const UdpHeader& udp = udp_of(packet);
  return udp_ && udp.checksum != Be16{} && udp.length_bytes.host() == packet.size() - kIpv4Bytes;
}

bool Coalescer::extends(Run& run, std::span<const uint8_t> packet,
                        const ParsedIpv4& parsed) const {
  const std::span<const uint8_t> first = run.first;
  const Ipv4Header& ip = ip_of(packet);
  const Ipv4Header& first_ip = ip_of(first);
  const size_t payload_bytes = packet.size() - parsed.payload_offset();
  if (parsed.payload_offset() != run.headers_bytes || payload_bytes > run.segment_bytes ||
      run.large_bytes + payload_bytes > kLargeBytesMax || ip.tos != first_ip.tos ||
      ip.ttl != first_ip.ttl || ip.fragment != first_ip.fragment) {
    return false;
  }
  // A large packet's ids count up. Where DF is set they mean nothing, and senders that know this
  // leave them as they are.
  const uint16_t first_id = first_ip.id.host();
  const bool same_id = ip.id == first_ip.id && (ip.fragment.host() & kIpDontFragment) != 0;
  const bool next_id = ip.id.host() == static_cast<uint16_t>(first_id + run.packets);
  if (run.packets == 1 ? !same_id && !next_id : run.ids_stand_still ? !same_id : !next_id) {
    return false;
  }
  if (run.protocol == kIpTcp) {
    const TcpHeader& tcp = tcp_of(packet);
    const TcpHeader& first_tcp = tcp_of(first);
    const auto expected = static_cast<uint32_t>(first_tcp.sequence.host() + run.large_bytes -
                                                run.headers_bytes);
    const size_t options_bytes = run.headers_bytes - kIpv4Bytes - sizeof(TcpHeader);
    if (tcp.sequence.host() != expected || tcp.acknowledgement != first_tcp.acknowledgement ||
        tcp.window != first_tcp.window ||
        std::memcmp(&tcp + 1, &first_tcp + 1, options_bytes) != 0) {
      return false;
    }
  } else if (run.packets == kUdpSegmentsMax) {
    return false;
  }
  // Last, because it reads the whole payload.
  if (!run.first_is_sound && !has_sound_checksum(first)) return false;
  run.first_is_sound = true;
  if (!has_sound_checksum(packet)) return false;
  if (run.packets == 1) run.ids_stand_still = same_id;
  return true;
}

void Coalescer::append(Run& run, std::span<uint8_t> packet) {
  ++run.packets;
  run.bytes += static_cast<uint32_t>(packet.size());
  run.large_bytes += static_cast<uint32_t>(packet.size() - run.headers_bytes);
  run.push = run.protocol == kIpTcp && (tcp_of(packet).flags & kTcpPsh) != 0;
}

// Lists the parts of `run`, and makes the first packet's headers the large one's.
Offload Coalescer::finish(const Run& run) {
  parts_[0] = {run.first.data(), run.first.size()};
  if (run.packets == 1) return {};
  unsigned count = 1;
  for (uint8_t i = next_[run.first_index]; i != kNone; i = next_[i]) {
    parts_[count++] = {payloads_[i].data() + run.headers_bytes,
                       payloads_[i].size() - run.headers_bytes};
  }
  auto* ip = reinterpret_cast<Ipv4Header*>(run.first.data());
  ip->total_bytes = Be16::from_host(static_cast<uint16_t>(run.large_bytes));
  ip->checksum = {};
  ip->checksum = internet_checksum(run.first.first(kIpv4Bytes));

  const auto transport_bytes = static_cast<uint16_t>(run.large_bytes - kIpv4Bytes);
  PartialSum pseudo = Be16::from_host(run.protocol).raw();
  pseudo += Be16::from_host(transport_bytes).raw();
  pseudo += ip->source.value.raw();
  pseudo += ip->destination.value.raw();
  const Be16 partial = Be16::from_raw(fold(pseudo));
  Offload offload{.segment_bytes = run.segment_bytes,
                  .checksum_missing = true,
                  .checksum_start = kIpv4Bytes};
  if (run.protocol == kIpTcp) {
    auto* tcp = reinterpret_cast<TcpHeader*>(run.first.data() + kIpv4Bytes);
    if (run.push) tcp->flags |= kTcpPsh;
    tcp->checksum = partial;
    offload.kind = Offload::tcp;
    offload.checksum_offset = offsetof(TcpHeader, checksum);
  } else {
    auto* udp = reinterpret_cast<UdpHeader*>(run.first.data() + kIpv4Bytes);
    udp->length_bytes = Be16::from_host(transport_bytes);
    udp->checksum = partial;
    offload.kind = Offload::udp;
    offload.checksum_offset = offsetof(UdpHeader, checksum);
  }
  return offload;
}

}  // namespace adit
