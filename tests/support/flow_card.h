// A network card that takes flow rules, in the place of DPDK's rte_flow functions: flow_card.cpp
// defines these for the program that it is linked into. While a FlowCard lives, it answers for
// every device; else the devices answer for themselves.
#pragma once

#include <memory>
#include <vector>

#include "gateway/flow_rules.h"

namespace adit::test {

class FlowCard {
 public:
  FlowCard();
  ~FlowCard();
  FlowCard(const FlowCard&) = delete;
  FlowCard& operator=(const FlowCard&) = delete;

  // What it has, in the order in which it came; read out of DPDK's structures, so that a rule is
  // here as it was meant, or not at all.
  std::vector<gateway::FlowRule> rules() const;

  bool takes_hash = true;  // for some of the packets another one than for the rest
  size_t room = 64;        // rules
  unsigned asked = 0;      // whether it would take a rule

 private:
  friend struct FlowCardAccess;
  std::vector<std::unique_ptr<gateway::FlowRule>> rules_;
};

}  // namespace adit::test
