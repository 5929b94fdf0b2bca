// A subscriber moves from one translator to another that shares its table. Its mappings and the
// lines of their windows stay where they are, for their places are their ports; what changes hands
// is who keeps its blocks: who looks at them, sweeps them and writes what stands in them.
//
// A block can be granted by the translator in whose windows it lies, and by nobody else. So it goes
// home when it is empty, and when its subscriber has gone: then with its ports at rest, which rest
// on at home.
//
// A deterministic range is its subscriber's for as long as that one is attached: it goes along, and
// goes home, at once, when the subscriber has gone. Until it has come home, that one's next tunnel,
// which looks for it there, has no ports.
#include <cassert>

#include "lib/nat/nat.h"

namespace adit::nat {

bool Nat::is_own(uint32_t unit) const {
  return settings_.shares.empty() || settings_.shares[unit % kUnitsPerAddress] == settings_.share;
}

uint32_t Nat::unit_of(Ipv4Address address, Be16 port) const {
  return table_.pool().index_of(address) * kUnitsPerAddress + port.host() / kWindowPorts;
}

bool Nat::may_move(const Subscriber& subscriber) const { return subscriber.low_mappings == 0; }

// An earlier or a later tunnel of its subscriber may have it, if the message that closed the former
// was lost. Of a subscriber for whom there is none, nothing is missing.
bool Nat::has_range(const Subscriber& subscriber) const {
  if (!lacks_range(subscriber) || !subscriber.is_paired) return true;
  const uint32_t unit = range_of(subscriber);
  return is_own(unit) && !ranges_away_[unit] && owners_[unit] == nullptr;
}

void Nat::leave(Subscriber& subscriber) {
  assert(may_move(subscriber) && has_range(subscriber));
  if (lacks_range(subscriber) && subscriber.is_paired) give_range(subscriber);
  uint64_t used = 0;
  for (const Subscriber::Block& block : subscriber.blocks) {
    if (block.ports == 0) continue;
    const uint32_t unit = block.first_unit();
    used += table_.block(unit).used;
    counts_.spilled -= spilled_in(unit);
    owners_[unit] = nullptr;
    note_range(unit, true);
    unlist_block(unit);
  }
  counts_.mappings_live -= subscriber.live_mappings;
  counts_.mappings_resting -= used - subscriber.live_mappings;
}

void Nat::adopt(Subscriber& subscriber) {
  uint64_t used = 0;
  for (const Subscriber::Block& block : subscriber.blocks) {
    if (block.ports == 0) continue;
    const uint32_t unit = block.first_unit();
    used += table_.block(unit).used;
    counts_.spilled += spilled_in(unit);
    owners_[unit] = &subscriber;
    note_range(unit, false);
    keep_block(unit);
  }
  counts_.mappings_live += subscriber.live_mappings;
  counts_.mappings_resting += used - subscriber.live_mappings;
}

// Where a range of our own is: with another translator, or here.
void Nat::note_range(uint32_t unit, bool is_away) {
  if (settings_.deterministic_ports > 0 && is_own(unit)) ranges_away_[unit] = is_away;
}

bool Nat::should_go_home(uint32_t unit) const {
  if (is_own(unit)) return false;
  const bool may_be_left = settings_.deterministic_ports == 0 && table_.block(unit).used == 0;
  return owners_[unit] == nullptr || may_be_left;
}

void Nat::send_home(const ForeignBlock& block) {
  if (owners_[block.unit] == nullptr) --orphans_;
  disown_block(block.unit);
  counts_.mappings_resting -= table_.block(block.unit).used;
  counts_.spilled -= spilled_in(block.unit);
  unlist_block(block.unit);
}

void Nat::take_back(uint32_t unit) {
  counts_.mappings_resting += table_.block(unit).used;
  counts_.spilled += spilled_in(unit);
  note_range(unit, false);
  keep_block(unit);
}

uint64_t Nat::spilled_in(uint32_t unit) const {
  uint64_t spilled = 0;
  for (unsigned i = 0; i < table_.block(unit).ports / kWindowPorts; ++i) {
    for (const uint8_t of_protocol : table_.window(unit + i).spilled) spilled += of_protocol;
  }
  return spilled;
}

}  // namespace adit::nat
