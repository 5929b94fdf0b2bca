#include "bench/datapath/yardstick.h"

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <cstring>
#include <new>
#include <stdexcept>

#include "lib/nat/endpoint_hash.h"
#include "lib/net/checksum.h"

namespace adit::bench {

using gateway::kBurstMax;
using nat::Direction;
using nat::Mapping;
using tunnel::PlainHeader;

namespace {

constexpr uint32_t kPorts = 65536;
// Whose cache misses are in flight at a time: a burst's, as in the gateway.
constexpr unsigned kInFlight = kBurstMax;
constexpr unsigned kOuterBytes = sizeof(Ipv4Header) + sizeof(UdpHeader) + sizeof(PlainHeader);
constexpr MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kNextHopMac{{2, 0, 0, 0, 0, 2}};
constexpr Endpoint kTunnelEndpoint{Ipv4Address::from_octets(30, 1, 1, 10),
                                   Be16::from_host(8000)};
constexpr EthernetHeader kEthernet{kNextHopMac, kOurMac, Be16::from_host(kEtherTypeIpv4)};

template <typename Header>
Header* at(rte_mbuf* mbuf, unsigned offset) {
  return rte_pktmbuf_mtod_offset(mbuf, Header*, offset);
}

template <typename T>
std::span<T> array_in(const gateway::HugeMemory& memory, size_t count) {
  return {new (memory.data()) T[count], count};
}

// TTL and checksum of the inner header, and its UDP checksum.
void rewrite(Ipv4Header* ip, UdpHeader* udp, uint16_t l3_delta, uint16_t l4_delta) {
  constexpr uint16_t kOneHop = 1;  // of the word that TTL is the high byte of, as it is loaded
  --ip->ttl;
  const uint32_t l3 = static_cast<uint16_t>(~ip->checksum.raw()) + l3_delta + (0xffffu - kOneHop);
  ip->checksum = Be16::from_raw(static_cast<uint16_t>(~fold(l3)));
  const uint32_t l4 = static_cast<uint16_t>(~udp->checksum.raw()) + uint32_t{l4_delta};
  udp->checksum = udp_checksum_to_send(Be16::from_raw(static_cast<uint16_t>(~fold(l4))));
}

}  // namespace

Yardstick::Yardstick(World& world)
    : world_(world), slot_mask_(world.tunnel_table().slots() - 1) {
  first_pool_address_ = world.first_pool_address().host();
  for (uint32_t i = 0; i < world.pool_addresses(); ++i) {
    mappings_.push_back(world.first_mapping(i));
  }
  line_memory_ = gateway::HugeMemory(size_t{slot_mask_ + 1} * sizeof(Line));
  lines_ = array_in<Line>(line_memory_, slot_mask_ + 1);
  for (uint32_t slot = 1; slot <= world.tunnels(); ++slot) {
    const gateway::Tunnel& tunnel = world.tunnel_table().at(slot);
    const nat::Subscriber::Block& block = tunnel.subscriber.blocks[0];
    const tunnel::Session& session = world.session(slot);
    Line& line = lines_[slot];
    line.hash_key = tunnel.subscriber.hash_key;
    line.first_mapping = mappings_[block.first / kPorts] + block.first % kPorts;
    line.block_ports = block.ports;
    line.client = world.client(slot);
    std::memcpy(line.send_tag, session.send_tag.data(), sizeof line.send_tag);
    line.remote_index = Le32::from_host(session.remote_index);
  }
  sent_.reserve(World::kPackets);
}

void Yardstick::outbound(std::span<rte_mbuf* const> packets) {
  const Line* lines[kInFlight];
  const Mapping* mappings[kInFlight];
  for (unsigned i = 0; i < kInFlight; ++i) {
    const auto* header = at<PlainHeader>(packets[i], sizeof(EthernetHeader) + 28);
    lines[i] = &lines_[header->receiver_index.host() & slot_mask_];
    __builtin_prefetch(lines[i]);
  }
  for (unsigned i = 0; i < kInFlight; ++i) {
    const auto* ip = at<Ipv4Header>(packets[i], sizeof(EthernetHeader) + kOuterBytes);
    const Endpoint internal{ip->source, reinterpret_cast<const UdpHeader*>(ip + 1)->source_port};
    const uint64_t hash =
        nat::hash_endpoint(lines[i]->hash_key, nat::Protocol::udp, internal);
    mappings[i] = lines[i]->first_mapping + nat::home_offset(hash, 0, lines[i]->block_ports);
    __builtin_prefetch(mappings[i]);
  }
  for (unsigned i = 0; i < kInFlight; ++i) {
    auto* ip = at<Ipv4Header>(packets[i], sizeof(EthernetHeader) + kOuterBytes);
    auto* udp = reinterpret_cast<UdpHeader*>(ip + 1);
    const Endpoint internal{ip->source, udp->source_port};
    const Mapping* mapping = mappings[i];
    // Not at home: one of its neighbours in the window of 16, else anywhere in the block.
    for (uint32_t step = 1; mapping->internal != internal; ++step) {
      const auto home = static_cast<uint32_t>(mappings[i] - lines[i]->first_mapping);
      const uint32_t mask = step < 16 ? 15 : lines[i]->block_ports - 1;
      mapping = lines[i]->first_mapping + (home & ~mask) + ((home + step) & mask);
    }
    rewrite(ip, udp, mapping->l3_delta, mapping->l4_delta);
    ip->source = mapping->external.address;
    udp->source_port = mapping->external.port;
    rte_pktmbuf_adj(packets[i], kOuterBytes);
    *at<EthernetHeader>(packets[i], 0) = kEthernet;
    sent_.push_back(packets[i]);
  }
}

void Yardstick::inbound(std::span<rte_mbuf* const> packets) {
  const Mapping* mappings[kInFlight];
  const Line* lines[kInFlight];
  for (unsigned i = 0; i < kInFlight; ++i) {
    const auto* ip = at<Ipv4Header>(packets[i], sizeof(EthernetHeader));
    const auto* udp = reinterpret_cast<const UdpHeader*>(ip + 1);
    mappings[i] = mappings_[ip->destination.host() - first_pool_address_] +
                  udp->destination_port.host();
    __builtin_prefetch(mappings[i]);
  }
  for (unsigned i = 0; i < kInFlight; ++i) {
    lines[i] = &lines_[mappings[i]->tunnel_slot];
    __builtin_prefetch(lines[i]);
  }
  for (unsigned i = 0; i < kInFlight; ++i) {
    auto* ip = at<Ipv4Header>(packets[i], sizeof(EthernetHeader));
    auto* udp = reinterpret_cast<UdpHeader*>(ip + 1);
    const Mapping& mapping = *mappings[i];
    rewrite(ip, udp, static_cast<uint16_t>(~mapping.l3_delta),
            static_cast<uint16_t>(~mapping.l4_delta));
    ip->destination = mapping.internal.address;
    udp->destination_port = mapping.internal.port;

    const Line& line = *lines[i];
    rte_pktmbuf_prepend(packets[i], kOuterBytes);
    const uint16_t total = static_cast<uint16_t>(rte_pktmbuf_data_len(packets[i]) -
                                                 sizeof(EthernetHeader));
    const auto udp_bytes = static_cast<uint16_t>(total - sizeof(Ipv4Header));
    *at<EthernetHeader>(packets[i], 0) = kEthernet;
    auto* outer = at<Ipv4Header>(packets[i], sizeof(EthernetHeader));
    *outer = {0x45, 0, Be16::from_host(total), Be16::from_host(outer_id_++), {}, 64, kIpUdp, {},
              kTunnelEndpoint.address, line.client.address};
    auto* outer_udp = reinterpret_cast<UdpHeader*>(outer + 1);
    PartialSum sum = PartialSum{outer->source.value.raw()} + outer->destination.value.raw() +
                     Be16::from_host(kIpUdp).raw() + Be16::from_host(udp_bytes).raw();
    *outer_udp = {kTunnelEndpoint.port, line.client.port, Be16::from_host(udp_bytes),
                  Be16::from_raw(fold(sum))};
    auto* header = reinterpret_cast<PlainHeader*>(outer_udp + 1);
    header->type = static_cast<uint8_t>(tunnel::MessageType::plain);
    std::memcpy(header->session_tag, line.send_tag, sizeof header->session_tag);
    header->receiver_index = line.remote_index;
    packets[i]->ol_flags |=
        RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM | RTE_MBUF_F_TX_IP_CKSUM;
    packets[i]->l2_len = sizeof(EthernetHeader);
    packets[i]->l3_len = sizeof(Ipv4Header);
    sent_.push_back(packets[i]);
  }
}

uint64_t run_cipher(World& world, Direction direction) {
  constexpr unsigned kGroup = kBurstMax;
  const bool outbound = direction == Direction::outbound;
  std::vector<gateway::CryptoJob> jobs(World::kPackets);
  for (unsigned i = 0; i < World::kPackets; ++i) {
    rte_mbuf* mbuf = world.buffers()[i];
    auto* ip = at<uint8_t>(mbuf, sizeof(EthernetHeader));
    const unsigned bytes = rte_pktmbuf_data_len(mbuf) - unsigned{sizeof(EthernetHeader)};
    constexpr unsigned kInFront = sizeof(Ipv4Header) + sizeof(UdpHeader);
    jobs[i].session = &world.session(world.flow(world.drawn()[i]).slot);
    jobs[i].counter = i;
    jobs[i].packet = outbound ? ip + kInFront : ip - sizeof(tunnel::EncryptedHeader);
    jobs[i].text_bytes =
        outbound ? bytes - kInFront - tunnel::kEncryptedOverheadBytes : (bytes + 15) / 16 * 16;
  }
  gateway::Crypto& crypto = world.crypto();
  const uint64_t start = rte_rdtsc_precise();
  for (unsigned i = 0; i < World::kPackets; i += kGroup) {
    for (unsigned j = i; j < i + kGroup; ++j) {
      for (unsigned line = 0; line < 4; ++line) rte_prefetch0(jobs[j].packet + line * 64);
      rte_prefetch0(&jobs[j].session->local_index);
    }
    const std::span group(&jobs[i], kGroup);
    if (outbound) {
      crypto.open(group);
    } else {
      crypto.seal(group);
    }
  }
  const uint64_t cycles = rte_rdtsc_precise() - start;
  for (const gateway::CryptoJob& job : jobs) {
    if (outbound && !job.authentic) throw std::runtime_error("yardstick: a packet did not open");
  }
  return cycles;
}

uint64_t Yardstick::run(Direction direction) {
  sent_.clear();
  const std::span<rte_mbuf* const> buffers = world_.buffers();
  const uint64_t start = rte_rdtsc_precise();
  for (unsigned i = 0; i < World::kPackets; i += kInFlight) {
    if (direction == Direction::outbound) {
      outbound(buffers.subspan(i, kInFlight));
    } else {
      inbound(buffers.subspan(i, kInFlight));
    }
  }
  return rte_rdtsc_precise() - start;
}

}  // namespace adit::bench
