// Which of the open tunnels the control thread has to look at: a clock hand that goes over what
// their workers report, in the order of memory, and stops where something has been heard or sent,
// or is due. So an idle tunnel costs a few nanoseconds a round, and no timer is kept by tunnel.
//
// A round takes kRoundNs, or longer where there are more than kLooksPerSecond allow: a million
// tunnels take two and a half seconds, by which whatever is due there may be late.
//
// Owner: Control.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "gateway/tunnel_table.h"

namespace adit::gateway {

class TunnelHand {
 public:
  static constexpr uint64_t kRoundNs = 250'000'000;
  static constexpr uint64_t kLooksPerSecond = 400'000;
  static constexpr uint64_t kNever = ~uint64_t{0};
  static constexpr uint64_t kSecondNs = 1'000'000'000;

  // What is known of an open tunnel without a look at its subscriber.
  struct Watched {
    uint64_t due_ns = kNever;   // when its peer wants to be asked
    uint64_t seen_heard_ns = 0;  // of its report, what has been passed on to the peer
    uint64_t seen_sent_ns = 0;
    bool is_open = false;
  };

  // Slots below `slots`.
  explicit TunnelHand(uint32_t slots) : watched_(slots) {}

  // A new tunnel, which is looked at in the next round.
  void open(uint32_t slot) {
    watched_[slot] = {.due_ns = 0, .is_open = true};
    end_ = std::max(end_, slot + 1);
  }
  void close(uint32_t slot) { watched_[slot] = {}; }
  Watched& at(uint32_t slot) { return watched_[slot]; }

  // Moves on by the time since it was last called, and calls visit(slot) for each tunnel there that
  // has to be looked at, which sets its due_ns and what it has seen. It may close tunnels.
  template <typename Visit>
  void move(uint64_t now_ns, const TunnelTable& tunnels, Visit&& visit) {
    const uint64_t look_ns = std::max(kRoundNs / std::max(end_, 1u), kSecondNs / kLooksPerSecond);
    const uint64_t elapsed_ns = std::min(now_ns - moved_ns_, kRoundNs);
    const uint64_t looks = elapsed_ns / look_ns;
    moved_ns_ = now_ns - elapsed_ns % look_ns;  // what is too little for a look adds up
    for (uint64_t i = 0; i < looks; ++i) {
      if (++place_ >= end_) place_ = 0;
      const Watched& watched = watched_[place_];
      if (watched.is_open && wants_a_look(watched, tunnels.report(place_), now_ns)) visit(place_);
    }
  }

 private:
  static bool wants_a_look(const Watched& watched, const TunnelReport& report, uint64_t now_ns) {
    return watched.due_ns <= now_ns ||
           watched.seen_heard_ns != report.heard_ns.load(std::memory_order_relaxed) ||
           watched.seen_sent_ns != report.sent_ns.load(std::memory_order_relaxed);
  }

  std::vector<Watched> watched_;  // by slot
  uint32_t end_ = 0;              // behind the last slot that was ever open
  uint32_t place_ = 0;
  uint64_t moved_ns_ = 0;
};

}  // namespace adit::gateway
