// Those who may handshake with us, found by their public keys, each with the Diffie-Hellman between
// its key and ours, which is the same at every handshake and is done at the first. Who they are
// never changes, so threads may share a Remotes: what one of them has worked out all have.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/tunnel/noise.h"

namespace adit::tunnel {

class Remotes {
 public:
  static constexpr uint32_t kNobody = ~uint32_t{0};
  struct Known {
    PublicKey public_key;
    PresharedKey preshared_key;
  };

  // `known` have different keys; somebody's position among them is what he is found as. `local`
  // outlives this. `seed` is random, so that nobody can choose keys that share a place. Each takes
  // some 115 bytes.
  Remotes(const Identity& local, std::span<const Known> known, uint64_t seed);
  ~Remotes();
  Remotes(const Remotes&) = delete;
  Remotes& operator=(const Remotes&) = delete;

  // Whose key that is, or kNobody.
  uint32_t find(const PublicKey& key) const;
  // nullptr: its key is no point that a handshake can use.
  const RemoteIdentity* identity(uint32_t position);

 private:
  enum State : uint32_t { kNotMade, kBeingMade, kUsable, kUseless };
  struct Entry {
    RemoteIdentity identity;
    std::atomic<uint32_t> state = kNotMade;  // says whether static_static may be read
  };

  uint32_t place_of(const PublicKey& key) const;

  const Identity& local_;
  const uint64_t seed_;
  std::vector<Entry> entries_;     // by position
  std::vector<uint32_t> places_;   // positions, hashed by key; at most half of them taken
};

}  // namespace adit::tunnel
