// In which order gateways are tried, and when to go back to one that is preferred to that in use.
// Back only when it is stable, for a move ends connections: it must have answered every round of a
// survey for so long; and if it fails soon after all the same, for twice as long the next time.
// Values only; survey.h asks the gateways.
//
// Owner: Client.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "client-lite/survey.h"

namespace adit::client {

inline std::vector<size_t> in_order(size_t gateways) {
  std::vector<size_t> order(gateways);
  for (size_t i = 0; i < gateways; ++i) order[i] = i;
  return order;
}
// The nearest first; behind them those that did not answer, in their own order.
inline std::vector<size_t> nearest_first(std::span<const Survey::Finding> findings) {
  std::vector<size_t> order = in_order(findings.size());
  const auto distance_ns = [&](size_t i) { return findings[i].round_trip_ns.value_or(UINT64_MAX); };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return distance_ns(a) < distance_ns(b); });
  return order;
}

// One gateway that was left, and whether to go back to it.
class ReturnWatch {
 public:
  static constexpr unsigned kAnswersMin = 3;
  static constexpr uint64_t kPatienceFactorMax = 64;

  // It must answer for `stable_ns`.
  explicit ReturnWatch(uint64_t stable_ns) : stable_ns_(stable_ns) {}

  // Another gateway is used now instead of it.
  void on_left(uint64_t now_ns) {
    const bool was_early = returned_ns_ && now_ns - *returned_ns_ < needed_ns();
    factor_ = was_early ? std::min(factor_ * 2, kPatienceFactorMax) : 1;
    returned_ns_.reset();
    answers_ = 0;
  }
  void on_returned(uint64_t now_ns) { returned_ns_ = now_ns; }

  // A round of the survey. Returns whether it is stable.
  bool on_round(bool answered, uint64_t now_ns) {
    if (!answered) {
      answers_ = 0;
      return false;
    }
    if (answers_++ == 0) first_answer_ns_ = now_ns;
    return answers_ >= kAnswersMin && now_ns - first_answer_ns_ >= needed_ns();
  }
  uint64_t needed_ns() const { return stable_ns_ * factor_; }

 private:
  uint64_t stable_ns_;
  uint64_t factor_ = 1;
  unsigned answers_ = 0;  // in a row
  uint64_t first_answer_ns_ = 0;
  std::optional<uint64_t> returned_ns_;
};

}  // namespace adit::client
