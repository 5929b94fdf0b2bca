// Deterministic allocation (RFC 7422): which external ports a subscriber has follows from its place
// in the configuration alone, so that who had a port can be said years later without a log. The
// translator and the offline questions (`adit-gateway --ports-of`, `--who-has`) both ask here.
#pragma once

#include <cstdint>
#include <optional>

namespace adit::nat {

// Ranges of `range_ports` contiguous, aligned ports between first_port and last_port: all those of
// the pool's first address, then all those of the next. So whoever is added at the end, subscriber
// or address, moves nobody.
struct DeterministicRanges {
  uint32_t addresses = 0;
  uint16_t first_port = 0;
  uint16_t last_port = 0;
  uint32_t range_ports = 1;  // a power of two

  struct Range {
    uint32_t pool_index = 0;
    uint16_t first_port = 0;
  };

  constexpr uint32_t per_address() const {
    const uint32_t end = (last_port + 1u) / range_ports;
    return end > first_range() ? end - first_range() : 0;
  }
  constexpr uint64_t count() const { return uint64_t{addresses} * per_address(); }

  // `ordinal` is the subscriber's, from 0; nullopt: there are not so many ranges.
  constexpr std::optional<Range> range_of(uint32_t ordinal) const {
    if (ordinal >= count()) return std::nullopt;
    const uint32_t first = (first_range() + ordinal % per_address()) * range_ports;
    return Range{ordinal / per_address(), static_cast<uint16_t>(first)};
  }
  // Whose range a port is in; nullopt: nobody's. The subscriber need not exist.
  constexpr std::optional<uint32_t> ordinal_of(uint32_t pool_index, uint16_t port) const {
    const uint32_t range = port / range_ports;
    if (pool_index >= addresses || range < first_range() ||
        range >= first_range() + per_address()) {
      return std::nullopt;
    }
    return pool_index * per_address() + (range - first_range());
  }

 private:
  constexpr uint32_t first_range() const { return (first_port + range_ports - 1) / range_ports; }
};

}  // namespace adit::nat
