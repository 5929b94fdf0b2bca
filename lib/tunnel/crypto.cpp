#include "lib/tunnel/crypto.h"

#include <blake2.h>
#include <openssl/evp.h>
#include <sodium.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <new>

#include "lib/net/be.h"

namespace adit::tunnel {

namespace {

constexpr size_t kTagBytes = 16;           // of all three AEADs
constexpr size_t kBlake2sBlockBytes = 64;  // RFC 7693 §2.1

// A primitive that fails on arguments which cannot be wrong has run out of memory or is broken:
// going on would send a packet bare.
void require(bool ok) {
  if (!ok) std::abort();
}

void absorb(blake2s_state& state, std::initializer_list<ByteSpan> parts) {
  for (const ByteSpan part : parts) blake2s_update(&state, part.data(), part.size());
}

Bytes32 finish(blake2s_state& state) {
  Bytes32 digest;
  blake2s_final(&state, digest.data(), digest.size());
  return digest;
}

}  // namespace

void choose_fast_crypto() {
  require(sodium_init() >= 0);
}

void wipe(std::span<uint8_t> secret) {
  sodium_memzero(secret.data(), secret.size());
}

bool equal_constant_time(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

Bytes32 blake2s(std::initializer_list<ByteSpan> parts) {
  blake2s_state state;
  blake2s_init(&state, 32);
  absorb(state, parts);
  return finish(state);
}

Bytes16 blake2s_mac(ByteSpan key, ByteSpan message) {
  blake2s_state state;
  Bytes16 mac;
  require(blake2s_init_key(&state, mac.size(), key.data(), key.size()) == 0);
  blake2s_update(&state, message.data(), message.size());
  blake2s_final(&state, mac.data(), mac.size());
  return mac;
}

Bytes32 hmac_blake2s(ByteSpan key, std::initializer_list<ByteSpan> parts) {
  assert(key.size() <= kBlake2sBlockBytes);
  std::array<uint8_t, kBlake2sBlockBytes> pad{};
  std::copy(key.begin(), key.end(), pad.begin());
  for (uint8_t& byte : pad) byte ^= 0x36;

  blake2s_state inner;
  blake2s_init(&inner, 32);
  blake2s_update(&inner, pad.data(), pad.size());
  absorb(inner, parts);
  const Bytes32 digest = finish(inner);

  for (uint8_t& byte : pad) byte ^= 0x36 ^ 0x5c;
  const Bytes32 mac = blake2s({pad, digest});
  wipe(pad);
  return mac;
}

Bytes32 kdf1(const Bytes32& key, ByteSpan input) {
  const Bytes32 extracted = hmac_blake2s(key, {input});
  const uint8_t one = 1;
  return hmac_blake2s(extracted, {ByteSpan(&one, 1)});
}

std::array<Bytes32, 2> kdf2(const Bytes32& key, ByteSpan input) {
  const Bytes32 extracted = hmac_blake2s(key, {input});
  const uint8_t one = 1;
  const uint8_t two = 2;
  std::array<Bytes32, 2> out;
  out[0] = hmac_blake2s(extracted, {ByteSpan(&one, 1)});
  out[1] = hmac_blake2s(extracted, {out[0], ByteSpan(&two, 1)});
  return out;
}

std::array<Bytes32, 3> kdf3(const Bytes32& key, ByteSpan input) {
  const Bytes32 extracted = hmac_blake2s(key, {input});
  const uint8_t one = 1;
  const uint8_t two = 2;
  const uint8_t three = 3;
  std::array<Bytes32, 3> out;
  out[0] = hmac_blake2s(extracted, {ByteSpan(&one, 1)});
  out[1] = hmac_blake2s(extracted, {out[0], ByteSpan(&two, 1)});
  out[2] = hmac_blake2s(extracted, {out[1], ByteSpan(&three, 1)});
  return out;
}

// libsodium's takes the two numbers as they are. libcrypto's is as quick, but derives the public key
// of every private key that it is handed, which doubles the work.
std::optional<Bytes32> x25519(const Bytes32& private_key, const Bytes32& public_key) {
  Bytes32 shared{};
  // libsodium itself refuses an all-zero result; looking again costs nothing and needs no trust.
  if (crypto_scalarmult_curve25519(shared.data(), private_key.data(), public_key.data()) != 0 ||
      sodium_is_zero(shared.data(), shared.size()) != 0) {
    return std::nullopt;
  }
  return shared;
}

Bytes32 x25519_public(const Bytes32& private_key) {
  Bytes32 public_key;
  require(crypto_scalarmult_curve25519_base(public_key.data(), private_key.data()) == 0);
  return public_key;
}

Nonce12 nonce_from_counter(uint64_t counter) {
  const Le64 wire = Le64::from_host(counter);
  Nonce12 nonce{};
  std::memcpy(nonce.data() + 4, &wire, sizeof(wire));
  return nonce;
}

void chacha20_poly1305_seal(const Bytes32& key, const Nonce12& nonce, ByteSpan additional,
                            ByteSpan text, std::span<uint8_t> sealed) {
  assert(sealed.size() == text.size() + kTagBytes);
  crypto_aead_chacha20poly1305_ietf_encrypt(sealed.data(), nullptr, text.data(), text.size(),
                                            additional.data(), additional.size(), nullptr,
                                            nonce.data(), key.data());
}

bool chacha20_poly1305_open(const Bytes32& key, const Nonce12& nonce, ByteSpan additional,
                            ByteSpan sealed, std::span<uint8_t> text) {
  assert(sealed.size() == text.size() + kTagBytes);
  return crypto_aead_chacha20poly1305_ietf_decrypt(
             text.data(), nullptr, nullptr, sealed.data(), sealed.size(), additional.data(),
             additional.size(), nonce.data(), key.data()) == 0;
}

void xchacha20_poly1305_seal(const Bytes32& key, const Nonce24& nonce, ByteSpan additional,
                             ByteSpan text, std::span<uint8_t> sealed) {
  assert(sealed.size() == text.size() + kTagBytes);
  crypto_aead_xchacha20poly1305_ietf_encrypt(sealed.data(), nullptr, text.data(), text.size(),
                                             additional.data(), additional.size(), nullptr,
                                             nonce.data(), key.data());
}

bool xchacha20_poly1305_open(const Bytes32& key, const Nonce24& nonce, ByteSpan additional,
                             ByteSpan sealed, std::span<uint8_t> text) {
  assert(sealed.size() == text.size() + kTagBytes);
  return crypto_aead_xchacha20poly1305_ietf_decrypt(
             text.data(), nullptr, nullptr, sealed.data(), sealed.size(), additional.data(),
             additional.size(), nonce.data(), key.data()) == 0;
}

void Aes256Gcm::Free::operator()(evp_cipher_ctx_st* cipher) const {
  EVP_CIPHER_CTX_free(cipher);
}

// The key is the same in both directions, so one expansion serves seal() and open(): each of them
// only sets its direction and the nonce.
Aes256Gcm::Aes256Gcm(const Bytes32& key) : cipher_(EVP_CIPHER_CTX_new()) {
  if (cipher_ == nullptr ||
      EVP_EncryptInit_ex(cipher_.get(), EVP_aes_256_gcm(), nullptr, key.data(), nullptr) != 1) {
    throw std::bad_alloc();
  }
}

void Aes256Gcm::seal(const Nonce12& nonce, ByteSpan additional, ByteSpan text,
                     std::span<uint8_t> sealed) {
  assert(sealed.size() == text.size() + kTagBytes);
  EVP_CIPHER_CTX* cipher = cipher_.get();
  int written = 0;
  require(EVP_EncryptInit_ex(cipher, nullptr, nullptr, nullptr, nonce.data()) == 1);
  // An update of no bytes is left out: libcrypto takes a null pointer there for something else.
  if (!additional.empty()) {
    require(EVP_EncryptUpdate(cipher, nullptr, &written, additional.data(),
                              static_cast<int>(additional.size())) == 1);
  }
  if (!text.empty()) {
    require(EVP_EncryptUpdate(cipher, sealed.data(), &written, text.data(),
                              static_cast<int>(text.size())) == 1);
  }
  uint8_t* tag = sealed.data() + text.size();
  require(EVP_EncryptFinal_ex(cipher, tag, &written) == 1);
  require(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1);
}

bool Aes256Gcm::open(const Nonce12& nonce, ByteSpan additional, ByteSpan sealed,
                     std::span<uint8_t> text) {
  assert(sealed.size() == text.size() + kTagBytes);
  EVP_CIPHER_CTX* cipher = cipher_.get();
  // libcrypto takes the tag through a pointer to non-const, though it only reads it.
  std::array<uint8_t, kTagBytes> tag;
  std::copy_n(sealed.data() + text.size(), kTagBytes, tag.data());
  int written = 0;
  if (EVP_DecryptInit_ex(cipher, nullptr, nullptr, nullptr, nonce.data()) != 1) return false;
  if (!additional.empty() && EVP_DecryptUpdate(cipher, nullptr, &written, additional.data(),
                                               static_cast<int>(additional.size())) != 1) {
    return false;
  }
  if (!text.empty() && EVP_DecryptUpdate(cipher, text.data(), &written, sealed.data(),
                                         static_cast<int>(text.size())) != 1) {
    return false;
  }
  if (EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, kTagBytes, tag.data()) != 1) return false;
  uint8_t nothing[16];
  return EVP_DecryptFinal_ex(cipher, nothing, &written) == 1;
}

}  // namespace adit::tunnel
