// The part of a move (move.cpp) that there is only where remotes are filtered: the tunnel's
// sessions are copied from the old worker's table to the new one's (filter_moving.cpp).
//
// The new worker is asked first whether it has room, and keeps it. Then a buffer of sessions goes
// over in each round of the old worker's loop, while it serves the tunnel and everybody else. Not
// before they are all there do the others hear of the move, so that nobody waits for it. What has
// changed since then, a session opened or seen in another second, goes in front of the tunnel
// itself; if that is much, the loop comes round once more.
#include <rte_mbuf.h>

#include "gateway/pipeline.h"

namespace adit::gateway {
namespace {

constexpr unsigned kRecordsABuffer = 64;
constexpr unsigned kLastBuffers = 4;  // in front of the tunnel, in one round of the loop

}  // namespace

// ---- The owner ----

bool Pipeline::copy_sessions() {
  Departure& departure = departure_;
  MoveRefusal refusal = why_to_stay(tunnels_.at(departure.slot), departure.epoch);
  const uint64_t limit_ns = departure.has_room ? kCopyNsMax : kMoveNsMax;
  const bool is_late = now_ns_ - departure.since_ns > limit_ns;
  if (refusal == MoveRefusal::none && is_late) refusal = MoveRefusal::late;
  if (refusal != MoveRefusal::none) {
    stay(refusal);
    return true;
  }
  if (!departure.is_announced) {
    HandedPacket message;
    message.kind = HandedPacket::expect;
    message.slot = departure.slot;
    message.epoch = departure.number;
    message.worker = static_cast<uint8_t>(worker_);
    message.count = departure.sessions;
    return departure.is_announced = tell_worker(departure.to, message);
  }
  if (!departure.has_room) return false;
  if (!filter_->gather()) return true;
  if (!filter_->is_all_told()) return send_sessions();
  departure.state = Departure::asking;
  departure.since_ns = now_ns_;
  return true;
}

void Pipeline::hear_expected(const HandedPacket& handed) {
  const bool is_awaited = departure_.state == Departure::copying &&
                          departure_.slot == handed.slot && departure_.number == handed.epoch;
  if (!is_awaited) return;
  const auto refusal = static_cast<MoveRefusal>(handed.reason);
  if (refusal != MoveRefusal::none) return stay(refusal);
  departure_.has_room = true;
}

// True: there is nothing more, and the tunnel may follow at once.
bool Pipeline::copy_what_has_changed() {
  filter_->tell_again();
  for (unsigned i = 0; i < kLastBuffers && !filter_->is_all_told(); ++i) {
    if (!send_sessions()) return false;
  }
  if (!filter_->is_all_told()) return false;
  if (!filter_->has_outgrown()) return true;
  stay(MoveRefusal::sessions_full);
  return false;
}

// One buffer of those that are next. False: there is no room for it now.
bool Pipeline::send_sessions() {
  flush_hand_outbox(departure_.to);
  rte_mbuf* const mbuf = hand_off_->has_room(worker_, departure_.to) ? new_packet() : nullptr;
  if (mbuf == nullptr) return false;
  auto* const records = rte_pktmbuf_mtod(mbuf, Filter::Record*);
  HandedPacket message;
  message.kind = HandedPacket::sessions;
  message.slot = departure_.slot;
  message.epoch = departure_.number;
  message.mbuf = mbuf;
  message.count = filter_->tell({records, kRecordsABuffer});
  if (message.count == 0) {
    forget_buffer(mbuf);
    return true;
  }
  hand_off_->push(worker_, departure_.to, {&message, 1});
  ++counters_.handed_over;
  return true;
}

// ---- The worker that it goes to ----

void Pipeline::hear_expect(const HandedPacket& handed) {
  room_answer_ = {.is_owed = true,
                  .asker = handed.worker,
                  .slot = handed.slot,
                  .number = handed.epoch};
  const bool is_busy = departure_.state != Departure::none || holding_.state != Holding::none ||
                       filter_->is_expecting();
  if (is_busy) {
    room_answer_.refusal = MoveRefusal::busy;
  } else if (!filter_->expect(handed.slot, handed.epoch, handed.count)) {
    room_answer_.refusal = MoveRefusal::sessions_full;
  }
}

bool Pipeline::answer_whether_there_is_room() {
  HandedPacket message;
  message.kind = HandedPacket::expected;
  message.slot = room_answer_.slot;
  message.epoch = room_answer_.number;
  message.reason = static_cast<uint8_t>(room_answer_.refusal);
  room_answer_.is_owed = !tell_worker(room_answer_.asker, message);
  return !room_answer_.is_owed;
}

void Pipeline::hear_sessions(const HandedPacket& handed) {
  if (filter_->is_expecting(handed.slot, handed.epoch)) {
    filter_->take({rte_pktmbuf_mtod(handed.mbuf, const Filter::Record*), handed.count});
  }
  forget_buffer(handed.mbuf);
}

// It is no packet, and has come to nobody.
void Pipeline::forget_buffer(rte_mbuf* mbuf) {
  ++counters_.consumed;
  rte_pktmbuf_free(mbuf);
}

// The tunnel does not come after all.
void Pipeline::forget_arrival(const HandedPacket& handed) {
  if (filter_ != nullptr && filter_->is_expecting(handed.slot, handed.epoch)) {
    filter_->end_arriving();
  }
}

}  // namespace adit::gateway
