// A packet at one end of the translator: what rows are made of.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <utility>

#include "tests/support/packets.h"

namespace adit::gateway::test {

using adit::test::Bytes;

// Where a packet comes from or goes to: a tunnel's slot, or the Internet.
inline constexpr uint32_t kInternet = 0;
inline constexpr unsigned kSubscribersMax = 15;

struct Hop {
  uint32_t place = kInternet;
  Bytes packet;
  friend bool operator==(const Hop&, const Hop&) = default;
};
void PrintTo(const Hop& hop, std::ostream* out);
inline Hop internet(Bytes packet) { return {kInternet, std::move(packet)}; }
inline Hop inside(Bytes packet, uint32_t slot = 1) { return {slot, std::move(packet)}; }

}  // namespace adit::gateway::test
