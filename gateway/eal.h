// DPDK's environment: started from the configuration, once a process.
#pragma once

#include <string>
#include <vector>

#include "gateway/config.h"

namespace adit::gateway {

// The EAL command line that `config` asks for, program name first.
std::vector<std::string> eal_arguments(const Config& config);

// Where handshake threads run: as the configuration says, else on every core that this process may
// use but the workers'. To be asked before DPDK starts, which binds us to the main core.
std::vector<uint32_t> handshake_cores(const Config& config);

// The name that DPDK gives to a configured device: "net_tap0" of "net_tap0,iface=x0".
std::string eal_device_name(const PortConfig& port);

class Eal {
 public:
  // Throws std::runtime_error with EAL's reason.
  explicit Eal(const std::vector<std::string>& arguments);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;
};

}  // namespace adit::gateway
