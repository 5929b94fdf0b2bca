// Whether the NATs on the way keep a binding through so much silence (RFC 5780 section 4.6), tried
// on a socket beside the tunnel's, the canary, so that the tunnel itself is never at risk. Since
// what the canary sends would make a binding anew, the question comes from the tunnel's socket, and
// the gateway answers to where the canary was last seen, its mark (docs/protocol.md):
//
//     knows    does the gateway know marks at all? Asked from the tunnel's socket
//     mark     the canary's own binding; answered there
//     check    the question, at once: nothing else is in its way
//     warm up  for a NAT that has longer patience with a flow once it has lasted a little
//     refresh  marked again: from here on the canary is silent
//     silence
//     ask      the question. Answered: the binding was kept
//     mark,    else once more: if these are answered now, the binding was forgotten, and if not,
//     check    something else was wrong and nothing is known
//
// All but the silences are exchanges: sent again until the answer comes, a few times.
// Values only; its owner sends.
//
// Owner: Client.
#pragma once

#include <cstdint>

namespace adit::client {

class BindingTest {
 public:
  // With a loss of 5 % in each direction all of them are lost once in ten thousand times.
  static constexpr unsigned kTries = 4;
  // Linux counts a flow as lasting after two seconds.
  static constexpr uint64_t kWarmUpNs = 3'000'000'000;

  enum class Send : uint8_t {
    nothing,
    mark_from_tunnel,  // kProbeMark from the tunnel's socket, answered there
    mark_from_canary,  // kProbeMark from the canary, answered there
    question,          // kProbeToMark from the tunnel's socket, answered at the canary
  };
  enum class Outcome : uint8_t {
    none,  // under way, or none began
    kept,
    forgotten,
    unknown,      // an exchange failed that has nothing to do with silence
    unsupported,  // the gateway knows no marks
  };

  void begin(uint64_t now_ns, uint64_t silence_ns) {
    silence_ns_ = silence_ns;
    outcome_ = Outcome::none;
    enter(Stage::knows, now_ns);
  }
  void stop() { *this = BindingTest{}; }
  bool is_running() const { return stage_ != Stage::idle; }

  // What is to be sent at next_deadline_ns(), with stamp(). `random` is any 64 random bits;
  // `wait_ns` how long an answer takes at most.
  Send tick(uint64_t now_ns, uint64_t wait_ns, uint64_t random) {
    if (now_ns < due_ns_) return Send::nothing;
    if (stage_ == Stage::warm_up || stage_ == Stage::silence) advance(now_ns);
    if (tries_ == kTries) on_unanswered(now_ns);
    if (!is_running()) return Send::nothing;
    if (tries_++ == 0) stamp_ = random;
    due_ns_ = now_ns + wait_ns;
    return send_of(stage_);
  }
  uint64_t next_deadline_ns() const { return due_ns_; }
  uint64_t stamp() const { return stamp_; }

  // A probe's answer came, at the canary or at the tunnel's socket. Returns whether it was awaited.
  bool on_reply(uint64_t stamp, bool at_canary, uint64_t now_ns) {
    if (send_of(stage_) == Send::nothing || tries_ == 0 || stamp != stamp_) return false;
    if (at_canary == (stage_ == Stage::knows)) return false;
    advance(now_ns);
    return true;
  }

  // How the last test ended, once.
  Outcome take_outcome() {
    const Outcome outcome = outcome_;
    outcome_ = Outcome::none;
    return outcome;
  }

 private:
  enum class Stage : uint8_t {
    idle,
    knows,
    mark,
    check,
    warm_up,
    refresh,
    silence,
    ask,
    mark_again,
    check_again
  };
  static constexpr uint64_t kNever = UINT64_MAX;

  static Send send_of(Stage stage) {
    switch (stage) {
      case Stage::knows:
        return Send::mark_from_tunnel;
      case Stage::mark:
      case Stage::refresh:
      case Stage::mark_again:
        return Send::mark_from_canary;
      case Stage::check:
      case Stage::ask:
      case Stage::check_again:
        return Send::question;
      case Stage::idle:
      case Stage::warm_up:
      case Stage::silence:
        break;
    }
    return Send::nothing;
  }
  void enter(Stage stage, uint64_t due_ns) {
    stage_ = stage;
    due_ns_ = due_ns;
    tries_ = 0;
  }
  void end(Outcome outcome) {
    outcome_ = outcome;
    enter(Stage::idle, kNever);
  }
  // The stage is over as it should be.
  void advance(uint64_t now_ns) {
    switch (stage_) {
      case Stage::idle:
        return;
      case Stage::knows:
        return enter(Stage::mark, now_ns);
      case Stage::mark:
        return enter(Stage::check, now_ns);
      case Stage::check:
        return enter(Stage::warm_up, now_ns + kWarmUpNs);
      case Stage::warm_up:
        return enter(Stage::refresh, now_ns);
      case Stage::refresh:
        return enter(Stage::silence, now_ns + silence_ns_);
      case Stage::silence:
        return enter(Stage::ask, now_ns);
      case Stage::ask:
        return end(Outcome::kept);
      case Stage::mark_again:
        return enter(Stage::check_again, now_ns);
      case Stage::check_again:
        return end(Outcome::forgotten);
    }
  }
  void on_unanswered(uint64_t now_ns) {
    if (stage_ == Stage::ask) return enter(Stage::mark_again, now_ns);
    end(stage_ == Stage::knows ? Outcome::unsupported : Outcome::unknown);
  }

  Stage stage_ = Stage::idle;
  Outcome outcome_ = Outcome::none;
  unsigned tries_ = 0;  // of this stage's exchange
  uint64_t stamp_ = 0;
  uint64_t silence_ns_ = 0;
  uint64_t due_ns_ = kNever;
};

}  // namespace adit::client
