// A window: 16 contiguous ports, and one cache line that says what they hold. The line answers
// "might this endpoint stand here?" and "is there room?" for all three protocols without touching
// the 48 mappings. Lives in the table's memory; written by the worker that owns the block.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "lib/nat/mapping.h"

namespace adit::nat {

inline constexpr unsigned kWindowPorts = 16;
inline constexpr unsigned kWindowsSearchedMax = 4;  // the home window and three further ones

// Tags that no endpoint has: of a free port, and of one that is never given out.
inline constexpr uint8_t kFreeTag = 0;
inline constexpr uint8_t kReservedTag = 0xff;

struct alignas(64) Window {
  uint8_t tags[kProtocols][kWindowPorts] = {};
  // Mappings at home here that stand in a further window; at most three windows of 16.
  uint8_t spilled[kProtocols] = {};
  uint8_t unused = 0;
  uint16_t block = 0;  // the first window, on the same address, of the block this one is part of
  uint8_t reserved_bytes[10] = {};
};
static_assert(sizeof(Window) == 64);

// Bit i is set where tags[i] == tag.
inline unsigned matching_tags_portable(const uint8_t (&tags)[kWindowPorts], uint8_t tag) {
  constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  constexpr uint64_t kOnes = 0x0101010101010101;
  unsigned mask = 0;
  for (size_t half = 0; half < 2; ++half) {
    uint64_t word;
    std::memcpy(&word, tags + half * 8, sizeof word);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    word ^= kOnes * tag;
    // The top bit of each byte that is zero, exactly: no carry leaves a byte.
    const uint64_t zero = ~(((word & kLow) + kLow) | word | kLow);
    // Gathers the eight top bits into one byte.
    const uint64_t bits = (zero >> 7) * 0x0102040810204080 >> 56;
    mask |= static_cast<unsigned>(bits) << half * 8;
  }
  return mask;
}

inline unsigned matching_tags(const uint8_t (&tags)[kWindowPorts], uint8_t tag) {
#ifdef __SSE2__
  const __m128i line = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tags));
  const __m128i wanted = _mm_set1_epi8(static_cast<char>(tag));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(line, wanted)));
#else
  return matching_tags_portable(tags, tag);
#endif
}

}  // namespace adit::nat
