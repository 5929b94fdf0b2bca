// What the express way knows beforehand, as it lies in memory: of the ports, made once, and of each
// tunnel its line, made anew whenever the tunnel changes.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using tunnel::PlainHeader;
using tunnel::SessionSet;

void Pipeline::prepare_express() {
  tunnel_endpoint_ = nat::packed(settings_.tunnel_endpoint);
  public_mtu_bytes_ = settings_.ports[settings_.public_port].mtu_bytes;
  for (size_t i = 0; i < settings_.ports.size(); ++i) {
    const PortView& port = settings_.ports[i];
    Link& link = links_[i];
    std::memcpy(&link.mac, port.mac.bytes.data(), port.mac.bytes.size());
    std::memcpy(link.source_and_type.data(), port.mac.bytes.data(), port.mac.bytes.size());
    link.subnet = port.address.address.value.raw();
    link.mask = port.address.prefix().mask().value.raw();
    link.next_hop = port.next_hop.value.raw();
    link.header_bytes = sizeof(EthernetHeader);
    store(&link.source_and_type[6], raw16(kEtherTypeIpv4));
    if (port.vlan == 0) continue;
    link.header_bytes += sizeof(VlanTag);
    link.vlan_type = raw16(kEtherTypeVlan);
    link.vlan_id = raw16(port.vlan);
    store(&link.source_and_type[6], link.vlan_type);
  }
  const Endpoint& from = settings_.tunnel_endpoint;
  const Ipv4Header ip{0x45, 0, {}, {}, {}, 64, kIpUdp, {}, from.address, {}};
  const UdpHeader udp{from.port, {}, {}, {}};
  std::memcpy(outer_template_.data(), &ip, sizeof ip);
  std::memcpy(outer_template_.data() + sizeof ip, &udp, sizeof udp);
  outer_sum_ = fold(PartialSum{from.address.value.raw()} + raw16(kIpUdp));
}

// The tunnel has changed, or the blocks of its subscriber.
void Pipeline::refresh_line(const Tunnel& tunnel) {
  TunnelLine& line = tunnels_.line(tunnel.slot);
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

void Pipeline::report_traffic(uint32_t slot) {
  TunnelLine& line = tunnels_.line(slot);
  TunnelTraffic& traffic = tunnels_.open(slot).traffic;
  bump(traffic.rx_packets, std::exchange(line.rx_packets, 0));
  bump(traffic.rx_bytes, std::exchange(line.rx_bytes, 0));
  bump(traffic.tx_packets, std::exchange(line.tx_packets, 0));
  bump(traffic.tx_bytes, std::exchange(line.tx_bytes, 0));
}

}  // namespace adit::gateway
