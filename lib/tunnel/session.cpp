#include "lib/tunnel/session.h"

#include <algorithm>

namespace adit::tunnel {

// Clears the words that the window enters, up to this one. The one that holds the highest counter
// so far stays, and more than all of them need not be cleared.
void ReplayWindow::enter(uint64_t word) {
  const uint64_t last_word = next_ == 0 ? 0 : (next_ - 1) / 64;
  const uint64_t entered = std::min<uint64_t>(word - last_word, kWords);
  for (uint64_t i = 0; i < entered; ++i) seen_[place_of(word - i)] = 0;
}

Session SessionSet::install(const Session& session) {
  Slot& current = slots_[kCurrent];
  Slot& previous = slots_[kPrevious];
  Slot& next = slots_[kNext];
  const Slot fresh{session, 0, {}};
  if (!session.initiator) {
    const Session displaced = next.session;
    next = fresh;
    return displaced;
  }
  const Session displaced = previous.session;
  previous = current;
  current = fresh;
  return displaced;
}

SessionSet::Place SessionSet::find(uint32_t local_index) const {
  if (local_index == 0) return kNone;
  for (const Place place : {kCurrent, kPrevious, kNext}) {
    if (slots_[place].session.local_index == local_index) return place;
  }
  return kNone;
}

bool SessionSet::confirm(Place place) {
  if (place != kNext || !slots_[kNext].session.exists()) return false;
  slots_[kPrevious] = slots_[kCurrent];
  slots_[kCurrent] = slots_[kNext];
  slots_[kNext] = Slot{};
  return true;
}

unsigned SessionSet::expire(uint64_t now_ns) {
  unsigned expired = 0;
  for (Slot& slot : slots_) {
    if (!slot.session.exists() || !slot.session.expired(now_ns)) continue;
    slot = Slot{};
    ++expired;
  }
  return expired;
}

void SessionSet::clear() {
  slots_ = {};
}

}  // namespace adit::tunnel
