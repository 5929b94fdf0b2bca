#include "bench/swarm/trial.h"

#include <rte_cycles.h>

#include <stdexcept>

namespace adit::bench {

TrialOptions TrialOptions::from_json(const nlohmann::json& words) {
  TrialOptions options;
  const std::string direction = words.value("direction", "both");
  if (direction != "both" && direction != "outbound" && direction != "inbound") {
    throw std::runtime_error("direction: outbound, inbound or both");
  }
  options.directions = {direction != "inbound", direction != "outbound"};
  options.rate_pps = words.value("rate_mpps", 1.0) * 1e6;
  options.seconds = words.value("seconds", 1.0);
  options.inner_bytes = words.value("inner_bytes", std::vector<uint16_t>{64});
  options.burst = words.value("burst", 1u);
  options.storm = words.value("storm", false);
  options.connecting = words.value("connecting", 0u);
  options.until_connected = words.value("until_connected", false);
  options.rests = words.value("rests", false);
  options.flood_pps = words.value("flood_mpps", 0.0) * 1e6;
  options.roams_per_s = words.value("roam", 0.0);
  options.leaves_per_s = words.value("churn", 0.0);
  if (options.burst < 1 || options.burst > kSendBurst) {
    throw std::runtime_error("burst: 1 to " + std::to_string(kSendBurst));
  }
  if (options.inner_bytes.empty()) throw std::runtime_error("inner_bytes: none");
  for (const uint16_t bytes : options.inner_bytes) {
    if (bytes < kInnerBytesMin || bytes > kInnerBytesMax) {
      throw std::runtime_error("inner_bytes: between " + std::to_string(kInnerBytesMin) + " and " +
                               std::to_string(kInnerBytesMax));
    }
  }
  for (const double rate :
       {options.rate_pps, options.flood_pps, options.roams_per_s, options.leaves_per_s}) {
    if (!(rate >= 0)) throw std::runtime_error("rate_mpps, flood_mpps, roam, churn: 0 or more");
  }
  if (!(options.seconds > 0 && options.seconds <= 3600)) {
    throw std::runtime_error("seconds: above 0, 3600 at most");
  }
  return options;
}

nlohmann::json TrialResult::to_json() const {
  const double us = 1e6 / static_cast<double>(rte_get_tsc_hz());
  const auto latency_us = [&](double share) {
    return static_cast<double>(latency.percentile(share)) * us;
  };
  const auto connecting_s = [&](double share) {
    return static_cast<double>(connecting.percentile(share)) * us / 1e6;
  };
  const double offered = static_cast<double>(total(&Counts::sent) + total(&Counts::refused));
  nlohmann::json out = {
      {"seconds", seconds},
      {"connected", connected},
      {"connecting_seconds", connecting_seconds},
      {"connecting_s", {{"p50", connecting_s(0.5)}, {"max", connecting_s(1)}}},
      {"flood",
       {{"sent", flood_sent}, {"skipped", flood_skipped}, {"answered", flood_answered}}},
      {"roaming", {{"roamed", roamed}, {"lost", lost_to_roaming}}},
      {"churn",
       {{"left", left}, {"returned", returned}, {"lost", lost_to_churn}, {"unsent", unsent}}},
      {"tsc_hz", rte_get_tsc_hz()},
      {"offered_mpps", offered / seconds / 1e6},
      {"received_mpps", static_cast<double>(total(&Counts::received)) / seconds / 1e6},
      {"loss", offered > 0 ? static_cast<double>(lost()) / offered : 0.0},
      {"lost", lost()},
      {"wrong", wrong},
      {"spoilt", spoilt},
      {"late", late},
      {"first_wrong", first_wrong},
      {"idle_share", idle_share},
      {"latency_us",
       {{"p50", latency_us(0.5)},
        {"p99", latency_us(0.99)},
        {"p999", latency_us(0.999)},
        {"max", latency_us(1)}}}};
  for (unsigned d = 0; d < kDirections; ++d) {
    out[direction_name(d)] = {{"sent", counts[d].sent},
                              {"refused", counts[d].refused},
                              {"skipped", counts[d].skipped},
                              {"received", counts[d].received},
                              {"reordered", counts[d].reordered}};
  }
  return out;
}

}  // namespace adit::bench
