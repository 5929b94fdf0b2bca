// The control thread's part in moving tunnels (move.cpp): it says which goes where, one at a time,
// and waits for what the tunnel's report says of it. No message could tell it more safely: reports
// are never lost.
#include <rte_cycles.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "gateway/control.h"

namespace adit::gateway {

namespace {

constexpr uint64_t kBringHomeAgainNs = 100'000'000;  // one that was not let go

const char* reason(const std::optional<Balance::Wish>& wish) {
  if (!wish) return "";
  return wish->reason == Balance::Wish::roamed ? ": its packets come in there"
                                               : ", which has more time";
}

}  // namespace

const char* Control::move_tunnel(uint32_t slot, unsigned worker) {
  if (move_) return "another tunnel is being moved";
  if (worker >= links_.size()) return "there is no such worker";
  if (slot >= by_slot_.size() || by_slot_[slot] == nullptr) return "there is no such tunnel";
  if (owners_.of(slot) == worker) return "it is that worker's";
  // A worker that sends through another one's queue would be overtaken by it.
  if (!all_transmit_) return "a port has fewer queues than there are workers";
  return ask_to_move(slot, by_slot_[slot]->epoch, worker) ? nullptr : "its worker's ring is full";
}

bool Control::ask_to_move(uint32_t slot, uint32_t epoch, unsigned worker) {
  ToWorker message;
  message.kind = epoch != 0 ? ToWorker::move_tunnel : ToWorker::move_free_slot;
  message.slot = slot;
  message.epoch = epoch;
  message.port = static_cast<uint8_t>(worker);
  message.move_number = next_epoch_;
  Link& link = links_[owners_.of(slot)];
  if (!link.waiting.empty() || !link.to_worker->push(message)) return false;
  move_ = {.slot = slot,
           .epoch = epoch,
           .number = next_epoch_++,
           .to = worker,
           .wish = {},
           .untold = {}};
  return true;
}

void Control::follow_move(uint64_t now_ns) {
  if (!move_) return;
  const TunnelReport& report = tunnels_.report(move_->slot);
  if (report.move_answered.load(std::memory_order_acquire) != move_->number) return;
  const auto refusal =
      static_cast<MoveRefusal>(report.move_refusal.load(std::memory_order_relaxed));
  const Move move = *std::exchange(move_, std::nullopt);
  if (move.epoch == 0) {
    if (refusal == MoveRefusal::none) {
      owners_.set(move.slot, move.to);
    } else {
      bring_home_ns_ = now_ns + kBringHomeAgainNs;
    }
    return give_back(move.slot);
  }
  // It may have been closed meanwhile, which its worker hears of now.
  const Subscriber* const subscriber = by_slot_[move.slot];
  const std::string name = subscriber == nullptr ? "nobody" : subscriber->config->name;
  const unsigned from = owners_.of(move.slot);
  if (refusal == MoveRefusal::none) {
    owners_.set(move.slot, move.to);
    if (subscriber == nullptr && std::erase(free_slots_[from], move.slot) != 0) {
      free_slots_[move.to].push_back(move.slot);
    }
    ++counters_.tunnels_moved;
    spdlog::info("tunnel {} of {} moved from worker {} to worker {}{}", move.slot, name, from,
                 move.to, reason(move.wish));
  } else {
    ++counters_.moves_refused;
    spdlog::info("tunnel {} of {} stays with worker {}: {}", move.slot, name, from,
                 move_refusal_text(refusal));
  }
  if (move.wish && subscriber != nullptr && subscriber->epoch == move.epoch) {
    balance_.rest(*move.wish, now_ns);
  }
  for (const Move::Untold& untold : move.untold) {
    if (untold.to_others) {
      tell_others(untold.message, *untold.to_others);
    } else {
      tell_owner(untold.message);
    }
  }
}

// Nobody has it any more. With deterministic allocation a tunnel opens where its range is at home,
// in a slot that is at home there: one that is elsewhere, or has not arrived yet, goes home first.
void Control::give_back(uint32_t slot) {
  const bool is_far = is_moving(slot) || owners_.of(slot) != tunnels_.home(slot);
  if (is_far && config_.nat.allocation == Allocation::deterministic) {
    far_slots_.push_back(slot);
  } else {
    free_slots_[owners_.of(slot)].push_back(slot);
  }
}

// Its worker lets it go behind the range that was its tunnel's, and says so if that is still there.
void Control::bring_slot_home(uint64_t now_ns) {
  if (move_ || far_slots_.empty() || now_ns < bring_home_ns_) return;
  const uint32_t slot = far_slots_.front();
  const unsigned home = tunnels_.home(slot);
  if (owners_.of(slot) != home && !ask_to_move(slot, 0, home)) return;
  far_slots_.pop_front();
  if (!move_) give_back(slot);
}

// Looks at the workers' samples several times a period, so that it misses none, and at their idle
// time once.
void Control::balance(uint64_t now_ns) {
  constexpr unsigned kLooks = 10;
  if (now_ns - balance_at_ns_ < Balance::kPeriodNs / kLooks) return;
  balance_at_ns_ = now_ns;
  for (unsigned worker = 0; worker < links_.size(); ++worker) {
    links_[worker].samples->read(links_[worker].samples_seen, [&](const Sample& sample) {
      balance_.note(worker, sample);
    });
  }
  if (++balance_looks_ % kLooks != 0) return;
  const uint64_t cycles = rte_rdtsc();
  const auto elapsed = static_cast<double>(cycles - balanced_cycles_);
  balanced_cycles_ = cycles;
  std::vector<double> busy;
  for (Link& link : links_) {
    const uint64_t before = std::exchange(link.busy_cycles, link.counters->busy_cycles);
    busy.push_back(static_cast<double>(link.busy_cycles - before) / elapsed);
  }
  const std::optional<Balance::Wish> wish = balance_.decide(busy, now_ns);
  if (wish && move_tunnel(wish->slot, wish->to) == nullptr) move_->wish = wish;
}

}  // namespace adit::gateway
