#include "gateway/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <string>
#include <utility>

namespace adit::gateway {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

class Figures final : public prometheus::Collectable {
 public:
  Figures(std::vector<WorkerFigures> workers, const HandshakeThreads& handshakes)
      : workers_(std::move(workers)), handshakes_(handshakes) {}

  std::vector<MetricFamily> Collect() const override {
    MetricFamily events = family("adit_events_total", "What happened to packets, by event",
                                 MetricType::Counter);
    MetricFamily drops =
        family("adit_drops_total", "Packets dropped, by reason", MetricType::Counter);
    MetricFamily mappings = family("adit_mappings", "Entries of the mapping table, by state",
                                   MetricType::Gauge);
    MetricFamily blocks =
        family("adit_port_blocks", "Port blocks granted to subscribers", MetricType::Gauge);
    for (size_t i = 0; i < workers_.size(); ++i) {
      const std::string worker = std::to_string(i);
      const Counters& counters = *workers_[i].counters;
#define X(name) add(events, worker, "event", #name, counters.name);
      ADIT_EVENTS(X)
#undef X
      for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
        add(drops, worker, "reason", fate_name(static_cast<Fate>(fate)), counters.fates[fate]);
      }
      const nat::Nat::Counts& counts = workers_[i].nat->counts();
      add(mappings, worker, "state", "live", counts.mappings_live);
      add(mappings, worker, "state", "resting", counts.mappings_resting);
      add(blocks, worker, "state", "granted", counts.blocks_granted);
    }
    MetricFamily handshakes =
        family("adit_handshake_steps_total", "Initiations opened and answers made, by thread",
               MetricType::Counter);
    const std::vector<uint64_t> done = handshakes_.done();
    for (size_t i = 0; i < done.size(); ++i) {
      add(handshakes, {{"thread", std::to_string(i)}}, done[i]);
    }
    return {std::move(events), std::move(drops), std::move(mappings), std::move(blocks),
            std::move(handshakes)};
  }

 private:
  static MetricFamily family(const char* name, const char* help, MetricType type) {
    MetricFamily out;
    out.name = name;
    out.help = help;
    out.type = type;
    return out;
  }
  static void add(MetricFamily& to, const std::string& worker, const char* label, const char* name,
                  uint64_t value) {
    add(to, {{label, name}, {"worker", worker}}, value);
  }
  static void add(MetricFamily& to, std::vector<ClientMetric::Label> labels, uint64_t value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    (to.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        static_cast<double>(value);
    to.metric.push_back(std::move(metric));
  }

  const std::vector<WorkerFigures> workers_;
  const HandshakeThreads& handshakes_;
};

}  // namespace

Metrics::Metrics(const Endpoint& listen, const std::vector<WorkerFigures>& workers,
                 const HandshakeThreads& handshakes)
    : collectable_(std::make_shared<Figures>(workers, handshakes)),
      exposer_(std::make_unique<prometheus::Exposer>(listen.to_string(), 1)) {
  exposer_->RegisterCollectable(collectable_);
}

Metrics::~Metrics() = default;

}  // namespace adit::gateway
