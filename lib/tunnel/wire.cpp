#include "lib/tunnel/wire.h"

namespace adit::tunnel {

const char* protection_name(Protection p) {
  switch (p) {
    case Protection::chacha20_poly1305:
      return "chacha20-poly1305";
    case Protection::aes_256_gcm:
      return "aes-256-gcm";
    case Protection::plain:
      return "plain";
  }
  return "unknown";
}

}  // namespace adit::tunnel
