// Which of the open tunnels the control thread has to look at: a clock hand that goes over what
// their workers report, in the order of memory. It stops where a packet has come, or something is
// due that the report does not put off: a tunnel that sends heartbeats, and is answered, it passes.
// So an idle tunnel costs a few nanoseconds a round, and no timer is kept by tunnel.
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
#include "lib/tunnel/peer.h"

namespace adit::gateway {

class TunnelHand {
 public:
  static constexpr uint64_t kRoundNs = 250'000'000;
  static constexpr uint64_t kLooksPerSecond = 400'000;
  static constexpr uint64_t kNever = ~uint64_t{0};
  static constexpr uint64_t kSecondNs = 1'000'000'000;

  // Of an open tunnel, without a look at its subscriber.
  struct Watched {
    uint64_t due_ns = kNever;              // when its peer wants to be asked,
    uint64_t due_but_silence_ns = kNever;  // and when if it is not silent
    uint64_t seen_heard_ns = 0;  // of its report, what the peer has been told; 0: nothing
    uint64_t seen_sent_ns = 0;
    bool is_open = false;
    bool hears_all = false;  // heartbeats too: one confirms a session

    // Tells the peer what its worker has seen since the last time.
    void tell(tunnel::Peer& peer, const TunnelReport& report);
    // What the peer waits for next.
    void wait_for(const tunnel::Peer& peer);
    // Something has happened to the peer: it is asked anew.
    void ask() { due_ns = due_but_silence_ns = 0; }
  };

  // What a peer calls silence, as in tunnel::PeerConfig.
  struct Silence {
    uint64_t heartbeat_ns = 0;
    uint64_t dead_after_ns = 0;
  };

  // Slots below `slots`.
  TunnelHand(uint32_t slots, const Silence& silence) : watched_(slots), silence_(silence) {}

  // A new tunnel, which is looked at in the next round.
  void open(uint32_t slot) {
    watched_[slot] = {.is_open = true};
    watched_[slot].ask();
    end_ = std::max(end_, slot + 1);
  }
  void close(uint32_t slot) { watched_[slot] = {}; }
  Watched& at(uint32_t slot) { return watched_[slot]; }

  // Moves on by the time since it was last called, and calls visit(slot) for each tunnel there that
  // has to be looked at, which tells its peer and waits for it. It may close tunnels.
  template <typename Visit>
  void move(uint64_t now_ns, const TunnelTable& tunnels, Visit&& visit) {
    const uint64_t look_ns = std::max(kRoundNs / std::max(end_, 1u), kSecondNs / kLooksPerSecond);
    const uint64_t elapsed_ns = std::min(now_ns - moved_ns_, kRoundNs);
    const uint64_t looks = elapsed_ns / look_ns;
    moved_ns_ = now_ns - elapsed_ns % look_ns;  // what is too little for a look adds up
    for (uint64_t i = 0; i < looks; ++i) {
      if (++place_ >= end_) place_ = 0;
      Watched& watched = watched_[place_];
      if (watched.is_open && wants_a_look(watched, tunnels.report(place_), now_ns)) visit(place_);
    }
  }

 private:
  bool wants_a_look(Watched& watched, const TunnelReport& report, uint64_t now_ns) const {
    if (watched.due_ns <= now_ns) put_off(watched, report);
    return watched.due_ns <= now_ns ||
           watched.seen_heard_ns < report.heard_packet_ns.load(std::memory_order_relaxed) ||
           (watched.hears_all &&
            watched.seen_heard_ns != report.heard_ns.load(std::memory_order_relaxed));
  }

  // To when nothing will have been heard or sent for so long, if nothing else is due. Until the
  // peer has been told of anything, the report may be that of the slot's last tunnel.
  void put_off(Watched& watched, const TunnelReport& report) const {
    if (watched.seen_heard_ns == 0) return;
    watched.due_ns =
        std::min({watched.due_but_silence_ns,
                  report.heard_ns.load(std::memory_order_relaxed) + silence_.dead_after_ns,
                  report.sent_ns.load(std::memory_order_relaxed) + silence_.heartbeat_ns});
  }

  std::vector<Watched> watched_;  // by slot
  const Silence silence_;
  uint32_t end_ = 0;              // behind the last slot that was ever open
  uint32_t place_ = 0;
  uint64_t moved_ns_ = 0;
};

}  // namespace adit::gateway
