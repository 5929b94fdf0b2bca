#include "lib/nat/port_block.h"

#include <bit>
#include <cassert>

namespace adit::nat {
namespace {

// Bits at multiples of `units`: where an aligned run may begin within a word.
constexpr uint64_t aligned_starts(unsigned units) {
  return units == 64 ? 1 : ~uint64_t{0} / ((uint64_t{1} << units) - 1);
}
static_assert(aligned_starts(1) == ~uint64_t{0} && aligned_starts(4) == 0x1111111111111111);

}  // namespace

std::optional<uint16_t> AddressUnits::take(unsigned units, uint64_t random) {
  assert(std::has_single_bit(units) && units <= kUnitsPerAddress);
  if (free_units() < units) return std::nullopt;
  return units < 64 ? take_within_words(units, random) : take_whole_words(units, random);
}

std::optional<uint16_t> AddressUnits::take_within_words(unsigned units, uint64_t random) {
  const auto first_word = static_cast<unsigned>(random % kWords);
  const int rotation = static_cast<int>(random >> 32 & 63);
  for (unsigned i = 0; i < kWords; ++i) {
    const unsigned word = (first_word + i) % kWords;
    uint64_t starts = ~taken_[word];
    for (unsigned run = 1; run < units; run *= 2) starts &= starts >> run;
    starts &= aligned_starts(units);
    if (starts == 0) continue;
    // The first start at or after a random bit, cyclically.
    const int bit = (std::countr_zero(std::rotr(starts, rotation)) + rotation) & 63;
    const unsigned first = word * 64 + static_cast<unsigned>(bit);
    set(first, units, true);
    return static_cast<uint16_t>(first);
  }
  return std::nullopt;
}

std::optional<uint16_t> AddressUnits::take_whole_words(unsigned units, uint64_t random) {
  const unsigned words = units / 64;
  const unsigned runs = kWords / words;
  const auto first_run = static_cast<unsigned>(random % runs);
  for (unsigned i = 0; i < runs; ++i) {
    const unsigned word = (first_run + i) % runs * words;
    uint64_t taken = 0;
    for (unsigned j = 0; j < words; ++j) taken |= taken_[word + j];
    if (taken != 0) continue;
    set(word * 64, units, true);
    return static_cast<uint16_t>(word * 64);
  }
  return std::nullopt;
}

void AddressUnits::set(unsigned first, unsigned units, bool taken) {
  for (unsigned unit = first; unit < first + units; ++unit) {
    const uint64_t bit = uint64_t{1} << unit % 64;
    assert(((taken_[unit / 64] & bit) != 0) != taken);
    taken_[unit / 64] ^= bit;
  }
  taken_units_ = taken ? taken_units_ + units : taken_units_ - units;
}

}  // namespace adit::nat
