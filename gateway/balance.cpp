#include "gateway/balance.h"

#include <algorithm>

namespace adit::gateway {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kRestNs = 60 * kSecondNs;            // between two moves of a tunnel
constexpr uint64_t kRestFromRoamingNs = 600 * kSecondNs;  // after one for its worker's sake

// Roamed: of so many packets at least, so many hundredths came in elsewhere.
constexpr uint32_t kOutboundMin = 20;
constexpr uint32_t kElsewherePercent = 95;
constexpr double kBusyMaxOfANewWorker = 0.8;  // with the tunnel

// Overloaded: when there is somebody who is not.
constexpr double kOverloaded = 0.9;
constexpr double kIdle = 0.6;
constexpr double kWorthIt = 0.02;

}  // namespace

void Balance::note(unsigned worker, const Sample& sample) {
  ++seen_[worker].packets;
  Seen& seen = seen_[worker].tunnels[sample.slot];
  ++seen.packets;
  if (!sample.is_outbound) return;
  if (seen.outbound++ == 0) seen.candidate = sample.received_by;
  seen.at_candidate += sample.received_by == seen.candidate;
}

std::optional<Balance::Wish> Balance::decide(std::span<const double> busy, uint64_t now_ns) {
  now_ns_ = now_ns;
  std::erase_if(resting_, [&](const auto& entry) {
    return entry.second.until_ns <= now_ns && entry.second.roams_from_ns <= now_ns;
  });
  std::optional<Wish> wish = find_overloaded(busy);
  if (!wish) wish = find_roamed(busy);
  for (Worker& worker : seen_) worker = Worker{};
  return wish;
}

void Balance::rest(const Wish& wish, uint64_t now_ns) {
  Rest& rest = resting_[wish.slot];
  rest.until_ns = now_ns + kRestNs;
  if (wish.reason == Wish::overloaded) rest.roams_from_ns = now_ns + kRestFromRoamingNs;
}

void Balance::forget(uint32_t slot) {
  resting_.erase(slot);
  for (Worker& worker : seen_) worker.tunnels.erase(slot);
}

double Balance::load_of(unsigned worker, const Seen& seen, std::span<const double> busy) const {
  return busy[worker] * seen.packets / seen_[worker].packets;
}

// The one whose hand-overs are the most.
std::optional<Balance::Wish> Balance::find_roamed(std::span<const double> busy) const {
  std::optional<Wish> best;
  uint32_t most = 0;
  for (unsigned worker = 0; worker < seen_.size(); ++worker) {
    for (const auto& [slot, seen] : seen_[worker].tunnels) {
      const bool has_roamed = seen.candidate != worker && seen.outbound >= kOutboundMin &&
                              seen.at_candidate * 100 >= seen.outbound * kElsewherePercent;
      if (!has_roamed || seen.outbound <= most || resting_.contains(slot)) continue;
      // What it sends is handed over no more, and what it is answered is instead.
      const uint32_t inbound = seen.packets - seen.outbound;
      if (replies_stay_ && seen.outbound <= inbound) continue;
      const double after = busy[seen.candidate] + load_of(worker, seen, busy);
      if (after > kBusyMaxOfANewWorker) continue;
      most = seen.outbound;
      best = Wish{.slot = slot, .to = seen.candidate, .reason = Wish::roamed};
    }
  }
  return best;
}

// From the busiest to the idlest: the largest that does not take more than half of what they differ
// by.
std::optional<Balance::Wish> Balance::find_overloaded(std::span<const double> busy) const {
  const auto from = static_cast<unsigned>(std::ranges::max_element(busy) - busy.begin());
  const auto to = static_cast<unsigned>(std::ranges::min_element(busy) - busy.begin());
  if (busy[from] < kOverloaded || busy[to] > kIdle) return std::nullopt;
  std::optional<Wish> best;
  double most = kWorthIt;
  for (const auto& [slot, seen] : seen_[from].tunnels) {
    const double load = load_of(from, seen, busy);
    if (load < most || load > (busy[from] - busy[to]) / 2) continue;
    const auto resting = resting_.find(slot);
    if (resting != resting_.end() && resting->second.until_ns > now_ns_) continue;
    most = load;
    best = Wish{.slot = slot, .to = to, .reason = Wish::overloaded};
  }
  return best;
}

}  // namespace adit::gateway
