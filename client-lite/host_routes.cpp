// The part of HostNetwork that keeps the routing table as it is wanted: the tunnel's routes, and
// the ways to gateways outside it.
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "client-lite/host_network.h"

namespace adit::client {
namespace {

// For documentation (RFC 5737): no host has a route of its own to it.
constexpr Ipv4Address kAnywhere = Ipv4Address::from_octets(198, 51, 100, 1);

}  // namespace

// The kernel's own choice, policy routing and all; but nothing if that is the tunnel.
std::optional<OuterPath> HostNetwork::outer_path() {
  const std::optional<OuterPath> path = netlink_.path_to(gateway_, rights_.fwmark());
  if (path && path->interface_index == interface_index_) return std::nullopt;
  return path;
}

uint16_t HostNetwork::outer_mtu_bytes(Ipv4Address gateway) {
  std::optional<std::vector<Route>> table = netlink_.routes();
  if (!table) return 0;
  add_ways_by_policy(*table);
  const std::optional<NextHop> hop = next_hop_for(*table, gateway, interface_index_);
  if (!hop) return 0;
  const uint32_t mtu_bytes =
      hop->mtu_bytes != 0 ? hop->mtu_bytes : interface_mtu_bytes(hop->interface_index);
  return static_cast<uint16_t>(std::min<uint32_t>(mtu_bytes, UINT16_MAX));
}

// Ways to gateways that are in no table but that of a policy rule (ip rule), as that of a mark.
void HostNetwork::add_ways_by_policy(std::vector<Route>& table) {
  std::vector<Ipv4Address> gateways = other_gateways_;
  gateways.push_back(gateway_);
  for (const Ipv4Address gateway : gateways) {
    if (gateway.is_zero() || next_hop_for(table, gateway, interface_index_)) continue;
    const std::optional<OuterPath> path = netlink_.path_by_policy(gateway, rights_.fwmark());
    if (path && path->interface_index != interface_index_) {
      table.push_back({{gateway, 32}, path->via, path->interface_index, 0, 0, RTPROT_UNSPEC});
    }
  }
}

std::vector<Ipv4Prefix> HostNetwork::traversing() const {
  const auto is_in_place = [this](const Ipv4Prefix& prefix) {
    // Everything is routed as its halves.
    const uint8_t length_bits = std::max<uint8_t>(prefix.length_bits, 1);
    return std::any_of(installed_.begin(), installed_.end(), [&](const Route& route) {
      return route.interface_index == interface_index_ &&
             route.destination == Ipv4Prefix{prefix.address, length_bits};
    });
  };
  std::vector<Ipv4Prefix> in_place;
  std::copy_if(traversing_.begin(), traversing_.end(), std::back_inserter(in_place), is_in_place);
  return in_place;
}

// Whether everything is to traverse, and the kernel has another way for it: by a policy rule that
// comes before the main table.
bool HostNetwork::is_led_past() {
  if (!settings_ || std::none_of(traversing_.begin(), traversing_.end(), is_default)) return false;
  const std::optional<OuterPath> path = netlink_.path_by_policy(kAnywhere, 0);
  return path && path->interface_index != interface_index_;
}

// A gateway's word does not take away a network of the host's: neither one that it is in already,
// nor one that it comes into later.
void HostNetwork::choose_traversing() {
  traversing_ = settings_ ? settings_->routes : refused_routes_;
  if (!settings_) return;
  if (const std::optional<HostAddress> sharer = network_sharer()) {
    set_problem("the tunnel's network " + settings_->address.prefix().to_string() +
                " is left to " + sharer->device + ", which has come into it with " +
                sharer->address.to_string());
  }
  if (settings_->offered_routes.empty()) return;
  const std::vector<HostAddress> host = host_addresses(device_);
  for (const Ipv4Prefix& route : settings_->offered_routes) {
    const HostAddress* taken = network_taken_by(route, host);
    if (taken == nullptr) {
      traversing_.push_back(route);
      continue;
    }
    set_problem("the gateway's route " + route.to_string() +
                " is left out: it is in a network of " + taken->device + ", " +
                taken->address.to_string());
  }
}

void HostNetwork::reconcile_routes() {
  RoutePlan plan;
  choose_traversing();
  if (settings_ || !refusals_.empty()) {
    std::optional<std::vector<Route>> table = netlink_.routes();
    if (!table) {
      set_problem("the routing table cannot be read");
      return;
    }
    forget_missing(*table);
    add_ways_by_policy(*table);
    // A router that the address's own subnet does not hold could not be reached.
    const bool on_link = settings_ && fitting_address().prefix().contains(settings_->router);
    plan = plan_routes({traversing_, on_link ? settings_->router : Ipv4Address{},
                        interface_index_, gateway_, other_gateways_},
                       *table);
    // Without an address there is nothing to send from: only the way to the gateway is kept open.
    if (!settings_) {
      std::erase_if(plan.routes, [this](const Route& route) {
        return route.interface_index == interface_index_;
      });
    }
  }
  if (cut_off_ && !plan.gateway_cut_off) problem_.clear();
  cut_off_ = plan.gateway_cut_off;
  if (cut_off_) {
    set_problem("no route to the gateway " + gateway_.to_string() +
                " outside the tunnel: routes that cover it are not installed");
    if (settings_) return;  // what is there stays, so that nothing slips past the tunnel
  }
  // New ones first: between the two no packet of the tunnel may slip into the tunnel, and none that
  // traverses past it. For the same reason none follows the gateway's own, which is the first, if
  // that cannot be had.
  for (const Route& route : plan.routes) {
    const bool there = std::find(installed_.begin(), installed_.end(), route) != installed_.end();
    const bool is_way_to_gateway = route.destination == Ipv4Prefix{gateway_, 32};
    if (!there && !install(route) && is_way_to_gateway) return;
  }
  // Nor is one of the tunnel's removed whose successor the kernel has refused.
  const std::vector<Route> left = installed_;
  const auto is_installed = [&left](const Route& route) {
    return std::find(left.begin(), left.end(), route) != left.end();
  };
  for (const Route& route : left) {
    const bool stays = std::any_of(
        plan.routes.begin(), plan.routes.end(), [&](const Route& planned) {
          return planned == route || (planned.destination == route.destination &&
                                      route.interface_index == interface_index_ &&
                                      planned.interface_index == interface_index_ &&
                                      !is_installed(planned));
        });
    if (!stays) remove(route);
  }
  if (is_led_past()) {
    set_problem("a policy rule (ip rule) leads packets past the tunnel's routes, which are in the "
                "main table");
  }
}

// A route that is gone, or whose link is down, is to be made anew; the kernel keeps the latter in
// the way.
void HostNetwork::forget_missing(const std::vector<Route>& table) {
  const std::vector<Route> before = installed_;
  for (const Route& route : before) {
    if (std::find(table.begin(), table.end(), route) == table.end()) remove(route);
  }
}

// True when the route is in force.
bool HostNetwork::install(const Route& route) {
  const bool outlives_us = route.interface_index != interface_index_;
  const std::string change = change_of(route);
  if (outlives_us && !journal_.record(change)) {
    set_problem("the undo journal cannot be written: " + change + " is left out");
    return false;
  }
  const auto former =
      std::find_if(installed_.begin(), installed_.end(), [&](const Route& other) {
        return other.destination == route.destination && other.metric == route.metric;
      });
  const bool replaces = former != installed_.end();
  const int error = replaces ? rights_.replace_route(route) : rights_.add_route(route);
  if (error == 0 && replaces) {
    const Route replaced = std::exchange(*former, route);
    if (replaced.interface_index != interface_index_) journal_.strike_out(change_of(replaced));
    return true;
  }
  if (error == 0) {
    installed_.push_back(route);
    return true;
  }
  if (outlives_us && error != EPIPE) journal_.strike_out(change);  // else it may have been made
  // The gateway's host route may well be there, made by somebody who thought of the same.
  if (error == EEXIST && outlives_us) return true;
  set_problem(change + ": " +
              (error == EEXIST ? "another route to it is there already" : std::strerror(error)));
  return false;
}

void HostNetwork::remove(const Route& route) {
  const int error = rights_.remove_route(route);
  // ESRCH: gone already, with its interface or by somebody's hand.
  if (error != 0 && error != ESRCH && error != ENODEV) {
    log_.warning("cannot remove %s: %s", change_of(route).c_str(), std::strerror(error));
  }
  if (route.interface_index != interface_index_ && is_over(error)) {
    journal_.strike_out(change_of(route));
  }
  std::erase(installed_, route);
}

std::string HostNetwork::change_of(const Route& route) const {
  char name[IF_NAMESIZE] = "?";
  if_indextoname(route.interface_index, name);
  return "route " + route.destination.to_string() + " via " + route.via.to_string() + " dev " +
         name;
}

std::string HostNetwork::change_of(const Refusal& refused) {
  return "refuse " + refused.to_string();
}

}  // namespace adit::client
