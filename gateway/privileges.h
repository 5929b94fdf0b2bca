// What the gateway needs of the kernel when it does not run as root.
#pragma once

#include <string>
#include <vector>

namespace adit::gateway {

// The capabilities, of those the gateway may need, that this process does not have:
//   CAP_NET_RAW    packets of an interface (net_af_packet, net_af_xdp)
//   CAP_NET_ADMIN  flags and addresses of interfaces (net_af_packet, net_af_xdp, net_tap)
//   CAP_IPC_LOCK   locked memory (packet rings, hugepages)
std::vector<std::string> missing_capabilities();

}  // namespace adit::gateway
