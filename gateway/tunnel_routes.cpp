#include "gateway/tunnel_routes.h"

#include <rte_rib.h>

#include <stdexcept>
#include <string>

namespace adit::gateway {
namespace {

// What stands behind a prefix: its slot, and whether others reach it.
constexpr uint64_t kReached = uint64_t{1} << 32;
constexpr uint32_t slot_of(uint64_t value) { return static_cast<uint32_t>(value); }

}  // namespace

TunnelRoutes::TunnelRoutes(const char* name, unsigned routes_max) {
  rte_rib_conf parameters{};
  // A trie of n prefixes has at most n - 1 forks.
  parameters.max_nodes = static_cast<int>(2 * routes_max);
  rib_ = rte_rib_create(name, -1, &parameters);
  if (rib_ == nullptr) {
    throw std::runtime_error(std::string("cannot create the table of routes ") + name);
  }
}

TunnelRoutes::~TunnelRoutes() { rte_rib_free(rib_); }

bool TunnelRoutes::add(const Ipv4Prefix& prefix, uint32_t slot, bool reached) {
  const uint32_t address = prefix.address.host();
  const uint64_t value = slot | (reached ? kReached : 0);
  if (rte_rib_node* there = rte_rib_lookup_exact(rib_, address, prefix.length_bits)) {
    uint64_t owner = 0;
    rte_rib_get_nh(there, &owner);
    const bool may = slot_of(owner) == slot || slot_of(owner) == kNobody;
    return may && rte_rib_set_nh(there, value) == 0;
  }
  rte_rib_node* node = rte_rib_insert(rib_, address, prefix.length_bits);
  return node != nullptr && rte_rib_set_nh(node, value) == 0;
}

rte_rib_node* TunnelRoutes::find_exact(const Ipv4Prefix& prefix, uint32_t slot) const {
  rte_rib_node* node = rte_rib_lookup_exact(rib_, prefix.address.host(), prefix.length_bits);
  uint64_t owner = 0;
  if (node == nullptr || rte_rib_get_nh(node, &owner) != 0) return nullptr;
  return slot_of(owner) == slot ? node : nullptr;
}

void TunnelRoutes::remove(const Ipv4Prefix& prefix, uint32_t slot) {
  if (find_exact(prefix, slot) == nullptr) return;
  rte_rib_remove(rib_, prefix.address.host(), prefix.length_bits);
}

void TunnelRoutes::vacate(const Ipv4Prefix& prefix, uint32_t slot) {
  if (rte_rib_node* node = find_exact(prefix, slot)) rte_rib_set_nh(node, kNobody);
}

std::optional<uint64_t> TunnelRoutes::look_up(Ipv4Address address) const {
  rte_rib_node* node = rte_rib_lookup(rib_, address.host());
  uint64_t value = 0;
  if (node == nullptr || rte_rib_get_nh(node, &value) != 0) return std::nullopt;
  return value;
}

std::optional<uint32_t> TunnelRoutes::find(Ipv4Address address) const {
  const std::optional<uint64_t> value = look_up(address);
  return value ? std::optional(slot_of(*value)) : std::nullopt;
}

std::optional<uint32_t> TunnelRoutes::find_reached(Ipv4Address address) const {
  const std::optional<uint64_t> value = look_up(address);
  return value && (*value & kReached) != 0 ? std::optional(slot_of(*value)) : std::nullopt;
}

}  // namespace adit::gateway
