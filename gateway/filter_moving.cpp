// A tunnel's sessions go along when it moves to another worker (move.cpp). They are copied while
// the tunnel is still served here, so that it has to wait for nothing but what changed last: the old
// worker looks through its table for them, tells them one buffer after the other, and those again
// that have been used since. A session is a fact that does not change but for when it was last
// seen; so what was told of one that has ended meanwhile does no harm, and ends there too.
#include "gateway/filter.h"

#include <rte_hash.h>

#include <algorithm>

namespace adit::gateway {
namespace {

constexpr size_t kGatheredAtATime = 4096;  // 128 KiB of the table
constexpr uint32_t kSpareMin = 64;         // sessions opened while a tunnel is moved
constexpr uint32_t kSpareShare = 8;        // or an eighth of what it has

}  // namespace

// ---- At the worker that has it ----

uint32_t Filter::begin_leaving(const Tunnel& tunnel) {
  const uint32_t limit = lane_share(settings_.sessions_per_tunnel, tunnel.lanes);
  const uint32_t now = tunnel.filter_sessions;
  leaving_.slot = tunnel.slot;
  leaving_.residence = tunnel.open->residence;
  leaving_.spare = std::min(std::max(limit, now) - now, kSpareMin + now / kSpareShare);
  leaving_.opened = 0;
  leaving_.gathered = leaving_.hand = 0;
  leaving_.found.clear();
  return now + leaving_.spare;
}

void Filter::end_leaving() {
  leaving_.slot = 0;
  leaving_.found.clear();
  leaving_.hand = 0;
}

bool Filter::gather() {
  const size_t end = std::min(leaving_.gathered + kGatheredAtATime, sessions_.size());
  for (; leaving_.gathered < end; ++leaving_.gathered) {
    const Session& session = sessions_[leaving_.gathered];
    const bool is_its =
        session.tunnel_slot == leaving_.slot && session.residence == leaving_.residence;
    if (is_its && leaving_.found.size() < leaving_.found.capacity()) {
      leaving_.found.push_back({.position = static_cast<uint32_t>(leaving_.gathered)});
    }
  }
  return end == sessions_.size();
}

// Where gather() has not been yet it will find it. Without a place in the list there are more than
// can be moved, too.
void Filter::note_opened(uint32_t position) {
  ++leaving_.opened;
  if (position < leaving_.gathered && leaving_.found.size() < leaving_.found.capacity()) {
    leaving_.found.push_back({.position = position});
  }
}

unsigned Filter::tell(std::span<Record> out) {
  unsigned told = 0;
  for (; leaving_.hand < leaving_.found.size() && told < out.size(); ++leaving_.hand) {
    Found& found = leaving_.found[leaving_.hand];
    const Session& session = sessions_[found.position];
    const bool is_its =
        session.tunnel_slot == leaving_.slot && session.residence == leaving_.residence;
    if (!is_its || (found.is_told && found.last_seen_s == session.last_seen_s)) continue;
    out[told++] = {session.key, session.last_seen_s, session.mapping_created_s};
    found = {found.position, session.last_seen_s, true};
  }
  return told;
}

// ---- At the worker that it goes to ----

bool Filter::expect(uint32_t slot, uint32_t residence, uint32_t sessions) {
  if (free_.size() < sessions) return false;
  arriving_ = {.slot = slot, .residence = residence, .room = sessions, .sessions = 0};
  return true;
}

// There may be one of the same key: told before, or left over from an earlier mapping, or from an
// earlier stay of this tunnel.
void Filter::take(std::span<const Record> records) {
  for (const Record& record : records) {
    const Session session{record.key, record.last_seen_s, record.mapping_created_s, arriving_.slot,
                          arriving_.residence};
    void* position = nullptr;
    if (rte_hash_lookup_data(index_, &record.key, &position) >= 0) {
      Session& known = sessions_[static_cast<uint32_t>(reinterpret_cast<uintptr_t>(position))];
      if (known.tunnel_slot == session.tunnel_slot && known.residence == session.residence) {
        known = session;
        continue;
      }
      remove(known);
    }
    uint32_t place = 0;
    if (free_.empty() || !add(session, place)) continue;  // never: room has been kept
    ++arriving_.sessions;
    if (arriving_.room > 0) --arriving_.room;
  }
}

void Filter::adopt(Tunnel& tunnel) {
  tunnel.open->residence = arriving_.residence;
  tunnel.filter_sessions = arriving_.sessions;
  end_arriving();
}

}  // namespace adit::gateway
