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
  table_.granted(granted_blocks_++) = {.unit = unit, .due_s = GrantedBlock::kAtOnce};
  granted_ports_ += block.ports;
  counts_.blocks_granted = granted_blocks_;
}

// The list stays dense. Its last entry fills a gap that the hand has yet to come to; a gap behind
// it is filled by the one that the hand passed last, and that one's place, to which the hand goes
// back, by the last: so nobody is passed unseen.
void Nat::unlist_block(uint32_t unit) {
  const auto put = [this](uint32_t place, GrantedBlock block) {
    table_.granted(place) = block;
    table_.block(block.unit).granted_at = place;
  };
  uint32_t gap = table_.block(unit).granted_at;
  if (gap < hand_) {
    put(gap, table_.granted(--hand_));
    gap = hand_;
  }
  if (gap != --granted_blocks_) put(gap, table_.granted(granted_blocks_));
  forget_due(unit);
  granted_ports_ -= table_.block(unit).ports;
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
    if (!is_own(block.first_unit())) {
      ++orphans_;
      look_soon(block.first_unit());
      // Its subscriber's next tunnel will look for it at home.
      if (settings_.deterministic_ports > 0) homesick_ = {block.first_unit(), block.units()};
    }
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

uint32_t Nat::range_of(const Subscriber& subscriber) const {
  return subscriber.pool_index * kUnitsPerAddress + subscriber.range_unit;
}

bool Nat::hold_range(Subscriber& subscriber, uint32_t now_s) {
  if (!subscriber.is_paired) return false;
  const uint32_t unit = range_of(subscriber);
  if (!is_own(unit) || ranges_away_[unit]) return false;
  // Its earlier tunnel has it still, if the message that closed that one was lost.
  if (Subscriber* const before = owners_[unit]) leave_blocks(*before, now_s);
  give_range(subscriber);
  return true;
}

// It is here, and nobody's.
void Nat::give_range(Subscriber& subscriber) {
  const uint32_t unit = range_of(subscriber);
  if (table_.block(unit).ports == 0) enlist_block(unit, settings_.deterministic_ports);
  owners_[unit] = &subscriber;
  subscriber.blocks[0] = {.first = unit * kWindowPorts,
                          .ports = settings_.deterministic_ports,
                          .unused = 0};
}

}  // namespace adit::nat
