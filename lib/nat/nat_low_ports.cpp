// Low ports: what internal UDP and TCP ports below 1024 get (RFC 4787 REQ-3a). Each pool address
// has one range of them, which all its subscribers share. It is a block without an owner, granted
// when the first of its ports is wanted and swept and returned as any; whose each mapping is stands
// in low_owners_. A subscriber may hold an eighth of the range, so that none takes it from others.
#include <algorithm>
#include <bit>
#include <cassert>

#include "lib/nat/nat.h"

namespace adit::nat {
namespace {

constexpr unsigned kLowProtocols = 2;  // UDP and TCP, the first two
constexpr unsigned kLowShare = 8;

}  // namespace

Subscriber::Block Nat::low_block(uint32_t pool_index) const {
  return {.first = pool_index * kPortsPerAddress + own_first_low_port_, .ports = own_low_ports_};
}

bool Nat::is_low_unit(uint32_t unit) const {
  return unit % kUnitsPerAddress * kWindowPorts - settings_.first_low_port < settings_.low_ports;
}

Subscriber*& Nat::low_owner(const Mapping& mapping) {
  assert(is_low(mapping) && mapping.protocol < kLowProtocols);
  const size_t range = size_t{mapping.pool_index} * kLowProtocols + mapping.protocol;
  const unsigned port = mapping.external.port.host();
  return low_owners_[range * settings_.low_ports + (port - settings_.first_low_port)];
}

const Subscriber* Nat::low_owner(const Mapping& mapping) const {
  return const_cast<Nat*>(this)->low_owner(mapping);
}

void Nat::make_low_ports() {
  if (settings_.low_ports == 0) return;
  assert(std::has_single_bit(settings_.low_ports) && settings_.low_ports >= kWindowPorts);
  assert(settings_.first_low_port % settings_.low_ports == 0);
  low_owners_.resize(settings_.pool.size() * kLowProtocols * settings_.low_ports);
  for (unsigned unit = 0; unit < kUnitsPerAddress; ++unit) {
    const bool is_own = settings_.shares.empty() || settings_.shares[unit] == settings_.share;
    if (!is_low_unit(unit) || !is_own) continue;
    if (own_low_ports_ == 0) own_first_low_port_ = static_cast<uint16_t>(unit * kWindowPorts);
    own_low_ports_ += kWindowPorts;
  }
  assert(own_low_ports_ == 0 || (std::has_single_bit(own_low_ports_) &&
                                 own_first_low_port_ % own_low_ports_ == 0));
  // No subscriber's own block comes to stand there.
  for (uint32_t i = 0; i < settings_.pool.size(); ++i) {
    for (unsigned unit = 0; unit < kUnitsPerAddress; ++unit) {
      if (is_low_unit(unit)) table_.units(i).withdraw(unit);
    }
  }
}

Mapping* Nat::create_low(Subscriber& subscriber, Protocol protocol, const Endpoint& internal,
                         uint32_t now_s, Refusal& refusal) {
  // Its address follows from its own block: it needs one even if it uses low ports only.
  if (!is_bound(subscriber) && !grant_block(subscriber, 0, refusal)) return nullptr;
  if (own_low_ports_ == 0) {
    refusal = Refusal::low_ports_full;
    return nullptr;
  }
  if (subscriber.low_mappings >= std::max(own_low_ports_ / kLowShare, 1u)) {
    refusal = Refusal::port_limit;
    return nullptr;
  }
  const Subscriber::Block block = low_block(subscriber.pool_index);
  if (table_.block(block.first_unit()).ports == 0) enlist_block(block.first_unit(), block.ports);
  const Reach reach(hash_of(subscriber, protocol, internal), 0, block.ports);
  Mapping* const mapping = find_free(subscriber, block, protocol, reach, now_s);
  if (mapping == nullptr) {
    refusal = Refusal::low_ports_full;
    return nullptr;
  }
  occupy(*mapping, subscriber, block, reach, protocol, internal, now_s);
  low_owner(*mapping) = &subscriber;
  ++subscriber.low_mappings;
  return mapping;
}

void Nat::leave_low_ports(Subscriber& subscriber, uint32_t now_s) {
  if (subscriber.low_mappings == 0) return;
  const Subscriber::Block block = low_block(subscriber.pool_index);
  table_.visit(block.first_unit(), block.units(), [&](Mapping& mapping) {
    if (mapping.tag == kReservedTag || low_owner(mapping) != &subscriber) return;
    end_life(mapping, now_s);
    low_owner(mapping) = nullptr;
  });
}

}  // namespace adit::nat
