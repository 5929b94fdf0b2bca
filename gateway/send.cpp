// The way out: into a tunnel, onto a link, or to the control thread. Each function here takes
// over the packet when it returns Fate::taken; a drop reason leaves it with the caller.
#include <rte_mbuf.h>

#include <cstring>

#include "gateway/pipeline.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/seal.h"

namespace adit::gateway {

using tunnel::EncryptedHeader;
using tunnel::PlainHeader;
using tunnel::Protection;
using tunnel::SessionSet;

namespace {

template <typename Header>
Header* prepend(rte_mbuf* mbuf) {
  return reinterpret_cast<Header*>(rte_pktmbuf_prepend(mbuf, sizeof(Header)));
}

}  // namespace

// `mbuf` is an inner IPv4 packet, a probe, or empty (a heartbeat).
Fate Pipeline::send_into_tunnel(Tunnel& tunnel, rte_mbuf* mbuf, Seal seal) {
  const tunnel::Session* session = tunnel.active ? tunnel.sending(now_ns_) : nullptr;
  if (session == nullptr || tunnel.remote.is_zero()) return Fate::no_session;
  const uint16_t text_bytes = rte_pktmbuf_data_len(mbuf);
  if (session->protection == Protection::plain && seal == Seal::as_session) {
    auto* header = prepend<PlainHeader>(mbuf);
    if (header == nullptr) return Fate::no_buffer;
    header->type = static_cast<uint8_t>(tunnel::MessageType::plain);
    std::memcpy(header->session_tag, session->send_tag.data(), sizeof header->session_tag);
    header->receiver_index = Le32::from_host(session->remote_index);
  } else {
    uint64_t& counter = tunnel.open->sessions.send_counter(SessionSet::kCurrent);
    if (counter >= tunnel::kRejectAfterMessages) return Fate::send_counter_exhausted;
    const auto padded =
        static_cast<uint16_t>(tunnel::padded_bytes(text_bytes, tunnel.mtu_bytes));
    if (rte_pktmbuf_tailroom(mbuf) < padded - text_bytes + tunnel::kTagBytes ||
        rte_pktmbuf_headroom(mbuf) < sizeof(EncryptedHeader)) {
      return Fate::no_buffer;
    }
    char* tail = rte_pktmbuf_append(
        mbuf, static_cast<uint16_t>(padded - text_bytes + tunnel::kTagBytes));
    std::memset(tail, 0, padded - text_bytes);
    auto* header = prepend<EncryptedHeader>(mbuf);
    crypto_.seal(*session, counter++, reinterpret_cast<uint8_t*>(header), padded);
    tunnels_.report(tunnel.slot).sent(now_ns_, text_bytes >= sizeof(Ipv4Header));
  }
  if (text_bytes >= sizeof(Ipv4Header)) {
    ++tunnel.open->traffic.tx_packets;
    tunnel.open->traffic.tx_bytes += text_bytes;
  }
  return send_outer_udp(mbuf, tunnel.remote);
}

// Our tunnel endpoint -> `to`. The UDP checksum is never 0: Linux does not merge such packets.
Fate Pipeline::send_outer_udp(rte_mbuf* payload, const Endpoint& to) {
  const PortView& port = settings_.ports[settings_.uplink];
  auto* udp = prepend<UdpHeader>(payload);
  auto* ip = prepend<Ipv4Header>(payload);
  if (ip == nullptr) return Fate::no_buffer;
  const auto total = static_cast<uint16_t>(rte_pktmbuf_data_len(payload));
  const auto udp_bytes = static_cast<uint16_t>(total - sizeof(Ipv4Header));
  const Endpoint& from = settings_.tunnel_endpoint;
  // DF is clear, so the id must differ within the reassembly time of a path (RFC 6864 §4.3).
  *ip = {0x45, 0,      Be16::from_host(total), Be16::from_host(next_outer_id()), {}, 64, kIpUdp,
         {},   from.address, to.address};
  *udp = {from.port, to.port, Be16::from_host(udp_bytes), {}};
  if (!port.checksum_ip_by_port) {
    ip->checksum = internet_checksum({reinterpret_cast<uint8_t*>(ip), sizeof *ip});
  }
  if (port.checksum_udp_by_port) {
    // The device wants the pseudo-header's sum in the field.
    PartialSum sum = PartialSum{from.address.value.raw()} + to.address.value.raw();
    sum += PartialSum{Be16::from_host(kIpUdp).raw()} + Be16::from_host(udp_bytes).raw();
    udp->checksum = Be16::from_raw(fold(sum));
    payload->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
  } else {
    udp->checksum = udp_checksum_to_send(
        transport_checksum(from.address, to.address, kIpUdp,
                           {reinterpret_cast<uint8_t*>(udp), udp_bytes}));
  }
  if (port.checksum_ip_by_port) {
    payload->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
  }
  payload->l3_len = sizeof(Ipv4Header);
  return send_ip(settings_.uplink, payload);
}

// `packet` begins at its IPv4 header. Finds who on the link gets it; while that is unknown, one
// packet waits with the neighbour.
Fate Pipeline::send_ip(unsigned port_number, rte_mbuf* packet) {
  const PortView& port = settings_.ports[port_number];
  const Ipv4Address to = rte_pktmbuf_mtod(packet, const Ipv4Header*)->destination;
  const Ipv4Address hop =
      port.address.prefix().contains(to) || port.next_hop.is_zero() ? to : port.next_hop;
  Neighbour* neighbour = last_neighbour_[port_number];
  if (neighbour == nullptr || neighbour->address != hop) {
    neighbour = neighbours_.find(port_number, hop);
    if (neighbour == nullptr) {
      if (!port.address.prefix().contains(hop)) return Fate::neighbour_unresolved;
      neighbour = neighbours_.add(port_number, hop);
      if (neighbour == nullptr) return Fate::neighbour_table_full;
      ToControl item;
      item.kind = ToControl::resolve;
      item.port = static_cast<uint8_t>(port_number);
      item.address = hop;
      if (is_drop(hand_to_control(item))) {
        neighbours_.remove(*neighbour);
        return Fate::control_ring_full;
      }
    }
    last_neighbour_[port_number] = neighbour;
  }
  if (neighbour->resolved) [[likely]] {
    return send_frame(port_number, packet, neighbour->mac, kEtherTypeIpv4);
  }
  if (neighbour->waiting != nullptr) finish(Fate::neighbour_unresolved, neighbour->waiting);
  neighbour->waiting = packet;
  return Fate::taken;
}

Fate Pipeline::send_frame(unsigned port_number, rte_mbuf* packet, const MacAddress& to,
                          uint16_t ether_type) {
  const PortView& port = settings_.ports[port_number];
  Be16 type = Be16::from_host(ether_type);
  packet->l2_len = sizeof(EthernetHeader);
  if (port.vlan != 0) {
    auto* tag = prepend<VlanTag>(packet);
    if (tag == nullptr) return Fate::no_buffer;
    *tag = {Be16::from_host(port.vlan), type};
    type = Be16::from_host(kEtherTypeVlan);
    packet->l2_len = sizeof(EthernetHeader) + sizeof(VlanTag);
  }
  auto* ethernet = prepend<EthernetHeader>(packet);
  if (ethernet == nullptr) return Fate::no_buffer;
  *ethernet = {to, port.mac, type};
  return transmit(port_number, packet);
}

Fate Pipeline::transmit(unsigned port, rte_mbuf* frame) {
  TxQueue& queue = tx_[port];
  if (queue.count == queue.packets.size()) return Fate::tx_full;
  queue.packets[queue.count++] = frame;
  return Fate::taken;
}

void Pipeline::finish(Fate fate, rte_mbuf* mbuf) {
  if (!is_drop(fate)) return;
  ++counters_.fates[static_cast<unsigned>(fate)];
  rte_pktmbuf_free(mbuf);
}

// The worker moves the outbox into the ring after the burst and counts packets that found it full.
Fate Pipeline::hand_to_control(const ToControl& item) {
  if (control_outbox_.count == control_outbox_.items.size()) return Fate::control_ring_full;
  control_outbox_.items[control_outbox_.count++] = item;
  return Fate::taken;
}

}  // namespace adit::gateway
