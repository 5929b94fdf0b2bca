// What swarm's packets carry: a stamp, and behind it bytes that follow from the stamp, so that
// whoever gets the packet knows every byte of it.
//
//     0  flow, sequence    8  their complement    16  TSC    24  its complement
//    32  words of a pattern, each followed by its complement, to the end
//
// Each 16-bit word stands beside its complement, so the sum of the payload is the same for every
// stamp, and so is the checksum of a flow's UDP packets: it is computed once a flow.
#pragma once

#include <cstdint>
#include <cstring>

namespace adit::bench {

struct Stamp {
  uint32_t flow = 0;
  uint32_t sequence = 0;  // of the flow's packets in this direction
  uint64_t tsc = 0;       // when it was sent
};
inline constexpr unsigned kStampBytes = 32;

namespace detail {
inline constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

inline uint64_t load64(const uint8_t* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
inline void store64(uint8_t* at, uint64_t value) {
  std::memcpy(at, &value, sizeof value);
}

// The last bytes, fewer than a pair of words: 16-bit words with their complements, then zeros.
struct Tail {
  uint8_t bytes[16] = {};
  Tail(uint64_t word, unsigned count) {
    const auto half = static_cast<uint16_t>(word);
    const auto complement = static_cast<uint16_t>(~half);
    for (unsigned at = 0; at + 4 <= sizeof bytes && at + 4 <= count; at += 4) {
      std::memcpy(bytes + at, &half, sizeof half);
      std::memcpy(bytes + at + 2, &complement, sizeof complement);
    }
  }
};
}  // namespace detail

// `bytes` is at least kStampBytes.
inline void write_payload(uint8_t* at, unsigned bytes, const Stamp& stamp) {
  const uint64_t name = uint64_t{stamp.sequence} << 32 | stamp.flow;
  detail::store64(at, name);
  detail::store64(at + 8, ~name);
  detail::store64(at + 16, stamp.tsc);
  detail::store64(at + 24, ~stamp.tsc);
  const uint64_t first = name * detail::kGolden;
  const unsigned pairs = (bytes - kStampBytes) / 16;
  uint8_t* const pattern = at + kStampBytes;
  for (unsigned i = 0; i < pairs; ++i) {
    const uint64_t word = first + i * detail::kGolden;
    detail::store64(pattern + 16 * i, word);
    detail::store64(pattern + 16 * i + 8, ~word);
  }
  const unsigned left = bytes - kStampBytes - 16 * pairs;
  const detail::Tail tail(first + pairs * detail::kGolden, left);
  std::memcpy(pattern + 16 * pairs, tail.bytes, left);
}

inline Stamp read_stamp(const uint8_t* at) {
  const uint64_t name = detail::load64(at);
  return {static_cast<uint32_t>(name), static_cast<uint32_t>(name >> 32), detail::load64(at + 16)};
}

// Whether write_payload() wrote these bytes; `bytes` is at least kStampBytes.
inline bool is_payload(const uint8_t* at, unsigned bytes) {
  const uint64_t name = detail::load64(at);
  uint64_t wrong = ~(name ^ detail::load64(at + 8));
  wrong |= ~(detail::load64(at + 16) ^ detail::load64(at + 24));
  const uint64_t first = name * detail::kGolden;
  const unsigned pairs = (bytes - kStampBytes) / 16;
  const uint8_t* const pattern = at + kStampBytes;
  for (unsigned i = 0; i < pairs; ++i) {
    const uint64_t word = first + i * detail::kGolden;
    wrong |= detail::load64(pattern + 16 * i) ^ word;
    wrong |= detail::load64(pattern + 16 * i + 8) ^ ~word;
  }
  const unsigned left = bytes - kStampBytes - 16 * pairs;
  const detail::Tail tail(first + pairs * detail::kGolden, left);
  return wrong == 0 && std::memcmp(pattern + 16 * pairs, tail.bytes, left) == 0;
}

}  // namespace adit::bench
