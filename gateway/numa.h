// Which memory and which cores are near a device. Between the nodes of a machine with several
// processors each cache miss takes about twice as long, and a packet costs a few of them.
#pragma once

#include <span>
#include <string>

namespace adit::gateway {

// What to say of the cores that are on another node than port `name`, whose device is on node
// `device`; "" if there are none, or if the device is on no node (a virtual one: -1). `cores` are
// the nodes of the control thread's core, then of each worker's.
std::string far_cores_text(const std::string& name, int device, std::span<const int> cores);

}  // namespace adit::gateway
