#include "tests/eal/rig.h"

#include <rte_mbuf.h>

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "lib/net/checksum.h"
#include "lib/net/parse.h"

namespace adit::gateway::test {
namespace {

inline constexpr unsigned kMtu = 1440;

adit::test::NicModel one_port_nic(const SteeringPlan& plan, const RigOptions& options) {
  using adit::test::NicModel;
  switch (options.card_rules) {
    case CardRules::hash:
      return NicModel::by_rules(plan, plan.slices,
                                hash_rules(kTunnelEndpoint, options.vlan, plan.workers, 40));
    case CardRules::source_port:
      return NicModel::by_rules(plan, plan.slices,
                                source_port_rules(kTunnelEndpoint, options.vlan, plan.workers));
    case CardRules::none:
      break;
  }
  return NicModel::by_flow(plan, plan.slices);
}

}  // namespace

Bytes copy_of(const rte_mbuf* mbuf) {
  const auto* const bytes = rte_pktmbuf_mtod(mbuf, const uint8_t*);
  return {bytes, bytes + rte_pktmbuf_data_len(mbuf)};
}

Bytes on_the_wire(const rte_mbuf* mbuf) {
  Bytes frame = copy_of(mbuf);
  const bool wants_ip = (mbuf->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) != 0;
  const bool wants_udp = (mbuf->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
  if (!wants_ip && !wants_udp) return frame;
  EXPECT_NE(mbuf->ol_flags & RTE_MBUF_F_TX_IPV4, 0u) << "a device must be told the protocol";
  const std::span whole(frame);
  const std::span header = whole.subspan(mbuf->l2_len, mbuf->l3_len);
  EXPECT_EQ(header.size(), sizeof(Ipv4Header));
  const auto store = [](uint8_t* at, uint16_t sum) {
    const Be16 raw = Be16::from_host(sum);
    std::memcpy(at, &raw, sizeof raw);
  };
  if (wants_ip) store(&header[10], adit::test::plain_checksum(header));
  if (wants_udp) {  // the pseudo-header's sum stands in the field
    const std::span udp = whole.subspan(size_t{mbuf->l2_len} + mbuf->l3_len);
    const uint16_t sum = adit::test::plain_checksum(udp);
    store(&udp[6], sum == 0 ? uint16_t{0xffff} : sum);
  }
  return frame;
}

Bytes frame_of(const Bytes& packet, uint16_t ether_type, uint16_t vlan) {
  EthernetHeader ethernet{kOurMac, kNextHopMac, Be16::from_host(ether_type)};
  Bytes frame(sizeof ethernet);
  if (vlan != 0) {
    ethernet.ether_type = Be16::from_host(kEtherTypeVlan);
    const VlanTag tag{Be16::from_host(vlan), Be16::from_host(ether_type)};
    frame.resize(sizeof ethernet + sizeof tag);
    std::memcpy(frame.data() + sizeof ethernet, &tag, sizeof tag);
  }
  std::memcpy(frame.data(), &ethernet, sizeof ethernet);
  frame.insert(frame.end(), packet.begin(), packet.end());
  return frame;
}

std::string row_name(std::string description) {
  for (char& c : description) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return description;
}

// ---- The rig ----

Rig::Rig(const RigOptions& options) : two_ports_(options.two_ports) {
  const bool two_ports = options.two_ports;
  PortView uplink;
  uplink.address = {kGateway, 24};
  uplink.next_hop = Ipv4Address::from_octets(30, 1, 1, 1);
  uplink.mac = kOurMac;
  uplink.vlan = options.vlan;
  uplink.mtu_bytes = options.mtu_bytes;
  uplink.checksum_ip_by_port = options.checksum_ip_by_port;
  uplink.checksum_udp_by_port = options.checksum_udp_by_port;
  uplink.is_uplink = true;
  uplink.is_public = !two_ports;
  settings_.ports.push_back(uplink);
  if (two_ports) {
    PortView outside = uplink;
    outside.address = {kPublic, 24};
    outside.next_hop = Ipv4Address::from_octets(30, 2, 1, 1);
    outside.is_uplink = false;
    outside.is_public = true;
    settings_.ports.push_back(outside);
    settings_.public_port = 1;
  }
  settings_.tunnel_endpoint = kTunnelEndpoint;
  settings_.inner_networks = {*Ipv4Prefix::parse("192.168.1.0/24")};
  settings_.icmp_errors = options.icmp_errors;
  settings_.express = options.express;
  settings_.controls_wait = options.controls_wait;
  settings_.inner_routers = {kRouter};
  settings_.tunnel_to_tunnel = options.tunnel_to_tunnel;
  settings_.inner_networks_outside = options.inner_networks_outside;
  settings_.exempt = options.exempt;
  settings_.port_control = options.port_control;
  settings_.limit_window_s = options.limit_window_s;
  settings_.tell_blocks = options.limit_window_s != 0;
  settings_.ipv4_id_key = 0x5eed;

  nat_settings_ = options.nat;
  if (nat_settings_.pool.empty()) nat_settings_.pool = {external_address()};
  nat_settings_.reserved.push_back({external_address(), 8000});
  for (const Forwards::Forward& forward : options.forwards) {
    nat_settings_.reserved.push_back({forward.external.address, forward.external.port.host()});
  }
  const char* const wanted = std::getenv("ADIT_WORKERS");
  unsigned workers = options.workers;
  if (workers == 0) workers = wanted != nullptr ? static_cast<unsigned>(std::atoi(wanted)) : 1;
  // What a test says of a pool of few ports it says of one worker's share.
  const unsigned ports = nat_settings_.last_port - nat_settings_.first_port + 1u;
  const bool is_shared = ports >= 4096 && nat_settings_.deterministic_ports == 0 &&
                         nat_settings_.low_ports % 512 == 0;
  if (options.workers == 0 && !is_shared) workers = 1;
  const unsigned block_ports_max = nat_settings_.deterministic_ports > 0
                                       ? nat_settings_.deterministic_ports
                                       : nat_settings_.first_block_ports << (nat::kBlocksMax - 1);
  std::optional<config::PortRange> low_ports;
  if (nat_settings_.low_ports > 0) {
    const uint16_t first = nat_settings_.first_low_port;
    low_ports = {first, static_cast<uint16_t>(first + nat_settings_.low_ports - 1)};
  }
  const SteeringPlan plan = plan_steering(workers, block_ports_max, 0, low_ports).value();
  nat_settings_.sharers = static_cast<uint8_t>(workers);
  nat_settings_.shares = plan.shares;
  settings_.workers = workers;
  settings_.shares = plan.shares;
  if (workers > 1) {
    hand_off_.emplace("test-handed", workers);
    nics_.push_back(two_ports ? adit::test::NicModel::by_flow(plan, plan.slices)
                              : one_port_nic(plan, options));
    if (two_ports) nics_.push_back(adit::test::NicModel::by_port(plan, plan.slices));
  }
  memory_bytes_ = nat::Nat::memory_bytes(nat_settings_);
  memory_.reset(new (std::align_val_t{64}) std::byte[memory_bytes_]);
  std::memset(memory_.get(), 0, memory_bytes_);  // which `new` would clear byte by byte
  tunnels_ = std::make_unique<TunnelTable>(16, workers);
  pool_ = rte_pktmbuf_pool_create("test-packets", workers > 1 ? 4095 : 1023, 0, 0,
                                  RTE_MBUF_DEFAULT_BUF_SIZE, -1);
  parts_.resize(workers);
  for (unsigned worker = 0; worker < workers; ++worker) make_parts(worker, options);
  nat_ = parts_[0].nat.get();
  fragments_ = parts_[0].fragments.get();
  held_syns_ = parts_[0].held_syns.get();
  filter_ = parts_[0].filter.get();
  pipeline_ = parts_[0].pipeline.get();
  for (uint8_t port = 0; port < settings_.ports.size(); ++port) {
    ToWorker neighbour;
    neighbour.kind = ToWorker::set_neighbour;
    neighbour.port = port;
    neighbour.address = settings_.ports[port].next_hop;
    neighbour.mac = kNextHopMac;
    tell(neighbour);
  }
}

void Rig::make_parts(unsigned worker, const RigOptions& options) {
  Parts& parts = parts_[worker];
  const auto name = [&](const char* what) {
    return std::string("test-") + what + std::to_string(worker);
  };
  nat_settings_.share = static_cast<uint8_t>(worker);
  parts.nat = std::make_unique<nat::Nat>(
      nat_settings_, std::span{memory_.get(), memory_bytes_},
      [state = uint64_t{1} + worker]() mutable {
        return state = state * 6364136223846793005u + 1442695040888963407u;
      });
  parts.crypto = std::make_unique<Crypto>(16);
  if (!options.forwards.empty()) {
    parts.forwards = std::make_unique<Forwards>(name("forwards").c_str(), options.forwards);
  }
  if (options.tunnel_to_tunnel || !options.exempt.empty()) {
    parts.inner_routes = std::make_unique<TunnelRoutes>(name("routes").c_str(), 64);
  }
  if (!options.outer.empty()) {
    parts.outer_routes = std::make_unique<TunnelRoutes>(name("outer-routes").c_str(), 64);
    for (const Ipv4Prefix& prefix : options.outer) {
      parts.outer_routes->add(prefix, TunnelRoutes::kNobody);
    }
  }
  if (options.answer_unsolicited_syn) {
    parts.held_syns = std::make_unique<HeldSyns>(name("held-syns").c_str(), kRigHeldSyns);
  }
  if (Filter::is_needed(nat_settings_.profiles)) {
    parts.filter = std::make_unique<Filter>(name("filter").c_str(), options.filter, *tunnels_,
                                            *parts.nat);
  }
  parts.neighbours = std::make_unique<Neighbours>(name("neighbours").c_str(), 64);
  parts.portless = std::make_unique<PortlessMappings>(name("portless").c_str(), 128, *parts.nat,
                                                      *tunnels_);
  parts.fragments = std::make_unique<Fragments>(
      name("fragments").c_str(),
      Fragments::Sizes{.datagrams = 64, .held = 128, .tunnel_slots = 16});
  parts.reassembly = std::make_unique<Reassembly>(16);
  PipelineSettings settings = settings_;
  settings.worker = worker;
  parts.pipeline = std::make_unique<Pipeline>(
      settings,
      Pipeline::Tables{*tunnels_, *parts.nat, *parts.portless, *parts.fragments,
                       *parts.reassembly, *parts.neighbours, parts.inner_routes.get(),
                       parts.held_syns.get(), parts.filter.get(), parts.outer_routes.get(),
                       parts.forwards.get(), hand_off_ ? &*hand_off_ : nullptr},
      *parts.crypto, pool_, counters_);
}

Rig::~Rig() {
  parts_.clear();
  rte_mempool_free(pool_);
}

void Rig::TearDown() {
  for (unsigned port = 0; port < settings_.ports.size(); ++port) sent_frames(port);
  handed_out();
  for (const Parts& parts : parts_) parts.pipeline->drain();
  EXPECT_EQ(counters_.held(), 0) << "the conservation law";
  EXPECT_EQ(rte_mempool_in_use_count(pool_), 0u) << "a packet buffer leaked";
}

tunnel::Session Rig::make_session(uint32_t slot, Protection protection, uint8_t generation) {
  tunnel::Session session;
  session.local_index = slot | uint32_t{generation} << tunnels_->slot_bits();
  session.remote_index = 0xabc00000u + generation * 0x100u + slot;
  session.protection = protection;
  session.established_ns = now_ns_;
  session.send_tag = {1, 2, static_cast<uint8_t>(slot)};
  session.receive_tag = {4, 5, static_cast<uint8_t>(slot)};
  std::iota(session.send_key.begin(), session.send_key.end(), static_cast<uint8_t>(generation));
  std::iota(session.receive_key.begin(), session.receive_key.end(),
            static_cast<uint8_t>(100 + slot + generation));
  return session;
}

void Rig::install(uint32_t slot, const tunnel::Session& session) {
  ToWorker message;
  message.kind = ToWorker::install_session;
  message.slot = slot;
  message.session = session;
  message.remote = kClientOuter;
  give(message, Bytes(sizeof(tunnel::ResponseMessage), 2));  // stands for the response
}

void Rig::give(ToWorker message, const Bytes& packet) {
  message.packet = rte_pktmbuf_alloc(pool_);
  ASSERT_NE(message.packet, nullptr);
  char* at = rte_pktmbuf_append(message.packet, static_cast<uint16_t>(packet.size()));
  std::memcpy(at, packet.data(), packet.size());
  tell(message);
}

void Rig::tell(const ToWorker& message) {
  const unsigned owner = owner_of(message.slot);
  const auto tell_others = [&](ToWorker others, ToWorker::Kind kind) {
    others.kind = kind;
    for (unsigned worker = 0; worker < parts_.size(); ++worker) {
      if (worker != owner) take(worker, others);
    }
  };
  ToWorker& opened = opened_[message.slot % opened_.size()];
  switch (message.kind) {
    case ToWorker::set_neighbour:
    case ToWorker::lose_neighbour:
      for (unsigned worker = 0; worker < parts_.size(); ++worker) take(worker, message);
      return hand_round();
    case ToWorker::open_tunnel:
      if (opened.kind == ToWorker::open_elsewhere) tell_others(opened, ToWorker::close_elsewhere);
      opened = message;
      opened.kind = ToWorker::open_elsewhere;
      tell_others(opened, ToWorker::open_elsewhere);
      break;
    case ToWorker::set_address: {
      ToWorker others = opened;
      others.previous_address = opened.address;
      others.address = opened.address = message.address;
      tell_others(others, ToWorker::set_address_elsewhere);
      break;
    }
    case ToWorker::close_tunnel:
      tell_others(opened, ToWorker::close_elsewhere);
      opened = {};
      break;
    default:
      break;
  }
  take(owner, message);
  hand_round();
}

FarEnd Rig::open_tunnel(uint32_t slot, Protection protection) {
  ToWorker open;
  open.kind = ToWorker::open_tunnel;
  open.slot = slot;
  open.epoch = slot;
  open.subscriber = slot - 1;
  open.mtu_bytes = kMtu;
  open.router = kRouter;
  open.tunnel_to_tunnel = settings_.tunnel_to_tunnel;
  open.address = Ipv4Address::from_host(kInner.host() - 1 + slot);
  extend_open(open);
  tell(open);
  const tunnel::Session session = make_session(slot, protection);
  install(slot, session);
  FarEnd far(session, kMtu);
  far.outer.port = Be16::from_host(static_cast<uint16_t>(20000 + slot));
  receive_from(far, far.seal({}));  // a heartbeat confirms the session
  sent_frames(0);                   // the response
  return far;
}

void Rig::renew(FarEnd& far, uint32_t slot, Protection protection) {
  const tunnel::Session session = make_session(slot, protection, 2);
  install(slot, session);
  const Endpoint outer = far.outer;
  far = FarEnd(session, kMtu);
  far.outer = outer;
  receive_from(far, far.seal({}));
  sent_frames(0);
}

void Rig::receive_frame(unsigned port, const Bytes& frame) { receive_burst(port, {frame}); }

void Rig::receive_burst(unsigned port, const std::vector<Bytes>& frames) {
  std::vector<rte_mbuf*> mbufs;
  for (const Bytes& frame : frames) {
    mbufs.push_back(rte_pktmbuf_alloc(pool_));
    ASSERT_NE(mbufs.back(), nullptr);
    char* at = rte_pktmbuf_append(mbufs.back(), static_cast<uint16_t>(frame.size()));
    ASSERT_NE(at, nullptr);
    if (!frame.empty()) std::memcpy(at, frame.data(), frame.size());
  }
  if (parts_.size() == 1) return run(0, port, mbufs);
  std::vector<std::vector<rte_mbuf*>> queues(parts_.size());
  for (size_t i = 0; i < frames.size(); ++i) {
    queues[nics_[port].queue_of(frames[i])].push_back(mbufs[i]);
  }
  for (unsigned worker = 0; worker < parts_.size(); ++worker) {
    if (!queues[worker].empty()) run(worker, port, queues[worker]);
  }
  hand_round();
}

void Rig::receive(unsigned port, const Bytes& ip_packet) {
  receive_frame(port, frame_of(ip_packet, kEtherTypeIpv4, settings_.ports[port].vlan));
}

void Rig::receive_packets(unsigned port, const std::vector<Bytes>& ip_packets) {
  std::vector<Bytes> frames;
  for (const Bytes& packet : ip_packets) {
    frames.push_back(frame_of(packet, kEtherTypeIpv4, settings_.ports[port].vlan));
  }
  receive_burst(port, frames);
}

void Rig::receive_from(const FarEnd& far, const Bytes& payload) {
  receive_from(far.outer, payload);
}

void Rig::receive_from(const Endpoint& outer, const Bytes& payload) {
  receive(0, adit::test::udp_packet(outer, kTunnelEndpoint, payload));
}

void Rig::receive_together(const FarEnd& far, const std::vector<Bytes>& payloads) {
  std::vector<Bytes> frames;
  for (const Bytes& payload : payloads) {
    frames.push_back(frame_of(adit::test::udp_packet(far.outer, kTunnelEndpoint, payload),
                              kEtherTypeIpv4, settings_.ports[0].vlan));
  }
  receive_burst(0, frames);
}

std::vector<Bytes> Rig::sent_frames(unsigned port) {
  if (parts_.size() > 1) return std::exchange(sent_[port], {});
  TxQueue& queue = pipeline_->tx(port);
  std::vector<Bytes> frames;
  for (unsigned i = 0; i < queue.count; ++i) {
    frames.push_back(on_the_wire(queue.packets[i]));
    rte_pktmbuf_free(queue.packets[i]);
  }
  counters_.transmitted += queue.count;
  queue.count = 0;
  return frames;
}

std::vector<Bytes> Rig::sent(unsigned port) {
  std::vector<Bytes> packets;
  const uint16_t vlan = settings_.ports[port].vlan;
  for (const Bytes& frame : sent_frames(port)) {
    Bytes expected = frame_of({}, kEtherTypeIpv4, vlan);
    const EthernetHeader header{kNextHopMac, kOurMac,
                                Be16::from_host(vlan ? kEtherTypeVlan : kEtherTypeIpv4)};
    std::memcpy(expected.data(), &header, sizeof header);
    const auto length = static_cast<long>(expected.size());
    EXPECT_EQ(Bytes(frame.begin(), frame.begin() + length), expected);
    packets.emplace_back(frame.begin() + length, frame.end());
  }
  return packets;
}

Bytes Rig::sent_one(unsigned port) {
  const std::vector<Bytes> packets = sent(port);
  EXPECT_EQ(packets.size(), 1u);
  return packets.empty() ? Bytes{} : packets.front();
}

Bytes Rig::sent_to_tunnel(const Endpoint& to) {
  const Bytes packet = sent_one(0);
  ParsedIpv4 parsed;
  if (parse_ipv4(packet, HeaderChecksum::verify, parsed) != ParseError::none) {
    ADD_FAILURE() << "the outer packet is not well formed";
    return {};
  }
  const Bytes payload(packet.begin() + parsed.payload_offset(), packet.end());
  Ipv4Header ip;
  std::memcpy(&ip, packet.data(), sizeof ip);
  // Everything but the identification is known beforehand.
  EXPECT_EQ(packet, adit::test::udp_packet(kTunnelEndpoint, to, payload,
                                           {.id = ip.id.host(), .fragment = 0}));
  return payload;
}

std::vector<ToControl> Rig::handed_out() {
  if (parts_.size() > 1) {
    for (const ToControl& item : told_) rte_pktmbuf_free(item.packet);
    return std::exchange(told_, {});
  }
  Pipeline::ControlOutbox& outbox = pipeline_->control_outbox();
  std::vector<ToControl> items(outbox.items.begin(), outbox.items.begin() + outbox.count);
  for (ToControl& item : items) {
    if (item.packet == nullptr) continue;
    ++counters_.handed_out;
    rte_pktmbuf_free(item.packet);
  }
  outbox.count = 0;
  return items;
}

Endpoint Rig::external_of(FarEnd& far, const Bytes& inner) {
  receive_from(far, far.seal(inner));
  const Bytes packet = sent_one(public_port());
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
  Ipv4Header ip{};
  if (packet.size() >= sizeof ip) std::memcpy(&ip, packet.data(), sizeof ip);
  return {ip.source, parsed.source_port};
}

void Rig::expect_only_drop(Fate reason) {
  EXPECT_EQ(drops(reason), 1u) << fate_name(reason);
  EXPECT_EQ(counters_.drops_total(), 1u);
  for (unsigned port = 0; port < settings_.ports.size(); ++port) {
    EXPECT_TRUE(sent_frames(port).empty());
  }
}

}  // namespace adit::gateway::test
