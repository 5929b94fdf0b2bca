#include "gateway/filter.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "lib/nat/coarse_clock.h"

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
  // What another worker has been promised room for must find it (expect()).
  parameters.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE;
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
  leaving_.found.reserve(2 * std::min(settings.sessions_per_tunnel, kMovableMax));
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

// The clock counts whole seconds, so "more than" keeps a session at least as long as it should. The
// worker that saw it last may have been another one, whose clock is a little ahead.
bool Filter::is_idle(const Session& session, uint32_t now_s) const {
  const nat::Timeouts& timeouts = nat_.profile(session.profile()).timeouts;
  const uint32_t idle_s = nat::elapsed_s(session.last_seen_s, now_s);
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
    const bool is_its = session->mapping_created_s == mapping.created_s;
    if (is_its && session->last_seen_s == now_s) [[likely]] {
      return Refusal::none;
    }
    if (is_its && is_present(*session)) {
      session->last_seen_s = now_s;
      return Refusal::none;
    }
    remove(*session);  // left over from an earlier mapping at this endpoint, or an earlier stay
  }
  Tunnel& tunnel = tunnels_.at(mapping.tunnel_slot);
  if (tunnel.filter_sessions >= lane_share(settings_.sessions_per_tunnel, tunnel.lanes)) {
    return Refusal::tunnel_limit;
  }
  if (free_.size() <= arriving_.room) return Refusal::table_full;
  if (!add({key, now_s, mapping.created_s, tunnel.slot, tunnel.open->residence},
           mapping.session)) {
    return Refusal::table_full;
  }
  ++tunnel.filter_sessions;
  if (tunnel.slot == leaving_.slot) note_opened(mapping.session);
  return Refusal::none;
}

// False: the index has no room.
bool Filter::add(const Session& session, uint32_t& position) {
  const uint32_t free = free_.back();
  if (rte_hash_add_key_data(index_, &session.key, reinterpret_cast<void*>(uintptr_t{free})) != 0) {
    return false;
  }
  free_.pop_back();
  sessions_[free] = session;
  position = free;
  ++live_;
  return true;
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

// A tunnel that has closed or moved does not count it any more, nor does the slot's next one.
bool Filter::is_present(const Session& session) const {
  if (!is_ours(session.tunnel_slot)) return false;
  const Tunnel& tunnel = tunnels_.at(session.tunnel_slot);
  return tunnel.active && tunnel.open->residence == session.residence;
}

void Filter::remove(Session& session) {
  rte_hash_del_key(index_, &session.key);
  if (is_present(session)) --tunnels_.at(session.tunnel_slot).filter_sessions;
  session = Session{};
  --live_;
  free_.push_back(static_cast<uint32_t>(&session - sessions_.data()));
}

// Of another worker's tunnel nothing may be touched; what there is of its sessions here is left
// over from before it moved, or comes ahead of it.
bool Filter::is_over(const Session& session, uint32_t now_s) const {
  const uint32_t slot = session.tunnel_slot;
  if (!is_ours(slot)) return slot != arriving_.slot && owners_->of(slot) != kOnTheMove;
  if (is_idle(session, now_s)) return true;
  const Endpoint external = nat::unpacked(session.key.external);
  const auto protocol = static_cast<nat::Protocol>(session.protocol());
  // Somebody else's by now, and then perhaps with another worker?
  const nat::Mapping* const entry = nat_.entry(external.address, protocol, external.port);
  if (entry->tunnel_slot != slot) return true;
  const nat::Mapping* const mapping =
      nat_.find_inbound(external.address, protocol, external.port, now_s);
  return mapping == nullptr || mapping->created_s != session.mapping_created_s;
}

void Filter::sweep(uint32_t now_s) {
  if (live_ == 0) return;
  for (size_t i = 0; i <= sessions_.size() / kSweepsARound; ++i) {
    hand_ = hand_ + 1 < sessions_.size() ? hand_ + 1 : 0;
    Session& session = sessions_[hand_];
    if (session.tunnel_slot == 0) continue;
    if (is_over(session, now_s)) remove(session);
  }
}

}  // namespace adit::gateway
