// Which blocks a subscriber has: granted when it needs them, returned by the sweep when all their
// ports have rested.
#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "lib/nat/nat.h"

namespace adit::nat {
namespace {

constexpr unsigned kRandomAddressTries = 4;  // 16 bits of one random number each

}  // namespace

// Holds ports of an address already, so that it must stay there, or was told to.
bool Nat::is_bound(const Subscriber& subscriber) {
  return subscriber.is_tied || subscriber.low_mappings > 0 ||
         std::ranges::any_of(subscriber.blocks,
                             [](const Subscriber::Block& block) { return block.ports != 0; });
}

bool Nat::grant_block(Subscriber& subscriber, unsigned index, Refusal& refusal) {
  refusal = is_bound(subscriber) ? Refusal::port_limit : Refusal::pool_exhausted;
  const unsigned blocks_max = settings_.deterministic_ports > 0
                                  ? 1
                                  : profile_of(subscriber).limits.blocks;
  if (index >= blocks_max) return false;
  const uint16_t ports = static_cast<uint16_t>(settings_.first_block_ports << index);
  const unsigned units = ports / kWindowPorts;
  uint32_t first = 0;
  if (!take_units(subscriber, units, first)) return false;
  refusal = Refusal::none;
  enlist_block(first, ports);
  owners_[first] = &subscriber;
  subscriber.blocks[index] = {.first = first * kWindowPorts, .ports = ports, .unused = 0};
  subscriber.pool_index = static_cast<uint16_t>(first / kUnitsPerAddress);
  subscriber.is_paired = true;
  if (watch_) tell_block(true, first, subscriber.tunnel_slot);
  return true;
}

void Nat::tell_block(bool is_granted, uint32_t unit, uint32_t tunnel_slot) {
  const auto port = static_cast<uint16_t>(unit % kUnitsPerAddress * kWindowPorts);
  watch_({.is_granted = is_granted,
          .ports = table_.block(unit).ports,
          .first = {settings_.pool[unit / kUnitsPerAddress], Be16::from_host(port)},
          .tunnel_slot = tunnel_slot});
}

void Nat::enlist_block(uint32_t unit, uint16_t ports) {
  for (unsigned i = 0; i < ports / kWindowPorts; ++i) {
    table_.window(unit + i).block = static_cast<uint16_t>(unit % kUnitsPerAddress);
  }
  table_.block(unit) = {.ports = ports, .used = 0, .granted_at = 0};
  keep_block(unit);
}

void Nat::keep_block(uint32_t unit) {
  BlockRecord& block = table_.block(unit);
  block.granted_at = granted_blocks_;
  table_.granted(granted_blocks_++) = unit;
  granted_ports_ += block.ports;
  counts_.blocks_granted = granted_blocks_;
}

// The list stays dense: its last entry fills the gap. Where the sweep is in one of the two, it
// begins anew there.
void Nat::unlist_block(uint32_t unit) {
  const BlockRecord& block = table_.block(unit);
  const uint32_t end = --granted_blocks_;
  if (hand_block_ == block.granted_at || hand_block_ == end) hand_window_ = 0;
  const uint32_t last = table_.granted(end);
  table_.granted(block.granted_at) = last;
  table_.block(last).granted_at = block.granted_at;
  granted_ports_ -= block.ports;
  counts_.blocks_granted = granted_blocks_;
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
  const auto addresses = static_cast<uint32_t>(settings_.pool.size());
  if (is_bound(subscriber) || addresses == 0) return false;

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

void Nat::withdraw_others_windows() {
  assert(settings_.shares.empty() || settings_.shares.size() == kUnitsPerAddress);
  for (uint32_t i = 0; i < settings_.pool.size(); ++i) {
    for (unsigned unit = 0; unit < settings_.shares.size(); ++unit) {
      if (settings_.shares[unit] != settings_.share) table_.units(i).withdraw(unit);
    }
  }
}

void Nat::leave_blocks(Subscriber& subscriber, uint32_t now_s) {
  for (Subscriber::Block& block : subscriber.blocks) {
    if (block.ports == 0) continue;
    table_.visit(block.first_unit(), block.units(),
                 [&](Mapping& mapping) { end_life(mapping, now_s); });
    owners_[block.first_unit()] = nullptr;
    orphans_ += !is_own(block.first_unit());
    block = Subscriber::Block{};
  }
}

void Nat::return_block(uint32_t unit) {
  BlockRecord& block = table_.block(unit);
  // Low ports and ranges are nobody's to be granted.
  const bool was_granted = settings_.deterministic_ports == 0 && !is_low_unit(unit);
  if (was_granted && watch_) tell_block(false, unit, kNoTunnel);
  disown_block(unit);
  unlist_block(unit);
  if (was_granted) {
    table_.units(unit / kUnitsPerAddress)
        .give_back(unit % kUnitsPerAddress, block.ports / kWindowPorts);
  }
  block = BlockRecord{};
}

void Nat::disown_block(uint32_t unit) {
  Subscriber* const owner = std::exchange(owners_[unit], nullptr);
  if (owner == nullptr) return;
  for (Subscriber::Block& owned : owner->blocks) {
    if (owned.ports != 0 && owned.first_unit() == unit) owned = Subscriber::Block{};
  }
}

// ---- Deterministic ranges ----

void Nat::assign_range(Subscriber& subscriber, uint32_t ordinal) {
  const DeterministicRanges ranges{static_cast<uint32_t>(settings_.pool.size()),
                                   settings_.first_port, settings_.last_port,
                                   settings_.deterministic_ports};
  const std::optional<DeterministicRanges::Range> range = ranges.range_of(ordinal);
  if (!range) return;  // one subscriber too many: each of its packets is refused
  subscriber.pool_index = static_cast<uint16_t>(range->pool_index);
  subscriber.range_unit = range->first_port / kWindowPorts;
  subscriber.is_paired = true;
  // The same at its next connection, so that ports at rest are found by their own endpoints.
  subscriber.hash_key = hash_endpoint(
      range_key_, Protocol::udp,
      {settings_.pool[range->pool_index], Be16::from_host(range->first_port)});
}

bool Nat::hold_range(Subscriber& subscriber, uint32_t now_s) {
  if (!subscriber.is_paired) return false;
  const uint32_t unit = subscriber.pool_index * kUnitsPerAddress + subscriber.range_unit;
  // Its earlier tunnel has it still, if the message that closed that one was lost.
  if (Subscriber* const before = owners_[unit]) leave_blocks(*before, now_s);
  if (table_.block(unit).ports == 0) enlist_block(unit, settings_.deterministic_ports);
  owners_[unit] = &subscriber;
  subscriber.blocks[0] = {.first = unit * kWindowPorts,
                          .ports = settings_.deterministic_ports,
                          .unused = 0};
  return true;
}

// ---- The sweep ----

uint64_t Nat::granted_entries() const {
  return granted_ports_ * kProtocols;
}

unsigned Nat::sweep(uint32_t now_s, unsigned entries) {
  // Whole and inlined: a function that only prefetches has no effect that the compiler knows of,
  // and is left out.
  const auto ask_for = [&](uint32_t unit) __attribute__((always_inline)) {
    for (unsigned p = 0; p < kProtocols; ++p) {
      const Mapping* const mappings = table_.unit_mappings(unit, static_cast<Protocol>(p));
      unsigned used = 0xffffu & ~matching_tags(table_.window(unit).tags[p], kFreeTag);
      for (; used != 0; used &= used - 1) __builtin_prefetch(mappings + std::countr_zero(used), 1);
    }
  };
  constexpr unsigned kWindowEntries = kWindowPorts * kProtocols;
  const uint64_t expired_before = counts_.mappings_expired;
  uint64_t windows = std::min((uint64_t{entries} + kWindowEntries - 1) / kWindowEntries,
                              granted_ports_ / kWindowPorts);
  for (; windows > 0 && granted_blocks_ > 0; --windows) {
    if (hand_block_ >= granted_blocks_) hand_block_ = 0;
    const uint32_t unit = table_.granted(hand_block_);
    const BlockRecord& block = table_.block(unit);
    const unsigned windows_of_block = block.ports / kWindowPorts;
    // While one window is looked at, the next one's mappings are on their way.
    if (hand_window_ + 1 < windows_of_block) {
      ask_for(unit + hand_window_ + 1);
    } else if (hand_block_ + 1 < granted_blocks_) {
      ask_for(table_.granted(hand_block_ + 1));
    }
    table_.visit(unit + hand_window_, 1, [&](Mapping& mapping) { settle(mapping, now_s); });
    if (++hand_window_ < windows_of_block) continue;
    hand_window_ = 0;
    // Where a block returns, the one which fills the gap in the list comes next.
    if (block.used == 0 && is_own(unit)) {
      return_block(unit);
      continue;
    }
    if (should_go_home(unit)) homesick_ = {unit, windows_of_block};
    ++hand_block_;
  }
  return static_cast<unsigned>(counts_.mappings_expired - expired_before);
}

}  // namespace adit::nat
