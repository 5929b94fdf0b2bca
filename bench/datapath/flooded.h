// What a flood of forged handshakes costs the packets of a worker that has no idle time.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/datapath/world.h"

namespace adit::bench {

// Outbound packets of 64 bytes alone, and with so many forged handshakes a second among them, in
// turns. Prints a line and returns a row.
nlohmann::json measure_flooded(World& world, unsigned rounds, double forged_a_second);

}  // namespace adit::bench
