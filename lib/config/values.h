// Small values that both programs' configurations speak of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/net/address.h"
#include "lib/tunnel/wire.h"

namespace adit::config {

// How a tunnel's packets are protected. `plain` is never a default: an operator must name it, at
// both ends.
using tunnel::Protection;

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
std::string_view name_of(LogLevel level);

// Addresses from `first` to `last`, both included: the way operators write a range. (A half-open
// range could not hold 255.255.255.255.)
struct Ipv4Range {
  Ipv4Address first;
  Ipv4Address last;

  constexpr uint64_t count() const { return uint64_t{last.host()} - first.host() + 1; }
  constexpr bool contains(Ipv4Address a) const { return first <= a && a <= last; }
  constexpr bool overlaps(const Ipv4Range& other) const {
    return first <= other.last && other.first <= last;
  }
  std::string to_string() const;  // "a-b", or "a" when they are equal
  friend constexpr bool operator==(const Ipv4Range&, const Ipv4Range&) = default;
};

// Ports from `first` to `last`, both included.
struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;

  constexpr uint32_t count() const { return uint32_t{last} - first + 1; }
  constexpr bool contains(uint16_t port) const { return first <= port && port <= last; }
  std::string to_string() const;
  friend constexpr bool operator==(const PortRange&, const PortRange&) = default;
};

}  // namespace adit::config
