// The checks that compare values with one another. Each judges only values that were read well, so
// that a mistake is reported once, and each names the value that has to change.
#include <algorithm>
#include <map>
#include <string>

#include "gateway/config_places.h"
#include "lib/net/headers.h"

namespace adit::gateway {

using config::Ipv4Range;
using config::Section;

Ipv4Range range_of(const Ipv4Prefix& prefix) {
  return {prefix.address, Ipv4Address::from_host(prefix.address.host() | ~prefix.mask_host())};
}

bool is_host_range(const Ipv4Range& range) {
  const Ipv4Range loopback = range_of({Ipv4Address::from_octets(127, 0, 0, 0), 8});
  return range.first.host() >> 24 != 0 && range.last.host() >> 29 != 7 && !range.overlaps(loopback);
}

namespace {

std::string quoted(const std::string& text) {
  return "\"" + text + "\"";
}

// Is it the network or broadcast address of a subnet that has such? (RFC 3021: a /31 has none.)
bool is_subnet_end(const Ipv4Prefix& subnet, Ipv4Address address) {
  const Ipv4Range range = range_of(subnet);
  return subnet.length_bits < 31 && (address == range.first || address == range.last);
}

// Reports a second use of a value that must be unique.
template <typename Value>
class Unique {
 public:
  explicit Unique(std::string key) : key_(std::move(key)) {}

  void add(Section& section, const Value& value, const std::string& what) {
    if (!section.good(key_)) return;
    const auto [other, is_new] = places_.try_emplace(value, &section);
    if (!is_new) section.fail(key_, what + " is already used at " + other->second->place(key_));
  }

 private:
  std::string key_;
  std::map<Value, const Section*> places_;
};

// "net_tap0,iface=x0" -> "net_tap0": EAL tells its devices apart by this.
std::string device_name(const std::string& device) {
  return device.substr(0, device.find(','));
}

void check_port_address(const PortConfig& port, Section& section) {
  if (!section.good("address")) return;
  const Ipv4Prefix subnet = port.address.prefix();
  const Ipv4Address address = port.address.address;
  if (!is_host_range({address, address}) || is_subnet_end(subnet, address)) {
    section.fail("address",
                 address.to_string() + " cannot be a host's address in " + subnet.to_string());
  }
  if (!section.good("next_hop")) return;
  if (!subnet.contains(*port.next_hop)) {
    section.fail("next_hop", port.next_hop->to_string() + " is outside the port's subnet " +
                                 subnet.to_string());
  } else if (*port.next_hop == address) {
    section.fail("next_hop", "is the port's own address");
  } else if (is_subnet_end(subnet, *port.next_hop)) {
    section.fail("next_hop", port.next_hop->to_string() + " cannot be a host's address in " +
                                 subnet.to_string());
  }
}

void check_ports(const Config& config, ConfigPlaces& places) {
  Unique<std::string> names("name");
  Unique<std::string> devices("device");
  Unique<Ipv4Address> addresses("address");
  const bool roles_known = places.root.sound("uplink") && places.root.sound("public");
  for (size_t i = 0; i < config.ports.size(); ++i) {
    const PortConfig& port = config.ports[i];
    Section& section = places.ports[i];
    names.add(section, port.name, quoted(port.name));
    devices.add(section, device_name(port.device), quoted(device_name(port.device)));
    check_port_address(port, section);
    addresses.add(section, port.address.address, port.address.address.to_string());
    if (port.queues > config.workers() && places.root.sound("eal")) {
      section.fail("queues", std::to_string(*port.queues) + " are more than the " +
                                 std::to_string(config.workers()) +
                                 " workers (eal.worker_cores): nobody would serve the others");
    }
    if (roles_known && section.good("name") && i != config.uplink && i != config.public_port) {
      section.fail("name", quoted(port.name) + " is neither the uplink nor the public port");
    }
  }
}

void check_tunnel(const Config& config, ConfigPlaces& places) {
  Section& section = places.tunnel;
  const TunnelConfig& tunnel = config.tunnel;
  if (!config.ports.empty() && places.ports[config.uplink].sound("mtu") && section.good("mtu")) {
    const int most = config.uplink_port().mtu - kTunnelOverheadBytes;
    if (tunnel.mtu > most) {
      section.fail("mtu", std::to_string(tunnel.mtu) + " is more than the " + std::to_string(most) +
                              " that the uplink's MTU of " +
                              std::to_string(config.uplink_port().mtu) +
                              " leaves (less 20 IPv4, "
                              "8 UDP, 16 tunnel header, 16 tag)");
    }
  }
  if (section.good("dead_after") && section.sound("heartbeat") &&
      tunnel.dead_after_ns < 2 * tunnel.heartbeat_ns) {
    section.fail("dead_after", "expected at least two heartbeats, which is " +
                                   config::duration_text(2 * tunnel.heartbeat_ns) +
                                   ", or one lost packet ends a tunnel");
  }
  uint64_t lanes = 0;
  for (const SubscriberConfig& each : config.subscribers) lanes += config.lanes_of(each);
  if (section.sound("max_tunnels") && lanes > tunnel.max_tunnels) {
    const size_t subscribers = config.subscribers.size();
    section.fail("max_tunnels",
                 std::to_string(tunnel.max_tunnels) + " is less than the " +
                     (lanes > subscribers ? std::to_string(lanes) + " lanes of the " : "") +
                     std::to_string(subscribers) + " subscribers");
  }
}

// The router and the range must lie in the network, apart from each other and from its ends.
void check_pool_addresses(const PoolConfig& pool, Section& section) {
  if (!section.good("network")) return;
  const std::string network = pool.network.to_string();
  if (!is_host_range(range_of(pool.network))) {
    section.fail("network", network + " holds addresses that no host may have");
  }
  if (section.good("router") &&
      (!pool.network.contains(pool.router) || is_subnet_end(pool.network, pool.router))) {
    section.fail("router", pool.router.to_string() + " is not a host address of " + network);
  }
  if (!section.good("range")) return;
  if (!pool.network.contains(pool.range.first) || !pool.network.contains(pool.range.last)) {
    section.fail("range", pool.range.to_string() + " is not inside " + network);
  } else if (is_subnet_end(pool.network, pool.range.first) ||
             is_subnet_end(pool.network, pool.range.last)) {
    section.fail("range",
                 pool.range.to_string() + " holds the network or broadcast address of " + network);
  } else if (section.sound("router") && pool.range.contains(pool.router)) {
    section.fail("range",
                 pool.range.to_string() + " holds the router's address " + pool.router.to_string());
  }
}

// An inner pool may overlap the public side (RFC 4787 REQ-7); the gateway's own address in it may
// not be one that the gateway has outside, or a ping to it would have two meanings.
void check_pool_router(const PoolConfig& pool, Section& section, const Config& config) {
  if (!section.sound("router") || !section.good("network")) return;
  const auto fail = [&](const std::string& what) {
    section.fail("router", pool.router.to_string() + " is " + what);
  };
  for (const PortConfig& port : config.ports) {
    if (port.address.address == pool.router)
      return fail("the address of port " + quoted(port.name));
  }
  for (const Ipv4Range& range : config.nat.external) {
    if (range.contains(pool.router)) return fail("an external address of the NAT");
  }
}

void check_pools(const Config& config, ConfigPlaces& places) {
  Unique<std::string> names("name");
  for (size_t i = 0; i < config.pools.size(); ++i) {
    const PoolConfig& pool = config.pools[i];
    Section& section = places.pools[i];
    names.add(section, pool.name, quoted(pool.name));
    check_pool_addresses(pool, section);
    check_pool_router(pool, section, config);
    for (size_t j = 0; j < i && section.good("network"); ++j) {
      if (!places.pools[j].good("network") || !pool.network.overlaps(config.pools[j].network)) {
        continue;
      }
      section.fail("network", pool.network.to_string() + " overlaps " +
                                  config.pools[j].network.to_string() + " of pool " +
                                  quoted(config.pools[j].name) + " at " +
                                  places.pools[j].place("network"));
    }
  }
}

// The tunnel's own port must not be handed out. Where the file leaves the external addresses to
// us, we reserve it; where it lists them, it says so itself, so that what a file reserves can be
// read in the file.
void check_tunnel_port_reserved(Config& config, Section& section, bool is_listed) {
  NatConfig& nat = config.nat;
  const Endpoint tunnel = config.tunnel_endpoint();
  const auto holds = [&](const Ipv4Range& range) { return range.contains(tunnel.address); };
  const auto shared = std::find_if(nat.external.begin(), nat.external.end(), holds);
  const bool is_given = nat.ports.contains(config.tunnel.udp_port) ||
                        (nat.low_ports && nat.low_ports->contains(config.tunnel.udp_port));
  if (shared == nat.external.end() || !is_given) return;
  if (nat.is_reserved(tunnel.address, kIpUdp, config.tunnel.udp_port)) return;
  const ReservedPorts own{
      tunnel.address, kIpUdp, {config.tunnel.udp_port, config.tunnel.udp_port}};
  if (!is_listed) {
    nat.reserved.push_back(own);
    return;
  }
  section.fail_item("external", static_cast<size_t>(shared - nat.external.begin()),
                    "holds the tunnel's own address " + tunnel.address.to_string() +
                        ", whose port is not reserved: add \"" + own.to_string() +
                        "\" to nat.reserved");
}

void check_external_addresses(const NatConfig& nat, Section& section) {
  for (size_t i = 0; i < nat.external.size(); ++i) {
    const Ipv4Range& range = nat.external[i];
    if (!is_host_range(range)) {
      section.fail_item("external", i,
                        range.to_string() + " holds addresses that no host may have");
    }
    for (size_t j = 0; j < i; ++j) {
      if (!range.overlaps(nat.external[j])) continue;
      section.fail_item("external", i,
                        range.to_string() + " overlaps " + nat.external[j].to_string());
    }
  }
}

// A block begins at a multiple of its size; at least one must fit between the ports' ends.
void check_blocks(const NatConfig& nat, ConfigPlaces& places) {
  if (nat.allocation != Allocation::random) return;
  if (!places.nat.sound("ports") || !places.nat_blocks.sound("first_ports")) return;
  const uint32_t size = nat.first_block_ports;
  const uint32_t first = (nat.ports.first + size - 1) / size;
  const uint32_t end = (nat.ports.last + 1u) / size;
  if (first < end) return;
  places.nat.fail("ports", nat.ports.to_string() + " holds no whole block of " +
                               std::to_string(size) + " ports");
}

void check_low_ports(const NatConfig& nat, Section& section) {
  if (!nat.low_ports || !section.good("low_ports") || !section.sound("ports")) return;
  if (nat.low_ports->last < nat.ports.first || nat.low_ports->first > nat.ports.last) return;
  section.fail("low_ports",
               nat.low_ports->to_string() + " overlaps nat.ports " + nat.ports.to_string());
}

void check_deterministic(const Config& config, ConfigPlaces& places) {
  const NatConfig& nat = config.nat;
  if (nat.allocation != Allocation::deterministic || nat.external.empty()) return;
  if (!places.nat.sound("ports") || !places.nat_deterministic.sound("ports_per_subscriber")) return;
  const uint64_t ranges = nat.ranges().count();
  if (config.subscribers.size() > ranges) {
    places.nat.fail("allocation",
                    std::to_string(config.subscribers.size()) + " subscribers are more than the " +
                        std::to_string(ranges) + " ranges of " +
                        std::to_string(nat.deterministic_ports) + " ports that there are");
  }
  if (nat.low_ports && places.nat.good("low_ports")) {
    places.nat.fail("low_ports", "are shared as they are wanted, which is not deterministic");
  }
}

// A worker has ports of its own, in slices that hold the largest block.
void check_workers(const Config& config, ConfigPlaces& places) {
  const uint32_t slices = 65536 / config.largest_block_ports();
  if (config.workers() <= slices || !places.nat_blocks.sound("first_ports") ||
      !places.nat_deterministic.sound("ports_per_subscriber")) {
    return;
  }
  places.root.fail("eal", std::to_string(config.workers()) + " workers: with blocks of up to " +
                              std::to_string(config.largest_block_ports()) +
                              " ports, an address has ports for " + std::to_string(slices));
}

void check_nat(Config& config, ConfigPlaces& places) {
  Section& section = places.nat;
  NatConfig& nat = config.nat;
  check_blocks(nat, places);
  check_workers(config, places);
  check_low_ports(nat, section);
  const bool is_listed = section.has("external");
  const auto has_address = [&](size_t port) {
    return port < config.ports.size() && places.ports[port].good("address");
  };
  if (is_listed) {
    if (!section.good("external")) return;
    check_external_addresses(nat, section);
  } else if (has_address(config.public_port) && places.root.sound("public")) {
    const Ipv4Address own = config.outside_port().address.address;
    nat.external = {{own, own}};
  }
  if (has_address(config.uplink) && places.root.sound("uplink") && section.sound("ports") &&
      section.sound("low_ports") && section.sound("reserved") && places.tunnel.sound("port")) {
    check_tunnel_port_reserved(config, section, is_listed);
  }
  std::sort(nat.external.begin(), nat.external.end(),
            [](const Ipv4Range& a, const Ipv4Range& b) { return a.first < b.first; });
  check_deterministic(config, places);
}

void check_fixed_address(const SubscriberConfig& subscriber, Section& section, const Config& config,
                         const ConfigPlaces& places) {
  if (!subscriber.address || !section.good("address") || !section.sound("pool")) return;
  if (subscriber.pool >= config.pools.size() || !places.pools[subscriber.pool].good("network")) {
    return;
  }
  const PoolConfig& pool = config.pools[subscriber.pool];
  const std::string address = subscriber.address->to_string();
  if (!pool.network.contains(*subscriber.address)) {
    section.fail("address", address + " is outside " + pool.network.to_string() + " of pool " +
                                quoted(pool.name));
  } else if (is_subnet_end(pool.network, *subscriber.address)) {
    section.fail("address",
                 address + " is the network or broadcast address of " + pool.network.to_string());
  } else if (*subscriber.address == pool.router) {
    section.fail("address", address + " is the router of pool " + quoted(pool.name));
  }
}

// Two clients may have the same LAN behind them, since a mapping knows its tunnel; a pool's
// addresses are the gateway's to give. Where an inner address is to be found from outside the
// tunnel, by another client or from a network exempt from translation, all must differ.
void check_subscriber_prefixes(const SubscriberConfig& subscriber, Section& section,
                               const Config& config, const ConfigPlaces& places) {
  if (!section.good("prefixes") || !section.sound("pool")) return;
  for (size_t i = 0; i < subscriber.prefixes.size(); ++i) {
    const Ipv4Prefix& prefix = subscriber.prefixes[i];
    for (size_t p = 0; p < config.pools.size(); ++p) {
      if (p != subscriber.pool && !config.inner_addresses_are_unique()) continue;
      if (!places.pools[p].good("network") || !prefix.overlaps(config.pools[p].network)) continue;
      section.fail_item("prefixes", i,
                        prefix.to_string() + " overlaps " + config.pools[p].network.to_string() +
                            " of pool " + quoted(config.pools[p].name));
    }
  }
}

// Prefixes nest or are disjoint, so in sorted order an overlap shows against the widest so far.
void check_prefix_overlaps(const Config& config, ConfigPlaces& places) {
  struct Use {
    Ipv4Prefix prefix;
    size_t subscriber;
    size_t item;
  };
  std::vector<Use> uses;
  for (size_t s = 0; s < config.subscribers.size(); ++s) {
    if (!places.subscribers[s].good("prefixes")) continue;
    for (size_t i = 0; i < config.subscribers[s].prefixes.size(); ++i) {
      uses.push_back({config.subscribers[s].prefixes[i], s, i});
    }
  }
  const bool among_all = config.inner_addresses_are_unique();
  std::stable_sort(uses.begin(), uses.end(), [&](const Use& a, const Use& b) {
    if (!among_all && a.subscriber != b.subscriber) return a.subscriber < b.subscriber;
    if (a.prefix.address != b.prefix.address) return a.prefix.address < b.prefix.address;
    return a.prefix.length_bits < b.prefix.length_bits;
  });
  const Use* widest = nullptr;
  for (const Use& use : uses) {
    const bool comparable =
        widest != nullptr && (among_all || widest->subscriber == use.subscriber);
    if (!comparable || !widest->prefix.overlaps(use.prefix)) {
      widest = &use;
      continue;
    }
    places.subscribers[use.subscriber].fail_item(
        "prefixes", use.item,
        use.prefix.to_string() + " overlaps " + widest->prefix.to_string() + " at " +
            places.subscribers[widest->subscriber].place("prefixes"));
  }
}

void check_subscribers(const Config& config, ConfigPlaces& places) {
  Unique<std::string> names("name");
  Unique<KeyBytes> keys("public_key");
  Unique<Ipv4Address> addresses("address");
  for (size_t i = 0; i < config.subscribers.size(); ++i) {
    const SubscriberConfig& subscriber = config.subscribers[i];
    Section& section = places.subscribers[i];
    names.add(section, subscriber.name, quoted(subscriber.name));
    keys.add(section, subscriber.public_key, "the key");
    check_fixed_address(subscriber, section, config, places);
    if (subscriber.address) {
      addresses.add(section, *subscriber.address, subscriber.address->to_string());
    }
    check_subscriber_prefixes(subscriber, section, config, places);
    if (!section.good("protections") || !places.tunnel.sound("protections")) continue;
    for (size_t p = 0; p < subscriber.protections.size(); ++p) {
      const auto& allowed = config.tunnel.protections;
      if (std::find(allowed.begin(), allowed.end(), subscriber.protections[p]) != allowed.end()) {
        continue;
      }
      section.fail_item("protections", p,
                        quoted(std::string(tunnel::protection_name(subscriber.protections[p]))) +
                            " is not allowed by tunnel.protections");
    }
  }
  check_prefix_overlaps(config, places);
}

}  // namespace

void check_config(Config& config, ConfigPlaces& places) {
  check_ports(config, places);
  check_tunnel(config, places);
  check_nat(config, places);  // before the pools: they are compared with the external addresses
  check_pools(config, places);
  check_subscribers(config, places);
  check_reach(config, places);
}

}  // namespace adit::gateway
