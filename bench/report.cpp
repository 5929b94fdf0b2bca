#include "bench/report.h"

#include <rte_cycles.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>

namespace adit::bench {

Summary summarize(std::vector<double> samples) {
  std::ranges::sort(samples);
  return {samples.front(), samples[samples.size() / 2], samples.back()};
}

double tsc_hz() { return static_cast<double>(rte_get_tsc_hz()); }

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

uint64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6)) * 1024;
  }
  throw std::runtime_error("/proc/self/status does not say what is resident");
}

void write_json(const std::string& path, const nlohmann::json& rows) {
  std::ofstream file(path);
  file << rows.dump(1) << '\n';
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace adit::bench
