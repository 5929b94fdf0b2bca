// When which mapping is looked at. A mapping has some minutes or hours to live and many are there,
// so the clock hand does not look at each in turn: the list of granted blocks says of each since
// when something in it may be over, and the hand passes over the others. It goes along the list,
// eight bytes a block, and comes to a million of them in a few million cycles.
//
// What the list says is a lower bound. A packet that uses a mapping leaves it alone, for that only
// puts the end off; what may bring an end nearer (a mapping made, released, held for less long)
// says so by hasten(). Looking into a block makes the bound a true one again.
#include <algorithm>
#include <bit>

#include "lib/nat/nat.h"

namespace adit::nat {
namespace {

constexpr unsigned kWindowEntries = kWindowPorts * kProtocols;
// Nothing in the block ends by itself. Half of what wrap-safe comparisons reach, so that such a
// time is neither over nor early by the time that it is looked at again.
constexpr uint32_t kNever_s = uint32_t{1} << 30;

constexpr bool is_before(uint32_t a_s, uint32_t b_s) {
  return static_cast<int32_t>(a_s - b_s) < 0;
}
constexpr uint32_t earlier(uint32_t a_s, uint32_t b_s) { return is_before(a_s, b_s) ? a_s : b_s; }
constexpr uint32_t later(uint32_t a_s, uint32_t b_s) { return is_before(a_s, b_s) ? b_s : a_s; }

bool is_due(const GrantedBlock& block, uint32_t now_s) {
  return block.due_s == GrantedBlock::kAtOnce || !is_before(now_s, block.due_s);
}

}  // namespace

// The first second in which the mapping may have to be moved on, whatever packets come until then.
// Those of TCP may have it go on with the shortest of the three timers.
uint32_t Nat::due_s(const Mapping& mapping, uint32_t now_s) const {
  const Timeouts& timeouts = profile_of(mapping).timeouts;
  if (mapping.state == MappingState::resting) {
    return mapping.last_seen_s + timeouts.port_rest_s + 1;
  }
  if (!mapping.is_live()) return now_s + kNever_s;
  uint32_t last_s = mapping.last_seen_s + timeout_s(mapping);
  if (mapping.protocol == static_cast<uint8_t>(Protocol::tcp)) {
    const uint32_t shortest_s = std::min(
        {timeouts.tcp_opening_s, timeouts.tcp_established_s, timeouts.tcp_closing_s});
    last_s = earlier(last_s, now_s + shortest_s);
  }
  if (mapping.held_until_s != 0) last_s = later(last_s, mapping.held_until_s);
  return last_s + 1;
}

// The block that begins at `unit` is to be looked into at that time, if not before.
void Nat::hasten(uint32_t unit, uint32_t due_s) {
  uint32_t& known_s = table_.granted(table_.block(unit).granted_at).due_s;
  if (known_s == GrantedBlock::kAtOnce || !is_before(due_s, known_s)) return;
  known_s = std::max(due_s, 1u);
}

void Nat::hasten(const Mapping& mapping, uint32_t now_s) {
  hasten(table_.block_unit(Table::unit_of(mapping)), due_s(mapping, now_s));
}

void Nat::look_soon(uint32_t unit) {
  table_.granted(table_.block(unit).granted_at).due_s = GrantedBlock::kAtOnce;
}

// ---- The hand ----

uint64_t Nat::granted_entries() const {
  return granted_ports_ * kProtocols;
}

unsigned Nat::sweep(uint32_t now_s, unsigned entries, unsigned blocks) {
  const uint64_t expired_before = counts_.mappings_expired;
  uint64_t windows = (uint64_t{entries} + kWindowEntries - 1) / kWindowEntries;
  uint32_t to_pass = std::min(blocks, granted_blocks_);
  ask_for_due();
  for (; windows > 0; --windows) {
    if (due_blocks_.count == 0) {
      find_due(now_s, to_pass);
      ask_for_due();
    }
    if (due_blocks_.count == 0) break;
    look_into_window(now_s);
  }
  return static_cast<unsigned>(counts_.mappings_expired - expired_before);
}

// Passes over up to `blocks` blocks, which it counts down, until it has found some that are due.
void Nat::find_due(uint32_t now_s, uint32_t& blocks) {
  for (; blocks > 0 && granted_blocks_ > 0 && due_blocks_.count < kDueBlocks; --blocks) {
    if (hand_ >= granted_blocks_) hand_ = 0;
    GrantedBlock& block = table_.granted(hand_++);
    if (!is_due(block, now_s)) continue;
    // What is found in it says until when, and whatever happens in it meanwhile.
    block.due_s = std::max(now_s + kNever_s, 1u);
    due_blocks_.units[due_blocks_.count++] = block.unit;
  }
}

// What is needed of memory first: of all blocks the line of a window, then of one the mappings.
void Nat::ask_for_due() const {
  if (due_blocks_.count == 0) return;
  for (unsigned i = 0; i < due_blocks_.count; ++i) {
    __builtin_prefetch(&table_.window(due_blocks_.units[i]), 1);
    __builtin_prefetch(&table_.block(due_blocks_.units[i]), 1);
  }
  ask_for_mappings(due_blocks_.units[0] + due_blocks_.window);
}

// Inlined: a function that only prefetches has no effect that the compiler knows of, and is left
// out.
inline __attribute__((always_inline)) void Nat::ask_for_mappings(uint32_t unit) const {
  for (unsigned p = 0; p < kProtocols; ++p) {
    const Mapping* const mappings = table_.unit_mappings(unit, static_cast<Protocol>(p));
    unsigned used = 0xffffu & ~matching_tags(table_.window(unit).tags[p], kFreeTag);
    for (; used != 0; used &= used - 1) __builtin_prefetch(mappings + std::countr_zero(used), 1);
  }
}

// The next window of the first block that is due.
void Nat::look_into_window(uint32_t now_s) {
  const uint32_t unit = due_blocks_.units[0];
  const BlockRecord& block = table_.block(unit);
  const unsigned windows = block.ports / kWindowPorts;
  const uint32_t window = due_blocks_.window++;
  // While one window is looked at, the next one's mappings are on their way.
  if (due_blocks_.window < windows) {
    ask_for_mappings(unit + due_blocks_.window);
  } else if (due_blocks_.count > 1) {
    ask_for_mappings(due_blocks_.units[1]);
  }
  uint32_t next_s = now_s + kNever_s;
  table_.visit(unit + window, 1, [&](Mapping& mapping) {
    settle(mapping, now_s);
    next_s = earlier(next_s, due_s(mapping, now_s));
  });
  hasten(unit, next_s);
  if (due_blocks_.window < windows) return;
  forget_due(unit);
  if (block.used == 0 && is_own(unit)) return return_block(unit);
  if (!should_go_home(unit)) return;
  homesick_ = {unit, windows};
  look_soon(unit);  // until it has gone
}

void Nat::forget_due(uint32_t unit) {
  auto& units = due_blocks_.units;
  const auto end = units.begin() + due_blocks_.count;
  const auto place = std::find(units.begin(), end, unit);
  if (place == end) return;
  if (place == units.begin()) due_blocks_.window = 0;
  std::copy(place + 1, end, place);
  --due_blocks_.count;
}

}  // namespace adit::nat
