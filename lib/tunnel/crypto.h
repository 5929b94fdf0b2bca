// The primitives under the tunnel, each one call over plain bytes: BLAKE2s (libb2), HMAC and KDF
// over it, AES-256-GCM (libcrypto), X25519, ChaCha20-Poly1305 and XChaCha20-Poly1305
// (libsodium). Nothing here knows a message or a session. All of it may be called from any thread;
// only an Aes256Gcm belongs to one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>

struct evp_cipher_ctx_st;  // libcrypto's EVP_CIPHER_CTX, so that its headers stay in crypto.cpp

namespace adit::tunnel {

using ByteSpan = std::span<const uint8_t>;
using Bytes16 = std::array<uint8_t, 16>;
using Bytes32 = std::array<uint8_t, 32>;
using Nonce12 = std::array<uint8_t, 12>;
using Nonce24 = std::array<uint8_t, 24>;

// Lets libsodium choose its fastest code for this CPU; without it the portable code serves. Cheap
// to repeat, from any thread.
void choose_fast_crypto();

// Overwrites a secret so that the compiler cannot leave it out.
void wipe(std::span<uint8_t> secret);
// Compares in time that does not depend on the contents.
bool equal_constant_time(ByteSpan a, ByteSpan b);

// BLAKE2s-256 (RFC 7693) of the parts one after another.
Bytes32 blake2s(std::initializer_list<ByteSpan> parts);
// BLAKE2s keyed with up to 32 bytes, 16 bytes long: WireGuard's Mac().
Bytes16 blake2s_mac(ByteSpan key, ByteSpan message);
// HMAC (RFC 2104) over BLAKE2s-256, with a key of at most a block (64 bytes).
Bytes32 hmac_blake2s(ByteSpan key, std::initializer_list<ByteSpan> parts);

// WireGuard's Kdf_n: HKDF (RFC 5869) over hmac_blake2s without info.
Bytes32 kdf1(const Bytes32& key, ByteSpan input);
std::array<Bytes32, 2> kdf2(const Bytes32& key, ByteSpan input);
std::array<Bytes32, 3> kdf3(const Bytes32& key, ByteSpan input);

// X25519 (RFC 7748 §6.1). nullopt if the result is all zero: the point was of low order.
std::optional<Bytes32> x25519(const Bytes32& private_key, const Bytes32& public_key);
Bytes32 x25519_public(const Bytes32& private_key);

// The nonce of a transport packet: 4 zero bytes, then the counter, little-endian.
Nonce12 nonce_from_counter(uint64_t counter);

// RFC 8439 §2.8. `sealed` is text and tag: 16 bytes longer than `text`. The two may start at the
// same byte. open() is false, and `text` undefined, if the packet is not authentic.
void chacha20_poly1305_seal(const Bytes32& key, const Nonce12& nonce, ByteSpan additional,
                            ByteSpan text, std::span<uint8_t> sealed);
bool chacha20_poly1305_open(const Bytes32& key, const Nonce12& nonce, ByteSpan additional,
                            ByteSpan sealed, std::span<uint8_t> text);

// The same with a nonce long enough to be drawn at random (draft-irtf-cfrg-xchacha).
void xchacha20_poly1305_seal(const Bytes32& key, const Nonce24& nonce, ByteSpan additional,
                             ByteSpan text, std::span<uint8_t> sealed);
bool xchacha20_poly1305_open(const Bytes32& key, const Nonce24& nonce, ByteSpan additional,
                             ByteSpan sealed, std::span<uint8_t> text);

// AES-256-GCM (SP 800-38D) with a 12-byte nonce. Expanding the key allocates; using it does not.
class Aes256Gcm {
 public:
  explicit Aes256Gcm(const Bytes32& key);  // throws std::bad_alloc

  // As chacha20_poly1305_seal() and _open().
  void seal(const Nonce12& nonce, ByteSpan additional, ByteSpan text, std::span<uint8_t> sealed);
  bool open(const Nonce12& nonce, ByteSpan additional, ByteSpan sealed, std::span<uint8_t> text);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* cipher) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> cipher_;
};

}  // namespace adit::tunnel
