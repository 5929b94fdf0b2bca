// A worker: the thread that polls its queues, runs the pipeline on what comes, sends, and does
// what the control thread asks in between. Run to completion on one core.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "gateway/channel.h"
#include "gateway/clock.h"
#include "gateway/messages.h"
#include "gateway/pipeline.h"

namespace adit::gateway {

class Worker {
 public:
  struct Queue {
    uint16_t ethdev;  // DPDK's port number
    uint16_t queue;
  };
  // Everything referred to outlives the worker. `queues[i]` is the pipeline's port i. `adaptive`:
  // sleep a little when nothing comes, instead of spinning.
  Worker(Pipeline& pipeline, Counters& counters, std::vector<Queue> queues,
         Channel<ToWorker>& from_control, Channel<ToControl>& to_control, bool adaptive);

  // Runs until stop(). Then takes what messages there are and frees what it holds.
  void run();
  // From any thread.
  void stop() { stopping_.store(true, std::memory_order_relaxed); }

 private:
  bool receive(uint64_t now_ns);
  bool take_messages(uint64_t now_ns);
  void flush();
  void flush_control();
  void sweep_when_due(uint64_t now_ns);
  void rest(bool busy);

  Pipeline& pipeline_;
  Counters& counters_;
  const std::vector<Queue> queues_;
  Channel<ToWorker>& from_control_;
  Channel<ToControl>& to_control_;
  const bool adaptive_;
  WorkerClock clock_;
  uint64_t swept_at_ns_ = 0;
  unsigned idle_loops_ = 0;
  std::atomic<bool> stopping_{false};  // written by the control thread, read by the worker
};

}  // namespace adit::gateway
