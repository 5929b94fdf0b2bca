// Where an internal endpoint is at home in a port block, and the tag that marks it there. The hash
// is keyed per subscriber and not linear, so that nobody outside can compute which endpoints
// collide or which external ports will be given out (RFC 6056, RFC 7857 §9).
#pragma once

#include <bit>
#include <cstdint>

#include "lib/nat/mapping.h"
#include "lib/nat/window.h"

namespace adit::nat {

// An endpoint's six bytes in one register, to hash and to compare.
constexpr uint64_t packed(const Endpoint& endpoint) {
  return uint64_t{endpoint.address.value.raw()} << 16 | endpoint.port.raw();
}

// Back, whatever stands above the six bytes.
constexpr Endpoint unpacked(uint64_t packed) {
  return {Ipv4Address{Be32::from_raw(static_cast<uint32_t>(packed >> 16))},
          Be16::from_raw(static_cast<uint16_t>(packed))};
}

// Multiply and xor-shift, the key entering twice: about ten cycles. The multipliers are the
// fractional bits of the golden ratio and of the square root of three, made odd.
constexpr uint64_t hash_packed(uint64_t key, Protocol protocol, uint64_t packed_internal) {
  uint64_t x = packed_internal | uint64_t{static_cast<uint8_t>(protocol)} << 48;
  x ^= key;
  x *= 0x9e3779b97f4a7c15;
  x ^= x >> 32;
  x += std::rotl(key, 23);
  x *= 0xbb67ae8584caa73b;
  x ^= x >> 29;
  x *= 0x9e3779b97f4a7c15;
  return x ^ x >> 32;
}
constexpr uint64_t hash_endpoint(uint64_t key, Protocol protocol, const Endpoint& internal) {
  return hash_packed(key, protocol, packed(internal));
}

// Each block takes its own 13 bits of the hash, so that endpoints which crowd one window of a full
// block do not crowd one window of the next. 13 bits: the largest block has 8192 ports.
inline constexpr unsigned kHomeBits = 13;
constexpr unsigned home_offset(uint64_t hash, unsigned block_index, unsigned block_ports) {
  return static_cast<unsigned>(hash >> (kHomeBits * block_index)) & (block_ports - 1);
}

// The same hash with a home port in every block that is odd or even as `port` is.
constexpr uint64_t with_parity_of(uint64_t hash, Be16 port) {
  constexpr uint64_t kLowest = 1 | uint64_t{1} << kHomeBits | uint64_t{1} << 2 * kHomeBits |
                               uint64_t{1} << 3 * kHomeBits;
  return (port.host() & 1) != 0 ? hash | kLowest : hash & ~kLowest;
}

// The windows of a block in which an endpoint may stand, home first. The further ones follow at an
// odd stride of the endpoint's own: with neighbouring windows instead, those beside a full one
// would fill as well, and a block of 1024 ports would refuse at 81 % full, not at 85 %.
struct Reach {
  unsigned home;    // offset of the home port in the block
  unsigned stride;  // odd, so that no window comes twice
  unsigned block_windows;

  constexpr Reach(uint64_t hash, unsigned block_index, unsigned block_ports)
      : home(home_offset(hash, block_index, block_ports)),
        stride(home_offset(hash, (block_index + 1) % 4, block_ports) / kWindowPorts | 1),
        block_windows(block_ports / kWindowPorts) {}

  constexpr unsigned windows() const {
    return block_windows < kWindowsSearchedMax ? block_windows : kWindowsSearchedMax;
  }
  constexpr unsigned home_window() const { return home / kWindowPorts; }
  constexpr unsigned window(unsigned step) const {
    return (home_window() + step * stride) & (block_windows - 1);
  }
};

// Between 0 and kReservedTag, both exclusive.
constexpr uint8_t endpoint_tag(uint64_t hash) {
  constexpr unsigned kTagBits = 64 - 4 * kHomeBits;
  constexpr unsigned kTags = kReservedTag - 1u;
  return static_cast<uint8_t>(1 + ((hash >> (64 - kTagBits)) * kTags >> kTagBits));
}

}  // namespace adit::nat
