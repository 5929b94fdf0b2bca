// The same figures for Prometheus, over HTTP.
#pragma once

#include <memory>

#include "gateway/status.h"
#include "lib/net/address.h"

namespace prometheus {
class Exposer;
class Collectable;
}  // namespace prometheus

namespace adit::gateway {

class Metrics {
 public:
  // Serves /metrics at `listen`; throws std::exception if it cannot. The server has a thread of
  // its own, which reads counters as the control thread does: a moment old, never torn.
  // What is referred to outlives this.
  Metrics(const Endpoint& listen, const std::vector<WorkerFigures>& workers,
          const Control& control);
  ~Metrics();

 private:
  std::shared_ptr<prometheus::Collectable> collectable_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace adit::gateway
