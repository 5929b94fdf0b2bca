#include "gateway/tunnel_table.h"

#include <bit>
#include <cassert>

namespace adit::gateway {

void TunnelReport::begin(uint32_t new_epoch) {
  for (auto* field : {&heard_ns, &heard_packet_ns, &sent_ns, &sent_packet_ns, &remote, &rx_packets,
                      &rx_bytes, &tx_packets, &tx_bytes}) {
    field->store(0, std::memory_order_relaxed);
  }
  confirmed_index.store(0, std::memory_order_relaxed);
  epoch.store(new_epoch, std::memory_order_release);
}

bool Tunnel::owns(Ipv4Address source) const {
  if (source == inner_address) return !source.is_zero();
  for (unsigned i = 0; i < prefix_count; ++i) {
    if (prefixes[i].contains(source)) return true;
  }
  return false;
}

bool Tunnel::is_routed(Ipv4Address source) const {
  for (const Ipv4Prefix& prefix : routed_prefixes()) {
    if (prefix.contains(source)) return true;
  }
  return false;
}

TunnelTable::TunnelTable(unsigned slots)
    : mask_(slots - 1),
      line_memory_(slots * sizeof(TunnelLine)),
      lines_(new (line_memory_.data()) TunnelLine[slots], slots),
      tunnels_(slots),
      reports_(slots) {
  assert(std::has_single_bit(slots));
}

unsigned TunnelTable::slot_bits() const {
  return static_cast<unsigned>(std::countr_zero(mask_ + 1));
}

}  // namespace adit::gateway
