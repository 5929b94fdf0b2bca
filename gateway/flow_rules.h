// One port that is both uplink and public: the card brings replies to the worker of their
// destination port (steering.h), and by that all tunnel packets would come to one worker, for they
// all go to the same port. So these are taken out by rules of the card (rte_flow), which spread
// them by what differs: their client's address and port.
//
// Rules are plain values, so that a test can apply the very same to its packets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/net/address.h"

struct rte_flow;

namespace adit::gateway {

// For whole UDP packets to the tunnel endpoint.
struct FlowRule {
  Endpoint tunnel;
  uint16_t vlan = 0;              // of the tag that they come with; 0: none
  uint16_t source_port = 0;       // in the bits of the mask
  uint16_t source_port_mask = 0;  // 0: from any port
  // Where they go to. One: that queue. Several: as their hash says, over addresses and ports with
  // this key.
  std::vector<uint16_t> queues;
  std::vector<uint8_t> key;

  friend bool operator==(const FlowRule&, const FlowRule&) = default;
};

// A single rule, that the card hash them as an uplink does; `key_bytes` as it has them.
std::vector<FlowRule> hash_rules(const Endpoint& tunnel, uint16_t vlan, unsigned workers,
                                 unsigned key_bytes);

// For a card that has one hash for all: a rule for each value of the source port's lowest bits. As
// many as workers if these are a power of two; else four times the next one, and no worker has more
// than a quarter above another's share.
std::vector<FlowRule> source_port_rules(const Endpoint& tunnel, uint16_t vlan, unsigned workers);

// The rules that a port has been given; gone with this.
class InstalledRules {
 public:
  InstalledRules() = default;
  ~InstalledRules() { clear(); }
  InstalledRules(const InstalledRules&) = delete;
  InstalledRules& operator=(const InstalledRules&) = delete;

  // All of them, after what was there is gone. False: the device refuses one, and has none;
  // refusal() says why. The port has been started.
  bool install(uint16_t port, std::span<const FlowRule> rules);
  void clear();

  size_t count() const { return flows_.size(); }
  // The device's reason for the last refusal, in its own words.
  const std::string& refusal() const { return refusal_; }

 private:
  uint16_t port_ = 0;
  std::vector<rte_flow*> flows_;
  std::string refusal_;
};

}  // namespace adit::gateway
