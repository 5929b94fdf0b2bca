// A gateway that ends, and another one in its place which knows nothing: who was there comes back.
#include <fmt/format.h>
#include <rte_ethdev.h>

#include <stdexcept>

#include "bench/swarm/swarm.h"

namespace adit::bench {

void Swarm::lose_gateway() {
  for (Client& client : clients_) client.lose_gateway();
  forget_mappings();
  clients_started_ = 0;
  clients_wanted_ = options_.clients - options_.holding_back;
  connecting_max_ = options_.connecting_max;
  has_gateway_ = false;
  for (Side& side : sides_) side.is_resolved = false;
}

void Swarm::forget_mappings() {
  mapped_.clear();
  for (Flow& flow : flows_) flow.external = {};
  for (unsigned d = 0; d < kDirections; ++d) {
    send_frames_[d].assign(flows_.size(), {});
    expected_frames_[d].assign(flows_.size(), {});
  }
}

// Only now are they stopped: what a driver does when its other end is gone, in a thread of its own,
// must not meet a poll, ours or the gateway's.
void Swarm::take_devices() {
  for (unsigned i = 0; i < (one_port_ ? 1 : sides_.size()); ++i) {
    rte_eth_dev_stop(sides_[i].port);
    const int result = rte_eth_dev_start(sides_[i].port);
    if (result != 0) {
      throw std::runtime_error(fmt::format("port {} does not start again ({})", i, result));
    }
  }
  has_gateway_ = true;
}

}  // namespace adit::bench
