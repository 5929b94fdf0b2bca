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
  Figures(const Counters& counters, const nat::Nat& nat) : counters_(counters), nat_(nat) {}

  std::vector<MetricFamily> Collect() const override {
    MetricFamily events = family("adit_events_total", "What happened to packets, by event",
                                 MetricType::Counter);
#define X(name) add(events, "event", #name, counters_.name);
    ADIT_EVENTS(X)
#undef X
    MetricFamily drops =
        family("adit_drops_total", "Packets dropped, by reason", MetricType::Counter);
    for (unsigned i = kFirstDrop; i < kFates; ++i) {
      add(drops, "reason", fate_name(static_cast<Fate>(i)), counters_.fates[i]);
    }
    const nat::Nat::Counts& counts = nat_.counts();
    MetricFamily mappings = family("adit_mappings", "Entries of the mapping table, by state",
                                   MetricType::Gauge);
    add(mappings, "state", "live", counts.mappings_live);
    add(mappings, "state", "resting", counts.mappings_resting);
    MetricFamily blocks =
        family("adit_port_blocks", "Port blocks granted to subscribers", MetricType::Gauge);
    add(blocks, "state", "granted", counts.blocks_granted);
    return {std::move(events), std::move(drops), std::move(mappings), std::move(blocks)};
  }

 private:
  static MetricFamily family(const char* name, const char* help, MetricType type) {
    MetricFamily out;
    out.name = name;
    out.help = help;
    out.type = type;
    return out;
  }
  static void add(MetricFamily& to, const char* label, const char* name, uint64_t value) {
    ClientMetric metric;
    metric.label.push_back({label, name});
    (to.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        static_cast<double>(value);
    to.metric.push_back(std::move(metric));
  }

  const Counters& counters_;
  const nat::Nat& nat_;
};

}  // namespace

Metrics::Metrics(const Endpoint& listen, const Counters& counters, const nat::Nat& nat)
    : collectable_(std::make_shared<Figures>(counters, nat)),
      exposer_(std::make_unique<prometheus::Exposer>(listen.to_string(), 1)) {
  exposer_->RegisterCollectable(collectable_);
}

Metrics::~Metrics() = default;

}  // namespace adit::gateway
