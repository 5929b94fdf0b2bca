#include "gateway/forwards.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace adit::gateway {

Forwards::Forwards(const char* name, std::span<const Forward> forwards) {
  static_assert(sizeof(Key) == 12 && std::has_unique_object_representations_v<Key>);
  rte_hash_parameters parameters{};
  parameters.name = name;
  // Twice what is needed, so that no bucket is ever full.
  parameters.entries = static_cast<uint32_t>(4 * forwards.size() + 64);
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;  // any
  index_ = rte_hash_create(&parameters);
  if (index_ == nullptr) throw std::runtime_error(std::string("cannot create the table ") + name);
  for (const Forward& forward : forwards) {
    nat::Mapping mapping;
    nat::bind_endpoints(mapping, forward.internal, forward.external);
    mapping.protocol = static_cast<uint8_t>(forward.protocol);
    mapping.state = nat::MappingState::live;
    mapping.is_forward = true;
    const Key key{0, forward.external, mapping.protocol, 1};
    if (rte_hash_add_key_data(index_, &key, reinterpret_cast<void*>(mappings_.size())) != 0) {
      throw std::runtime_error(std::string("no room in the table ") + name);
    }
    mappings_.push_back(mapping);
  }
}

Forwards::~Forwards() { rte_hash_free(index_); }

Forwards::Key Forwards::outbound_key(const nat::Mapping& mapping) {
  return {mapping.tunnel_slot, mapping.internal, mapping.protocol, 0};
}

std::span<const nat::Mapping> Forwards::of(const Tunnel& tunnel) const {
  return std::span(mappings_).subspan(tunnel.first_forward, tunnel.forward_count);
}

void Forwards::open(const Range& range) {
  for (nat::Mapping& mapping : std::span(mappings_).subspan(range.first, range.count)) {
    end(mapping);  // in case the message that closed its last tunnel was lost
    mapping.tunnel_slot = range.slot;
    mapping.profile = range.profile;
    const Key key = outbound_key(mapping);
    const auto position = static_cast<uintptr_t>(&mapping - mappings_.data());
    rte_hash_add_key_data(index_, &key, reinterpret_cast<void*>(position));
  }
}

void Forwards::close(const Range& range) {
  for (nat::Mapping& mapping : std::span(mappings_).subspan(range.first, range.count)) {
    if (mapping.tunnel_slot == range.slot) end(mapping);  // else it is in another slot by now
  }
}

void Forwards::end(nat::Mapping& mapping) {
  if (mapping.tunnel_slot == 0) return;
  const Key key = outbound_key(mapping);
  rte_hash_del_key(index_, &key);
  mapping.tunnel_slot = 0;
  mapping.tcp_state = nat::TcpState::closed;
  mapping.tcp_remote = {};
  mapping.tcp_many_remotes = false;
}

nat::Mapping* Forwards::find(const Key& key) {
  void* position = nullptr;
  if (rte_hash_lookup_data(index_, &key, &position) < 0) return nullptr;
  return &mappings_[reinterpret_cast<uintptr_t>(position)];
}

nat::Mapping* Forwards::find_outbound(const Tunnel& tunnel, nat::Protocol protocol,
                                      const Endpoint& internal) {
  return find({tunnel.slot, internal, static_cast<uint8_t>(protocol), 0});
}

nat::Mapping* Forwards::find_inbound(nat::Protocol protocol, const Endpoint& external) {
  nat::Mapping* const mapping = find({0, external, static_cast<uint8_t>(protocol), 1});
  return mapping != nullptr && mapping->tunnel_slot != 0 ? mapping : nullptr;
}

}  // namespace adit::gateway
