#include "gateway/tunnel_table.h"

#include <bit>
#include <cassert>
#include <memory>

namespace adit::gateway {

void TunnelReport::begin(uint32_t new_epoch) {
  for (auto* field : {&heard_ns, &heard_packet_ns, &sent_ns, &sent_packet_ns, &remote}) {
    field->store(0, std::memory_order_relaxed);
  }
  epoch.store(new_epoch, std::memory_order_release);
}

bool Tunnel::owns(Ipv4Address source) const {
  if (source == inner_address) return !source.is_zero();
  for (unsigned i = 0; i < prefix_count; ++i) {
    if (open->prefixes[i].contains(source)) return true;
  }
  return false;
}

bool Tunnel::is_routed(Ipv4Address source) const {
  for (const Ipv4Prefix& prefix : routed_prefixes()) {
    if (prefix.contains(source)) return true;
  }
  return false;
}

TunnelTable::TunnelTable(unsigned slots, unsigned workers)
    : mask_(slots - 1), lines_(slots), tunnels_(slots), reports_(slots), open_(slots) {
  assert(std::has_single_bit(slots) && workers <= kHomeClasses);
  for (unsigned i = 0; i < kHomeClasses; ++i) homes_[i] = static_cast<uint8_t>(i % workers);
  std::uninitialized_default_construct_n(lines_.data(), slots);
  std::uninitialized_default_construct_n(tunnels_.data(), slots);
  std::uninitialized_default_construct_n(reports_.data(), slots);
  for (uint32_t slot = 0; slot < slots; ++slot) tunnels_[slot].open = &open_[slot];
}

void TunnelTable::clear(uint32_t slot) {
  Tunnel& tunnel = at(slot);
  OpenTunnel* const open = tunnel.open;
  tunnel = Tunnel{};
  tunnel.open = open;
  *open = OpenTunnel{};  // its traffic by stores that a reader may meet
  line(slot) = TunnelLine{};
  report(slot).begin(0);
}

unsigned TunnelTable::slot_bits() const {
  return static_cast<unsigned>(std::countr_zero(mask_ + 1));
}

}  // namespace adit::gateway
