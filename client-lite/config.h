// The client's configuration: one plain struct, filled and checked from YAML (or from the flags of
// `up`, which set the same fields) before anything starts and never written afterwards.
// conf/client.yaml shows every key with its default and unit.
//
// Owner: main, which passes parts of it by const reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/error.h"
#include "lib/config/key_file.h"
#include "lib/config/values.h"
#include "lib/net/address.h"
#include "lib/tunnel/wire.h"

namespace adit::client {

using config::KeyBytes;
using config::Protection;

inline constexpr size_t kDeviceNameBytesMax = 15;  // Linux: IFNAMSIZ - 1

// A gateway to try. The name is resolved at every attempt, since its addresses may change.
struct GatewayConfig {
  std::string host;  // an IPv4 address or a DNS name
  uint16_t port = 8000;
  KeyBytes public_key{};
  // A WireGuard server that is not ours: nothing is negotiated, no probe is sent and no address is
  // asked for.
  bool stock_wireguard = false;
};

enum class GatewayChoice : uint8_t { kInOrder, kNearest };

enum class Dns : uint8_t { kAuto, kNone };  // kAuto: tell resolvconf or systemd-resolved

struct Config {
  std::vector<GatewayConfig> gateways;  // never empty
  GatewayChoice gateway_choice = GatewayChoice::kInOrder;  // the order in which they are tried
  // The first of that order is gone back to when it has answered for so long; absent = never.
  std::optional<uint64_t> return_after_ns = 600'000'000'000;
  uint64_t return_check_ns = 60'000'000'000;  // how often it is asked meanwhile
  std::string private_key_file;
  KeyBytes private_key{};
  std::string preshared_key_file;  // empty: none
  std::optional<KeyBytes> preshared_key;
  std::string device = "adit0";          // the TUN device's name
  std::optional<Ipv4Interface> address;  // fixed; absent = asked for by DHCP in the tunnel
  std::optional<uint16_t> mtu;           // of the device; absent = what the gateway says
  std::vector<Ipv4Prefix> routes;        // destinations that traverse; 0.0.0.0/0 = default
  bool accept_routes = true;             // also those that the gateway sends (options 121, 3)
  bool kill_switch = false;              // `routes` lead into the tunnel or nowhere
  std::vector<Ipv4Prefix> lan;  // inner prefixes behind this device, routed to us by the gateway
  Dns dns = Dns::kAuto;
  // Accepted, the preferred one first. The choice is the gateway's, by its own order.
  std::vector<Protection> protections = {Protection::aes_256_gcm};
  std::optional<uint64_t> heartbeat_ns;  // absent = what the gateway says, or 25 s
  bool adaptive_heartbeat = false;       // instead: as long as the NATs on the way allow
  uint64_t heartbeat_min_ns = 10'000'000'000;  // of an adaptive one
  std::optional<uint64_t> heartbeat_max_ns;    // absent = as heartbeat_ns
  uint16_t listen_port = 0;              // UDP source port; 0 = the kernel chooses
  // Source ports, each with a thread, that the gateway is asked for; `listen_port` is the first's.
  unsigned lanes = 1;
  std::optional<uint32_t> fwmark;        // set on the tunnel's own packets
  // The other end is a client as well, whose handshake is waited for at `listen_port`; its endpoint
  // is where that comes from, whatever `gateways` says. For tests.
  bool answer = false;
  bool offloads = true;                  // large packets to and from the kernel, where it can
  std::string state_directory = "/var/lib/adit";
  std::string control_socket;  // default "/run/adit/<device>.sock", already filled in
  bool sandbox = true;         // gives up rights and filters system calls once it is set up
  config::LogLevel log_level = config::LogLevel::kInfo;
};

// Reads `path` and the key files that it names. Returns nothing when there is any mistake;
// `errors` then holds every one of them, in the file's order.
// `known_keys` receives what was looked for: a test holds the reference file against it.
std::optional<Config> load(const std::string& path, std::vector<config::Error>& errors,
                           std::set<std::string>* known_keys = nullptr,
                           config::KeyOwner key_owner = config::KeyOwner::us);

// The same checks for values that come from the command line: nullopt when malformed.
std::optional<GatewayConfig> parse_gateway(std::string_view host_port);  // the key left zero
std::optional<Ipv4Prefix> parse_route(std::string_view text);            // a prefix or "default"
bool is_device_name(std::string_view name);
std::string default_control_socket(const std::string& device);

}  // namespace adit::client
