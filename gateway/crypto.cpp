#include "gateway/crypto.h"

#include <rte_prefetch.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "gateway/short_texts.h"

namespace adit::gateway {
namespace {

using tunnel::EncryptedHeader;
using tunnel::Protection;
using tunnel::Session;

constexpr unsigned kLineBytes = 64;
constexpr unsigned kBlockBytes = 16;  // of AES
constexpr unsigned kNonceBytes = 12;
constexpr unsigned kBatchMax = 32;
constexpr ptrdiff_t kShortAtLeast = 2;  // of one alone the library's is the quicker
constexpr size_t kAhead = 8;  // packets: fewer come too late, more push each other out

// In constant time: how much of a forged tag was right must not show.
bool tags_equal(const uint8_t* a, const uint8_t* b) {
  uint64_t x[2];
  uint64_t y[2];
  std::memcpy(x, a, sizeof x);
  std::memcpy(y, b, sizeof y);
  return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

using Tag = std::array<uint8_t, tunnel::kTagBytes>;

// Four zero bytes, then the counter, little-endian. The library loads it as a whole, which had to
// wait for stores of its parts.
struct alignas(16) Nonce {
  uint64_t words[2];
};
static_assert(std::endian::native == std::endian::little);

uint64_t counter_of(const CryptoJob& job, Crypto::Direction direction) {
  const auto* header = reinterpret_cast<const EncryptedHeader*>(job.packet);
  return direction == Crypto::send ? job.counter : header->counter.host();
}

Nonce nonce_of(const CryptoJob& job, Crypto::Direction direction) {
  const uint64_t counter = counter_of(job, direction);
  return {{counter << 32, counter >> 32}};
}

bool is_aes(const CryptoJob& job) {
  return job.session->protection == Protection::aes_256_gcm;
}

bool is_short(const CryptoJob& job) {
  return !is_aes(job) && job.text_bytes <= kShortTextMax;
}

// The lines of memory that a packet lies in, but for its first, which has been read.
void ask_for_text(const CryptoJob& job) {
  const uint8_t* const end =
      job.packet + sizeof(EncryptedHeader) + job.text_bytes + tunnel::kTagBytes;
  for (const uint8_t* line = job.packet + 3 * kLineBytes; line < end; line += kLineBytes) {
    rte_prefetch0(line);
  }
}

// When it is sealed or opened: its header, or whether it is authentic.
void conclude(CryptoJob& job, Crypto::Direction direction, const Tag& tag) {
  if (direction == Crypto::receive) {
    job.authentic = tags_equal(job.packet + sizeof(EncryptedHeader) + job.text_bytes, tag.data());
    return;
  }
  auto* header = reinterpret_cast<EncryptedHeader*>(job.packet);
  *header = {static_cast<uint8_t>(tunnel::MessageType::encrypted), {}, {}, {}};
  header->receiver_index = Le32::from_host(job.session->remote_index);
  header->counter = Le64::from_host(job.counter);
}

}  // namespace

Crypto::Crypto(unsigned sessions)
    : mb_(alloc_mb_mgr(0)), mask_(std::bit_ceil(std::max(sessions, 1u)) - 1) {
  if (!mb_) throw std::runtime_error("libipsec-mb: no memory");
  IMB_ARCH arch = IMB_ARCH_NONE;
  init_mb_mgr_auto(mb_.get(), &arch);
  if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI) {
    throw std::runtime_error("libipsec-mb: this processor has no AES instructions");
  }
  constexpr uint64_t kVectorAes = IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
  hash_keys_end_first_ = arch == IMB_ARCH_AVX512 && (mb_->features & kVectorAes) == kVectorAes;
  memory_ = HugeMemory(memory_bytes(sessions));
  keys_ = {reinterpret_cast<ExpandedKey*>(memory_.data()), size_t{mask_ + 1} * 2};
  // Now, and not when the first packet comes: writing makes the pages be there.
  std::memset(memory_.data(), 0, memory_.bytes());
}

void Crypto::expand(const Session& session, Direction direction) {
  ExpandedKey& expanded = place(session, direction);
  const tunnel::SessionKey& key = direction == send ? session.send_key : session.receive_key;
  IMB_AES256_GCM_PRE(mb_.get(), key.data(), &expanded.key);
  expanded.owner.local_index = session.local_index;
  expanded.owner.established_ns = session.established_ns;
  ++expansions_;
}

// The round keys, and as many powers of the hash key as the text has blocks, and one for its
// length; all of this is in as many lines of memory that nobody has touched for long.
void Crypto::ask_for_key(const CryptoJob& job, Direction direction) const {
  constexpr unsigned kRoundKeys = sizeof(gcm_key_data::expanded_keys);
  constexpr unsigned kUsed = kRoundKeys + sizeof(gcm_key_data::ghash_keys);
  const auto* key = reinterpret_cast<const char*>(&place(*job.session, direction));
  for (unsigned i = 0; i < kRoundKeys; i += kLineBytes) rte_prefetch0(key + i);
  if (hash_keys_end_first_) {
    const unsigned wanted = (job.text_bytes / kBlockBytes + 2) * kBlockBytes;
    const unsigned from = kUsed - std::min(wanted, kUsed - kRoundKeys);
    for (unsigned i = kUsed / kLineBytes; i >= from / kLineBytes; --i) {
      rte_prefetch0(key + i * kLineBytes);
    }
  } else {
    for (unsigned i = kRoundKeys; i < 8 * kLineBytes; i += kLineBytes) rte_prefetch0(key + i);
    rte_prefetch0(key + kUsed);
  }
}

// Of a packet whose turn comes soon. Not earlier: a burst's long texts, and as much of their keys,
// are more than the first-level cache holds.
void Crypto::ask_for(const CryptoJob& job, Direction direction) const {
  ask_for_text(job);
  if (is_aes(job)) ask_for_key(job, direction);
}

// AES-256-GCM is the library's one function for a packet: its queue of jobs is for ciphers that do
// several packets at once, which this one does not, and takes more of the first-level cache than
// packets and keys do.
void Crypto::run_aes(CryptoJob& job, Direction direction) {
  const Session& session = *job.session;
  ExpandedKey& expanded = place(session, direction);
  if (!expanded.is_of(session)) [[unlikely]] expand(session, direction);
  uint8_t* const text = job.packet + sizeof(EncryptedHeader);
  const Nonce nonce = nonce_of(job, direction);
  const auto* const iv = reinterpret_cast<const uint8_t*>(&nonce);
  Tag tag;
  if (direction == send) {
    IMB_AES256_GCM_ENC(mb_.get(), &expanded.key, &scratch_, text, text, job.text_bytes, iv, nullptr,
                       0, text + job.text_bytes, tunnel::kTagBytes);
  } else {
    IMB_AES256_GCM_DEC(mb_.get(), &expanded.key, &scratch_, text, text, job.text_bytes, iv, nullptr,
                       0, tag.data(), tunnel::kTagBytes);
  }
  conclude(job, direction, tag);
}

// ChaCha20-Poly1305 of short texts, wherever they stand; false: they are too few to gain by it.
bool Crypto::run_short(std::span<CryptoJob> jobs, Direction direction) {
  if (std::ranges::count_if(jobs, is_short) < kShortAtLeast) return false;
  ShortText texts[kBatchMax];
  CryptoJob* its[kBatchMax];
  Tag tags[kBatchMax];
  size_t count = 0;
  const auto run_gathered = [&] {
    const std::span gathered(texts, count);
    direction == send ? encrypt(gathered) : decrypt(gathered);
    for (size_t i = 0; i < count; ++i) conclude(*its[i], direction, tags[i]);
    count = 0;
  };
  for (CryptoJob& job : jobs) {
    if (!is_short(job)) continue;
    const Session& session = *job.session;
    uint8_t* const text = job.packet + sizeof(EncryptedHeader);
    texts[count] = {
        .key = direction == send ? session.send_key.data() : session.receive_key.data(),
        .counter = counter_of(job, direction),
        .text = text,
        .bytes = job.text_bytes,
        .tag = direction == send ? text + job.text_bytes : tags[count].data()};
    its[count++] = &job;
    if (count == kBatchMax) run_gathered();
  }
  run_gathered();
  return true;
}

// ChaCha20-Poly1305, of the jobs from the first on as many as can be done together; returns how
// many. Not of short texts where those are `done`.
size_t Crypto::run_chacha(std::span<CryptoJob> jobs, Direction direction, bool done_short) {
  IMB_JOB* submitted[kBatchMax];
  Nonce nonces[kBatchMax];
  Tag tags[kBatchMax];
  const auto wanted = static_cast<uint32_t>(std::min<size_t>(jobs.size(), kBatchMax));
  const uint32_t room = IMB_GET_NEXT_BURST(mb_.get(), wanted, submitted);
  uint32_t count = 0;
  for (; count < room; ++count) {
    if (is_aes(jobs[count]) || (done_short && is_short(jobs[count]))) break;
    const CryptoJob& job = jobs[count];
    const Session& session = *job.session;
    const void* key = direction == send ? session.send_key.data() : session.receive_key.data();
    uint8_t* const text = job.packet + sizeof(EncryptedHeader);
    nonces[count] = nonce_of(job, direction);

    IMB_JOB& to = *submitted[count];
    to.cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    to.hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    to.cipher_direction = direction == send ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    to.chain_order = direction == send ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    to.enc_keys = key;
    to.dec_keys = key;
    to.key_len_in_bytes = tunnel::SessionKey{}.size();
    to.src = text;
    to.dst = text;
    to.cipher_start_src_offset_in_bytes = 0;
    to.hash_start_src_offset_in_bytes = 0;
    to.msg_len_to_cipher_in_bytes = job.text_bytes;
    to.msg_len_to_hash_in_bytes = job.text_bytes;
    to.iv = reinterpret_cast<const uint8_t*>(&nonces[count]);
    to.iv_len_in_bytes = kNonceBytes;
    to.auth_tag_output = direction == send ? text + job.text_bytes : tags[count].data();
    to.auth_tag_output_len_in_bytes = tunnel::kTagBytes;
    to.u.CHACHA20_POLY1305.aad = nullptr;
    to.u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
  }
  // It is done at once: nothing stays with the library. If ever something did, a packet would leave
  // as it was, so that is the end.
  const uint32_t done = IMB_SUBMIT_BURST_NOCHECK(mb_.get(), count, submitted);
  if (count == 0 || done != count) [[unlikely]] {
    throw std::runtime_error("libipsec-mb: did not take a burst, or has not finished it");
  }
  for (uint32_t i = 0; i < count; ++i) conclude(jobs[i], direction, tags[i]);
  return count;
}

void Crypto::run(std::span<CryptoJob> jobs, Direction direction) {
  for (const CryptoJob& job : jobs.first(std::min(kAhead, jobs.size()))) ask_for(job, direction);
  const bool done_short = run_short(jobs, direction);
  for (size_t i = 0; i < jobs.size();) {
    if (done_short && is_short(jobs[i])) {
      ++i;
    } else if (is_aes(jobs[i])) {
      if (i + kAhead < jobs.size()) ask_for(jobs[i + kAhead], direction);
      run_aes(jobs[i++], direction);
    } else {
      i += run_chacha(jobs.subspan(i), direction, done_short);
    }
  }
}

void Crypto::open(std::span<CryptoJob> jobs) {
  run(jobs, receive);
}

void Crypto::seal(const Session& session, uint64_t counter, uint8_t* packet,
                  unsigned text_bytes) {
  CryptoJob job{&session, packet, text_bytes, counter};
  seal({&job, 1});
}

std::optional<unsigned> Crypto::open(const Session& session, uint8_t* packet,
                                     unsigned packet_bytes) {
  CryptoJob job{&session, packet, packet_bytes - unsigned{tunnel::kEncryptedOverheadBytes}};
  open({&job, 1});
  if (!job.authentic) return std::nullopt;
  return job.text_bytes;
}

}  // namespace adit::gateway
