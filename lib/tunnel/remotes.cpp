#include "lib/tunnel/remotes.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lib/tunnel/crypto.h"

namespace adit::tunnel {

Remotes::Remotes(const Identity& local, std::span<const Known> known, uint64_t seed)
    : local_(local),
      seed_(seed | 1),
      entries_(known.size()),
      places_(std::bit_ceil(std::max<size_t>(2 * known.size(), 2)), kNobody) {
  for (uint32_t position = 0; position < known.size(); ++position) {
    RemoteIdentity& identity = entries_[position].identity;
    identity.public_key = known[position].public_key;
    identity.preshared_key = known[position].preshared_key;
    places_[place_of(identity.public_key)] = position;
  }
}

Remotes::~Remotes() {
  for (Entry& entry : entries_) {
    wipe(entry.identity.preshared_key.bytes);
    wipe(entry.identity.static_static);
  }
}

// Where the key stands, or the free place where it would.
uint32_t Remotes::place_of(const PublicKey& key) const {
  uint64_t word = 0;
  std::memcpy(&word, key.bytes.data(), sizeof word);
  // Multiply-shift: the product's highest bits depend on all of the word's.
  auto place = static_cast<size_t>((word * seed_) >> (64 - std::countr_zero(places_.size())));
  while (places_[place] != kNobody && entries_[places_[place]].identity.public_key != key) {
    place = (place + 1) % places_.size();
  }
  return static_cast<uint32_t>(place);
}

uint32_t Remotes::find(const PublicKey& key) const { return places_[place_of(key)]; }

// Where two threads want it at once, the second waits for what the first is working out.
const RemoteIdentity* Remotes::identity(uint32_t position) {
  Entry& entry = entries_[position];
  uint32_t state = kNotMade;
  if (entry.state.compare_exchange_strong(state, kBeingMade, std::memory_order_acquire)) {
    const auto made = make_remote_identity(local_, entry.identity.public_key, {});
    if (made) entry.identity.static_static = made->static_static;
    state = made ? kUsable : kUseless;
    entry.state.store(state, std::memory_order_release);
    entry.state.notify_all();
  }
  while (state == kBeingMade) {
    entry.state.wait(kBeingMade, std::memory_order_acquire);
    state = entry.state.load(std::memory_order_acquire);
  }
  return state == kUsable ? &entry.identity : nullptr;
}

}  // namespace adit::tunnel
