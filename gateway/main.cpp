// adit-gateway: wiring only. Reads the configuration, starts DPDK, makes each part and hands it
// what it works on, runs the control thread until SIGTERM or SIGINT, and takes all down again.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include "gateway/config.h"
#include "gateway/control.h"
#include "gateway/eal.h"
#include "gateway/metrics.h"
#include "gateway/numa.h"
#include "gateway/port.h"
#include "gateway/privileges.h"
#include "gateway/random.h"
#include "gateway/renewal.h"
#include "gateway/settings.h"
#include "gateway/status.h"
#include "gateway/worker_parts.h"

namespace adit::gateway {
namespace {

inline constexpr unsigned kPoolCache = 256;

void start_log(config::LogLevel level) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("adit"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  switch (level) {
    case config::LogLevel::kDebug:
      return spdlog::set_level(spdlog::level::debug);
    case config::LogLevel::kInfo:
      return spdlog::set_level(spdlog::level::info);
    case config::LogLevel::kWarning:
      return spdlog::set_level(spdlog::level::warn);
    case config::LogLevel::kError:
      return spdlog::set_level(spdlog::level::err);
  }
}

// An eventfd that becomes readable at SIGTERM or SIGINT; -1 while there is nothing to take down
// yet. A signal handler can know it by no other way than a global.
std::atomic<int> stop_event{-1};

// While the gateway starts, a device may wait for its peer without end: then a signal just ends it.
void on_stop_signal(int) {
  const int event = stop_event.load();
  if (event < 0) _exit(0);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event, &one, sizeof one);
}

void take_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

// net_tap raises SIGIO for every packet; a thread that sleeps must not be woken by it. The workers
// keep it: the driver counts on somebody to take it.
void block_sigio() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

struct FreePool {
  void operator()(rte_mempool* pool) const { rte_mempool_free(pool); }
};
using PacketPool = std::unique_ptr<rte_mempool, FreePool>;

// Buffers for all descriptors to be full at once, and what the pipeline and the rings hold besides.
PacketPool make_packet_pool(const Config& config) {
  const unsigned workers = config.workers();
  unsigned count = 2 * kChannelItems +
                   workers * (kHandshakeItems + kHeldFragments + 8 * kOuterReassemblies) +
                   (workers - 1) * (HandOff::kRingPackets + kPoolCache) +
                   (workers > 1 ? workers * kHeldForMoveMax : 0);
  uint16_t mtu = 1500;
  for (const PortConfig& port : config.ports) {
    count += workers * (port.rx_descriptors + port.tx_descriptors);
    mtu = std::max(mtu, port.mtu);
  }
  // Devices receive into whole kilobytes and would split a frame that needs a part of one.
  const auto room = static_cast<uint16_t>(RTE_PKTMBUF_HEADROOM + (mtu + 128 + 1023) / 1024 * 1024);
  PacketPool pool(rte_pktmbuf_pool_create("packets", count, kPoolCache, 0,
                                          std::max<uint16_t>(room, RTE_MBUF_DEFAULT_BUF_SIZE),
                                          static_cast<int>(rte_socket_id())));
  if (!pool) {
    throw std::runtime_error(fmt::format(
        "no memory for {} packet buffers: raise eal.memory", count));
  }
  return pool;
}

struct FreeTable {
  void operator()(std::byte* memory) const { rte_free(memory); }
};
using TableMemory = std::unique_ptr<std::byte, FreeTable>;

TableMemory make_table_memory(size_t bytes) {
  TableMemory memory(static_cast<std::byte*>(rte_zmalloc("mappings", bytes, 64)));
  if (!memory) {
    throw std::runtime_error(fmt::format(
        "no memory for the mapping table, {} MiB: raise eal.memory", bytes >> 20));
  }
  return memory;
}

// The worker's thread. It ends before anything that it works on, whatever happens here.
class WorkerThread {
 public:
  WorkerThread(Worker& worker, unsigned core) : worker_(worker), core_(core) {
    if (rte_eal_remote_launch(&run, &worker, core) != 0) {
      throw std::runtime_error("cannot start the worker");
    }
  }
  ~WorkerThread() {
    worker_.stop();
    rte_eal_wait_lcore(core_);
  }
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

 private:
  static int run(void* worker) {
    static_cast<Worker*>(worker)->run();
    return 0;
  }
  Worker& worker_;
  unsigned core_;
};

// The control thread: sleeps a millisecond at a time, or until a handshake thread has something for
// it, until a stop signal comes.
void run_control(Control& control, StatusServer& status, int stop) {
  pollfd waiting[] = {{stop, POLLIN, 0}, {control.event(), POLLIN, 0}};
  bool more = false;
  while (poll(waiting, std::size(waiting), more ? 0 : 1) <= 0 || waiting[0].revents == 0) {
    const uint64_t now_ns = boottime_ns();
    more = control.tick(now_ns);
    more |= status.tick(now_ns);
  }
}

// Of the control thread's core, then of each worker's.
std::vector<int> core_nodes() {
  std::vector<int> nodes{static_cast<int>(rte_socket_id())};
  unsigned core = 0;
  RTE_LCORE_FOREACH_WORKER(core) {
    nodes.push_back(static_cast<int>(rte_lcore_to_socket_id(core)));
  }
  return nodes;
}

void run(const Config& config) {
  const uint64_t started_ns = boottime_ns();
  // Not an error: which of them a device needs, only the device knows.
  for (const std::string& name : missing_capabilities()) {
    spdlog::warn("running without {}: a device may not start", name);
  }
  take_stop_signals();
  const std::vector<uint32_t> cores_for_handshakes = handshake_cores(config);
  const Eal eal(eal_arguments(config));
  block_sigio();

  const PacketPool pool = make_packet_pool(config);
  const unsigned workers = config.workers();
  const std::optional<SteeringPlan> steering =
      plan_steering(workers, config.largest_block_ports(),
                    Port::redirection_entries(config.outside_port()), config.nat.low_ports);
  if (!steering) {
    throw std::runtime_error(fmt::format("port {}: its device cannot tell {} workers apart",
                                         config.outside_port().name, workers));
  }
  std::vector<std::unique_ptr<Port>> ports;
  std::vector<PortView> views;
  const std::vector<int> nodes = core_nodes();
  bool adaptive = true;  // one port that wants to be polled is enough for all to be
  for (size_t i = 0; i < config.ports.size(); ++i) {
    const bool is_uplink = i == config.uplink;
    const bool is_public = i == config.public_port;
    const auto wanted = is_uplink && is_public ? Port::Steering::by_rules
                        : is_uplink            ? Port::Steering::by_flow
                        : is_public            ? Port::Steering::by_port
                                               : Port::Steering::none;
    ports.push_back(std::make_unique<Port>(config.ports[i], pool.get(), wanted, *steering,
                                           config.tunnel_endpoint()));
    views.push_back(ports.back()->view());
    adaptive &= config.ports[i].is_adaptive();
    spdlog::info("{}", ports.back()->describe());
    const std::string far =
        far_cores_text(config.ports[i].name, rte_eth_dev_socket_id(ports.back()->id()), nodes);
    if (!far.empty()) spdlog::warn("{}", far);
  }

  std::vector<uint16_t> profiles;
  nat::Settings settings = nat_settings(config, profiles);
  settings.sharers = static_cast<uint8_t>(workers);
  settings.shares = steering->shares;
  const size_t table_bytes = nat::Nat::memory_bytes(settings);
  const TableMemory table = make_table_memory(table_bytes);
  // Slot 0 is nobody's.
  TunnelTable tunnels(std::bit_ceil(config.tunnel.max_tunnels + 1), workers);
  static_assert(Crypto::memory_bytes(1) == kExpandedKeysBytes);
  PipelineSettings path = pipeline_settings(config, views, random64());
  path.workers = workers;
  path.controls_wait = !adaptive;  // one that sleeps is woken by each
  path.shares = steering->shares;
  std::optional<HandOff> hand_off;
  if (workers > 1) hand_off.emplace("handed", workers);
  const WorkerParts::Shared shared{config, path, settings, {table.get(), table_bytes}, tunnels,
                                   pool.get(), hand_off ? &*hand_off : nullptr};
  std::vector<std::unique_ptr<WorkerParts>> parts;
  std::vector<Control::Link> links;
  StatusSources sources{&config, nullptr, &tunnels, {}, {}, started_ns};
  for (unsigned worker = 0; worker < workers; ++worker) {
    std::vector<Worker::Queue> queues;
    for (const auto& port : ports) {
      queues.push_back({port->id(), static_cast<uint16_t>(worker % port->queues()),
                        worker < port->queues(), port->socket(worker),
                        port->sender(worker)});
    }
    parts.push_back(std::make_unique<WorkerParts>(shared, worker, queues, adaptive));
    links.push_back({&parts.back()->from_control(), &parts.back()->replies(),
                     &parts.back()->to_control(), &parts.back()->handshakes(),
                     &parts.back()->counters(), &parts.back()->samples()});
    sources.workers.push_back({&parts.back()->counters(), &parts.back()->nat()});
  }
  const bool spreads = ports[config.uplink]->queues() == workers;
  const bool all_transmit = std::ranges::all_of(
      ports, [&](const auto& port) { return port->queues() == workers; });
  if (!all_transmit && config.eal.balance) {
    spdlog::info("tunnels are not moved between workers: a port has fewer queues than these");
  }
  Control control(config, path.ports, profiles, tunnels, pool.get(), links, *steering, spreads,
                  all_transmit, cores_for_handshakes);

  sources.control = &control;
  for (const auto& port : ports) sources.ports.push_back(port.get());
  StatusServer status(config.control_socket, sources, control);
  std::optional<Metrics> metrics;
  if (config.metrics_listen) {
    metrics.emplace(*config.metrics_listen, sources.workers, control);
  }

  {
    std::vector<std::unique_ptr<WorkerThread>> threads;
    unsigned core = rte_get_next_lcore(-1, 1, 0);
    for (const auto& part : parts) {
      threads.push_back(std::make_unique<WorkerThread>(part->worker(), core));
      core = rte_get_next_lcore(core, 1, 0);
    }
    control.start(boottime_ns());
    spdlog::info("tunnels at {}, {} subscribers, {}, {}", path.tunnel_endpoint.to_string(),
                 config.subscribers.size(),
                 workers == 1 ? "one worker" : fmt::format("{} workers", workers),
                 adaptive ? "adaptive" : "polling");
    const std::string warning = renewal_warning(config);
    if (!warning.empty()) spdlog::warn("{}", warning);
    stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    run_control(control, status, stop_event);
    spdlog::info("stopping");
    for (const auto& part : parts) part->worker().stop();
  }
  // What one worker handed over while the other had ended already.
  for (bool any = true; any;) {
    any = false;
    for (const auto& part : parts) any |= part->worker().take_the_rest();
  }
  std::fputs(counters_text(total(sources.workers)).c_str(), stdout);
  std::fflush(stdout);
}

int print(const PortsAnswer& answer) {
  std::fprintf(answer.is_known ? stdout : stderr, "%s\n", answer.text.c_str());
  return answer.is_known ? 0 : 1;
}

}  // namespace
}  // namespace adit::gateway

int main(int argc, char** argv) {
  using namespace adit;
  CLI::App app{"Adit gateway: ends tunnels, translates their sources, and back"};
  std::string path;
  bool check_only = false;
  app.add_option("--config", path, "Configuration file (YAML)")->required();
  app.add_flag("--check", check_only, "Check the configuration, say what it means, and stop");
  std::string ports_of;
  std::string who_has;
  app.add_option("--ports-of", ports_of,
                 "Say which external ports a subscriber has (deterministic allocation), and stop");
  app.add_option("--who-has", who_has,
                 "Say which subscriber has an external ADDRESS:PORT (likewise), and stop");
  app.set_version_flag("--version", ADIT_VERSION);
  CLI11_PARSE(app, argc, argv);

  std::vector<config::Error> errors;
  const auto loaded = gateway::load(path, errors);
  if (!loaded) {
    for (const config::Error& error : errors) {
      std::fprintf(stderr, "%s\n", error.to_string().c_str());
    }
    return 2;
  }
  malloc_trim(0);  // the text and its tree, which are not needed any more
  if (check_only) {
    std::fputs(gateway::describe_check(*loaded).c_str(), stdout);
    return 0;
  }
  if (!ports_of.empty()) return gateway::print(gateway::ports_of(*loaded, ports_of));
  if (!who_has.empty()) return gateway::print(gateway::who_has(*loaded, who_has));
  std::signal(SIGPIPE, SIG_IGN);  // who reads the log may go away
  gateway::start_log(loaded->log_level);
  try {
    gateway::run(*loaded);
  } catch (const std::exception& error) {
    spdlog::error("{}", error.what());
    return 1;
  }
  return 0;
}
