// What the random model test does to the gateway: an episode is a list of steps, and how crowded it
// is there.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {

inline constexpr uint32_t kModelSlots = 6;
inline constexpr unsigned kModelPorts = 64;  // of each, internal

// Names things, not numbers that a run made: so a shortened list still makes sense.
struct Step {
  enum Verb : uint8_t {
    out,           // from (slot, port) to remote
    in,            // from remote to where (slot, port) last left from
    in_at,         // from remote to some port of the pool
    hairpin,       // from (slot, port) to where (peer, peer_port) last left from
    hairpin_at,    // from (slot, port) to some port of the pool
    error_in,      // somebody's ICMP error about a packet of (slot, port)
    error_out,     // the inner host's ICMP error about a packet it got
    error_round,   // the same about a packet that (peer, peer_port) sent to (slot, port)
    ttl_one_out,
    ttl_one_in,
    spoofed,
    wait,
    reopen,        // the tunnel ends and another takes its slot
    verbs
  } verb = out;
  Kind kind = Kind::udp;
  uint8_t slot = 1;
  uint8_t peer = 1;
  uint8_t remote = 0;
  uint8_t tcp_flags = 0;
  uint16_t port = 0;
  uint16_t peer_port = 0;
  uint32_t seconds = 0;
  bool may_fragment = false;  // all such packets have one id when they come to the gateway

  Endpoint internal() const { return internal_of(slot, port); }
  Endpoint peers_internal() const { return internal_of(peer, peer_port); }
  const Endpoint& remote_endpoint() const;

 private:
  static Endpoint internal_of(uint8_t slot, uint16_t port);
};
const char* name_of(unsigned verb);
std::ostream& operator<<(std::ostream& out, const Step& step);

// Few ports and low limits, so that every limit is met.
struct Crowd {
  uint16_t ports = 32;  // of each of two addresses
  uint16_t deterministic_ports = 0;
  uint16_t low_ports = 0;
  uint8_t blocks = 1;
  bool port_parity = false;
  uint32_t mappings = 200;
  uint32_t burst = 60;
  uint32_t tcp_opening_s = 240;
  uint32_t dns_s = 0;
  unsigned workers = 1;  // with ranges there is one: which worker a tunnel goes to, Control says

  nat::Settings settings() const;
};
std::ostream& operator<<(std::ostream& out, const Crowd& crowd);

struct Episode {
  Crowd crowd;
  std::vector<Step> steps;
};
Episode random_episode(uint64_t seed, size_t steps);
std::ostream& operator<<(std::ostream& out, const Episode& episode);

}  // namespace adit::gateway::test
