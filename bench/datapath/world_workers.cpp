// Several workers, which take turns on one core, and the network card that packets come to them by.
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <unordered_set>

#include "bench/datapath/world.h"

namespace adit::bench {

using gateway::kBurstMax;

// A tunnel is the worker's to whom the card brings its first packet: it gets that one's next slot.
void World::place_tunnels() {
  const unsigned workers = options_.workers;
  std::vector<uint32_t> next(workers, 1);
  for (uint32_t tunnel = 0; tunnel < tunnels_count_; ++tunnel) {
    const unsigned owner = workers == 1 ? 0 : uplink_card_->queue_of(first_frame(tunnel));
    uint32_t& slot = next[owner];
    while (slot < tunnels_->slots() && tunnels_->home(slot) != owner) ++slot;
    if (slot == tunnels_->slots()) throw std::runtime_error("a worker has too few slots");
    tunnel_of_[slot] = tunnel;
    slots_.push_back(slot++);
  }
}

// Where a buffer's packet comes in.
unsigned World::receiver_of(size_t buffer, unsigned from) const {
  if (!options_.steered) return static_cast<unsigned>(buffer % parts_.size());
  const rte_mbuf* const mbuf = buffers_[buffer];
  const std::span frame(rte_pktmbuf_mtod(mbuf, const uint8_t*), rte_pktmbuf_data_len(mbuf));
  return (from == kUplinkPort ? uplink_card_ : public_card_)->queue_of(frame);
}

// The workers take turns, a burst each; what is taken over is its owner's work.
uint64_t World::run_workers(unsigned from, unsigned to) {
  std::vector<std::vector<rte_mbuf*>> queues(parts_.size());
  for (size_t i = 0; i < kPackets; ++i) queues[receiver_of(i, from)].push_back(buffers_[i]);
  uint64_t cycles = 0;
  size_t begin = 0;
  for (bool more = true; more; begin += kBurstMax) {
    more = false;
    for (size_t worker = 0; worker < parts_.size(); ++worker) {
      gateway::Pipeline& pipeline = *parts_[worker].pipeline;
      gateway::HandedPacket handed[kBurstMax];
      const uint64_t start = rte_rdtsc_precise();
      for (unsigned other = 0; other < parts_.size(); ++other) {
        const unsigned count =
            other == worker ? 0 : hand_off_->pop(other, static_cast<unsigned>(worker), handed);
        if (count == 0) continue;
        more = true;
        pipeline.take_over(other, {handed, count}, now_ns_);
        take_sent(pipeline, to);
      }
      std::vector<rte_mbuf*>& queue = queues[worker];
      if (begin < queue.size()) {
        more = true;
        const size_t count = std::min<size_t>(kBurstMax, queue.size() - begin);
        pipeline.run(from, {&queue[begin], count}, now_ns_);
        take_sent(pipeline, to);
        pipeline.flush_hand_off();
      }
      cycles += rte_rdtsc_precise() - start;
    }
  }
  return cycles;
}

// In the order of the buffers, which are what has been sent.
void World::sort_sent() {
  std::unordered_set<const rte_mbuf*> seen(sent_.begin(), sent_.end());
  for (const rte_mbuf* buffer : buffers_) {
    if (!seen.contains(buffer)) throw std::runtime_error("a packet was not sent");
  }
  std::ranges::copy(buffers_, sent_.begin());
}

}  // namespace adit::bench
