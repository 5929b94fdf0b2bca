#include "gateway/control.h"

#include <rte_mbuf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <stdexcept>

#include "gateway/random.h"
#include "lib/dhcp/packet.h"

namespace adit::gateway {
namespace {

inline constexpr size_t kNeighboursMax = 1024;
// Slow packets taken in a tick: bounds how long timers wait behind a flood of them.
inline constexpr unsigned kItemsPerTickMax = 256;
inline constexpr uint64_t kComplainPeriodNs = 60 * tunnel::kSecondNs;
inline constexpr size_t kSourcesMax = 16'384;  // of handshakes, remembered at a time

std::vector<dhcp::PoolConfig> dhcp_pools(const Config& config) {
  std::vector<dhcp::PoolConfig> pools;
  for (size_t i = 0; i < config.pools.size(); ++i) {
    const PoolConfig& from = config.pools[i];
    dhcp::PoolConfig pool;
    pool.name = from.name;
    pool.network = from.network;
    pool.router = from.router;
    pool.first = from.range.first;
    pool.last = from.range.last;
    pool.lease_s = from.lease_s;
    pool.dns = from.dns;
    for (const Ipv4Prefix& route : from.routes) pool.routes.push_back({route, from.router});
    pool.mtu_bytes = config.tunnel.mtu;
    pool.heartbeat_s = static_cast<uint16_t>(config.tunnel.heartbeat_ns / kSecond_ns);
    for (const SubscriberConfig& subscriber : config.subscribers) {
      if (subscriber.pool == i && subscriber.address) pool.excluded.push_back(*subscriber.address);
    }
    pools.push_back(std::move(pool));
  }
  return pools;
}

std::vector<tunnel::Remotes::Known> keys_of(const Config& config) {
  std::vector<tunnel::Remotes::Known> keys;
  for (const SubscriberConfig& subscriber : config.subscribers) {
    keys.push_back({tunnel::PublicKey{subscriber.public_key},
                    tunnel::PresharedKey{subscriber.preshared_key.value_or(KeyBytes{})}});
  }
  return keys;
}

std::vector<std::string> names_of(const Config& config) {
  std::vector<std::string> names;
  for (const SubscriberConfig& subscriber : config.subscribers) names.push_back(subscriber.name);
  return names;
}

std::vector<Arp::PortAddresses> arp_ports(const Config& config,
                                          const std::vector<PortView>& ports) {
  std::vector<Arp::PortAddresses> out;
  for (const PortView& port : ports) {
    Arp::PortAddresses addresses{port.mac, port.address, {}};
    if (port.is_public) {
      for (const config::Ipv4Range& range : config.nat.external) {
        for (uint64_t a = range.first.host(); a <= range.last.host(); ++a) {
          addresses.also.push_back({Ipv4Address::from_host(static_cast<uint32_t>(a)), 32});
        }
      }
      for (const SubscriberConfig& subscriber : config.subscribers) {
        if (const auto& address = subscriber.external_address) {
          addresses.also.push_back({*address, 32});
        }
        // Others come by way of a route to us.
        for (const Ipv4Prefix& prefix : subscriber.routed) {
          if (port.address.prefix().contains(prefix.address)) addresses.also.push_back(prefix);
        }
      }
    }
    out.push_back(std::move(addresses));
  }
  return out;
}

// Does it matter to a worker whose an address is that is another one's tunnel's?
bool knows_routes(const Config& config) {
  return config.inner_addresses_are_unique() ||
         std::ranges::any_of(config.subscribers, [](const SubscriberConfig& subscriber) {
           return !subscriber.routed.empty() || subscriber.external_address.has_value() ||
                  !subscriber.forwards.empty();
         });
}

}  // namespace

Control::Control(const Config& config, const std::vector<PortView>& ports,
                 const std::vector<uint16_t>& profiles, TunnelTable& tunnels,
                 rte_mempool* pool, std::vector<Link> links, const SteeringPlan& steering,
                 bool spreads, bool all_transmit, const std::vector<uint32_t>& handshake_cores)
    : config_(config),
      tunnels_(tunnels),
      owners_(tunnels, static_cast<unsigned>(links.size())),
      pool_(pool),
      links_(std::move(links)),
      steering_(steering),
      spreads_(spreads),
      all_transmit_(all_transmit),
      routes_matter_(links_.size() > 1 && knows_routes(config)),
      random_(fill_random),
      identity_(tunnel::make_identity(tunnel::PrivateKey{config.tunnel.private_key})),
      remotes_(identity_, keys_of(config), random64()),
      cookies_(identity_.public_key),
      sources_({config.tunnel.handshakes_per_second, config.tunnel.handshakes_burst},
               kSourcesMax, random64()),
      dhcp_(dhcp_pools(config)),
      arp_(arp_ports(config, ports), kNeighboursMax, *this),
      subscribers_(config.subscribers.size()),
      by_slot_(tunnels.slots()),
      free_slots_(links_.size()),
      hand_(tunnels.slots(), {config.tunnel.heartbeat_ns, config.tunnel.dead_after_ns}),
      nat_log_(names_of(config), nat_log_writer(config.nat.log)),
      balance_(static_cast<unsigned>(links_.size()),
               config.nat.allocation == Allocation::deterministic),
      handshakes_(identity_, remotes_, config.control_threads - 1, handshake_cores) {
  uint32_t forwards = 0;
  for (size_t i = 0; i < subscribers_.size(); ++i) {
    subscribers_[i].config = &config.subscribers[i];
    subscribers_[i].first_forward = forwards;
    forwards += static_cast<uint32_t>(config.subscribers[i].forwards.size());
    subscribers_[i].profile = profiles[i];
  }
  for (uint32_t slot = config.tunnel.max_tunnels; slot >= 1; --slot) {
    free_slots_[owners_.of(slot)].push_back(slot);
  }
}

Control::~Control() {
  for (const Link& link : links_) {
    for (Channel<ToControl>* ring : {link.from_worker, link.handshakes}) {
      ring->drain(ring->capacity(), [](const ToControl& item) {
        if (item.packet != nullptr) rte_pktmbuf_free(item.packet);
      });
    }
  }
  if (!move_) return;
  for (const Move::Untold& untold : move_->untold) rte_pktmbuf_free(untold.message.packet);
}

// Announced twice, two seconds apart (RFC 5227 §2.3): a link may take its time to come up.
void Control::start(uint64_t now_ns) {
  arp_.announce();
  announce_again_ns_ = now_ns + 2 * tunnel::kSecondNs;
  for (size_t port = 0; port < config_.ports.size(); ++port) {
    const auto& next_hop = config_.ports[port].next_hop;
    if (next_hop) arp_.keep(static_cast<unsigned>(port), *next_hop, now_ns);
  }
}

bool Control::tick(uint64_t now_ns) {
  bool has_more = false;
  tell_what_waits();
  for (asker_ = 0; asker_ < links_.size(); ++asker_) has_more |= take_items(now_ns);
  for (asker_ = 0; asker_ < links_.size(); ++asker_) has_more |= take_handshakes(now_ns);
  send_replies();
  has_more |= answer_handshakes(now_ns);
  send_replies();
  if (announce_again_ns_ != 0 && now_ns >= announce_again_ns_) {
    announce_again_ns_ = 0;
    arp_.announce();
  }
  arp_.tick(now_ns);
  expire_leases(now_ns);
  follow_move(now_ns);
  bring_slot_home(now_ns);
  if (all_transmit_ && links_.size() > 1 && config_.eal.balance) balance(now_ns);
  hand_.move(now_ns, tunnels_,
             [&](uint32_t slot) { follow(*by_slot_[slot], now_ns); });
  return has_more;
}

// Of one worker; true: it has more.
bool Control::take_items(uint64_t now_ns) {
  const auto most = static_cast<unsigned>(kItemsPerTickMax / links_.size());
  return links_[asker_].from_worker->drain(most, [&](const ToControl& item) {
    on_item(item, now_ns);
    if (item.packet == nullptr) return;
    ++counters_.packets_taken;
    rte_pktmbuf_free(item.packet);
  });
}

void Control::on_item(const ToControl& item, uint64_t now_ns) {
  switch (item.kind) {
    case ToControl::handshake:  // has a ring of its own
      return;
    case ToControl::dhcp:
      return on_dhcp(item, now_ns);
    case ToControl::arp:
      return arp_.on_packet(item.port,
                            {rte_pktmbuf_mtod(item.packet, const uint8_t*),
                             rte_pktmbuf_data_len(item.packet)},
                            now_ns);
    case ToControl::resolve:
      return arp_.resolve(item.port, item.address, now_ns);
    case ToControl::mapping:
      listed_mappings_.push_back(item);
      return;
    case ToControl::mappings_end:
      mappings_listed_ = true;
      return;
    case ToControl::block_granted:
    case ToControl::block_returned:
    case ToControl::limit_met:
      return nat_log_.on_item(item);
  }
}

void Control::list_mappings(uint32_t slot) {
  listed_mappings_.clear();
  mappings_listed_ = false;
  ToWorker message;
  message.kind = ToWorker::list_mappings;
  message.slot = slot;
  tell_owner(message);
}

// ---- Addresses ----

void Control::on_dhcp(const ToControl& item, uint64_t now_ns) {
  if (by_slot_[item.slot] == nullptr || by_slot_[item.slot]->epoch != item.epoch) return;
  Subscriber& subscriber = *by_slot_[item.slot];
  const auto query = dhcp::unwrap({rte_pktmbuf_mtod(item.packet, const uint8_t*),
                                   rte_pktmbuf_data_len(item.packet)});
  if (!query) return dhcp_.count_malformed();
  const SubscriberConfig& config = *subscriber.config;
  const dhcp::Outcome outcome =
      dhcp_.on_message(now_ns, config.public_key,
                       {static_cast<uint32_t>(config.pool), config.address}, query->message);
  if (outcome.exhausted) {
    ++counters_.dhcp_exhausted;
    if (subscriber.complained_ns == 0 || now_ns - subscriber.complained_ns > kComplainPeriodNs) {
      subscriber.complained_ns = now_ns;
      spdlog::warn("no address for {}: pool {} is exhausted", config.name,
                   config_.pools[config.pool].name);
    }
  }
  // A fixed address is the subscriber's with or without a lease.
  if (outcome.released && !config.address) set_address(lane_0_of(subscriber), {});
  if (outcome.leased) set_address(lane_0_of(subscriber), *outcome.leased);
  if (!outcome.reply) return;
  uint8_t bytes[dhcp::kPacketBytesMax];
  ToWorker message;
  message.kind = ToWorker::send_inner;
  message.slot = subscriber.slot;
  message.epoch = subscriber.epoch;
  message.packet = packet_of({bytes, dhcp::wrap(*outcome.reply, bytes)});
  if (message.packet != nullptr) tell_owner(message);
}

void Control::set_address(Subscriber& subscriber, Ipv4Address address) {
  // Told again at every renewal, in case the message was lost.
  const bool is_new = subscriber.address != address;
  ToWorker message = message_about(subscriber);
  message.kind = ToWorker::set_address;
  message.previous_address = subscriber.address;
  message.address = subscriber.address = address;
  tell_owner(message);
  tell_others(message, ToWorker::set_address_elsewhere);
  for (const auto& lane : subscriber.further) {
    if (lane != nullptr && lane->slot != 0) set_address(*lane, address);
  }
  if (!is_new) return;
  spdlog::info("tunnel {} of {}: {}", subscriber.slot, subscriber.config->name,
               address.is_zero() ? "address released" : "address " + address.to_string());
}

void Control::expire_leases(uint64_t now_ns) {
  dhcp::ExpiredLease expired[16];
  const size_t count = dhcp_.tick(now_ns, expired);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t position = remotes_.find(tunnel::PublicKey{expired[i].key});
    if (position == tunnel::Remotes::kNobody) continue;
    Subscriber& subscriber = subscribers_[position];
    if (subscriber.slot != 0 && !subscriber.config->address) set_address(subscriber, {});
  }
}

// ---- Neighbours ----

void Control::send_arp(unsigned port, const MacAddress& to, const ArpPacket& packet) {
  ToWorker message;
  message.kind = ToWorker::send_frame;
  message.port = static_cast<uint8_t>(port);
  message.mac = to;
  message.packet = packet_of({reinterpret_cast<const uint8_t*>(&packet), sizeof packet});
  if (message.packet != nullptr) tell(0, message);
}

void Control::neighbour_found(unsigned port, Ipv4Address address, const MacAddress& mac) {
  ToWorker message;
  message.kind = ToWorker::set_neighbour;
  message.port = static_cast<uint8_t>(port);
  message.address = address;
  message.mac = mac;
  tell_all(message);
}

void Control::neighbour_lost(unsigned port, Ipv4Address address) {
  ToWorker message;
  message.kind = ToWorker::lose_neighbour;
  message.port = static_cast<uint8_t>(port);
  message.address = address;
  tell_all(message);
}

// ---- To the workers ----

rte_mbuf* Control::packet_of(std::span<const uint8_t> bytes) {
  rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
  if (mbuf == nullptr) {
    ++counters_.no_buffer;
    return nullptr;
  }
  std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes.size())), bytes.data(),
              bytes.size());
  return mbuf;
}

namespace {

// Answers and the like, whose loss costs a retransmission; all else is state.
bool may_be_lost(ToWorker::Kind kind) {
  switch (kind) {
    case ToWorker::install_session:
    case ToWorker::send_frame:
    case ToWorker::send_inner:
    case ToWorker::heartbeat:
    case ToWorker::list_mappings:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Half of a ring is kept for state, and what state has no room there waits: a tunnel that its
// worker has not heard of would be deaf until it is given up.
void Control::tell(unsigned worker, const ToWorker& message) {
  Link& link = links_[worker];
  Channel<ToWorker>& ring = *link.to_worker;
  const bool is_state = !may_be_lost(message.kind);
  const bool has_room = is_state || ring.size() <= ring.capacity() / 2;
  if (link.waiting.empty() && has_room && ring.push(message)) {
    counters_.packets_given += message.packet != nullptr;
  } else if (is_state) {
    assert(message.packet == nullptr);
    link.waiting.push_back(message);
  } else {
    ++counters_.worker_ring_full;
    if (message.packet != nullptr) rte_pktmbuf_free(message.packet);
  }
}

void Control::tell_what_waits() {
  for (Link& link : links_) {
    while (!link.waiting.empty() && link.to_worker->push(link.waiting.front())) {
      link.waiting.pop_front();
    }
  }
}

void Control::tell_owner(const ToWorker& message) {
  if (must_wait(message.slot)) {
    move_->untold.push_back({message, std::nullopt});
  } else {
    tell(owners_.of(message.slot), message);
  }
}

void Control::tell_all(const ToWorker& message) {
  for (unsigned worker = 0; worker < links_.size(); ++worker) tell(worker, message);
}

// What a tunnel's owner has been told matters to the others too, if addresses do. Those of a
// subscriber lead to its lane 0.
void Control::tell_others(ToWorker message, ToWorker::Kind kind) {
  if (!routes_matter_ || message.lane != 0) return;
  if (must_wait(message.slot)) return move_->untold.push_back({message, kind});
  message.kind = kind;
  for (unsigned worker = 0; worker < links_.size(); ++worker) {
    if (worker != owners_.of(message.slot)) tell(worker, message);
  }
}

}  // namespace adit::gateway
