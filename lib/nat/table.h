// The translator's memory: one array of mappings indexed by (pool address, protocol, port), one of
// windows, and what records which blocks are granted. Everything is an offset into memory handed
// in, no pointers, and all zero is an empty table. Knows where things stand, not what they mean.
//
// A "unit" numbers the windows of the whole pool: pool index * 4096 + port / 16.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/nat/mapping.h"
#include "lib/nat/pool_addresses.h"
#include "lib/nat/port_block.h"
#include "lib/nat/window.h"

namespace adit::nat {

class Table {
 public:
  // The memory of `sharers` tables over the same mappings and windows; what says which are free and
  // which are granted, each has for itself.
  static size_t memory_bytes(size_t pool_addresses, unsigned sharers = 1);
  Table(std::span<const Ipv4Address> pool, std::span<std::byte> memory, unsigned sharers = 1,
        unsigned share = 0);

  const PoolAddresses& pool() const { return pool_; }

  Mapping& mapping(uint32_t pool_index, Protocol protocol, uint32_t port) {
    return mappings_[mapping_offset(pool_index, protocol, port)];
  }
  const Mapping& mapping(uint32_t pool_index, Protocol protocol, uint32_t port) const {
    return mappings_[mapping_offset(pool_index, protocol, port)];
  }
  // The mapping of the first port of `unit`; the unit's other ports follow it, and so do those of
  // the further units of its block.
  Mapping* unit_mappings(uint32_t unit, Protocol protocol) {
    return &mapping(unit / kUnitsPerAddress, protocol, unit % kUnitsPerAddress * kWindowPorts);
  }
  const Mapping* unit_mappings(uint32_t unit, Protocol protocol) const {
    return &mapping(unit / kUnitsPerAddress, protocol, unit % kUnitsPerAddress * kWindowPorts);
  }
  static uint32_t unit_of(const Mapping& mapping) {
    return mapping.pool_index * kUnitsPerAddress + mapping.external.port.host() / kWindowPorts;
  }

  // Calls `visit` with every mapping in `units` units from `first` on whose tag is not that of a
  // free one.
  template <typename Visit>
  void visit(uint32_t first, unsigned units, Visit&& visit) {
    visit_units(*this, first, units, visit);
  }
  template <typename Visit>
  void visit(uint32_t first, unsigned units, Visit&& visit) const {
    visit_units(*this, first, units, visit);
  }

  Window& window(uint32_t unit) { return windows_[unit]; }
  const Window& window(uint32_t unit) const { return windows_[unit]; }
  // The unit at which the block begins that `unit` is part of.
  uint32_t block_unit(uint32_t unit) const {
    return unit / kUnitsPerAddress * kUnitsPerAddress + windows_[unit].block;
  }
  BlockRecord& block(uint32_t unit) { return blocks_[unit]; }
  const BlockRecord& block(uint32_t unit) const { return blocks_[unit]; }
  GrantedBlock& granted(uint32_t index) { return granted_[index]; }
  AddressUnits& units(uint32_t pool_index) { return units_[pool_index]; }
  uint32_t total_units() const { return static_cast<uint32_t>(windows_.size()); }

  // Marks a port, in all protocols, as never given out. Only while no block is granted.
  void reserve(uint32_t pool_index, uint32_t port);
  // Withdraws the windows in which every port is reserved; where the parity of ports is kept, those
  // too in which every odd or every even one is. Once, after the last reserve().
  void withdraw_reserved_windows(bool keeps_parity);

 private:
  template <typename Self, typename Visit>
  static void visit_units(Self& self, uint32_t first, unsigned units, Visit& visit) {
    for (uint32_t unit = first; unit < first + units; ++unit) {
      for (unsigned p = 0; p < kProtocols; ++p) {
        auto* const mappings = self.unit_mappings(unit, static_cast<Protocol>(p));
        unsigned used = 0xffffu & ~matching_tags(self.window(unit).tags[p], kFreeTag);
        for (; used != 0; used &= used - 1) visit(mappings[std::countr_zero(used)]);
      }
    }
  }

  static size_t mapping_offset(uint32_t pool_index, Protocol protocol, uint32_t port) {
    return (size_t{pool_index} * kProtocols + static_cast<unsigned>(protocol)) * kPortsPerAddress +
           port;
  }

  PoolAddresses pool_;
  std::span<Mapping> mappings_;
  std::span<Window> windows_;
  std::span<AddressUnits> units_;
  std::span<BlockRecord> blocks_;
  std::span<GrantedBlock> granted_;  // dense, in no order
};

}  // namespace adit::nat
