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
using tunnel::handshake_reject_name;
using tunnel::HandshakeReject;

class Figures final : public prometheus::Collectable {
 public:
  Figures(std::vector<WorkerFigures> workers, const Control& control)
      : workers_(std::move(workers)), control_(control) {}

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
    const ControlCounters& counters = control_.counters();
    MetricFamily control = family("adit_control_events_total",
                                  "What the control thread did, by event", MetricType::Counter);
#define X(name) add(control, {{"event", #name}}, counters.name);
    ADIT_CONTROL_EVENTS(X)
#undef X
    MetricFamily rejected = family("adit_handshakes_rejected_total",
                                   "Handshake messages refused, by reason", MetricType::Counter);
    for (auto i = static_cast<size_t>(HandshakeReject::malformed);
         i <= static_cast<size_t>(HandshakeReject::unexpected); ++i) {
      add(rejected, {{"reason", handshake_reject_name(static_cast<HandshakeReject>(i))}},
          counters.handshakes_rejected[i]);
    }
    MetricFamily lanes =
        family("adit_lanes", "Lanes of subscribers who have several, by state", MetricType::Gauge);
    add(lanes, {{"state", "granted"}}, control_.lane_counts().granted);
    add(lanes, {{"state", "open"}}, control_.lane_counts().open);
    MetricFamily handshakes =
        family("adit_handshake_steps_total", "Initiations opened and answers made, by thread",
               MetricType::Counter);
    const std::vector<uint64_t> done = control_.handshakes().done();
    for (size_t i = 0; i < done.size(); ++i) {
      add(handshakes, {{"thread", std::to_string(i)}}, done[i]);
    }
    return {std::move(events),  std::move(drops),    std::move(mappings), std::move(blocks),
            std::move(control), std::move(rejected), std::move(lanes),    std::move(handshakes)};
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
  const Control& control_;
};

}  // namespace

Metrics::Metrics(const Endpoint& listen, const std::vector<WorkerFigures>& workers,
                 const Control& control)
    : collectable_(std::make_shared<Figures>(workers, control)),
      exposer_(std::make_unique<prometheus::Exposer>(listen.to_string(), 1)) {
  exposer_->RegisterCollectable(collectable_);
}

Metrics::~Metrics() = default;

}  // namespace adit::gateway
