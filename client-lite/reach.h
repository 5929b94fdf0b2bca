// Whether a gateway can be reached, without a tunnel: a few handshakes on a socket of their own,
// and, when nothing comes back, how far UDP towards it is seen to get, or when it does, how long
// the packets may be. For `adit-client doctor`; it blocks for a few seconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "client-lite/config.h"
#include "client-lite/state_files.h"
#include "lib/net/address.h"

namespace adit::client {

struct Reach {
  enum Outcome : uint8_t {
    answered,       // a handshake response that opens
    differs,        // a response that does not: the preshared key is not the gateway's
    refuses_key,    // the gateway is there, but our key is none that it knows
    low_order_key,  // the gateway's public key in the configuration is no key
    no_route,       // this machine, or a router on the way, has no route to it
    not_permitted,  // this machine's own filter, or a route that prohibits
    closed,         // its machine is there, and nothing listens
    prohibited,     // a filter on the way said so
    silent,
  };
  Outcome outcome = silent;
  uint64_t round_trip_ns = 0;         // answered
  std::string protection;             // answered
  // Answered: the largest outer packet that the way carries; 0: not known. Measured, it went both
  // ways, and 0 is less than the client itself looks for; else it is what links and routers tell.
  uint32_t path_mtu_bytes = 0;
  bool is_mtu_measured = false;
  unsigned last_hop = 0;              // silent: the farthest that told us a packet had passed by
  Ipv4Address last_hop_address;
};

// Every stamp sent is in `files` before it is on the wire, as the client's own are.
Reach reach(const Config& config, const GatewayConfig& gateway, const Endpoint& endpoint,
            const StateFiles& files);

}  // namespace adit::client
