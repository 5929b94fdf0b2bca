#include "bench/datapath/world.h"

#include <rte_cycles.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>

#include "gateway/config.h"
#include "gateway/steering.h"
#include "lib/net/checksum.h"

namespace adit::bench {

using gateway::kBurstMax;
using gateway::ToWorker;
using nat::Direction;
using tunnel::EncryptedHeader;
using tunnel::PlainHeader;

namespace {

constexpr Ipv4Address kUplink = Ipv4Address::from_octets(30, 1, 1, 10);
constexpr Ipv4Address kPublic = Ipv4Address::from_octets(30, 2, 1, 10);
constexpr Endpoint kTunnelEndpoint{kUplink, Be16::from_host(8000)};
constexpr MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kNextHopMac{{2, 0, 0, 0, 0, 2}};
constexpr uint32_t kFirstPoolAddress = 51u << 24;
constexpr uint32_t kFirstInnerAddress = 10u << 24;
constexpr uint32_t kFirstClientAddress = 20u << 24;
constexpr uint16_t kFirstInnerPort = 2000;
constexpr uint16_t kMtu = 1440;
constexpr uint64_t kStartNs = 1'000'000 * tunnel::kSecondNs;
// Tunnels here need no new keys, however long a measurement takes.
constexpr uint64_t kYearNs = 365 * 86'400 * tunnel::kSecondNs;

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

void fill_key(tunnel::SessionKey& key, uint64_t seed) {
  for (size_t i = 0; i < key.size(); i += 8) {
    const uint64_t word = mix(seed + i);
    std::memcpy(key.data() + i, &word, 8);
  }
}

gateway::PortView port_view(Ipv4Address address, bool checksum_by_port) {
  gateway::PortView port;
  port.address = {address, 24};
  port.next_hop = Ipv4Address::from_host((address.host() & ~uint32_t{0xff}) + 1);
  port.mac = kOurMac;
  port.checksum_ip_by_port = checksum_by_port;
  port.checksum_udp_by_port = checksum_by_port;
  return port;
}

uint8_t* write_ethernet(uint8_t* at) {
  const EthernetHeader ethernet{kOurMac, kNextHopMac, Be16::from_host(kEtherTypeIpv4)};
  std::memcpy(at, &ethernet, sizeof ethernet);
  return at + sizeof ethernet;
}

uint8_t* write_ip(uint8_t* at, Ipv4Address from, Ipv4Address to, unsigned bytes) {
  Ipv4Header ip{0x45, 0,      Be16::from_host(static_cast<uint16_t>(bytes)),
                Be16::from_host(0x1234), Be16::from_host(kIpDontFragment), 64, kIpUdp, {},
                from, to};
  ip.checksum = internet_checksum({reinterpret_cast<uint8_t*>(&ip), sizeof ip});
  std::memcpy(at, &ip, sizeof ip);
  return at + sizeof ip;
}

// The payload must stand there already. With addresses, because the checksum is over them too.
void write_udp(uint8_t* at, const Endpoint& from, const Endpoint& to, unsigned bytes) {
  UdpHeader udp{from.port, to.port, Be16::from_host(static_cast<uint16_t>(bytes)), {}};
  std::memcpy(at, &udp, sizeof udp);
  udp.checksum = udp_checksum_to_send(
      transport_checksum(from.address, to.address, kIpUdp, {at, bytes}));
  std::memcpy(at, &udp, sizeof udp);
}

// A whole UDP packet of `bytes` with the same payload every time.
void write_udp_packet(uint8_t* at, const Endpoint& from, const Endpoint& to, unsigned bytes) {
  uint8_t* udp = write_ip(at, from.address, to.address, bytes);
  for (unsigned i = sizeof(Ipv4Header) + sizeof(UdpHeader); i < bytes; ++i) {
    at[i] = static_cast<uint8_t>(i);
  }
  write_udp(udp, from, to, bytes - static_cast<unsigned>(sizeof(Ipv4Header)));
}

}  // namespace

Endpoint World::remote() {
  return {Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
}

Endpoint World::client(uint32_t slot) const {
  return {Ipv4Address::from_host(kFirstClientAddress + 1 + tunnel_of_[slot]),
          Be16::from_host(51820)};
}

// From where a tunnel's packets come, as far as a card looks.
std::vector<uint8_t> World::first_frame(uint32_t tunnel) const {
  constexpr unsigned kIpBytes =
      sizeof(Ipv4Header) + sizeof(UdpHeader) + sizeof(tunnel::InitiationMessage);
  std::vector<uint8_t> frame(sizeof(EthernetHeader) + kIpBytes);
  const Endpoint from{Ipv4Address::from_host(kFirstClientAddress + 1 + tunnel),
                      Be16::from_host(51820)};
  write_udp_packet(write_ethernet(frame.data()), from, kTunnelEndpoint, kIpBytes);
  return frame;
}

Flow World::flow(uint32_t number) const {
  Flow flow;
  flow.number = number;
  flow.slot = slots_[number / options_.flows_per_tunnel];
  flow.internal = {Ipv4Address::from_host(kFirstInnerAddress + flow.slot),
                   Be16::from_host(static_cast<uint16_t>(
                       kFirstInnerPort + number % options_.flows_per_tunnel))};
  flow.external = externals_[number];
  return flow;
}

const tunnel::Session& World::session(uint32_t slot) const {
  return tunnels_->open(slot).sessions.at(tunnel::SessionSet::kCurrent);
}

World::World(const WorldOptions& options)
    : options_(options),
      tunnels_count_((options.flows + options.flows_per_tunnel - 1) / options.flows_per_tunnel),
      now_ns_(kStartNs) {
  settings_.ports = {port_view(kUplink, options.checksum_by_port),
                     port_view(kPublic, options.checksum_by_port)};
  settings_.ports[kUplinkPort].is_uplink = true;
  settings_.ports[kPublicPort].is_public = true;
  settings_.public_port = kPublicPort;
  settings_.tunnel_endpoint = kTunnelEndpoint;
  settings_.express = options.express;
  settings_.inner_networks = {*Ipv4Prefix::parse("10.0.0.0/8")};

  // One block a tunnel, and a little room to choose in, for each worker.
  const uint32_t block = nat_settings_.first_block_ports = options.block_ports;
  const uint32_t blocks_an_address = (65536 - 1024) / block;
  const uint32_t addresses =
      tunnels_count_ / blocks_an_address + 1 + (options.workers > 1 ? 1 : 0);
  for (uint32_t i = 0; i < addresses; ++i) {
    nat_settings_.pool.push_back(Ipv4Address::from_host(kFirstPoolAddress + i));
  }
  nat::Profile& profile = nat_settings_.profiles[0];
  profile.limits = {.mappings = 65535,
                    .new_mappings_per_second = 1'000'000,
                    .new_mappings_burst = 1'000'000};
  profile.filtering.fill(options.filtering);
  const unsigned workers = options.workers;
  const gateway::SteeringPlan plan =
      gateway::plan_steering(workers, nat_settings_.first_block_ports << (nat::kBlocksMax - 1),
                             kRedirectionEntries, std::nullopt)
          .value();
  nat_settings_.sharers = static_cast<uint8_t>(workers);
  nat_settings_.shares = settings_.shares = plan.shares;
  settings_.workers = workers;
  table_memory_ = gateway::HugeMemory(nat::Nat::memory_bytes(nat_settings_));
  std::ranges::fill(table_memory_.span(), std::byte{});  // touches its pages once
  // A card spreads by chance: of several workers some have more tunnels than their part.
  const uint32_t slots = std::bit_ceil(tunnels_count_ + 1) * (workers > 1 ? 2 : 1);
  tunnels_ = std::make_unique<gateway::TunnelTable>(slots, workers);
  if (workers > 1) {
    uplink_card_ = test::NicModel::by_flow(plan, kRedirectionEntries);
    public_card_ = test::NicModel::by_port(plan, kRedirectionEntries);
  }
  tunnel_of_.resize(slots);
  place_tunnels();
  pool_ = rte_pktmbuf_pool_create("bench-packets", 2 * kPackets - 1, 0, 0,
                                  RTE_MBUF_DEFAULT_BUF_SIZE, -1);
  if (pool_ == nullptr) throw std::runtime_error("no memory for packet buffers");
  if (workers > 1) hand_off_.emplace("bench-handed", workers);
  for (unsigned worker = 0; worker < workers; ++worker) parts_.push_back(make_parts(worker));
  for (uint8_t port = 0; port < settings_.ports.size(); ++port) {
    ToWorker neighbour;
    neighbour.kind = ToWorker::set_neighbour;
    neighbour.port = port;
    neighbour.address = settings_.ports[port].next_hop;
    neighbour.mac = kNextHopMac;
    for (const Parts& parts : parts_) parts.pipeline->take(neighbour, now_ns_);
  }
  externals_.resize(options.flows);
  client_counters_.resize(slots);
  drawn_.resize(kPackets);
  buffers_.resize(kPackets);
  sent_.reserve(kPackets);
  if (rte_pktmbuf_alloc_bulk(pool_, buffers_.data(), kPackets) != 0) {
    throw std::runtime_error("no packet buffers");
  }
  open_tunnels();
}

World::~World() {
  rte_pktmbuf_free_bulk(buffers_.data(), kPackets);
  for (const Parts& parts : parts_) parts.pipeline->drain();
  parts_.clear();
  rte_mempool_free(pool_);
}

World::Parts World::make_parts(unsigned worker) {
  const auto name = [&](const char* what) {
    return std::string("bench-") + what + std::to_string(worker);
  };
  Parts parts;
  nat_settings_.share = static_cast<uint8_t>(worker);
  parts.nat = std::make_unique<nat::Nat>(
      nat_settings_, table_memory_.span(),
      [state = uint64_t{1} + worker]() mutable { return mix(++state); });
  const uint32_t expanded_keys = gateway::TunnelConfig{}.expanded_keys;
  parts.crypto = std::make_unique<gateway::Crypto>(std::min(tunnels_->slots(), expanded_keys));
  parts.portless = std::make_unique<gateway::PortlessMappings>(name("portless").c_str(), 128,
                                                               *parts.nat, *tunnels_);
  parts.fragments = std::make_unique<gateway::Fragments>(
      name("fragments").c_str(),
      gateway::Fragments::Sizes{
          .datagrams = 64, .held = 128, .tunnel_slots = tunnels_->slots()});
  parts.reassembly = std::make_unique<gateway::Reassembly>(16);
  parts.neighbours = std::make_unique<gateway::Neighbours>(name("neighbours").c_str(), 64);
  parts.held_syns = std::make_unique<gateway::HeldSyns>(name("held-syns").c_str(), 64);
  if (gateway::Filter::is_needed(nat_settings_.profiles)) {
    const gateway::Filter::Settings sessions{
        .sessions = std::max(options_.flows + options_.flows / 8, 1024u),
        .sessions_per_tunnel = options_.flows_per_tunnel};
    parts.filter = std::make_unique<gateway::Filter>(name("filter").c_str(), sessions, *tunnels_,
                                                     *parts.nat);
  }
  gateway::PipelineSettings settings = settings_;
  settings.worker = worker;
  parts.pipeline = std::make_unique<gateway::Pipeline>(
      settings,
      gateway::Pipeline::Tables{*tunnels_, *parts.nat, *parts.portless, *parts.fragments,
                                *parts.reassembly, *parts.neighbours, nullptr,
                                parts.held_syns.get(), parts.filter.get(), nullptr, nullptr,
                                hand_off_ ? &*hand_off_ : nullptr},
      *parts.crypto, pool_, counters_);
  return parts;
}

// ---- Tunnels ----

void World::open_tunnels() {
  for (const uint32_t slot : slots_) {
    ToWorker open;
    open.kind = ToWorker::open_tunnel;
    open.slot = slot;
    open.epoch = slot;
    open.mtu_bytes = kMtu;
    open.router = Ipv4Address::from_host(kFirstInnerAddress);
    open.address = Ipv4Address::from_host(kFirstInnerAddress + slot);
    gateway::Pipeline& pipeline = pipeline_of(slot);
    pipeline.take(open, now_ns_);

    ToWorker install;
    install.kind = ToWorker::install_session;
    install.slot = slot;
    install.remote = client(slot);
    install.session.local_index = slot | 1u << tunnels_->slot_bits();
    install.session.remote_index = static_cast<uint32_t>(mix(slot));
    install.session.protection = options_.protection;
    install.session.established_ns = now_ns_ + kYearNs;
    install.session.send_tag = {1, 2, static_cast<uint8_t>(slot)};
    install.session.receive_tag = {4, 5, static_cast<uint8_t>(slot)};
    fill_key(install.session.send_key, uint64_t{slot} << 8);
    fill_key(install.session.receive_key, uint64_t{slot} << 8 | 0x80);
    install.packet = rte_pktmbuf_alloc(pool_);
    rte_pktmbuf_append(install.packet, sizeof(tunnel::ResponseMessage));
    pipeline.take(install, now_ns_);
    confirm(slot);
    for (unsigned port = 0; port < settings_.ports.size(); ++port) {
      gateway::TxQueue& queue = pipeline.tx(port);
      rte_pktmbuf_free_bulk(queue.packets.data(), queue.count);
      counters_.transmitted += queue.count;
      queue.count = 0;
    }
  }
}

// By a heartbeat, whose answer has the worker expand the other key, too.
void World::confirm(uint32_t slot) {
  rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
  write_heartbeat(mbuf, slot, tunnels_->open(slot).sessions.at(tunnel::SessionSet::kNext));
  pipeline_of(slot).run(kUplinkPort, {&mbuf, 1}, now_ns_);
  pipeline_of(slot).run_waiting(now_ns_, 0);
  if (!tunnels_->open(slot).sessions.at(tunnel::SessionSet::kCurrent).exists()) {
    throw std::runtime_error("a tunnel did not open");
  }
}

// ---- Packets ----

void World::draw_flows() {
  for (uint32_t& number : drawn_) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    number = static_cast<uint32_t>((random_ >> 32) * options_.flows >> 32);
  }
}

// As a driver hands a packet out.
uint8_t* World::reset(rte_mbuf* mbuf, unsigned bytes) const {
  rte_pktmbuf_reset(mbuf);
  if (options_.checksum_by_port) mbuf->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
  mbuf->data_len = static_cast<uint16_t>(bytes);
  mbuf->pkt_len = bytes;
  return rte_pktmbuf_mtod(mbuf, uint8_t*);
}

void World::write_outbound(rte_mbuf* mbuf, const Flow& flow, unsigned inner_bytes) {
  const tunnel::Session& session = this->session(flow.slot);
  const bool plain = session.protection == Protection::plain;
  const auto text_bytes =
      static_cast<unsigned>(plain ? inner_bytes : tunnel::padded_bytes(inner_bytes, kMtu));
  const unsigned header_bytes = plain ? sizeof(PlainHeader) : sizeof(EncryptedHeader);
  const unsigned tunnel_bytes =
      text_bytes + (plain ? header_bytes : tunnel::kEncryptedOverheadBytes);
  const unsigned udp_bytes = static_cast<unsigned>(sizeof(UdpHeader)) + tunnel_bytes;
  const unsigned ip_bytes = static_cast<unsigned>(sizeof(Ipv4Header)) + udp_bytes;
  constexpr unsigned kLinkBytes = sizeof(EthernetHeader);
  uint8_t* ip = write_ethernet(reset(mbuf, kLinkBytes + ip_bytes));
  uint8_t* udp = write_ip(ip, client(flow.slot).address, kUplink, ip_bytes);
  uint8_t* header = udp + sizeof(UdpHeader);
  write_udp_packet(header + header_bytes, flow.internal, remote(), inner_bytes);
  if (plain) {
    PlainHeader bare{static_cast<uint8_t>(tunnel::MessageType::plain), {},
                     Le32::from_host(session.local_index)};
    std::memcpy(bare.session_tag, session.receive_tag.data(), sizeof bare.session_tag);
    std::memcpy(header, &bare, sizeof bare);
  } else {
    std::memset(header + header_bytes + inner_bytes, 0, text_bytes - inner_bytes);
    tunnel::Aead aead(session.protection, session.receive_key);
    aead.seal({header, tunnel_bytes}, text_bytes, session.local_index,
              client_counters_[flow.slot]++);
  }
  write_udp(udp, client(flow.slot), kTunnelEndpoint, udp_bytes);
}

void World::write_inbound(rte_mbuf* mbuf, const Flow& flow, unsigned inner_bytes) {
  uint8_t* ip =
      write_ethernet(reset(mbuf, static_cast<unsigned>(sizeof(EthernetHeader)) + inner_bytes));
  write_udp_packet(ip, remote(), flow.external, inner_bytes);
}

void World::fill(Direction direction, std::span<const uint16_t> inner_bytes) {
  for (unsigned i = 0; i < kPackets; ++i) {
    const unsigned bytes = inner_bytes[i % inner_bytes.size()];
    if (direction == Direction::outbound) {
      write_outbound(buffers_[i], flow(drawn_[i]), bytes);
    } else {
      write_inbound(buffers_[i], flow(drawn_[i]), bytes);
    }
  }
}

// What a device's transmit function does to the queue, but for the device.
void World::take_sent(gateway::Pipeline& pipeline, unsigned port) {
  gateway::TxQueue& queue = pipeline.tx(port);
  sent_.insert(sent_.end(), queue.packets.begin(), queue.packets.begin() + queue.count);
  queue.count = 0;
}

uint64_t World::run(Direction direction) {
  return direction == Direction::outbound ? run_bursts(kUplinkPort, kPublicPort)
                                          : run_bursts(kPublicPort, kUplinkPort);
}

uint64_t World::run_bursts(unsigned from, unsigned to) {
  sent_.clear();
  uint64_t cycles = 0;
  if (parts_.size() == 1) {
    gateway::Pipeline& pipeline = *parts_[0].pipeline;
    const uint64_t start = rte_rdtsc_precise();
    for (unsigned i = 0; i < kPackets; i += kBurstMax) {
      pipeline.run(from, {&buffers_[i], kBurstMax}, now_ns_);
      take_sent(pipeline, to);
    }
    cycles = rte_rdtsc_precise() - start;
  } else {
    cycles = run_workers(from, to);
  }
  counters_.transmitted += sent_.size();
  if (sent_.size() != kPackets || counters_.held() != 0) {
    throw std::runtime_error("packets were lost");
  }
  if (parts_.size() > 1) sort_sent();
  return cycles;
}

// ---- Mappings ----

uint64_t World::make_mappings() {
  constexpr uint16_t kInnerBytes = 64;
  std::vector<uint32_t> order;
  for (uint32_t of_tunnel = 0; of_tunnel < options_.flows_per_tunnel; ++of_tunnel) {
    for (uint32_t n = of_tunnel; n < options_.flows; n += options_.flows_per_tunnel) {
      order.push_back(n);
    }
  }
  uint64_t cycles = 0;
  for (uint32_t first = 0; first < options_.flows; first += kPackets) {
    for (uint32_t i = 0; i < kPackets; ++i) drawn_[i] = order[(first + i) % options_.flows];
    fill(Direction::outbound, {&kInnerBytes, 1});
    cycles += run(Direction::outbound);
    for (unsigned i = 0; i < kPackets; ++i) {
      const auto* ip =
          rte_pktmbuf_mtod_offset(sent_[i], const Ipv4Header*, sizeof(EthernetHeader));
      const auto* udp = reinterpret_cast<const UdpHeader*>(ip + 1);
      externals_[drawn_[i]] = {ip->source, udp->source_port};
    }
  }
  return cycles;
}

// As the client sends it: a probe, which is answered.
void World::write_heartbeat(rte_mbuf* mbuf, uint32_t slot, const tunnel::Session& session) {
  constexpr unsigned kTextBytes = sizeof(tunnel::ProbePacket);
  constexpr unsigned kTunnelBytes = kTextBytes + tunnel::kEncryptedOverheadBytes;
  constexpr unsigned kUdpBytes = sizeof(UdpHeader) + kTunnelBytes;
  constexpr unsigned kIpBytes = sizeof(Ipv4Header) + kUdpBytes;
  uint8_t* ip = write_ethernet(reset(mbuf, sizeof(EthernetHeader) + kIpBytes));
  uint8_t* udp = write_ip(ip, client(slot).address, kUplink, kIpBytes);
  uint8_t* header = udp + sizeof(UdpHeader);
  tunnel::ProbePacket probe{};
  probe.kind = tunnel::kProbeRequest;
  probe.stamp = Be64::from_host(slot);
  std::memcpy(header + sizeof(EncryptedHeader), &probe, sizeof probe);
  tunnel::Aead aead(session.protection, session.receive_key);
  aead.seal({header, kTunnelBytes}, kTextBytes, session.local_index, client_counters_[slot]++);
  write_udp(udp, client(slot), kTunnelEndpoint, kUdpBytes);
}

}  // namespace adit::bench
