#include "gateway/ownership.h"

namespace adit::gateway {

void TunnelOwners::set(uint32_t slot, unsigned worker) {
  const bool was_moved = moved_[slot] != kNotMoved;
  const bool is_moved = worker != tunnels_.home(slot);
  moved_[slot] = is_moved ? static_cast<uint8_t>(worker + 1) : kNotMoved;
  if (is_moved && !was_moved) exceptions_.add(slot);
  if (!is_moved && was_moved) exceptions_.remove();
}

void MovedPorts::set(uint32_t first_unit, unsigned units, uint32_t slot) {
  for (uint32_t unit = first_unit; unit < first_unit + units; ++unit) {
    const bool was_moved = slots()[unit] != 0;
    slots()[unit] = slot;
    if (slot != 0 && !was_moved) exceptions_.add(unit);
    if (slot == 0 && was_moved) exceptions_.remove();
  }
}

}  // namespace adit::gateway
