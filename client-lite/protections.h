// The protections of a configuration as the handshake offers and chooses them.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "client-lite/config.h"
#include "lib/tunnel/wire.h"

namespace adit::client {

inline tunnel::Protection to_tunnel(Protection protection) {
  switch (protection) {
    case Protection::kPlain:
      return tunnel::Protection::plain;
    case Protection::kAes256Gcm:
      return tunnel::Protection::aes_256_gcm;
    case Protection::kChaCha20Poly1305:
      break;
  }
  return tunnel::Protection::chacha20_poly1305;
}

inline tunnel::ProtectionSet protections_of(std::span<const Protection> protections) {
  tunnel::ProtectionSet set;
  for (const Protection protection : protections) set = set.with(to_tunnel(protection));
  return set;
}

// In their order, as PeerConfig wants it; at most three, all different.
inline std::array<tunnel::Protection, 3> preference_of(std::span<const Protection> protections) {
  std::array<tunnel::Protection, 3> preference{};
  std::ranges::transform(protections, preference.begin(), to_tunnel);
  return preference;
}

}  // namespace adit::client
