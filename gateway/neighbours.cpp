#include "gateway/neighbours.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace adit::gateway {

Neighbours::Neighbours(const char* name, unsigned entries) {
  static_assert(sizeof(Key) == 8 && std::has_unique_object_representations_v<Key>);
  rte_hash_parameters parameters{};
  parameters.name = name;
  parameters.entries = entries;
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) {
    throw std::runtime_error(std::string("cannot create the neighbour table ") + name);
  }
  // rte_hash gives positions in [0, max key id].
  entries_.resize(static_cast<size_t>(rte_hash_max_key_id(index_)) + 1);
}

Neighbours::~Neighbours() { rte_hash_free(index_); }

Neighbour* Neighbours::find(unsigned port, Ipv4Address address) {
  const Key key{address, static_cast<uint8_t>(port), {}};
  const int32_t position = rte_hash_lookup(index_, &key);
  return position < 0 ? nullptr : &entries_[static_cast<size_t>(position)];
}

Neighbour* Neighbours::add(unsigned port, Ipv4Address address) {
  const Key key{address, static_cast<uint8_t>(port), {}};
  const int32_t position = rte_hash_add_key(index_, &key);
  if (position < 0) return nullptr;
  Neighbour& neighbour = entries_[static_cast<size_t>(position)];
  neighbour = Neighbour{};
  neighbour.address = address;
  neighbour.port = static_cast<uint8_t>(port);
  neighbour.used = true;
  return &neighbour;
}

void Neighbours::remove(Neighbour& neighbour) {
  const Key key{neighbour.address, neighbour.port, {}};
  rte_hash_del_key(index_, &key);
  neighbour = Neighbour{};
}

}  // namespace adit::gateway
