#include "lib/dhcp/lease_table.h"

#include <cassert>

namespace adit::dhcp {

uint32_t LeaseTable::add_pool(const AddressRange& range) {
  assert(range.first <= range.last);
  Pool pool;
  pool.first_host = range.first.host();
  pool.holders.assign(size_t{range.last.host() - range.first.host()} + 1, kNeverUsed);
  pool.capacity = pool.holders.size();
  for (const Ipv4Address address : range.excluded) {
    if (address < range.first || address > range.last) continue;
    uint32_t& holder = pool.holders[address.host() - pool.first_host];
    if (holder != kExcluded) --pool.capacity;
    holder = kExcluded;
  }
  pools_.push_back(std::move(pool));
  return static_cast<uint32_t>(pools_.size() - 1);
}

Lease* LeaseTable::find(const ClientKey& key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &leases_[found->second];
}

const Lease* LeaseTable::find(const ClientKey& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &leases_[found->second];
}

Lease* LeaseTable::acquire(const ClientKey& key, uint32_t pool_number,
                           std::optional<Ipv4Address> wanted, uint64_t deadline_ns) {
  Pool& pool = pools_[pool_number];
  if (wanted) {
    uint32_t* holder = holder_of(pool_number, *wanted);
    if (holder != nullptr && is_free(*holder)) {
      return &assign(key, pool_number, *wanted, holder, deadline_ns);
    }
  }
  while (pool.unused_from < pool.holders.size()) {
    const uint32_t offset = pool.unused_from++;
    if (pool.holders[offset] != kNeverUsed) continue;
    const auto address = Ipv4Address::from_host(pool.first_host + offset);
    return &assign(key, pool_number, address, &pool.holders[offset], deadline_ns);
  }
  if (const Lease* free = oldest(pool_number, LeaseState::released)) {
    const Ipv4Address address = free->address;
    return &assign(key, pool_number, address, holder_of(pool_number, address), deadline_ns);
  }
  return nullptr;
}

Lease* LeaseTable::acquire_fixed(const ClientKey& key, uint32_t pool, Ipv4Address address,
                                 uint64_t deadline_ns) {
  uint32_t* holder = holder_of(pool, address);
  if (holder != nullptr && *holder == kExcluded) holder = nullptr;
  if (holder != nullptr && !is_free(*holder)) return nullptr;
  Lease& lease = assign(key, pool, address, holder, deadline_ns);
  lease.fixed = true;
  return &lease;
}

void LeaseTable::move(Lease& lease, LeaseState state, uint64_t deadline_ns) {
  unlink(lease);
  lease.state = state;
  lease.deadline_ns = deadline_ns;
  append(lease);
}

void LeaseTable::release(Lease& lease) {
  if (lease.in_range) {
    move(lease, LeaseState::released, UINT64_MAX);
    return;
  }
  forget_client(lease);
  unlink(lease);
  spare_.push_back(lease.index);
}

void LeaseTable::forget_client(Lease& lease) {
  const auto found = by_key_.find(lease.key);
  if (found != by_key_.end() && found->second == lease.index) by_key_.erase(found);
}

Lease* LeaseTable::oldest(uint32_t pool, LeaseState state) {
  const uint32_t index = pools_[pool].queues[static_cast<size_t>(state)].oldest;
  return index == kNone ? nullptr : &leases_[index];
}

size_t LeaseTable::count(uint32_t pool, LeaseState state) const {
  return pools_[pool].queues[static_cast<size_t>(state)].size;
}

uint32_t* LeaseTable::holder_of(uint32_t pool_number, Ipv4Address address) {
  Pool& pool = pools_[pool_number];
  if (address.host() < pool.first_host) return nullptr;
  const uint32_t offset = address.host() - pool.first_host;
  return offset < pool.holders.size() ? &pool.holders[offset] : nullptr;
}

bool LeaseTable::is_free(uint32_t holder) const {
  if (holder == kNeverUsed) return true;
  return holder != kExcluded && leases_[holder].state == LeaseState::released;
}

// Gives a free address to `key`. `holder` is the address's place in its range, nullptr when the
// range does not give it out.
Lease& LeaseTable::assign(const ClientKey& key, uint32_t pool, Ipv4Address address,
                          uint32_t* holder, uint64_t deadline_ns) {
  assert(by_key_.find(key) == by_key_.end());
  const bool known = holder != nullptr && *holder != kNeverUsed;
  Lease& lease = known ? leases_[*holder] : add_lease();
  if (known) {
    forget_client(lease);
    unlink(lease);
  }
  lease.key = key;
  lease.deadline_ns = deadline_ns;
  lease.address = address;
  lease.pool = pool;
  lease.state = LeaseState::offered;
  lease.fixed = false;
  lease.in_range = holder != nullptr;
  append(lease);
  if (holder != nullptr) *holder = lease.index;
  by_key_.emplace(key, lease.index);
  return lease;
}

Lease& LeaseTable::add_lease() {
  if (!spare_.empty()) {
    Lease& lease = leases_[spare_.back()];
    spare_.pop_back();
    return lease;
  }
  Lease& lease = leases_.emplace_back();
  lease.index = static_cast<uint32_t>(leases_.size() - 1);
  assert(lease.index < kExcluded);
  return lease;
}

void LeaseTable::append(Lease& lease) {
  Queue& queue = queue_of(lease);
  lease.older = queue.newest;
  lease.newer = kNone;
  (queue.newest == kNone ? queue.oldest : leases_[queue.newest].newer) = lease.index;
  queue.newest = lease.index;
  ++queue.size;
}

void LeaseTable::unlink(Lease& lease) {
  Queue& queue = queue_of(lease);
  (lease.older == kNone ? queue.oldest : leases_[lease.older].newer) = lease.newer;
  (lease.newer == kNone ? queue.newest : leases_[lease.newer].older) = lease.older;
  --queue.size;
}

}  // namespace adit::dhcp
