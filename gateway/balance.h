// Which tunnel should be moved to which worker, if any. Two reasons there are:
//
//   roamed      nearly all that it sends comes in at one other worker, and is handed over;
//   overloaded  its worker has hardly any idle time while another has much.
//
// Moves are few, for each has its price: what the card brings to the old worker is handed over from
// then on. So one is wished for a period at most; who has been moved stays for a while; an
// overloaded worker gives away what makes the two of them more even, and never what would only
// overload the other; and a tunnel moved for that reason is not moved back because it seems to have
// roamed.
//
// Pure: no clock, no thread. Owner: Control.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "gateway/samples.h"

namespace adit::gateway {

class Balance {
 public:
  static constexpr uint64_t kPeriodNs = 5'000'000'000;

  struct Wish {
    enum Reason : uint8_t { roamed, overloaded };
    uint32_t slot = 0;
    unsigned to = 0;
    Reason reason = roamed;
  };

  // `replies_stay`: a tunnel that has moved gets new ports where it was, as ever, so that all
  // replies come in there.
  explicit Balance(unsigned workers, bool replies_stay = false)
      : replies_stay_(replies_stay), seen_(workers) {}

  void note(unsigned worker, const Sample& sample);
  // At the end of a period: `busy` is each worker's share of it that was not idle, 0 to 1. Forgets
  // the period's samples.
  std::optional<Wish> decide(std::span<const double> busy, uint64_t now_ns);
  // The wish has been tried, whatever became of it.
  void rest(const Wish& wish, uint64_t now_ns);
  // The tunnel has closed: what is known of it does not concern the slot's next one.
  void forget(uint32_t slot);

 private:
  struct Seen {
    uint32_t packets = 0;
    uint32_t outbound = 0;
    uint32_t at_candidate = 0;  // of those, how many were received by it
    uint8_t candidate = 0;      // who received the first
  };
  std::optional<Wish> find_roamed(std::span<const double> busy) const;
  std::optional<Wish> find_overloaded(std::span<const double> busy) const;
  // What a tunnel takes of its worker's time.
  double load_of(unsigned worker, const Seen& seen, std::span<const double> busy) const;

  const bool replies_stay_;
  struct Worker {
    std::map<uint32_t, Seen> tunnels;  // by slot
    uint32_t packets = 0;
  };
  std::vector<Worker> seen_;
  struct Rest {
    uint64_t until_ns = 0;
    uint64_t roams_from_ns = 0;  // not for having roamed before that
  };
  std::map<uint32_t, Rest> resting_;  // by slot
  uint64_t now_ns_ = 0;
};

}  // namespace adit::gateway
