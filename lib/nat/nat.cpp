#include "lib/nat/nat.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "lib/nat/tcp_state.h"

namespace adit::nat {
namespace {

constexpr uint32_t kNoTunnel = ~uint32_t{0};
constexpr Be16 kDnsPort = Be16::from_host(53);  // RFC 1035 §4.2.1
constexpr unsigned kRandomAddressTries = 4;  // 16 bits of one random number each

// Wrap-safe: the clock may pass 2^32 between the two.
constexpr bool is_more_than(uint32_t duration_s, uint32_t since_s, uint32_t now_s) {
  return static_cast<int32_t>(now_s - since_s - duration_s) > 0;
}

constexpr unsigned index_of(Protocol protocol) {
  return static_cast<unsigned>(protocol);
}

constexpr uint32_t first_unit(const Subscriber::Block& block) {
  return block.first / kWindowPorts;
}

// Calls `visit` with every mapping of a window whose tag is not that of a free one.
template <typename TableType, typename Visit>
void visit_window(TableType& table, uint32_t unit, Visit&& visit) {
  for (unsigned p = 0; p < kProtocols; ++p) {
    auto* const mappings = table.unit_mappings(unit, static_cast<Protocol>(p));
    unsigned used = 0xffffu & ~matching_tags(table.window(unit).tags[p], kFreeTag);
    for (; used != 0; used &= used - 1) visit(mappings[std::countr_zero(used)]);
  }
}

}  // namespace

size_t Nat::memory_bytes(const Settings& settings) {
  return Table::memory_bytes(settings.pool.size());
}

Nat::Nat(const Settings& settings, std::span<std::byte> memory, std::function<uint64_t()> random)
    : settings_(settings),
      random_(std::move(random)),
      table_(settings_.pool, memory),
      owners_(table_.total_units()) {
  assert(std::has_single_bit(settings_.first_block_ports));
  assert(settings_.first_block_ports >= kWindowPorts && settings_.first_block_ports <= 1024);
  assert(settings_.blocks_per_subscriber >= 1 && settings_.blocks_per_subscriber <= kBlocksMax);
  for (uint32_t i = 0; i < settings_.pool.size(); ++i) {
    for (uint32_t port = 0; port < kPortsPerAddress; ++port) {
      if (port < settings_.first_port || port > settings_.last_port) table_.reserve(i, port);
    }
  }
  for (const ReservedPort& reserved : settings_.reserved) {
    const std::optional<uint16_t> index = table_.pool_index(reserved.address);
    if (index) table_.reserve(*index, reserved.port);
  }
  table_.withdraw_reserved_windows();
}

// ---- Subscribers ----

void Nat::attach(Subscriber& subscriber, uint32_t tunnel_slot, uint16_t limits_profile,
                 uint32_t now_s) {
  assert(!subscriber.attached && limits_profile < settings_.limits.size());
  subscriber = Subscriber{};
  subscriber.hash_key = random_();
  subscriber.tunnel_slot = tunnel_slot;
  subscriber.limits_profile = limits_profile;
  subscriber.tokens = settings_.limits[limits_profile].new_mappings_burst;
  subscriber.tokens_at_s = now_s;
  subscriber.attached = true;
}

void Nat::detach(Subscriber& subscriber, uint32_t now_s) {
  for (const Subscriber::Block& block : subscriber.blocks) {
    if (block.ports == 0) continue;
    const uint32_t first = first_unit(block);
    for (uint32_t unit = first; unit < first + block.ports / kWindowPorts; ++unit) {
      visit_window(table_, unit, [&](Mapping& mapping) {
        if (!mapping.is_live() || expire_if_idle(mapping, now_s)) return;
        rest(mapping, now_s);
        ++counts_.mappings_detached;
      });
    }
    owners_[first] = nullptr;
  }
  subscriber = Subscriber{};
}

unsigned Nat::list(const Subscriber& subscriber, std::span<Mapping> out, uint32_t now_s) const {
  unsigned listed = 0;
  for (const Subscriber::Block& block : subscriber.blocks) {
    const uint32_t first = first_unit(block);
    for (uint32_t unit = first; unit < first + block.ports / kWindowPorts; ++unit) {
      visit_window(table_, unit, [&](const Mapping& mapping) {
        if (!mapping.is_live() || is_idle(mapping, now_s) || listed == out.size()) return;
        out[listed++] = mapping;
      });
    }
  }
  return listed;
}

// ---- Lookups ----

void Nat::prefetch_outbound(const Subscriber& subscriber, Protocol protocol,
                            const Endpoint& internal) const {
  const uint64_t hash = hash_endpoint(subscriber.hash_key, protocol, internal);
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) continue;
    __builtin_prefetch(table_.unit_mappings(first_unit(block), protocol) +
                       home_offset(hash, i, block.ports));
  }
}

Mapping* Nat::find_outbound(const Subscriber& subscriber, Protocol protocol,
                            const Endpoint& internal, uint32_t now_s) {
  Mapping* const mapping = locate(subscriber, protocol, internal);
  if (mapping == nullptr || !mapping->is_live() || expire_if_idle(*mapping, now_s)) return nullptr;
  return mapping;
}

Mapping* Nat::locate(const Subscriber& subscriber, Protocol protocol,
                     const Endpoint& internal) const {
  const uint64_t hash = hash_endpoint(subscriber.hash_key, protocol, internal);
  const uint8_t tag = endpoint_tag(hash);
  const uint64_t key = packed(internal);
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) continue;
    const Reach reach(hash, i, block.ports);
    const Mapping& at_home = table_.unit_mappings(first_unit(block), protocol)[reach.home];
    if (at_home.tag == tag && packed(at_home.internal) == key) {
      return const_cast<Mapping*>(&at_home);
    }
    if (Mapping* const found = locate_in_windows(block, protocol, reach, tag, key)) return found;
  }
  return nullptr;
}

Mapping* Nat::locate_in_windows(const Subscriber::Block& block, Protocol protocol,
                                const Reach& reach, uint8_t tag, uint64_t key) const {
  const unsigned p = index_of(protocol);
  const uint32_t first = first_unit(block);
  const bool any_spilled = table_.window(first + reach.home_window()).spilled[p] > 0;
  const unsigned windows = any_spilled ? reach.windows() : 1;
  for (unsigned step = 0; step < windows; ++step) {
    const uint32_t unit = first + reach.window(step);
    const Mapping* const mappings = table_.unit_mappings(unit, protocol);
    unsigned candidates = matching_tags(table_.window(unit).tags[p], tag);
    for (; candidates != 0; candidates &= candidates - 1) {
      const Mapping& candidate = mappings[std::countr_zero(candidates)];
      if (packed(candidate.internal) == key) return const_cast<Mapping*>(&candidate);
    }
  }
  return nullptr;
}

void Nat::prefetch_inbound(Ipv4Address address, Protocol protocol, Be16 port) const {
  const std::optional<uint16_t> index = table_.pool_index(address);
  if (index) __builtin_prefetch(&table_.mapping(*index, protocol, port.host()));
}

Mapping* Nat::find_inbound(Ipv4Address address, Protocol protocol, Be16 port, uint32_t now_s) {
  const std::optional<uint16_t> index = table_.pool_index(address);
  if (!index) return nullptr;
  Mapping& mapping = table_.mapping(*index, protocol, port.host());
  return mapping.is_live() && !expire_if_idle(mapping, now_s) ? &mapping : nullptr;
}

bool Nat::is_pool_address(Ipv4Address address) const {
  return table_.pool_index(address).has_value();
}

// ---- Use ----

void Nat::on_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s) {
  const bool is_tcp = mapping.protocol == index_of(Protocol::tcp);
  mapping.is_dns_only &= remote.port == kDnsPort;
  if (!is_tcp || track_tcp_outbound(mapping, remote, tcp_flags)) mapping.last_seen_s = now_s;
}

void Nat::on_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s) {
  const bool is_tcp = mapping.protocol == index_of(Protocol::tcp);
  const bool is_use = !is_tcp || track_tcp_inbound(mapping, remote, tcp_flags);
  if (is_use && settings_.inbound_refresh) mapping.last_seen_s = now_s;
}

// ---- A mapping's life: free, live, resting, free ----

Mapping* Nat::create_outbound(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                              uint32_t now_s, Refusal& refusal) {
  assert(subscriber.attached);
  refusal = Refusal::none;
  Mapping* const known = locate(subscriber, protocol, internal);
  if (known != nullptr && known->is_live() && !expire_if_idle(*known, now_s)) return known;
  if (subscriber.live_mappings >= settings_.limits[subscriber.limits_profile].mappings) {
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

  const uint64_t hash = hash_endpoint(subscriber.hash_key, protocol, internal);
  unsigned gap = kBlocksMax;  // the lowest block that is not there
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    if (block.ports == 0) {
      gap = std::min(gap, i);
      continue;
    }
    Mapping* const mapping = find_free(block, protocol, Reach(hash, i, block.ports), now_s);
    if (mapping == nullptr) continue;
    occupy(*mapping, subscriber, i, protocol, internal, now_s);
    return mapping;
  }
  if (!grant_block(subscriber, gap, refusal)) return nullptr;
  const Subscriber::Block& block = subscriber.blocks[gap];
  Mapping* const mapping = find_free(block, protocol, Reach(hash, gap, block.ports), now_s);
  assert(mapping != nullptr);  // no window of a block is wholly reserved
  occupy(*mapping, subscriber, gap, protocol, internal, now_s);
  return mapping;
}

bool Nat::take_token(Subscriber& subscriber, uint32_t now_s) const {
  const Limits& limits = settings_.limits[subscriber.limits_profile];
  const uint32_t elapsed_s = now_s - subscriber.tokens_at_s;
  const uint64_t tokens = subscriber.tokens + uint64_t{elapsed_s} * limits.new_mappings_per_second;
  subscriber.tokens = static_cast<uint32_t>(std::min<uint64_t>(tokens, limits.new_mappings_burst));
  subscriber.tokens_at_s = now_s;
  if (subscriber.tokens == 0) return false;
  --subscriber.tokens;
  return true;
}

Mapping* Nat::find_free(const Subscriber::Block& block, Protocol protocol, const Reach& reach,
                        uint32_t now_s) {
  for (unsigned step = 0; step < reach.windows(); ++step) {
    const uint32_t unit = first_unit(block) + reach.window(step);
    Mapping* const mappings = table_.unit_mappings(unit, protocol);
    const auto& tags = table_.window(unit).tags[index_of(protocol)];
    // The port at home's place in the window if it is free, else the next one that is.
    const auto free = static_cast<uint16_t>(matching_tags(tags, kFreeTag));
    const int start = static_cast<int>(reach.home % kWindowPorts);
    if (free != 0) {
      return &mappings[(std::countr_zero(std::rotr(free, start)) + start) % int{kWindowPorts}];
    }
    // None is, as far as the line knows: time may have freed one.
    for (unsigned i = 0; i < kWindowPorts; ++i) {
      Mapping& mapping = mappings[(reach.home + i) % kWindowPorts];
      if (mapping.state != MappingState::reserved) settle(mapping, now_s);
      if (mapping.state == MappingState::free) return &mapping;
    }
  }
  return nullptr;
}

void Nat::occupy(Mapping& mapping, Subscriber& subscriber, unsigned block_index, Protocol protocol,
                 const Endpoint& internal, uint32_t now_s) {
  const Subscriber::Block& block = subscriber.blocks[block_index];
  const uint64_t hash = hash_endpoint(subscriber.hash_key, protocol, internal);
  const uint32_t pool_index = block.first / kPortsPerAddress;
  const uint32_t first = first_unit(block);
  const auto offset = static_cast<uint32_t>(&mapping - table_.unit_mappings(first, protocol));
  const auto port = static_cast<uint16_t>(block.first % kPortsPerAddress + offset);

  mapping = Mapping{};
  bind_endpoints(mapping, internal, {settings_.pool[pool_index], Be16::from_host(port)});
  mapping.pool_index = static_cast<uint16_t>(pool_index);
  mapping.protocol = static_cast<uint8_t>(protocol);
  mapping.tag = endpoint_tag(hash);
  mapping.home_window = static_cast<uint16_t>(Reach(hash, block_index, block.ports).home_window());

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
  mapping.created_s = now_s;
  mapping.last_seen_s = now_s;
  ++subscriber.live_mappings;
  ++counts_.mappings_live;
}

// The clock counts whole seconds, so that "more than" keeps a mapping at least as long as the RFCs
// demand.
bool Nat::is_idle(const Mapping& mapping, uint32_t now_s) const {
  return is_more_than(timeout_s(mapping), mapping.last_seen_s, now_s);
}

// Returns whether it is live no longer.
bool Nat::expire_if_idle(Mapping& mapping, uint32_t now_s) {
  if (!is_idle(mapping, now_s)) return false;
  rest(mapping, mapping.last_seen_s + timeout_s(mapping) + 1);
  ++counts_.mappings_expired;
  return true;
}

uint32_t Nat::timeout_s(const Mapping& mapping) const {
  const Timeouts& timeouts = settings_.timeouts;
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

void Nat::rest(Mapping& mapping, uint32_t released_s) {
  mapping.state = MappingState::resting;
  mapping.tunnel_slot = kNoTunnel;
  mapping.last_seen_s = released_s;
  --counts_.mappings_live;
  ++counts_.mappings_resting;
  Subscriber* const owner = owners_[table_.block_unit(Table::unit_of(mapping))];
  if (owner != nullptr) --owner->live_mappings;
}

// Brings an entry to the state that the time demands.
void Nat::settle(Mapping& mapping, uint32_t now_s) {
  if (mapping.is_live()) expire_if_idle(mapping, now_s);
  const bool rested = mapping.state == MappingState::resting &&
                      is_more_than(settings_.timeouts.port_rest_s, mapping.last_seen_s, now_s);
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
  mapping.state = MappingState::free;
  mapping.tag = kFreeTag;
}

// ---- Blocks ----

bool Nat::grant_block(Subscriber& subscriber, unsigned index, Refusal& refusal) {
  const bool has_block = std::ranges::any_of(
      subscriber.blocks, [](const Subscriber::Block& block) { return block.ports != 0; });
  refusal = has_block ? Refusal::port_limit : Refusal::pool_exhausted;
  if (index >= settings_.blocks_per_subscriber) return false;
  const uint16_t ports = static_cast<uint16_t>(settings_.first_block_ports << index);
  const unsigned units = ports / kWindowPorts;
  uint32_t first = 0;
  if (!take_units(subscriber, units, first)) return false;
  refusal = Refusal::none;

  for (unsigned i = 0; i < units; ++i) {
    table_.window(first + i).block = static_cast<uint16_t>(first % kUnitsPerAddress);
  }
  table_.block(first) = {.ports = ports, .used = 0, .granted_at = granted_blocks_};
  table_.granted(granted_blocks_++) = first;
  granted_ports_ += ports;
  counts_.blocks_granted = granted_blocks_;
  owners_[first] = &subscriber;
  subscriber.blocks[index] = {.first = first * kWindowPorts, .ports = ports, .unused = 0};
  subscriber.pool_index = static_cast<uint16_t>(first / kUnitsPerAddress);
  subscriber.is_paired = true;
  return true;
}

// A subscriber with a block stays on its address (RFC 4787 REQ-2). One without prefers the address
// it had; else any with room, at random so that the pool fills evenly.
bool Nat::take_units(const Subscriber& subscriber, unsigned units, uint32_t& first_unit) {
  const uint64_t where = random_();
  const auto take_at = [&](uint32_t pool_index) {
    const std::optional<uint16_t> unit = table_.units(pool_index).take(units, where);
    if (unit) first_unit = pool_index * kUnitsPerAddress + *unit;
    return unit.has_value();
  };
  if (subscriber.is_paired && take_at(subscriber.pool_index)) return true;
  const bool has_block = std::ranges::any_of(
      subscriber.blocks, [](const Subscriber::Block& block) { return block.ports != 0; });
  const auto addresses = static_cast<uint32_t>(settings_.pool.size());
  if (has_block || addresses == 0) return false;

  const uint64_t which = random_();
  uint32_t pool_index = 0;
  for (unsigned i = 0; i < kRandomAddressTries; ++i) {
    pool_index = static_cast<uint32_t>((which >> 16 * i & 0xffff) * addresses >> 16);
    if (take_at(pool_index)) return true;
  }
  for (uint32_t i = 1; i < addresses; ++i) {
    if (take_at((pool_index + i) % addresses)) return true;
  }
  return false;
}

void Nat::return_block(uint32_t unit) {
  BlockRecord& block = table_.block(unit);
  if (Subscriber* const owner = owners_[unit]) {
    for (Subscriber::Block& owned : owner->blocks) {
      if (owned.ports != 0 && first_unit(owned) == unit) owned = Subscriber::Block{};
    }
    owners_[unit] = nullptr;
  }
  // The list stays dense: its last entry fills the gap.
  const uint32_t last = table_.granted(--granted_blocks_);
  table_.granted(block.granted_at) = last;
  table_.block(last).granted_at = block.granted_at;
  granted_ports_ -= block.ports;
  counts_.blocks_granted = granted_blocks_;
  table_.units(unit / kUnitsPerAddress)
      .give_back(unit % kUnitsPerAddress, block.ports / kWindowPorts);
  block = BlockRecord{};
}

uint64_t Nat::granted_entries() const {
  return granted_ports_ * kProtocols;
}

unsigned Nat::sweep(uint32_t now_s, unsigned entries) {
  constexpr unsigned kWindowEntries = kWindowPorts * kProtocols;
  const uint64_t expired_before = counts_.mappings_expired;
  uint64_t windows = std::min((uint64_t{entries} + kWindowEntries - 1) / kWindowEntries,
                              granted_ports_ / kWindowPorts);
  for (; windows > 0 && granted_blocks_ > 0; --windows) {
    if (hand_block_ >= granted_blocks_) hand_block_ = 0;
    const uint32_t unit = table_.granted(hand_block_);
    const BlockRecord& block = table_.block(unit);
    visit_window(table_, unit + hand_window_, [&](Mapping& mapping) { settle(mapping, now_s); });
    if (++hand_window_ < block.ports / kWindowPorts) continue;
    hand_window_ = 0;
    // Blocks return here only, so that the one which fills the gap in the list comes next.
    if (block.used == 0) {
      return_block(unit);
    } else {
      ++hand_block_;
    }
  }
  return static_cast<unsigned>(counts_.mappings_expired - expired_before);
}

}  // namespace adit::nat
