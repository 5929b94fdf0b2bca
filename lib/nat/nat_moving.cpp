// A subscriber moves from one translator to another that shares its table. Its mappings and the
// lines of their windows stay where they are, for their places are their ports; what changes hands
// is who keeps its blocks: who looks at them, sweeps them and writes what stands in them.
//
// A block can be granted by the translator in whose windows it lies, and by nobody else. So it goes
// home when it is empty, and when its subscriber has gone: then with its ports at rest, which rest
// on at home.
#include "lib/nat/nat.h"

namespace adit::nat {

bool Nat::is_own(uint32_t unit) const {
  return settings_.shares.empty() || settings_.shares[unit % kUnitsPerAddress] == settings_.share;
}

uint32_t Nat::unit_of(Ipv4Address address, Be16 port) const {
  return table_.pool().index_of(address) * kUnitsPerAddress + port.host() / kWindowPorts;
}

bool Nat::may_move(const Subscriber& subscriber) const {
  return settings_.deterministic_ports == 0 && subscriber.low_mappings == 0;
}

void Nat::leave(Subscriber& subscriber) {
  uint64_t used = 0;
  for (const Subscriber::Block& block : subscriber.blocks) {
    if (block.ports == 0) continue;
    const uint32_t unit = block.first_unit();
    used += table_.block(unit).used;
    counts_.spilled -= spilled_in(unit);
    owners_[unit] = nullptr;
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
    keep_block(unit);
  }
  counts_.mappings_live += subscriber.live_mappings;
  counts_.mappings_resting += used - subscriber.live_mappings;
}

bool Nat::should_go_home(uint32_t unit) const {
  return !is_own(unit) && (table_.block(unit).used == 0 || owners_[unit] == nullptr);
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
