#include "gateway/eal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <sched.h>

#include <algorithm>
#include <stdexcept>

namespace adit::gateway {
namespace {

// "virtio_user0,path=..." is how people say it; the driver's name is net_virtio_user.
std::string eal_device(const PortConfig& port) {
  return port.device.starts_with("virtio_user") ? "net_" + port.device : port.device;
}

std::vector<uint32_t> cores_allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<uint32_t> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (uint32_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

struct Cores {
  uint32_t main = 0;
  std::vector<uint32_t> workers;
};

// Where the file names none: the control thread on the first core that this process may use, a
// worker on the last.
Cores choose_cores(const EalConfig& eal) {
  const std::vector<uint32_t> allowed = cores_allowed();
  Cores cores;
  cores.workers = eal.worker_cores;
  if (cores.workers.empty()) {
    const bool is_taken = allowed.back() == eal.main_core && allowed.size() > 1;
    cores.workers = {is_taken ? allowed.front() : allowed.back()};
  }
  if (eal.main_core) {
    cores.main = *eal.main_core;
  } else {
    const auto is_worker = [&](uint32_t core) {
      return std::find(cores.workers.begin(), cores.workers.end(), core) != cores.workers.end();
    };
    const auto free = std::find_if_not(allowed.begin(), allowed.end(), is_worker);
    cores.main = free == allowed.end() ? allowed.front() : *free;
  }
  return cores;
}

}  // namespace

std::string eal_device_name(const PortConfig& port) {
  const std::string device = eal_device(port);
  return device.substr(0, device.find(','));
}

std::vector<uint32_t> handshake_cores(const Config& config) {
  if (!config.control_cores.empty()) return config.control_cores;
  const Cores cores = choose_cores(config.eal);
  std::vector<uint32_t> free = cores_allowed();
  std::erase_if(free, [&](uint32_t core) { return std::ranges::count(cores.workers, core) != 0; });
  if (free.empty()) free.push_back(cores.main);
  return free;
}

std::vector<std::string> eal_arguments(const Config& config) {
  std::vector<std::string> arguments{"adit-gateway"};
  const auto add = [&](std::initializer_list<std::string> list) {
    arguments.insert(arguments.end(), list);
  };
  // Logical cores are numbered here, so that a main and a worker may share a processor.
  const Cores cores = choose_cores(config.eal);
  std::string lcores = "0@" + std::to_string(cores.main);
  for (size_t i = 0; i < cores.workers.size(); ++i) {
    lcores += "," + std::to_string(i + 1) + "@" + std::to_string(cores.workers[i]);
  }
  add({"--lcores", lcores, "--main-lcore", "0"});
  add({"-m", std::to_string(config.eal.memory_mb)});
  // No memory of ours is shared with another process: leave no files behind.
  if (use_hugepages(config.eal)) {
    add({"--in-memory"});
  } else {
    add({"--no-huge", "--no-shconf"});
  }
  add({"--no-telemetry"});
  add({"--log-level", "*:warning"});
  bool has_pci = false;
  for (const PortConfig& port : config.ports) {
    has_pci |= port.is_pci();
    add({port.is_pci() ? "--allow" : "--vdev", eal_device(port)});
  }
  if (!has_pci) add({"--no-pci"});
  arguments.insert(arguments.end(), config.eal.extra_args.begin(), config.eal.extra_args.end());
  return arguments;
}

Eal::Eal(const std::vector<std::string>& arguments) {
  std::vector<std::string> copy = arguments;  // EAL may write to its argv
  std::vector<char*> argv;
  for (std::string& argument : copy) argv.push_back(argument.data());
  argv.push_back(nullptr);
  if (rte_eal_init(static_cast<int>(copy.size()), argv.data()) < 0) {
    throw std::runtime_error(std::string("DPDK does not start: ") + rte_strerror(rte_errno));
  }
}

Eal::~Eal() { rte_eal_cleanup(); }

}  // namespace adit::gateway
