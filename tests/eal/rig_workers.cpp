// The rig's workers: their rings, and what they come to together.
#include <rte_mbuf.h>

#include "tests/eal/rig.h"

namespace adit::gateway::test {

void Rig::sweep() {
  for (const Parts& parts : parts_) parts.pipeline->sweep(now_ns_);
  hand_round();
}

void Rig::deliver(unsigned worker, const ToWorker& message) {
  parts_[worker].pipeline->take(message, now_ns_);
  hand_round();
}

// Workers take over what others have handed them, until nobody has anything.
void Rig::hand_round() {
  if (parts_.size() == 1) return;
  for (unsigned worker = 0; worker < parts_.size(); ++worker) collect(worker);
  for (bool any = true; any;) {
    any = false;
    for (unsigned to = 0; to < parts_.size(); ++to) {
      for (unsigned from = 0; from < parts_.size(); ++from) {
        HandedPacket packets[kBurstMax];
        const unsigned count = from == to || still_ == to ? 0 : hand_off_->pop(from, to, packets);
        if (count == 0) continue;
        any = true;
        parts_[to].pipeline->take_over({packets, count}, now_ns_);
        collect(to);
      }
    }
  }
}

void Rig::go_on() {
  still_.reset();
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
      sent_[port].push_back(copy_of(queue.packets[i]));
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

}  // namespace adit::gateway::test
