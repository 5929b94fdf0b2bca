// Sealing and opening of type 4 packets with libsodium and libcrypto. The client uses it for every
// packet and tests use it as the reference; the gateway's workers have gateway/crypto.h, which
// must agree with it byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "lib/tunnel/session.h"

namespace adit::tunnel {

// The 12-byte nonce of both AEADs: 4 zero bytes, then the counter, little-endian.
// Additional data is empty, as in WireGuard.

// An expanded key for one direction of one session. Creating one allocates; using it does not.
class Aead {
 public:
  Aead(Protection protection, const SessionKey& key);  // plain means its control packets' ChaCha20
  ~Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;

  // Seals `text_bytes` at `packet + sizeof(EncryptedHeader)` in place, writes the header in front
  // and the tag behind. `packet` has room for text_bytes + kEncryptedOverheadBytes. Returns the
  // whole length.
  size_t seal(std::span<uint8_t> packet, size_t text_bytes, uint32_t receiver_index,
              uint64_t counter);

  // Opens a whole type 4 packet in place; the inner packet then begins after the header. Returns
  // its length in bytes (0 = heartbeat), or nullopt if the packet is short or not authentic.
  std::optional<size_t> open(std::span<uint8_t> packet);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Inner packets are padded with zeros to a multiple of 16 bytes, but not beyond the tunnel's MTU.
size_t padded_bytes(size_t inner_bytes, size_t mtu_bytes);

}  // namespace adit::tunnel
