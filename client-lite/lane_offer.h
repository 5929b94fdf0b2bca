// How many lanes to ask a gateway for while it has not answered. One from before there were lanes
// answers nobody who asks for several, as if it was not there. So every second initiation that
// stays unanswered is followed by one that asks for one lane, so soon that who answers it, but not
// the other, does not know lanes, and has not just come up.
//
//     all ──5 s──► all ──kDoubtNs──► one ──kOneNs──► all ──5 s──► all ──kDoubtNs──► one ...
//
// Values only.
//
// Owner: Client.
#pragma once

#include <cstdint>

namespace adit::client {

// What is known of a gateway: whether it has answered somebody who asked for several.
enum class LaneSense : uint8_t { unknown, has, lacks };

class LaneOffer {
 public:
  // More than a round trip. A gateway that takes longer, since it has much to do, asks for a cookie
  // first.
  static constexpr uint64_t kDoubtNs = 1'200'000'000;
  static constexpr uint64_t kOneNs = 4'000'000'000;

  explicit LaneOffer(unsigned lanes) : lanes_(lanes) {}

  // A gateway is tried.
  void begin(LaneSense sense) {
    *this = LaneOffer(lanes_);
    may_doubt_ = lanes_ > 1 && sense != LaneSense::has;
  }
  // An initiation was sent, for wanted().
  void on_initiation(uint64_t now_ns) {
    if (!may_doubt_) return;
    if (is_one_) {
      due_ns_ = now_ns + kOneNs;
    } else if (++asked_ % 2 == 0) {
      due_ns_ = now_ns + kDoubtNs;
    }
  }
  // It lives, and has much to do: the initiation that shows the cookie is waited for.
  void on_cookie_reply() { due_ns_ = kNever; }
  // It has answered, and is asked for wanted() from now on. What that tells of it.
  LaneSense on_answer() {
    may_doubt_ = false;
    due_ns_ = kNever;
    if (lanes_ == 1) return LaneSense::unknown;
    return is_one_ ? LaneSense::lacks : LaneSense::has;
  }

  // True: another number is wanted from now on.
  bool tick(uint64_t now_ns) {
    if (now_ns < due_ns_) return false;
    due_ns_ = kNever;
    is_one_ = !is_one_;
    return true;
  }
  uint64_t next_deadline_ns() const { return due_ns_; }

  unsigned wanted() const { return is_one_ ? 1 : lanes_; }

 private:
  static constexpr uint64_t kNever = UINT64_MAX;

  unsigned lanes_;
  bool may_doubt_ = false;
  bool is_one_ = false;
  unsigned asked_ = 0;  // for all of them, in vain
  uint64_t due_ns_ = kNever;
};

}  // namespace adit::client
