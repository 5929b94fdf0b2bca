#include "client-lite/options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "lib/config/formats.h"
#include "lib/config/key_file.h"

namespace adit::client {
namespace {

// Text as a value, or an error that names the flag. An empty text is an absent flag.
template <typename T, typename Out>
void read_flag(const std::string& flag, const std::string& text, const config::Format<T>& format,
               Out& out, std::vector<config::Error>& errors) {
  if (text.empty()) return;
  if (const auto value = format.parse(text)) {
    out = *value;
  } else {
    errors.push_back({"", 1, 1, flag, "expected " + format.expected + ", got \"" + text + "\""});
  }
}

void read_key_flag(const std::string& flag, const std::string& path,
                   std::optional<KeyBytes>& out, std::vector<config::Error>& errors) {
  if (path.empty()) return;
  const config::KeyFile found = config::read_key_file(path);
  if (!found.key) errors.push_back({"", 1, 1, flag, found.refusal});
  out = found.key;
}

void add_run_options(CLI::App& app, Options& options) {
  app.add_option("--config", options.config_file, "Configuration file (YAML)");
  app.add_flag("--check", options.check, "Only check the configuration");
  app.add_option("--gateway", options.gateway, "Gateway, host[:port]");
  app.add_option("--peer-public-key", options.peer_public_key, "The gateway's public key, base64");
  app.add_option("--private-key", options.private_key_file, "File with our private key");
  app.add_option("--preshared-key", options.preshared_key_file, "File with the preshared key");
  app.add_option("--address", options.address, "Fixed inner address, a.b.c.d/len (else DHCP)");
  app.add_option("--route", options.routes, "Prefix that traverses, or \"default\"; repeatable");
  app.add_option("--protection", options.protections,
                 "aes-256-gcm, chacha20-poly1305 or plain; repeatable");
  app.add_flag("--stock-wireguard", options.stock_wireguard, "The gateway is a WireGuard server");
  app.add_option("--listen-port", options.listen_port, "UDP source port (0: the kernel's choice)");
  app.add_option("--lanes", options.lanes, "Source ports, and threads, to ask the gateway for")
      ->check(CLI::Range(1u, tunnel::kLanesMax));
  app.add_option("--mtu", options.mtu_bytes, "The device's MTU in bytes")
      ->check(CLI::Range(68, 9000));
  app.add_option("--log-level", options.log_level, "debug, info, warning or error");
  app.add_option("--device", options.device, "TUN device")->capture_default_str();
  app.add_option("--socket", options.control_socket,
                 "Control socket (/run/adit/<device>.sock)");
}

}  // namespace

std::optional<Options> parse_options(int argc, char** argv, int& exit_status) {
  Options options;
  CLI::App app("Client of an Adit tunnel gateway. Runs in the foreground until SIGTERM.",
               "adit-client");
  app.set_version_flag("--version", ADIT_VERSION);
  app.require_subcommand(0, 1);
  add_run_options(app, options);
  app.add_subcommand("run", "Bring the tunnel up (the default)")->fallthrough();
  app.add_subcommand("up", "The same as run")->fallthrough();
  std::vector<std::pair<CLI::App*, Command>> small;
  const auto add = [&](const char* name, Command command, const char* description) {
    small.emplace_back(app.add_subcommand(name, description), command);
    return small.back().first;
  };
  add("status", Command::status, "Show the running client")
      ->fallthrough()
      ->add_flag("--json", options.json, "As one JSON object");
  add("down", Command::down, "End the running client; returns when all is undone")->fallthrough();
  add("doctor", Command::doctor, "Look for what keeps the tunnel from coming up")->fallthrough();
  add("genkey", Command::genkey, "Print a new private key");
  add("genpsk", Command::genpsk, "Print a new preshared key");
  add("pubkey", Command::pubkey, "Private key in, public key out");
  CLI::App* import = add("import", Command::import, "Make a configuration of a wg-quick file");
  import->add_option("FILE", options.import_file, "The file; its name becomes the device's")
      ->required();
  import->add_option("--to", options.import_directory, "Where NAME.yaml and the key files go")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    for (const auto& [subcommand, command] : small) {
      if (app.got_subcommand(subcommand)) options.command = command;
    }
    const bool wants_config =
        options.command == Command::run || options.command == Command::doctor;
    if (wants_config && options.config_file.empty() &&
        options.gateway.empty()) {
      throw CLI::RequiredError("--config or --gateway");
    }
    if (!options.config_file.empty() && !options.gateway.empty()) {
      throw CLI::ExcludesError("--config", "--gateway");
    }
  } catch (const CLI::ParseError& error) {
    // 2 for any mistake, as for one in the configuration; --help and --version are none.
    exit_status = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  return options;
}

std::optional<Config> config_of(const Options& options, std::vector<config::Error>& errors) {
  const auto fail = [&errors](const std::string& flag, const std::string& message) {
    errors.push_back({"", 1, 1, flag, message});
  };
  Config config;
  GatewayConfig gateway;
  read_flag("--gateway", options.gateway,
            config::Format<GatewayConfig>{"host or host:port", parse_gateway}, gateway, errors);
  read_flag("--peer-public-key", options.peer_public_key, config::key(), gateway.public_key,
            errors);
  if (options.peer_public_key.empty()) fail("--peer-public-key", "is required");
  gateway.stock_wireguard = options.stock_wireguard;
  config.gateways = {gateway};

  std::optional<KeyBytes> private_key;
  if (options.private_key_file.empty()) fail("--private-key", "is required");
  read_key_flag("--private-key", options.private_key_file, private_key, errors);
  if (private_key) config.private_key = *private_key;
  read_key_flag("--preshared-key", options.preshared_key_file, config.preshared_key, errors);

  read_flag("--address", options.address, config::interface(), config.address, errors);
  for (const std::string& text : options.routes) {
    Ipv4Prefix route;
    read_flag("--route", text, config::route(), route, errors);
    config.routes.push_back(route);
  }
  if (!options.protections.empty()) config.protections.clear();
  for (const std::string& text : options.protections) {
    Protection protection{};
    read_flag("--protection", text, config::protection(), protection, errors);
    config.protections.push_back(protection);
  }
  if (options.stock_wireguard && options.address.empty()) {
    fail("--address", "is required with --stock-wireguard");
  }
  if (!is_device_name(options.device)) fail("--device", "is no device name");
  config.device = options.device;
  config.control_socket = default_control_socket(options.device);
  read_flag("--socket", options.control_socket, config::socket_path(), config.control_socket,
            errors);
  read_flag("--log-level", options.log_level, config::log_level(), config.log_level, errors);
  config.listen_port = options.listen_port;
  config.lanes = options.lanes;
  if (options.mtu_bytes != 0) config.mtu = options.mtu_bytes;
  if (!errors.empty()) return std::nullopt;
  return config;
}

}  // namespace adit::client
