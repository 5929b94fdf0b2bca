// A DPDK port: found by its device's name, configured, started; and what the packet path needs to
// know of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gateway/config.h"
#include "gateway/flow_rules.h"
#include "gateway/kernel_sender.h"
#include "gateway/pipeline.h"
#include "gateway/steering.h"

namespace adit::gateway {

class Port {
 public:
  // How packets come to its queues.
  enum class Steering : uint8_t {
    none,      // one queue, or as the device and its peer choose
    by_flow,   // hashed over addresses and ports: the uplink, so that a tunnel stays where it is
    by_port,   // replies to the worker of their destination port (steering.h): the public port
    by_rules,  // that, and tunnel packets by flow rules: one port that is both
  };
  // Configures as many receive and transmit queues as there are workers, or fewer where the device
  // or the configuration has no more, and starts the port. `tunnel`, the tunnel endpoint, is what
  // rules are for: a device that takes none of them gets by_flow in place of by_rules. Throws
  // std::runtime_error that names the port and what failed.
  Port(const PortConfig& config, rte_mempool* pool, Steering wanted = Steering::none,
       const SteeringPlan& plan = {}, const Endpoint& tunnel = {});
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // Of the table by which the device could spread by hash; 0: it cannot, or has one queue. Throws
  // as the constructor does.
  static unsigned redirection_entries(const PortConfig& config);

  uint16_t id() const { return id_; }
  unsigned queues() const { return queues_; }
  // Does every worker receive its own tunnels' packets, or its own replies?
  Steering steering() const { return steering_; }
  const std::string& name() const { return name_; }
  // Everything but is_uplink and is_public, which are the gateway's to say.
  const PortView& view() const { return view_; }
  // Readable when a packet waits in a queue; -1 where there is no such descriptor.
  int socket(unsigned queue) const { return queue < sockets_.size() ? sockets_[queue] : -1; }
  // Of a queue; null where the driver sends everything.
  KernelSender* sender(unsigned queue) const {
    return queue < senders_.size() ? senders_[queue].get() : nullptr;
  }
  // What the device itself counted as lost before we saw it.
  uint64_t missed() const;
  // One line for the log: device, driver, address, what the hardware does for us.
  std::string describe() const;

 private:
  void find_sockets(unsigned interface, const std::vector<int>& others);
  void open_senders(unsigned interface);
  bool install_rules(const Endpoint& tunnel, unsigned key_bytes);
  std::string steering_text() const;

  std::string name_;
  uint16_t id_ = 0;
  PortView view_;
  std::string driver_;
  unsigned queues_ = 1;
  unsigned workers_ = 1;
  Steering steering_ = Steering::none;
  InstalledRules rules_;
  std::vector<int> sockets_;  // by queue, or none
  std::vector<std::unique_ptr<KernelSender>> senders_;  // by queue, or none
};

}  // namespace adit::gateway
