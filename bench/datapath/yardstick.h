// The bare work, to measure against: what no translator of this kind can do without, and nothing
// else. Find the tunnel's line by index and the mapping's by hash or by port, rewrite the headers,
// put the others on or take them off. No packet is checked, no clock read, nothing counted, and
// packets that are not plain UDP do not exist. It runs over the same buffers and the same mappings,
// with a line of its own for each tunnel, and must put out the same bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bench/datapath/world.h"
#include "gateway/huge_memory.h"

namespace adit::bench {

class Yardstick {
 public:
  // Of a world that has all its mappings.
  explicit Yardstick(World& world);

  // Runs the world's buffers through; returns the TSC cycles that it took. Plain worlds only.
  uint64_t run(nat::Direction direction);
  std::span<rte_mbuf* const> sent() const { return sent_; }

 private:
  struct alignas(64) Line {  // of a tunnel
    uint64_t hash_key = 0;
    const nat::Mapping* first_mapping = nullptr;  // of its block
    uint32_t block_ports = 0;
    Endpoint client;
    uint8_t send_tag[3] = {};
    Le32 remote_index;
  };
  void outbound(std::span<rte_mbuf* const> packets);
  void inbound(std::span<rte_mbuf* const> packets);

  World& world_;
  uint32_t first_pool_address_;
  uint32_t slot_mask_;
  std::vector<const nat::Mapping*> mappings_;  // of UDP port 0, by pool address
  gateway::HugeMemory line_memory_;
  std::span<Line> lines_;
  std::vector<rte_mbuf*> sent_;
  uint16_t outer_id_ = 0;
};

// The bare work of encrypted packets: the cipher alone, over the world's buffers as fill() has left
// them, with its tunnels' expanded keys, in the same order and groups. Returns the cycles.
uint64_t run_cipher(World& world, nat::Direction direction);

}  // namespace adit::bench
