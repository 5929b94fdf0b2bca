#include "tests/support/nic_model.h"

#include <rte_thash.h>

#include "lib/net/headers.h"

namespace adit::test {

namespace {

// What a card reads of a frame.
struct Fields {
  uint16_t vlan = 0;  // 0: untagged
  bool is_ipv4 = false;
  uint8_t protocol = 0;
  bool has_ports = false;  // a whole UDP or TCP packet
  uint32_t tuple[3] = {};  // addresses and ports, as the hash takes them
  uint16_t source_port() const { return static_cast<uint16_t>(tuple[2] >> 16); }
  uint16_t destination_port() const { return static_cast<uint16_t>(tuple[2]); }
};

Fields fields_of(std::span<const uint8_t> frame) {
  Fields fields;
  size_t at = 14;
  const auto byte = [&](size_t i) { return at + i < frame.size() ? uint32_t{frame[at + i]} : 0u; };
  const auto word = [&](size_t i) { return byte(i) << 8 | byte(i + 1); };
  if (frame.size() > 18 && frame[12] == 0x81 && frame[13] == 0) {
    fields.vlan = static_cast<uint16_t>(word(0) & 0xfff);
    at += 4;
  }
  fields.is_ipv4 = byte(0) >> 4 == 4;
  fields.protocol = static_cast<uint8_t>(byte(9));
  const bool is_fragment = (word(6) & 0x3fff) != 0;
  fields.has_ports =
      fields.is_ipv4 && !is_fragment && (fields.protocol == kIpUdp || fields.protocol == kIpTcp);
  fields.tuple[0] = word(12) << 16 | word(14);
  fields.tuple[1] = word(16) << 16 | word(18);
  const size_t ports = (byte(0) & 15) * 4;
  if (fields.has_ports) fields.tuple[2] = word(ports) << 16 | word(ports + 2);
  return fields;
}

}  // namespace

NicModel::NicModel(std::vector<uint8_t> key, std::vector<uint16_t> queues, bool hashes_addresses)
    : key_(std::move(key)), queues_(std::move(queues)), hashes_addresses_(hashes_addresses) {}

NicModel NicModel::by_port(const gateway::SteeringPlan& plan, unsigned entries) {
  return {gateway::port_steering_key(40), gateway::port_redirection(plan, entries), false};
}

NicModel NicModel::by_flow(const gateway::SteeringPlan& plan, unsigned entries) {
  return {gateway::flow_steering_key(40), gateway::even_redirection(plan.workers, entries), true};
}

NicModel NicModel::by_rules(const gateway::SteeringPlan& plan, unsigned entries,
                            std::vector<gateway::FlowRule> rules) {
  NicModel nic = by_port(plan, entries);
  nic.rules_ = std::move(rules);
  return nic;
}

uint32_t NicModel::hash_of(std::span<const uint8_t> frame) const {
  Fields fields = fields_of(frame);
  if (!fields.is_ipv4) return 0;
  if (fields.has_ports) return rte_softrss(fields.tuple, 3, key_.data());
  return hashes_addresses_ ? rte_softrss(fields.tuple, 2, key_.data()) : 0;
}

const gateway::FlowRule* NicModel::rule_for(std::span<const uint8_t> frame) const {
  const Fields fields = fields_of(frame);
  if (!fields.has_ports || fields.protocol != kIpUdp) return nullptr;
  for (const gateway::FlowRule& rule : rules_) {
    if (fields.vlan == rule.vlan && fields.tuple[1] == rule.tunnel.address.host() &&
        fields.destination_port() == rule.tunnel.port.host() &&
        (fields.source_port() & rule.source_port_mask) == rule.source_port) {
      return &rule;
    }
  }
  return nullptr;
}

unsigned NicModel::queue_of(std::span<const uint8_t> frame) const {
  if (const gateway::FlowRule* rule = rule_for(frame)) {
    if (rule->queues.size() == 1) return rule->queues.front();
    Fields fields = fields_of(frame);
    return rule->queues[rte_softrss(fields.tuple, 3, rule->key.data()) % rule->queues.size()];
  }
  return queues_[hash_of(frame) & (queues_.size() - 1)];
}

}  // namespace adit::test
