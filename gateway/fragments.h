// Inner fragments follow their first one without being put together ("virtual reassembly", RFC
// 4787 REQ-14). Only a datagram's first fragment holds ports; when it has passed the ordinary way,
// this table remembers what was done to it, and the other fragments get the same: one address
// rewritten, the IPv4 header checksum updated. The transport checksum stands in the first fragment
// and covers the whole datagram, so the update made there is enough. Fragments that come before
// their first are held, for a while, and follow it in the order of their arrival.
//
// Everything is bounded: datagrams, packets held in all, of one datagram and of one tunnel. What
// has not found its owner yet, which anybody on the Internet can send, gets at most half, and what
// follows its first to another worker a quarter. Routes are values, not pointers: a mapping may end
// while its fragments are still on their way.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <vector>

#include "gateway/counters.h"
#include "lib/net/fragment.h"

struct rte_hash;
struct rte_mbuf;

namespace adit::gateway {

// What is done to the fragments of a datagram after its first.
struct FragmentRoute {
  enum Way : uint8_t {
    to_internet,   // source := address
    to_tunnel,     // destination := address
    to_ourselves,  // the outer packet of a tunnel: to be reassembled
    to_worker,     // whose datagram it is
  };
  Way way = to_internet;
  bool hairpin = false;   // to_internet: to turn round there; else: has turned round
  uint8_t worker = 0;     // to_worker
  uint16_t l3_delta = 0;  // of that rewriting, raw
  Be16 id;                // to_internet: what all of them get (lib/nat/ipv4_ids.h)
  Ipv4Address address;
  uint32_t tunnel_slot = 0;  // whose it is; 0: nobody's
  uint32_t epoch = 0;        // of the tunnel
};

class Fragments {
 public:
  static constexpr unsigned kHeldPerDatagramMax = 64;  // 64 KiB in pieces of 1,448 bytes are 46
  // A fragment waits so long for its first, and a route for its fragments. RFC 791 suggests 15 s;
  // what is in flight between two hosts arrives in less.
  static constexpr uint64_t kTimeoutNs = 2'000'000'000;

  struct Key {
    Ipv4Address source;
    Ipv4Address destination;
    uint32_t tunnel_slot = 0;  // of an outbound datagram; 0: inbound, for slot 0 is never used
    uint32_t epoch = 0;
    Be16 id;
    uint8_t protocol = 0;
    uint8_t zero = 0;
  };

  struct Sizes {
    unsigned datagrams = 4096;
    unsigned held = 1024;          // packets
    unsigned tunnel_slots = 4096;  // as many as the tunnel table has
  };
  // Throws std::runtime_error without memory. `name` is unique in the process.
  Fragments(const char* name, const Sizes& sizes);
  ~Fragments();
  Fragments(const Fragments&) = delete;
  Fragments& operator=(const Fragments&) = delete;

  // A first fragment is about to leave by `route`: Fate::next, or why it may not. Afterwards
  // release() lets go what waits for it. One that comes twice keeps the id that the others have got
  // already: `route.id` is set to it.
  Fate first(const Key& key, const FragmentRange& range, FragmentRoute& route, uint64_t now_ns);
  // Calls follow(route, mbuf) for each fragment that waited, in order of arrival; it owns the
  // packet, and leaves this table alone.
  template <typename Follow>
  void release(const Key& key, Follow follow) {
    Entry* entry = find(key);
    if (entry == nullptr) return;
    while (rte_mbuf* mbuf = take_held(*entry)) follow(entry->route, mbuf);
    if (entry->coverage.is_complete()) remove(*entry);
  }
  // A later fragment: Fate::next with its route, Fate::taken when it is held until its first comes,
  // or why it is refused.
  Fate later(const Key& key, const FragmentRange& range, rte_mbuf* mbuf, uint64_t now_ns,
             FragmentRoute& route);
  // Whether the datagram's first fragment was for our own tunnel endpoint.
  bool is_ours(const Key& key) const;

  // Looks at some more entries and ends those that are over. Returns how many held packets that
  // freed: a drop each.
  unsigned sweep(uint64_t now_ns);
  // Frees everything; returns how many packets.
  unsigned clear();

  // Whether anything is here of the tunnel in this slot.
  bool has_any_of(uint32_t slot) const {
    return shares_[slot].datagrams != 0 || shares_[slot].held != 0;
  }

  // As FragmentRoute::tunnel_slot, where that is not known here: the datagram is another worker's.
  uint32_t handed_share() const { return static_cast<uint32_t>(shares_.size()) - 1; }

  unsigned datagrams() const { return datagrams_; }
  unsigned held() const { return held_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {
    Key key;
    FragmentRoute route;
    uint64_t since_ns = 0;  // first seen; for one whose first fragment has come, since then
    FragmentCoverage coverage;
    uint32_t head = kNone;  // of the packets held, in held_packets_
    uint32_t tail = kNone;
    uint32_t owner = 0;  // tunnel slot whose share it counts in; 0: nobody's
    uint8_t held = 0;
    bool has_route = false;
    bool used = false;
  };
  struct Held {
    rte_mbuf* mbuf = nullptr;
    uint32_t next = kNone;  // of the same datagram, or of the free ones
  };
  struct Share {
    uint32_t datagrams = 0;
    uint32_t held = 0;
  };

  Entry* find(const Key& key) const;
  Entry* occupy(const Key& key, uint32_t owner, uint64_t now_ns);
  void remove(Entry& entry);
  unsigned share_of(size_t all, uint32_t owner) const;
  bool may_own(uint32_t owner) const;
  bool may_hold(uint32_t owner) const;
  void hold(Entry& entry, rte_mbuf* mbuf);
  rte_mbuf* take_held(Entry& entry);
  unsigned free_held(Entry& entry);

  rte_hash* index_ = nullptr;  // Key -> position in entries_
  mutable std::vector<Entry> entries_;
  std::vector<uint32_t> free_;  // positions
  std::vector<Held> held_packets_;
  uint32_t free_held_ = kNone;
  std::vector<Share> shares_;  // by tunnel slot; the last one is handed_share()'s
  unsigned datagrams_ = 0;
  unsigned held_ = 0;
  size_t hand_ = 0;
};

}  // namespace adit::gateway
