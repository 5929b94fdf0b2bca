// What idle tunnels cost the control thread.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/datapath/world.h"

namespace adit::bench {

// The control thread's hand over the world's tunnels, each of which sends a heartbeat at the
// default interval, and what it does with a tunnel of which it has heard: the share of a core.
nlohmann::json followed_row(World& world);

}  // namespace adit::bench
