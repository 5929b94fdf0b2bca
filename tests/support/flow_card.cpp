#include "tests/support/flow_card.h"

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>

#include "tests/support/library_function.h"

namespace adit::test {

namespace {

FlowCard* card = nullptr;

// A part of a rule's pattern, whose mask must be `mask` and nothing else.
template <typename Item>
std::optional<Item> exact(const rte_flow_item& item, const Item& mask) {
  if (item.spec == nullptr || item.mask == nullptr || item.last != nullptr ||
      std::memcmp(item.mask, &mask, sizeof mask) != 0) {
    return std::nullopt;
  }
  return *static_cast<const Item*>(item.spec);
}

// Ethernet, perhaps a VLAN, IPv4, UDP; and a queue, or several.
std::optional<gateway::FlowRule> rule_of(const rte_flow_attr& attributes, const rte_flow_item* item,
                                         const rte_flow_action* action) {
  if (!attributes.ingress || attributes.egress || attributes.transfer) return std::nullopt;
  gateway::FlowRule rule;
  if (item->type != RTE_FLOW_ITEM_TYPE_ETH || item->spec != nullptr) return std::nullopt;
  ++item;
  if (item->type == RTE_FLOW_ITEM_TYPE_VLAN) {
    rte_flow_item_vlan mask{};
    mask.hdr.vlan_tci = RTE_BE16(0x0fff);
    const auto vlan = exact(*item++, mask);
    if (!vlan) return std::nullopt;
    rule.vlan = Be16::from_raw(vlan->hdr.vlan_tci).host();
  }
  rte_flow_item_ipv4 ip_mask{};
  ip_mask.hdr.dst_addr = UINT32_MAX;
  if (item->type != RTE_FLOW_ITEM_TYPE_IPV4) return std::nullopt;
  const auto ip = exact(*item++, ip_mask);
  if (!ip || item->type != RTE_FLOW_ITEM_TYPE_UDP || item->mask == nullptr) return std::nullopt;
  rte_flow_item_udp udp_mask{};
  udp_mask.hdr.dst_port = UINT16_MAX;
  udp_mask.hdr.src_port = static_cast<const rte_flow_item_udp*>(item->mask)->hdr.src_port;
  const auto udp = exact(*item++, udp_mask);
  if (!udp || item->type != RTE_FLOW_ITEM_TYPE_END) return std::nullopt;
  rule.tunnel = {{Be32::from_raw(ip->hdr.dst_addr)}, Be16::from_raw(udp->hdr.dst_port)};
  rule.source_port = Be16::from_raw(udp->hdr.src_port).host();
  rule.source_port_mask = Be16::from_raw(udp_mask.hdr.src_port).host();

  if (action[1].type != RTE_FLOW_ACTION_TYPE_END) return std::nullopt;
  if (action->type == RTE_FLOW_ACTION_TYPE_QUEUE) {
    rule.queues = {static_cast<const rte_flow_action_queue*>(action->conf)->index};
  } else if (action->type == RTE_FLOW_ACTION_TYPE_RSS) {
    const auto& rss = *static_cast<const rte_flow_action_rss*>(action->conf);
    if (rss.types != RTE_ETH_RSS_NONFRAG_IPV4_UDP) return std::nullopt;
    rule.queues.assign(rss.queue, rss.queue + rss.queue_num);
    rule.key.assign(rss.key, rss.key + rss.key_len);
  } else {
    return std::nullopt;
  }
  return rule;
}

}  // namespace

FlowCard::FlowCard() {
  assert(card == nullptr);
  card = this;
}

FlowCard::~FlowCard() {
  card = nullptr;
}

std::vector<gateway::FlowRule> FlowCard::rules() const {
  std::vector<gateway::FlowRule> copies;
  for (const auto& rule : rules_) copies.push_back(*rule);
  return copies;
}

struct FlowCardAccess {
  static int validate(const rte_flow_attr* attributes, const rte_flow_item* items,
                      const rte_flow_action* actions, rte_flow_error* error) {
    ++card->asked;
    const auto rule = rule_of(*attributes, items, actions);
    if (!rule) {
      return rte_flow_error_set(error, EINVAL, RTE_FLOW_ERROR_TYPE_ITEM, nullptr, "malformed");
    }
    if (rule->queues.size() > 1 && !card->takes_hash) {
      return rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ACTION, nullptr, "one hash");
    }
    return 0;
  }
  static rte_flow* create(const rte_flow_attr* attributes, const rte_flow_item* items,
                          const rte_flow_action* actions, rte_flow_error* error) {
    const auto rule = rule_of(*attributes, items, actions);
    if (!rule || card->rules_.size() >= card->room) {
      rte_flow_error_set(error, ENOSPC, RTE_FLOW_ERROR_TYPE_HANDLE, nullptr, "no room");
      return nullptr;
    }
    card->rules_.push_back(std::make_unique<gateway::FlowRule>(*rule));
    return reinterpret_cast<rte_flow*>(card->rules_.back().get());
  }
  static int destroy(const rte_flow* flow) {
    const auto is_it = [&](const auto& rule) {
      return reinterpret_cast<const rte_flow*>(rule.get()) == flow;
    };
    return std::erase_if(card->rules_, is_it) == 1 ? 0 : -ENOENT;
  }
};

}  // namespace adit::test

using adit::test::card;
using adit::test::FlowCardAccess;

int rte_flow_validate(uint16_t port, const rte_flow_attr* attributes, const rte_flow_item items[],
                      const rte_flow_action actions[], rte_flow_error* error) {
  if (card != nullptr) return FlowCardAccess::validate(attributes, items, actions, error);
  return adit::test::library_function<decltype(rte_flow_validate)>("rte_flow_validate")(
      port, attributes, items, actions, error);
}

rte_flow* rte_flow_create(uint16_t port, const rte_flow_attr* attributes,
                          const rte_flow_item items[], const rte_flow_action actions[],
                          rte_flow_error* error) {
  if (card != nullptr) return FlowCardAccess::create(attributes, items, actions, error);
  return adit::test::library_function<decltype(rte_flow_create)>("rte_flow_create")(
      port, attributes, items, actions, error);
}

int rte_flow_destroy(uint16_t port, rte_flow* flow, rte_flow_error* error) {
  if (card != nullptr) return FlowCardAccess::destroy(flow);
  return adit::test::library_function<decltype(rte_flow_destroy)>("rte_flow_destroy")(port, flow,
                                                                                      error);
}
