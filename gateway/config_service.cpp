// The sections of the gateway's configuration that are about the program itself.
#include <algorithm>

#include "gateway/config_places.h"

namespace adit::gateway {
namespace {

using config::Section;

void read_control(Section section, Config& config) {
  section.read("socket", config.control_socket, config::socket_path());
  section.read("threads", config.control_threads,
               config::integer<uint32_t>(1, kControlThreadsMax));
  section.read_set("cores", config.control_cores, config::integer<uint32_t>(0, 1023));
  const auto& workers = config.eal.worker_cores;
  for (size_t i = 0; i < config.control_cores.size() && section.good("cores"); ++i) {
    if (std::ranges::count(workers, config.control_cores[i]) == 0) continue;
    section.fail_item("cores", i, "is a worker's core, which it needs to itself");
  }
  section.reject_unknown_keys();
}

}  // namespace

void read_service(Section& root, Config& config) {
  Section metrics = root.child("metrics");
  metrics.read("listen", config.metrics_listen, config::endpoint());
  metrics.reject_unknown_keys();
  read_control(root.child("control"), config);
  Section log = root.child("log");
  log.read("level", config.log_level, config::log_level());
  log.reject_unknown_keys();
}

}  // namespace adit::gateway
