// The gateway's configuration: one plain struct, filled and checked from YAML before anything
// starts and never written afterwards. conf/gateway.yaml shows every key with its default and
// unit; the sections below stand in the same order.
//
// Owner: main, which passes parts of it by const reference. No DPDK in here, so that it is tested,
// and a file checked, on any machine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/config/error.h"
#include "lib/config/key_file.h"
#include "lib/config/values.h"
#include "lib/nat/deterministic.h"
#include "lib/nat/filtering.h"
#include "lib/net/address.h"

namespace adit::gateway {

using config::KeyBytes;
using config::Protection;

inline constexpr uint64_t kSecond_ns = 1'000'000'000;

// What the tunnel adds to an inner packet: IPv4 header, UDP header, type 4 header, AEAD tag.
inline constexpr uint16_t kTunnelOverheadBytes = 20 + 8 + 16 + 16;
// RFC 791: every host takes 576 bytes; above 9000 a port's buffers no longer hold a packet.
inline constexpr uint16_t kPortMtuMin = 576;
inline constexpr uint16_t kPortMtuMax = 9000;
// RFC 791: every host takes 576 bytes; our own ICMP errors and DHCP replies are no longer.
inline constexpr uint16_t kTunnelMtuMin = 576;
// What a DHCP reply has room for, and a tunnel's entry in the table.
inline constexpr size_t kPoolDnsMax = 4;
inline constexpr size_t kPoolRoutesMax = 32;
inline constexpr size_t kSubscriberPrefixesMax = 8;
inline constexpr size_t kSubscriberForwardsMax = 256;
// Compared one by one with each packet's address.
inline constexpr size_t kExemptMax = 16;
inline constexpr unsigned kWorkersMax = 64;
inline constexpr unsigned kControlThreadsMax = 16;

struct EalConfig {
  enum class Hugepages : uint8_t { kAuto, kYes, kNo };

  Hugepages hugepages = Hugepages::kAuto;  // use_hugepages() resolves kAuto
  uint32_t memory_mb = 512;                // EAL's -m
  std::optional<uint32_t> main_core;       // the control thread's; we choose when absent
  std::vector<uint32_t> worker_cores;      // a worker each; we choose one when empty
  bool balance = true;                     // may tunnels be moved between workers?
  std::vector<std::string> extra_args;  // appended to EAL's command line as they are
};

// When a worker finds no packet: spin, or sleep a little. kAuto polls on a physical device and is
// adaptive on a virtual one, so that a laptop or CI keeps its cores; is_adaptive() resolves it.
enum class Idle : uint8_t { kAuto, kPoll, kAdaptive };

struct PortConfig {
  std::string name;    // what the rest of the file calls it
  std::string device;  // "net_tap0,iface=x0", "net_memif0,role=server", "0000:03:00.0", ...
  Ipv4Interface address;
  std::optional<Ipv4Address> next_hop;  // for destinations outside the port's subnet
  std::optional<uint16_t> vlan;         // 1-4094; untagged when absent
  uint16_t mtu = 1500;                  // bytes of an IP packet
  uint16_t rx_descriptors = 1024;       // per queue
  uint16_t tx_descriptors = 1024;
  std::optional<uint16_t> queues;  // each way; when absent, as many as workers where that is for us
                                   // to say, else one
  Idle idle = Idle::kAuto;

  // A PCI address is a physical device; everything else names a virtual driver.
  bool is_pci() const;
  bool is_adaptive() const;
};

struct TunnelConfig {
  uint16_t udp_port = 8000;  // on the uplink's address
  std::string private_key_file;
  KeyBytes private_key{};
  // Of an inner packet, in bytes. Default: the uplink's MTU - kTunnelOverheadBytes, which is 1440
  // for 1500. Type 5 needs 24 bytes less, but one number serves every protection, so that a
  // tunnel's MTU does not depend on what was negotiated.
  uint16_t mtu = 1500 - kTunnelOverheadBytes;
  uint64_t heartbeat_ns = 25 * kSecond_ns;
  uint64_t dead_after_ns = 75 * kSecond_ns;  // silence that ends a tunnel; default 3 heartbeats
  // Allowed, the preferred one first: the gateway takes the first that the client accepts too.
  std::vector<Protection> protections = {Protection::aes_256_gcm, Protection::chacha20_poly1305};
  uint32_t max_tunnels = 4096;    // open at once
  // Tunnels whose AES keys are kept expanded, if there may be so many; a power of two is used.
  uint32_t expanded_keys = 65'536;
  bool tunnel_to_tunnel = false;  // may clients reach each other's inner addresses? By pool
  uint8_t lanes_max = 1;  // that a client may have at once, 1-tunnel::kLanesMax; see lanes_of()
  // That one source may fail in, while so many wait that cookies are asked for; see
  // lib/tunnel/source_limiter.h.
  uint32_t handshakes_per_second = 20;
  uint32_t handshakes_burst = 5;
};

// External ports that the NAT never hands out.
struct ReservedPorts {
  std::optional<Ipv4Address> address;  // every external address when absent
  std::optional<uint8_t> protocol;     // IP protocol number; every protocol when absent
  config::PortRange ports;

  bool matches(Ipv4Address a, uint8_t p, uint16_t port) const {
    return (!address || *address == a) && (!protocol || *protocol == p) && ports.contains(port);
  }
  std::string to_string() const;
  friend bool operator==(const ReservedPorts&, const ReservedPorts&) = default;
};

struct NatTimeouts {
  uint64_t udp_ns = 300 * kSecond_ns;               // RFC 4787 REQ-5: at least 2 minutes
  uint64_t tcp_established_ns = 7440 * kSecond_ns;  // RFC 5382 REQ-5: at least 2 h 4 min
  uint64_t tcp_opening_ns = 240 * kSecond_ns;       // RFC 7857 §2.2: 4 minutes, may be less
  uint64_t tcp_closing_ns = 240 * kSecond_ns;       // RFC 5382 REQ-5: at least 4 minutes
  uint64_t icmp_ns = 60 * kSecond_ns;               // RFC 5508 REQ-1: at least 60 seconds
  std::optional<uint64_t> dns_ns;            // of UDP mappings used with port 53 only; as udp_ns
  uint64_t port_rest_ns = 120 * kSecond_ns;         // RFC 6888 REQ-8: 120 seconds
};

// Per subscriber.
struct LimitsConfig {
  uint32_t mappings = 2048;                // live at once, all protocols together
  uint32_t new_mappings_per_second = 500;  // sustained; the token bucket's rate
  uint32_t new_mappings_burst = 1000;      // the token bucket's size
  uint32_t blocks = 4;                     // of ports, 1-4
};

// Who may send to a mapping (RFC 4787 REQ-8, RFC 5382 REQ-3, RFC 7857 §6).
struct FilteringConfig {
  using Filtering = nat::Filtering;

  Filtering udp = Filtering::endpoint_independent;
  Filtering tcp = Filtering::endpoint_independent;
  Filtering icmp =
      Filtering::endpoint_independent;  // of queries; as udp when the file says nothing
};

// How the translator behaves towards the clients of one pool.
struct NatPolicyConfig {
  bool port_parity = false;  // RFC 4787 REQ-4
  NatTimeouts timeouts;
  bool hairpin = true;          // RFC 4787 REQ-9, RFC 5382 REQ-8
  FilteringConfig filtering;
  bool inbound_refresh = true;  // RFC 4787 REQ-6a, RFC 7857 §7
  LimitsConfig limits;          // a subscriber may override them
};

// Inner addresses to lease.
struct PoolConfig {
  std::string name;
  Ipv4Prefix network;
  Ipv4Address router;       // the gateway's own address in it
  config::Ipv4Range range;  // leased to subscribers without a fixed address
  uint32_t lease_s = 3600;
  std::vector<Ipv4Address> dns;
  std::vector<Ipv4Prefix> routes;  // destinations that traverse (option 121); 0.0.0.0/0 = default
  bool tunnel_to_tunnel = false;  // may its clients reach those of such pools by inner address?
  NatPolicyConfig nat;            // what the file does not say here is as in Config::nat
};

// How external ports come to subscribers: blocks at random that grow, or one range each that
// follows from its place among the subscribers (RFC 7422), so that nothing need be logged.
enum class Allocation : uint8_t { random, deterministic };

// The ICMP errors that the gateway itself sends (RFC 5508 REQ-9, RFC 1812 §4.3.2.8).
struct IcmpErrorsConfig {
  bool to_clients = true;
  bool to_internet = true;
  uint32_t per_second = 1000;
  uint32_t per_subscriber_per_second = 50;
};

// What the log says of the translator (RFC 6888 REQ-11, REQ-14).
struct NatLogConfig {
  bool blocks = true;                   // granted and returned
  bool limits = true;                   // met by a subscriber
  uint64_t window_ns = 60 * kSecond_ns; // a subscriber's limit is told once in so long
  std::string file;                     // empty: the log
};

// The Port Control Protocol (RFC 6887, RFC 6888 REQ-9).
struct PortControlConfig {
  bool enabled = false;
  uint64_t lifetime_min_ns = 120 * kSecond_ns;     // RFC 6887 §15: 120 seconds
  uint64_t lifetime_max_ns = 86'400 * kSecond_ns;  // RFC 6887 §15: 24 hours
};

// The policy is that of the pools which say nothing else.
struct NatConfig : NatPolicyConfig {
  std::vector<config::Ipv4Range> external;  // sorted, disjoint, never empty
  config::PortRange ports{1024, 65535};
  // What the file lists, and the tunnel's own port where the loader added it (when `external` was
  // left to default to the public port's address and that is the tunnel's address too).
  std::vector<ReservedPorts> reserved;
  Allocation allocation = Allocation::random;
  uint32_t deterministic_ports = 1024;  // a subscriber's, a power of two, 16-8192
  uint32_t first_block_ports = 64;     // a power of two, 16-1024; each further block doubles
  // RFC 4787 REQ-3a: external ports of internal ones below 1024; outside `ports`, a power of two.
  std::optional<config::PortRange> low_ports;
  bool mss_clamp = true;
  bool answer_unsolicited_syn = true;  // RFC 5382 REQ-4, 4a
  uint32_t sessions = 131'072;  // remembered remotes, all subscribers together, for filtering
  uint32_t sessions_per_subscriber = 4096;
  std::vector<Ipv4Prefix> exempt;  // destinations that see inner addresses (RFC 6888 REQ-6)
  bool inner_networks_outside = false;  // RFC 4787 REQ-7
  IcmpErrorsConfig icmp_errors;
  PortControlConfig port_control;
  NatLogConfig log;

  uint64_t external_address_count() const;
  bool is_reserved(Ipv4Address address, uint8_t protocol, uint16_t port) const;
  nat::DeterministicRanges ranges() const;
  // The index-th of all external addresses, in order.
  Ipv4Address external_address(uint64_t index) const;
  // How many ports so many blocks of one subscriber come to.
  uint32_t ports_in(uint32_t blocks) const;
};

// An external endpoint that always leads to one of a subscriber's.
struct ForwardConfig {
  uint8_t protocol = 0;  // kIpUdp or kIpTcp
  Endpoint external;
  Endpoint to;  // where the file names a port alone, the address is the subscriber's fixed one
};

// Who may connect: an identity (its public key) and what it is entitled to.
struct SubscriberConfig {
  std::string name;
  KeyBytes public_key{};
  std::string preshared_key_file;  // empty: none
  std::optional<KeyBytes> preshared_key;
  size_t pool = 0;                      // index into Config::pools
  std::optional<Ipv4Address> address;   // fixed; absent = leased from the pool's range
  std::vector<Ipv4Prefix> prefixes;     // a LAN behind the client
  std::vector<Ipv4Prefix> routed;       // addresses of the Internet behind it, not translated
  std::optional<Ipv4Address> external_address;  // its alone, one to one with `address`
  std::vector<ForwardConfig> forwards;
  std::vector<Protection> protections;  // never empty: the tunnel's when the file names none
  std::optional<uint8_t> lanes;         // that it may have; absent: the tunnel's lanes_max
  LimitsConfig limits;                  // already merged with the pool's
};

struct Config {
  EalConfig eal;
  std::vector<PortConfig> ports;
  size_t uplink = 0;       // index into `ports`
  size_t public_port = 0;  // index into `ports`; may be the uplink
  TunnelConfig tunnel;
  std::vector<PoolConfig> pools;
  NatConfig nat;
  std::vector<SubscriberConfig> subscribers;  // included files' after the file's own
  std::optional<Endpoint> metrics_listen;     // no metrics server when absent
  std::string control_socket = "/run/adit/gateway.sock";
  uint32_t control_threads = 1;         // the control thread, and those that do handshakes for it
  std::vector<uint32_t> control_cores;  // these run there; we choose when empty
  config::LogLevel log_level = config::LogLevel::kInfo;

  const PortConfig& uplink_port() const { return ports[uplink]; }
  const PortConfig& outside_port() const { return ports[public_port]; }
  bool is_one_port() const { return uplink == public_port; }
  // Must an inner address say by itself whose it is? The translator asks the tunnel as well.
  bool inner_addresses_are_unique() const { return joins_tunnels() || !nat.exempt.empty(); }
  bool joins_tunnels() const;  // is tunnel_to_tunnel on for any pool?
  unsigned workers() const {
    return std::max(static_cast<unsigned>(eal.worker_cores.size()), 1u);
  }
  // How many lanes a subscriber may have. One, whatever is configured, where something of it is one
  // worker's or one tunnel's: deterministic ranges, low ports, forwards, an address of its own.
  unsigned lanes_of(const SubscriberConfig& subscriber) const;
  // Ports of the largest block that any subscriber may have, a power of two.
  uint32_t largest_block_ports() const;
  // Of how many tunnels AES keys are kept expanded, in kExpandedKeysBytes each.
  uint32_t expanded_keys() const;
  Endpoint tunnel_endpoint() const {
    return {uplink_port().address.address, Be16::from_host(tunnel.udp_port)};
  }
};

// Reads `path`, the subscriber files that it includes and the key files that it names. Returns
// nothing when there is any mistake; `errors` then holds every one of them, in the files' order.
// `known_keys` receives what was looked for, such as "ports[].mtu": a test holds the reference
// file against it.
std::optional<Config> load(const std::string& path, std::vector<config::Error>& errors,
                           std::set<std::string>* known_keys = nullptr);

// What `--check` prints about a good configuration: one fact a line.
std::string describe_check(const Config& config);

// Who has which external ports, from the configuration alone (deterministic allocation). Not known:
// `text` says why.
struct PortsAnswer {
  bool is_known = false;
  std::string text;
};
PortsAnswer ports_of(const Config& config, const std::string& subscriber);
PortsAnswer who_has(const Config& config, const std::string& external_endpoint);

inline constexpr uint32_t kExpandedKeysBytes = 2048;  // AES-256-GCM, both directions

// Resolves `hugepages: auto`: true when the machine has a free hugepage right now.
bool use_hugepages(const EalConfig& eal);

}  // namespace adit::gateway
