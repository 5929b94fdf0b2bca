// What the gateway's loader reads, and what it says about single values. The checks that compare
// values are in gateway_check_test.cpp.
#include "gateway/config.h"

#include <gtest/gtest.h>

#include "lib/net/headers.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::gateway {
namespace {

using config::TempDir;

constexpr char kSmallest[] =
    "ports: [{name: wan, device: 'net_tap0,iface=x0', address: 30.1.1.10/24}]\n"
    "tunnel: {private_key_file: gw.key}\n"
    "pools: [{name: clients, network: 192.168.1.0/24}]\n";

class GatewayConfig : public testing::Test {
 protected:
  GatewayConfig() { dir_.write_key("gw.key", 1); }

  std::optional<Config> load_text(const std::string& text) {
    errors_.clear();
    return load(dir_.write("gw.yaml", text), errors_);
  }
  std::string errors_of(const std::string& text) {
    EXPECT_FALSE(load_text(text));
    return dir_.lines(errors_);
  }

  TempDir dir_;
  std::vector<config::Error> errors_;
};

TEST_F(GatewayConfig, FillsInEveryDefault) {
  const auto config = load_text(kSmallest);
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_TRUE(config->is_one_port());
  EXPECT_EQ(config->tunnel_endpoint().to_string(), "30.1.1.10:8000");
  EXPECT_EQ(config->tunnel.private_key[31], 1);
  EXPECT_EQ(config->tunnel.mtu, 1440);
  EXPECT_EQ(config->tunnel.dead_after_ns, 75 * kSecond_ns);
  EXPECT_EQ(config->tunnel.protections,
            (std::vector{Protection::aes_256_gcm, Protection::chacha20_poly1305}));
  EXPECT_EQ(config->pools[0].router.to_string(), "192.168.1.1");
  EXPECT_EQ(config->pools[0].range.to_string(), "192.168.1.2-192.168.1.254");
  EXPECT_EQ(config->pools[0].lease_s, 3600u);
  ASSERT_EQ(config->nat.external.size(), 1u);
  EXPECT_EQ(config->nat.external[0].to_string(), "30.1.1.10");
  EXPECT_EQ(config->nat.ports_in(config->nat.limits.blocks), 64u + 128 + 256 + 512);
  EXPECT_FALSE(config->nat.low_ports);
  EXPECT_FALSE(config->metrics_listen);
  EXPECT_TRUE(config->subscribers.empty());
}

TEST_F(GatewayConfig, ReservesTheTunnelsOwnPortWhereTheAddressIsSharedByDefault) {
  const auto config = load_text(kSmallest);
  ASSERT_TRUE(config);
  const auto own = Ipv4Address::from_octets(30, 1, 1, 10);
  EXPECT_TRUE(config->nat.is_reserved(own, kIpUdp, 8000));
  EXPECT_FALSE(config->nat.is_reserved(own, kIpTcp, 8000));
  EXPECT_FALSE(config->nat.is_reserved(own, kIpUdp, 8001));
}

TEST_F(GatewayConfig, DerivesTheTunnelsNumbersFromWhatIsGiven) {
  const auto config = load_text(
      "ports: [{name: wan, device: 0000:03:00.0, address: 30.1.1.10/24, mtu: 9000}]\n"
      "tunnel: {private_key_file: gw.key, heartbeat: 10s, max_tunnels: 1000,\n"
      "         handshakes_per_second: 100, handshakes_burst: 7}\n"
      "pools: [{name: clients, network: 192.168.1.0/24, router: 192.168.1.254}]\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->tunnel.mtu, 8940);
  EXPECT_EQ(config->tunnel.dead_after_ns, 30 * kSecond_ns);
  EXPECT_EQ(config->tunnel.max_tunnels, 1000u);
  EXPECT_EQ(config->tunnel.handshakes_per_second, 100u);
  EXPECT_EQ(config->tunnel.handshakes_burst, 7u);
  EXPECT_EQ(config->expanded_keys(), 0u) << "there is no subscriber who may use AES";
  EXPECT_EQ(config->pools[0].range.to_string(), "192.168.1.1-192.168.1.253");
  EXPECT_TRUE(config->ports[0].is_pci());
  EXPECT_FALSE(config->ports[0].is_adaptive());
}

TEST(PortConfig, PollsOnPciAndAdaptsOnVirtualDevicesUnlessTold) {
  for (const char* device : {"0000:03:00.0", "03:00.1", "0000:af:1f.7,txq_inline=0"}) {
    PortConfig port;
    port.device = device;
    EXPECT_TRUE(port.is_pci()) << device;
    EXPECT_FALSE(port.is_adaptive()) << device;
    port.idle = Idle::kAdaptive;
    EXPECT_TRUE(port.is_adaptive()) << device;
  }
  for (const char* device : {"net_tap0,iface=x0", "net_af_packet0,iface=v1", "virtio_user0",
                             "net_memif0,role=server", "0000:03:00.8", "x3:00.0", ""}) {
    PortConfig port;
    port.device = device;
    EXPECT_FALSE(port.is_pci()) << device;
    EXPECT_TRUE(port.is_adaptive()) << device;
    port.idle = Idle::kPoll;
    EXPECT_FALSE(port.is_adaptive()) << device;
  }
}

TEST_F(GatewayConfig, ReadsSubscribersWithTheirOverrides) {
  dir_.write_key("pc.psk", 9);
  const auto config = load_text(std::string(kSmallest) +
                                "nat: {limits: {mappings: 100, new_mappings_per_second: 7}}\n"
                                "subscribers:\n"
                                "  - {name: pc, public_key: " +
                                TempDir::key_text(2) +
                                ", preshared_key_file: pc.psk}\n"
                                "  - name: branch\n"
                                "    public_key: " +
                                TempDir::key_text(3) +
                                "\n"
                                "    address: 192.168.1.5\n"
                                "    prefixes: [10.20.0.0/16]\n"
                                "    protections: [chacha20-poly1305]\n"
                                "    limits: {mappings: 4096, blocks: 2}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  const SubscriberConfig& pc = config->subscribers[0];
  const SubscriberConfig& branch = config->subscribers[1];
  EXPECT_EQ(pc.preshared_key->at(0), 9);
  EXPECT_FALSE(pc.address);
  EXPECT_EQ(pc.protections, config->tunnel.protections);
  EXPECT_EQ(pc.limits.mappings, 100u);
  EXPECT_EQ(branch.public_key[5], 3);
  EXPECT_EQ(branch.address->to_string(), "192.168.1.5");
  EXPECT_EQ(branch.prefixes[0].to_string(), "10.20.0.0/16");
  EXPECT_EQ(branch.protections, std::vector{Protection::chacha20_poly1305});
  EXPECT_EQ(branch.limits.mappings, 4096u);
  EXPECT_EQ(branch.limits.new_mappings_per_second, 7u);
  EXPECT_EQ(pc.limits.blocks, 4u);
  EXPECT_EQ(branch.limits.blocks, 2u);
}

TEST_F(GatewayConfig, ReadsReservedPortsInTheirForms) {
  const auto config = load_text(std::string(kSmallest) +
                                "nat: {reserved: [5060, 'udp:4500', '30.1.1.10:tcp:22', "
                                "'udp:6000-6009']}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  const auto own = Ipv4Address::from_octets(30, 1, 1, 10);
  const auto other = Ipv4Address::from_octets(30, 1, 1, 11);
  EXPECT_TRUE(config->nat.is_reserved(other, kIpTcp, 5060));
  EXPECT_TRUE(config->nat.is_reserved(other, kIpUdp, 4500));
  EXPECT_FALSE(config->nat.is_reserved(other, kIpTcp, 4500));
  EXPECT_TRUE(config->nat.is_reserved(own, kIpTcp, 22));
  EXPECT_FALSE(config->nat.is_reserved(other, kIpTcp, 22));
  EXPECT_EQ(config->nat.reserved[2].to_string(), "30.1.1.10:tcp:22");
  EXPECT_FALSE(config->nat.is_reserved(other, kIpUdp, 5999));
  EXPECT_TRUE(config->nat.is_reserved(other, kIpUdp, 6000));
  EXPECT_TRUE(config->nat.is_reserved(other, kIpUdp, 6009));
  EXPECT_FALSE(config->nat.is_reserved(other, kIpUdp, 6010));
  EXPECT_EQ(config->nat.reserved[3].to_string(), "udp:6000-6009");
}

TEST_F(GatewayConfig, APoolHasThePolicyOfAllWhereItSaysNothingElse) {
  using nat::Filtering;
  const auto config = load_text(
      "ports: [{name: wan, device: net_tap0, address: 30.1.1.10/24}]\n"
      "tunnel: {private_key_file: gw.key}\n"
      "pools:\n"
      "  - {name: homes, network: 10.1.0.0/16}\n"
      "  - name: offices\n"
      "    network: 10.2.0.0/16\n"
      "    tunnel_to_tunnel: true\n"
      "    nat:\n"
      "      port_parity: true\n"
      "      hairpin: false\n"
      "      inbound_refresh: false\n"
      "      filtering: {udp: address-dependent}\n"
      "      timeouts: {udp: 20m, dns: 10s}\n"
      "      limits: {mappings: 9000, blocks: 2}\n"
      "nat:\n"
      "  filtering: {tcp: address-and-port-dependent}\n"
      "  timeouts: {udp: 5m, icmp: 2m}\n"
      "  limits: {mappings: 100, new_mappings_per_second: 7}\n"
      "subscribers:\n"
      "  - {name: a, pool: homes, public_key: " + TempDir::key_text(2) + "}\n"
      "  - {name: b, pool: offices, public_key: " + TempDir::key_text(3) +
      ", limits: {blocks: 3}}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  const PoolConfig& homes = config->pools[0];
  const PoolConfig& offices = config->pools[1];
  EXPECT_FALSE(homes.tunnel_to_tunnel);
  EXPECT_TRUE(offices.tunnel_to_tunnel);
  EXPECT_TRUE(config->joins_tunnels());
  EXPECT_FALSE(homes.nat.port_parity);
  EXPECT_TRUE(offices.nat.port_parity);
  EXPECT_TRUE(homes.nat.hairpin);
  EXPECT_FALSE(offices.nat.hairpin);
  EXPECT_TRUE(homes.nat.inbound_refresh);
  EXPECT_FALSE(offices.nat.inbound_refresh);
  EXPECT_EQ(homes.nat.filtering.udp, Filtering::endpoint_independent);
  EXPECT_EQ(homes.nat.filtering.tcp, Filtering::address_and_port_dependent);
  EXPECT_EQ(homes.nat.filtering.icmp, Filtering::endpoint_independent);
  EXPECT_EQ(offices.nat.filtering.udp, Filtering::address_dependent);
  EXPECT_EQ(offices.nat.filtering.tcp, Filtering::address_and_port_dependent);
  EXPECT_EQ(offices.nat.filtering.icmp, Filtering::address_dependent) << "as its UDP";
  EXPECT_EQ(homes.nat.timeouts.udp_ns, 300 * kSecond_ns);
  EXPECT_EQ(offices.nat.timeouts.udp_ns, 1200 * kSecond_ns);
  EXPECT_EQ(offices.nat.timeouts.icmp_ns, 120 * kSecond_ns);
  EXPECT_EQ(offices.nat.timeouts.dns_ns, 10 * kSecond_ns);
  EXPECT_FALSE(homes.nat.timeouts.dns_ns);
  EXPECT_EQ(config->subscribers[0].limits.mappings, 100u);
  EXPECT_EQ(config->subscribers[1].limits.mappings, 9000u);
  EXPECT_EQ(config->subscribers[1].limits.new_mappings_per_second, 7u);
  EXPECT_EQ(config->subscribers[1].limits.blocks, 3u);
  const std::string said = describe_check(*config);
  EXPECT_NE(said.find("nat: for pool offices: up to 192 ports for a subscriber in 2 blocks\n"
                      "nat: up to 448 ports for b in 3 blocks\n"
                      "nat: for pool offices: port parity on, hairpin off, inbound refresh off, "
                      "UDP filtering address-dependent, ICMP filtering address-dependent, "
                      "timeouts udp 20m, dns 10s\n"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("for pool homes"), std::string::npos) << said;
}

TEST_F(GatewayConfig, APoolsPolicyIsCheckedAsThatOfAll) {
  EXPECT_EQ(errors_of("ports: [{name: wan, device: net_tap0, address: 30.1.1.10/24}]\n"
                      "tunnel: {private_key_file: gw.key}\n"
                      "pools:\n"
                      "  - name: a\n"
                      "    network: 10.1.0.0/16\n"
                      "    nat: {timeouts: {udp: 1s}, filtering: {sessions: 5000}, pots: 1}\n"),
            "gw.yaml:6:27: pools[0].nat.timeouts.udp: expected a duration from 2m to 1d, such as "
            "\"90s\" or \"2h4m\", got \"1s\"\n"
            "gw.yaml:6:44: pools[0].nat.filtering.sessions: unknown key\n"
            "gw.yaml:6:61: pools[0].nat.pots: unknown key\n");
}

TEST_F(GatewayConfig, NamesEveryRequiredKeyOfAnEmptyFile) {
  EXPECT_EQ(errors_of(""),
            "gw.yaml:1:1: ports: needs at least one port\n"
            "gw.yaml:1:1: tunnel.private_key_file: required key is missing\n"
            "gw.yaml:1:1: pools: needs at least one pool\n");
}

TEST_F(GatewayConfig, StatesTheRangeOfEveryNumberAndReportsAllInOneRun) {
  EXPECT_EQ(
      errors_of("eal: {memory: 1M, worker_cores: [0, 2000], hugepages: maybe}\n"
                "ports:\n"
                "  - name: wan\n"
                "    device: net_tap0\n"
                "    address: 30.1.1.10\n"
                "    vlan: 4095\n"
                "    mtu: 9001\n"
                "    rx_descriptors: 1000\n"
                "    idle: sleepy\n"
                "    queues: 65\n"
                "tunnel:\n"
                "  private_key_file: gw.key\n"
                "  port: 0\n"
                "  heartbeat: 500ms\n"
                "  max_tunnels: 2000000\n"
                "pools:\n"
                "  - {name: a, network: 192.168.1.0/31, lease: 1s}\n"
                "nat:\n"
                "  blocks: {first_ports: 100}\n"
                "  timeouts: {udp: 119s, tcp_established: 2h, tcp_opening: 9s, tcp_closing: 239s, "
                "dns: 3m}\n"),
      "gw.yaml:1:15: eal.memory: expected a size from 64M to 1048576M, such as \"512M\", got "
      "\"1M\"\n"
      "gw.yaml:1:37: eal.worker_cores[1]: expected a whole number from 0 to 1023, got "
      "\"2000\"\n"
      "gw.yaml:1:55: eal.hugepages: expected one of auto, yes, no, got \"maybe\"\n"
      "gw.yaml:5:14: ports[0].address: expected an IPv4 address with its prefix length, such "
      "as 192.0.2.1/24, got \"30.1.1.10\"\n"
      "gw.yaml:6:11: ports[0].vlan: expected a whole number from 1 to 4094, got \"4095\"\n"
      "gw.yaml:7:10: ports[0].mtu: expected a whole number from 576 to 9000, got \"9001\"\n"
      "gw.yaml:8:21: ports[0].rx_descriptors: expected a power of two from 64 to 8192, got "
      "\"1000\"\n"
      "gw.yaml:9:11: ports[0].idle: expected one of auto, poll, adaptive, got \"sleepy\"\n"
      "gw.yaml:10:13: ports[0].queues: expected a whole number from 1 to 64, got \"65\"\n"
      "gw.yaml:13:9: tunnel.port: expected a whole number from 1 to 65535, got \"0\"\n"
      "gw.yaml:14:14: tunnel.heartbeat: expected a duration from 1s to 1h, such as \"90s\" or "
      "\"2h4m\", got \"500ms\"\n"
      "gw.yaml:15:16: tunnel.max_tunnels: expected a whole number from 1 to 1048576, got "
      "\"2000000\"\n"
      "gw.yaml:17:24: pools[0].network: expected a prefix length from 8 to 30\n"
      "gw.yaml:17:47: pools[0].lease: expected a duration from 1m to 365d, such as \"90s\" "
      "or \"2h4m\", got \"1s\"\n"
      "gw.yaml:19:25: nat.blocks.first_ports: expected a power of two from 16 to 1024, got "
      "\"100\"\n"
      "gw.yaml:20:19: nat.timeouts.udp: expected a duration from 2m to 1d, such as \"90s\" or "
      "\"2h4m\", got \"119s\"\n"
      "gw.yaml:20:42: nat.timeouts.tcp_established: expected a duration from 2h4m to 7d, such "
      "as \"90s\" or \"2h4m\", got \"2h\"\n"
      "gw.yaml:20:59: nat.timeouts.tcp_opening: expected a duration from 10s to 1d, such as "
      "\"90s\" or \"2h4m\", got \"9s\"\n"
      "gw.yaml:20:76: nat.timeouts.tcp_closing: expected a duration from 4m to 1d, such as "
      "\"90s\" or \"2h4m\", got \"239s\"\n"
      "gw.yaml:20:87: nat.timeouts.dns: expected \"off\" or a duration from 1s to 2m, such as "
      "\"90s\" or \"2h4m\", got \"3m\"\n");
}

TEST_F(GatewayConfig, ReadsWhichIcmpErrorsMayBeSentAndHowOften) {
  const auto config = load_text(
      std::string(kSmallest) +
      "nat: {icmp_errors: {to_internet: false, per_second: 10, per_subscriber_per_second: 2}}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  const IcmpErrorsConfig& errors = config->nat.icmp_errors;
  EXPECT_TRUE(errors.to_clients);
  EXPECT_FALSE(errors.to_internet);
  EXPECT_EQ(errors.per_second, 10u);
  EXPECT_EQ(errors.per_subscriber_per_second, 2u);
  EXPECT_EQ(errors_of(std::string(kSmallest) +
                      "nat:\n  icmp_errors: {to_clients: never, per_second: 0, burst: 1}\n"),
            "gw.yaml:5:29: nat.icmp_errors.to_clients: expected true or false, got \"never\"\n"
            "gw.yaml:5:48: nat.icmp_errors.per_second: expected a whole number from 1 to 1000000, "
            "got \"0\"\n"
            "gw.yaml:5:51: nat.icmp_errors.burst: unknown key\n");
}

TEST_F(GatewayConfig, ReadsHowPortsAreControlled) {
  const auto config = load_text(std::string(kSmallest) +
                                "nat: {port_control: {enabled: true, lifetime_max: 1h}}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_TRUE(config->nat.port_control.enabled);
  EXPECT_EQ(config->nat.port_control.lifetime_min_ns, 120 * kSecond_ns);
  EXPECT_EQ(config->nat.port_control.lifetime_max_ns, 3600 * kSecond_ns);
  EXPECT_EQ(errors_of(std::string(kSmallest) +
                      "nat:\n  port_control: {lifetime_min: 2h, lifetime_max: 1h, on: 1}\n"),
            "gw.yaml:5:32: nat.port_control.lifetime_min: is more than lifetime_max, 1h\n"
            "gw.yaml:5:54: nat.port_control.on: unknown key\n");
}

TEST_F(GatewayConfig, ReadsWhatToLogOfTheTranslator) {
  const auto config = load_text(std::string(kSmallest) +
                                "nat: {log: {blocks: false, window: 5m, file: nat.log}}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_FALSE(config->nat.log.blocks);
  EXPECT_TRUE(config->nat.log.limits);
  EXPECT_EQ(config->nat.log.window_ns, 300 * kSecond_ns);
  EXPECT_EQ(config->nat.log.file, dir_.file("nat.log"));
  EXPECT_EQ(errors_of(std::string(kSmallest) + "nat:\n  log: {limits: 1, window: 0s, flie: x}\n"),
            "gw.yaml:5:17: nat.log.limits: expected true or false, got \"1\"\n"
            "gw.yaml:5:28: nat.log.window: expected a duration from 1s to 1d, such as \"90s\" or "
            "\"2h4m\", got \"0s\"\n"
            "gw.yaml:5:32: nat.log.flie: unknown key; did you mean \"file\"?\n");
}

TEST_F(GatewayConfig, RejectsUnknownKeysInEverySection) {
  EXPECT_EQ(errors_of("eal: {hugepage: no}\n"
                      "ports: [{name: w, device: net_tap0, address: 30.1.1.10/24, nexthop: x}]\n"
                      "tunnel: {private_key_file: gw.key, protection: x}\n"
                      "pools: [{name: p, network: 10.0.0.0/24, gateway: 10.0.0.1}]\n"
                      "nat: {block: 1, blocks: {first: 1}, timeouts: {tcp: 1}, limits: {rate: 1}}\n"
                      "subscribers: [{name: s, public_key: " +
                      TempDir::key_text(2) +
                      ", adress: auto}]\n"
                      "metrics: {port: 1}\n"
                      "control: {path: 1}\n"
                      "log: {levle: info}\n"
                      "subscriber: []\n"),
            "gw.yaml:1:7: eal.hugepage: unknown key; did you mean \"hugepages\"?\n"
            "gw.yaml:2:60: ports[0].nexthop: unknown key; did you mean \"next_hop\"?\n"
            "gw.yaml:3:36: tunnel.protection: unknown key; did you mean \"protections\"?\n"
            "gw.yaml:4:41: pools[0].gateway: unknown key\n"
            "gw.yaml:5:7: nat.block: unknown key; did you mean \"blocks\"?\n"
            "gw.yaml:5:26: nat.blocks.first: unknown key\n"
            "gw.yaml:5:48: nat.timeouts.tcp: unknown key\n"
            "gw.yaml:5:66: nat.limits.rate: unknown key\n"
            "gw.yaml:6:83: subscribers[0].adress: unknown key; did you mean \"address\"?\n"
            "gw.yaml:7:11: metrics.port: unknown key\n"
            "gw.yaml:8:11: control.path: unknown key\n"
            "gw.yaml:9:7: log.levle: unknown key; did you mean \"level\"?\n"
            "gw.yaml:10:1: subscriber: unknown key; did you mean \"subscribers\"?\n");
}

TEST_F(GatewayConfig, RefusesKeyFilesThatOthersMayReadOrThatAreMissing) {
  dir_.write_key("gw.key", 1, 0644);
  EXPECT_EQ(
      errors_of(std::string(kSmallest) + "subscribers: [{name: s, public_key: " +
                TempDir::key_text(2) + ", preshared_key_file: none.psk}]\n"),
      "gw.yaml:2:28: tunnel.private_key_file: key file \"gw.key\" has mode 0644, open to group "
      "or others: chmod 600 it\n"
      "gw.yaml:4:103: subscribers[0].preshared_key_file: key file \"none.psk\" cannot be "
      "opened: No such file or directory\n");
}

TEST_F(GatewayConfig, ReadsIncludedSubscribersAndNamesTheirFileInErrors) {
  std::filesystem::create_directory(dir_.file("more"));
  dir_.write_key("more/s.psk", 4);
  const std::string key = TempDir::key_text(2);
  dir_.write("more/a.yaml", "subscribers:\n  - name: a\n    public_key: " + key +
                                "\n    preshared_key_file: s.psk\n");
  const auto config = load_text(std::string(kSmallest) + "include: [more/a.yaml]\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->subscribers[0].name, "a");
  EXPECT_EQ(config->subscribers[0].preshared_key->at(0), 4);

  dir_.write("more/b.yaml", "# b\nsubscribers:\n  - name: pc\n    public_key: short\nports: []\n");
  EXPECT_EQ(errors_of(std::string(kSmallest) +
                      "include: [more/a.yaml, more/b.yaml, more/c.yaml, more/a.yaml]\n"
                      "subscribers:\n  - name: pc\n    public_key: " +
                      key + "\n"),
            "gw.yaml:4:50: include[3]: \"more/a.yaml\" is read already\n"
            "more/a.yaml:3:17: subscribers[0].public_key: the key is already used at gw.yaml:7\n"
            "more/b.yaml:3:11: subscribers[0].name: \"pc\" is already used at gw.yaml:6\n"
            "more/b.yaml:4:17: subscribers[0].public_key: expected a key of 44 base64 characters, "
            "got \"short\"\n"
            "more/b.yaml:5:1: ports: unknown key\n"
            "more/c.yaml:1:1: (document): cannot read the file: No such file or directory\n");
}

TEST_F(GatewayConfig, ReportsSyntaxErrorsAndAMissingFile) {
  EXPECT_EQ(errors_of("ports: [\n"),
            "gw.yaml:2:1: (document): not YAML: end of sequence flow not found\n");
  errors_.clear();
  EXPECT_FALSE(load(dir_.file("none.yaml"), errors_));
  EXPECT_EQ(dir_.lines(errors_),
            "none.yaml:1:1: (document): cannot read the file: No such file or directory\n");
}

TEST_F(GatewayConfig, KeepsKeysExpandedOfAsManyTunnelsAsThereMayBeAndMemoryIsGiven) {
  const auto kept = [this](const std::string& tunnel, const std::string& subscriber = "") {
    const auto config = load_text(
        "ports: [{name: wan, device: 0000:03:00.0, address: 30.1.1.10/24}]\n"
        "tunnel: {private_key_file: gw.key, " + tunnel + "}\n"
        "pools: [{name: clients, network: 192.168.1.0/24}]\n"
        "subscribers: [{name: s, public_key: " + TempDir::key_text(2) + subscriber + "}]\n");
    EXPECT_TRUE(config) << dir_.lines(errors_);
    return config ? config->expanded_keys() : ~uint32_t{0};
  };
  EXPECT_EQ(kept("max_tunnels: 1000"), 1024u);
  EXPECT_EQ(kept("max_tunnels: 1024"), 2048u) << "slot 0 is nobody's";
  EXPECT_EQ(kept("max_tunnels: 1000000"), 65'536u) << "the default";
  EXPECT_EQ(kept("max_tunnels: 1000, expanded_keys: 700"), 512u);
  EXPECT_EQ(kept("max_tunnels: 1000", ", protections: [chacha20-poly1305]"), 0u);
}

TEST_F(GatewayConfig, DescribesItselfForCheck) {
  const auto config = load_text(std::string(kSmallest) + "subscribers: [{name: s, public_key: " +
                                TempDir::key_text(2) +
                                ", address: 192.168.1.9, limits: {blocks: 1}}]\n"
                                "nat: {port_parity: true, low_ports: 512-1023}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(describe_check(*config),
            "port wan (uplink and public): net_tap0,iface=x0, address 30.1.1.10/24, MTU 1500, "
            "adaptive\n"
            "tunnel: UDP 30.1.1.10:8000, MTU 1440, heartbeat 25s, dead after 1m15s, at most 4096 "
            "tunnels, protections aes-256-gcm, chacha20-poly1305\n"
            "tunnel: AES keys of 8192 tunnels kept expanded, in 16384 KiB of memory\n"
            "pool clients: 192.168.1.0/24, router 192.168.1.1, 253 addresses to lease "
            "(192.168.1.2-192.168.1.254) for 1h, routes none\n"
            "nat: 1 external addresses (30.1.1.10), ports 1024-65535, reserved "
            "30.1.1.10:udp:8000; 64512 ports\n"
            "nat: up to 960 ports for a subscriber in 4 blocks; first blocks of 64 ports for up to "
            "1008 subscribers\n"
            "nat: up to 64 ports for s in 1 blocks\n"
            "nat: internal ports below 1024 get one of 512-1023, at most 64 a subscriber\n"
            "nat: external UDP and TCP ports are odd where the internal are\n"
            "subscribers: 1, of which 1 with a fixed address\n");
}

TEST_F(GatewayConfig, DescribesWhatIsReachedWithoutAMapping) {
  const auto config = load_text(std::string(kSmallest) +
                                "nat: {exempt: [10.0.0.0/8, 172.16.0.0/12]}\n"
                                "subscribers: [{name: s, public_key: " +
                                TempDir::key_text(2) +
                                ", address: 192.168.1.9, external_address: 30.1.1.20, "
                                "routed: [30.1.1.32/29, 50.1.1.1/32]},\n"
                                "  {name: t, public_key: " +
                                TempDir::key_text(3) +
                                ", address: 192.168.1.8, prefixes: [10.20.0.0/16], forwards: "
                                "[{protocol: tcp, external: '30.1.1.10:443', to: 8443}, "
                                "{protocol: udp, external: '30.1.1.10:53', "
                                "to: '10.20.0.5:53'}]}]\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_NE(describe_check(*config).find(
                "exempt from translation: 10.0.0.0/8, 172.16.0.0/12\n"
                "subscriber s: 192.168.1.9 is 30.1.1.20 outside, one to one\n"
                "subscriber s: routed 30.1.1.32/29, 50.1.1.1/32\n"
                "subscriber t: tcp 30.1.1.10:443 is forwarded to 192.168.1.8:8443\n"
                "subscriber t: udp 30.1.1.10:53 is forwarded to 10.20.0.5:53\n"),
            std::string::npos)
      << describe_check(*config);
}

TEST(Eal, TakesAnExplicitAnswerAboutHugepages) {
  EalConfig eal;
  eal.hugepages = EalConfig::Hugepages::kNo;
  EXPECT_FALSE(use_hugepages(eal));
  eal.hugepages = EalConfig::Hugepages::kYes;
  EXPECT_TRUE(use_hugepages(eal));
}

}  // namespace
}  // namespace adit::gateway
