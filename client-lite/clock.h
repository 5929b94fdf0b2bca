// The two clocks of the client, and its random bytes: what lib/ is given instead of asking.
#pragma once

#include <cstdint>
#include <span>

#include "lib/tunnel/noise.h"

namespace adit::client {

// CLOCK_BOOTTIME: goes on while the machine sleeps, so that a session that expired in its sleep is
// known to have expired.
uint64_t now_ns();
// CLOCK_MONOTONIC: stands still while the machine sleeps.
uint64_t awake_ns();
// The wall clock as a TAI64N stamp (https://cr.yp.to/libtai/tai64.html).
tunnel::Tai64n tai64n_now();
// From the kernel's generator. Ends the program if there is none.
void fill_random(std::span<uint8_t> bytes);
uint64_t random_u64();

}  // namespace adit::client
