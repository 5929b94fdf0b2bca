#include "gateway/filter.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace adit::gateway {
namespace {

// Called once a millisecond, the hand goes round in some four seconds.
inline constexpr size_t kSweepsARound = 4096;

}  // namespace

bool Filter::is_needed(std::span<const nat::Profile> profiles) {
  const auto keeps_sessions = [](nat::Filtering mode) {
    return mode != nat::Filtering::endpoint_independent;
  };
  return std::ranges::any_of(profiles, [&](const nat::Profile& profile) {
    return std::ranges::any_of(profile.filtering, keeps_sessions);
  });
}

Filter::Filter(const char* name, const Settings& settings, TunnelTable& tunnels, nat::Nat& nat)
    : settings_(settings), tunnels_(tunnels), nat_(nat), entries_(settings.sessions) {
  static_assert(sizeof(Key) == 16 && std::has_unique_object_representations_v<Key>);
  rte_hash_parameters parameters{};
  parameters.name = name;
  // A cuckoo table takes what it was made for only with room to spare.
  parameters.entries = settings.sessions + settings.sessions / 4 + 8;
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
  free_.reserve(settings.sessions);
  for (uint32_t position = settings.sessions; position > 0; --position) {
    free_.push_back(position - 1);
  }
}

Filter::~Filter() { rte_hash_free(index_); }

// A query's identifier belongs to our end; its remote has an address only.
Filter::Key Filter::key_of(const nat::Mapping& mapping, const Endpoint& remote) const {
  Key key{mapping.external, remote, mapping.protocol, {}};
  const bool has_port = mode_of(mapping) == nat::Filtering::address_and_port_dependent &&
                        mapping.protocol != static_cast<uint8_t>(nat::Protocol::icmp);
  if (!has_port) key.remote.port = Be16{};
  return key;
}

Filter::Entry* Filter::find(const Key& key) {
  void* position = nullptr;
  if (rte_hash_lookup_data(index_, &key, &position) < 0) return nullptr;
  return &entries_[reinterpret_cast<uintptr_t>(position)];
}

// The clock counts whole seconds, so "more than" keeps a session at least as long as it should.
bool Filter::is_idle(const Entry& entry, uint32_t now_s) const {
  const nat::Timeouts& timeouts = nat_.profile(entry.profile).timeouts;
  const uint32_t idle_s = now_s - entry.last_seen_s;
  switch (static_cast<nat::Protocol>(entry.key.protocol)) {
    case nat::Protocol::udp:
      return idle_s > timeouts.udp_s;
    case nat::Protocol::tcp:
      return idle_s > timeouts.tcp_established_s;
    case nat::Protocol::icmp:
      break;
  }
  return idle_s > timeouts.icmp_s;
}

Filter::Refusal Filter::open(const nat::Mapping& mapping, const Endpoint& remote,
                             uint32_t now_s) {
  if (mode_of(mapping) == nat::Filtering::endpoint_independent) return Refusal::none;
  const Key key = key_of(mapping, remote);
  if (Entry* const entry = find(key)) {
    if (entry->mapping_created_s == mapping.created_s) [[likely]] {
      entry->last_seen_s = now_s;
      return Refusal::none;
    }
    remove(*entry);  // left over from an earlier mapping at this endpoint
  }
  Tunnel& tunnel = tunnels_.at(mapping.tunnel_slot);
  if (tunnel.filter_sessions >= settings_.sessions_per_tunnel) return Refusal::tunnel_limit;
  if (free_.empty()) return Refusal::table_full;
  const uint32_t position = free_.back();
  if (rte_hash_add_key_data(index_, &key, reinterpret_cast<void*>(uintptr_t{position})) != 0) {
    return Refusal::table_full;
  }
  free_.pop_back();
  entries_[position] = {key,         now_s,        mapping.created_s, tunnel.slot,
                        tunnel.epoch, mapping.profile, true};
  ++tunnel.filter_sessions;
  ++live_;
  return Refusal::none;
}

bool Filter::admits(const nat::Mapping& mapping, const Endpoint& remote, uint32_t now_s) {
  if (mode_of(mapping) == nat::Filtering::endpoint_independent) return true;
  Entry* const entry = find(key_of(mapping, remote));
  if (entry == nullptr || entry->mapping_created_s != mapping.created_s ||
      is_idle(*entry, now_s)) {
    return false;
  }
  if (nat_.profile(entry->profile).inbound_refresh) entry->last_seen_s = now_s;
  return true;
}

void Filter::remove(Entry& entry) {
  rte_hash_del_key(index_, &entry.key);
  Tunnel& tunnel = tunnels_.at(entry.tunnel_slot);
  // A closed tunnel, or the slot's next one, does not count it any more.
  const bool counts_it = tunnel.active && tunnel.epoch == entry.tunnel_epoch;
  if (counts_it && tunnel.filter_sessions > 0) --tunnel.filter_sessions;
  entry = Entry{};
  --live_;
  free_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
}

void Filter::sweep(uint32_t now_s) {
  if (live_ == 0) return;
  for (size_t i = 0; i <= entries_.size() / kSweepsARound; ++i) {
    hand_ = hand_ + 1 < entries_.size() ? hand_ + 1 : 0;
    Entry& entry = entries_[hand_];
    if (!entry.used) continue;
    const Key& key = entry.key;
    const nat::Mapping* const mapping =
        nat_.find_inbound(key.external.address, static_cast<nat::Protocol>(key.protocol),
                         key.external.port, now_s);
    const bool is_over = mapping == nullptr || mapping->created_s != entry.mapping_created_s ||
                         is_idle(entry, now_s);
    if (is_over) remove(entry);
  }
}

}  // namespace adit::gateway
