// The MTU of the outer path, found by padded probes that must not be cut (RFC 8899). A probe is an
// ordinary one, authenticated, and its answer is as long, so both directions are tried. Nothing is
// believed of ICMP, and nothing needed: a path that swallows what is too large is found out all the
// same.
//
//     the largest that may be ──answered──► done, after one round trip
//              │ unanswered
//              ▼
//     the base ──► halving what is left between the largest answered and the smallest that was not
//
// A size counts as too large when kTriesMax probes for it went unanswered. While packets flow, of
// any size, since acknowledgements may be all that leaves, the size in use is confirmed now and
// then; when that fails the search begins anew below it.
// Sizes are of IPv4 packets of the outer path. Values only; its owner sends the probes.
//
// Owner: Client.
#pragma once

#include <cstdint>
#include <optional>

namespace adit::client {

class PathMtu {
 public:
  // RFC 8899 §5.1.2: BASE_PLPMTU, and MAX_PROBES.
  static constexpr uint16_t kBaseBytes = 1200;
  static constexpr unsigned kTriesMax = 3;
  // Below it nothing is looked for: the inner packets that every host must take (RFC 791), wrapped.
  static constexpr uint16_t kLeastBytes = 576 + 60;
  // The search ends when it is as near as this.
  static constexpr uint16_t kNearBytes = 8;
  // How often the size in use is confirmed while packets flow, and a larger one is tried.
  static constexpr uint64_t kConfirmNs = 10'000'000'000;
  static constexpr uint64_t kRaiseNs = 600'000'000'000;

  // A new path: the largest size is tried first. What is in use stays until that is answered or
  // not, but for the first time, when it is the base.
  void start(uint64_t now_ns, uint16_t largest_bytes);
  void stop();

  struct Probe {
    uint16_t bytes;
    uint64_t stamp;  // the same for every try of a size: late answers count too
  };
  // The probe to send now, if any. `wait_ns`: how long an answer may take. `stamp`: any that is not
  // 0, and that no other probe has.
  std::optional<Probe> tick(uint64_t now_ns, uint64_t wait_ns, uint64_t stamp);
  uint64_t next_deadline_ns() const { return due_ns_; }
  // A probe was answered. True if it was one of these.
  bool on_reply(uint64_t stamp, uint64_t now_ns);
  // A probe could not be sent: it is larger than the link takes.
  void on_refused(uint64_t now_ns);
  // Nothing can be sent before `at_ns`.
  void postpone(uint64_t at_ns) {
    if (due_ns_ != kNever && due_ns_ < at_ns) due_ns_ = at_ns;
  }
  // A packet was sent.
  void on_traffic(uint64_t now_ns);

  // What the path carries, as far as is known.
  uint16_t bytes() const { return bytes_; }
  uint16_t bytes_max() const { return largest_; }
  bool is_searching() const { return candidate_ != 0 && !confirming_; }

 private:
  static constexpr uint64_t kNever = UINT64_MAX;

  void probe_for(uint16_t bytes, uint64_t now_ns);
  void on_too_large(uint64_t now_ns);
  void go_on(uint64_t now_ns);

  uint16_t bytes_ = kBaseBytes;
  uint16_t largest_ = 0;
  uint16_t carried_ = kLeastBytes;  // the largest known to be carried
  uint16_t refused_ = 0;            // the smallest known not to be; one above the largest at first
  uint16_t candidate_ = 0;          // probed for; 0: none
  bool confirming_ = false;         // the candidate is the size in use
  unsigned tries_ = 0;
  uint64_t stamp_ = 0;              // of the probes for the candidate; 0 once they are answered
  uint64_t due_ns_ = kNever;
  uint64_t raise_ns_ = kNever;      // when a larger one is tried
  uint64_t confirmed_ns_ = 0;
  bool has_traffic_ = false;        // since then
};

}  // namespace adit::client
