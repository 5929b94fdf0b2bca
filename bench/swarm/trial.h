// What a trial is asked for, and what it finds.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/swarm/frames.h"
#include "bench/swarm/latency.h"

namespace adit::bench {

inline constexpr unsigned kSendBurst = 32;

struct TrialOptions {
  std::array<bool, kDirections> directions = {true, true};
  double rate_pps = 1e6;  // of all directions together; 0: as fast as it goes
  unsigned burst = 1;      // at once, of a direction, at least; up to 32 where so many are due
  double seconds = 1;
  std::vector<uint16_t> inner_bytes = {64};  // of the flows, in turn
  bool storm = false;  // those who have held back come now
  uint32_t connecting = 0;       // at a time; 0: as many as ever
  bool until_connected = false;  // it ends when all have come, if not before
  bool rests = false;  // where nothing is due, whoever shares our core has it
  double flood_pps = 0;  // of handshakes that nobody means, beside the packets
  double roams_per_s = 0;   // clients that go on at another address and port
  double leaves_per_s = 0;  // clients that are gone without a word, and soon come back anew

  // {"direction": "both", "rate_mpps": 1.5, "seconds": 1, "inner_bytes": [64], "roam": 2,
  // "churn": 1}; throws std::runtime_error.
  static TrialOptions from_json(const nlohmann::json& words);
};

struct TrialResult {
  struct Counts {
    uint64_t sent = 0;
    uint64_t refused = 0;  // by a port that was full: to the one in the middle, a loss
    uint64_t skipped = 0;  // due, but we were too slow
    uint64_t received = 0;
    uint64_t reordered = 0;  // or doubled
  };
  std::array<Counts, kDirections> counts;
  uint64_t wrong = 0;
  uint64_t spoilt = 0;  // on purpose
  uint64_t late = 0;    // sent in an earlier trial
  std::string first_wrong;
  double seconds = 0;
  uint32_t connected = 0;        // clients that got their tunnel and address in this trial
  double connecting_seconds = 0; // until the last of them
  Latency connecting;            // of each, from its first packet on
  uint64_t flood_sent = 0;
  uint64_t flood_skipped = 0;   // due, but we were too slow, or the port was full
  uint64_t flood_answered = 0;  // by cookies
  uint32_t roamed = 0;
  uint32_t left = 0;
  uint32_t returned = 0;    // with a session and an address
  uint64_t lost_to_roaming = 0;  // right, but at the place where their client had been
  uint64_t lost_to_churn = 0;    // right, but their client was gone, or had begun anew
  uint64_t unsent = 0;           // due, but their client was gone
  double idle_share = 0;  // of our own rounds' time: nothing came and nothing was due
  Latency latency;

  uint64_t total(uint64_t Counts::*what) const { return counts[0].*what + counts[1].*what; }
  // Not received, of what was sent or refused; what it is known of that its client was not there
  // any more is not among it.
  uint64_t lost() const {
    return total(&Counts::sent) + total(&Counts::refused) - total(&Counts::received) -
           lost_to_roaming - lost_to_churn;
  }
  nlohmann::json to_json() const;
};

}  // namespace adit::bench
