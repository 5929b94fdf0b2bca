// What the configuration says about external ports: how many, whose, and who had one. The answers
// of `--ports-of` and `--who-has` need no running gateway, years later either, as long as the file
// is the one of that time.
#include <algorithm>
#include <string>

#include "gateway/config.h"
#include "lib/config/formats.h"

namespace adit::gateway {
namespace {

PortsAnswer not_known(const std::string& why) { return {false, why}; }

PortsAnswer not_deterministic() {
  return not_known(
      "not known from the configuration: nat.allocation is random, so ports are given as they are "
      "wanted; aditctl mappings says who has them now");
}

std::string range_text(const Config& config, const nat::DeterministicRanges::Range& range) {
  return config.nat.external_address(range.pool_index).to_string() + " ports " +
         std::to_string(range.first_port) + "-" +
         std::to_string(range.first_port + config.nat.deterministic_ports - 1);
}

}  // namespace

bool Config::joins_tunnels() const {
  return std::ranges::any_of(pools, &PoolConfig::tunnel_to_tunnel);
}

uint64_t NatConfig::external_address_count() const {
  uint64_t count = 0;
  for (const config::Ipv4Range& range : external) count += range.count();
  return count;
}

bool NatConfig::is_reserved(Ipv4Address address, uint8_t protocol, uint16_t port) const {
  return std::any_of(reserved.begin(), reserved.end(),
                     [&](const ReservedPorts& r) { return r.matches(address, protocol, port); });
}

uint32_t NatConfig::ports_in(uint32_t blocks) const {
  return first_block_ports * ((1u << blocks) - 1);
}

uint32_t Config::largest_block_ports() const {
  if (nat.allocation == Allocation::deterministic) return nat.deterministic_ports;
  uint32_t blocks = nat.limits.blocks;
  for (const PoolConfig& pool : pools) blocks = std::max(blocks, pool.nat.limits.blocks);
  for (const SubscriberConfig& subscriber : subscribers) {
    blocks = std::max(blocks, subscriber.limits.blocks);
  }
  return nat.first_block_ports << (blocks - 1);
}

nat::DeterministicRanges NatConfig::ranges() const {
  return {static_cast<uint32_t>(external_address_count()), ports.first, ports.last,
          deterministic_ports};
}

Ipv4Address NatConfig::external_address(uint64_t index) const {
  for (const config::Ipv4Range& range : external) {
    if (index < range.count()) {
      return Ipv4Address::from_host(static_cast<uint32_t>(range.first.host() + index));
    }
    index -= range.count();
  }
  return {};
}

PortsAnswer ports_of(const Config& config, const std::string& subscriber) {
  const auto found = std::ranges::find(config.subscribers, subscriber, &SubscriberConfig::name);
  if (found == config.subscribers.end()) {
    return not_known("no subscriber has the name \"" + subscriber + "\"");
  }
  if (config.nat.allocation != Allocation::deterministic) return not_deterministic();
  const auto ordinal = static_cast<uint32_t>(found - config.subscribers.begin());
  const auto range = config.nat.ranges().range_of(ordinal);  // there are enough: it has loaded
  return {true, subscriber + " has " + range_text(config, *range) + " of UDP, TCP and ICMP"};
}

PortsAnswer who_has(const Config& config, const std::string& external_endpoint) {
  const auto endpoint = config::endpoint().parse(external_endpoint);
  if (!endpoint) {
    return not_known("expected " + config::endpoint().expected + ", got \"" + external_endpoint +
                     "\"");
  }
  if (config.nat.allocation != Allocation::deterministic) return not_deterministic();
  const uint16_t port = endpoint->port.host();
  uint32_t pool_index = 0;
  for (const config::Ipv4Range& range : config.nat.external) {
    if (range.contains(endpoint->address)) {
      pool_index += endpoint->address.host() - range.first.host();
      break;
    }
    pool_index += static_cast<uint32_t>(range.count());
  }
  const auto is_withheld = [&](const ReservedPorts& reserved) {
    return reserved.ports.contains(port) &&
           (!reserved.address || *reserved.address == endpoint->address);
  };
  if (std::ranges::any_of(config.nat.reserved, is_withheld)) {
    return {true, "nobody has " + external_endpoint + ": it is reserved"};
  }
  const nat::DeterministicRanges ranges = config.nat.ranges();
  const auto ordinal = ranges.ordinal_of(pool_index, port);
  if (!ordinal) return {true, "nobody has " + external_endpoint + ": it is in no range"};
  const std::string range = range_text(config, *ranges.range_of(*ordinal));
  if (*ordinal >= config.subscribers.size()) {
    return {true, "nobody has " + external_endpoint + ": " + range + " await a subscriber"};
  }
  return {true, config.subscribers[*ordinal].name + " has " + range};
}

}  // namespace adit::gateway
