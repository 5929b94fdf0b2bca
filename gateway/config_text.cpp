// What the configuration's values say about themselves: the summary of `--check`, and the small
// questions that the rest of the gateway asks.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gateway/config.h"
#include "gateway/renewal.h"
#include "lib/config/formats.h"
#include "lib/net/headers.h"

namespace adit::gateway {
namespace {

// The names of list items, "a, b".
template <typename List, typename Text>
std::string join(const List& list, Text text) {
  std::string out;
  for (const auto& item : list) out += (out.empty() ? "" : ", ") + text(item);
  return out.empty() ? "none" : out;
}

template <typename List>
std::string join(const List& list) {
  return join(list, [](const auto& item) { return item.to_string(); });
}

std::string names_of(const std::vector<Protection>& protections) {
  return join(protections, [](Protection p) { return std::string(tunnel::protection_name(p)); });
}

std::string port_line(const Config& config, size_t index) {
  const PortConfig& port = config.ports[index];
  std::string role = index == config.uplink ? "uplink" : "";
  if (index == config.public_port) role += role.empty() ? "public" : " and public";
  std::string line = "port " + port.name + " (" + role + "): " + port.device + ", address " +
                     port.address.to_string() + ", MTU " + std::to_string(port.mtu);
  if (port.vlan) line += ", VLAN " + std::to_string(*port.vlan);
  if (port.next_hop) line += ", next hop " + port.next_hop->to_string();
  return line + (port.is_adaptive() ? ", adaptive" : ", polling") + "\n";
}

std::string tunnel_line(const Config& config) {
  const TunnelConfig& tunnel = config.tunnel;
  return "tunnel: UDP " + config.tunnel_endpoint().to_string() + ", MTU " +
         std::to_string(tunnel.mtu) + ", heartbeat " + config::duration_text(tunnel.heartbeat_ns) +
         ", dead after " + config::duration_text(tunnel.dead_after_ns) + ", at most " +
         std::to_string(tunnel.max_tunnels) + " tunnels, protections " +
         names_of(tunnel.protections) + "\n";
}

std::string key_line(const Config& config) {
  const uint32_t kept = config.expanded_keys();
  if (kept == 0) return "";
  const unsigned workers = config.workers();
  return "tunnel: AES keys of " + std::to_string(kept) + " tunnels kept expanded" +
         (workers > 1 ? " by each worker, in " : ", in ") +
         std::to_string(uint64_t{workers} * kept * kExpandedKeysBytes >> 10) + " KiB of memory\n";
}

std::string pool_line(const PoolConfig& pool) {
  return "pool " + pool.name + ": " + pool.network.to_string() + ", router " +
         pool.router.to_string() + ", " + std::to_string(pool.range.count()) +
         " addresses to lease (" + pool.range.to_string() + ") for " +
         config::duration_text(pool.lease_s * kSecond_ns) + ", routes " + join(pool.routes) + "\n";
}

std::string block_lines(const Config& config) {
  const NatConfig& nat = config.nat;
  const auto text = [](uint64_t number) { return std::to_string(number); };
  const uint64_t first_blocks = nat.ports.count() / nat.first_block_ports;
  std::string out = "nat: up to " + text(nat.ports_in(nat.limits.blocks)) +
                    " ports for a subscriber in " + text(nat.limits.blocks) +
                    " blocks; first blocks of " + text(nat.first_block_ports) +
                    " ports for up to " + text(first_blocks * nat.external_address_count()) +
                    " subscribers\n";
  for (const PoolConfig& pool : config.pools) {
    const uint32_t blocks = pool.nat.limits.blocks;
    if (blocks == nat.limits.blocks) continue;
    out += "nat: for pool " + pool.name + ": up to " + text(nat.ports_in(blocks)) +
           " ports for a subscriber in " + text(blocks) + " blocks\n";
  }
  for (const SubscriberConfig& subscriber : config.subscribers) {
    const uint32_t blocks = subscriber.limits.blocks;
    if (blocks == config.pools[subscriber.pool].nat.limits.blocks) continue;
    out += "nat: up to " + text(nat.ports_in(blocks)) + " ports for " + subscriber.name + " in " +
           text(blocks) + " blocks\n";
  }
  return out;
}

// What a pool's clients find different; nothing where that is nothing.
std::string policy_line(const PoolConfig& pool, const NatPolicyConfig& all) {
  std::vector<std::string> parts;
  const auto tell_switch = [&](const std::string& name, bool its, bool default_) {
    if (its != default_) parts.push_back(name + (its ? " on" : " off"));
  };
  const auto tell_mode = [&](const std::string& name, nat::Filtering its, nat::Filtering default_) {
    if (its != default_) parts.push_back(name + " filtering " + nat::name_of(its));
  };
  std::string times;
  const auto tell_time = [&](const std::string& name, uint64_t its, uint64_t default_) {
    if (its == default_) return;
    times += (times.empty() ? "timeouts " : ", ") + name + " " +
             (its == 0 ? "off" : config::duration_text(its));
  };
  tell_switch("port parity", pool.nat.port_parity, all.port_parity);
  tell_switch("hairpin", pool.nat.hairpin, all.hairpin);
  tell_switch("inbound refresh", pool.nat.inbound_refresh, all.inbound_refresh);
  tell_mode("UDP", pool.nat.filtering.udp, all.filtering.udp);
  tell_mode("TCP", pool.nat.filtering.tcp, all.filtering.tcp);
  tell_mode("ICMP", pool.nat.filtering.icmp, all.filtering.icmp);
  const NatTimeouts& its = pool.nat.timeouts;
  tell_time("udp", its.udp_ns, all.timeouts.udp_ns);
  tell_time("tcp_established", its.tcp_established_ns, all.timeouts.tcp_established_ns);
  tell_time("tcp_opening", its.tcp_opening_ns, all.timeouts.tcp_opening_ns);
  tell_time("tcp_closing", its.tcp_closing_ns, all.timeouts.tcp_closing_ns);
  tell_time("icmp", its.icmp_ns, all.timeouts.icmp_ns);
  tell_time("dns", its.dns_ns.value_or(0), all.timeouts.dns_ns.value_or(0));
  tell_time("port_rest", its.port_rest_ns, all.timeouts.port_rest_ns);
  if (!times.empty()) parts.push_back(times);
  if (parts.empty()) return "";
  return "nat: for pool " + pool.name + ": " +
         join(parts, [](const std::string& part) { return part; }) + "\n";
}

std::string nat_lines(const Config& config) {
  const NatConfig& nat = config.nat;
  const auto text = [](uint64_t number) { return std::to_string(number); };
  const uint64_t addresses = nat.external_address_count();
  std::string out = "nat: " + text(addresses) + " external addresses (" + join(nat.external) +
                    "), ports " + nat.ports.to_string() + ", reserved " + join(nat.reserved) +
                    "; " + text(addresses * nat.ports.count()) + " ports" +
                    (config.workers() > 1 ? " for " + text(config.workers()) + " workers" : "") +
                    "\n";
  if (nat.allocation == Allocation::deterministic) {
    out += "nat: " + text(nat.deterministic_ports) +
           " ports for each subscriber, always the same; " + text(nat.ranges().count()) +
           " subscribers fit, there are " + text(config.subscribers.size()) + "\n";
  } else {
    out += block_lines(config);
  }
  if (nat.low_ports) {
    out += "nat: internal ports below 1024 get one of " + nat.low_ports->to_string() +
           ", at most " + text(nat.low_ports->count() / 8) + " a subscriber\n";
  }
  if (nat.port_parity) out += "nat: external UDP and TCP ports are odd where the internal are\n";
  for (const PoolConfig& pool : config.pools) out += policy_line(pool, nat);
  return out;
}

// What is reached without a mapping that traffic makes; nothing where there is no such thing.
std::string static_lines(const Config& config) {
  std::string out;
  if (!config.nat.exempt.empty()) {
    out += "exempt from translation: " + join(config.nat.exempt) + "\n";
  }
  for (const SubscriberConfig& subscriber : config.subscribers) {
    const std::string whose = "subscriber " + subscriber.name + ": ";
    if (subscriber.external_address) {
      out += whose + subscriber.address->to_string() + " is " +
             subscriber.external_address->to_string() + " outside, one to one\n";
    }
    for (const ForwardConfig& forward : subscriber.forwards) {
      out += whose + (forward.protocol == kIpUdp ? "udp " : "tcp ") + forward.external.to_string() +
             " is forwarded to " + forward.to.to_string() + "\n";
    }
    if (!subscriber.routed.empty()) out += whose + "routed " + join(subscriber.routed) + "\n";
  }
  return out;
}

std::string subscriber_line(const std::vector<SubscriberConfig>& subscribers) {
  const auto fixed = std::count_if(subscribers.begin(), subscribers.end(),
                                   [](const SubscriberConfig& s) { return s.address.has_value(); });
  return "subscribers: " + std::to_string(subscribers.size()) + ", of which " +
         std::to_string(fixed) + " with a fixed address\n";
}

// Why a subscriber has one lane, whatever is configured; nullptr: it may have more.
const char* one_lane_reason(const NatConfig& nat, const SubscriberConfig& subscriber) {
  if (nat.allocation == Allocation::deterministic) return "nat.allocation is deterministic";
  if (nat.low_ports) return "nat.low_ports are shared out by worker";
  if (subscriber.external_address) return "it has an external_address";
  if (!subscriber.forwards.empty()) return "it has forwards";
  return nullptr;
}

// What was configured, and where it is not what there is; nothing where nobody may have lanes.
std::string lane_lines(const Config& config) {
  std::string out;
  const unsigned most = config.tunnel.lanes_max;
  if (most > 1) {
    const char* const of_all = one_lane_reason(config.nat, {});
    if (of_all != nullptr) return std::string("lanes: one for all, since ") + of_all + "\n";
    out = "lanes: up to " + std::to_string(most) + " for a subscriber\n";
  }
  for (const SubscriberConfig& subscriber : config.subscribers) {
    const unsigned wanted = subscriber.lanes.value_or(config.tunnel.lanes_max);
    const unsigned lanes = config.lanes_of(subscriber);
    if (lanes < wanted) {
      out += "lanes: one for " + subscriber.name + ", since " +
             one_lane_reason(config.nat, subscriber) + "\n";
    } else if (lanes != most) {
      out += "lanes: up to " + std::to_string(lanes) + " for " + subscriber.name + "\n";
    }
  }
  return out;
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
}

}  // namespace

bool PortConfig::is_pci() const {
  // [domain:]bus:device.function, perhaps with device arguments after a comma.
  std::string_view bus(device);
  bus = bus.substr(0, bus.find(','));
  if (bus.size() == 12 && bus[4] == ':' && is_hex(bus.substr(0, 4))) bus.remove_prefix(5);
  return bus.size() == 7 && bus[2] == ':' && bus[5] == '.' && is_hex(bus.substr(0, 2)) &&
         is_hex(bus.substr(3, 2)) && bus[6] >= '0' && bus[6] <= '7';
}

bool PortConfig::is_adaptive() const {
  return idle == Idle::kAuto ? !is_pci() : idle == Idle::kAdaptive;
}

std::string ReservedPorts::to_string() const {
  std::string text;
  if (address) text += address->to_string() + ":";
  if (protocol) {
    text += *protocol == kIpUdp ? "udp:" : *protocol == kIpTcp ? "tcp:" : "icmp:";
  }
  return text + ports.to_string();
}

std::string describe_check(const Config& config) {
  std::string out;
  for (size_t i = 0; i < config.ports.size(); ++i) out += port_line(config, i);
  out += tunnel_line(config);
  out += key_line(config);
  out += lane_lines(config);
  const std::string warning = renewal_warning(config);
  if (!warning.empty()) out += "warning: " + warning + "\n";
  for (const PoolConfig& pool : config.pools) out += pool_line(pool);
  return out + nat_lines(config) + static_lines(config) + subscriber_line(config.subscribers);
}

unsigned Config::lanes_of(const SubscriberConfig& subscriber) const {
  if (one_lane_reason(nat, subscriber) != nullptr) return 1;
  return subscriber.lanes.value_or(tunnel.lanes_max);
}

uint32_t Config::expanded_keys() const {
  const auto may_use_aes = [](const SubscriberConfig& subscriber) {
    return std::ranges::count(subscriber.protections, Protection::aes_256_gcm) != 0;
  };
  if (std::ranges::none_of(subscribers, may_use_aes)) return 0;
  // Slots of the tunnel table; its first is nobody's.
  return std::min(std::bit_ceil(tunnel.max_tunnels + 1), std::bit_floor(tunnel.expanded_keys));
}

bool use_hugepages(const EalConfig& eal) {
  if (eal.hugepages != EalConfig::Hugepages::kAuto) {
    return eal.hugepages == EalConfig::Hugepages::kYes;
  }
  // Directories are named after the pages' size, as in "hugepages-2048kB".
  std::error_code error;
  const std::filesystem::directory_iterator sizes("/sys/kernel/mm/hugepages", error);
  if (error) return false;
  uint64_t free_kb = 0;
  for (const auto& size : sizes) {
    uint64_t free_pages = 0;
    std::ifstream(size.path() / "free_hugepages") >> free_pages;
    const std::string name = size.path().filename().string();
    free_kb += free_pages * std::strtoull(name.c_str() + name.find('-') + 1, nullptr, 10);
  }
  return free_kb >= uint64_t{eal.memory_mb} * 1024;
}

}  // namespace adit::gateway
