// Which worker a packet from the Internet belongs to follows from its destination port alone, and a
// network card that hashes can be told so.
//
// Theory. Receive-side scaling hashes addresses and ports with the Toeplitz function: the hash is
// the exclusive or of 32-bit windows of the key, one for each bit of the input that is set. Let bit
// 111 of the key be its only one. Then an input bit counts only if it is one of bits 80 to 111, and
// of an IPv4 packet with ports these are the destination port's (80 to 95): port bit k, from the
// lowest on, turns into hash bit 15 - k. The hash is the port's bits reversed, whatever the
// addresses and the source port; a redirection table of 2^n entries is indexed by its lowest n
// bits, which are the port's topmost n, so that each entry stands for a run of contiguous ports.
// Port blocks lie within such runs, "slices", and a reply comes back to the worker that has granted
// the block.
//
// What a card hashes by addresses alone (fragments, ICMP, ESP, GRE) has the hash 0, and comes to
// slice 0's worker, which hands it to its owner (hand_off.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gateway/config.h"

namespace adit::gateway {

inline constexpr unsigned kRedirectionMax = 2048;  // entries of a table that we can use

struct SteeringPlan {
  unsigned workers = 1;
  unsigned slices = 1;          // of each address's ports; a power of two
  std::vector<uint8_t> shares;  // whose each window is: nat::Settings::shares. Empty: one worker's
};

// `block_ports_max`: of the largest block, which has to lie within a slice; a power of two.
// `redirection_entries`: of the public port's table; 0: it has none. `low_ports` (nat.low_ports)
// are split among the workers, as far as they go. nullopt: there are more workers than slices.
std::optional<SteeringPlan> plan_steering(unsigned workers, unsigned block_ports_max,
                                          unsigned redirection_entries,
                                          const std::optional<config::PortRange>& low_ports);

// The key of `bytes` bytes that makes the hash of an IPv4 UDP or TCP packet its reversed
// destination port.
std::vector<uint8_t> port_steering_key(unsigned bytes);

// Which worker's queue each of `entries` (a power of two, at least plan.slices) entries leads to.
std::vector<uint16_t> port_redirection(const SteeringPlan& plan, unsigned entries);

// A key whose bits are well mixed, for what is spread by flow: fixed, so that a restart brings a
// tunnel's packets to the same worker.
std::vector<uint8_t> flow_steering_key(unsigned bytes);

// Even shares for what may come to any worker: the uplink.
std::vector<uint16_t> even_redirection(unsigned queues, unsigned entries);

}  // namespace adit::gateway
