// Mappings that a host has asked for by the Port Control Protocol: ordinary ones, which live until
// a time at least, used or not.
#include <algorithm>
#include <bit>
#include <cstring>

#include "lib/nat/nat.h"

namespace adit::nat {

// Wrap-safe: holds are much shorter than half of the clock's round.
bool Nat::is_held(const Mapping& mapping, uint32_t now_s) {
  return mapping.held_until_s != 0 && static_cast<int32_t>(mapping.held_until_s - now_s) >= 0;
}

uint64_t Nat::folded(const std::array<uint8_t, 12>& nonce) {
  uint64_t first = 0;
  uint32_t rest = 0;
  std::memcpy(&first, nonce.data(), sizeof first);
  std::memcpy(&rest, nonce.data() + sizeof first, sizeof rest);
  return first ^ std::rotl(uint64_t{rest}, 29);
}

// The free entry of `wanted`'s port, if a lookup of `internal` would find it there: a mapping's
// place is its port.
Mapping* Nat::find_wanted(const Subscriber& subscriber, Protocol protocol, uint64_t hash,
                          const Endpoint& wanted, uint32_t now_s, unsigned& block_index) {
  const uint32_t port = wanted.port.host();
  for (unsigned i = 0; i < kBlocksMax; ++i) {
    const Subscriber::Block& block = subscriber.blocks[i];
    const uint32_t first_port = block.first % kPortsPerAddress;
    if (block.ports == 0 || port < first_port || port >= first_port + block.ports) continue;
    const uint32_t pool_index = block.first / kPortsPerAddress;
    const Ipv4Address address = settings_.pool[pool_index];
    if (!wanted.address.is_zero() && wanted.address != address) return nullptr;
    const Reach reach(hash, i, block.ports);
    if (keeps_parity(subscriber.hash_key, protocol) && (port ^ reach.home) % 2 != 0) return nullptr;
    for (unsigned step = 0; step < reach.windows(); ++step) {
      if (reach.window(step) != (port - first_port) / kWindowPorts) continue;
      Mapping& mapping = table_.mapping(pool_index, protocol, static_cast<uint16_t>(port));
      if (mapping.state != MappingState::reserved) settle(mapping, now_s);
      block_index = i;
      return mapping.state == MappingState::free ? &mapping : nullptr;
    }
    return nullptr;
  }
  return nullptr;
}

Mapping* Nat::hold(Subscriber& subscriber, const Hold& wish, uint32_t now_s,
                   HoldRefusal& refusal) {
  refusal = {};
  Mapping* mapping = find_outbound(subscriber, wish.protocol, wish.internal, now_s);
  if (mapping != nullptr && is_held(*mapping, now_s) && mapping->nonce != folded(wish.nonce)) {
    refusal.reason = HoldRefusal::not_its_own;
    return nullptr;
  }
  const bool wants_port = wish.wanted.port.raw() != 0;
  if (wish.only_wanted) {
    // A port at rest keeps its endpoint, which gets it back and no other.
    const Mapping* const known = locate(subscriber, wish.protocol, wish.internal);
    const uint64_t hash = hash_of(subscriber, wish.protocol, wish.internal);
    unsigned unused = 0;
    const bool is_possible =
        known != nullptr
            ? (!wants_port || known->external.port == wish.wanted.port) &&
                  (wish.wanted.address.is_zero() || known->external.address == wish.wanted.address)
            : wants_port && find_wanted(subscriber, wish.protocol, hash, wish.wanted, now_s,
                                        unused) != nullptr;
    if (!is_possible) {
      refusal.reason = HoldRefusal::not_available;
      return nullptr;
    }
  }
  if (mapping == nullptr) {
    mapping = create_outbound(subscriber, wish.protocol, wish.internal, now_s, refusal.no_mapping,
                              wants_port ? &wish.wanted : nullptr);
    if (mapping == nullptr) {
      refusal.reason = HoldRefusal::at_limit;
      return nullptr;
    }
  }
  const uint32_t until_s = std::max(1u, now_s + wish.lifetime_s);
  const bool may_shorten = wish.is_open || !is_held(*mapping, now_s) ||
                           static_cast<int32_t>(until_s - mapping->held_until_s) > 0;
  if (may_shorten) mapping->held_until_s = until_s;
  hasten(*mapping, now_s);
  if (wish.is_open) mapping->is_open = true;
  mapping->nonce = folded(wish.nonce);
  return mapping;
}

bool Nat::let_go(const Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                 const std::array<uint8_t, 12>& nonce, uint32_t now_s) {
  Mapping* const mapping = find_outbound(subscriber, protocol, internal, now_s);
  if (mapping == nullptr || !is_held(*mapping, now_s)) return true;
  if (mapping->nonce != folded(nonce)) return false;
  rest(*mapping, now_s);
  return true;
}

}  // namespace adit::nat
