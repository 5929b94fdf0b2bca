// The protections of a configuration as the handshake offers them.
#pragma once

#include <span>

#include "client-lite/config.h"
#include "lib/tunnel/wire.h"

namespace adit::client {

inline tunnel::ProtectionSet protections_of(std::span<const Protection> protections) {
  tunnel::ProtectionSet set;
  for (const Protection protection : protections) {
    switch (protection) {
      case Protection::kPlain:
        set = set.with(tunnel::Protection::plain);
        break;
      case Protection::kAes256Gcm:
        set = set.with(tunnel::Protection::aes_256_gcm);
        break;
      case Protection::kChaCha20Poly1305:
        set = set.with(tunnel::Protection::chacha20_poly1305);
        break;
    }
  }
  return set;
}

}  // namespace adit::client
