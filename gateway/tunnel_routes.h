// Which tunnel an address belongs to. One such table holds inner addresses: what one client's
// packet to another needs, and one from a network that is exempt from translation. Another holds
// addresses outside that are a subscriber's own. The translator needs neither.
//
// Writer and reader: the worker; main reserves before it starts.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/net/address.h"

struct rte_rib;
struct rte_rib_node;

namespace adit::gateway {

class TunnelRoutes {
 public:
  static constexpr uint32_t kNobody = 0;  // a slot that is never used

  // Room for `routes_max` prefixes. Throws std::runtime_error without memory. `name` is unique in
  // the process.
  TunnelRoutes(const char* name, unsigned routes_max);
  ~TunnelRoutes();
  TunnelRoutes(const TunnelRoutes&) = delete;
  TunnelRoutes& operator=(const TunnelRoutes&) = delete;

  // False if the table is full, or the prefix is another tunnel's. `reached`: find_reached() finds
  // it too.
  bool add(const Ipv4Prefix& prefix, uint32_t slot, bool reached = false);
  // Neither does anything if the prefix is not `slot`'s. What is vacated is found to be nobody's.
  void remove(const Ipv4Prefix& prefix, uint32_t slot);
  void vacate(const Ipv4Prefix& prefix, uint32_t slot);
  // The slot with the longest prefix that holds `address`.
  std::optional<uint32_t> find(Ipv4Address address) const;
  // The same, if it is a tunnel that other clients reach.
  std::optional<uint32_t> find_reached(Ipv4Address address) const;

 private:
  std::optional<uint64_t> look_up(Ipv4Address address) const;
  rte_rib_node* find_exact(const Ipv4Prefix& prefix, uint32_t slot) const;
  rte_rib* rib_;
};

}  // namespace adit::gateway
