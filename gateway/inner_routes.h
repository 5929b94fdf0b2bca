// Which tunnel an inner address belongs to: what one client's packet to another needs, and only
// where the configuration allows that traffic. The translator does not need it.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/net/address.h"

struct rte_rib;

namespace adit::gateway {

class InnerRoutes {
 public:
  // Room for `routes_max` prefixes. Throws std::runtime_error without memory. `name` is unique in
  // the process.
  InnerRoutes(const char* name, unsigned routes_max);
  ~InnerRoutes();
  InnerRoutes(const InnerRoutes&) = delete;
  InnerRoutes& operator=(const InnerRoutes&) = delete;

  // False if the table is full, or the prefix is another tunnel's.
  bool add(const Ipv4Prefix& prefix, uint32_t slot);
  // Does nothing if the prefix is not `slot`'s.
  void remove(const Ipv4Prefix& prefix, uint32_t slot);
  // The slot with the longest prefix that holds `address`.
  std::optional<uint32_t> find(Ipv4Address address) const;

 private:
  rte_rib* rib_;
};

}  // namespace adit::gateway
