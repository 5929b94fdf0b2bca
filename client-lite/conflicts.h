// What an address in the tunnel would break on this host: a network that it is in already, or the
// way to the gateway itself. Addresses alone decide; where only a route of the host is in the way,
// the kernel refuses ours, and the host's stays.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lib/net/address.h"

namespace adit::client {

struct HostAddress {
  std::string device;
  Ipv4Interface address;
};

// This host's IPv4 addresses, but those of `except_device`.
std::vector<HostAddress> host_addresses(const std::string& except_device);

// Why `wanted` must not be put on the tunnel's device, as a sentence; empty when nothing speaks
// against it. A wider network around one of the host's is no conflict: the host's route is the
// longer one and stays in force.
std::string conflict_of(const Ipv4Interface& wanted, Ipv4Address gateway,
                        std::span<const HostAddress> host);

// The host's address whose network a route to `destination` would take into the tunnel, all of it
// or a part; nullptr: none. Again a wider one takes nothing.
const HostAddress* network_taken_by(const Ipv4Prefix& destination,
                                    std::span<const HostAddress> host);

}  // namespace adit::client
