// The gateway's checks of one value against another: one row a mistake, with the exact line that
// an operator sees.
#include <gtest/gtest.h>

#include "gateway/config.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::gateway {
namespace {

using config::TempDir;

constexpr char kPort[] = "ports: [{name: w, device: net_tap0, address: 30.1.1.10/24}]\n";
constexpr char kTunnel[] = "tunnel: {private_key_file: gw.key}\n";
constexpr char kPool[] = "pools: [{name: p, network: 192.168.1.0/24}]\n";

// A file whose four parts a row replaces one at a time; each part is one line.
std::string file_of(const std::string& port, const std::string& tunnel, const std::string& pool,
                    const std::string& rest) {
  return (port.empty() ? kPort : port) + (tunnel.empty() ? kTunnel : tunnel) +
         (pool.empty() ? kPool : pool) + rest;
}

// "{name: N, public_key: K...}" with the key made of `fill`.
std::string subscriber(const std::string& name, uint8_t fill, const std::string& more = "") {
  return "  - {" + more + (more.empty() ? "" : ", ") + "name: " + name +
         ", public_key: " + TempDir::key_text(fill) + "}\n";
}

struct Row {
  std::string name;
  std::string text;
  std::string errors;  // "" when the file is good
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

std::vector<Row> port_rows() {
  const auto ports = [](const std::string& list) {
    return file_of("ports: [" + list + "]\n", "", "", "");
  };
  const std::string w = "{name: w, device: net_tap0, address: 30.1.1.10/24";
  return {
      {"NextHopOutsideSubnet", ports(w + ", next_hop: 30.1.2.1}"),
       "gw.yaml:1:70: ports[0].next_hop: 30.1.2.1 is outside the port's subnet 30.1.1.0/24\n"},
      {"NextHopIsOwnAddress", ports(w + ", next_hop: 30.1.1.10}"),
       "gw.yaml:1:70: ports[0].next_hop: is the port's own address\n"},
      {"NextHopIsBroadcast", ports(w + ", next_hop: 30.1.1.255}"),
       "gw.yaml:1:70: ports[0].next_hop: 30.1.1.255 cannot be a host's address in 30.1.1.0/24\n"},
      {"AddressIsNetwork", ports("{name: w, device: net_tap0, address: 30.1.1.0/24}"),
       "gw.yaml:1:46: ports[0].address: 30.1.1.0 cannot be a host's address in 30.1.1.0/24\n"},
      {"AddressIsMulticast", ports("{name: w, device: net_tap0, address: 224.1.1.1/24}"),
       "gw.yaml:1:46: ports[0].address: 224.1.1.1 cannot be a host's address in 224.1.1.0/24\n"},
      {"DuplicateNameDeviceAndAddress",
       ports(w + "}, {name: w, device: 'net_tap0,iface=y', address: 30.1.1.10/16}") +
           "uplink: w\npublic: w\n",
       "gw.yaml:1:68: ports[1].name: \"w\" is already used at gw.yaml:1\n"
       "gw.yaml:1:79: ports[1].device: \"net_tap0\" is already used at gw.yaml:1\n"
       "gw.yaml:1:108: ports[1].address: 30.1.1.10 is already used at gw.yaml:1\n"},
      {"PortWithoutRole",
       ports(w + "}, {name: x, device: net_tap1, address: 30.2.1.1/24}") + "uplink: w\npublic: w\n",
       "gw.yaml:1:68: ports[1].name: \"x\" is neither the uplink nor the public port\n"},
      {"UnknownRoles", ports(w + "}") + "uplink: ww\npublic: inside\n",
       "gw.yaml:4:9: uplink: no port has the name \"ww\"; did you mean \"w\"?\n"
       "gw.yaml:5:9: public: no port has the name \"inside\"\n"},
      {"RolesMissingWithTwoPorts",
       ports(w + "}, {name: x, device: net_tap1, address: 30.2.1.1/24}"),
       "gw.yaml:1:1: uplink: required key is missing\n"
       "gw.yaml:1:1: public: required key is missing\n"},
      {"MoreQueuesThanWorkers", "eal: {worker_cores: [1, 2]}\n" + ports(w + ", queues: 3}"),
       "gw.yaml:2:68: ports[0].queues: 3 are more than the 2 workers (eal.worker_cores): nobody "
       "would serve the others\n"},
      {"AsManyQueuesAsWorkers", "eal: {worker_cores: [1, 2]}\n" + ports(w + ", queues: 2}"), ""},
      {"PointToPointSubnet",
       ports("{name: w, device: net_tap0, address: 30.1.1.10/31, next_hop: 30.1.1.11}"), ""},
  };
}

std::vector<Row> tunnel_rows() {
  const auto tunnel = [](const std::string& more, const std::string& rest = "") {
    return file_of("", "tunnel: {private_key_file: gw.key, " + more + "}\n", "", rest);
  };
  return {
      {"MtuTooLargeForUplink", tunnel("mtu: 1441"),
       "gw.yaml:2:41: tunnel.mtu: 1441 is more than the 1440 that the uplink's MTU of 1500 leaves "
       "(less 20 IPv4, 8 UDP, 16 tunnel header, 16 tag)\n"},
      {"DeadBeforeTwoHeartbeats", tunnel("heartbeat: 20s, dead_after: 39s"),
       "gw.yaml:2:64: tunnel.dead_after: expected at least two heartbeats, which is 40s, or one "
       "lost packet ends a tunnel\n"},
      {"TooFewTunnels",
       tunnel("max_tunnels: 1", "subscribers:\n" + subscriber("a", 2) + subscriber("b", 3)),
       "gw.yaml:2:49: tunnel.max_tunnels: 1 is less than the 2 subscribers\n"},
      {"ProtectionTwice", tunnel("protections: [plain, plain]"),
       "gw.yaml:2:57: tunnel.protections[1]: is in the list already\n"},
      {"ProtectionUnknown", tunnel("protections: [aes]"),
       "gw.yaml:2:50: tunnel.protections[0]: expected one of aes-256-gcm, chacha20-poly1305, "
       "plain, got \"aes\"\n"},
  };
}

std::vector<Row> pool_rows() {
  const auto pools = [](const std::string& list) {
    return file_of("", "", "pools: [" + list + "]\n", "");
  };
  return {
      {"TooManyResolvers",
       pools("{name: a, network: 10.0.0.0/24, dns: [9.9.9.1, 9.9.9.2, 9.9.9.3, 9.9.9.4, 9.9.9.5]}"),
       "gw.yaml:3:46: pools[0].dns: 5 entries are more than the 4 that are supported\n"},
      {"PoolsOverlap", pools("{name: a, network: 10.0.0.0/8}, {name: b, network: 10.1.0.0/16}"),
       "gw.yaml:3:60: pools[1].network: 10.1.0.0/16 overlaps 10.0.0.0/8 of pool \"a\" at "
       "gw.yaml:3\n"},
      {"PoolNameTwice", pools("{name: a, network: 10.0.0.0/24}, {name: a, network: 10.0.1.0/24}"),
       "gw.yaml:3:49: pools[1].name: \"a\" is already used at gw.yaml:3\n"},
      {"RangeOutsideNetwork", pools("{name: a, network: 10.0.0.0/24, range: 10.0.0.9-10.0.1.9}"),
       "gw.yaml:3:48: pools[0].range: 10.0.0.9-10.0.1.9 is not inside 10.0.0.0/24\n"},
      {"RangeHoldsBroadcast", pools("{name: a, network: 10.0.0.0/24, range: 10.0.0.9-10.0.0.255}"),
       "gw.yaml:3:48: pools[0].range: 10.0.0.9-10.0.0.255 holds the network or broadcast address "
       "of 10.0.0.0/24\n"},
      {"RangeHoldsRouter", pools("{name: a, network: 10.0.0.0/24, range: 10.0.0.1-10.0.0.9}"),
       "gw.yaml:3:48: pools[0].range: 10.0.0.1-10.0.0.9 holds the router's address 10.0.0.1\n"},
      {"RangeNeededAroundRouter", pools("{name: a, network: 10.0.0.0/24, router: 10.0.0.100}"),
       "gw.yaml:3:9: pools[0].range: required key is missing: the router is neither the first nor "
       "the last address of the network\n"},
      {"RangeBackwards", pools("{name: a, network: 10.0.0.0/24, range: 10.0.0.9-10.0.0.2}"),
       "gw.yaml:3:48: pools[0].range: expected an IPv4 address, prefix or range, such as "
       "192.0.2.1-192.0.2.9, got \"10.0.0.9-10.0.0.2\"\n"},
      {"RouterOutsideNetwork",
       pools("{name: a, network: 10.0.0.0/24, router: 10.0.1.1, range: 10.0.0.9}"),
       "gw.yaml:3:49: pools[0].router: 10.0.1.1 is not a host address of 10.0.0.0/24\n"},
      {"RouterIsPortsAddress",
       pools("{name: a, network: 30.1.1.0/24, router: 30.1.1.10, range: 30.1.1.20}"),
       "gw.yaml:3:49: pools[0].router: 30.1.1.10 is the address of port \"w\"\n"},
      {"RouterIsExternal",
       pools("{name: a, network: 30.1.9.0/24}") + "nat: {external: [30.1.9.0/29]}\n",
       "gw.yaml:3:9: pools[0].router: 30.1.9.1 is an external address of the NAT\n"},
      {"NetworkOfNobody", pools("{name: a, network: 127.1.0.0/24}"),
       "gw.yaml:3:28: pools[0].network: 127.1.0.0/24 holds addresses that no host may have\n"},
      {"NetworkWithHostBits", pools("{name: a, network: 10.0.0.1/24}"),
       "gw.yaml:3:28: pools[0].network: expected an IPv4 prefix such as 192.0.2.0/24, with no bits "
       "set beyond its length, got \"10.0.0.1/24\"\n"},
      {"OverlapWithThePublicSideIsAllowed", pools("{name: a, network: 30.1.1.0/24}"), ""},
      {"SmallestPool", pools("{name: a, network: 10.0.0.0/30}"), ""},
  };
}

std::vector<Row> nat_rows() {
  const auto nat = [](const std::string& text) {
    return file_of("", "", "", "nat: {" + text + "}\n");
  };
  return {
      {"TunnelPortUnreserved", nat("external: [30.1.1.8/29]"),
       "gw.yaml:4:18: nat.external[0]: holds the tunnel's own address 30.1.1.10, whose port is not "
       "reserved: add \"30.1.1.10:udp:8000\" to nat.reserved\n"},
      {"TunnelPortReserved", nat("external: [30.1.1.8/29], reserved: ['30.1.1.10:udp:8000']"), ""},
      {"TunnelPortReservedEverywhere", nat("external: [30.1.1.8/29], reserved: [8000]"), ""},
      {"TunnelPortReservedForTcpOnly", nat("external: [30.1.1.10], reserved: ['tcp:8000']"),
       "gw.yaml:4:18: nat.external[0]: holds the tunnel's own address 30.1.1.10, whose port is not "
       "reserved: add \"30.1.1.10:udp:8000\" to nat.reserved\n"},
      {"TunnelPortOutsideTheNatsPorts", nat("external: [30.1.1.10], ports: 10000-20000"), ""},
      {"TunnelElsewhere", nat("external: [30.1.1.11]"), ""},
      {"ExternalOverlap", nat("external: [40.0.0.0/24, 40.0.0.9]"),
       "gw.yaml:4:31: nat.external[1]: 40.0.0.9 overlaps 40.0.0.0-40.0.0.255\n"},
      {"ExternalEmpty", nat("external: []"),
       "gw.yaml:4:17: nat.external: the list is empty; leave the key out for the public port's "
       "address\n"},
      {"ExternalTooMany", nat("external: [40.0.0.0/8]"),
       "gw.yaml:4:17: nat.external: 16777216 addresses are more than the 1024 that are "
       "supported\n"},
      {"ExternalOfNobody", nat("external: [224.0.0.1]"),
       "gw.yaml:4:18: nat.external[0]: 224.0.0.1 holds addresses that no host may have\n"},
      {"ReservedMalformed", nat("reserved: ['sctp:1', 0, '1.2.3:udp:1', 'udp:', 9-8]"),
       "gw.yaml:4:18: nat.reserved[0]: expected a port or a range of ports, with \"protocol:\" "
       "or \"address:protocol:\" in front of it if need be, such as 5060-5061 or "
       "192.0.2.1:udp:8000, got \"sctp:1\"\n"
       "gw.yaml:4:28: nat.reserved[1]: expected a port or a range of ports, with \"protocol:\" "
       "or \"address:protocol:\" in front of it if need be, such as 5060-5061 or "
       "192.0.2.1:udp:8000, got \"0\"\n"
       "gw.yaml:4:31: nat.reserved[2]: expected a port or a range of ports, with \"protocol:\" "
       "or \"address:protocol:\" in front of it if need be, such as 5060-5061 or "
       "192.0.2.1:udp:8000, got \"1.2.3:udp:1\"\n"
       "gw.yaml:4:46: nat.reserved[3]: expected a port or a range of ports, with \"protocol:\" "
       "or \"address:protocol:\" in front of it if need be, such as 5060-5061 or "
       "192.0.2.1:udp:8000, got \"udp:\"\n"
       "gw.yaml:4:54: nat.reserved[4]: expected a port or a range of ports, with \"protocol:\" "
       "or \"address:protocol:\" in front of it if need be, such as 5060-5061 or "
       "192.0.2.1:udp:8000, got \"9-8\"\n"},
      {"PortsTooFewForABlock", nat("ports: 1025-1150"),
       "gw.yaml:4:14: nat.ports: 1025-1150 holds no whole block of 64 ports\n"},
      {"LowPortsMalformed", nat("low_ports: 512-1000"),
       "gw.yaml:4:18: nat.low_ports: expected \"off\" or a power of two of ports, 16 at least, "
       "from a multiple of their number to 1023 at most, such as 512-1023, got \"512-1000\"\n"},
      {"LowPortsUnaligned", nat("low_ports: 500-515"),
       "gw.yaml:4:18: nat.low_ports: expected \"off\" or a power of two of ports, 16 at least, "
       "from a multiple of their number to 1023 at most, such as 512-1023, got \"500-515\"\n"},
      {"LowPortsAmongTheOthers", nat("low_ports: 896-1023, ports: 1000-65535"),
       "gw.yaml:4:18: nat.low_ports: 896-1023 overlaps nat.ports 1000-65535\n"},
      {"LowPortsBesideTheOthers", nat("low_ports: 1008-1023"), ""},
      {"LowPortsOff", nat("low_ports: off"), ""},
      {"TunnelPortAmongTheLowOnes",
       file_of("", "tunnel: {private_key_file: gw.key, port: 600}\n", "",
               "nat: {external: [30.1.1.10], low_ports: 512-1023}\n"),
       "gw.yaml:4:18: nat.external[0]: holds the tunnel's own address 30.1.1.10, whose port is not "
       "reserved: add \"30.1.1.10:udp:600\" to nat.reserved\n"},
      {"PortsForOneBlock", nat("ports: 1025-1151"), ""},
      {"ExemptMalformed", nat("exempt: [10.0.0.1/8]"),
       "gw.yaml:4:16: nat.exempt[0]: expected an IPv4 prefix such as 192.0.2.0/24, with no bits "
       "set beyond its length, got \"10.0.0.1/8\"\n"},
      {"ExemptTooMany",
       nat("exempt: [10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, 10.5.0.0/16, "
           "10.6.0.0/16, 10.7.0.0/16, 10.8.0.0/16, 10.9.0.0/16, 11.0.0.0/16, 11.1.0.0/16, "
           "11.2.0.0/16, 11.3.0.0/16, 11.4.0.0/16, 11.5.0.0/16, 11.6.0.0/16]"),
       "gw.yaml:4:15: nat.exempt: 17 entries are more than the 16 that are supported\n"},
      {"ExemptMayHoldThePools", nat("exempt: [0.0.0.0/0]"), ""},
  };
}

std::vector<Row> subscriber_rows() {
  const auto with = [](const std::string& list, const std::string& tunnel = "") {
    return file_of("", tunnel.empty() ? "" : "tunnel: {private_key_file: gw.key, " + tunnel + "}\n",
                   "", "subscribers:\n" + list);
  };
  const std::string lan = "prefixes: [10.0.0.0/24]";
  return {
      {"TooManyPrefixes",
       with(
           subscriber("a", 2,
                      "prefixes: [10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, 10.5.0.0/16, "
                      "10.6.0.0/16, 10.7.0.0/16, 10.8.0.0/16, 10.9.0.0/16]")),
       "gw.yaml:5:16: subscribers[0].prefixes: 9 entries are more than the 8 that are supported\n"},
      {"MoreWorkersThanPlacesForBlocks",
       with("  []\neal: {worker_cores: [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n"
            "nat: {blocks: {first_ports: 1024}}\n"),
       "gw.yaml:6:6: eal: 9 workers: with blocks of up to 8192 ports, an address has ports for 8\n"},
      {"NameAndKeyTwice", with(subscriber("a", 2) + subscriber("a", 2)),
       "gw.yaml:6:12: subscribers[1].name: \"a\" is already used at gw.yaml:5\n"
       "gw.yaml:6:27: subscribers[1].public_key: the key is already used at gw.yaml:5\n"},
      {"AddressTwice",
       with(subscriber("a", 2, "address: 192.168.1.5") +
            subscriber("b", 3, "address: 192.168.1.5")),
       "gw.yaml:6:15: subscribers[1].address: 192.168.1.5 is already used at gw.yaml:5\n"},
      {"AutoTwice", with(subscriber("a", 2, "address: auto") + subscriber("b", 3, "address: auto")),
       ""},
      {"AddressOutsidePool", with(subscriber("a", 2, "address: 192.168.2.5")),
       "gw.yaml:5:15: subscribers[0].address: 192.168.2.5 is outside 192.168.1.0/24 of pool "
       "\"p\"\n"},
      {"AddressIsRouter", with(subscriber("a", 2, "address: 192.168.1.1")),
       "gw.yaml:5:15: subscribers[0].address: 192.168.1.1 is the router of pool \"p\"\n"},
      {"AddressIsBroadcast", with(subscriber("a", 2, "address: 192.168.1.255")),
       "gw.yaml:5:15: subscribers[0].address: 192.168.1.255 is the network or broadcast address of "
       "192.168.1.0/24\n"},
      {"AddressMalformed", with(subscriber("a", 2, "address: dhcp")),
       "gw.yaml:5:15: subscribers[0].address: expected \"auto\" or an IPv4 address such as "
       "192.0.2.1, got \"dhcp\"\n"},
      {"PoolUnknown", with(subscriber("a", 2, "pool: pp")),
       "gw.yaml:5:12: subscribers[0].pool: no pool has the name \"pp\"; did you mean \"p\"?\n"},
      {"ProtectionNotAllowed", with(subscriber("a", 2, "protections: [aes-256-gcm, plain]")),
       "gw.yaml:5:33: subscribers[0].protections[1]: \"plain\" is not allowed by "
       "tunnel.protections\n"},
      {"PrefixOverlapsPool", with(subscriber("a", 2, "prefixes: [10.0.0.0/24, 192.168.0.0/16]")),
       "gw.yaml:5:30: subscribers[0].prefixes[1]: 192.168.0.0/16 overlaps 192.168.1.0/24 of pool "
       "\"p\"\n"},
      {"PrefixOverlapsOwn", with(subscriber("a", 2, "prefixes: [10.0.0.0/24, 10.0.0.0/25]")),
       "gw.yaml:5:30: subscribers[0].prefixes[1]: 10.0.0.0/25 overlaps 10.0.0.0/24 at "
       "gw.yaml:5\n"},
      {"SameLanBehindTwoClients", with(subscriber("a", 2, lan) + subscriber("b", 3, lan)), ""},
      {"SameLanWhereTunnelsMeet",
       with(subscriber("a", 2, lan) + subscriber("b", 3, lan), "tunnel_to_tunnel: true"),
       "gw.yaml:6:17: subscribers[1].prefixes[0]: 10.0.0.0/24 overlaps 10.0.0.0/24 at "
       "gw.yaml:5\n"},
      {"SameLanWhereANetworkOutsideSeesThem",
       with(subscriber("a", 2, lan) + subscriber("b", 3, lan) + "nat: {exempt: [10.9.0.0/16]}\n"),
       "gw.yaml:6:17: subscribers[1].prefixes[0]: 10.0.0.0/24 overlaps 10.0.0.0/24 at "
       "gw.yaml:5\n"},
  };
}

std::vector<Row> reach_rows() {
  const auto with = [](const std::string& list) {
    return file_of("ports: [{name: w, device: net_tap0, address: 30.1.1.10/24, next_hop: "
                   "30.1.1.1}]\n", "", "", "subscribers:\n" + list);
  };
  const auto routed = [&](const std::string& prefixes) {
    return with(subscriber("a", 2, "routed: [" + prefixes + "]"));
  };
  const auto external = [&](const std::string& address) {
    return with(subscriber("a", 2, "external_address: " + address + ", address: 192.168.1.5"));
  };
  const std::string at = "gw.yaml:5:15: subscribers[0].routed[0]: ";
  const std::string at_external = "gw.yaml:5:24: subscribers[0].external_address: ";
  return {
      {"RoutedInsideThePublicSubnetAndElsewhere", routed("30.1.1.64/29, 50.1.1.1"), ""},
      {"RoutedHoldsThePort", routed("30.1.1.8/29"),
       at + "30.1.1.8/29 holds the address of port \"w\"\n"},
      {"RoutedHoldsTheNextHop", routed("30.1.1.0/30"),
       at + "30.1.1.0/30 holds the next hop of port \"w\"\n"},
      {"RoutedOverlapsExternal",
       routed("40.1.1.0/29") + "nat: {external: [40.1.1.4-40.1.1.9]}\n",
       at + "40.1.1.0/29 overlaps 40.1.1.4-40.1.1.9, which the NAT shares out (nat.external)\n"},
      {"RoutedOverlapsPool", routed("192.168.0.0/16"),
       at + "192.168.0.0/16 overlaps 192.168.1.0/24 of pool \"p\"\n"},
      {"RoutedOfNobody", routed("0.0.0.0/0"),
       at + "0.0.0.0/0 holds addresses that no host may have\n"},
      {"RoutedToTwo",
       with(subscriber("a", 2, "routed: [50.1.0.0/16]") +
            subscriber("b", 3, "routed: [50.1.1.0/29]")),
       "gw.yaml:6:15: subscribers[1].routed[0]: 50.1.1.0/29 overlaps 50.1.0.0/16 at gw.yaml:5\n"},
      {"RoutedIsALan",
       with(subscriber("a", 2, "prefixes: [50.1.0.0/16]") +
            subscriber("b", 3, "prefixes: [50.1.0.0/16]") +
            subscriber("c", 4, "routed: [50.1.1.0/29]")),
       "gw.yaml:7:15: subscribers[2].routed[0]: 50.1.1.0/29 overlaps 50.1.0.0/16 at gw.yaml:5\n"},
      {"TooManyRoutedAndPrefixes",
       with(subscriber("a", 2,
                       "prefixes: [10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16, "
                       "10.5.0.0/16], routed: [50.1.1.1, 50.1.1.2, 50.1.1.3, 50.1.1.4]")),
       "gw.yaml:5:91: subscribers[0].routed: 9 entries, with those of prefixes, are more than the "
       "8 that are supported\n"},
      {"OneToOne", external("30.1.1.20"), ""},
      {"OneToOneWithoutAFixedAddress", with(subscriber("a", 2, "external_address: 30.1.1.20")),
       at_external + "needs a fixed address to be the same as\n"},
      {"OneToOneIsShared", external("30.1.1.10"),
       at_external + "30.1.1.10 holds the address of port \"w\"\n"},
      {"OneToOneInExternal", external("40.1.1.1") + "nat: {external: [40.1.1.0/29]}\n",
       at_external +
           "40.1.1.1 overlaps 40.1.1.0-40.1.1.7, which the NAT shares out (nat.external)\n"},
      {"OneToOneIsRouted",
       with(subscriber("a", 2, "external_address: 50.1.1.1, address: 192.168.1.5") +
            subscriber("b", 3, "routed: [50.1.1.0/29]")),
       at_external + "50.1.1.1 overlaps 50.1.1.0/29 at gw.yaml:6\n"},
      {"OneToOneTwice",
       with(subscriber("a", 2, "external_address: 50.1.1.1, address: 192.168.1.5") +
            subscriber("b", 3, "external_address: 50.1.1.1, address: 192.168.1.6")),
       "gw.yaml:6:24: subscribers[1].external_address: 50.1.1.1 overlaps 50.1.1.1 at gw.yaml:5\n"},
  };
}

std::vector<Row> forward_rows() {
  const auto with = [](const std::string& subscribers, const std::string& rest = "") {
    return file_of("", "", "", "subscribers:\n" + subscribers + rest);
  };
  const auto forward = [](const std::string& protocol, const std::string& external,
                          const std::string& to) {
    return "{protocol: " + protocol + ", external: '" + external + "', to: " + to + "}";
  };
  const auto one = [&](const std::string& item, const std::string& more = "address: 192.168.1.5") {
    return subscriber("a", 2, "forwards: [" + item + "], " + more);
  };
  const std::string at = ": subscribers[0].forwards[0].";
  return {
      {"ForwardBelowTheNatsPorts", with(one(forward("tcp", "30.1.1.10:80", "8080"))), ""},
      {"ForwardOfTheTunnelsPortByTcp", with(one(forward("tcp", "30.1.1.10:8000", "80"))), ""},
      {"ForwardOfTheTunnelsPort", with(one(forward("udp", "30.1.1.10:8000", "80"))),
       "gw.yaml:5:43" + at + "external: 30.1.1.10:8000 is the tunnel's own endpoint\n"},
      {"ForwardOfAForeignAddress", with(one(forward("udp", "30.1.1.11:80", "80"))),
       "gw.yaml:5:43" + at +
           "external: 30.1.1.11 is no external address of the NAT (nat.external)\n"},
      {"ForwardTwice",
       with(one(forward("udp", "30.1.1.10:80", "80")) +
            subscriber("b", 3,
                       "forwards: [" + forward("udp", "30.1.1.10:80", "81") +
                           "], address: 192.168.1.6")),
       "gw.yaml:6:43: subscribers[1].forwards[0].external: 30.1.1.10:80 is already forwarded at "
       "gw.yaml:5\n"},
      {"ForwardToOneFromTwo",
       with(one(forward("udp", "30.1.1.10:80", "80") + ", " +
                forward("udp", "30.1.1.10:81", "'192.168.1.5:80'"))),
       "gw.yaml:5:114: subscribers[0].forwards[1].to: 192.168.1.5:80 is already forwarded to at "
       "gw.yaml:5\n"},
      {"ForwardWithoutAnAddress", with(one(forward("udp", "30.1.1.10:80", "80"), "address: auto")),
       "gw.yaml:5:63" + at + "to: needs an address: the subscriber has no fixed one\n"},
      {"ForwardElsewhere", with(one(forward("udp", "30.1.1.10:80", "'192.168.1.6:80'"))),
       "gw.yaml:5:63" + at +
           "to: 192.168.1.6 is neither the subscriber's fixed address nor in its prefixes\n"},
      {"ForwardToItsLan",
       with(one(forward("udp", "30.1.1.10:80", "'10.1.2.3:80'"), "prefixes: [10.1.0.0/16]")), ""},
      {"ForwardToOneToOne",
       with(one(forward("udp", "30.1.1.10:80", "80"),
                "address: 192.168.1.5, external_address: 30.1.1.20")),
       "gw.yaml:5:63" + at + "to: 192.168.1.5 is one to one with 30.1.1.20\n"},
      {"ForwardMalformed", with(one(forward("icmp", "30.1.1.10", "0"))),
       "gw.yaml:5:28" + at + "protocol: expected one of udp, tcp, got \"icmp\"\n"
       "gw.yaml:5:44" + at + "external: expected an IPv4 address and a port such as "
       "192.0.2.1:9100, got \"30.1.1.10\"\n"
       "gw.yaml:5:61" + at + "to: expected a port or \"address:port\", such as 192.168.1.5:80, got "
       "\"0\"\n"},
  };
}

class GatewayCheck : public testing::TestWithParam<Row> {};

TEST_P(GatewayCheck, SaysExactlyThis) {
  const TempDir dir;
  dir.write_key("gw.key", 1);
  std::vector<config::Error> errors;
  const auto config = load(dir.write("gw.yaml", GetParam().text), errors);
  EXPECT_EQ(dir.lines(errors), GetParam().errors) << GetParam().text;
  EXPECT_EQ(config.has_value(), GetParam().errors.empty());
}

std::string row_name(const testing::TestParamInfo<Row>& row) {
  return row.param.name;
}

INSTANTIATE_TEST_SUITE_P(Port, GatewayCheck, testing::ValuesIn(port_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Tunnel, GatewayCheck, testing::ValuesIn(tunnel_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Pool, GatewayCheck, testing::ValuesIn(pool_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Nat, GatewayCheck, testing::ValuesIn(nat_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Subscriber, GatewayCheck, testing::ValuesIn(subscriber_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Reach, GatewayCheck, testing::ValuesIn(reach_rows()), row_name);
INSTANTIATE_TEST_SUITE_P(Forward, GatewayCheck, testing::ValuesIn(forward_rows()), row_name);

}  // namespace
}  // namespace adit::gateway
