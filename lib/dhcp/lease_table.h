// Which client holds which address: the server's storage, without the protocol.
//
// A lease is in one of four states, and each pool keeps one queue a state. A lease enters a queue
// at its tail, and all leases of a pool stay in a state for the same time, so each queue is
// ordered by deadline for nothing: the next to expire and the least recently released are heads.
//
// A released lease keeps its client's key until its address is needed by another, so that the
// same key gets the same address back.
//
// Owned by Server. It grows when an address is first leased: 64 bytes a lease and an index entry a
// key; every address of a pool costs four bytes from the start. A million leases take 140 MB.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/dhcp/message.h"
#include "lib/net/address.h"

namespace adit::dhcp {

// The addresses a pool gives out: first to last, both inclusive, without the excluded.
struct AddressRange {
  Ipv4Address first;
  Ipv4Address last;
  std::span<const Ipv4Address> excluded;
};

enum class LeaseState : uint8_t {
  offered,      // promised until the deadline
  bound,        // the client's until the deadline
  released,     // free, its client remembered; has no deadline
  quarantined,  // declined by a client: somebody may be using it; nobody's until the deadline
};
inline constexpr size_t kLeaseStates = 4;

struct Lease {
  ClientKey key;
  uint64_t deadline_ns;
  Ipv4Address address;
  uint32_t pool;
  uint32_t index;  // of this lease in the table
  uint32_t older;  // its neighbours in the queue
  uint32_t newer;
  LeaseState state;
  bool fixed;     // given to a subscriber by configuration
  bool in_range;  // the pool's range gives it out; if not, it is forgotten when released
};
static_assert(sizeof(Lease) <= 64);

class LeaseTable {
 public:
  // Adds a pool and returns its number; numbers count from 0.
  uint32_t add_pool(const AddressRange& range);

  // The lease that `key` holds or is remembered for; nullptr for none. Pointers stay valid until
  // their lease is forgotten.
  Lease* find(const ClientKey& key);
  const Lease* find(const ClientKey& key) const;

  // Gives `key`, which has no lease, an address of the range as an offered lease: `wanted` if that
  // is free, else the lowest that was never used, else the least recently released one, whose
  // client is forgotten. nullptr when none is free.
  Lease* acquire(const ClientKey& key, uint32_t pool, std::optional<Ipv4Address> wanted,
                 uint64_t deadline_ns);
  // The same for an address given by configuration, inside the range or not. nullptr when another
  // client has it.
  Lease* acquire_fixed(const ClientKey& key, uint32_t pool, Ipv4Address address,
                       uint64_t deadline_ns);

  // Moves a lease to the tail of another state's queue, or of its own with a new deadline.
  void move(Lease& lease, LeaseState state, uint64_t deadline_ns);
  // Frees the address and remembers its client, unless the range does not give it out: then the
  // lease is gone when this returns.
  void release(Lease& lease);
  // Lets go of the client, so that its key can have another lease.
  void forget_client(Lease& lease);

  // The lease that has been in `state` longest, nullptr for none.
  Lease* oldest(uint32_t pool, LeaseState state);
  size_t count(uint32_t pool, LeaseState state) const;
  // Addresses that the pool's range gives out.
  size_t capacity(uint32_t pool) const { return pools_[pool].capacity; }
  size_t pools() const { return pools_.size(); }

 private:
  static constexpr uint32_t kNone = 0xffffffff;

  struct KeyHash {
    size_t operator()(const ClientKey& key) const {
      return std::hash<std::string_view>()(
          std::string_view(reinterpret_cast<const char*>(key.data()), key.size()));
    }
  };
  struct Queue {
    uint32_t oldest = kNone;
    uint32_t newest = kNone;
    size_t size = 0;
  };
  struct Pool {
    uint32_t first_host = 0;
    std::vector<uint32_t> holders;  // an address's lease, or kNeverUsed or kExcluded
    uint32_t unused_from = 0;       // no address below was never used
    size_t capacity = 0;
    std::array<Queue, kLeaseStates> queues;
  };
  static constexpr uint32_t kNeverUsed = kNone;
  static constexpr uint32_t kExcluded = kNone - 1;

  Queue& queue_of(const Lease& lease) {
    return pools_[lease.pool].queues[static_cast<size_t>(lease.state)];
  }
  uint32_t* holder_of(uint32_t pool, Ipv4Address address);
  bool is_free(uint32_t holder) const;
  Lease& assign(const ClientKey& key, uint32_t pool, Ipv4Address address, uint32_t* holder,
                uint64_t deadline_ns);
  Lease& add_lease();
  void append(Lease& lease);
  void unlink(Lease& lease);

  std::vector<Pool> pools_;
  std::deque<Lease> leases_;  // a deque: growing moves no lease
  std::vector<uint32_t> spare_;
  std::unordered_map<ClientKey, uint32_t, KeyHash> by_key_;
};

}  // namespace adit::dhcp
