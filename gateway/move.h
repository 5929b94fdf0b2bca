// What a worker remembers while a tunnel is moved from one worker to another; move.cpp says how.
//
// Owner: a worker's Pipeline.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gateway/hand_off.h"
#include "lib/nat/nat.h"

namespace adit::gateway {

// X(name, what): why a tunnel has not been moved.
#define ADIT_MOVE_REFUSALS(X)                                    \
  X(gone, "it has gone")                                         \
  X(busy, "its worker has not done with another one")            \
  X(sessions, "it has more filter sessions than can be moved")   \
  X(sessions_full, "the other worker has no room for its filter sessions") \
  X(ports_stay, "it has low ports, which others share") \
  X(range_away, "another tunnel of its subscriber has its range of ports") \
  X(fragments, "fragments were on their way")                    \
  X(late, "a worker did not answer in time")

enum class MoveRefusal : uint8_t {
  none,
#define X(name, what) name,
  ADIT_MOVE_REFUSALS(X)
#undef X
};
const char* move_refusal_text(MoveRefusal refusal);

// So long the others' answers may take before the tunnel stays where it is.
inline constexpr uint64_t kMoveNsMax = 20'000'000;
// And so long the copying of its sessions, for which nobody waits: a full table's and the most that
// move, by a worker that comes round in a fifth of a millisecond.
inline constexpr uint64_t kCopyNsMax = 300'000'000;
// What a worker holds of a tunnel in a move, all in all: two milliseconds of a million packets a
// second.
inline constexpr unsigned kHeldForMoveMax = 2048;

// At the worker that gives a tunnel away: one at a time.
struct Departure {
  enum State : uint8_t { none, copying, asking, given, telling };
  State state = none;
  uint8_t to = 0;     // telling: whose it is now
  // Where remotes are filtered: whether `to` has been asked for room, and has said that there is.
  bool is_announced = false;
  bool has_room = false;
  uint32_t sessions = 0;  // for so many
  uint32_t slot = 0;
  uint32_t epoch = 0;   // of the tunnel; 0: the slot is nobody's, and goes home
  uint32_t number = 0;  // of the move, the control thread's
  uint64_t since_ns = 0;
  // A bit for each worker.
  uint64_t to_tell = 0;   // what the state is about, and who has not been told yet
  uint64_t unmarked = 0;  // whose packets may still be on their way here
};

// At the worker that is asked for room for sessions: an answer that is owed.
struct RoomAnswer {
  bool is_owed = false;
  uint8_t asker = 0;
  MoveRefusal refusal = MoveRefusal::none;
  uint32_t slot = 0;
  uint32_t number = 0;
};

// At any other worker.
struct Holding {
  enum State : uint8_t { none, asked, holding, letting_go };
  State state = none;
  uint8_t asker = 0;
  uint8_t owner = 0;  // letting_go: whose the tunnel is now
  bool owes_answer = false;  // to the asker: we have adopted it
  uint32_t slot = 0;
  uint32_t number = 0;
  std::vector<HandedPacket> packets;  // in order of arrival
  size_t gone = 0;                    // of them, the first ones
  // What the tunnel had when it became this worker's.
  std::array<nat::Subscriber::Block, nat::kBlocksMax> blocks{};

  Holding() { packets.reserve(kHeldForMoveMax); }
};

}  // namespace adit::gateway
