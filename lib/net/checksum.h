// The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Sums are of 16-bit words
// as this machine loads them: one's complement addition does not care about byte order, so no
// byte is swapped anywhere.
#pragma once

#include <cstdint>
#include <span>

#include "lib/net/address.h"
#include "lib/net/be.h"

namespace adit {

// An unfolded one's complement sum; add several before folding.
using PartialSum = uint64_t;

// Sum of `bytes` as 16-bit words, an odd last byte padded with zero.
PartialSum sum_bytes(std::span<const uint8_t> bytes);

// Folds a sum to 16 bits with end-around carry.
constexpr uint16_t fold(PartialSum sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}

// The checksum to store over `bytes` whose checksum field is zero. Over bytes with a valid
// checksum in place the result is zero.
Be16 internet_checksum(std::span<const uint8_t> bytes);

// The same with the pseudo-header of UDP and TCP in front (RFC 768, RFC 9293). UDP's rule that a
// computed 0 is sent as 0xffff is the caller's: see udp_checksum_to_send().
Be16 transport_checksum(Ipv4Address source, Ipv4Address destination, uint8_t protocol,
                        std::span<const uint8_t> segment);

// RFC 768: a computed 0 is sent as 0xffff, for 0 means that there is none.
constexpr Be16 udp_checksum_to_send(Be16 computed) {
  return computed.raw() == 0 ? Be16::from_raw(0xffff) : computed;
}

// What replacing some words of a packet does to its checksum. Precompute once, apply to many.
// Deltas add: the delta of two replacements is the sum of theirs.
class ChecksumDelta {
 public:
  constexpr ChecksumDelta() = default;
  static constexpr ChecksumDelta from_raw(uint16_t raw) { return ChecksumDelta(raw); }
  constexpr uint16_t raw() const { return sum_; }

  constexpr ChecksumDelta replace(Be16 before, Be16 after) const {
    return ChecksumDelta(fold(PartialSum{sum_} + static_cast<uint16_t>(~before.raw()) +
                              after.raw()));
  }
  constexpr ChecksumDelta replace(Be32 before, Be32 after) const {
    return ChecksumDelta(fold(PartialSum{sum_} + static_cast<uint32_t>(~before.raw()) +
                              after.raw()));
  }
  constexpr ChecksumDelta replace(Ipv4Address before, Ipv4Address after) const {
    return replace(before.value, after.value);
  }
  constexpr ChecksumDelta operator+(ChecksumDelta other) const {
    return ChecksumDelta(fold(PartialSum{sum_} + other.sum_));
  }
  // The delta that undoes this one.
  constexpr ChecksumDelta inverse() const {
    return ChecksumDelta(static_cast<uint16_t>(~sum_));
  }

  // RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
  constexpr Be16 apply(Be16 checksum) const {
    return Be16::from_raw(static_cast<uint16_t>(
        ~fold(PartialSum{static_cast<uint16_t>(~checksum.raw())} + sum_)));
  }
  // For UDP: 0 (none) stays 0, and a computed 0 becomes 0xffff.
  constexpr Be16 apply_udp(Be16 checksum) const {
    return checksum.raw() == 0 ? checksum : udp_checksum_to_send(apply(checksum));
  }

 private:
  constexpr explicit ChecksumDelta(uint16_t sum) : sum_(sum) {}
  uint16_t sum_ = 0;
};

}  // namespace adit
