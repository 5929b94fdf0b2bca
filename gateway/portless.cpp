#include "gateway/portless.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "lib/net/checksum.h"
#include "lib/net/headers.h"

namespace adit::gateway {
namespace {

inline constexpr unsigned kSweptAtATime = 16;

}  // namespace

PortlessMappings::PortlessMappings(const char* name, unsigned entries, const nat::Nat& nat,
                                   const TunnelTable& tunnels)
    : entries_(entries), counts_(tunnels.slots()), nat_(nat), tunnels_(tunnels) {
  static_assert(sizeof(Key) == 16 && std::has_unique_object_representations_v<Key>);
  rte_hash_parameters parameters{};
  parameters.name = name;
  parameters.entries = 2 * entries;
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
  free_.reserve(entries);
  for (uint32_t position = entries; position > 0; --position) free_.push_back(position - 1);
}

PortlessMappings::~PortlessMappings() { rte_hash_free(index_); }

PortlessMappings::Key PortlessMappings::outbound_key(const Entry& entry) {
  return {entry.mapping.tunnel_slot, entry.mapping.internal.address, entry.remote, entry.protocol,
          0, {}};
}

PortlessMappings::Key PortlessMappings::inbound_key(const Entry& entry) {
  return {0, entry.mapping.external.address, entry.remote, entry.protocol, 1, {}};
}

PortlessMappings::Entry* PortlessMappings::find(const Key& key) {
  void* position = nullptr;
  if (rte_hash_lookup_data(index_, &key, &position) < 0) return nullptr;
  return &entries_[reinterpret_cast<uintptr_t>(position)];
}

// A tunnel that was closed, or its slot given to another, takes its mappings along.
bool PortlessMappings::is_over(const Entry& entry, uint32_t now_s) const {
  const uint32_t timeout_s = nat_.profile_of(entry.mapping).timeouts.udp_s;
  const TunnelReport& report = tunnels_.report(entry.mapping.tunnel_slot);
  return now_s - entry.mapping.last_seen_s >= timeout_s ||
         report.epoch.load(std::memory_order_relaxed) != entry.epoch;
}

const nat::Mapping* PortlessMappings::outbound(const Owner& owner, uint8_t protocol,
                                               Ipv4Address internal, Ipv4Address remote,
                                               Ipv4Address external, uint32_t now_s,
                                               Refusal& refusal) {
  Entry wanted;
  wanted.mapping.tunnel_slot = owner.slot;
  wanted.mapping.profile = owner.profile;
  wanted.mapping.state = nat::MappingState::live;
  wanted.mapping.last_seen_s = wanted.mapping.created_s = now_s;
  nat::bind_endpoints(wanted.mapping, {internal, {}}, {external, {}});
  wanted.remote = remote;
  wanted.epoch = owner.epoch;
  wanted.protocol = protocol;
  wanted.used = true;

  if (Entry* entry = find(outbound_key(wanted))) {
    if (!is_over(*entry, now_s)) {
      entry->mapping.last_seen_s = now_s;
      return &entry->mapping;
    }
    remove(*entry);
  }
  if (Entry* holder = find(inbound_key(wanted))) {
    // Whoever holds it keeps it until the sweep finds that it is over.
    if (holder->mapping.tunnel_slot != owner.slot || !is_over(*holder, now_s)) {
      refusal = Refusal::clash;
      return nullptr;
    }
    remove(*holder);
  }
  if (counts_[owner.slot] >= lane_share(kPerTunnelMax, owner.lanes)) {
    refusal = Refusal::tunnel_limit;
    return nullptr;
  }
  Entry* entry = occupy(wanted);
  if (entry == nullptr) {
    refusal = Refusal::table_full;
    return nullptr;
  }
  ++counts_[owner.slot];
  return &entry->mapping;
}

PortlessMappings::Entry* PortlessMappings::occupy(const Entry& wanted) {
  if (free_.empty()) return nullptr;
  const uint32_t position = free_.back();
  void* const value = reinterpret_cast<void*>(uintptr_t{position});
  const Key out = outbound_key(wanted);
  const Key in = inbound_key(wanted);
  if (rte_hash_add_key_data(index_, &out, value) != 0) return nullptr;
  if (rte_hash_add_key_data(index_, &in, value) != 0) {
    rte_hash_del_key(index_, &out);
    return nullptr;
  }
  free_.pop_back();
  ++live_;
  entries_[position] = wanted;
  return &entries_[position];
}

void PortlessMappings::remove(Entry& entry) {
  const Key out = outbound_key(entry);
  const Key in = inbound_key(entry);
  rte_hash_del_key(index_, &out);
  rte_hash_del_key(index_, &in);
  --counts_[entry.mapping.tunnel_slot];
  entry = Entry{};
  --live_;
  free_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
}

const nat::Mapping* PortlessMappings::inbound(uint8_t protocol, Ipv4Address remote,
                                              Ipv4Address external, uint32_t now_s, Use use) {
  Entry* entry = find({0, external, remote, protocol, 1, {}});
  if (entry == nullptr || is_over(*entry, now_s)) return nullptr;
  if (use == Use::refresh) entry->mapping.last_seen_s = now_s;
  return &entry->mapping;
}

void PortlessMappings::sweep(uint32_t now_s) {
  if (live_ == 0) return;
  for (unsigned i = 0; i < kSweptAtATime; ++i) {
    hand_ = hand_ + 1 < entries_.size() ? hand_ + 1 : 0;
    Entry& entry = entries_[hand_];
    if (entry.used && is_over(entry, now_s)) remove(entry);
  }
}

}  // namespace adit::gateway
