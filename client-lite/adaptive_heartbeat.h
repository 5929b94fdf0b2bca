// How seldom a heartbeat may be sent so that no NAT on the way forgets an idle flow. It is found by
// trial, from the safe end: the shortest interval first, then twice as long each time until the
// longest is reached or a NAT forgot, then half way between what it kept and what it forgot. What
// is used meanwhile is always the longest that was kept. An hour later it is looked at again, for a
// NAT may change its mind.
// Values only; binding_test.h makes the trials.
//
// Owner: Client.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace adit::client {

class AdaptiveHeartbeat {
 public:
  // After so long a result is old.
  static constexpr uint64_t kSettledNs = 3600'000'000'000;
  // Intervals closer than this, or than an eighth of them, are not told apart.
  static constexpr uint64_t kResolutionNs = 1'000'000'000;

  // Both are included. What was learnt is not lost: wider bounds may come back.
  void set_bounds(uint64_t min_ns, uint64_t max_ns) {
    max_ns_ = max_ns;
    min_ns_ = std::min(min_ns, max_ns);
    if (kept_ns_ >= min_ns_) return;
    kept_ns_ = min_ns_;
    is_tried_ = false;
  }
  // Another network, with other NATs.
  void forget() {
    kept_ns_ = min_ns_;
    look_again();
  }
  // The same network, an hour later: what was kept is tried anew, then what is longer.
  void look_again() {
    is_tried_ = false;
    forgotten_ns_ = kNever;
  }

  // The interval to use.
  uint64_t interval_ns() const { return std::min(kept_ns_, max_ns_); }
  // Whether it has been tried, on this network; until then it is merely the least.
  bool is_tried() const { return is_tried_; }
  // What a binding must survive for an interval: a heartbeat that got lost is sent again within two
  // seconds (path_watch.h), and clocks and timers of NATs are coarse.
  static uint64_t silence_ns(uint64_t interval_ns) {
    return interval_ns + interval_ns / 8 + 2'000'000'000;
  }

  // The interval to be tried next; nothing: it is as long as it can be.
  std::optional<uint64_t> next_ns() const {
    if (!is_tried_) return interval_ns();
    if (kept_ns_ >= max_ns_) return std::nullopt;
    if (forgotten_ns_ == kNever) return std::min(kept_ns_ * 2, max_ns_);
    const uint64_t gap_ns = forgotten_ns_ - std::min(kept_ns_, forgotten_ns_);
    if (gap_ns <= std::max(kResolutionNs, kept_ns_ / 8)) return std::nullopt;
    return std::min(kept_ns_ + gap_ns / 2, max_ns_);
  }
  // How the trial of such an interval ended. The bounds may have changed since it began.
  void on_kept(uint64_t interval_ns) {
    kept_ns_ = std::max(interval_ns, kept_ns_);
    is_tried_ = true;
  }
  // Even the least may be forgotten: then it is used all the same, for the bounds are the owner's.
  void on_forgotten(uint64_t interval_ns) {
    forgotten_ns_ = std::min(interval_ns, forgotten_ns_);
    if (interval_ns > kept_ns_) return;
    kept_ns_ = min_ns_;
    is_tried_ = interval_ns <= min_ns_;
  }

  // The least interval that was tried and is too long; nothing: none is known.
  std::optional<uint64_t> forgotten_ns() const {
    if (forgotten_ns_ == kNever) return std::nullopt;
    return forgotten_ns_;
  }
  bool is_min_forgotten() const { return is_tried_ && forgotten_ns_ <= min_ns_; }

 private:
  static constexpr uint64_t kNever = UINT64_MAX;

  uint64_t min_ns_ = 0;
  uint64_t max_ns_ = 0;
  uint64_t kept_ns_ = 0;
  uint64_t forgotten_ns_ = kNever;
  bool is_tried_ = false;
};

}  // namespace adit::client
