// Sealing and opening of type 4 packets at a worker, by libipsec-mb, in place, several packets at a
// time. Agrees byte for byte with lib/tunnel/seal.h, which is the reference.
//
// AES-256-GCM needs its key expanded, a kilobyte a direction. Raw keys stay with the tunnel;
// expanded ones are kept here, a pair for each slot of the tunnel table while they are no more than
// so many, and else a pair for several slots, of whichever was used last. The two of a pair lie far
// apart: traffic is rarely the same both ways, and keys of one direction in every other kilobyte
// would share half of each cache's sets. One Crypto a worker, one thread.
#pragma once

#include <intel-ipsec-mb.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "gateway/huge_memory.h"
#include "lib/tunnel/session.h"

namespace adit::gateway {

// One packet to seal or to open.
struct CryptoJob {
  const tunnel::Session* session = nullptr;
  uint8_t* packet = nullptr;  // where its type 4 header is, or will be
  unsigned text_bytes = 0;    // between the header and the tag
  uint64_t counter = 0;       // to seal with
  bool authentic = false;     // set when opened; the text is rubbish where it is not
};

class Crypto {
 public:
  enum Direction : uint8_t { send = 0, receive = 1 };

  // Keeps the expanded keys of `sessions`, rounded up to a power of two. Throws std::runtime_error
  // if libipsec-mb does not work on this processor.
  explicit Crypto(unsigned sessions);
  static constexpr size_t memory_bytes(unsigned sessions) {
    return std::bit_ceil(std::max(sessions, 1u)) * size_t{2} * sizeof(ExpandedKey);
  }

  // Seals text that stands behind the room for its header; writes the header, and the tag, for
  // which there must be room.
  void seal(std::span<CryptoJob> jobs) { run(jobs, send); }
  // Opens whole packets of at least kEncryptedOverheadBytes; says of each whether it is authentic.
  void open(std::span<CryptoJob> jobs);

  // The same of a single packet. open() returns the length of its text, nullopt if it is not
  // authentic.
  void seal(const tunnel::Session& session, uint64_t counter, uint8_t* packet,
            unsigned text_bytes);
  std::optional<unsigned> open(const tunnel::Session& session, uint8_t* packet,
                               unsigned packet_bytes);

  uint64_t expansions() const { return expansions_; }

 private:
  // What the library uses of its structure leaves the last 16 bytes of a line that every packet
  // needs: whose key it is stands there.
  union alignas(64) ExpandedKey {
    gcm_key_data key;
    struct {
      uint8_t used[sizeof(gcm_key_data::expanded_keys) + sizeof(gcm_key_data::ghash_keys)];
      uint64_t established_ns;
      uint32_t local_index;  // 0: nobody's
    } owner;

    bool is_of(const tunnel::Session& session) const {
      // An index may come back years later in another session; the time tells them apart.
      return owner.local_index == session.local_index &&
             owner.established_ns == session.established_ns;
    }
  };
  static_assert(sizeof(ExpandedKey) == 1024);

  // A session's local index has its tunnel's slot in its low bits.
  ExpandedKey& place(const tunnel::Session& session, Direction direction) const {
    return keys_[direction * (size_t{mask_} + 1) + (session.local_index & mask_)];
  }
  void ask_for(const CryptoJob& job, Direction direction) const;
  void ask_for_key(const CryptoJob& job, Direction direction) const;
  void run(std::span<CryptoJob> jobs, Direction direction);
  void run_aes(CryptoJob& job, Direction direction);
  bool run_short(std::span<CryptoJob> jobs, Direction direction);
  size_t run_chacha(std::span<CryptoJob> jobs, Direction direction, bool done_short);
  void expand(const tunnel::Session& session, Direction direction);

  struct FreeManager {
    void operator()(IMB_MGR* mb) const { free_mb_mgr(mb); }
  };
  std::unique_ptr<IMB_MGR, FreeManager> mb_;
  uint32_t mask_;  // of a slot's low bits, which are the number of its pair of keys
  HugeMemory memory_;
  std::span<ExpandedKey> keys_;
  bool hash_keys_end_first_ = false;  // does short text use the last powers of the hash key?
  gcm_context_data scratch_{};
  uint64_t expansions_ = 0;
};

}  // namespace adit::gateway
