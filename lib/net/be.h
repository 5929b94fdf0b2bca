// Integers of the wire. A BigEndian<T> holds its bytes in network order and has alignment 1, so it
// can stand in a header struct laid over a packet, in a hash key, or in a table, and never mixes
// with a host integer by accident: the only ways in and out are from_host() and host().
#pragma once

#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace adit {

namespace detail {
template <typename T>
constexpr T swap_bytes(T value) {
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}
}  // namespace detail

// An unsigned integer stored in byte order `Order`.
template <typename T, std::endian Order>
class WireInteger {
 public:
  static_assert(std::is_unsigned_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  using Host = T;

  constexpr WireInteger() = default;

  static constexpr WireInteger from_host(T value) {
    WireInteger out;
    out.set_raw(Order == std::endian::native ? value : detail::swap_bytes(value));
    return out;
  }
  // `raw` is the integer that a plain load of the bytes gives on this machine.
  static constexpr WireInteger from_raw(T raw) {
    WireInteger out;
    out.set_raw(raw);
    return out;
  }

  constexpr T host() const {
    return Order == std::endian::native ? raw() : detail::swap_bytes(raw());
  }
  constexpr T raw() const {
    struct Bytes {
      unsigned char byte[sizeof(T)];
    } bytes{};
    for (unsigned i = 0; i < sizeof(T); ++i) bytes.byte[i] = bytes_[i];
    return std::bit_cast<T>(bytes);
  }

  friend constexpr bool operator==(const WireInteger&, const WireInteger&) = default;
  // Orders by value, not by byte pattern.
  friend constexpr std::strong_ordering operator<=>(const WireInteger& a, const WireInteger& b) {
    return a.host() <=> b.host();
  }

 private:
  constexpr void set_raw(T raw) {
    struct Bytes {
      unsigned char byte[sizeof(T)];
    };
    const auto bytes = std::bit_cast<Bytes>(raw);
    for (unsigned i = 0; i < sizeof(T); ++i) bytes_[i] = bytes.byte[i];
  }
  unsigned char bytes_[sizeof(T)] = {};
};

using Be16 = WireInteger<uint16_t, std::endian::big>;
using Be32 = WireInteger<uint32_t, std::endian::big>;
using Be64 = WireInteger<uint64_t, std::endian::big>;
using Le32 = WireInteger<uint32_t, std::endian::little>;
using Le64 = WireInteger<uint64_t, std::endian::little>;

static_assert(sizeof(Be32) == 4 && alignof(Be32) == 1);
static_assert(std::is_trivially_copyable_v<Be32>);
static_assert(std::has_unique_object_representations_v<Be64>);

}  // namespace adit
