#include "lib/nat/pool_addresses.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace adit::nat {

PoolAddresses::PoolAddresses(std::span<const Ipv4Address> addresses)
    : places_(std::bit_ceil(2 * addresses.size() + 2)) {
  assert(addresses.size() <= kAddressesMax);
  mask_ = static_cast<uint32_t>(places_.size() - 1);
  shift_ = 32 - static_cast<unsigned>(std::bit_width(mask_));
  for (uint32_t i = 0; i < addresses.size(); ++i) {
    assert(index_of(addresses[i]) == kNone);
    uint32_t place = home(addresses[i]);
    while (places_[place].index != kNone) place = (place + 1) & mask_;
    places_[place] = {addresses[i], i};
  }
}

unsigned PoolAddresses::probes_max() const {
  unsigned most = 0;
  for (uint32_t place = 0; place < places_.size(); ++place) {
    if (places_[place].index == kNone) continue;
    most = std::max(most, ((place - home(places_[place].address)) & mask_) + 1);
  }
  return most;
}

}  // namespace adit::nat
