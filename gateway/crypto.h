// Sealing and opening of type 4 packets at a worker, by libipsec-mb, in place. Agrees byte for
// byte with lib/tunnel/seal.h, which is the reference.
//
// AES-256-GCM needs its key expanded, a kilobyte a direction; raw keys stay with the tunnel, and
// expanded ones live in a cache of bounded size. One Crypto a worker, one thread.
#pragma once

#include <intel-ipsec-mb.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lib/tunnel/session.h"

namespace adit::gateway {

class Crypto {
 public:
  // `cached_sessions` is rounded up to a power of two; two kilobytes each. Throws
  // std::runtime_error if libipsec-mb does not work on this processor.
  explicit Crypto(unsigned cached_sessions);

  // Seals `text_bytes` at `packet + sizeof(EncryptedHeader)` in place; writes the header in front
  // and the tag behind, for which there must be room.
  void seal(const tunnel::Session& session, uint64_t counter, uint8_t* packet,
            unsigned text_bytes);

  // Opens a whole type 4 packet of `packet_bytes` (at least kEncryptedOverheadBytes) in place.
  // Returns the length of the text, which begins after the header; nullopt if not authentic.
  std::optional<unsigned> open(const tunnel::Session& session, uint8_t* packet,
                               unsigned packet_bytes);

  // Asks for the expanded keys of a session; does nothing if they are not in the cache.
  void prefetch(uint32_t local_index) const;

  uint64_t expansions() const { return expansions_; }

 private:
  struct alignas(64) ExpandedKeys {
    gcm_key_data send;
    gcm_key_data receive;
    uint32_t local_index = 0;  // whose they are; 0 = nobody's
    uint64_t established_ns = 0;
  };
  size_t place(uint32_t local_index) const { return (local_index * 0x9e3779b1u) >> shift_; }
  ExpandedKeys& expanded(const tunnel::Session& session);

  struct FreeManager {
    void operator()(IMB_MGR* mb) const { free_mb_mgr(mb); }
  };
  std::unique_ptr<IMB_MGR, FreeManager> mb_;
  std::vector<ExpandedKeys> cache_;
  unsigned shift_;  // of the multiplicative hash that picks a cache entry
  uint64_t expansions_ = 0;
};

}  // namespace adit::gateway
