// swarm: clients and servers around a gateway, on virtual ports; see swarm.h. It sends to the ports
// that it is given and to nothing else, never to a device of the machine, and a kernel's interface
// only inside a network namespace of its own.
//
//   swarm --write-subscribers FILE --clients 63       who they are, for the gateway's configuration
//   swarm --clients-port net_memif0,... --servers-port net_memif1,... --gateway-key KEY
//         --rate 1.5 --seconds 10                     one trial; the exit status is 1 if a byte was
//                                                     wrong
//   swarm ... --write-pcap DIRECTORY                  a packet of each flow, for other generators
//   swarm ... --commands                              a trial for each line of standard input, as
//                                                     trial.h has them; one line of JSON answers
//                                                     it.
//                                                     {"gateway": "ends"} before it does, and
//                                                     {"gateway": "begins"} for those who are there
//                                                     to come back to another
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>

#include "bench/report.h"
#include "bench/swarm/pcap.h"
#include "bench/swarm/swarm.h"
#include "gateway/eal.h"
#include "lib/tunnel/crypto.h"

namespace adit::bench {
namespace {

struct Options {
  SwarmOptions swarm;
  std::string clients_port;
  std::string servers_port;
  std::string gateway_key;
  std::string write_subscribers;
  std::string write_pcap;
  std::string json_file;
  uint32_t core = 0;
  uint32_t memory_mb = 256;
  uint16_t descriptors = 1024;
  bool hugepages = false;
  double up_within_s = 30;
  bool commands = false;
  nlohmann::json trial = nlohmann::json::object();
};

// A driver of these hands packets to nobody but the process, or the interface, at its other end.
constexpr const char* kMemoryDrivers[] = {"net_memif", "net_virtio_user", "net_vhost", "net_ring",
                                          "net_null"};
constexpr const char* kKernelDrivers[] = {"net_af_packet", "net_af_xdp", "net_tap"};

// A machine's or a container's network namespace has routes; one made for this has none.
bool leads_nowhere() {
  std::ifstream routes("/proc/self/net/route");
  std::string line;
  unsigned lines = 0;
  while (std::getline(routes, line)) ++lines;
  return lines == 1;  // the heading
}

void check_device(const std::string& device) {
  const auto is_driver = [&](const char* name) { return device.starts_with(name); };
  if (std::ranges::any_of(kMemoryDrivers, is_driver)) return;
  if (!std::ranges::any_of(kKernelDrivers, is_driver)) {
    throw std::runtime_error(device + ": swarm sends to virtual ports only");
  }
  if (!leads_nowhere()) {
    throw std::runtime_error(device +
                             ": only inside a network namespace of its own (ip netns exec)");
  }
}

std::vector<std::string> eal_arguments(const Options& options) {
  std::vector<std::string> arguments = {"swarm",
                                        "--lcores",
                                        fmt::format("0@{}", options.core),
                                        "--main-lcore",
                                        "0",
                                        "-m",
                                        std::to_string(options.memory_mb),
                                        "--single-file-segments",
                                        "--no-telemetry",
                                        "--no-pci",
                                        "--log-level",
                                        "*:warning",
                                        "--vdev",
                                        options.clients_port};
  if (!options.servers_port.empty()) {
    arguments.insert(arguments.end(), {"--vdev", options.servers_port});
  }
  if (options.hugepages) {
    arguments.push_back("--in-memory");
  } else {
    arguments.insert(arguments.end(), {"--no-huge", "--no-shconf"});
  }
  return arguments;
}

// Their public keys and names, as the gateway's `include` takes them.
void write_subscribers(const Options& options) {
  std::ofstream file(options.write_subscribers);
  file << "subscribers:\n";
  for (uint32_t i = 0; i < options.swarm.clients; ++i) {
    const auto key = tunnel::public_key_of(client_key(options.swarm.seed, i));
    file << fmt::format("  - {{name: swarm{}, public_key: \"{}\"}}\n", i,
                        tunnel::to_base64(key.bytes));
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + options.write_subscribers);
}

void say(const std::string& line) {
  fmt::print(stderr, "swarm: {}\n", line);
  std::fflush(stderr);
}

nlohmann::json obey(Swarm& swarm, const nlohmann::json& words, double up_within_s) {
  if (!words.contains("gateway")) return swarm.run(TrialOptions::from_json(words)).to_json();
  if (words["gateway"] == "ends") {
    swarm.lose_gateway();
  } else {
    swarm.bring_up(up_within_s);
  }
  return nlohmann::json::object();
}

// Commands as standard input has them, until its end.
void take_commands(Swarm& swarm, double up_within_s) {
  fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
  std::string text;
  while (true) {
    swarm.rest();
    char bytes[4096];
    const ssize_t got = read(0, bytes, sizeof bytes);
    if (got == 0) return;
    if (got < 0) continue;
    text.append(bytes, static_cast<size_t>(got));
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      nlohmann::json answer;
      try {
        answer = obey(swarm, nlohmann::json::parse(text.substr(0, end)), up_within_s);
      } catch (const std::exception& error) {
        answer = {{"error", error.what()}};
      }
      fmt::print("{}\n", answer.dump());
      std::fflush(stdout);
      text.erase(0, end + 1);
    }
  }
}

// A packet of each flow and direction, for another generator to send again and again. What is
// sealed cannot be: the gateway takes each packet once.
void write_pcap(Swarm& swarm, const Options& options) {
  if (options.swarm.protections != std::vector{tunnel::Protection::plain}) {
    throw std::runtime_error("--write-pcap: only with plain protection");
  }
  swarm.set_sizes(options.trial["inner_bytes"].get<std::vector<uint16_t>>());
  for (const Direction direction : {kOutbound, kInbound}) {
    PcapFile file(fmt::format("{}/{}.pcap", options.write_pcap, direction_name(direction)));
    for (uint32_t flow = 0; flow < swarm.flows(); ++flow) {
      uint8_t frame[2048];
      file.add(frame, swarm.write(direction, flow, 0, frame));
    }
    file.close();
  }
}

int run_one(Swarm& swarm, const Options& options) {
  const TrialResult result = swarm.run(TrialOptions::from_json(options.trial));
  nlohmann::json summary = result.to_json();
  summary["clients"] = options.swarm.clients;
  summary["flows"] = swarm.flows();
  summary["clients_lost"] = swarm.deaths();
  fmt::print("{}\n", summary.dump(1));
  if (!options.json_file.empty()) write_json(options.json_file, summary);
  return swarm.wrong_ever() == 0 ? 0 : 1;
}

struct FreePool {
  void operator()(rte_mempool* pool) const { rte_mempool_free(pool); }
};

int run(Options& options) {
  if (!options.write_subscribers.empty()) {
    write_subscribers(options);
    return 0;
  }
  if (options.clients_port.empty()) throw std::runtime_error("--clients-port is missing");
  check_device(options.clients_port);
  if (!options.servers_port.empty()) check_device(options.servers_port);
  if (!options.swarm.yardstick) {
    const auto key = tunnel::from_base64(options.gateway_key);
    if (!key) throw std::runtime_error("--gateway-key: 44 characters of base64");
    options.swarm.gateway_key.bytes = *key;
  }
  if (options.swarm.holding_back >= options.swarm.clients) {
    throw std::runtime_error("--holding-back: somebody has to be there");
  }
  tunnel::choose_fast_crypto();

  const gateway::Eal eal(eal_arguments(options));
  const std::unique_ptr<rte_mempool, FreePool> pool(rte_pktmbuf_pool_create(
      "swarm", 4 * 2u * options.descriptors + 4096, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, -1));
  if (!pool) throw std::runtime_error("no memory for packet buffers: raise --memory");
  gateway::PortConfig config;
  config.rx_descriptors = config.tx_descriptors = options.descriptors;
  config.name = "clients";
  config.device = options.clients_port;
  const gateway::Port clients(config, pool.get());
  std::optional<gateway::Port> servers;
  if (!options.servers_port.empty()) {
    config.name = "servers";
    config.device = options.servers_port;
    servers.emplace(config, pool.get());
  }
  Swarm swarm(options.swarm, clients, servers ? *servers : clients, pool.get(), say);
  swarm.bring_up(options.up_within_s);
  if (!options.write_pcap.empty()) {
    write_pcap(swarm, options);
    return 0;
  }
  if (!options.commands) return run_one(swarm, options);
  fmt::print("ready\n");
  std::fflush(stdout);
  take_commands(swarm, options.up_within_s);
  return 0;
}

}  // namespace
}  // namespace adit::bench

int main(int argc, char** argv) {
  using namespace adit;
  bench::Options options;
  bench::SwarmOptions& swarm = options.swarm;
  CLI::App app{
      "Clients and servers around a gateway: real tunnels, a given rate, every byte checked"};
  app.add_option("--clients-port", options.clients_port, "EAL device towards the gateway's uplink");
  app.add_option("--servers-port", options.servers_port,
                 "The same for its public port; default: the clients' port");
  app.add_option("--gateway-key", options.gateway_key, "The gateway's public key, base64");
  app.add_option("--write-subscribers", options.write_subscribers,
                 "Write the clients as the gateway's configuration includes them, and stop");
  app.add_option("--clients", swarm.clients)
      ->check(CLI::Range(1u, 1u << 20))
      ->capture_default_str();
  app.add_option("--flows-per-client", swarm.flows_per_client)
      ->check(CLI::Range(1u, 2048u))
      ->capture_default_str();
  const std::map<std::string, tunnel::Protection> protections = {
      {"plain", tunnel::Protection::plain},
      {"aes-256-gcm", tunnel::Protection::aes_256_gcm},
      {"chacha20-poly1305", tunnel::Protection::chacha20_poly1305}};
  app.add_option("--holding-back", swarm.holding_back,
                 "So many of the clients come only in a trial that asks for a storm");
  app.add_option("--connecting", swarm.connecting_max, "Clients that connect at a time")
      ->capture_default_str();
  app.add_option("--protection", swarm.protections, "Of the clients, in turn")
      ->delimiter(',')
      ->transform(CLI::Transformer(protections));
  app.add_option("--seed", swarm.seed, "Of keys and of the order of flows")->capture_default_str();
  app.add_option("--spoil", swarm.spoil,
                 "Turn one bit of every so many packets received: each must be found wrong");
  app.add_flag("--yardstick", swarm.yardstick,
               "No gateway in between, but something that hands frames on as they are");
  std::string tunnel = "30.1.1.10:8000";
  std::string public_address = "30.2.1.10";
  std::string uplink_router = "30.1.1.1";
  std::string public_router = "30.2.1.1";
  app.add_option("--tunnel", tunnel, "The gateway's tunnel endpoint")->capture_default_str();
  app.add_option("--public", public_address, "Its public port's address")->capture_default_str();
  app.add_option("--uplink-router", uplink_router, "Our address towards its uplink")
      ->capture_default_str();
  app.add_option("--public-router", public_router, "The same towards its public port")
      ->capture_default_str();
  std::string direction = "both";
  double rate_mpps = 1;
  double seconds = 1;
  std::vector<uint16_t> inner_bytes = {64};
  app.add_option("--direction", direction, "outbound, inbound or both")->capture_default_str();
  app.add_option("--rate", rate_mpps, "Million packets a second, of all directions; 0: all we can")
      ->capture_default_str();
  app.add_option("--seconds", seconds)->capture_default_str();
  app.add_option("--inner-bytes", inner_bytes, "Of the flows' packets, in turn")
      ->delimiter(',')
      ->capture_default_str();
  double roams_per_s = 0;
  double leaves_per_s = 0;
  app.add_option("--roam", roams_per_s, "Clients a second that go on at another address and port");
  app.add_option("--churn", leaves_per_s,
                 "Clients a second that are gone without a word, and come back within a second");
  app.add_option("--write-pcap", options.write_pcap,
                 "Write a packet of each flow to outbound.pcap and inbound.pcap there, and stop");
  app.add_flag("--commands", options.commands, "Trials by standard input");
  app.add_option("--json", options.json_file, "The summary, to a file");
  app.add_option("--core", options.core, "Which we run on")->capture_default_str();
  app.add_option("--memory", options.memory_mb, "MiB for packet buffers")->capture_default_str();
  app.add_option("--descriptors", options.descriptors, "Of a queue")->capture_default_str();
  app.add_flag("--hugepages", options.hugepages);
  app.add_option("--up-within", options.up_within_s, "Seconds for links, tunnels and mappings")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  options.trial = {{"direction", direction},     {"rate_mpps", rate_mpps}, {"seconds", seconds},
                   {"inner_bytes", inner_bytes}, {"roam", roams_per_s},    {"churn", leaves_per_s}};
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const auto endpoint = Endpoint::parse(tunnel);
    const auto at_public = Ipv4Address::parse(public_address);
    const auto at_uplink = Ipv4Address::parse(uplink_router);
    const auto router = Ipv4Address::parse(public_router);
    if (!endpoint || !at_public || !at_uplink || !router) {
      throw std::runtime_error("an address is malformed");
    }
    swarm.tunnel = *endpoint;
    swarm.public_address = *at_public;
    swarm.uplink_router = *at_uplink;
    swarm.public_router = *router;
    return bench::run(options);
  } catch (const std::exception& error) {
    bench::say(error.what());
    return 1;
  }
}
