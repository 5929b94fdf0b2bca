#include "gateway/numa.h"

#include <fmt/format.h>

namespace adit::gateway {

std::string far_cores_text(const std::string& name, int device, std::span<const int> cores) {
  if (device < 0) return "";
  std::string far;
  for (size_t i = 0; i < cores.size(); ++i) {
    if (cores[i] == device) continue;
    far += far.empty() ? "" : ", ";
    far += i == 0 ? "the control thread" : fmt::format("worker {}", i - 1);
    far += fmt::format(" on {}", cores[i]);
  }
  if (far.empty()) return "";
  return fmt::format(
      "port {}: its device is on NUMA node {}, {}: every packet crosses between them", name, device,
      far);
}

}  // namespace adit::gateway
