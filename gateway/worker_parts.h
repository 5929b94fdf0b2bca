// All that one worker works on: its share of the translator, its tables, its packet path, its
// rings with the control thread. What workers share is handed in: the tunnel table and the mapping
// table, in which each touches only what is its own, the packet buffers, and the rings between
// them.
//
// Owner: main, which makes all workers' parts before it starts the first worker.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gateway/config.h"
#include "gateway/steering.h"
#include "gateway/worker.h"

namespace adit::gateway {

inline constexpr unsigned kChannelItems = 4096;
inline constexpr unsigned kHandshakeItems = 4096;  // a fiftieth of a second of 200,000
// Of cookies: what the control thread makes in two ticks.
inline constexpr unsigned kReplyItems = 1024;
inline constexpr unsigned kHeldFragments = 1024;
inline constexpr unsigned kOuterReassemblies = 256;  // of up to 8 buffers

class WorkerParts {
 public:
  struct Shared {
    const Config& config;
    const PipelineSettings& path;       // but for which worker it is
    const nat::Settings& nat;           // the same
    std::span<std::byte> mappings;
    TunnelTable& tunnels;
    rte_mempool* pool;
    HandOff* hand_off;                  // null: there is one worker
  };
  // Throws std::runtime_error without memory.
  WorkerParts(const Shared& shared, unsigned index, std::vector<Worker::Queue> queues,
              bool adaptive);
  WorkerParts(const WorkerParts&) = delete;
  WorkerParts& operator=(const WorkerParts&) = delete;

  Worker& worker() { return *worker_; }
  Channel<ToWorker>& from_control() { return from_control_; }
  Channel<Reply>& replies() { return replies_; }
  Channel<ToControl>& to_control() { return to_control_; }
  Channel<ToControl>& handshakes() { return handshakes_; }
  const Counters& counters() const { return counters_; }
  const PacketSamples& samples() const { return pipeline_->samples(); }
  const nat::Nat& nat() const { return nat_; }

 private:
  Counters counters_;
  nat::Nat nat_;
  Crypto crypto_;
  Neighbours neighbours_;
  PortlessMappings portless_;
  Fragments fragments_;
  Reassembly reassembly_;
  std::optional<TunnelRoutes> inner_routes_;
  std::optional<TunnelRoutes> outer_routes_;
  std::optional<Forwards> forwards_;
  std::optional<HeldSyns> held_syns_;
  std::optional<Filter> filter_;
  Channel<ToWorker> from_control_;
  Channel<Reply> replies_;
  Channel<ToControl> to_control_;
  Channel<ToControl> handshakes_;
  std::unique_ptr<Pipeline> pipeline_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace adit::gateway
