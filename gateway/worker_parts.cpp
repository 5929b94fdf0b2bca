#include "gateway/worker_parts.h"

#include <algorithm>
#include <bit>
#include <string>

#include "gateway/random.h"
#include "gateway/settings.h"

namespace adit::gateway {
namespace {

inline constexpr unsigned kNeighbours = 1024;
inline constexpr unsigned kPortlessMappings = 16'384;  // of all workers
inline constexpr unsigned kHeldSyns = 4096;            // a power of two; of all workers
inline constexpr unsigned kFragmentedDatagrams = 4096;

// The name of one worker's table, unique in the process.
struct Name {
  Name(const char* what, unsigned worker) : text(what + std::to_string(worker)) {}
  operator const char*() const { return text.c_str(); }
  std::string text;
};

nat::Settings share_of(nat::Settings settings, unsigned worker) {
  settings.share = static_cast<uint8_t>(worker);
  return settings;
}

PipelineSettings path_of(PipelineSettings settings, unsigned worker) {
  settings.worker = worker;
  uint32_t& errors = settings.icmp_errors.per_second;
  errors = errors == 0 ? 0 : std::max(errors / settings.workers, 1u);
  return settings;
}

Filter::Settings filter_share(const Config& config, unsigned workers) {
  Filter::Settings settings = filter_settings(config.nat);
  settings.sessions = std::max(settings.sessions / workers, 1u);
  return settings;
}

// The addresses that are subscribers' own outside: nobody's, until their tunnels open.
void reserve_outer_routes(const Config& config, const char* name,
                          std::optional<TunnelRoutes>& routes) {
  std::vector<Ipv4Prefix> prefixes;
  for (const SubscriberConfig& subscriber : config.subscribers) {
    prefixes.insert(prefixes.end(), subscriber.routed.begin(), subscriber.routed.end());
    if (subscriber.external_address) prefixes.push_back({*subscriber.external_address, 32});
  }
  if (prefixes.empty()) return;
  routes.emplace(name, static_cast<unsigned>(prefixes.size()));
  for (const Ipv4Prefix& prefix : prefixes) routes->add(prefix, TunnelRoutes::kNobody);
}

}  // namespace

WorkerParts::WorkerParts(const Shared& shared, unsigned index, std::vector<Worker::Queue> queues,
                         bool adaptive)
    : nat_(share_of(shared.nat, index), shared.mappings, random64),
      crypto_(shared.config.expanded_keys()),
      neighbours_(Name("neighbours", index), kNeighbours),
      portless_(Name("portless", index), kPortlessMappings / shared.path.workers, nat_,
                shared.tunnels),
      fragments_(Name("fragments", index),
                 {kFragmentedDatagrams, kHeldFragments, shared.tunnels.slots()}),
      reassembly_(kOuterReassemblies),
      from_control_(Name("to_worker", index), kChannelItems),
      replies_(Name("replies", index), kReplyItems),
      to_control_(Name("to_control", index), kChannelItems),
      handshakes_(Name("handshakes", index), kHandshakeItems) {
  const Config& config = shared.config;
  const unsigned workers = shared.path.workers;
  if (config.inner_addresses_are_unique()) {
    inner_routes_.emplace(Name("inner_routes", index),
                          config.tunnel.max_tunnels * (1 + kInnerPrefixesMax));
  }
  reserve_outer_routes(config, Name("outer_routes", index), outer_routes_);
  if (const auto all = all_forwards(config); !all.empty()) {
    forwards_.emplace(Name("forwards", index), all);
  }
  if (config.nat.answer_unsolicited_syn) {
    held_syns_.emplace(Name("held_syns", index), kHeldSyns / std::bit_ceil(workers));
  }
  if (Filter::is_needed(shared.nat.profiles)) {
    filter_.emplace(Name("sessions", index), filter_share(config, workers), shared.tunnels, nat_);
  }
  const auto pointer = [](auto& part) { return part ? &*part : nullptr; };
  pipeline_ = std::make_unique<Pipeline>(
      path_of(shared.path, index),
      Pipeline::Tables{shared.tunnels, nat_, portless_, fragments_, reassembly_, neighbours_,
                       pointer(inner_routes_), pointer(held_syns_), pointer(filter_),
                       pointer(outer_routes_), pointer(forwards_), shared.hand_off},
      crypto_, shared.pool, counters_);
  worker_ = std::make_unique<Worker>(*pipeline_, counters_, std::move(queues), index,
                                     shared.hand_off, from_control_, replies_, to_control_,
                                     handshakes_, adaptive);
}

}  // namespace adit::gateway
