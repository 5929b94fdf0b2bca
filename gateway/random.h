// Randomness from the kernel. From any thread.
#pragma once

#include <sys/random.h>

#include <array>
#include <bit>
#include <cstdint>
#include <span>

namespace adit::gateway {

inline void fill_random(std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    if (got > 0) bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

inline uint64_t random64() {
  std::array<uint8_t, 8> bytes;
  fill_random(bytes);
  return std::bit_cast<uint64_t>(bytes);
}

}  // namespace adit::gateway
