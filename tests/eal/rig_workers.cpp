// The rig's workers: their rings, and what they come to together.
#include <rte_mbuf.h>

#include "tests/eal/rig.h"

namespace adit::gateway::test {

void Rig::run(unsigned worker, unsigned port, std::span<rte_mbuf*> packets) {
  const NoAllocation scope;
  parts_[worker].pipeline->run(port, packets, now_ns_);
}

void Rig::take(unsigned worker, const ToWorker& message) {
  const NoAllocation scope;
  parts_[worker].pipeline->take(message, now_ns_);
}

void Rig::sweep() {
  {
    const NoAllocation scope;
    for (const Parts& parts : parts_) parts.pipeline->sweep(now_ns_);
  }
  hand_round();
}

void Rig::deliver(unsigned worker, const ToWorker& message) {
  take(worker, message);
  hand_round();
}

void Rig::deliver(unsigned worker, const Reply& reply) {
  {
    const NoAllocation scope;
    parts_[worker].pipeline->take({&reply, 1}, now_ns_);
  }
  hand_round();
}

// Workers take over what others have handed them, until nobody has anything.
void Rig::hand_round() {
  if (parts_.size() == 1) return;
  for (unsigned worker = 0; worker < parts_.size(); ++worker) collect(worker);
  if (by_steps_) return;
  for (bool any = true; any;) {
    any = false;
    for (unsigned to = 0; to < parts_.size(); ++to) {
      if (still_ == to) continue;
      for (unsigned from = 0; from < parts_.size(); ++from) any |= take_over(to, from, kBurstMax);
      any |= advance_moves(to);
    }
  }
}

bool Rig::take_over(unsigned to, unsigned from, unsigned most) {
  HandedPacket packets[kBurstMax];
  const unsigned count = from == to ? 0 : hand_off_->pop(from, to, std::span(packets).first(most));
  if (count == 0) return false;
  {
    const NoAllocation scope;
    parts_[to].pipeline->take_over(from, {packets, count}, now_ns_);
  }
  collect(to);
  return true;
}

bool Rig::advance_moves(unsigned worker) {
  bool has_advanced;
  {
    const NoAllocation scope;
    has_advanced = parts_[worker].pipeline->advance_moves(now_ns_);
  }
  if (!has_advanced) return false;
  collect(worker);
  return true;
}

void Rig::move(uint32_t slot, unsigned worker) {
  ToWorker message;
  message.kind = ToWorker::move_tunnel;
  message.epoch = tunnels_->report(slot).epoch.load();
  ask_to_move(message, slot, worker);
}

void Rig::move_free_slot(uint32_t slot, unsigned worker) {
  ToWorker message;
  message.kind = ToWorker::move_free_slot;
  ask_to_move(message, slot, worker);
}

void Rig::ask_to_move(ToWorker message, uint32_t slot, unsigned worker) {
  message.slot = slot;
  message.port = static_cast<uint8_t>(worker);
  message.move_number = ++moves_;
  asked_[slot] = {moves_, worker};
  tell(message);
}

std::optional<MoveRefusal> Rig::answer_to_move(uint32_t slot) {
  const TunnelReport& report = tunnels_->report(slot);
  if (report.move_answered.load() != asked_[slot].number) return std::nullopt;
  const auto refusal = static_cast<MoveRefusal>(report.move_refusal.load());
  if (refusal == MoveRefusal::none) owners_[slot] = asked_[slot].worker;
  return refusal;
}

unsigned Rig::owner_of(uint32_t slot) const {
  return owners_[slot].value_or(tunnels_->home(slot));
}

void Rig::go_on() {
  still_.reset();
  by_steps_ = false;
  hand_round();
}

unsigned Rig::queue_of(unsigned port, const Bytes& ip_packet) const {
  return nics_[port].queue_of(frame_of(ip_packet, kEtherTypeIpv4, settings_.ports[port].vlan));
}

// What a worker does at the end of a burst.
void Rig::collect(unsigned worker) {
  Pipeline& pipeline = *parts_[worker].pipeline;
  pipeline.flush_hand_off();
  for (unsigned port = 0; port < settings_.ports.size(); ++port) {
    TxQueue& queue = pipeline.tx(port);
    for (unsigned i = 0; i < queue.count; ++i) {
      sent_[port].push_back(on_the_wire(queue.packets[i]));
      rte_pktmbuf_free(queue.packets[i]);
    }
    counters_.transmitted += queue.count;
    queue.count = 0;
  }
  Pipeline::ControlOutbox& outbox = pipeline.control_outbox();
  for (unsigned i = 0; i < outbox.count; ++i) {
    if (outbox.items[i].packet != nullptr) ++counters_.handed_out;
    take_told(worker, outbox.items[i]);
  }
  outbox.count = 0;
}

nat::Nat::Counts Rig::nat_counts() const {
  nat::Nat::Counts sum;
  for (const Parts& parts : parts_) sum += parts.nat->counts();
  return sum;
}

uint64_t Rig::granted_entries() const {
  uint64_t sum = 0;
  for (const Parts& parts : parts_) sum += parts.nat->granted_entries();
  return sum;
}

unsigned Rig::portless_live() const {
  unsigned sum = 0;
  for (const Parts& parts : parts_) sum += parts.portless->live();
  return sum;
}

unsigned Rig::fragmented_datagrams() const {
  unsigned sum = 0;
  for (const Parts& parts : parts_) sum += parts.fragments->datagrams();
  return sum;
}

unsigned Rig::held_fragments() const {
  unsigned sum = 0;
  for (const Parts& parts : parts_) sum += parts.fragments->held();
  return sum;
}

unsigned Rig::sessions_live() const {
  unsigned sum = 0;
  for (const Parts& parts : parts_) sum += parts.filter->live();
  return sum;
}

}  // namespace adit::gateway::test
