#include "gateway/fragments.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace adit::gateway {
namespace {

inline constexpr unsigned kSweptAtATime = 64;

// What one tunnel may have of either kind, what is nobody's yet, and what is another worker's.
inline constexpr unsigned kTunnelShare = 8;  // an eighth
inline constexpr unsigned kNobodysShare = 2;
inline constexpr unsigned kHandedShare = 4;

Fate fate_of(FragmentCoverage::Refusal refusal) {
  switch (refusal) {
    case FragmentCoverage::Refusal::none:
      break;
    case FragmentCoverage::Refusal::overlap:
      return Fate::fragment_overlap;
    case FragmentCoverage::Refusal::beyond_end:
      return Fate::fragment_malformed;
    case FragmentCoverage::Refusal::scattered:
      return Fate::fragment_hold_full;
  }
  return Fate::next;
}

}  // namespace

Fragments::Fragments(const char* name, const Sizes& sizes)
    : entries_(sizes.datagrams), held_packets_(sizes.held), shares_(sizes.tunnel_slots + 1) {
  static_assert(sizeof(Key) == 20 && std::has_unique_object_representations_v<Key>);
  rte_hash_parameters parameters{};
  parameters.name = name;
  parameters.entries = 2 * sizes.datagrams;  // so that a key nearly always finds room
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
  free_.reserve(sizes.datagrams);
  for (uint32_t position = sizes.datagrams; position > 0; --position) {
    free_.push_back(position - 1);
  }
  for (uint32_t at = sizes.held; at > 0; --at) {
    held_packets_[at - 1].next = std::exchange(free_held_, at - 1);
  }
}

Fragments::~Fragments() { rte_hash_free(index_); }

Fate Fragments::first(const Key& key, const FragmentRange& range, FragmentRoute& route,
                      uint64_t now_ns) {
  Entry* entry = find(key);
  if (entry == nullptr) {
    entry = occupy(key, route.tunnel_slot, now_ns);
    if (entry == nullptr) return Fate::fragment_table_full;
  } else if (entry->owner != route.tunnel_slot) {
    if (!may_own(route.tunnel_slot)) return Fate::fragment_table_full;
    --shares_[entry->owner].datagrams;
    ++shares_[route.tunnel_slot].datagrams;
    entry->owner = route.tunnel_slot;
  }
  // A second first fragment: it came twice, or the sender's ids have come round, and this is a new
  // datagram.
  if (entry->has_route) {
    entry->coverage = {};
    if (now_ns - entry->since_ns < kTimeoutNs) route.id = entry->route.id;
  }
  const Fate fate = fate_of(entry->coverage.add(range));
  if (fate != Fate::next) return fate;  // it overlaps what waits
  entry->has_route = true;
  entry->route = route;
  entry->since_ns = now_ns;
  return Fate::next;
}

Fate Fragments::later(const Key& key, const FragmentRange& range, rte_mbuf* mbuf, uint64_t now_ns,
                      FragmentRoute& route) {
  Entry* entry = find(key);
  if (entry != nullptr && entry->has_route && now_ns - entry->since_ns >= kTimeoutNs) {
    // Over, though the sweep has not come by: this is of another datagram with the same id.
    entry->has_route = false;
    entry->coverage = {};
    entry->since_ns = now_ns;
  }
  if (entry != nullptr && entry->has_route) {
    const Fate fate = fate_of(entry->coverage.add(range));
    if (fate != Fate::next) return fate;
    route = entry->route;
    if (entry->coverage.is_complete() && entry->held == 0) remove(*entry);
    return Fate::next;
  }
  if (!may_hold(key.tunnel_slot)) return Fate::fragment_hold_full;
  if (entry == nullptr) {
    entry = occupy(key, key.tunnel_slot, now_ns);
    if (entry == nullptr) return Fate::fragment_table_full;
  }
  if (entry->held == kHeldPerDatagramMax) return Fate::fragment_hold_full;
  const Fate fate = fate_of(entry->coverage.add(range));
  if (fate != Fate::next) return fate;
  hold(*entry, mbuf);
  return Fate::taken;
}

bool Fragments::is_ours(const Key& key) const {
  const Entry* entry = find(key);
  return entry != nullptr && entry->has_route && entry->route.way == FragmentRoute::to_ourselves;
}

unsigned Fragments::sweep(uint64_t now_ns) {
  if (datagrams_ == 0) return 0;
  unsigned freed = 0;
  for (unsigned i = 0; i < kSweptAtATime; ++i) {
    hand_ = hand_ + 1 < entries_.size() ? hand_ + 1 : 0;
    Entry& entry = entries_[hand_];
    if (!entry.used || now_ns - entry.since_ns < kTimeoutNs) continue;
    freed += free_held(entry);
    remove(entry);
  }
  return freed;
}

unsigned Fragments::clear() {
  unsigned freed = 0;
  for (Entry& entry : entries_) {
    if (!entry.used) continue;
    freed += free_held(entry);
    remove(entry);
  }
  return freed;
}

// ---- Entries ----

Fragments::Entry* Fragments::find(const Key& key) const {
  void* position = nullptr;
  if (rte_hash_lookup_data(index_, &key, &position) < 0) return nullptr;
  return &entries_[reinterpret_cast<uintptr_t>(position)];
}

unsigned Fragments::share_of(size_t all, uint32_t owner) const {
  const unsigned part = owner == 0                ? kNobodysShare
                        : owner == handed_share() ? kHandedShare
                                                  : kTunnelShare;
  return std::max(1u, static_cast<unsigned>(all) / part);
}

bool Fragments::may_own(uint32_t owner) const {
  return shares_[owner].datagrams < share_of(entries_.size(), owner);
}

Fragments::Entry* Fragments::occupy(const Key& key, uint32_t owner, uint64_t now_ns) {
  if (free_.empty() || !may_own(owner)) return nullptr;
  const uint32_t position = free_.back();
  if (rte_hash_add_key_data(index_, &key, reinterpret_cast<void*>(uintptr_t{position})) != 0) {
    return nullptr;
  }
  free_.pop_back();
  ++datagrams_;
  ++shares_[owner].datagrams;
  Entry& entry = entries_[position];
  entry = Entry{};
  entry.key = key;
  entry.owner = owner;
  entry.since_ns = now_ns;
  entry.used = true;
  return &entry;
}

// Holds nothing any more.
void Fragments::remove(Entry& entry) {
  rte_hash_del_key(index_, &entry.key);
  --shares_[entry.owner].datagrams;
  --datagrams_;
  entry.used = false;
  free_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
}

// ---- Packets that wait ----

// Counted by the key's slot: an inbound fragment is nobody's while it waits.
bool Fragments::may_hold(uint32_t owner) const {
  return free_held_ != kNone &&
         shares_[owner].held < share_of(held_packets_.size(), owner);
}

void Fragments::hold(Entry& entry, rte_mbuf* mbuf) {
  const uint32_t at = free_held_;
  free_held_ = held_packets_[at].next;
  held_packets_[at] = {mbuf, kNone};
  if (entry.head == kNone) {
    entry.head = at;
  } else {
    held_packets_[entry.tail].next = at;
  }
  entry.tail = at;
  ++entry.held;
  ++held_;
  ++shares_[entry.key.tunnel_slot].held;
}

rte_mbuf* Fragments::take_held(Entry& entry) {
  if (entry.head == kNone) return nullptr;
  const uint32_t at = entry.head;
  rte_mbuf* const mbuf = held_packets_[at].mbuf;
  entry.head = held_packets_[at].next;
  held_packets_[at] = {nullptr, free_held_};
  free_held_ = at;
  --entry.held;
  --held_;
  --shares_[entry.key.tunnel_slot].held;
  return mbuf;
}

unsigned Fragments::free_held(Entry& entry) {
  unsigned freed = 0;
  while (rte_mbuf* mbuf = take_held(entry)) {
    rte_pktmbuf_free(mbuf);
    ++freed;
  }
  return freed;
}

}  // namespace adit::gateway
