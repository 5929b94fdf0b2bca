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
// Where a subscriber's ports keep their parity, the home port has it, and only every other port is
// looked at. With deterministic allocation a subscriber has one block, always the same, in the
// place that its ordinal gives it (deterministic.h): nothing else is different.
//
// Low ports (RFC 4787 REQ-3a) are one more block an address, which its subscribers share: Nat keeps
// beside it whose each mapping is.
//
// Several translators, each of one thread, may share a table: each grants blocks in windows of its
// own, and touches nothing but what stands in blocks that it keeps. It keeps what it has granted,
// until the subscriber moves to another translator with its blocks, mappings and all
// (nat_moving.cpp).
//
// A mapping's life is a function of time, not of when the sweep comes by: it is live while it was
// used within its timeout, rests for port_rest_s from the moment that ran out, and is free then.
// Whoever meets an entry whose time is over moves it on; the sweep meets all of those, in its turn
// (nat_ageing.cpp). Idle mappings count against their subscriber's limit until they are met.
//
// Pure: no DPDK, no clock, no system call. The caller hands in the memory; nothing is allocated
// after construction. One thread. `now_s` is a coarse clock that never goes back and may wrap.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lib/nat/deterministic.h"
#include "lib/nat/endpoint_hash.h"
#include "lib/nat/filtering.h"
#include "lib/nat/mapping.h"
#include "lib/nat/table.h"
#include "lib/net/count.h"

namespace adit::nat {

// Seconds. Defaults and floors are the RFCs'.
struct Timeouts {
  uint32_t udp_s = 300;               // RFC 4787 REQ-5: at least 120, 300 recommended
  uint32_t tcp_established_s = 7440;  // RFC 5382 REQ-5: at least 2 h 4 min
  uint32_t tcp_opening_s = 240;       // RFC 7857 §2.2: 4 min, may be less where that is too long
  uint32_t tcp_closing_s = 240;       // RFC 5382 REQ-5, RFC 7857 §2.2: at least 4 min
  uint32_t icmp_s = 60;               // RFC 5508 REQ-2: at least 60
  uint32_t dns_s = 0;                 // of UDP mappings used with port 53 only; 0: as udp_s
  uint32_t port_rest_s = 120;         // RFC 6888 REQ-8

  friend bool operator==(const Timeouts&, const Timeouts&) = default;
};

struct ReservedPort {
  Ipv4Address address;
  uint16_t port = 0;  // for all three protocols
};

// What one subscriber may hold.
struct Limits {
  uint32_t mappings = 2048;                // live at once
  uint32_t new_mappings_per_second = 500;  // lookups that find nothing count
  uint32_t new_mappings_burst = 1000;
  uint8_t blocks = 4;  // 1-4; with deterministic allocation there is one

  friend bool operator==(const Limits&, const Limits&) = default;
};

// What a subscriber may hold, and how the translator behaves towards it. Few profiles serve many
// subscribers.
struct Profile {
  Limits limits = {};
  Timeouts timeouts = {};
  bool port_parity = false;  // RFC 4787 REQ-4: external UDP and TCP ports are odd as the internal
  bool inbound_refresh = true;  // RFC 4787 REQ-6a, RFC 7857 §7: does inbound use keep alive?
  bool hairpin = true;  // RFC 4787 REQ-9: may it reach others by their external endpoints?
  std::array<Filtering, kProtocols> filtering{};  // by Protocol; endpoint-independent

  friend bool operator==(const Profile&, const Profile&) = default;
};

struct Settings {
  std::vector<Ipv4Address> pool;  // external addresses, distinct
  uint16_t first_port = 1024;     // range given out: [first_port, last_port]
  uint16_t last_port = 65535;
  std::vector<ReservedPort> reserved;
  uint16_t first_block_ports = 64;    // power of two, 16-1024; each further block is twice the last
  // RFC 7422: ports of the one block that each subscriber has for ever, a power of two, 16-8192,
  // in place of blocks that it gets at random and that grow. 0: it is the latter.
  uint16_t deterministic_ports = 0;
  // External ports of internal UDP and TCP ports below 1024 (RFC 4787 REQ-3a), shared by all
  // subscribers of an address; a power of two, at least 16, at a multiple of itself, outside the
  // range above. 0: there are none, and such ports are as any.
  uint16_t low_ports = 0;
  uint16_t first_low_port = 0;
  std::vector<Profile> profiles = {Profile{}};  // attach() names one by its index
  // Of several translators that share one table: how many they are, which this one is, and whose
  // each of an address's windows is, the same for every address. Empty: it has all.
  uint8_t sharers = 1;
  uint8_t share = 0;
  std::vector<uint8_t> shares = {};  // by port / kWindowPorts
};

// Why no mapping was made. One drop reason each.
enum class Refusal : uint8_t {
  none,
  rate_limited,    // new_mappings_per_second
  mapping_limit,   // Limits::mappings
  port_limit,      // its blocks have no port for this endpoint, and it may not have a further one:
                   // it has all it may, or its own address has no room for the next
  pool_exhausted,  // it has no block, and no pool address has room for one, or it has no range
  low_ports_full,  // its address has no low port for this endpoint
  range_away,      // its range is with another translator, to which an earlier tunnel of it moved
};

// Whether on_outbound() and on_inbound() would change nothing for a packet without SYN, FIN or RST
// to or from `remote`: the mapping has been used this second, and in the same way.
inline bool is_in_use(const Mapping& mapping, Protocol protocol, const Endpoint& remote,
                      uint32_t now_s) {
  if (mapping.last_seen_s != now_s) return false;
  if (protocol != Protocol::tcp) return !mapping.is_dns_only;
  return mapping.tcp_state == TcpState::established && mapping.tcp_remote == remote;
}

// What a host asks for by the Port Control Protocol (RFC 6887).
struct Hold {
  Protocol protocol = Protocol::udp;
  Endpoint internal;
  Endpoint wanted;           // external; zero parts: any
  bool only_wanted = false;  // rather none than another
  bool is_open = false;      // anybody may send to it (MAP), and its life may be made shorter
  uint32_t lifetime_s = 0;
  std::array<uint8_t, 12> nonce{};  // whoever knows it may change what it made
};
struct HoldRefusal {
  enum Reason : uint8_t { at_limit, not_its_own, not_available } reason = at_limit;
  Refusal no_mapping = Refusal::none;  // at_limit: which
};

inline constexpr unsigned kBlocksMax = 4;

// A block given to a subscriber, or returned to the pool.
struct BlockEvent {
  bool is_granted = false;
  uint16_t ports = 0;
  Endpoint first;            // the pool address and the first port
  uint32_t tunnel_slot = 0;  // whose it is; of one that returned nobody's any more
};

// What the translator keeps for a tunnel. One line; lives beside the tunnel, written by Nat only.
struct alignas(64) Subscriber {
  uint64_t hash_key = 0;  // set at attach(); random but for its lowest bit: keeps parity
  struct Block {
    uint32_t first = 0;  // pool index << 16 | first port
    uint16_t ports = 0;  // power of two; 0 = no block
    uint16_t unused = 0;

    uint32_t first_unit() const { return first / kWindowPorts; }
    unsigned units() const { return ports / kWindowPorts; }
  } blocks[kBlocksMax];  // the i-th has first_block_ports << i; one that returned leaves a gap
  uint32_t tunnel_slot = 0;
  uint32_t live_mappings = 0;
  uint32_t tokens = 0;  // of the new-mapping bucket
  uint32_t tokens_at_s = 0;
  uint16_t pool_index = 0;      // the paired address, once it has a block (RFC 4787 REQ-2)
  uint16_t profile = 0;         // index into Settings::profiles
  uint16_t range_unit = 0;      // deterministic: where its block begins on its address, in units
  uint8_t low_mappings = 0;     // of the low ports of its address, live or resting
  bool attached : 1 = false;
  bool is_paired : 1 = false;  // pool_index is set
  bool is_tied : 1 = false;    // it has no other address, even while it has no block
};
static_assert(sizeof(Subscriber) == 64);

class Nat {
 public:
  // Bytes of table memory that `settings` need, for all sharers together; alignment 64. The memory
  // must be zeroed. Those who share it are all made before the first of them is used.
  static size_t memory_bytes(const Settings& settings);
  // `random` gives 64 unpredictable bits; it is called at attach() and when a block is granted.
  Nat(const Settings& settings, std::span<std::byte> memory, std::function<uint64_t()> random);
  Nat(const Nat&) = delete;
  Nat& operator=(const Nat&) = delete;

  // Calls `watch` at every grant and return of a block (RFC 6888 REQ-14): what it needs to log.
  void watch_blocks(std::function<void(const BlockEvent&)> watch) { watch_ = std::move(watch); }

  // The Subscriber stays where it is until detach(): blocks refer to it. `ordinal` is its place in
  // the configuration, which decides its ports where allocation is deterministic. `tied_to`: the
  // one pool address that it has, since others of the same host have it too; zero: any.
  void attach(Subscriber& subscriber, uint32_t tunnel_slot, uint16_t profile,
              uint32_t now_s, uint32_t ordinal = 0, Ipv4Address tied_to = {});
  // The tunnel is gone: its live mappings begin their rest, its blocks return when all rested.
  // The Subscriber is blank afterwards and may be reused at once: nothing refers to it any more.
  // Looks at the lines of all its windows: at most 15 first blocks' worth, or a range's, and those
  // of low ports.
  void detach(Subscriber& subscriber, uint32_t now_s);

  // Outbound fast path: the live mapping of `internal`, or nullptr. Prefetch first for speed.
  void prefetch_outbound(const Subscriber& subscriber, Protocol protocol,
                         const Endpoint& internal) const;
  Mapping* find_outbound(const Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                         uint32_t now_s);
  // The same, and makes the mapping where that takes no more than a free port in the home window of
  // the first block. nullptr: create_outbound() knows, and nothing has been touched.
  Mapping* find_or_make_at_home(Subscriber& subscriber, Protocol protocol,
                                const Endpoint& internal, uint32_t now_s);
  // Outbound slow path, after find_outbound() returned nullptr: revives the endpoint's own resting
  // port or makes a mapping. nullptr with the reason if it may not. When an earlier packet of the
  // same burst has made the mapping already, returns that one at no cost. Gives it the port of
  // `wanted` where that is possible.
  Mapping* create_outbound(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                           uint32_t now_s, Refusal& refusal, const Endpoint* wanted = nullptr);

  // The mapping of an endpoint, made if there is none, kept until its time even if it idles
  // (hold.cpp). Counts against the subscriber's limits as any other. nullptr if it may not be.
  Mapping* hold(Subscriber& subscriber, const Hold& wish, uint32_t now_s, HoldRefusal& refusal);
  // Ends a held mapping. False if it is another nonce's.
  bool let_go(const Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
              const std::array<uint8_t, 12>& nonce, uint32_t now_s);
  static bool is_held(const Mapping& mapping, uint32_t now_s);
  // All 96 bits count, in 64: as hard to guess as what an attacker could send in a life.
  static uint64_t folded(const std::array<uint8_t, 12>& nonce);

  // Inbound: the live mapping at an external endpoint, or nullptr.
  Mapping* find_inbound(Ipv4Address address, Protocol protocol, Be16 port, uint32_t now_s);
  bool is_pool_address(Ipv4Address address) const;

  const Profile& profile(uint16_t index) const { return settings_.profiles[index]; }
  const Profile& profile_of(const Subscriber& subscriber) const {
    return profile(subscriber.profile);
  }
  const Profile& profile_of(const Mapping& mapping) const { return profile(mapping.profile); }

  // The hash by which a subscriber's internal endpoint is at home.
  static uint64_t hash_of(uint64_t hash_key, Protocol protocol, uint64_t packed_internal) {
    const uint64_t hash = hash_packed(hash_key, protocol, packed_internal);
    if (!keeps_parity(hash_key, protocol)) return hash;
    return with_parity_of(hash, Be16::from_raw(static_cast<uint16_t>(packed_internal)));
  }
  // For callers that keep a burst's cache misses in flight together: where a mapping stands, if
  // it stands at all. Nothing is said about the entry: the caller compares it with the packet.
  // The home of an endpoint in a subscriber's first block...
  Mapping& first_home(uint32_t block_first, unsigned block_ports, Protocol protocol,
                      uint64_t hash) {
    return table_.unit_mappings(block_first / kWindowPorts,
                                protocol)[home_offset(hash, 0, block_ports)];
  }
  // ... the line of tags of that home's window...
  void prefetch_first_window(uint32_t block_first, unsigned block_ports, uint64_t hash) const {
    __builtin_prefetch(&table_.window(home_unit(block_first, block_ports, hash)));
    __builtin_prefetch(&table_.block(block_first / kWindowPorts));  // if it has to be made
  }
  // ... what it says: where else in the window the endpoint may stand, nullptr if nowhere...
  Mapping* beside_first_home(uint32_t block_first, unsigned block_ports, Protocol protocol,
                             uint64_t hash) {
    const uint32_t unit = home_unit(block_first, block_ports, hash);
    const unsigned found = matching_tags(table_.window(unit).tags[static_cast<unsigned>(protocol)],
                                         endpoint_tag(hash));
    return found == 0 ? nullptr : &table_.unit_mappings(unit, protocol)[std::countr_zero(found)];
  }
  // ... and the entry of an external endpoint; nullptr if the address is none of the pool's.
  Mapping* entry(Ipv4Address address, Protocol protocol, Be16 port) {
    const uint32_t index = table_.pool().index_of(address);
    return index != PoolAddresses::kNone ? &table_.mapping(index, protocol, port.host()) : nullptr;
  }

  // Where a subscriber's packets without ports leave from: its paired address, or before it has
  // one, an address that follows from its tunnel.
  Ipv4Address address_of(const Subscriber& subscriber) const {
    return settings_.pool[subscriber.is_paired ? subscriber.pool_index
                                               : subscriber.tunnel_slot % settings_.pool.size()];
  }

  // A packet used the mapping. For TCP, `tcp_flags` and `remote` drive its state (tcp_state.h);
  // outbound always refreshes, inbound does, unless Profile::inbound_refresh is off, for UDP and
  // ICMP queries and for TCP's tracked remote. Exception: a TCP reset to a remote that is not
  // tracked refreshes nothing, for it only refuses a stranger.
  void on_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s);
  void on_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags, uint32_t now_s);

  // Clock hand: goes over up to `blocks` more granted blocks, at most once round, and looks into
  // those in which something may be over, at up to `entries` entries, rounded up to a window's 48;
  // expires what is idle, frees what has rested, returns blocks that are empty. Returns how many
  // mappings expired. Wants to be called so that the hand goes round every few seconds:
  // Counts::blocks_granted and granted_entries() say how far that is.
  unsigned sweep(uint32_t now_s, unsigned entries, unsigned blocks = UINT32_MAX);
  uint64_t granted_entries() const;  // ports in granted blocks, times the protocols

  // Whether the subscriber may move to another translator that shares the table: not while it has
  // low ports, which it shares with others...
  bool may_move(const Subscriber& subscriber) const;
  // ... nor, where allocation is deterministic, while its range is not to be had here.
  bool has_range(const Subscriber& subscriber) const;
  // Whether there are blocks here of subscribers that have gone, which have to go home.
  bool has_orphans() const { return orphans_ != 0; }
  // From now on another one keeps its blocks, for which it adopts the subscriber: between the two
  // calls nobody may touch it. Looks at the lines of all its windows. A range goes along even if
  // nothing has stood in it yet, and stays with its subscriber until that one is detached.
  void leave(Subscriber& subscriber);
  void adopt(Subscriber& subscriber);
  // Whether the block that begins at this unit lies in windows of this translator's own.
  bool is_own(uint32_t unit) const;
  // A block in another's windows that the sweep has found empty, or without a subscriber, or a
  // range whose subscriber has just been detached: it should go home, where take_back() keeps it
  // from then on. Units as in table.h; 16 ports each.
  struct ForeignBlock {
    uint32_t unit = 0;
    unsigned units = 0;
  };
  std::optional<ForeignBlock> homesick() { return std::exchange(homesick_, std::nullopt); }
  void send_home(const ForeignBlock& block);
  void take_back(uint32_t unit);
  uint32_t unit_of(Ipv4Address address, Be16 port) const;  // of an address of the pool
  uint32_t total_units() const { return table_.total_units(); }

  // Copies up to out.size() of a subscriber's live mappings, for a person to look at; returns how
  // many. Walks its blocks: not for the packet path.
  unsigned list(const Subscriber& subscriber, std::span<Mapping> out, uint32_t now_s) const;

  // Writer: whoever has the Nat. Read by any thread.
  struct Counts {
    Count mappings_created;
    Count mappings_revived;
    Count mappings_expired;
    Count mappings_detached;  // live ones whose tunnel went
    Count mappings_live;
    Count mappings_resting;
    Count blocks_granted;  // now
    Count spilled;         // now: mappings outside their home window

    Counts& operator+=(const Counts& other);
  };
  const Counts& counts() const { return counts_; }

 private:
  static uint32_t home_unit(uint32_t block_first, unsigned block_ports, uint64_t hash) {
    return (block_first + home_offset(hash, 0, block_ports)) / kWindowPorts;
  }
  // nat.cpp: where an endpoint is, and a mapping's life.
  uint64_t hash_of(const Subscriber& subscriber, Protocol protocol,
                   const Endpoint& internal) const {
    return hash_of(subscriber.hash_key, protocol, packed(internal));
  }
  static bool keeps_parity(uint64_t hash_key, Protocol protocol) {
    return (hash_key & 1) != 0 && protocol != Protocol::icmp;
  }
  // Any mapping of the endpoint that still has its key, live or resting.
  Mapping* locate(const Subscriber& subscriber, Protocol protocol, const Endpoint& internal) const;
  template <typename IsIt>
  Mapping* locate_in_windows(const Subscriber::Block& block, Protocol protocol, const Reach& reach,
                             uint8_t tag, IsIt is_it) const;
  void occupy(Mapping& mapping, Subscriber& subscriber, const Subscriber::Block& block,
              const Reach& reach, Protocol protocol, const Endpoint& internal, uint32_t now_s);
  void revive(Subscriber& subscriber, Mapping& mapping, uint32_t now_s);
  void start_life(Subscriber& subscriber, Mapping& mapping, uint32_t now_s);
  bool expire_if_idle(Mapping& mapping, uint32_t now_s);
  void end_life(Mapping& mapping, uint32_t now_s);
  void rest(Mapping& mapping, uint32_t released_s);
  void settle(Mapping& mapping, uint32_t now_s);
  void free(Mapping& mapping);

  bool is_idle(const Mapping& mapping, uint32_t now_s) const;
  uint32_t timeout_s(const Mapping& mapping) const;
  bool take_token(Subscriber& subscriber, uint32_t now_s) const;
  Mapping* free_in_window(uint32_t unit, Protocol protocol, const Reach& reach, bool keeps_parity);
  Mapping* find_free(const Subscriber& subscriber, const Subscriber::Block& block,
                     Protocol protocol, const Reach& reach, uint32_t now_s);
  Mapping* find_wanted(const Subscriber& subscriber, Protocol protocol, uint64_t hash,
                       const Endpoint& wanted, uint32_t now_s, unsigned& block_index);

  // nat_ageing.cpp: what is over, and when it is looked at.
  uint32_t due_s(const Mapping& mapping, uint32_t now_s) const;
  void hasten(uint32_t unit, uint32_t due_s);
  void hasten(const Mapping& mapping, uint32_t now_s);
  void look_soon(uint32_t unit);
  void find_due(uint32_t now_s, uint32_t& blocks);
  void ask_for_due() const;
  void ask_for_mappings(uint32_t unit) const;
  void look_into_window(uint32_t now_s);
  void forget_due(uint32_t unit);

  // nat_blocks.cpp: who has which block.
  static bool is_bound(const Subscriber& subscriber);
  bool grant_block(Subscriber& subscriber, unsigned index, Refusal& refusal);
  void enlist_block(uint32_t unit, uint16_t ports);
  void keep_block(uint32_t unit);
  void unlist_block(uint32_t unit);
  void disown_block(uint32_t unit);
  bool should_go_home(uint32_t unit) const;
  void note_range(uint32_t unit, bool is_away);
  uint64_t spilled_in(uint32_t unit) const;
  bool take_units(const Subscriber& subscriber, unsigned units, uint32_t& first_unit);
  void leave_blocks(Subscriber& subscriber, uint32_t now_s);
  void return_block(uint32_t unit);
  void assign_range(Subscriber& subscriber, uint32_t ordinal);
  uint32_t range_of(const Subscriber& subscriber) const;
  bool lacks_range(const Subscriber& subscriber) const {
    return settings_.deterministic_ports > 0 && subscriber.blocks[0].ports == 0;
  }
  bool hold_range(Subscriber& subscriber, uint32_t now_s);
  void give_range(Subscriber& subscriber);

  // nat_low_ports.cpp: the block that an address's subscribers share.
  bool wants_low_port(Protocol protocol, Be16 internal_port) const {
    return internal_port.host() < low_internal_end_ && protocol != Protocol::icmp;
  }
  bool is_low(const Mapping& mapping) const {
    return unsigned{mapping.external.port.host()} - settings_.first_low_port <
           unsigned{settings_.low_ports};
  }
  bool is_low_unit(uint32_t unit) const;
  Subscriber::Block low_block(uint32_t pool_index) const;
  Subscriber*& low_owner(const Mapping& mapping);
  const Subscriber* low_owner(const Mapping& mapping) const;
  void make_low_ports();
  void withdraw_others_windows();
  Mapping* locate_low(const Subscriber& subscriber, Protocol protocol,
                      const Endpoint& internal) const;
  Mapping* create_low(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                      uint32_t now_s, Refusal& refusal);
  void leave_low_ports(Subscriber& subscriber, uint32_t now_s);
  void tell_block(bool is_granted, uint32_t first_unit, uint32_t tunnel_slot);

  const Settings settings_;
  const std::function<uint64_t()> random_;
  std::function<void(const BlockEvent&)> watch_;
  Table table_;
  // By the unit a block begins with: whose it is, nullptr once that one is gone. Outside the table,
  // which may outlive this program: it holds no pointers.
  std::vector<Subscriber*> owners_;
  // The same for each low port, by (pool address, UDP or TCP, port).
  std::vector<Subscriber*> low_owners_;
  uint16_t own_first_low_port_ = 0;  // this translator's part of the low ports
  uint16_t own_low_ports_ = 0;
  const uint64_t range_key_;         // the ranges' hash keys follow from it
  std::vector<bool> ranges_away_;    // by their first unit: own ones that another translator keeps
  const unsigned low_internal_end_;  // internal ports below it get low ports
  uint32_t granted_blocks_ = 0;
  uint64_t granted_ports_ = 0;
  uint32_t hand_ = 0;         // into the list of granted blocks: the next one
  // What the hand has found: blocks to look into, by their first unit, the first of them from
  // `window` on.
  static constexpr unsigned kDueBlocks = 8;
  struct {
    std::array<uint32_t, kDueBlocks> units{};
    unsigned count = 0;
    uint32_t window = 0;
  } due_blocks_;
  uint32_t orphans_ = 0;      // blocks here that lie in others' windows and are nobody's any more
  std::optional<ForeignBlock> homesick_;
  Counts counts_;
};

}  // namespace adit::nat
