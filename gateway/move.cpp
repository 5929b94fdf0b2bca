// A tunnel is moved from its owner to another worker, with its blocks and mappings.
//
// Theory of operation. What there is of a tunnel stands in memory that all workers share: sessions,
// counters, mappings, the windows they stand in. It is its owner's to touch, and the owner is who a
// view says it is (ownership.h), of which each worker has its own. So nothing is copied. A move is
// a change of all views, made in such an order that at no time two workers take the tunnel for
// their own, and that no packet overtakes another of the same flow:
//
//   control  ── move_tunnel ──► A                    A owns the tunnel and goes on serving it
//      A     ── expect ───────► B                    where remotes are filtered (move_sessions.cpp):
//      B     ── expected ─────► A                    B keeps room for the tunnel's sessions, and
//      A     ── sessions ─────► B                    A copies them
//      A     ── leaving ──────► all others           each other worker W hands A what it has, then
//      W     ── mark ─────────► A                    a mark, and from there on holds what comes
//      A     ── sessions ─────► B                    when all have marked: what has changed of them
//      A     ── moved ────────► B                    A lets go, B adopts
//      B     ── adopted ──────► A
//      A     ── moved ────────► the others
//      W     what it has held, as if it had come now: to B
//
// All of these go through the rings that packets go through, in turn with them. Why that suffices:
//
//   - What W received before its mark is in front of the mark in the ring, and A has dealt with it
//     before it lets go, but for a heartbeat that waits for others (express_control.cpp), which it
//     hands to B when that has had its turn. What W received after is held until W has heard that B
//     is the owner. B, which is a W itself, knows it before anybody hands it anything, and deals
//     with what it has held before what is handed to it. So a flow that comes in at one worker
//     keeps its order, and no packet meets nobody or two.
//   - Replies keep coming to the worker whose slice their port lies in, for the card knows of no
//     moves. That worker's view of the window says "of this tunnel" from the move on, and so the
//     packet goes to the tunnel's owner, and waits when the owner changes, as above. Others hand
//     replies to that worker as ever: one way in, one way on.
//   - An empty block, or one whose tunnel has gone, goes home by a message from the worker that
//     kept it. It changes its view first; what it is still handed goes back the same way, behind
//     the message.
//   - A message must not be lost. None is sent where the ring has no room: A, W or B try again a
//     moment later, and until then nothing has changed. A gives up after kMoveNsMax, or when the
//     tunnel may not be moved after all: it says "moved, to A", which ends the holding.
//
// Nobody waits but the tunnel that is moved, and that for four passages through a ring. What a
// worker cannot hold is dropped as move_hold_full.
//
// A deterministic range is the tunnel's for as long as it is open, and goes home as soon as it has
// been closed, for its subscriber's next tunnel opens there. That one needs a slot which is at home
// there, too: so the slot goes home behind the range, by the same four passages, with nobody in it.
//
// What does not move: tunnels that have low ports, which are one worker's by definition. Fragments
// are followed where their first was: a tunnel moves when it has none on the way. Portless mappings
// are kept by one worker whoever has the tunnel, and expanded keys are made anew.
#include "gateway/move.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <utility>

#include "gateway/pipeline.h"

namespace adit::gateway {
namespace {

// Few enough at a time to find room in the transmit queue, and more than come meanwhile.
inline constexpr size_t kLetGoAtATime = 2 * kBurstMax;

uint64_t all_but(unsigned workers, unsigned worker) {
  return ~uint64_t{0} >> (64 - workers) & ~(uint64_t{1} << worker);
}

}  // namespace

const char* move_refusal_text(MoveRefusal refusal) {
  switch (refusal) {
    case MoveRefusal::none:
      break;
#define X(name, what)     \
  case MoveRefusal::name: \
    return what;
      ADIT_MOVE_REFUSALS(X)
#undef X
  }
  return "";
}

bool Pipeline::advance_moves(uint64_t now_ns) {
  if (departure_.state == Departure::none && holding_.state == Holding::none &&
      !room_answer_.is_owed) [[likely]] {
    return false;
  }
  set_time(now_ns);
  bool any = false;
  if (room_answer_.is_owed) any |= answer_whether_there_is_room();
  if (holding_.state == Holding::asked) any |= send_mark();
  if (holding_.owes_answer) any |= say_adopted();
  if (holding_.state == Holding::letting_go) any |= let_go_of_held();
  if (departure_.state == Departure::copying) any |= copy_sessions();
  if (departure_.state == Departure::asking) any |= ask_others();
  if (departure_.state == Departure::telling) any |= tell_others();
  return any;
}

// False: its ring has no room.
bool Pipeline::tell_worker(unsigned worker, const HandedPacket& message) {
  flush_hand_outbox(worker);  // what has been said before
  return hand_off_->push(worker_, worker, {&message, 1}) == 1;
}

bool Pipeline::tell_worker(unsigned worker, HandedPacket::Kind kind, uint32_t slot,
                           uint32_t number, unsigned about) {
  HandedPacket message;
  message.kind = kind;
  message.slot = slot;
  message.epoch = number;
  message.worker = static_cast<uint8_t>(about);
  return tell_worker(worker, message);
}

// Tells those of `to_tell` whose rings have room; true: somebody.
bool Pipeline::tell_of_departure(HandedPacket::Kind kind, unsigned about) {
  Departure& departure = departure_;
  const uint64_t before = departure.to_tell;
  for (unsigned worker = 0; worker < settings_.workers; ++worker) {
    const uint64_t bit = uint64_t{1} << worker;
    if ((departure.to_tell & bit) != 0 &&
        tell_worker(worker, kind, departure.slot, departure.number, about)) {
      departure.to_tell &= ~bit;
    }
  }
  return departure.to_tell != before;
}

void Pipeline::answer_move(uint32_t slot, uint32_t number, MoveRefusal refusal) {
  TunnelReport& report = tunnels_.report(slot);
  report.move_refusal.store(static_cast<uint8_t>(refusal), std::memory_order_relaxed);
  report.move_answered.store(number, std::memory_order_release);
}

// ---- The owner ----

void Pipeline::begin_move(const ToWorker& message) {
  const Tunnel& tunnel = tunnels_.at(message.slot);
  const bool is_free = message.kind == ToWorker::move_free_slot;
  if (is_free) close_tunnel(message);  // in case the message that closed it was lost
  MoveRefusal refusal = why_to_stay(tunnel, message.epoch);
  if (!is_free && !tunnel.active) refusal = MoveRefusal::gone;
  const bool is_busy = departure_.state != Departure::none || holding_.state != Holding::none;
  if (is_busy || nat_.has_orphans()) refusal = MoveRefusal::busy;
  if (refusal != MoveRefusal::none) return answer_move(message.slot, message.move_number, refusal);
  const uint64_t others = all_but(settings_.workers, worker_);
  const bool has_sessions = filter_ != nullptr && !is_free;
  departure_ = {.state = has_sessions ? Departure::copying : Departure::asking,
                .to = message.port,
                .slot = message.slot,
                .epoch = message.epoch,
                .number = message.move_number,
                .since_ns = now_ns_,
                .to_tell = others,
                .unmarked = others};
  if (has_sessions) departure_.sessions = filter_->begin_leaving(tunnel);
}

MoveRefusal Pipeline::why_to_stay(const Tunnel& tunnel, uint32_t epoch) const {
  if (tunnel.epoch != epoch) return MoveRefusal::gone;
  if (filter_ != nullptr && tunnel.filter_sessions > Filter::kMovableMax) {
    return MoveRefusal::sessions;
  }
  if (!nat_.may_move(tunnel.subscriber)) return MoveRefusal::ports_stay;
  if (!nat_.has_range(tunnel.subscriber)) return MoveRefusal::range_away;
  return MoveRefusal::none;
}

bool Pipeline::ask_others() {
  Departure& departure = departure_;
  MoveRefusal refusal = why_to_stay(tunnels_.at(departure.slot), departure.epoch);
  const bool is_late = now_ns_ - departure.since_ns > kMoveNsMax;
  const bool is_marked = departure.unmarked == 0;
  if (fragments_.has_any_of(departure.slot)) {
    // Their datagrams' others may be among what is held, once somebody has been asked.
    const bool nobody_knows = departure.to_tell == all_but(settings_.workers, worker_);
    if (nobody_knows && !is_late) return false;
    if (nobody_knows || is_marked) refusal = MoveRefusal::fragments;
  }
  if (refusal == MoveRefusal::none && is_late) refusal = MoveRefusal::late;
  if (refusal != MoveRefusal::none) {
    stay(refusal);
    return true;
  }
  if (!is_marked) return tell_of_departure(HandedPacket::leaving, worker_);
  const bool has_sessions = filter_ != nullptr && departure.epoch != 0;
  return has_sessions && !copy_what_has_changed() ? true : let_go();
}

// It does not move: those that have been asked may forget it.
void Pipeline::stay(MoveRefusal refusal) {
  Departure& departure = departure_;
  answer_move(departure.slot, departure.number, refusal);
  departure.state = Departure::telling;
  departure.to_tell = all_but(settings_.workers, worker_) & ~departure.to_tell;
  if (departure.is_announced) departure.to_tell |= uint64_t{1} << departure.to;
  departure.to = static_cast<uint8_t>(worker_);
  if (filter_ != nullptr) filter_->end_leaving();
}

// Everything that the others had for the tunnel has been dealt with.
bool Pipeline::let_go() {
  Departure& departure = departure_;
  flush_hand_outbox(departure.to);
  if (!hand_off_->has_room(worker_, departure.to)) return false;
  Tunnel& tunnel = tunnels_.at(departure.slot);
  nat_.leave(tunnel.subscriber);
  if (filter_ != nullptr) filter_->end_leaving();
  owners_.set(departure.slot, departure.to);
  for (const nat::Subscriber::Block& block : tunnel.subscriber.blocks) {
    if (block.ports == 0) continue;
    const bool is_own = nat_.is_own(block.first_unit());
    moved_ports_.set(block.first_unit(), block.units(), is_own ? tunnel.slot : 0);
  }
  tell_worker(departure.to, HandedPacket::moved, departure.slot, departure.number, departure.to);
  departure.state = Departure::given;
  return true;
}

void Pipeline::hear_adopted(const HandedPacket& handed) {
  Departure& departure = departure_;
  if (departure.state != Departure::given || departure.number != handed.epoch) return;
  departure.state = Departure::telling;
  departure.to_tell = all_but(settings_.workers, worker_) & ~(uint64_t{1} << departure.to);
}

bool Pipeline::tell_others() {
  const bool any = tell_of_departure(HandedPacket::moved, departure_.to);
  if (departure_.to_tell == 0) departure_.state = Departure::none;
  return any;
}

void Pipeline::hear_mark(const HandedPacket& handed) {
  const bool is_awaited = departure_.state == Departure::asking &&
                          departure_.slot == handed.slot && departure_.number == handed.epoch;
  if (is_awaited) departure_.unmarked &= ~(uint64_t{1} << handed.worker);
}

// ---- The others ----

// One at a time. Who does not answer is not waited for long, so that there is no harm in it.
void Pipeline::hear_leaving(const HandedPacket& handed) {
  if (holding_.state != Holding::none) return;
  holding_.state = Holding::asked;
  holding_.asker = handed.worker;
  holding_.slot = handed.slot;
  holding_.number = handed.epoch;
}

bool Pipeline::send_mark() {
  if (!tell_worker(holding_.asker, HandedPacket::mark, holding_.slot, holding_.number, worker_)) {
    return false;
  }
  owners_.set(holding_.slot, kOnTheMove);
  holding_.state = Holding::holding;
  return true;
}

Fate Pipeline::hold_for_move(const HandedPacket& packet) {
  if (holding_.packets.size() == kHeldForMoveMax && holding_.gone > 0) {
    holding_.packets.erase(holding_.packets.begin(),
                           holding_.packets.begin() + static_cast<long>(holding_.gone));
    holding_.gone = 0;
  }
  if (holding_.packets.size() == kHeldForMoveMax) {
    finish(Fate::move_hold_full, packet.mbuf);
  } else {
    holding_.packets.push_back(packet);
  }
  return Fate::taken;
}

void Pipeline::hear_moved(const HandedPacket& handed) {
  const bool is_it = holding_.slot == handed.slot && holding_.number == handed.epoch;
  if (handed.worker != worker_) forget_arrival(handed);
  if (holding_.state == Holding::asked && is_it) holding_.state = Holding::none;
  if (holding_.state != Holding::holding || !is_it) return;
  holding_.state = Holding::letting_go;
  holding_.owner = handed.worker;
  if (handed.worker != worker_) return;
  owners_.set(handed.slot, worker_);
  adopt(tunnels_.at(handed.slot));
  answer_move(handed.slot, handed.epoch, MoveRefusal::none);
  holding_.owes_answer = true;
  if (!holding_.packets.empty()) owners_.set(handed.slot, kOnTheMove);
}

// The tunnel is ours, and its packets wait: what comes to its ports, too, even in our own slice.
void Pipeline::adopt(Tunnel& tunnel) {
  if (!tunnel.active) return;  // nobody has the slot
  nat_.adopt(tunnel.subscriber);
  if (filter_ != nullptr) filter_->adopt(tunnel);
  std::ranges::copy(tunnel.subscriber.blocks, holding_.blocks.begin());
  for (const nat::Subscriber::Block& block : holding_.blocks) {
    if (block.ports != 0) moved_ports_.set(block.first_unit(), block.units(), tunnel.slot);
  }
  refresh_line(tunnel);
  ++counters_.tunnels_adopted;
}

bool Pipeline::say_adopted() {
  holding_.owes_answer = !tell_worker(holding_.asker, HandedPacket::adopted, holding_.slot,
                                      holding_.number, worker_);
  return !holding_.owes_answer;
}

// What has been held is dealt with as if it had come now; what comes meanwhile waits behind it.
bool Pipeline::let_go_of_held() {
  Holding& holding = holding_;
  owners_.set(holding.slot, holding.owner);
  const size_t end = std::min(holding.gone + kLetGoAtATime, holding.packets.size());
  for (; holding.gone < end; ++holding.gone) take_one_over(holding.packets[holding.gone]);
  if (holding.gone < holding.packets.size()) {
    owners_.set(holding.slot, kOnTheMove);
  } else if (!holding.owes_answer) {
    end_holding();
  } else {
    return false;
  }
  return true;
}

// Nothing waits any more. In our own slice the tunnel's ports are like any others again.
void Pipeline::end_holding() {
  Holding& holding = holding_;
  for (const nat::Subscriber::Block& block : std::exchange(holding.blocks, {})) {
    const uint32_t unit = block.first_unit();
    const bool is_own = block.ports != 0 && nat_.is_own(unit);
    if (is_own && moved_ports_.tunnel_of(unit) == holding.slot) {
      moved_ports_.set(unit, block.units(), 0);
    }
  }
  holding.packets.clear();
  holding.gone = 0;
  holding.state = Holding::none;
}

// ---- Blocks that go home ----

// Of what the translator's sweep has found, a block at a time.
void Pipeline::send_block_home() {
  const std::optional<nat::Nat::ForeignBlock> block = nat_.homesick();
  if (!block) return;
  const unsigned home = settings_.shares[block->unit % nat::kUnitsPerAddress];
  flush_hand_outbox(home);
  if (!hand_off_->has_room(worker_, home)) return;  // the sweep comes by again
  const uint32_t slot = moved_ports_.tunnel_of(block->unit);
  moved_ports_.set(block->unit, block->units, 0);
  nat_.send_home(*block);
  const Tunnel& tunnel = tunnels_.at(slot);
  if (tunnel.active && is_ours(tunnel)) refresh_line(tunnel);
  tell_worker(home, HandedPacket::block_home, block->unit, block->units, worker_);
}

void Pipeline::hear_block_home(const HandedPacket& handed) {
  moved_ports_.set(handed.slot, handed.epoch, 0);
  nat_.take_back(handed.slot);
}

}  // namespace adit::gateway
