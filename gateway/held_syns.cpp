#include "gateway/held_syns.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace adit::gateway {

HeldSyns::HeldSyns(const char* name, unsigned entries) : entries_(entries) {
  static_assert(sizeof(Connection) == 12 && std::has_unique_object_representations_v<Connection>);
  assert(std::has_single_bit(entries));
  rte_hash_parameters parameters{};
  parameters.name = name;
  parameters.entries = 2 * entries;  // a cuckoo table fills no further for certain
  parameters.key_len = sizeof(Connection);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
}

HeldSyns::~HeldSyns() { rte_hash_free(index_); }

HeldSyns::Result HeldSyns::hold(const Connection& connection, std::span<const uint8_t> packet,
                                uint64_t now_ns) {
  if (rte_hash_lookup(index_, &connection) >= 0) return Result::held_already;
  if (end_ - first_ == entries_.size()) return Result::table_full;
  void* const value = reinterpret_cast<void*>(uintptr_t{end_});
  if (rte_hash_add_key_data(index_, &connection, value) != 0) return Result::table_full;
  Entry& entry = at(end_++);
  entry.connection = connection;
  entry.since_ns = now_ns;
  entry.bytes = static_cast<uint16_t>(std::min<size_t>(packet.size(), kKeptBytes));
  std::memcpy(entry.packet.data(), packet.data(), entry.bytes);
  return Result::held;
}

void HeldSyns::forget(const Connection& connection) {
  void* number = nullptr;
  if (rte_hash_lookup_data(index_, &connection, &number) < 0) return;
  at(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(number))).bytes = 0;
  rte_hash_del_key(index_, &connection);
}

std::span<const uint8_t> HeldSyns::take_due(uint64_t now_ns) {
  while (first_ != end_) {
    Entry& entry = at(first_);
    if (entry.bytes == 0) {  // its place becomes free when its turn comes
      ++first_;
      continue;
    }
    if (now_ns - entry.since_ns < kHoldNs) break;
    rte_hash_del_key(index_, &entry.connection);
    ++first_;
    return {entry.packet.data(), entry.bytes};
  }
  return {};
}

}  // namespace adit::gateway
