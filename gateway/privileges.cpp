#include "gateway/privileges.h"

#include <linux/capability.h>

#include <cstdint>
#include <fstream>

namespace adit::gateway {

std::vector<std::string> missing_capabilities() {
  uint64_t effective = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    constexpr std::string_view kField = "CapEff:";
    if (line.starts_with(kField)) effective = std::stoull(line.substr(kField.size()), nullptr, 16);
  }
  struct Capability {
    unsigned number;
    const char* name;
  };
  static constexpr Capability kNeeded[] = {{CAP_NET_RAW, "CAP_NET_RAW"},
                                           {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
                                           {CAP_IPC_LOCK, "CAP_IPC_LOCK"}};
  std::vector<std::string> missing;
  for (const Capability& capability : kNeeded) {
    if ((effective >> capability.number & 1) == 0) missing.emplace_back(capability.name);
  }
  return missing;
}

}  // namespace adit::gateway
