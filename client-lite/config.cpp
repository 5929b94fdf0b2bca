#include "client-lite/config.h"

#include <algorithm>
#include <filesystem>

#include "lib/config/reader.h"

namespace adit::client {
namespace {

using config::Section;

constexpr uint64_t kSecond_ns = 1'000'000'000;

// RFC 1035 §2.3.4: a name has at most 253 characters as text.
constexpr size_t kHostNameBytesMax = 253;

// RFC 791 asks 68 bytes of every link; Linux takes TUN devices up to 65535.
constexpr uint16_t kMtuMin = 68;
constexpr uint16_t kMtuMax = 9000;

bool is_host(std::string_view host) {
  const bool is_plausible = std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  });
  if (host.empty() || host.size() > kHostNameBytesMax || !is_plausible) return false;
  // A last label of digits alone is no name (RFC 1123 §2.1): it is an address, or a slip in one.
  const std::string_view last = host.substr(host.rfind('.') + 1);  // npos + 1 is 0
  const bool is_numeric =
      std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; });
  return !is_numeric || Ipv4Address::parse(host).has_value();
}

// The key in the file that `key` names, from the configuration's own directory.
std::optional<KeyBytes> read_key_of(Section& section, std::string_view key, std::string& file,
                                    config::KeyOwner owner) {
  if (!section.read(key, file, config::text())) return std::nullopt;
  file = (std::filesystem::path(section.file()).parent_path() / file).string();
  config::KeyFile found = config::read_key_file(file, owner);
  if (!found.key) section.fail(key, found.refusal);
  return found.key;
}

void read_gateways(Section& root, std::vector<GatewayConfig>& gateways) {
  const config::Format<GatewayConfig> endpoint{
      "an IPv4 address or a DNS name, and a port (8000 when left out), such as 30.1.1.10:8000",
      parse_gateway};
  for (Section& section : root.children("gateways")) {
    GatewayConfig& gateway = gateways.emplace_back();
    section.require("endpoint", gateway, endpoint);
    section.require("public_key", gateway.public_key, config::key());
    section.read("stock_wireguard", gateway.stock_wireguard, config::boolean());
    section.reject_unknown_keys();
  }
  if (gateways.empty() && root.sound("gateways")) {
    root.fail("gateways", "needs at least one gateway");
  }
}

void read_gateway_choice(Section& root, Config& config) {
  root.read("gateway_choice", config.gateway_choice,
            config::one_of<GatewayChoice>({{"in_order", GatewayChoice::kInOrder},
                                           {"nearest", GatewayChoice::kNearest}}));
  root.read("return_after", config.return_after_ns,
            config::or_word("never", config::duration_ns(kSecond_ns, 86400 * kSecond_ns)));
  root.read("return_check", config.return_check_ns,
            config::duration_ns(kSecond_ns, 3600 * kSecond_ns));
}

void read_keys(Section& root, Config& config, config::KeyOwner owner) {
  if (root.must_exist("private_key_file")) {
    const auto key = read_key_of(root, "private_key_file", config.private_key_file, owner);
    if (key) config.private_key = *key;
  }
  config.preshared_key =
      read_key_of(root, "preshared_key_file", config.preshared_key_file, owner);
}

void read_device(Section& root, Config& config) {
  root.read("device", config.device,
            config::Format<std::string>{
                "a device name of 1 to 15 characters without space, '/', ':' or '%'",
                [](std::string_view text) -> std::optional<std::string> {
                  if (!is_device_name(text)) return std::nullopt;
                  return std::string(text);
                }});
  root.read("address", config.address, config::or_word("dhcp", config::interface()));
  root.read("mtu", config.mtu, config::integer(kMtuMin, kMtuMax));
  root.read_list("routes", config.routes, config::route());
  root.read("accept_routes", config.accept_routes, config::boolean());
  root.read("kill_switch", config.kill_switch, config::boolean());
  if (config.kill_switch && config.routes.empty() && root.sound("routes")) {
    root.fail("kill_switch", "holds what `routes` names, and that is nothing");
  }
  root.read_list("lan", config.lan, config::prefix());
  root.read("dns", config.dns, config::one_of<Dns>({{"auto", Dns::kAuto}, {"none", Dns::kNone}}));
}

void read_heartbeat(Section& root, Config& config) {
  const auto interval = config::duration_ns(kSecond_ns, 3600 * kSecond_ns);
  if (root.read("heartbeat", config.heartbeat_ns, config::or_word("adaptive", interval))) {
    config.adaptive_heartbeat = !config.heartbeat_ns;
  }
  root.read("heartbeat_min", config.heartbeat_min_ns, interval);
  root.read("heartbeat_max", config.heartbeat_max_ns, interval);
  if (root.good("heartbeat_max") && root.sound("heartbeat_min") &&
      *config.heartbeat_max_ns < config.heartbeat_min_ns) {
    root.fail("heartbeat_max", "expected no less than heartbeat_min, which is " +
                                   config::duration_text(config.heartbeat_min_ns));
  }
}

void read_tunnel(Section& root, Config& config) {
  root.read_set("protections", config.protections, config::protection());
  read_heartbeat(root, config);
  root.read("listen_port", config.listen_port, config::integer<uint16_t>(0, 65535));
  root.read("lanes", config.lanes, config::integer<unsigned>(1, tunnel::kLanesMax));
  root.read("answer", config.answer, config::boolean());
  root.read("fwmark", config.fwmark, config::integer<uint32_t>(1, 0xffffffff));
  root.read("offloads", config.offloads, config::boolean());
}

void read_service(Section& root, Config& config) {
  root.read("state_directory", config.state_directory, config::text());
  config.control_socket = default_control_socket(config.device);
  root.read("control_socket", config.control_socket, config::socket_path());
  root.read("sandbox", config.sandbox, config::boolean());
  Section log = root.child("log");
  log.read("level", config.log_level, config::log_level());
  log.reject_unknown_keys();
}

// A stock WireGuard server gives no addresses and seals with ChaCha20-Poly1305 only.
void check_stock_gateways(Section& root, const Config& config) {
  const bool any_stock =
      std::any_of(config.gateways.begin(), config.gateways.end(),
                  [](const GatewayConfig& gateway) { return gateway.stock_wireguard; });
  if (!any_stock) return;
  if (!config.address && root.sound("address")) {
    root.fail("address", "must be a fixed one: a stock WireGuard gateway gives none");
  }
  const bool takes_chacha =
      std::find(config.protections.begin(), config.protections.end(),
                Protection::chacha20_poly1305) != config.protections.end();
  if (!takes_chacha && root.sound("protections")) {
    root.fail("protections", "must hold chacha20-poly1305 for a stock WireGuard gateway");
  }
}

// Who answers is found at its port, and gives no addresses.
void check_answer(Section& root, const Config& config) {
  if (!config.answer || !root.sound("answer")) return;
  if (config.listen_port == 0 && root.sound("listen_port")) {
    root.fail("answer", "needs a listen_port at which to be found");
  }
  if (!config.address && root.sound("address")) {
    root.fail("answer", "needs a fixed address: the other end gives none");
  }
  if (config.gateways.size() > 1) root.fail("answer", "is for one other end, not for several");
  if (config.lanes > 1) root.fail("answer", "is for an end with one lane");
  if (std::ranges::any_of(config.gateways, &GatewayConfig::stock_wireguard)) {
    root.fail("answer", "is for another adit-client, not for stock_wireguard");
  }
}

// The tunnel's own packets cannot go into the tunnel. Of a gateway with a name nobody knows yet:
// the client looks again at every attempt.
void check_ways_to_gateways(Section& root, const Config& config) {
  for (const GatewayConfig& gateway : config.gateways) {
    const auto own = Ipv4Address::parse(gateway.host);
    if (!own) continue;
    if (config.address && root.good("address") && config.address->prefix().contains(*own)) {
      root.fail("address", "the gateway's own address " + gateway.host + " lies in this network");
    }
    for (size_t i = 0; root.good("routes") && i < config.routes.size(); ++i) {
      if (config.routes[i] == Ipv4Prefix{*own, 32}) {
        root.fail_item("routes", i, "is the gateway's own address, which cannot be in the tunnel");
      }
    }
  }
}

}  // namespace

std::optional<Config> load(const std::string& path, std::vector<config::Error>& errors,
                           std::set<std::string>* known_keys, config::KeyOwner key_owner) {
  config::Report report;
  report.known_keys = known_keys;
  report.files.push_back(path);
  Config config;
  if (const auto document = config::read_document(path, report.errors)) {
    Section root(*document, report);
    read_gateways(root, config.gateways);
    read_gateway_choice(root, config);
    read_keys(root, config, key_owner);
    read_device(root, config);
    read_tunnel(root, config);
    read_service(root, config);
    check_stock_gateways(root, config);
    check_answer(root, config);
    check_ways_to_gateways(root, config);
    root.reject_unknown_keys();
  }
  report.sort();
  errors.insert(errors.end(), report.errors.begin(), report.errors.end());
  if (!report.errors.empty()) return std::nullopt;
  return config;
}

std::optional<GatewayConfig> parse_gateway(std::string_view host_port) {
  GatewayConfig gateway;
  const size_t colon = host_port.find(':');
  const std::string_view host = host_port.substr(0, colon);
  if (!is_host(host)) return std::nullopt;
  gateway.host = host;
  if (colon == std::string_view::npos) return gateway;
  const auto port = config::parse_unsigned(host_port.substr(colon + 1));
  if (!port || *port < 1 || *port > 65535) return std::nullopt;
  gateway.port = static_cast<uint16_t>(*port);
  return gateway;
}

std::optional<Ipv4Prefix> parse_route(std::string_view text) {
  return config::route().parse(text);
}

bool is_device_name(std::string_view name) {
  // What Linux's dev_valid_name() refuses, and '%', which it would take for a pattern.
  if (name.empty() || name.size() > kDeviceNameBytesMax || name == "." || name == "..") {
    return false;
  }
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return c > ' ' && c < 127 && c != '/' && c != ':' && c != '%'; });
}

std::string default_control_socket(const std::string& device) {
  return "/run/adit/" + device + ".sock";
}

}  // namespace adit::client
