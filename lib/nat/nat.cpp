#include "lib/nat/nat.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "lib/nat/coarse_clock.h"
#include "lib/nat/tcp_state.h"

namespace adit::nat {
namespace {

constexpr Be16 kDnsPort = Be16::from_host(53);  // RFC 1035 §4.2.1

// Wrap-safe: the clock may pass 2^32 between the two.
constexpr bool is_more_than(uint32_t duration_s, uint32_t since_s, uint32_t now_s) {
  return static_cast<int32_t>(now_s - since_s - duration_s) > 0;
}

constexpr unsigned index_of(Protocol protocol) {
  return static_cast<unsigned>(protocol);
}

}  // namespace

size_t Nat::memory_bytes(const Settings& settings) {
  return Table::memory_bytes(settings.pool.size(), settings.sharers);
}

Nat::Nat(const Settings& settings, std::span<std::byte> memory, std::function<uint64_t()> random)
    : settings_(settings),
      random_(std::move(random)),
      table_(settings_.pool, memory, settings_.sharers, settings_.share),
      owners_(table_.total_units()),
      range_key_(settings_.deterministic_ports > 0 ? random_() : 0),
      ranges_away_(settings_.deterministic_ports > 0 ? table_.total_units() : 0),
      low_internal_end_(settings_.low_ports > 0 ? 1024 : 0) {
  assert(std::has_single_bit(settings_.first_block_ports));
  assert(settings_.first_block_ports >= kWindowPorts && settings_.first_block_ports <= 1024);
  const auto is_given = [&](uint32_t port) {
    return (port >= settings_.first_port && port <= settings_.last_port) ||
           port - settings_.first_low_port < settings_.low_ports;
  };
  for (uint32_t i = 0; i < settings_.pool.size(); ++i) {
    for (uint32_t port = 0; port < kPortsPerAddress; ++port) {
      if (!is_given(port)) table_.reserve(i, port);
    }
  }
  for (const ReservedPort& reserved : settings_.reserved) {
    const uint32_t index = table_.pool().index_of(reserved.address);
    if (index != PoolAddresses::kNone) table_.reserve(index, reserved.port);
  }
  const bool keeps_any_parity = std::ranges::any_of(settings_.profiles, &Profile::port_parity);
  table_.withdraw_reserved_windows(keeps_any_parity);
  withdraw_others_windows();
  make_low_ports();
}

Nat::Counts& Nat::Counts::operator+=(const Counts& other) {
  mappings_created += other.mappings_created;
  mappings_revived += other.mappings_revived;
  mappings_expired += other.mappings_expired;
  mappings_detached += other.mappings_detached;
  mappings_live += other.mappings_live;
  mappings_resting += other.mappings_resting;
  blocks_granted += other.blocks_granted;
  spilled += other.spilled;
  return *this;
}

// ---- Subscribers ----

void Nat::attach(Subscriber& subscriber, uint32_t tunnel_slot, uint16_t profile,
                 uint32_t now_s, uint32_t ordinal, Ipv4Address tied_to) {
  assert(!subscriber.attached && profile < settings_.profiles.size());
  subscriber = Subscriber{};
  subscriber.hash_key = random_();
  subscriber.tunnel_slot = tunnel_slot;
  subscriber.profile = profile;
  subscriber.tokens = profile_of(subscriber).limits.new_mappings_burst;
  subscriber.tokens_at_s = now_s;
  subscriber.attached = true;
  if (settings_.deterministic_ports > 0) assign_range(subscriber, ordinal);
  if (!tied_to.is_zero()) {
    assert(is_pool_address(tied_to));
    subscriber.pool_index = static_cast<uint16_t>(table_.pool().index_of(tied_to));
    subscriber.is_paired = subscriber.is_tied = true;
  }
  subscriber.hash_key = (subscriber.hash_key & ~uint64_t{1}) | profile_of(subscriber).port_parity;
}

void Nat::detach(Subscriber& subscriber, uint32_t now_s) {
  leave_blocks(subscriber, now_s);
  leave_low_ports(subscriber, now_s);
  subscriber = Subscriber{};
}

unsigned Nat::list(const Subscriber& subscriber, std::span<Mapping> out, uint32_t now_s) const {
  unsigned listed = 0;
  const auto add = [&](const Mapping& mapping) {
    if (!mapping.is_live() || is_idle(mapping, now_s) || listed == out.size()) return;
    out[listed++] = mapping;
  };
  for (const Subscriber::Block& block : subscriber.blocks) {
    table_.visit(block.first_unit(), block.units(), add);
  }
  if (subscriber.low_mappings > 0) {
    const Subscriber::Block low = low_block(subscriber.pool_index);
    table_.visit(low.first_unit(), low.units(), [&](const Mapping& mapping) {
      if (mapping.is_live() && low_owner(mapping) == &subscriber) add(mapping);
    });
  }
  return listed;
}

// ---- Lookups ----

void Nat::prefetch_outbound(const Subscriber& subscriber, Protocol protocol,
                            const Endpoint& internal) const {
  const uint64_t hash = hash_of(subscriber, protocol, internal);
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) continue;
    __builtin_prefetch(table_.unit_mappings(block.first_unit(), protocol) +
                       home_offset(hash, i, block.ports));
  }
}

Mapping* Nat::find_outbound(const Subscriber& subscriber, Protocol protocol,
                            const Endpoint& internal, uint32_t now_s) {
  Mapping* const mapping = locate(subscriber, protocol, internal);
  if (mapping == nullptr || !mapping->is_live() || expire_if_idle(*mapping, now_s)) return nullptr;
  return mapping;
}

Mapping* Nat::find_or_make_at_home(Subscriber& subscriber, Protocol protocol,
                                   const Endpoint& internal, uint32_t now_s) {
  if (Mapping* const known = locate(subscriber, protocol, internal)) {
    return known->is_live() && !expire_if_idle(*known, now_s) ? known : nullptr;
  }
  const Subscriber::Block& block = subscriber.blocks[0];
  if (block.ports == 0 || wants_low_port(protocol, internal.port)) return nullptr;
  if (subscriber.live_mappings >= profile_of(subscriber).limits.mappings) return nullptr;
  const Reach reach(hash_of(subscriber, protocol, internal), 0, block.ports);
  Mapping* const mapping =
      free_in_window(block.first_unit() + reach.home_window(), protocol, reach,
                     keeps_parity(subscriber.hash_key, protocol));
  if (mapping == nullptr || !take_token(subscriber, now_s)) return nullptr;
  occupy(*mapping, subscriber, block, reach, protocol, internal, now_s);
  return mapping;
}

Mapping* Nat::locate(const Subscriber& subscriber, Protocol protocol,
                     const Endpoint& internal) const {
  if (wants_low_port(protocol, internal.port)) [[unlikely]] {
    return locate_low(subscriber, protocol, internal);
  }
  const uint64_t hash = hash_of(subscriber, protocol, internal);
  const uint8_t tag = endpoint_tag(hash);
  const uint64_t key = packed(internal);
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) continue;
    const Reach reach(hash, i, block.ports);
    const Mapping& at_home = table_.unit_mappings(block.first_unit(), protocol)[reach.home];
    if (at_home.tag == tag && packed(at_home.internal) == key) {
      return const_cast<Mapping*>(&at_home);
    }
    const auto is_it = [key](const Mapping& it) { return packed(it.internal) == key; };
    if (Mapping* const found = locate_in_windows(block, protocol, reach, tag, is_it)) return found;
  }
  return nullptr;
}

template <typename IsIt>
Mapping* Nat::locate_in_windows(const Subscriber::Block& block, Protocol protocol,
                                const Reach& reach, uint8_t tag, IsIt is_it) const {
  const unsigned p = index_of(protocol);
  const uint32_t first = block.first_unit();
  const bool any_spilled = table_.window(first + reach.home_window()).spilled[p] > 0;
  const unsigned windows = any_spilled ? reach.windows() : 1;
  for (unsigned step = 0; step < windows; ++step) {
    const uint32_t unit = first + reach.window(step);
    const Mapping* const mappings = table_.unit_mappings(unit, protocol);
    unsigned candidates = matching_tags(table_.window(unit).tags[p], tag);
    for (; candidates != 0; candidates &= candidates - 1) {
      const Mapping& candidate = mappings[std::countr_zero(candidates)];
      if (is_it(candidate)) return const_cast<Mapping*>(&candidate);
    }
  }
  return nullptr;
}

// The same internal endpoint may stand there for another subscriber.
Mapping* Nat::locate_low(const Subscriber& subscriber, Protocol protocol,
                         const Endpoint& internal) const {
  if (subscriber.low_mappings == 0) return nullptr;
  const Subscriber::Block block = low_block(subscriber.pool_index);
  const uint64_t hash = hash_of(subscriber, protocol, internal);
  return locate_in_windows(block, protocol, Reach(hash, 0, block.ports), endpoint_tag(hash),
                           [&](const Mapping& it) {
                             return it.internal == internal && low_owner(it) == &subscriber;
                           });
}

Mapping* Nat::find_inbound(Ipv4Address address, Protocol protocol, Be16 port, uint32_t now_s) {
  Mapping* const mapping = entry(address, protocol, port);
  if (mapping == nullptr || !mapping->is_live() || expire_if_idle(*mapping, now_s)) return nullptr;
  return mapping;
}

bool Nat::is_pool_address(Ipv4Address address) const {
  return table_.pool().index_of(address) != PoolAddresses::kNone;
}

// ---- Use ----

void Nat::on_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s) {
  const bool is_tcp = mapping.protocol == index_of(Protocol::tcp);
  mapping.is_dns_only &= remote.port == kDnsPort;
  if (!is_tcp || track_tcp_outbound(mapping, remote, tcp_flags)) mapping.last_seen_s = now_s;
}

void Nat::on_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s) {
  const bool is_tcp = mapping.protocol == index_of(Protocol::tcp);
  const TcpState before = mapping.tcp_state;
  const bool is_use = !is_tcp || track_tcp_inbound(mapping, remote, tcp_flags);
  if (is_use && profile_of(mapping).inbound_refresh) {
    mapping.last_seen_s = now_s;
  } else if (mapping.tcp_state != before && !mapping.is_forward) {
    hasten(mapping, now_s);  // another timer, and that one runs already
  }
}

// ---- A mapping's life: free, live, resting, free ----

Mapping* Nat::create_outbound(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                              uint32_t now_s, Refusal& refusal, const Endpoint* wanted) {
  assert(subscriber.attached);
  refusal = Refusal::none;
  if (lacks_range(subscriber) && !hold_range(subscriber, now_s)) {
    refusal = subscriber.is_paired ? Refusal::range_away : Refusal::pool_exhausted;
    return nullptr;
  }
  Mapping* const known = locate(subscriber, protocol, internal);
  if (known != nullptr && known->is_live() && !expire_if_idle(*known, now_s)) return known;
  if (subscriber.live_mappings >= profile_of(subscriber).limits.mappings) {
    refusal = Refusal::mapping_limit;
    return nullptr;
  }
  if (!take_token(subscriber, now_s)) {
    refusal = Refusal::rate_limited;
    return nullptr;
  }
  if (known != nullptr) {
    revive(subscriber, *known, now_s);
    return known;
  }
  if (wants_low_port(protocol, internal.port)) {
    return create_low(subscriber, protocol, internal, now_s, refusal);
  }

  const uint64_t hash = hash_of(subscriber, protocol, internal);
  if (unsigned index = 0; wanted != nullptr) {
    if (Mapping* place = find_wanted(subscriber, protocol, hash, *wanted, now_s, index)) {
      const Subscriber::Block& block = subscriber.blocks[index];
      occupy(*place, subscriber, block, Reach(hash, index, block.ports), protocol, internal, now_s);
      return place;
    }
  }
  unsigned gap = kBlocksMax;  // the lowest block that is not there
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) {
      gap = std::min(gap, i);
      continue;
    }
    const Reach reach(hash, i, block.ports);
    Mapping* const mapping = find_free(subscriber, block, protocol, reach, now_s);
    if (mapping == nullptr) continue;
    occupy(*mapping, subscriber, block, reach, protocol, internal, now_s);
    return mapping;
  }
  if (!grant_block(subscriber, gap, refusal)) return nullptr;
  const Subscriber::Block& block = subscriber.blocks[gap];
  const Reach reach(hash, gap, block.ports);
  Mapping* const mapping = find_free(subscriber, block, protocol, reach, now_s);
  assert(mapping != nullptr);  // no window of a block granted at random is wholly reserved
  occupy(*mapping, subscriber, block, reach, protocol, internal, now_s);
  return mapping;
}

bool Nat::take_token(Subscriber& subscriber, uint32_t now_s) const {
  const Limits& limits = profile_of(subscriber).limits;
  const uint64_t earned = uint64_t{elapsed_s(subscriber.tokens_at_s, now_s)} *
                          limits.new_mappings_per_second;
  subscriber.tokens = static_cast<uint32_t>(
      std::min<uint64_t>(subscriber.tokens + earned, limits.new_mappings_burst));
  if (earned != 0) subscriber.tokens_at_s = now_s;
  if (subscriber.tokens == 0) return false;
  --subscriber.tokens;
  return true;
}

// The port at home's place in the window if it is free, else the next one that is. Counted from
// home, whose parity is the wanted one: every port, or every other.
Mapping* Nat::free_in_window(uint32_t unit, Protocol protocol, const Reach& reach,
                             bool keeps_parity) {
  const auto& tags = table_.window(unit).tags[index_of(protocol)];
  const auto free = static_cast<uint16_t>(matching_tags(tags, kFreeTag));
  const int start = static_cast<int>(reach.home % kWindowPorts);
  const unsigned from_start = std::rotr(free, start) & (keeps_parity ? 0x5555u : 0xffffu);
  if (from_start == 0) return nullptr;
  return table_.unit_mappings(unit, protocol) +
         (std::countr_zero(from_start) + start) % int{kWindowPorts};
}

Mapping* Nat::find_free(const Subscriber& subscriber, const Subscriber::Block& block,
                        Protocol protocol, const Reach& reach, uint32_t now_s) {
  const bool parity = keeps_parity(subscriber.hash_key, protocol);
  const unsigned stride = parity ? 2 : 1;
  for (unsigned step = 0; step < reach.windows(); ++step) {
    const uint32_t unit = block.first_unit() + reach.window(step);
    if (Mapping* const mapping = free_in_window(unit, protocol, reach, parity)) return mapping;
    Mapping* const mappings = table_.unit_mappings(unit, protocol);
    // None is, as far as the line knows: time may have freed one.
    for (unsigned i = 0; i < kWindowPorts; i += stride) {
      Mapping& mapping = mappings[(reach.home + i) % kWindowPorts];
      if (mapping.state != MappingState::reserved) settle(mapping, now_s);
      if (mapping.state == MappingState::free) return &mapping;
    }
  }
  return nullptr;
}

void Nat::occupy(Mapping& mapping, Subscriber& subscriber, const Subscriber::Block& block,
                 const Reach& reach, Protocol protocol, const Endpoint& internal, uint32_t now_s) {
  const uint32_t pool_index = block.first / kPortsPerAddress;
  const uint32_t first = block.first_unit();
  const auto offset = static_cast<uint32_t>(&mapping - table_.unit_mappings(first, protocol));
  const auto port = static_cast<uint16_t>(block.first % kPortsPerAddress + offset);

  mapping = Mapping{};
  bind_endpoints(mapping, internal, {settings_.pool[pool_index], Be16::from_host(port)});
  mapping.pool_index = static_cast<uint16_t>(pool_index);
  mapping.protocol = static_cast<uint8_t>(protocol);
  mapping.tag = endpoint_tag(hash_of(subscriber, protocol, internal));
  mapping.home_window = static_cast<uint16_t>(reach.home_window());

  const unsigned p = index_of(protocol);
  const uint32_t window = offset / kWindowPorts;
  table_.window(first + window).tags[p][offset % kWindowPorts] = mapping.tag;
  if (window != mapping.home_window) {
    ++table_.window(first + mapping.home_window).spilled[p];
    ++counts_.spilled;
  }
  ++table_.block(first).used;
  ++counts_.mappings_created;
  start_life(subscriber, mapping, now_s);
}

void Nat::revive(Subscriber& subscriber, Mapping& mapping, uint32_t now_s) {
  mapping.tcp_state = TcpState::closed;
  mapping.tcp_remote = Endpoint{};
  mapping.tcp_many_remotes = false;
  --counts_.mappings_resting;
  ++counts_.mappings_revived;
  start_life(subscriber, mapping, now_s);
}

void Nat::start_life(Subscriber& subscriber, Mapping& mapping, uint32_t now_s) {
  mapping.state = MappingState::live;
  mapping.is_dns_only = true;  // until its first packet says otherwise
  mapping.tunnel_slot = subscriber.tunnel_slot;
  mapping.profile = subscriber.profile;
  mapping.created_s = now_s;
  mapping.held_until_s = 0;
  mapping.is_open = false;
  mapping.last_seen_s = now_s;
  hasten(mapping, now_s);
  ++subscriber.live_mappings;
  ++counts_.mappings_live;
}

// The clock counts whole seconds, so that "more than" keeps a mapping at least as long as the RFCs
// demand.
bool Nat::is_idle(const Mapping& mapping, uint32_t now_s) const {
  return is_more_than(timeout_s(mapping), mapping.last_seen_s, now_s) && !is_held(mapping, now_s);
}

// Returns whether it is live no longer.
bool Nat::expire_if_idle(Mapping& mapping, uint32_t now_s) {
  if (!is_idle(mapping, now_s)) return false;
  uint32_t last_s = mapping.last_seen_s + timeout_s(mapping);
  if (mapping.held_until_s != 0 && static_cast<int32_t>(mapping.held_until_s - last_s) > 0) {
    last_s = mapping.held_until_s;
  }
  rest(mapping, last_s + 1);
  ++counts_.mappings_expired;
  return true;
}

uint32_t Nat::timeout_s(const Mapping& mapping) const {
  const Timeouts& timeouts = profile_of(mapping).timeouts;
  switch (static_cast<Protocol>(mapping.protocol)) {
    case Protocol::udp:
      return mapping.is_dns_only && timeouts.dns_s != 0 ? timeouts.dns_s : timeouts.udp_s;
    case Protocol::icmp:
      return timeouts.icmp_s;
    case Protocol::tcp:
      break;
  }
  switch (mapping.tcp_many_remotes ? TcpPhase::established : phase_of(mapping.tcp_state)) {
    case TcpPhase::opening:
      return timeouts.tcp_opening_s;
    case TcpPhase::established:
      return timeouts.tcp_established_s;
    case TcpPhase::closing:
      break;
  }
  return timeouts.tcp_closing_s;
}

// Its tunnel has gone.
void Nat::end_life(Mapping& mapping, uint32_t now_s) {
  if (!mapping.is_live() || expire_if_idle(mapping, now_s)) return;
  rest(mapping, now_s);
  ++counts_.mappings_detached;
}

void Nat::rest(Mapping& mapping, uint32_t released_s) {
  mapping.state = MappingState::resting;
  mapping.tunnel_slot = kNoTunnel;
  mapping.last_seen_s = released_s;
  hasten(mapping, released_s);
  --counts_.mappings_live;
  ++counts_.mappings_resting;
  Subscriber* const owner = is_low(mapping)
                                ? low_owner(mapping)
                                : owners_[table_.block_unit(Table::unit_of(mapping))];
  if (owner != nullptr) --owner->live_mappings;
}

// Brings an entry to the state that the time demands.
void Nat::settle(Mapping& mapping, uint32_t now_s) {
  if (mapping.is_live()) expire_if_idle(mapping, now_s);
  const uint32_t rest_s = profile_of(mapping).timeouts.port_rest_s;
  const bool rested = mapping.state == MappingState::resting &&
                      is_more_than(rest_s, mapping.last_seen_s, now_s);
  if (rested) free(mapping);
}

void Nat::free(Mapping& mapping) {
  const unsigned p = mapping.protocol;
  const uint32_t unit = Table::unit_of(mapping);
  const uint32_t first = table_.block_unit(unit);
  table_.window(unit).tags[p][mapping.external.port.host() % kWindowPorts] = kFreeTag;
  if (unit - first != mapping.home_window) {
    --table_.window(first + mapping.home_window).spilled[p];
    --counts_.spilled;
  }
  --table_.block(first).used;
  --counts_.mappings_resting;
  if (is_low(mapping)) {
    if (Subscriber* const owner = std::exchange(low_owner(mapping), nullptr)) {
      --owner->low_mappings;
    }
  }
  mapping.state = MappingState::free;
  mapping.tag = kFreeTag;
}

}  // namespace adit::nat
