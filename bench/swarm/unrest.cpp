// Clients that do not stay as they are: some go on at another address and port (they roam), some
// are gone without a word and come back anew (churn). Who does, and when, follows from the seed and
// from time. Who has changed is left alone for a while, so that there is only one "before".
#include <rte_cycles.h>

#include "bench/swarm/swarm.h"

namespace adit::bench {

namespace {

// What the gateway was sent so long after a client has changed finds it as it is. The gateway hears
// of it at once, but it may have to wait for its core.
inline constexpr double kSettleSeconds = 1;
inline constexpr uint64_t kAbsenceMinNs = 100'000'000;
inline constexpr uint64_t kAbsenceMaxNs = 1'000'000'000;
// A handshake is tried again after five seconds and a third at most.
inline constexpr double kReturnSeconds = 12;
inline constexpr unsigned kPicks = 16;

uint64_t cycles_of(double seconds) {
  return static_cast<uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
}

}  // namespace

// Somebody who is up and has been so for a while; nullopt: there seems to be nobody.
std::optional<uint32_t> Swarm::pick_settled() {
  const uint64_t tsc = rte_rdtsc();
  for (unsigned i = 0; i < kPicks; ++i) {
    const auto client = static_cast<uint32_t>(unrest_random_() % options_.clients);
    if (is_up_[client] && tsc >= whereabouts_[client].settled_tsc) return client;
  }
  return std::nullopt;
}

// Whether a packet that was sent then may come so. A gateway does not see that a client has left.
bool Swarm::may_come(uint32_t client, Came came, uint64_t sent_tsc) const {
  const Whereabouts& where = whereabouts_[client];
  return came == Came::in_time || sent_tsc < where.settled_tsc ||
         (came == Came::in_former_life && where.has_left);
}

// ---- Roaming ----

// The first that it sends from there is a heartbeat, since a plain packet moves no tunnel.
void Swarm::roam() {
  const std::optional<uint32_t> client = pick_settled();
  if (!client) return;
  Whereabouts& where = whereabouts_[*client];
  ++where.moves;
  where.settled_tsc = rte_rdtsc() + cycles_of(kSettleSeconds);
  rebuild_flows_of(*client);
  clients_[*client].announce(clock_.now_ns());
  ++trial_.roamed;
}

// ---- Churn ----

void Swarm::leave() {
  const std::optional<uint32_t> client = pick_settled();
  if (!client) return;
  whereabouts_[*client].has_left = true;
  ++absent_;
  ++trial_.left;
  const uint64_t away_ns = kAbsenceMinNs + unrest_random_() % (kAbsenceMaxNs - kAbsenceMinNs);
  absences_.push_back({*client, clock_.now_ns() + away_ns});
  clients_[*client].leave();
}

void Swarm::come_back(uint64_t now_ns) {
  std::erase_if(absences_, [&](const Absence& absence) {
    if (now_ns < absence.ends_ns) return false;
    connecting_since_tsc_[absence.client] = rte_rdtsc();
    clients_[absence.client].connect(now_ns);
    return true;
  });
}

void Swarm::note_return(uint32_t client) {
  whereabouts_[client].has_left = false;
  whereabouts_[client].settled_tsc = rte_rdtsc() + cycles_of(kSettleSeconds);
  --absent_;
  ++trial_.returned;
}

void Swarm::wait_for_absent() {
  const uint64_t ends_tsc = rte_rdtsc() + cycles_of(kReturnSeconds);
  while (absent_ != 0 && rte_rdtsc() < ends_tsc) poll();
}

// Those of the flows whose client is there.
std::span<const uint32_t> Swarm::present(std::span<const uint32_t> flows,
                                         std::array<uint32_t, kBurst>& room) {
  size_t count = 0;
  for (const uint32_t flow : flows) {
    if (!whereabouts_[flows_[flow].client].has_left) room[count++] = flow;
  }
  trial_.unsent += flows.size() - count;
  return {room.data(), count};
}

}  // namespace adit::bench
