// Whether the path to the gateway still carries anything, told by what was sent and what was heard.
// Whatever is sent asks a question; anything authentic that is heard answers it. A question that
// stays open is asked again with probes, more urgently:
//
//     sent ──quiet──► probe, probe, probe ──► rebind: new source port, new handshake
//                                             probe, probe, probe ──► dead
//
// Rebind because a NAT in the way may have forgotten us, or sits on a broken binding: another
// source port is another binding. Dead: the gateway itself does not answer.
// A stock WireGuard peer answers only packets, by what they are answered with beyond it, and
// handshakes. There a probe is a handshake, and what is wanted of it is slower.
// Values only; its owner sends the probes.
//
// Owner: Client.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "client-lite/round_trip.h"

namespace adit::client {

class PathWatch {
 public:
  // How long what was sent may stay unanswered before it is asked after: a stream in one direction
  // has no answers, and costs a probe in so long.
  static constexpr uint64_t kQuietNs = 1'000'000'000;
  // Between probes: RFC 6298's timeout within these bounds, and the first where there is no sample.
  static constexpr uint64_t kWaitNsDefault = 1'000'000'000;
  static constexpr uint64_t kWaitNsMin = 250'000'000;
  static constexpr uint64_t kWaitNsMax = 2'000'000'000;
  // With a loss of 5 % in each direction all of the first are lost once in a thousand times, and
  // all of both rounds once in a million.
  static constexpr unsigned kProbesBeforeRebind = 3;
  static constexpr unsigned kProbesBeforeDead = 6;

  struct Pace {
    uint64_t quiet_ns;
    std::optional<uint64_t> wait_ns;  // nothing: the round trip's
    unsigned probes_before_rebind;
    unsigned probes_before_dead;
  };
  static constexpr Pace kByProbes{kQuietNs, {}, kProbesBeforeRebind, kProbesBeforeDead};
  // A peer may be sent an initiation every 5 s (tunnel::kRekeyTimeoutNs), and Peer repeats one by
  // itself: after 5 s of silence, after 10 s from another port, which is taken just before, and
  // after 15 s. So three are lost before it is dead, and one that was slow had 2 s.
  static constexpr Pace kByHandshakes{5'000'000'000, 4'000'000'000, 1, 3};

  enum class Step : uint8_t { none, probe, rebind, dead };

  PathWatch() = default;
  explicit PathWatch(const Pace& pace) : pace_(pace) {}

  static uint64_t wait_ns(const RoundTrip& round_trip) {
    if (!round_trip.has_sample()) return kWaitNsDefault;
    return std::clamp(round_trip.smoothed_ns() + 4 * round_trip.variation_ns(), kWaitNsMin,
                      kWaitNsMax);
  }

  // Something authentic came: no question is open. The deadline stays, so that traffic that is
  // answered moves it once in Pace::quiet_ns and not with every packet.
  void on_heard() {
    is_open_ = false;
    probes_ = 0;
  }
  // A packet went out.
  void on_sent(uint64_t now_ns) {
    if (is_open_) return;
    is_open_ = true;
    asked_ns_ = now_ns;
    if (due_ns_ == kNever) due_ns_ = now_ns + pace_.quiet_ns;
  }
  // A probe went out that tick() did not ask for: its answer is due sooner than a packet's.
  void on_probe(uint64_t now_ns, const RoundTrip& round_trip) {
    if (probes_ > 0) return;
    is_open_ = true;
    probes_ = 1;
    due_ns_ = now_ns + wait_ns(round_trip);
  }
  // There is reason to doubt: asks now, and from the beginning.
  void hurry(uint64_t now_ns) {
    is_open_ = true;
    asked_ns_ = now_ns - pace_.quiet_ns;
    probes_ = 0;
    due_ns_ = now_ns;
  }

  // What is to be done at next_deadline_ns(). With a rebind goes a probe, too.
  Step tick(uint64_t now_ns, const RoundTrip& round_trip) {
    if (now_ns < due_ns_) return Step::none;
    if (!is_open_) {
      due_ns_ = kNever;
      return Step::none;
    }
    if (probes_ == 0 && now_ns < asked_ns_ + pace_.quiet_ns) {
      due_ns_ = asked_ns_ + pace_.quiet_ns;
      return Step::none;
    }
    if (probes_ >= pace_.probes_before_dead) {
      *this = PathWatch(pace_);
      return Step::dead;
    }
    due_ns_ = now_ns + pace_.wait_ns.value_or(wait_ns(round_trip));
    return probes_++ == pace_.probes_before_rebind ? Step::rebind : Step::probe;
  }
  uint64_t next_deadline_ns() const { return due_ns_; }
  // More than one probe is unanswered.
  bool is_doubted() const { return probes_ > 1; }

 private:
  static constexpr uint64_t kNever = UINT64_MAX;

  Pace pace_ = kByProbes;
  bool is_open_ = false;     // something was sent that nothing heard has answered
  uint64_t asked_ns_ = 0;    // since then
  uint64_t due_ns_ = kNever;
  unsigned probes_ = 0;      // sent, and not answered
};

}  // namespace adit::client
