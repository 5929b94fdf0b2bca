// A network card with receive-side scaling, in software: which queue it would put a frame into,
// given the key, the redirection table and the flow rules that the gateway programs into a real
// one. The hash is DPDK's rte_softrss(), not ours.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gateway/flow_rules.h"
#include "gateway/steering.h"

namespace adit::test {

class NicModel {
 public:
  // Whole UDP and TCP packets are hashed by addresses and ports; others by their addresses, if they
  // are hashed at all.
  NicModel(std::vector<uint8_t> key, std::vector<uint16_t> queues, bool hashes_addresses);
  // As the gateway sets up its public port, and its uplink.
  static NicModel by_port(const gateway::SteeringPlan& plan, unsigned entries);
  static NicModel by_flow(const gateway::SteeringPlan& plan, unsigned entries);
  // And one port that is both: by_port, but for what a rule is for.
  static NicModel by_rules(const gateway::SteeringPlan& plan, unsigned entries,
                           std::vector<gateway::FlowRule> rules);

  unsigned queue_of(std::span<const uint8_t> frame) const;
  uint32_t hash_of(std::span<const uint8_t> frame) const;
  // The rule that a frame meets; null: none.
  const gateway::FlowRule* rule_for(std::span<const uint8_t> frame) const;

 private:
  std::vector<uint8_t> key_;
  std::vector<uint16_t> queues_;
  bool hashes_addresses_;
  std::vector<gateway::FlowRule> rules_;
};

}  // namespace adit::test
