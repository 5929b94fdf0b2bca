// Which routes the client wants in the kernel's table, as pure functions over routes: what the
// kernel says goes in, what is to be installed comes out. netlink.h carries them across.
//
// The default route is taken as 0.0.0.0/1 and 128.0.0.0/1. They are longer than the host's own
// default route, so that one stays untouched: nothing has to be put back, and whatever renews it
// (a DHCP client, NetworkManager) may go on doing so beneath us.
//
// The tunnel's own packets must not go into the tunnel. When a wanted prefix covers the gateway,
// the gateway gets a host route by the next hop that leads to it without us.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/net/address.h"

namespace adit::client {

// Marks the routes that this program installs (rtm_protocol), so that only those are removed.
inline constexpr uint8_t kRouteProtocol = 0xad;

struct Route {
  Ipv4Prefix destination;
  Ipv4Address via;              // zero: on the link
  uint32_t interface_index = 0;
  uint32_t metric = 0;          // lower wins among equal destinations
  uint32_t mtu_bytes = 0;       // 0: the interface's
  uint8_t protocol = kRouteProtocol;

  friend bool operator==(const Route&, const Route&) = default;
};

struct NextHop {
  Ipv4Address via;  // zero: on the link
  uint32_t interface_index = 0;
  uint32_t mtu_bytes = 0;
};

// How `destination` is reached without our own routes and without `except_interface`.
std::optional<NextHop> next_hop_for(std::span<const Route> table, Ipv4Address destination,
                                    uint32_t except_interface);

inline bool is_default(const Ipv4Prefix& prefix) { return prefix.length_bits == 0; }

// Whether all of it is for whoever wants it, and nobody's on the Internet (RFC 1918, RFC 6598).
bool is_for_private_use(const Ipv4Prefix& prefix);

struct RoutePlan {
  std::vector<Route> routes;  // in the order to install them: the gateway's own first
  // The gateway is covered, yet there is no way to it but the tunnel: nothing must be installed.
  bool gateway_cut_off = false;
};

struct RouteWish {
  std::vector<Ipv4Prefix> prefixes;  // that traverse; 0.0.0.0/0 = default
  Ipv4Address router;                // in the tunnel; zero: the device alone
  uint32_t interface_index = 0;      // of the TUN device
  Ipv4Address gateway;               // outer address; zero: none yet
  std::vector<Ipv4Address> others = {};  // gateways not in use: outside too, where there is a way
};

RoutePlan plan_routes(const RouteWish& wish, std::span<const Route> table);

}  // namespace adit::client
