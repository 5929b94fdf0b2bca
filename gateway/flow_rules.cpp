#include "gateway/flow_rules.h"

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>

#include <bit>
#include <numeric>

#include "gateway/steering.h"

namespace adit::gateway {
namespace {

// So many rules a worker, at least, where shares cannot be equal.
constexpr unsigned kRulesPerWorkerMin = 4;

// A rule in DPDK's words. Its parts point to one another, and to the rule.
class Flow {
 public:
  explicit Flow(const FlowRule& rule) {
    attributes_.ingress = 1;
    vlan_.hdr.vlan_tci = Be16::from_host(rule.vlan).raw();
    vlan_mask_.hdr.vlan_tci = RTE_BE16(0x0fff);
    ip_.hdr.dst_addr = rule.tunnel.address.value.raw();
    ip_mask_.hdr.dst_addr = UINT32_MAX;
    udp_.hdr.dst_port = rule.tunnel.port.raw();
    udp_mask_.hdr.dst_port = UINT16_MAX;
    udp_.hdr.src_port = Be16::from_host(rule.source_port).raw();
    udp_mask_.hdr.src_port = Be16::from_host(rule.source_port_mask).raw();
    rte_flow_item* item = items_;
    *item++ = {.type = RTE_FLOW_ITEM_TYPE_ETH, .spec = nullptr, .last = nullptr, .mask = nullptr};
    if (rule.vlan != 0) {
      *item++ = {RTE_FLOW_ITEM_TYPE_VLAN, &vlan_, nullptr, &vlan_mask_};
    }
    *item++ = {RTE_FLOW_ITEM_TYPE_IPV4, &ip_, nullptr, &ip_mask_};
    *item++ = {RTE_FLOW_ITEM_TYPE_UDP, &udp_, nullptr, &udp_mask_};
    item->type = RTE_FLOW_ITEM_TYPE_END;

    queue_.index = rule.queues.front();
    rss_.types = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
    rss_.key_len = static_cast<uint32_t>(rule.key.size());
    rss_.key = rule.key.data();
    rss_.queue_num = static_cast<uint32_t>(rule.queues.size());
    rss_.queue = rule.queues.data();
    if (rule.queues.size() == 1) {
      actions_[0] = {RTE_FLOW_ACTION_TYPE_QUEUE, &queue_};
    } else {
      actions_[0] = {RTE_FLOW_ACTION_TYPE_RSS, &rss_};
    }
    actions_[1] = {RTE_FLOW_ACTION_TYPE_END, nullptr};
  }
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;

  bool is_accepted(uint16_t port, rte_flow_error& error) const {
    return rte_flow_validate(port, &attributes_, items_, actions_, &error) == 0;
  }
  rte_flow* create(uint16_t port, rte_flow_error& error) const {
    return rte_flow_create(port, &attributes_, items_, actions_, &error);
  }

 private:
  rte_flow_attr attributes_{};
  rte_flow_item_vlan vlan_{};
  rte_flow_item_vlan vlan_mask_{};
  rte_flow_item_ipv4 ip_{};
  rte_flow_item_ipv4 ip_mask_{};
  rte_flow_item_udp udp_{};
  rte_flow_item_udp udp_mask_{};
  rte_flow_action_queue queue_{};
  rte_flow_action_rss rss_{};
  rte_flow_item items_[5]{};
  rte_flow_action actions_[2]{};
};

}  // namespace

std::vector<FlowRule> hash_rules(const Endpoint& tunnel, uint16_t vlan, unsigned workers,
                                 unsigned key_bytes) {
  FlowRule rule{.tunnel = tunnel, .vlan = vlan, .queues = {}, .key = {}};
  rule.queues.resize(workers);
  std::iota(rule.queues.begin(), rule.queues.end(), uint16_t{0});
  rule.key = flow_steering_key(key_bytes);
  return {rule};
}

std::vector<FlowRule> source_port_rules(const Endpoint& tunnel, uint16_t vlan, unsigned workers) {
  const unsigned count =
      std::has_single_bit(workers) ? workers : std::bit_ceil(workers) * kRulesPerWorkerMin;
  std::vector<FlowRule> rules;
  for (unsigned i = 0; i < count; ++i) {
    rules.push_back({.tunnel = tunnel,
                     .vlan = vlan,
                     .source_port = static_cast<uint16_t>(i),
                     .source_port_mask = static_cast<uint16_t>(count - 1),
                     .queues = {static_cast<uint16_t>(i % workers)},
                     .key = {}});
  }
  return rules;
}

bool InstalledRules::install(uint16_t port, std::span<const FlowRule> rules) {
  clear();
  port_ = port;
  for (const FlowRule& rule : rules) {
    const Flow flow(rule);
    rte_flow_error error{};
    rte_flow* const installed = flow.is_accepted(port, error) ? flow.create(port, error) : nullptr;
    if (installed == nullptr) {
      refusal_ = error.message != nullptr ? error.message : rte_strerror(rte_errno);
      clear();
      return false;
    }
    flows_.push_back(installed);
  }
  return true;
}

void InstalledRules::clear() {
  for (rte_flow* const flow : flows_) {
    rte_flow_error error{};
    rte_flow_destroy(port_, flow, &error);
  }
  flows_.clear();
}

}  // namespace adit::gateway
