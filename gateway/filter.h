// The filter of address-dependent modes (RFC 4787 REQ-8, RFC 5382 REQ-3): which remotes a mapping
// has sent to, and who may therefore send to it. Each pair is a session. Which mode holds is in
// the mapping's profile; where every protocol of every profile is filtered endpoint-independently,
// which is the default, there is no filter at all.
//
// A session lives while it is used within its protocol's timeout, and no longer than its mapping:
// it remembers when that was made, so the next user of the same external endpoint inherits
// nothing. For TCP the timeout is the established one, since which connection of a mapping is at
// what stage is known for one remote only; the mapping's own timer is the shorter one after a
// close.
//
// Sessions stand in an array, and an index finds them by mapping and remote. Most packets belong to
// the session that their mapping's last one belonged to: the mapping remembers its place, so that a
// burst's sessions can be asked for ahead (prefetch()), as its mappings are.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gateway/huge_memory.h"
#include "gateway/tunnel_table.h"
#include "lib/nat/nat.h"

struct rte_hash;

namespace adit::gateway {

class Filter {
 public:
  struct Settings {
    uint32_t sessions = 1 << 17;  // all tunnels together
    uint32_t sessions_per_tunnel = 4096;
  };
  // Does any profile filter any protocol other than endpoint-independently?
  static bool is_needed(std::span<const nat::Profile> profiles);

  enum class Refusal : uint8_t { none, tunnel_limit, table_full };

  // Throws std::runtime_error without memory. `name` is unique in the process.
  Filter(const char* name, const Settings& settings, TunnelTable& tunnels, nat::Nat& nat);
  ~Filter();
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  // The mapping sends to `remote`: from now on that one may answer. Says why if there is no room
  // to remember it.
  Refusal open(nat::Mapping& mapping, const Endpoint& remote, uint32_t now_s);
  // May `remote` send to the mapping? Counts as use.
  bool admits(nat::Mapping& mapping, const Endpoint& remote, uint32_t now_s);
  void prefetch(const nat::Mapping& mapping) const {
    __builtin_prefetch(&sessions_[mapping.session]);
  }
  // Looks at a few more entries and ends sessions that are idle or whose mapping has gone.
  void sweep(uint32_t now_s);
  uint32_t live() const { return live_; }

 private:
  struct Key {
    uint64_t external = 0;  // packed, and the protocol above it
    uint64_t remote = 0;    // packed, port 0 where the mode does not look; the profile above
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Session {
    Key key;
    uint32_t last_seen_s = 0;
    uint32_t mapping_created_s = 0;
    uint32_t tunnel_slot = 0;  // 0: not in use
    uint32_t tunnel_epoch = 0;

    uint8_t protocol() const { return static_cast<uint8_t>(key.external >> 48); }
    uint16_t profile() const { return static_cast<uint16_t>(key.remote >> 48); }
  };
  static_assert(sizeof(Session) == 32);

  nat::Filtering mode_of(const nat::Mapping& mapping) const {
    return nat_.profile_of(mapping).filtering[mapping.protocol];
  }
  Key key_of(const nat::Mapping& mapping, const Endpoint& remote) const;
  Session* find(nat::Mapping& mapping, const Key& key);
  bool is_idle(const Session& session, uint32_t now_s) const;
  void remove(Session& session);

  const Settings settings_;
  TunnelTable& tunnels_;
  nat::Nat& nat_;
  rte_hash* index_ = nullptr;     // Key -> position in sessions_
  HugeMemory memory_;
  std::span<Session> sessions_;
  std::vector<uint32_t> free_;    // positions
  uint32_t live_ = 0;
  size_t hand_ = 0;
};

}  // namespace adit::gateway
