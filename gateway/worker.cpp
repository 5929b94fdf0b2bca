#include "gateway/worker.h"

#include <rte_ethdev.h>
#include <rte_pause.h>
#include <sys/prctl.h>

#include <algorithm>

namespace adit::gateway {
namespace {

inline constexpr uint64_t kSweepPeriodNs = 1'000'000;

// Adaptive idling: sleep, a small share of the time that nothing has come for, so that it hardly
// shows in a round trip where no packet can end it. There it is preceded by spinning, for the next
// packet of a flow comes soon. Where one ends it, spinning would only keep others from the core,
// and who has just been sent a packet may be waiting for it.
inline constexpr uint64_t kSpinNs = 100'000;
inline constexpr uint64_t kSleptShare = 64;
inline constexpr uint64_t kShortestSleepNs = 20'000;
inline constexpr uint64_t kLongestSleepNs = 250'000;
inline constexpr unsigned long kTimerSlackNs = 1'000;  // instead of Linux's 50 µs

// For the log, and lost when there is no room for it.
bool is_event(ToControl::Kind kind) {
  return kind == ToControl::block_granted || kind == ToControl::block_returned ||
         kind == ToControl::limit_met;
}

std::vector<int> sockets_of(const std::vector<Worker::Queue>& queues) {
  std::vector<int> sockets;
  for (const Worker::Queue& queue : queues) {
    if (queue.is_ours && queue.socket >= 0) sockets.push_back(queue.socket);
  }
  return sockets;
}

// Whether whatever is received ends the worker's sleep.
bool is_woken_by_all(const std::vector<Worker::Queue>& queues) {
  return std::ranges::all_of(queues, [](const Worker::Queue& queue) {
    return !queue.is_ours || queue.socket >= 0;
  });
}

}  // namespace

Worker::Worker(Pipeline& pipeline, Counters& counters, std::vector<Queue> queues, unsigned index,
               HandOff* hand_off, Channel<ToWorker>& from_control, Channel<Reply>& replies,
               Channel<ToControl>& to_control, Channel<ToControl>& handshakes, bool adaptive)
    : pipeline_(pipeline),
      counters_(counters),
      queues_(std::move(queues)),
      index_(index),
      hand_off_(hand_off),
      from_control_(from_control),
      replies_(replies),
      to_control_(to_control),
      handshakes_(handshakes),
      adaptive_(adaptive),
      spin_ns_(hand_off == nullptr && is_woken_by_all(queues_) ? 0 : kSpinNs),
      wait_(sockets_of(queues_)) {}

void Worker::run() {
  if (adaptive_) prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  busy_at_ns_ = clock_.now_ns();
  while (!stopping_.load(std::memory_order_relaxed)) {
    const uint64_t now_ns = clock_.now_ns();
    bool busy = take_messages(now_ns);
    busy |= run_waiting(now_ns);
    busy |= receive(now_ns);
    if (hand_off_ != nullptr) busy |= take_over(now_ns) | advance_moves(now_ns);
    sweep_when_due(now_ns);
    ++counters_.loops;
    if (busy) {
      ++counters_.busy_loops;
      counters_.busy_cycles += rte_rdtsc() - clock_.cycles();
    }
    rest(busy, now_ns);
  }
  while (take_messages(clock_.now_ns())) {
  }
  pipeline_.drain();
}

bool Worker::take_the_rest() {
  const uint64_t now_ns = clock_.now_ns();
  const bool any = hand_off_ != nullptr && (take_over(now_ns) | advance_moves(now_ns));
  pipeline_.drain();
  return any;
}

bool Worker::receive(uint64_t now_ns) {
  bool busy = false;
  rte_mbuf* packets[kBurstMax];
  for (unsigned port = 0; port < queues_.size(); ++port) {
    if (!queues_[port].is_ours) continue;
    const uint16_t count =
        rte_eth_rx_burst(queues_[port].ethdev, queues_[port].queue, packets, kBurstMax);
    if (count == 0) continue;
    busy = true;
    pipeline_.run(port, {packets, count}, now_ns);
    flush();
  }
  return busy;
}

bool Worker::run_waiting(uint64_t now_ns) {
  if (!pipeline_.run_waiting(now_ns)) return false;
  flush();
  return true;
}

bool Worker::take_messages(uint64_t now_ns) {
  const unsigned count = from_control_.pop(taken_messages_);
  for (unsigned i = 0; i < count; ++i) pipeline_.take(taken_messages_[i], now_ns);
  const unsigned replied = replies_.pop(taken_replies_);
  if (replied > 0) pipeline_.take(std::span(taken_replies_).first(replied), now_ns);
  const bool any = count + replied > 0;
  if (any) flush();
  return any;
}

bool Worker::take_over(uint64_t now_ns) {
  bool busy = false;
  for (unsigned other = 0; other < hand_off_->workers(); ++other) {
    if (other == index_) continue;
    const unsigned count = hand_off_->pop(other, index_, taken_packets_);
    if (count == 0) continue;
    busy = true;
    pipeline_.take_over(other, std::span(taken_packets_).first(count), now_ns);
    flush();
  }
  return busy;
}

bool Worker::advance_moves(uint64_t now_ns) {
  if (!pipeline_.advance_moves(now_ns)) return false;
  flush();
  return true;
}

void Worker::flush() {
  for (unsigned port = 0; port < queues_.size(); ++port) {
    TxQueue& queue = pipeline_.tx(port);
    if (queue.count == 0) continue;
    if (!queues_[port].is_ours) {
      for (unsigned i = 0; i < queue.count; ++i) {
        pipeline_.hand_frame_to_send(port, queue.packets[i], queues_[port].queue);
      }
      queue.count = 0;
      continue;
    }
    transmit(queues_[port], std::span(queue.packets).first(queue.count));
    queue.count = 0;
  }
  pipeline_.flush_hand_off();
  flush_control();
}

void Worker::transmit(const Queue& queue, std::span<rte_mbuf*> frames) {
  unsigned lost = 0;
  if (queue.sender != nullptr) {
    const KernelSender::Outcome outcome = queue.sender->send(frames);
    counters_.transmitted += outcome.sent;
    lost = outcome.lost;
    frames = frames.first(outcome.left);
  }
  if (!frames.empty()) {
    const uint16_t sent = rte_eth_tx_burst(queue.ethdev, queue.queue, frames.data(),
                                           static_cast<uint16_t>(frames.size()));
    counters_.transmitted += sent;
    frames = frames.subspan(sent);
    lost += static_cast<unsigned>(frames.size());
    if (!frames.empty()) {
      rte_pktmbuf_free_bulk(frames.data(), static_cast<unsigned>(frames.size()));
    }
  }
  counters_.fates[static_cast<unsigned>(Fate::tx_full)] += lost;
}

// A flood of handshakes fills a ring of its own, one of limits met half of the common one at most:
// ARP and DHCP must get through.
bool Worker::push_to_control(const ToControl& item) {
  if (item.kind == ToControl::handshake) return handshakes_.push(item);
  const bool is_crowded =
      item.kind == ToControl::limit_met && to_control_.size() > to_control_.capacity() / 2;
  return !is_crowded && to_control_.push(item);
}

void Worker::flush_control() {
  Pipeline::ControlOutbox& outbox = pipeline_.control_outbox();
  for (unsigned i = 0; i < outbox.count; ++i) {
    const ToControl& item = outbox.items[i];
    const bool pushed = push_to_control(item);
    if (item.packet == nullptr) {
      // A lost request for a neighbour: forget the entry, so that the next packet asks again.
      if (!pushed && item.kind == ToControl::resolve) {
        pipeline_.forget_neighbour(item.port, item.address);
      }
      if (!pushed && is_event(item.kind)) ++counters_.events_lost;
    } else if (pushed) {
      ++counters_.handed_out;
    } else {
      const Fate fate = item.kind == ToControl::handshake ? Fate::handshake_ring_full
                                                          : Fate::control_ring_full;
      ++counters_.fates[static_cast<unsigned>(fate)];
      rte_pktmbuf_free(item.packet);
    }
  }
  outbox.count = 0;
}

void Worker::sweep_when_due(uint64_t now_ns) {
  if (now_ns - swept_at_ns_ < kSweepPeriodNs) return;
  swept_at_ns_ = now_ns;
  pipeline_.sweep(now_ns);
  flush();
}

void Worker::rest(bool busy, uint64_t now_ns) {
  if (busy) {
    busy_at_ns_ = now_ns;
    wait_.was_busy();
    return;
  }
  const uint64_t idle_ns = now_ns - busy_at_ns_;
  if (!adaptive_ || idle_ns < spin_ns_) {
    rte_pause();
    return;
  }
  const uint64_t sleep_ns = std::clamp(idle_ns / kSleptShare, kShortestSleepNs, kLongestSleepNs);
  ++counters_.sleeps;
  wait_.wait(sleep_ns);
}

}  // namespace adit::gateway
