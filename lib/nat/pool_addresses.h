// Which of the pool's addresses an address is, if it is one: every inbound packet asks. Open
// addressing by multiplicative hashing, whose topmost bits lie far apart for addresses that are
// neighbours, as a pool's are: nearly always the first place that is looked at is the right one.
//
// Theory: D. E. Knuth, The Art of Computer Programming, volume 3, section 6.4, on multiplication by
// the golden ratio.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/net/address.h"

namespace adit::nat {

class PoolAddresses {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr size_t kAddressesMax = 65536;  // Mapping::pool_index has 16 bits

  // At most kAddressesMax addresses, all different.
  explicit PoolAddresses(std::span<const Ipv4Address> addresses);

  // Its position among the addresses; kNone if it is not one of them.
  uint32_t index_of(Ipv4Address address) const {
    for (uint32_t place = home(address);; place = (place + 1) & mask_) {
      const Place& candidate = places_[place];
      if (candidate.index == kNone || candidate.address == address) return candidate.index;
    }
  }
  // How many places are looked at for the address of the pool that stands worst.
  unsigned probes_max() const;

 private:
  struct Place {
    Ipv4Address address;
    uint32_t index = kNone;
  };

  uint32_t home(Ipv4Address address) const { return address.host() * 0x9e3779b1u >> shift_; }

  uint32_t mask_;
  unsigned shift_;             // from a hash to its topmost bits
  std::vector<Place> places_;  // at most half of them taken
};

}  // namespace adit::nat
