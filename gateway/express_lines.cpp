// What the express way knows beforehand, as it lies in memory: of the ports, made once, and of each
// tunnel its line, made anew whenever the tunnel changes.
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "gateway/packet_offsets.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using tunnel::PlainHeader;
using tunnel::SessionSet;

namespace {
uint16_t link_bytes(const PortView& port) {
  return sizeof(EthernetHeader) + (port.vlan != 0 ? sizeof(VlanTag) : 0);
}
}  // namespace

void Pipeline::prepare_express() {
  const Endpoint& from = settings_.tunnel_endpoint;
  tunnel_endpoint_ = uint64_t{from.address.value.raw()} | uint64_t{from.port.raw()} << 48;
  public_mtu_bytes_ = settings_.ports[settings_.public_port].mtu_bytes;
  known_destinations_[0] = known_remotes_[0] = 1;
  for (size_t i = 0; i < settings_.ports.size(); ++i) {
    const PortView& port = settings_.ports[i];
    Link& link = links_[i];
    std::memcpy(&link.mac, port.mac.bytes.data(), port.mac.bytes.size());
    // From the tag on, or from where it would stand.
    struct Front {
      uint16_t vlan_type, vlan_id, ether_type;
      uint8_t version, type_of_service;
    };
    Front front{0, 0, raw16(kEtherTypeIpv4), 0x45, 0};
    Front mask{0, 0, 0xffff, 0xff, 0};
    if (port.vlan != 0) {
      front.vlan_type = raw16(kEtherTypeVlan);
      front.vlan_id = raw16(port.vlan);
      mask.vlan_type = 0xffff;
      mask.vlan_id = raw16(0xfff);
    }
    link.front = std::bit_cast<uint64_t>(front);
    link.front_mask = std::bit_cast<uint64_t>(mask);
    link.header_bytes = link_bytes(port);
    link.board = board_pass(port);
  }
  depart_pass_ = depart_pass();
  prepare_exit(public_exit_, settings_.public_port);
  prepare_exit(uplink_exit_, settings_.uplink);

  const PortView& uplink = settings_.ports[settings_.uplink];
  const Ipv4Header ip{0x45, 0, {}, {}, {}, 64, kIpUdp, {}, from.address, {}};
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&ip);
  outer_.ip_begin = load<uint64_t>(bytes);
  outer_.ip_middle = load<uint64_t>(bytes + 8);
  outer_.source_port = from.port.raw();
  outer_.udp_sum = fold(PartialSum{from.address.value.raw()} + raw16(kIpUdp));
  if (uplink.checksum_ip_by_port) outer_.offloads |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
  if (uplink.checksum_udp_by_port) outer_.offloads |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
  outer_.header_lengths = rte_mbuf_tx_offload(link_bytes(uplink), kIpBytes, 0, 0, 0, 0, 0);
}

void Pipeline::prepare_exit(Exit& exit, unsigned port_number) {
  const PortView& port = settings_.ports[port_number];
  exit.port = static_cast<uint8_t>(port_number);
  exit.queue = &tx_[port_number];
  exit.header_bytes = link_bytes(port);
  exit.next_hop = port.next_hop.value.raw();
  if (exit.next_hop != 0) {  // else everybody is on the link
    exit.mask = port.address.prefix().mask().value.raw();
    exit.subnet = port.address.address.value.raw() & exit.mask;
  }
  uint8_t* const end = exit.header.data() + exit.header.size();
  std::memcpy(end - exit.header_bytes + sizeof(MacAddress), port.mac.bytes.data(),
              sizeof(MacAddress));
  if (port.vlan != 0) {
    store(end - 6, raw16(kEtherTypeVlan));
    store(end - 4, raw16(port.vlan));
  }
  store(end - 2, raw16(kEtherTypeIpv4));
}

// The neighbour to whom the port's last packet went is the one to whom the next ones go.
void Pipeline::refresh_exit(Exit& exit) {
  const Neighbour* const neighbour = last_neighbour_[exit.port];
  exit.hop = 0;
  if (neighbour == nullptr || !neighbour->resolved) return;
  exit.hop = neighbour->address.value.raw();
  std::memcpy(exit.header.data() + exit.header.size() - exit.header_bytes,
              neighbour->mac.bytes.data(), sizeof(MacAddress));
}

// The tunnel has changed, or the blocks of its subscriber.
void Pipeline::refresh_line(const Tunnel& tunnel) {
  TunnelLine& line = tunnels_.line(tunnel.slot);
  lines_end_ = std::max(lines_end_, tunnel.slot + 1);
  if (line.has_traffic()) report_traffic(tunnel.slot);
  const tunnel::Session& session = tunnel.open->sessions.at(SessionSet::kCurrent);
  line.index = 0;
  if (!tunnel.active || !session.exists() || tunnel.remote.is_zero()) return;
  // The stages answer pings to the router; here it is one of the addresses that do not go out.
  if (!is_own_network(tunnel.router)) return;
  const bool plain = session.protection == tunnel::Protection::plain;
  const auto word = [plain](const std::array<uint8_t, 3>& tag) {
    PlainHeader header{static_cast<uint8_t>(tunnel::MessageType::encrypted), {}, {}};
    if (plain) {
      header.type = static_cast<uint8_t>(tunnel::MessageType::plain);
      std::memcpy(header.session_tag, tag.data(), tag.size());
    }
    return load<uint32_t>(reinterpret_cast<const uint8_t*>(&header));
  };
  line.receive_word = word(session.receive_tag);
  line.send_word = word(session.send_tag);
  line.remote = tunnel.remote;
  line.remote_index = Le32::from_host(session.remote_index);
  line.mtu_bytes = tunnel.mtu_bytes;
  line.expires_s = static_cast<uint32_t>((session.established_ns + tunnel::kRejectAfterNs) /
                                         tunnel::kSecondNs);
  line.inner_address = tunnel.inner_address;
  line.encrypted = !plain;
  has_encrypted_ |= !plain;
  const nat::Subscriber& subscriber = tunnel.subscriber;
  line.hash_key = subscriber.hash_key;
  const auto& blocks = subscriber.blocks;
  line.block_first = blocks[0].first;
  line.block_bits = static_cast<uint8_t>(std::bit_width(blocks[0].ports | 1u) - 1);
  // A source that does not leave by the translator's mapping alone goes through the stages.
  if (!tunnel.external_address.is_zero() || tunnel.forward_count != 0) line.block_bits = 0;
  line.more_blocks = std::any_of(blocks + 1, blocks + nat::kBlocksMax,
                                 [](const auto& block) { return block.ports != 0; });
  line.index = Le32::from_host(session.local_index).raw();
}

// Of ordinary packets: what they have carried, and that they came and went. It says now, which is
// later than it was, and not what came last: as if the client had.
void Pipeline::report_traffic(uint32_t slot) {
  TunnelLine& line = tunnels_.line(slot);
  if (line.encrypted) {  // bare packets prove nothing (rule 8)
    TunnelReport& report = tunnels_.report(slot);
    if (line.tx_packets != 0) report.sent(now_ns_ - 1, true);
    if (line.rx_packets != 0) report.heard(now_ns_, true);
  }
  TunnelTraffic& traffic = tunnels_.open(slot).traffic;
  traffic.rx_packets += std::exchange(line.rx_packets, 0);
  traffic.rx_bytes += std::exchange(line.rx_bytes, 0);
  traffic.tx_packets += std::exchange(line.tx_packets, 0);
  traffic.tx_bytes += std::exchange(line.tx_bytes, 0);
}

}  // namespace adit::gateway
