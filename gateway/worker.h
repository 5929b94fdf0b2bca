// A worker: the thread that polls its queues, runs the pipeline on what comes, sends, and does
// what the control thread and other workers ask in between. Run to completion on one core.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "gateway/channel.h"
#include "gateway/clock.h"
#include "gateway/kernel_sender.h"
#include "gateway/messages.h"
#include "gateway/packet_wait.h"
#include "gateway/pipeline.h"

namespace adit::gateway {

inline constexpr unsigned kRepliesAtATime = 32;

class Worker {
 public:
  struct Queue {
    uint16_t ethdev;  // DPDK's port number
    uint16_t queue;   // to receive and to transmit
    // A port may have fewer queues than there are workers: then worker `queue` sends for this one.
    bool is_ours = true;
    int socket = -1;  // on which a packet for this queue wakes the worker, where there is one
    KernelSender* sender = nullptr;  // has the tunnels' datagrams, where there is one
  };
  // Everything referred to outlives the worker. `queues[i]` is the pipeline's port i. `hand_off` is
  // null where there is one worker. Handshakes and replies to them have rings of their own.
  // `adaptive`: sleep a little when nothing comes, instead of spinning; at once if every packet
  // that can come ends the sleep, which what another worker hands over does not.
  Worker(Pipeline& pipeline, Counters& counters, std::vector<Queue> queues, unsigned index,
         HandOff* hand_off, Channel<ToWorker>& from_control, Channel<Reply>& replies,
         Channel<ToControl>& to_control, Channel<ToControl>& handshakes, bool adaptive);

  // Runs until stop(). Then takes what messages there are and frees what it holds.
  void run();
  // After every worker's run() has returned: what others have handed over since. False: nothing.
  bool take_the_rest();
  // From any thread.
  void stop() { stopping_.store(true, std::memory_order_relaxed); }

 private:
  bool receive(uint64_t now_ns);
  bool run_waiting(uint64_t now_ns);
  bool take_messages(uint64_t now_ns);
  bool take_over(uint64_t now_ns);
  bool advance_moves(uint64_t now_ns);
  void flush();
  void transmit(const Queue& queue, std::span<rte_mbuf*> frames);
  void flush_control();
  bool push_to_control(const ToControl& item);
  void sweep_when_due(uint64_t now_ns);
  void rest(bool busy, uint64_t now_ns);

  Pipeline& pipeline_;
  Counters& counters_;
  const std::vector<Queue> queues_;
  const unsigned index_;
  HandOff* const hand_off_;
  Channel<ToWorker>& from_control_;
  Channel<Reply>& replies_;
  Channel<ToControl>& to_control_;
  Channel<ToControl>& handshakes_;
  const bool adaptive_;
  const uint64_t spin_ns_;  // without a packet, before it sleeps
  PacketWait wait_;
  WorkerClock clock_;
  // Taken out of rings, into room that no loop has to clear.
  std::array<ToWorker, 16> taken_messages_;
  std::array<Reply, kRepliesAtATime> taken_replies_;
  std::array<HandedPacket, kBurstMax> taken_packets_;
  uint64_t swept_at_ns_ = 0;
  uint64_t busy_at_ns_ = 0;
  std::atomic<bool> stopping_{false};  // written by the control thread, read by the worker
};

}  // namespace adit::gateway
