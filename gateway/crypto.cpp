#include "gateway/crypto.h"

#include <bit>
#include <cstring>
#include <stdexcept>

namespace adit::gateway {
namespace {

using tunnel::EncryptedHeader;
using tunnel::Protection;
using tunnel::Session;

// Both AEADs' 12-byte nonce: four zero bytes, then the counter, little-endian.
struct Nonce {
  uint8_t zero[4] = {};
  Le64 counter;
  explicit Nonce(Le64 value) : counter(value) {}
};
static_assert(sizeof(Nonce) == 12);

// In constant time: how much of a forged tag was right must not show.
bool tags_equal(const uint8_t* a, const uint8_t* b) {
  uint64_t x[2];
  uint64_t y[2];
  std::memcpy(x, a, sizeof x);
  std::memcpy(y, b, sizeof y);
  return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

}  // namespace

Crypto::Crypto(unsigned cached_sessions)
    : mb_(alloc_mb_mgr(0)),
      cache_(std::bit_ceil(std::max(cached_sessions, 2u))),
      shift_(32 - static_cast<unsigned>(std::countr_zero(cache_.size()))) {
  if (!mb_) throw std::runtime_error("libipsec-mb: no memory");
  IMB_ARCH arch = IMB_ARCH_NONE;
  init_mb_mgr_auto(mb_.get(), &arch);
  if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI) {
    throw std::runtime_error("libipsec-mb: this processor has no AES instructions");
  }
}

Crypto::ExpandedKeys& Crypto::expanded(const Session& session) {
  ExpandedKeys& keys = cache_[place(session.local_index)];
  // An index may come back years later in another session; the time tells them apart.
  if (keys.local_index != session.local_index || keys.established_ns != session.established_ns) {
    IMB_AES256_GCM_PRE(mb_.get(), session.send_key.data(), &keys.send);
    IMB_AES256_GCM_PRE(mb_.get(), session.receive_key.data(), &keys.receive);
    keys.local_index = session.local_index;
    keys.established_ns = session.established_ns;
    ++expansions_;
  }
  return keys;
}

void Crypto::prefetch(uint32_t local_index) const {
  const ExpandedKeys& keys = cache_[place(local_index)];
  __builtin_prefetch(&keys.local_index);
  const auto* receive = reinterpret_cast<const char*>(&keys.receive);
  for (size_t i = 0; i < 256; i += 64) __builtin_prefetch(receive + i);
}

void Crypto::seal(const Session& session, uint64_t counter, uint8_t* packet,
                  unsigned text_bytes) {
  auto* header = reinterpret_cast<EncryptedHeader*>(packet);
  *header = {static_cast<uint8_t>(tunnel::MessageType::encrypted), {}, {}, {}};
  header->receiver_index = Le32::from_host(session.remote_index);
  header->counter = Le64::from_host(counter);
  const Nonce nonce(header->counter);
  uint8_t* text = packet + sizeof(EncryptedHeader);
  uint8_t* tag = text + text_bytes;
  if (session.protection == Protection::aes_256_gcm) {
    gcm_context_data state;
    IMB_AES256_GCM_ENC(mb_.get(), &expanded(session).send, &state, text, text, text_bytes,
                       reinterpret_cast<const uint8_t*>(&nonce), nullptr, 0, tag,
                       tunnel::kTagBytes);
    return;
  }
  chacha20_poly1305_context_data state;
  const void* key = session.send_key.data();
  IMB_CHACHA20_POLY1305_INIT(mb_.get(), key, &state, &nonce, nullptr, 0);
  IMB_CHACHA20_POLY1305_ENC_UPDATE(mb_.get(), key, &state, text, text, text_bytes);
  IMB_CHACHA20_POLY1305_ENC_FINALIZE(mb_.get(), &state, tag, tunnel::kTagBytes);
}

std::optional<unsigned> Crypto::open(const Session& session, uint8_t* packet,
                                     unsigned packet_bytes) {
  const auto* header = reinterpret_cast<const EncryptedHeader*>(packet);
  const Nonce nonce(header->counter);
  const unsigned text_bytes = packet_bytes - tunnel::kEncryptedOverheadBytes;
  uint8_t* text = packet + sizeof(EncryptedHeader);
  const uint8_t* tag = text + text_bytes;
  uint8_t expected[tunnel::kTagBytes];
  if (session.protection == Protection::aes_256_gcm) {
    gcm_context_data state;
    IMB_AES256_GCM_DEC(mb_.get(), &expanded(session).receive, &state, text, text, text_bytes,
                       reinterpret_cast<const uint8_t*>(&nonce), nullptr, 0, expected,
                       tunnel::kTagBytes);
  } else {
    chacha20_poly1305_context_data state;
    const void* key = session.receive_key.data();
    IMB_CHACHA20_POLY1305_INIT(mb_.get(), key, &state, &nonce, nullptr, 0);
    IMB_CHACHA20_POLY1305_DEC_UPDATE(mb_.get(), key, &state, text, text, text_bytes);
    IMB_CHACHA20_POLY1305_DEC_FINALIZE(mb_.get(), &state, expected, tunnel::kTagBytes);
  }
  if (!tags_equal(tag, expected)) return std::nullopt;
  return text_bytes;
}

}  // namespace adit::gateway
