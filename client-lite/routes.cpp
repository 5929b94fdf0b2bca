#include "client-lite/routes.h"

#include <algorithm>
#include <iterator>

namespace adit::client {

std::optional<NextHop> next_hop_for(std::span<const Route> table, Ipv4Address destination,
                                    uint32_t except_interface) {
  const Route* best = nullptr;
  for (const Route& route : table) {
    if (route.interface_index == except_interface || route.protocol == kRouteProtocol) continue;
    if (!route.destination.contains(destination)) continue;
    const bool better =
        best == nullptr || route.destination.length_bits > best->destination.length_bits ||
        (route.destination.length_bits == best->destination.length_bits &&
         route.metric < best->metric);
    if (better) best = &route;
  }
  if (best == nullptr) return std::nullopt;
  return NextHop{best->via, best->interface_index, best->mtu_bytes};
}

bool is_for_private_use(const Ipv4Prefix& prefix) {
  static constexpr Ipv4Prefix kPrivate[] = {{Ipv4Address::from_octets(10, 0, 0, 0), 8},
                                            {Ipv4Address::from_octets(172, 16, 0, 0), 12},
                                            {Ipv4Address::from_octets(192, 168, 0, 0), 16},
                                            {Ipv4Address::from_octets(100, 64, 0, 0), 10}};
  return std::any_of(std::begin(kPrivate), std::end(kPrivate), [&prefix](const Ipv4Prefix& one) {
    return one.length_bits <= prefix.length_bits && one.contains(prefix.address);
  });
}

RoutePlan plan_routes(const RouteWish& wish, std::span<const Route> table) {
  RoutePlan plan;
  std::vector<Ipv4Prefix> prefixes;
  bool covers_gateway = false;
  const auto want = [&prefixes](const Ipv4Prefix& prefix) {
    if (std::find(prefixes.begin(), prefixes.end(), prefix) == prefixes.end()) {
      prefixes.push_back(prefix);
    }
  };
  for (const Ipv4Prefix& prefix : wish.prefixes) {
    // The gateway's own address alone can never traverse.
    if (prefix.length_bits == 32 && prefix.address == wish.gateway) continue;
    covers_gateway =
        covers_gateway || (!wish.gateway.is_zero() && prefix.contains(wish.gateway));
    if (prefix.length_bits == 0) {
      want({Ipv4Address::from_octets(0, 0, 0, 0), 1});
      want({Ipv4Address::from_octets(128, 0, 0, 0), 1});
    } else {
      want(prefix);
    }
  }
  const auto add_host_route = [&](Ipv4Address address) {
    const std::optional<NextHop> outside = next_hop_for(table, address, wish.interface_index);
    if (!outside) return false;
    plan.routes.push_back(
        {{address, 32}, outside->via, outside->interface_index, 0, 0, kRouteProtocol});
    return true;
  };
  if (covers_gateway) {
    if (!add_host_route(wish.gateway)) {
      plan.gateway_cut_off = true;
      return plan;
    }
  }
  for (const Ipv4Address other : wish.others) {
    const auto covers = [other](const Ipv4Prefix& prefix) {
      return prefix.contains(other) && prefix.length_bits < 32;
    };
    if (other != wish.gateway && std::any_of(prefixes.begin(), prefixes.end(), covers)) {
      add_host_route(other);
    }
  }
  for (const Ipv4Prefix& prefix : prefixes) {
    plan.routes.push_back({prefix, wish.router, wish.interface_index, 0, 0, kRouteProtocol});
  }
  return plan;
}

}  // namespace adit::client
