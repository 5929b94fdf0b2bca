#include "gateway/pipeline.h"

#include <algorithm>
#include <bit>

#include "lib/net/headers.h"

namespace adit::gateway {

void Pipeline::run(unsigned port, std::span<rte_mbuf*> packets, uint64_t now_ns) {
  set_time(now_ns);
  counters_.received += packets.size();
  received_by_ = static_cast<uint8_t>(worker_);
  run_burst(port, packets, Controls::may_wait);
}

void Pipeline::run_burst(unsigned port, std::span<rte_mbuf*> packets, Controls controls) {
  if (settings_.express) return run_express(port, packets, controls);
  for (rte_mbuf* mbuf : packets) run_stages(port, mbuf);
}

// A packet that is not ordinary (express.cpp), or any.
void Pipeline::run_stages(unsigned port, rte_mbuf* mbuf) {
  Packet packet;
  packet.mbuf = mbuf;
  packet.port = static_cast<uint8_t>(port);
  finish(travel(packet), mbuf);
}

Fate Pipeline::travel(Packet& packet) {
  return pass(packet,
              &Pipeline::read_frame,        //
              &Pipeline::read_ip,           //
              &Pipeline::sort_by_journey);  // outbound, inbound, or an answer of our own
}

// From a tunnel to the Internet.
Fate Pipeline::go_outbound(Packet& packet) {
  return pass(packet,
              &Pipeline::find_tunnel,       // by receiver index
              &Pipeline::open_encrypted,    // type 4: decrypt, replay, roaming
              &Pipeline::open_plain,        // type 5: check its tag and address
              &Pipeline::go_on_outbound);
}

// The same from the inner packet on.
Fate Pipeline::go_on_outbound(Packet& packet) {
  return pass(packet,
              &Pipeline::read_inner,               // the inner packet's own header
              &Pipeline::check_inner_source,       // it must be the tunnel's; DHCP leaves here
              &Pipeline::check_inner_destination,  // pings to ourselves are answered here
              &Pipeline::forward_outbound,         // TTL, size, MSS
              &Pipeline::leave_unmapped,           // what needs no mapping is sent
              &Pipeline::map_outbound,             // internal endpoint -> external endpoint
              &Pipeline::open_filter,              // who is sent to may answer
              &Pipeline::translate_outbound);      // rewrite the source; send, or turn round
}

// From the Internet into a tunnel.
Fate Pipeline::go_inbound(Packet& packet) {
  return pass(packet,
              &Pipeline::check_public_source,  //
              &Pipeline::find_mapping,         // external endpoint -> internal endpoint, tunnel
              &Pipeline::filter_inbound,       // may this remote send to it?
              &Pipeline::forward_inbound,      // TTL, size, MSS
              &Pipeline::translate_inbound,    // rewrite the destination
              &Pipeline::wrap);                // seal or prepend, outer headers, send
}

namespace {
// What is over is met once in so many sweeps: in two seconds, or later where blocks or what is over
// in them are so many that this were too much at a time. Lookups expire what is idle by themselves.
inline constexpr unsigned kSweepsARound = 2000;
inline constexpr uint64_t kSweptBlocksMax = 1024;
inline constexpr uint64_t kSweptEntriesMax = 1024;
// The same of the tunnels' lines: in half a second, or later where there are more than 256,000; a
// million take two.
inline constexpr uint32_t kTunnelSweepsARound = 500;
inline constexpr uint32_t kSweptTunnelsMax = 512;
inline constexpr uint32_t kTunnelsAhead = 32;  // their lines are asked for
}  // namespace

void Pipeline::set_time(uint64_t now_ns) {
  now_ns_ = now_ns;
  now_s_ = static_cast<uint32_t>(now_ns / tunnel::kSecondNs);
}

// Reports what the tunnels have carried, and forgets keys whose time is over.
void Pipeline::sweep_tunnels() {
  const uint32_t count = std::min(lines_end_ / kTunnelSweepsARound + 1, kSweptTunnelsMax);
  for (uint32_t i = 0; i < count; ++i) {
    line_hand_ = line_hand_ + 1 < lines_end_ ? line_hand_ + 1 : 0;
    const uint32_t slot = line_hand_;
    __builtin_prefetch(&tunnels_.line(slot + kTunnelsAhead));
    if (owners_.of(slot) != worker_) continue;
    TunnelLine& line = tunnels_.line(slot);
    if (line.has_traffic()) report_traffic(slot);
    if (line.index == 0 || now_s_ <= line.expires_s) continue;
    tunnels_.open(slot).sessions.expire(now_ns_);
    refresh_line(tunnels_.at(slot));
  }
}

void Pipeline::sweep(uint64_t now_ns) {
  set_time(now_ns);
  sweep_tunnels();
  wants_sample_ = has_others_;
  const uint64_t entries = nat_.granted_entries() / kSweepsARound + 1;
  const uint64_t blocks = nat_.counts().blocks_granted / kSweepsARound + 1;
  nat_.sweep(now_s_, static_cast<unsigned>(std::min(entries, kSweptEntriesMax)),
             static_cast<unsigned>(std::min(blocks, kSweptBlocksMax)));
  if (has_others_) send_block_home();
  portless_.sweep(now_s_);
  counters_.key_expansions = crypto_.expansions();
  if (filter_ != nullptr) filter_->sweep(now_s_);
  if (held_syns_ != nullptr && !held_syns_->empty()) answer_held_syns();
  counters_.fates[static_cast<unsigned>(Fate::fragment_timeout)] += fragments_.sweep(now_ns);
  reassembly_.expire(now_ns, counters_);
}

// ---- The stages that every packet begins with ----

Pipeline::Pipeline(const PipelineSettings& settings, const Tables& tables, Crypto& crypto,
                   rte_mempool* pool, Counters& counters)
    : settings_(settings),
      passes_unmapped_(!settings.exempt.empty() || tables.outer_routes != nullptr),
      has_others_(tables.hand_off != nullptr),
      worker_(settings.worker),
      tunnels_(tables.tunnels),
      nat_(tables.nat),
      portless_(tables.portless),
      fragments_(tables.fragments),
      reassembly_(tables.reassembly),
      crypto_(crypto),
      neighbours_(tables.neighbours),
      inner_routes_(tables.inner_routes),
      outer_routes_(tables.outer_routes),
      held_syns_(tables.held_syns),
      filter_(tables.filter),
      forwards_(tables.forwards),
      hand_off_(tables.hand_off),
      pool_(pool),
      counters_(counters),
      outer_ids_mask_(static_cast<uint16_t>(0x10000 / std::bit_ceil(settings.workers) - 1)),
      first_outer_id_(static_cast<uint16_t>(settings.worker * (outer_ids_mask_ + 1u))),
      hand_outboxes_(has_others_ ? settings.workers : 0),
      owners_(tables.tunnels, settings.workers),
      moved_ports_(has_others_ ? nat_.total_units() : 0),
      ids_(settings.ipv4_id_key, settings.worker,
           static_cast<unsigned>(std::bit_width(settings.workers - 1))) {
  prepare_express();
  if (filter_ != nullptr && has_others_) filter_->watch_owners(owners_, worker_);
  if (settings_.tell_blocks) {
    nat_.watch_blocks([this](const nat::BlockEvent& event) { tell_block(event); });
  }
}

Fate Pipeline::read_frame(Packet& packet) {
  const PortView& port = settings_.ports[packet.port];
  const rte_mbuf* mbuf = packet.mbuf;
  if (mbuf->nb_segs != 1) return Fate::multi_segment;
  const unsigned length = rte_pktmbuf_data_len(mbuf);
  if (length < sizeof(EthernetHeader)) return Fate::frame_truncated;
  const auto& ethernet = *reinterpret_cast<const EthernetHeader*>(packet.bytes());
  const bool is_ours = ethernet.destination == port.mac;
  if (!is_ours && !ethernet.destination.is_group()) return Fate::not_our_mac;
  uint16_t ether_type = ethernet.ether_type.host();
  unsigned header = sizeof(EthernetHeader);
  uint16_t vlan = 0;
  if ((mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
    vlan = mbuf->vlan_tci & 0xfff;
  } else if (ether_type == kEtherTypeVlan) {
    if (length < header + sizeof(VlanTag)) return Fate::frame_truncated;
    const auto& tag = *reinterpret_cast<const VlanTag*>(packet.bytes() + header);
    vlan = tag.control.host() & 0xfff;
    ether_type = tag.ether_type.host();
    header += sizeof(VlanTag);
  }
  if (vlan != port.vlan) return Fate::wrong_vlan;
  packet.strip(header);
  if (ether_type == kEtherTypeIpv4) [[likely]] {
    // RFC 1812 §5.3.4: what came as a link-layer broadcast is not forwarded.
    return is_ours ? Fate::next : Fate::not_our_mac;
  }
  if (ether_type != kEtherTypeArp) return Fate::not_ip;
  ToControl item;
  item.kind = ToControl::arp;
  item.port = packet.port;
  item.packet = packet.mbuf;
  return hand_to_control(item);
}

namespace {

// Whether the device has vouched for the IPv4 header checksum, or refuted it.
HeaderChecksum checksum_to_do(const rte_mbuf* mbuf) {
  return (mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD
             ? HeaderChecksum::trusted
             : HeaderChecksum::verify;
}

Fate fate_of(ParseError error) {
  switch (error) {
    case ParseError::none:
      return Fate::next;
    case ParseError::truncated:
      return Fate::ip_truncated;
    case ParseError::bad_version:
      return Fate::ip_bad_version;
    case ParseError::bad_length:
      return Fate::ip_bad_length;
    case ParseError::bad_checksum:
      return Fate::ip_bad_checksum;
    case ParseError::bad_transport:
      return Fate::ip_bad_transport;
  }
  return Fate::ip_bad_length;
}

}  // namespace

Fate Pipeline::read_ip(Packet& packet) {
  const ParseError error =
      parse_ipv4(packet.span(), checksum_to_do(packet.mbuf), packet.parsed);
  if (error != ParseError::none) [[unlikely]] {
    return packet.parsed.is_fragment ? Fate::fragment_tiny : fate_of(error);
  }
  packet.trim();
  return Fate::next;
}

// A whole UDP packet to our tunnel endpoint.
Fate Pipeline::enter_outbound(Packet& packet) {
  packet.from = packet.source();
  if (!is_foreign_host(packet.from.address)) return Fate::bad_source;
  // What stands behind the datagram is no part of it.
  const ParsedIpv4& parsed = packet.parsed;
  const unsigned extra = parsed.total_bytes - parsed.header_bytes -
                         packet.transport<UdpHeader>().length_bytes.host();
  if (extra > 0) rte_pktmbuf_trim(packet.mbuf, static_cast<uint16_t>(extra));
  packet.strip(parsed.payload_offset());
  return go_outbound(packet);
}

// An uplink packet to our tunnel endpoint is a tunnel's; any other to an address of the pool comes
// from the Internet; the port's own address answers pings. One port may be all three.
Fate Pipeline::sort_by_journey(Packet& packet) {
  const PortView& port = settings_.ports[packet.port];
  const Endpoint destination = packet.destination();
  if (packet.parsed.is_fragment) [[unlikely]] {
    return sort_fragment(packet);
  }
  if (port.is_uplink && packet.parsed.protocol == kIpUdp &&
      destination == settings_.tunnel_endpoint) {
    return enter_outbound(packet);
  }
  if (port.is_public && nat_.is_pool_address(destination.address)) return go_inbound(packet);
  if (destination.address == port.address.address) return answer_local(packet);
  return port.is_public && passes_unmapped_ ? enter_unmapped(packet) : Fate::not_our_address;
}

}  // namespace adit::gateway
