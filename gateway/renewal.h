// Does the control thread keep up with key renewal? Each open tunnel makes a handshake in two
// minutes, so that a million of them are more than one thread does.
#pragma once

#include <cstdint>
#include <string>

#include "gateway/config.h"

namespace adit::gateway {

// What one thread that makes handshakes does in a second on a core of its own: 170 us each, the
// control thread's own time for a client of 100,000 that came back at once (`scripts/bench storm`;
// docs/scaling.md, "What it costs"). A newer core does more.
inline constexpr uint32_t kHandshakesPerThread = 5800;

// Handshakes a second for key renewal while every subscriber is connected, with all of its lanes.
uint64_t renewals_per_second(const Config& config);
// Handshakes a second that so many threads (`control.threads`) make. The first only decides where
// there are others.
uint64_t handshakes_per_second(uint32_t control_threads);
// What is wrong with `control.threads`, and what it should be; empty where it is enough.
std::string renewal_warning(const Config& config);

}  // namespace adit::gateway
