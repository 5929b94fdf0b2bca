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
    : settings_(settings),
      tunnels_(tunnels),
      nat_(nat),
      memory_(settings.sessions * sizeof(Session)),
      sessions_(reinterpret_cast<Session*>(memory_.data()), settings.sessions) {
  static_assert(std::has_unique_object_representations_v<Key>);
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
  const bool has_port = mode_of(mapping) == nat::Filtering::address_and_port_dependent &&
                        mapping.protocol != static_cast<uint8_t>(nat::Protocol::icmp);
  const Endpoint as_kept{remote.address, has_port ? remote.port : Be16{}};
  return {nat::packed(mapping.external) | uint64_t{mapping.protocol} << 48,
          nat::packed(as_kept) | uint64_t{mapping.profile} << 48};
}

Filter::Session* Filter::find(nat::Mapping& mapping, const Key& key) {
  Session& last = sessions_[mapping.session];
  if (last.key == key && last.tunnel_slot != 0) [[likely]] {
    return &last;
  }
  void* position = nullptr;
  if (rte_hash_lookup_data(index_, &key, &position) < 0) return nullptr;
  mapping.session = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(position));
  return &sessions_[mapping.session];
}

// The clock counts whole seconds, so "more than" keeps a session at least as long as it should.
bool Filter::is_idle(const Session& session, uint32_t now_s) const {
  const nat::Timeouts& timeouts = nat_.profile(session.profile()).timeouts;
  const uint32_t idle_s = now_s - session.last_seen_s;
  switch (static_cast<nat::Protocol>(session.protocol())) {
    case nat::Protocol::udp:
      return idle_s > timeouts.udp_s;
    case nat::Protocol::tcp:
      return idle_s > timeouts.tcp_established_s;
    case nat::Protocol::icmp:
      break;
  }
  return idle_s > timeouts.icmp_s;
}

Filter::Refusal Filter::open(nat::Mapping& mapping, const Endpoint& remote, uint32_t now_s) {
  if (mode_of(mapping) == nat::Filtering::endpoint_independent) return Refusal::none;
  const Key key = key_of(mapping, remote);
  if (Session* const session = find(mapping, key)) {
    if (session->mapping_created_s == mapping.created_s) [[likely]] {
      session->last_seen_s = now_s;
      return Refusal::none;
    }
    remove(*session);  // left over from an earlier mapping at this endpoint
  }
  Tunnel& tunnel = tunnels_.at(mapping.tunnel_slot);
  if (tunnel.filter_sessions >= lane_share(settings_.sessions_per_tunnel, tunnel.lanes)) {
    return Refusal::tunnel_limit;
  }
  if (free_.empty()) return Refusal::table_full;
  const uint32_t position = free_.back();
  if (rte_hash_add_key_data(index_, &key, reinterpret_cast<void*>(uintptr_t{position})) != 0) {
    return Refusal::table_full;
  }
  free_.pop_back();
  sessions_[position] = {key, now_s, mapping.created_s, tunnel.slot, tunnel.epoch};
  mapping.session = position;
  ++tunnel.filter_sessions;
  ++live_;
  return Refusal::none;
}

bool Filter::admits(nat::Mapping& mapping, const Endpoint& remote, uint32_t now_s) {
  if (mode_of(mapping) == nat::Filtering::endpoint_independent) return true;
  Session* const session = find(mapping, key_of(mapping, remote));
  if (session == nullptr || session->mapping_created_s != mapping.created_s ||
      is_idle(*session, now_s)) {
    return false;
  }
  if (nat_.profile_of(mapping).inbound_refresh) session->last_seen_s = now_s;
  return true;
}

void Filter::remove(Session& session) {
  rte_hash_del_key(index_, &session.key);
  Tunnel& tunnel = tunnels_.at(session.tunnel_slot);
  // A closed tunnel, or the slot's next one, does not count it any more.
  const bool counts_it = tunnel.active && tunnel.epoch == session.tunnel_epoch;
  if (counts_it && tunnel.filter_sessions > 0) --tunnel.filter_sessions;
  session = Session{};
  --live_;
  free_.push_back(static_cast<uint32_t>(&session - sessions_.data()));
}

void Filter::sweep(uint32_t now_s) {
  if (live_ == 0) return;
  for (size_t i = 0; i <= sessions_.size() / kSweepsARound; ++i) {
    hand_ = hand_ + 1 < sessions_.size() ? hand_ + 1 : 0;
    Session& session = sessions_[hand_];
    if (session.tunnel_slot == 0) continue;
    const Endpoint external = nat::unpacked(session.key.external);
    const nat::Mapping* const mapping =
        nat_.find_inbound(external.address, static_cast<nat::Protocol>(session.protocol()),
                          external.port, now_s);
    const bool is_over = mapping == nullptr ||
                         mapping->created_s != session.mapping_created_s ||
                         is_idle(session, now_s);
    if (is_over) remove(session);
  }
}

}  // namespace adit::gateway
