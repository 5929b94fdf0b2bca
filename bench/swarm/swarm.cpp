#include "bench/swarm/swarm.h"

#include <fmt/format.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "lib/tunnel/seal.h"

namespace adit::bench {

using gateway::kSecond_ns;

namespace {

inline constexpr uint64_t kTickNs = 1'000'000;
// Each client's timers are looked at once in so many ticks, or later where many have something to
// do: a tick has so long for them, for what arrives meanwhile must not wait.
inline constexpr uint32_t kTicksARound = 100;
inline constexpr uint64_t kTimersNs = 200'000;
inline constexpr unsigned kConnectsARound = 2;  // for the same reason
inline constexpr uint64_t kAskPeriodNs = 100'000'000;
inline constexpr uint16_t kServerPort = 6600;
inline constexpr uint16_t kFirstInternalPort = 5000;
inline constexpr uint32_t kFirstServerAddress = 0x28010001;  // 40.1.0.1
inline constexpr uint32_t kServers = 250;
inline constexpr uint32_t kMadeUpPool = 0x33000001;  // 51.0.0.1
// At the yardstick nobody owns an address.
inline constexpr MacAddress kNobody{{0x02, 0, 0, 0, 0, 1}};

void fill_random(std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    if (got > 0) bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

bool is_link_up(uint16_t port) {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

}  // namespace

Swarm::Swarm(const SwarmOptions& options, const gateway::Port& clients,
             const gateway::Port& servers, rte_mempool* pool,
             std::function<void(const std::string&)> log)
    : options_(options),
      log_(std::move(log)),
      pool_(pool),
      one_port_(clients.id() == servers.id()),
      crypto_(std::bit_ceil(2 * options.clients)),
      connecting_since_tsc_(options.clients),
      whereabouts_(options.clients),
      unrest_random_(static_cast<uint32_t>(options.seed) + 1),
      flood_(options.gateway_key, fill_random, options.seed),
      clients_wanted_(options.clients - options.holding_back),
      connecting_max_(options.connecting_max),
      spoil_random_(static_cast<uint32_t>(options.seed)) {
  sides_[kClientsSide] = {clients.id(),
                          options.uplink_router,
                          options.tunnel.address,
                          {clients.view().mac, kNobody},
                          options.yardstick};
  sides_[kServersSide] = {servers.id(),
                          options.public_router,
                          options.public_address,
                          {servers.view().mac, kNobody},
                          options.yardstick};
  client_world_.seed = options.seed;
  client_world_.gateway = options.gateway_key;
  client_world_.protections = options.protections;
  client_world_.number_bits = static_cast<uint8_t>(std::bit_width(options.clients));
  client_world_.random = fill_random;
  client_world_.crypto = &crypto_;
  client_world_.transmit = [this](const Client& client, std::span<const uint8_t> datagram) {
    send_datagram(client, datagram);
  };
  client_world_.changed = [this](const Client& client) { on_client_changed(client); };
  if (!options.yardstick) {
    for (uint32_t i = 0; i < options.clients; ++i) clients_.emplace_back(client_world_, i);
  }
  is_up_.resize(options.clients);
  until_spoilt_ = options.spoil;
  make_flows();
}

// ---- Flows ----

void Swarm::make_flows() {
  const uint32_t count = clients_wanted_ * options_.flows_per_client;
  flows_.resize(count);
  for (unsigned d = 0; d < kDirections; ++d) {
    send_frames_[d].resize(count);
    expected_frames_[d].resize(count);
    next_sequence_[d].assign(count, 1);
    seen_sequence_[d].assign(count, 0);
  }
  for (uint32_t i = 0; i < count; ++i) {
    Flow& flow = flows_[i];
    flow.number = i;
    flow.client = i / options_.flows_per_client;
    flow.internal.port =
        Be16::from_host(static_cast<uint16_t>(kFirstInternalPort + i % options_.flows_per_client));
    flow.remote = {Ipv4Address::from_host(kFirstServerAddress + i % kServers),
                   Be16::from_host(kServerPort)};
    if (options_.yardstick) {
      flow.internal.address = Ipv4Address::from_host(0x0a000001 + flow.client);
      flow.external = {Ipv4Address::from_host(kMadeUpPool + i / 60'000),
                       Be16::from_host(static_cast<uint16_t>(1024 + i % 60'000))};
    }
  }
  order_.resize(count);
  std::iota(order_.begin(), order_.end(), 0u);
  std::shuffle(order_.begin(), order_.end(), std::mt19937_64(options_.seed));
  turn_ = {0, count / 2};
  // Of a gateway's packets only plain ones are looked at before they are opened.
  const bool has_plain_header = !options_.yardstick || is_plain(0);
  const auto tunnel_bytes = static_cast<unsigned>(
      kUdpPayloadAt + kInnerHeaderBytes +
      (has_plain_header ? sizeof(tunnel::PlainHeader) : sizeof(tunnel::EncryptedHeader)));
  constexpr unsigned kPlainBytes = kIpAt + kInnerHeaderBytes;
  arriving_header_bytes_ = {kPlainBytes, tunnel_bytes};
  if (options_.yardstick) std::swap(arriving_header_bytes_[0], arriving_header_bytes_[1]);
  rebuild_all();
}

void Swarm::rebuild_all() {
  for (Flow& flow : flows_) rebuild(flow);
}

// Those who have held back have none.
void Swarm::rebuild_flows_of(uint32_t client) {
  const uint32_t first = client * options_.flows_per_client;
  if (first >= flows_.size()) return;
  for (uint32_t i = 0; i < options_.flows_per_client; ++i) rebuild(flows_[first + i]);
}

// All four frames of a flow, as far as they are known.
void Swarm::rebuild(Flow& flow) {
  const Link& up = sides_[kClientsSide].link;
  const Link& out = sides_[kServersSide].link;
  tunnel::Session session;
  uint16_t mtu_bytes = kInnerBytesMax;
  if (!options_.yardstick) {
    const Client& client = clients_[flow.client];
    if (!client.is_up()) return;
    session = client.session();
    mtu_bytes = client.mtu_bytes();
    flow.internal.address = *client.address();
  }
  uint16_t sealed_bytes = 0;
  if (!is_plain(flow.client) && !options_.yardstick) {
    sealed_bytes = static_cast<uint16_t>(tunnel::padded_bytes(flow.inner_bytes, mtu_bytes));
  }
  const Endpoint outer = outer_endpoint(flow.client);
  const uint32_t n = flow.number;
  send_frames_[kOutbound][n] = tunnel_frame(
      up, {outer, options_.tunnel, session.remote_index, session.send_tag, sealed_bytes}, flow,
      flow.internal, flow.remote, 64);
  expected_frames_[kInbound][n] =
      tunnel_frame(sides_[kClientsSide].reversed(),
                   {options_.tunnel, outer, session.local_index, session.receive_tag, sealed_bytes},
                   flow, flow.remote, flow.internal, 63);
  if (flow.external.is_zero()) return;
  expected_frames_[kOutbound][n] =
      plain_frame(sides_[kServersSide].reversed(), flow, flow.external, flow.remote, 63);
  send_frames_[kInbound][n] = plain_frame(out, flow, flow.remote, flow.external, 64);
  if (!options_.yardstick) return;
  for (unsigned d = 0; d < kDirections; ++d) expected_frames_[d][n] = send_frames_[d][n];
}

// ---- Clients ----

void Swarm::on_client_changed(const Client& client) {
  const bool is_up = client.is_up();
  if (is_up != is_up_[client.number()]) {
    is_up_[client.number()] = is_up;
    clients_up_ += is_up ? 1 : ~0u;
    if (is_up) note_arrival(client.number());
  }
  if (is_up) rebuild_flows_of(client.number());
}

void Swarm::note_arrival(uint32_t client) {
  came_up_tsc_ = rte_rdtsc();
  uint64_t& since = connecting_since_tsc_[client];
  if (since != 0) trial_.connecting.record(came_up_tsc_ - since);
  since = 0;
  if (whereabouts_[client].has_left) note_return(client);
}

uint64_t Swarm::deaths() const {
  uint64_t sum = 0;
  for (const Client& client : clients_) sum += client.deaths();
  return sum;
}

void Swarm::send_datagram(const Client& client, std::span<const uint8_t> datagram) {
  flood_.record(datagram);
  uint8_t frame[2048];
  std::ranges::copy(datagram, frame + kUdpPayloadAt);
  const unsigned bytes =
      wrap_datagram(frame, sides_[kClientsSide].link, outer_endpoint(client.number()),
                    options_.tunnel, static_cast<unsigned>(datagram.size()));
  send_control_frame(kClientsSide, frame, bytes);
}

void Swarm::send_control_frame(unsigned side, const uint8_t* frame, unsigned bytes) {
  rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
  if (mbuf == nullptr) return;
  char* const room = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes));
  if (room != nullptr) std::memcpy(room, frame, bytes);
  // A port that is full now will have room in a moment; what is lost all the same comes again.
  for (unsigned tries = 0; tries < 1000; ++tries) {
    if (rte_eth_tx_burst(sides_[side].port, 0, &mbuf, 1) == 1) return;
    rte_pause();
  }
  rte_pktmbuf_free(mbuf);
}

void Swarm::ask_for_gateway(unsigned number) {
  const Side& side = sides_[number];
  struct {
    EthernetHeader ethernet;
    ArpPacket arp;
  } frame{{kBroadcastMac, side.link.from, Be16::from_host(kEtherTypeArp)},
          {Be16::from_host(1),
           Be16::from_host(kEtherTypeIpv4),
           6,
           4,
           Be16::from_host(kArpRequest),
           side.link.from,
           side.router,
           {},
           side.gateway}};
  send_control_frame(number, reinterpret_cast<const uint8_t*>(&frame), sizeof frame);
}

// ---- Bringing up ----

void Swarm::wait_until(double timeout_s, const char* what, const std::function<bool()>& is_done) {
  const uint64_t ends_ns = gateway::boottime_ns() + static_cast<uint64_t>(timeout_s * 1e9);
  while (!is_done()) {
    if (!poll() && gateway::boottime_ns() > ends_ns) {
      std::string message = fmt::format("waited {} s in vain for {}", timeout_s, what);
      if (clients_started_ > 0) {
        message += fmt::format(" ({} of {} clients are up)", clients_up_, clients_wanted_);
      }
      if (!trial_.first_wrong.empty()) message += "; " + trial_.first_wrong;
      throw std::runtime_error(message);
    }
  }
}

void Swarm::bring_up(double timeout_s) {
  if (!has_gateway_) take_devices();
  wait_until(timeout_s, "the links",
             [&] { return is_link_up(sides_[0].port) && is_link_up(sides_[1].port); });
  if (options_.yardstick) return;
  wait_until(timeout_s, "the gateway's Ethernet addresses",
             [&] { return sides_[0].is_resolved && sides_[1].is_resolved; });
  const uint64_t began_ns = gateway::boottime_ns();
  wait_until(timeout_s, "tunnels and addresses", [&] { return clients_up_ == clients_wanted_; });
  const double seconds = static_cast<double>(gateway::boottime_ns() - began_ns) / 1e9;
  log_(fmt::format("{} tunnels, {:.0f} a second", clients_up_, clients_up_ / seconds));
  open_mappings(timeout_s);
  log_(fmt::format("{} mappings", mapped_.size()));
}

// A packet of every flow that has no mapping yet, until all have one.
void Swarm::open_mappings(double timeout_s) {
  const uint64_t ends_ns = gateway::boottime_ns() + static_cast<uint64_t>(timeout_s * 1e9);
  std::vector<uint32_t> missing(flows_.size());
  std::iota(missing.begin(), missing.end(), 0u);
  while (!missing.empty()) {
    constexpr size_t kStep = 16;
    for (size_t at = 0; at < missing.size(); at += kStep) {
      send(kOutbound, std::span(missing).subspan(at, std::min(kStep, missing.size() - at)));
      for (unsigned i = 0; i < 20; ++i) poll();
    }
    const uint64_t settle_ns = gateway::boottime_ns() + kTickNs * 20;
    while (gateway::boottime_ns() < settle_ns && mapped_.size() < flows_.size()) poll();
    std::erase_if(missing, [&](uint32_t n) { return !flows_[n].external.is_zero(); });
    if (!missing.empty() && gateway::boottime_ns() > ends_ns) {
      throw std::runtime_error(fmt::format("{} of {} flows have no mapping after {} s; {}",
                                           missing.size(), flows_.size(), timeout_s,
                                           trial_.first_wrong));
    }
  }
}

// ---- Rounds ----

bool Swarm::poll() {
  unsigned count = receive(kClientsSide);
  if (!one_port_) count += receive(kServersSide);
  const uint64_t now_ns = clock_.now_ns();
  if (now_ns - ticked_ns_ >= kTickNs) tick(now_ns);
  connect_next(now_ns);
  return count != 0;
}

// The next ones that want in.
void Swarm::connect_next(uint64_t now_ns) {
  if (options_.yardstick || !sides_[0].is_resolved || !sides_[1].is_resolved) return;
  for (unsigned i = 0; i < kConnectsARound && clients_started_ < clients_wanted_ &&
                       clients_started_ - clients_up_ - absent_ < connecting_max_;
       ++i) {
    connecting_since_tsc_[clients_started_] = rte_rdtsc();
    clients_[clients_started_++].connect(now_ns);
  }
}

void Swarm::tick(uint64_t now_ns) {
  ticked_ns_ = now_ns;
  if (options_.yardstick) return;
  if (!sides_[0].is_resolved || !sides_[1].is_resolved) {
    if (now_ns - asked_ns_ < kAskPeriodNs) return;
    asked_ns_ = now_ns;
    for (unsigned side = 0; side < sides_.size(); ++side) {
      if (!sides_[side].is_resolved) ask_for_gateway(side);
    }
    return;
  }
  come_back(now_ns);
  const uint32_t step = options_.clients / kTicksARound + 1;
  const uint64_t ends_ns = now_ns + kTimersNs;
  for (uint32_t i = 0; i < step && clock_.now_ns() < ends_ns; ++i) {
    clients_[hand_].tick(now_ns);
    hand_ = (hand_ + 1) % options_.clients;
  }
}

void Swarm::rest() {
  if (has_gateway_ && poll()) return;
  const timespec pause{0, 200'000};
  nanosleep(&pause, nullptr);
}

}  // namespace adit::bench
