#include "gateway/config.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <list>

#include "gateway/config_places.h"
#include "lib/config/reader.h"
#include "lib/net/headers.h"

namespace adit::gateway {
namespace {

using config::Section;

constexpr uint64_t kHour_ns = 3600 * kSecond_ns;
constexpr uint64_t kDay_ns = 24 * kHour_ns;

// Every external address costs a mapping table of some 12 MB.
constexpr uint64_t kExternalAddressesMax = 1024;

constexpr char kReservedPortsForm[] =
    "a port or a range of ports, with \"protocol:\" or \"address:protocol:\" in front of it if "
    "need be, such as 5060-5061 or 192.0.2.1:udp:8000";

std::optional<uint8_t> parse_protocol(std::string_view word) {
  if (word == "udp") return kIpUdp;
  if (word == "tcp") return kIpTcp;
  if (word == "icmp") return kIpIcmp;
  return std::nullopt;
}

std::optional<ReservedPorts> parse_reserved_ports(std::string_view text) {
  ReservedPorts out;
  const size_t last = text.rfind(':');
  const auto ports = config::parse_port_range(text.substr(last + 1));  // npos + 1 is 0
  if (!ports) return std::nullopt;
  out.ports = *ports;
  if (last == std::string_view::npos) return out;
  text = text.substr(0, last);
  const size_t first = text.find(':');
  out.protocol = parse_protocol(text.substr(first + 1));
  if (!out.protocol) return std::nullopt;
  if (first == std::string_view::npos) return out;
  out.address = Ipv4Address::parse(text.substr(0, first));
  if (!out.address) return std::nullopt;
  return out;
}

constexpr char kLowPortsForm[] =
    "a power of two of ports, 16 at least, from a multiple of their number to 1023 at most, such "
    "as 512-1023";

std::optional<config::PortRange> parse_low_ports(std::string_view text) {
  const auto range = config::parse_port_range(text);
  if (!range || range->last > 1023) return std::nullopt;
  const bool is_aligned = std::has_single_bit(range->count()) && range->count() >= 16 &&
                          range->first % range->count() == 0;
  return is_aligned ? range : std::nullopt;
}

// A relative path in a file means a path from that file.
std::string path_from(const Section& section, const std::string& path) {
  return (std::filesystem::path(section.file()).parent_path() / path).string();
}

// The key in the file that `key` names; `file` is set to its path.
std::optional<KeyBytes> read_key_of(Section& section, std::string_view key, std::string& file) {
  if (!section.read(key, file, config::text())) return std::nullopt;
  file = path_from(section, file);
  config::KeyFile found = config::read_key_file(file);
  if (!found.key) section.fail(key, found.refusal);
  return found.key;
}

void read_eal(Section section, EalConfig& eal) {
  using Hugepages = EalConfig::Hugepages;
  section.read("hugepages", eal.hugepages,
               config::one_of<Hugepages>(
                   {{"auto", Hugepages::kAuto}, {"yes", Hugepages::kYes}, {"no", Hugepages::kNo}}));
  uint64_t memory_bytes = uint64_t{eal.memory_mb} << 20;
  section.read("memory", memory_bytes, config::bytes(64ull << 20, 1ull << 40));
  eal.memory_mb = static_cast<uint32_t>(memory_bytes >> 20);
  const auto core = config::integer<uint32_t>(0, 1023);
  section.read("main_core", eal.main_core, core);
  section.read_set("worker_cores", eal.worker_cores, core);
  for (size_t i = 0; i < eal.worker_cores.size() && section.good("worker_cores"); ++i) {
    if (eal.worker_cores[i] == eal.main_core) {
      section.fail_item("worker_cores", i, "is the main core; a worker needs a core of its own");
    }
  }
  if (eal.worker_cores.size() > kWorkersMax && section.good("worker_cores")) {
    section.fail_item("worker_cores", kWorkersMax,
                      "there are at most " + std::to_string(kWorkersMax) + " workers");
  }
  section.read("balance", eal.balance, config::boolean());
  section.read_list("extra_args", eal.extra_args, config::text());
  section.reject_unknown_keys();
}

void read_port(Section& section, PortConfig& port) {
  section.require("name", port.name, config::name());
  section.require("device", port.device, config::text());
  section.require("address", port.address, config::interface());
  section.read("next_hop", port.next_hop, config::address());
  section.read("vlan", port.vlan, config::integer<uint16_t>(1, 4094));
  section.read("mtu", port.mtu, config::integer(kPortMtuMin, kPortMtuMax));
  const auto descriptors = config::power_of_two<uint16_t>(64, 8192);
  section.read("rx_descriptors", port.rx_descriptors, descriptors);
  section.read("tx_descriptors", port.tx_descriptors, descriptors);
  section.read("queues", port.queues, config::integer<uint16_t>(1, kWorkersMax));
  section.read("idle", port.idle,
               config::one_of<Idle>(
                   {{"auto", Idle::kAuto}, {"poll", Idle::kPoll}, {"adaptive", Idle::kAdaptive}}));
  section.reject_unknown_keys();
}

// A role that a port plays. With one port there is nothing to choose.
void read_port_role(ConfigPlaces& places, std::string_view key,
                    const std::vector<PortConfig>& ports, size_t& index) {
  std::string wanted;
  if (ports.size() == 1 && !places.root.has(key)) {
    places.root.read(key, wanted, config::name());  // remembers the key as known
    index = 0;
    return;
  }
  if (!places.root.require(key, wanted, config::name())) return;
  std::set<std::string> names;
  for (size_t i = 0; i < ports.size(); ++i) {
    if (!places.ports[i].good("name")) return;  // it may be the one
    names.insert(ports[i].name);
    if (ports[i].name == wanted) {
      index = i;
      return;
    }
  }
  const std::string closest = config::closest_word(wanted, names);
  places.root.fail(key, "no port has the name \"" + wanted + "\"" +
                            (closest.empty() ? "" : "; did you mean \"" + closest + "\"?"));
}

void read_tunnel(Section& section, const PortConfig* uplink, TunnelConfig& tunnel) {
  section.read("port", tunnel.udp_port, config::integer<uint16_t>(1, 65535));
  if (section.must_exist("private_key_file")) {
    const auto key = read_key_of(section, "private_key_file", tunnel.private_key_file);
    if (key) tunnel.private_key = *key;
  }
  if (uplink != nullptr) tunnel.mtu = static_cast<uint16_t>(uplink->mtu - kTunnelOverheadBytes);
  section.read("mtu", tunnel.mtu,
               config::integer<uint16_t>(kTunnelMtuMin, kPortMtuMax - kTunnelOverheadBytes));
  section.read("heartbeat", tunnel.heartbeat_ns, config::duration_ns(kSecond_ns, kHour_ns));
  tunnel.dead_after_ns = 3 * tunnel.heartbeat_ns;
  section.read("dead_after", tunnel.dead_after_ns, config::duration_ns(2 * kSecond_ns, kDay_ns));
  section.read_set("protections", tunnel.protections, config::protection());
  section.read("max_tunnels", tunnel.max_tunnels, config::integer<uint32_t>(1, 1 << 20));
  section.read("expanded_keys", tunnel.expanded_keys, config::integer<uint32_t>(1, 1 << 20));
  section.read("tunnel_to_tunnel", tunnel.tunnel_to_tunnel, config::boolean());
  section.read("lanes_max", tunnel.lanes_max, config::integer<uint8_t>(1, tunnel::kLanesMax));
  const auto handshakes = config::integer<uint32_t>(1, 1'000'000);
  section.read("handshakes_per_second", tunnel.handshakes_per_second, handshakes);
  section.read("handshakes_burst", tunnel.handshakes_burst, handshakes);
  section.reject_unknown_keys();
}

// The defaults of a pool follow from its network: the first host address is the router's, and
// what lies beside it is leased.
void default_router_and_range(Section& section, PoolConfig& pool) {
  const uint32_t first = pool.network.address.host() + 1;
  const uint32_t last = (pool.network.address.host() | ~pool.network.mask_host()) - 1;
  if (!section.has("router")) pool.router = Ipv4Address::from_host(first);
  if (section.has("range") || !section.sound("router")) return;
  pool.range = {Ipv4Address::from_host(first), Ipv4Address::from_host(last)};
  if (pool.router == pool.range.first) {
    pool.range.first = Ipv4Address::from_host(first + 1);
  } else if (pool.router == pool.range.last) {
    pool.range.last = Ipv4Address::from_host(last - 1);
  } else if (pool.range.contains(pool.router)) {
    section.fail("range",
                 "required key is missing: the router is neither the first nor the last "
                 "address of the network");
  }
}

void refuse_more_than(Section& section, const std::string& key, size_t count, size_t count_max) {
  if (count <= count_max || !section.good(key)) return;
  section.fail(key, std::to_string(count) + " entries are more than the " +
                        std::to_string(count_max) + " that are supported");
}

void read_limits(Section section, LimitsConfig& limits) {
  section.read("mappings", limits.mappings, config::integer<uint32_t>(1, 1 << 20));
  const auto rate = config::integer<uint32_t>(1, 1'000'000);
  section.read("new_mappings_per_second", limits.new_mappings_per_second, rate);
  section.read("new_mappings_burst", limits.new_mappings_burst, rate);
  section.read("blocks", limits.blocks, config::integer<uint32_t>(1, 4));
  section.reject_unknown_keys();
}

void read_timeouts(Section section, NatTimeouts& timeouts) {
  section.read("udp", timeouts.udp_ns, config::duration_ns(120 * kSecond_ns, kDay_ns));
  section.read("tcp_established", timeouts.tcp_established_ns,
               config::duration_ns(7440 * kSecond_ns, 7 * kDay_ns));
  section.read("tcp_opening", timeouts.tcp_opening_ns,
               config::duration_ns(10 * kSecond_ns, kDay_ns));
  section.read("tcp_closing", timeouts.tcp_closing_ns,
               config::duration_ns(240 * kSecond_ns, kDay_ns));
  section.read("icmp", timeouts.icmp_ns, config::duration_ns(60 * kSecond_ns, kDay_ns));
  section.read("dns", timeouts.dns_ns,
               config::or_word("off", config::duration_ns(kSecond_ns, 120 * kSecond_ns)));
  section.read("port_rest", timeouts.port_rest_ns, config::duration_ns(0, kHour_ns));
  section.reject_unknown_keys();
}

// A query's mode is that of UDP where nothing is said of it, but something of UDP.
void read_filtering(Section& section, FilteringConfig& filtering) {
  using Filtering = nat::Filtering;
  const auto mode = config::one_of<Filtering>(
      {{"endpoint-independent", Filtering::endpoint_independent},
       {"address-dependent", Filtering::address_dependent},
       {"address-and-port-dependent", Filtering::address_and_port_dependent}});
  if (section.read("udp", filtering.udp, mode)) filtering.icmp = filtering.udp;
  section.read("tcp", filtering.tcp, mode);
  section.read("icmp", filtering.icmp, mode);
}

// What may differ from pool to pool. `section` and `filtering` may have further keys.
void read_policy(Section& section, Section& filtering, NatPolicyConfig& policy) {
  section.read("port_parity", policy.port_parity, config::boolean());
  read_timeouts(section.child("timeouts"), policy.timeouts);
  section.read("hairpin", policy.hairpin, config::boolean());
  read_filtering(filtering, policy.filtering);
  section.read("inbound_refresh", policy.inbound_refresh, config::boolean());
  read_limits(section.child("limits"), policy.limits);
}

void read_pool(Section& section, const Config& config, PoolConfig& pool) {
  section.require("name", pool.name, config::name());
  section.require("network", pool.network, config::prefix());
  if (section.good("network") && (pool.network.length_bits < 8 || pool.network.length_bits > 30)) {
    section.fail("network", "expected a prefix length from 8 to 30");
  }
  section.read("router", pool.router, config::address());
  section.read("range", pool.range, config::range());
  if (section.good("network")) default_router_and_range(section, pool);
  // The DHCP server grants no shorter lease (lib/dhcp/message.h, kLeaseSecondsMin).
  uint64_t lease_ns = pool.lease_s * kSecond_ns;
  section.read("lease", lease_ns, config::duration_ns(60 * kSecond_ns, 365 * kDay_ns));
  pool.lease_s = static_cast<uint32_t>(lease_ns / kSecond_ns);
  section.read_list("dns", pool.dns, config::address());
  refuse_more_than(section, "dns", pool.dns.size(), kPoolDnsMax);
  section.read_list("routes", pool.routes, config::route());
  refuse_more_than(section, "routes", pool.routes.size(), kPoolRoutesMax);
  pool.tunnel_to_tunnel = config.tunnel.tunnel_to_tunnel;
  section.read("tunnel_to_tunnel", pool.tunnel_to_tunnel, config::boolean());
  pool.nat = config.nat;
  Section nat = section.child("nat");
  Section filtering = nat.child("filtering");
  read_policy(nat, filtering, pool.nat);
  filtering.reject_unknown_keys();
  nat.reject_unknown_keys();
  section.reject_unknown_keys();
}

void read_icmp_errors(Section section, IcmpErrorsConfig& errors) {
  section.read("to_clients", errors.to_clients, config::boolean());
  section.read("to_internet", errors.to_internet, config::boolean());
  const auto rate = config::integer<uint32_t>(1, 1'000'000);
  section.read("per_second", errors.per_second, rate);
  section.read("per_subscriber_per_second", errors.per_subscriber_per_second, rate);
  section.reject_unknown_keys();
}

void read_port_control(Section section, PortControlConfig& control) {
  section.read("enabled", control.enabled, config::boolean());
  const auto lifetime = config::duration_ns(10 * kSecond_ns, 30 * kDay_ns);
  section.read("lifetime_min", control.lifetime_min_ns, lifetime);
  section.read("lifetime_max", control.lifetime_max_ns, lifetime);
  if (section.sound("lifetime_min") && section.sound("lifetime_max") &&
      control.lifetime_min_ns > control.lifetime_max_ns) {
    section.fail("lifetime_min", "is more than lifetime_max, " +
                                     config::duration_text(control.lifetime_max_ns));
  }
  section.reject_unknown_keys();
}

void read_nat_log(Section section, NatLogConfig& log) {
  section.read("blocks", log.blocks, config::boolean());
  section.read("limits", log.limits, config::boolean());
  section.read("window", log.window_ns, config::duration_ns(kSecond_ns, kDay_ns));
  if (section.read("file", log.file, config::text())) log.file = path_from(section, log.file);
  section.reject_unknown_keys();
}

void read_nat(ConfigPlaces& places, NatConfig& nat) {
  Section& section = places.nat;
  section.read_list("external", nat.external, config::range());
  if (section.good("external") && nat.external.empty()) {
    section.fail("external", "the list is empty; leave the key out for the public port's address");
  }
  if (nat.external_address_count() > kExternalAddressesMax) {
    section.fail("external", std::to_string(nat.external_address_count()) +
                                 " addresses are more than the " +
                                 std::to_string(kExternalAddressesMax) + " that are supported");
  }
  section.read("ports", nat.ports, config::port_range());
  section.read_list("reserved", nat.reserved,
                    config::Format<ReservedPorts>{kReservedPortsForm, parse_reserved_ports});
  section.read("allocation", nat.allocation,
               config::one_of<Allocation>({{"random", Allocation::random},
                                           {"deterministic", Allocation::deterministic}}));
  Section& deterministic = places.nat_deterministic = section.child("deterministic");
  deterministic.read("ports_per_subscriber", nat.deterministic_ports,
                     config::power_of_two<uint32_t>(16, 8192));
  deterministic.reject_unknown_keys();
  Section& blocks = places.nat_blocks = section.child("blocks");
  blocks.read("first_ports", nat.first_block_ports, config::power_of_two<uint32_t>(16, 1024));
  blocks.reject_unknown_keys();
  section.read("low_ports", nat.low_ports,
               config::or_word("off", config::Format<config::PortRange>{kLowPortsForm,
                                                                        parse_low_ports}));
  section.read("mss_clamp", nat.mss_clamp, config::boolean());
  section.read("answer_unsolicited_syn", nat.answer_unsolicited_syn, config::boolean());
  Section filtering = section.child("filtering");
  read_policy(section, filtering, nat);
  filtering.read("sessions", nat.sessions, config::integer<uint32_t>(1024, 16'777'216));
  filtering.read("sessions_per_subscriber", nat.sessions_per_subscriber,
                 config::integer<uint32_t>(1, 1'048'576));
  filtering.reject_unknown_keys();
  section.read_list("exempt", nat.exempt, config::prefix());
  refuse_more_than(section, "exempt", nat.exempt.size(), kExemptMax);
  section.read("inner_networks_outside", nat.inner_networks_outside, config::boolean());
  read_icmp_errors(section.child("icmp_errors"), nat.icmp_errors);
  read_port_control(section.child("port_control"), nat.port_control);
  read_nat_log(section.child("log"), nat.log);
  section.reject_unknown_keys();
}

void read_subscriber_pool(Section& section, const ConfigPlaces& places, const Config& config,
                          size_t& index) {
  std::string wanted;
  if (!section.read("pool", wanted, config::name())) return;
  std::set<std::string> names;
  for (size_t i = 0; i < config.pools.size(); ++i) {
    if (!places.pools[i].good("name")) return;  // it may be the one
    names.insert(config.pools[i].name);
    if (config.pools[i].name == wanted) {
      index = i;
      return;
    }
  }
  const std::string closest = config::closest_word(wanted, names);
  section.fail("pool", "no pool has the name \"" + wanted + "\"" +
                           (closest.empty() ? "" : "; did you mean \"" + closest + "\"?"));
}

// "port" or "address:port".
std::optional<Endpoint> parse_forward_target(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return Endpoint::parse(text);
  const auto port = config::parse_unsigned(text);
  if (!port || *port < 1 || *port > 65535) return std::nullopt;
  return Endpoint{{}, Be16::from_host(static_cast<uint16_t>(*port))};
}

void read_forward(Section& section, const SubscriberConfig& subscriber, ForwardConfig& forward) {
  section.require("protocol", forward.protocol,
                  config::one_of<uint8_t>({{"udp", kIpUdp}, {"tcp", kIpTcp}}));
  section.require("external", forward.external, config::endpoint());
  section.require("to", forward.to,
                  config::Format<Endpoint>{"a port or \"address:port\", such as 192.168.1.5:80",
                                           parse_forward_target});
  if (forward.to.address.is_zero()) forward.to.address = subscriber.address.value_or(Ipv4Address{});
  section.reject_unknown_keys();
}

void read_subscriber(Section& section, ConfigPlaces& places, const Config& config,
                     SubscriberConfig& subscriber) {
  section.require("name", subscriber.name, config::name());
  section.require("public_key", subscriber.public_key, config::key());
  subscriber.preshared_key =
      read_key_of(section, "preshared_key_file", subscriber.preshared_key_file);
  section.read("address", subscriber.address, config::or_word("auto", config::address()));
  read_subscriber_pool(section, places, config, subscriber.pool);
  section.read_list("prefixes", subscriber.prefixes, config::prefix());
  refuse_more_than(section, "prefixes", subscriber.prefixes.size(), kSubscriberPrefixesMax);
  section.read_list("routed", subscriber.routed, config::prefix());
  section.read("external_address", subscriber.external_address, config::address());
  std::vector<Section>& forwards = places.forwards.emplace_back(section.children("forwards"));
  for (Section& forward : forwards) {
    read_forward(forward, subscriber, subscriber.forwards.emplace_back());
  }
  refuse_more_than(section, "forwards", subscriber.forwards.size(), kSubscriberForwardsMax);
  subscriber.protections = config.tunnel.protections;
  section.read_set("protections", subscriber.protections, config::protection());
  section.read("lanes", subscriber.lanes, config::integer<uint8_t>(1, tunnel::kLanesMax));
  const bool has_pool = subscriber.pool < config.pools.size();
  subscriber.limits = has_pool ? config.pools[subscriber.pool].nat.limits : config.nat.limits;
  read_limits(section.child("limits"), subscriber.limits);
  section.reject_unknown_keys();
}

// Reads one run's files in order and keeps them, since Sections point into them.
class Loader {
 public:
  explicit Loader(config::Report& report) : report_(report) {}

  Config load(const std::string& path) {
    Config config;
    const config::Document* document = open(path);
    if (document == nullptr) return config;
    ConfigPlaces places{Section(*document, report_)};
    Section& root = places.root;

    read_eal(root.child("eal"), config.eal);
    for (Section& section : places.ports = root.children("ports")) {
      read_port(section, config.ports.emplace_back());
    }
    if (config.ports.empty() && root.sound("ports")) root.fail("ports", "needs at least one port");
    if (!config.ports.empty()) {
      read_port_role(places, "uplink", config.ports, config.uplink);
      read_port_role(places, "public", config.ports, config.public_port);
    }
    places.tunnel = root.child("tunnel");
    read_tunnel(places.tunnel, config.ports.empty() ? nullptr : &config.uplink_port(),
                config.tunnel);
    places.nat = root.child("nat");
    read_nat(places, config.nat);
    for (Section& section : places.pools = root.children("pools")) {
      read_pool(section, config, config.pools.emplace_back());
    }
    if (config.pools.empty() && root.sound("pools")) root.fail("pools", "needs at least one pool");
    read_subscribers(root, places, config);
    read_included(places, config);
    read_service(root, config);
    root.reject_unknown_keys();
    check_config(config, places);
    return config;
  }

 private:
  const config::Document* open(const std::string& path) {
    report_.files.push_back(path);
    auto document = config::read_document(path, report_.errors);
    if (!document) return nullptr;
    return &documents_.emplace_back(std::move(*document));
  }

  static void read_subscribers(Section& file, ConfigPlaces& places, Config& config) {
    std::vector<Section> sections = file.children("subscribers");
    config.subscribers.reserve(config.subscribers.size() + sections.size());
    for (Section& section : sections) {
      read_subscriber(section, places, config, config.subscribers.emplace_back());
      places.subscribers.push_back(std::move(section));
    }
  }

  // An included file holds subscribers and nothing else: it is the part that other programs write.
  void read_included(ConfigPlaces& places, Config& config) {
    std::vector<std::string> names;
    if (!places.root.read_list("include", names, config::text())) return;
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string path = path_from(places.root, names[i]);
      if (std::find(report_.files.begin(), report_.files.end(), path) != report_.files.end()) {
        places.root.fail_item("include", i, "\"" + path + "\" is read already");
        continue;
      }
      const config::Document* document = open(path);
      if (document == nullptr) continue;
      Section file(*document, report_);
      read_subscribers(file, places, config);
      file.reject_unknown_keys();
    }
  }

  config::Report& report_;
  std::list<config::Document> documents_;  // a list, so that they stay where they are
};

}  // namespace

std::optional<Config> load(const std::string& path, std::vector<config::Error>& errors,
                           std::set<std::string>* known_keys) {
  config::Report report;
  report.known_keys = known_keys;
  Config config = Loader(report).load(path);
  report.sort();
  errors.insert(errors.end(), report.errors.begin(), report.errors.end());
  return report.errors.empty() ? std::optional(std::move(config)) : std::nullopt;
}

}  // namespace adit::gateway
