#include "lib/tunnel/seal.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "lib/tunnel/crypto.h"

namespace adit::tunnel {

struct Aead::State {
  explicit State(const SessionKey& session_key) : key(session_key) {}
  ~State() { wipe(key); }

  SessionKey key;
  std::optional<Aes256Gcm> gcm;  // without it, ChaCha20-Poly1305
};

Aead::Aead(Protection protection, const SessionKey& key) : state_(std::make_unique<State>(key)) {
  if (protection == Protection::aes_256_gcm) state_->gcm.emplace(key);
}
Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;

size_t Aead::seal(std::span<uint8_t> packet, size_t text_bytes, uint32_t receiver_index,
                  uint64_t counter) {
  const size_t packet_bytes = text_bytes + kEncryptedOverheadBytes;
  assert(packet.size() >= packet_bytes);
  const EncryptedHeader header{static_cast<uint8_t>(MessageType::encrypted),
                               {},
                               Le32::from_host(receiver_index),
                               Le64::from_host(counter)};
  std::memcpy(packet.data(), &header, sizeof(header));
  const auto text = packet.subspan(sizeof(header), text_bytes);
  const auto sealed = packet.subspan(sizeof(header), text_bytes + kTagBytes);
  const Nonce12 nonce = nonce_from_counter(counter);
  if (state_->gcm) {
    state_->gcm->seal(nonce, {}, text, sealed);
  } else {
    chacha20_poly1305_seal(state_->key, nonce, {}, text, sealed);
  }
  return packet_bytes;
}

std::optional<size_t> Aead::open(std::span<uint8_t> packet) {
  if (packet.size() < kEncryptedOverheadBytes) return std::nullopt;
  EncryptedHeader header;
  std::memcpy(&header, packet.data(), sizeof(header));
  const size_t text_bytes = packet.size() - kEncryptedOverheadBytes;
  const auto sealed = packet.subspan(sizeof(header));
  const auto text = packet.subspan(sizeof(header), text_bytes);
  const Nonce12 nonce = nonce_from_counter(header.counter.host());
  const bool authentic = state_->gcm ? state_->gcm->open(nonce, {}, sealed, text)
                                     : chacha20_poly1305_open(state_->key, nonce, {}, sealed, text);
  if (!authentic) return std::nullopt;
  return text_bytes;
}

size_t padded_bytes(size_t inner_bytes, size_t mtu_bytes) {
  constexpr size_t kPaddingMultipleBytes = 16;  // white paper, section 5.4.6
  const size_t rounded =
      (inner_bytes + kPaddingMultipleBytes - 1) / kPaddingMultipleBytes * kPaddingMultipleBytes;
  return std::max(inner_bytes, std::min(rounded, mtu_bytes));
}

}  // namespace adit::tunnel
