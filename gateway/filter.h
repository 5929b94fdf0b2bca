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
// When a tunnel moves to another worker its sessions are copied to that one's table ahead of it
// (filter_moving.cpp). What is left behind of them is nobody's, and the sweep ends it.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gateway/huge_memory.h"
#include "gateway/ownership.h"
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

  // Throws std::runtime_error without memory. `name` is unique in the process. All workers' tables
  // are of one size: a mapping's note of a place may be of the table it was in before.
  Filter(const char* name, const Settings& settings, TunnelTable& tunnels, nat::Nat& nat);
  ~Filter();
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;
  // Where there are several workers: whose the tunnels are, as this `worker` knows it.
  void watch_owners(const TunnelOwners& owners, unsigned worker) {
    owners_ = &owners;
    worker_ = worker;
  }

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

  // ---- A tunnel moves (filter_moving.cpp) ----

  struct Key {
    uint64_t external = 0;  // packed, and the protocol above it
    uint64_t remote = 0;    // packed, port 0 where the mode does not look; the profile above
    friend bool operator==(const Key&, const Key&) = default;
  };
  // What one worker tells another of a session.
  struct Record {
    Key key;
    uint32_t last_seen_s = 0;
    uint32_t mapping_created_s = 0;
  };
  static_assert(sizeof(Record) == 24);
  // A tunnel that has more is not moved: looking at all of them once more takes too long.
  static constexpr uint32_t kMovableMax = 1 << 16;

  // At the tunnel's worker: its sessions are going to be told to another one. Returns for how many
  // that one needs room: for those that there are, and some that may be opened meanwhile.
  uint32_t begin_leaving(const Tunnel& tunnel);
  // Looks for them in a part of the table, a different one each time; true: in all of it by now.
  // What is opened from begin_leaving() on is found without that.
  bool gather();
  // Goes on over what has been found, and fills `out` with sessions that have not been told as they
  // are; returns how many.
  unsigned tell(std::span<Record> out);
  bool is_all_told() const { return leaving_.hand == leaving_.found.size(); }
  void tell_again() { leaving_.hand = 0; }  // from the first one on
  // Whether more have been opened than there is room for at the other worker.
  bool has_outgrown() const { return leaving_.opened > leaving_.spare; }
  // It has left, or it stays.
  void end_leaving();

  // At the worker that it goes to: keeps room for so many; false: there is none. `residence` is the
  // number of the move.
  bool expect(uint32_t slot, uint32_t residence, uint32_t sessions);
  bool is_expecting() const { return arriving_.slot != 0; }
  bool is_expecting(uint32_t slot, uint32_t residence) const {
    return arriving_.slot == slot && arriving_.residence == residence;
  }
  void take(std::span<const Record> records);
  // The tunnel is this worker's, and so are its sessions; or it does not come.
  void adopt(Tunnel& tunnel);
  void end_arriving() { arriving_ = {}; }

 private:
  struct Session {
    Key key;
    uint32_t last_seen_s = 0;
    uint32_t mapping_created_s = 0;
    uint32_t tunnel_slot = 0;  // 0: not in use
    uint32_t residence = 0;    // of the tunnel, OpenTunnel::residence

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
  bool is_over(const Session& session, uint32_t now_s) const;
  bool is_ours(uint32_t slot) const { return owners_ == nullptr || owners_->of(slot) == worker_; }
  // Of its tunnel's present stay with this worker, and counted by it.
  bool is_present(const Session& session) const;
  bool add(const Session& session, uint32_t& position);
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
  const TunnelOwners* owners_ = nullptr;
  unsigned worker_ = 0;

  struct Found {
    uint32_t position = 0;
    uint32_t last_seen_s = 0;  // as it was told
    bool is_told = false;
  };
  struct Leaving {
    uint32_t slot = 0;  // 0: nobody leaves
    uint32_t residence = 0;
    uint32_t spare = 0;   // so many more may be opened
    uint32_t opened = 0;
    size_t gathered = 0;  // positions up to here have been looked at
    size_t hand = 0;      // into `found`
    std::vector<Found> found;
  };
  struct Arriving {
    uint32_t slot = 0;  // 0: nobody is expected
    uint32_t residence = 0;
    uint32_t room = 0;      // still kept
    uint32_t sessions = 0;  // that have come
  };
  void note_opened(uint32_t position);
  Leaving leaving_;
  Arriving arriving_;
};

}  // namespace adit::gateway
