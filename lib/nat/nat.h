// The network address translator of one worker: mapping table, port blocks, timeouts.
//
// Theory of operation. A subscriber (one tunnel) owns up to four port blocks: runs of contiguous
// ports on one pool address, the same numbers for UDP, TCP and ICMP. A block is also the outbound
// lookup: an internal endpoint is hashed with the subscriber's own key to a home port in the
// block, and usually stands right there. If its home is taken it stands elsewhere in the same
// window of 16 ports, found by a line of 16 one-byte tags a protocol; if the window is full, in
// one of at most three further windows, and the home window counts it as spilled so that a lookup
// knows whether to go on. A mapping never moves, for its place is its port. Every block is
// searched before a mapping is made, so mapping is endpoint-independent (RFC 4787 REQ-1).
//
// Pure: no DPDK, no clock, no system call. The caller hands in the memory; nothing is allocated
// after construction. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lib/nat/mapping.h"

namespace adit::nat {

// Seconds. Defaults and floors are the RFCs'.
struct Timeouts {
  uint32_t udp_s = 300;               // RFC 4787 REQ-5: at least 120, 300 recommended
  uint32_t tcp_established_s = 7440;  // RFC 5382 REQ-5: at least 2 h 4 min
  uint32_t tcp_transitory_s = 240;    // RFC 5382 REQ-5: at least 4 min
  uint32_t icmp_s = 60;               // RFC 5508 REQ-2: at least 60
  uint32_t port_rest_s = 120;         // RFC 6888 REQ-8
};

struct ReservedPort {
  Ipv4Address address;
  uint16_t port = 0;  // for all three protocols
};

// What one subscriber may hold. Few profiles serve many subscribers.
struct Limits {
  uint32_t mappings = 2048;                // live at once
  uint32_t new_mappings_per_second = 500;  // lookups that find nothing count
  uint32_t new_mappings_burst = 1000;
};

struct Settings {
  std::vector<Ipv4Address> pool;  // external addresses, distinct
  uint16_t first_port = 1024;     // range given out: [first_port, last_port]
  uint16_t last_port = 65535;
  std::vector<ReservedPort> reserved;
  uint16_t first_block_ports = 64;    // power of two, 16-1024; each further block is twice the last
  uint8_t blocks_per_subscriber = 4;  // 1-4
  std::vector<Limits> limits = {Limits{}};  // profiles; attach() names one by its index
  Timeouts timeouts;
};

// Why no mapping was made. One drop reason each.
enum class Refusal : uint8_t {
  none,
  rate_limited,    // new_mappings_per_second
  mapping_limit,   // mappings_per_subscriber
  port_limit,      // the subscriber's blocks have no free port for this endpoint, no more allowed
  pool_exhausted,  // no pool address has room for a block
};

inline constexpr unsigned kBlocksMax = 4;

// What the translator keeps for a tunnel. One line; lives beside the tunnel, written by Nat only.
struct alignas(64) Subscriber {
  uint64_t hash_key = 0;  // set at attach(); random
  struct Block {
    uint32_t first = 0;  // pool index << 16 | first port
    uint16_t ports = 0;  // power of two; 0 = no block
    uint16_t used = 0;   // entries not free, over all protocols
  } blocks[kBlocksMax];
  uint32_t tunnel_slot = 0;
  uint32_t live_mappings = 0;
  uint32_t tokens = 0;  // of the new-mapping bucket
  uint32_t tokens_at_s = 0;
  uint16_t pool_index = 0;      // the paired address, once it has a block (RFC 4787 REQ-2)
  uint16_t limits_profile = 0;  // index into Settings::limits
  bool attached = false;
};
static_assert(sizeof(Subscriber) == 64);

class Nat {
 public:
  // Bytes of table memory that `settings` need; alignment 64. The memory must be zeroed.
  static size_t memory_bytes(const Settings& settings);
  // `random` gives 64 unpredictable bits; it is called at attach() and when a block is granted.
  Nat(const Settings& settings, std::span<std::byte> memory, std::function<uint64_t()> random);

  void attach(Subscriber& subscriber, uint32_t tunnel_slot, uint16_t limits_profile,
              uint32_t now_s);
  // The tunnel is gone: its live mappings begin their rest, its blocks return when all rested.
  // The Subscriber itself may be reused at once: resting entries no longer refer to it.
  void detach(Subscriber& subscriber, uint32_t now_s);

  // Outbound fast path: the live mapping of `internal`, or nullptr. Prefetch first for speed.
  void prefetch_outbound(const Subscriber& subscriber, Protocol protocol,
                         const Endpoint& internal) const;
  Mapping* find_outbound(const Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                         uint32_t now_s);
  // Outbound slow path, after find_outbound() returned nullptr: revives the endpoint's own resting
  // port or makes a mapping. nullptr with the reason if it may not.
  Mapping* create_outbound(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                           uint32_t now_s, Refusal& refusal);

  // Inbound: the live mapping at an external endpoint, or nullptr.
  void prefetch_inbound(Ipv4Address address, Protocol protocol, Be16 port) const;
  Mapping* find_inbound(Ipv4Address address, Protocol protocol, Be16 port, uint32_t now_s);
  bool is_pool_address(Ipv4Address address) const;

  // A packet used the mapping. For TCP, `tcp_flags` and `remote` drive its state (tcp_state.h);
  // outbound always refreshes, inbound does for UDP and ICMP queries (RFC 4787 REQ-6a: inbound
  // refresh on) and for TCP's tracked remote.
  void on_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s);
  void on_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s);

  // Clock hand: looks at up to `entries` more entries of granted blocks, expires what is idle,
  // frees what has rested, returns blocks that are empty. Returns how many mappings expired.
  // Wants to be called so that all granted blocks are seen every few seconds: see sweep_entries().
  unsigned sweep(uint32_t now_s, unsigned entries);
  uint64_t granted_entries() const;  // ports in granted blocks, times the protocols

  struct Counts {
    uint64_t mappings_created = 0;
    uint64_t mappings_revived = 0;
    uint64_t mappings_expired = 0;
    uint64_t mappings_live = 0;
    uint64_t mappings_resting = 0;
    uint64_t blocks_granted = 0;  // now
    uint64_t spilled = 0;         // now: mappings outside their home window
  };
  const Counts& counts() const { return counts_; }

 private:
  Counts counts_;
};

}  // namespace adit::nat
