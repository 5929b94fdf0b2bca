// A DPDK port: found by its device's name, configured, started; and what the packet path needs to
// know of it.
#pragma once

#include <cstdint>
#include <string>

#include "gateway/config.h"
#include "gateway/pipeline.h"

namespace adit::gateway {

class Port {
 public:
  // Configures one receive and one transmit queue and starts the port. Throws std::runtime_error
  // that names the port and what failed.
  Port(const PortConfig& config, rte_mempool* pool);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  uint16_t id() const { return id_; }
  const std::string& name() const { return name_; }
  // Everything but is_uplink and is_public, which are the gateway's to say.
  const PortView& view() const { return view_; }
  // What the device itself counted as lost before we saw it.
  uint64_t missed() const;
  // One line for the log: device, driver, address, what the hardware does for us.
  std::string describe() const;

 private:
  std::string name_;
  uint16_t id_ = 0;
  PortView view_;
  std::string driver_;
};

}  // namespace adit::gateway
