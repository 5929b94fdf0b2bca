#include "gateway/renewal.h"

#include <algorithm>

#include "lib/tunnel/session.h"

namespace adit::gateway {

uint64_t renewals_per_second(const Config& config) {
  uint64_t lanes = 0;
  for (const SubscriberConfig& each : config.subscribers) lanes += config.lanes_of(each);
  return lanes * kSecond_ns / tunnel::kRekeyAfterNs;
}

uint64_t handshakes_per_second(uint32_t control_threads) {
  return uint64_t{std::max(control_threads, 2u) - 1} * kHandshakesPerThread;
}

std::string renewal_warning(const Config& config) {
  const uint64_t needed = renewals_per_second(config);
  const uint64_t made = handshakes_per_second(config.control_threads);
  if (needed <= made) return "";
  uint32_t threads = config.control_threads;
  while (threads < kControlThreadsMax && handshakes_per_second(threads) < needed) ++threads;
  return "with all subscribers connected key renewal takes " + std::to_string(needed) +
         " handshakes a second; control.threads: " + std::to_string(config.control_threads) +
         " makes some " + std::to_string(made) + ", " + std::to_string(threads) + " would make " +
         std::to_string(handshakes_per_second(threads));
}

}  // namespace adit::gateway
