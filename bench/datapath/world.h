// A gateway without ports for measuring: the real pipeline, tables and crypto, any number of
// tunnels with real sessions, any number of flows with real mappings, and packets of those flows
// in buffers. What a device would do is done here, outside the time that is measured: filling
// buffers, and taking what was sent.
//
//   clients 20.x.y.z:51820 ══► port 0 (uplink, 30.1.1.10:8000)
//   server 40.1.1.10:6600 ◄── port 1 (public, 30.2.1.10; pool from 51.0.0.0)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "gateway/huge_memory.h"
#include "gateway/pipeline.h"
#include "lib/tunnel/seal.h"
#include "tests/support/nic_model.h"

struct rte_mempool;

namespace adit::bench {

using tunnel::Protection;

struct WorldOptions {
  uint32_t flows = 1000;
  uint32_t flows_per_tunnel = 16;
  uint16_t block_ports = 64;  // of a tunnel's first block: nat.blocks.first_ports
  Protection protection = Protection::plain;
  nat::Filtering filtering = nat::Filtering::endpoint_independent;
  bool checksum_by_port = true;  // the device writes outer checksums and vouches for received ones
  bool express = true;           // false: every packet through the stages
  // Several take turns on one core. `steered`: each packet comes to the worker whose queue a card
  // puts it into that has the gateway's keys and tables; else to any, and most are handed over.
  unsigned workers = 1;
  bool steered = true;
};

// One packet's flow, and where it stands.
struct Flow {
  uint32_t number = 0;
  uint32_t slot = 0;  // its tunnel's
  Endpoint internal;
  Endpoint external;  // once its mapping is made
};

class World {
 public:
  static constexpr unsigned kPackets = 8192;  // a round

  explicit World(const WorldOptions& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  uint32_t flows() const { return options_.flows; }
  uint32_t tunnels() const { return tunnels_count_; }
  const WorldOptions& options() const { return options_; }

  Flow flow(uint32_t number) const;
  const tunnel::Session& session(uint32_t slot) const;
  static Endpoint remote();       // whom every flow talks to
  Endpoint client(uint32_t slot) const;  // a tunnel's outer endpoint

  void draw_flows();  // kPackets of them, at random
  std::span<const uint32_t> drawn() const { return drawn_; }
  // Fills the buffers with one packet of each drawn flow. `inner_bytes` has one size, or several
  // that take turns.
  void fill(nat::Direction direction, std::span<const uint16_t> inner_bytes);
  // Runs the buffers through the pipeline in bursts; returns the TSC cycles that it took, all
  // workers' together. Throws std::runtime_error if not every packet came out.
  uint64_t run(nat::Direction direction);
  // flooded.cpp: the same outbound, of one worker, with what else arrives in between; `after_burst`
  // is called, and measured, behind a burst that had something for the control thread, and the last.
  uint64_t run_outbound(
      std::span<rte_mbuf*> arrivals,
      const std::function<void(gateway::Pipeline&, uint64_t now_ns, bool is_last)>& after_burst);
  // One more, which holds this; whoever asks for it owns it.
  rte_mbuf* buffer(std::span<const uint8_t> bytes);
  // What came out, in order: the same buffers.
  std::span<rte_mbuf* const> sent() const { return sent_; }
  std::span<rte_mbuf* const> buffers() const { return buffers_; }

  // Makes the mappings of all flows, one of each tunnel, then another of each. Returns the cycles
  // that it took.
  uint64_t make_mappings();
  // Moves the clock until all mappings are over, and the clock hand until all have gone.
  uint64_t expire_mappings();
  // kPackets heartbeats of tunnels at random, each answered, so many at a time (a divisor of
  // kBurstMax) and as often, in one worker; their cycles.
  uint64_t heartbeats(unsigned burst, uint64_t gap_ns);
  // And what of that is their two ciphers alone: of as many of kBurstMax tunnels, over and over, so
  // that nothing waits for memory.
  uint64_t heartbeat_ciphers(unsigned burst);
  // The clock hands for so many seconds, in which no packet comes but those that keep each mapping
  // alive, once in `used_every_s`; the hands' cycles, of all workers.
  uint64_t age(unsigned seconds, unsigned used_every_s);

  // The pool, and where the mappings of one of its addresses begin: UDP, port 0.
  Ipv4Address first_pool_address() const { return nat_settings_.pool.front(); }
  uint32_t pool_addresses() const { return static_cast<uint32_t>(nat_settings_.pool.size()); }
  const nat::Mapping* first_mapping(uint32_t pool_index) const {
    return parts_[0].nat->entry(nat_settings_.pool[pool_index], nat::Protocol::udp, {});
  }

  const nat::Nat& translator() const { return *parts_[0].nat; }
  gateway::Crypto& crypto() { return *parts_[0].crypto; }
  const gateway::Counters& counters() const { return counters_; }
  const gateway::PipelineSettings& settings() const { return settings_; }
  gateway::TunnelTable& tunnel_table() { return *tunnels_; }

 private:
  void place_tunnels();
  std::vector<uint8_t> first_frame(uint32_t tunnel) const;
  void open_tunnels();
  void confirm(uint32_t slot);
  void write_heartbeat(rte_mbuf* mbuf, uint32_t slot, const tunnel::Session& session);
  void write_outbound(rte_mbuf* mbuf, const Flow& flow, unsigned inner_bytes);
  void write_inbound(rte_mbuf* mbuf, const Flow& flow, unsigned inner_bytes);
  uint8_t* reset(rte_mbuf* mbuf, unsigned bytes) const;
  struct Parts {  // of a worker
    std::unique_ptr<nat::Nat> nat;
    std::unique_ptr<gateway::Crypto> crypto;
    std::unique_ptr<gateway::PortlessMappings> portless;
    std::unique_ptr<gateway::Fragments> fragments;
    std::unique_ptr<gateway::Reassembly> reassembly;
    std::unique_ptr<gateway::Neighbours> neighbours;
    std::unique_ptr<gateway::HeldSyns> held_syns;
    std::unique_ptr<gateway::Filter> filter;
    std::unique_ptr<gateway::Pipeline> pipeline;
  };
  Parts make_parts(unsigned worker);
  gateway::Pipeline& pipeline_of(uint32_t slot) { return *parts_[tunnels_->home(slot)].pipeline; }
  void use_mappings(unsigned used_every_s);
  void take_sent(gateway::Pipeline& pipeline, unsigned port);
  // bench/instructions.py counts what is in it, by its name.
  [[gnu::noinline]] uint64_t run_bursts(unsigned from, unsigned to);
  uint64_t run_workers(unsigned from, unsigned to);
  unsigned receiver_of(size_t buffer, unsigned from) const;
  void sort_sent();

  const WorldOptions options_;
  uint32_t tunnels_count_;
  uint64_t now_ns_;
  gateway::PipelineSettings settings_;
  nat::Settings nat_settings_;
  gateway::HugeMemory table_memory_;
  gateway::Counters counters_;
  rte_mempool* pool_ = nullptr;
  std::unique_ptr<gateway::TunnelTable> tunnels_;
  std::optional<gateway::HandOff> hand_off_;  // of several workers
  std::vector<Parts> parts_;                  // by worker; all count in counters_

  static constexpr unsigned kUplinkPort = 0;
  static constexpr unsigned kPublicPort = 1;
  static constexpr unsigned kRedirectionEntries = 128;  // of a card's table, as many have
  std::optional<test::NicModel> uplink_card_;           // for several workers
  std::optional<test::NicModel> public_card_;
  std::vector<uint32_t> slots_;              // by tunnel
  std::vector<uint32_t> tunnel_of_;          // by slot
  std::vector<Endpoint> externals_;          // by flow
  uint64_t next_used_ = 0;                   // by use_mappings()
  std::vector<uint64_t> client_counters_;    // by slot: of the next type 4 packet
  std::vector<uint32_t> drawn_;
  std::vector<rte_mbuf*> buffers_;
  std::vector<rte_mbuf*> sent_;
  uint64_t random_ = 0x243f6a8885a308d3;
};

}  // namespace adit::bench
