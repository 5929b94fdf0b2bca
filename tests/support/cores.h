// The machine's cores, for threads that are to run beside a test which DPDK has bound to one.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <numeric>
#include <vector>

namespace adit::test {

inline std::vector<uint32_t> all_cores() {
  std::vector<uint32_t> cores(static_cast<size_t>(sysconf(_SC_NPROCESSORS_CONF)));
  std::iota(cores.begin(), cores.end(), 0);
  return cores;
}

}  // namespace adit::test
