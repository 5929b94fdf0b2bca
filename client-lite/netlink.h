// The few rtnetlink requests that the client makes: link, address and routes of IPv4. Every
// request waits for the kernel's acknowledgement, which comes at once: rtnetlink works in the
// caller's own time.
//
// Owner: HostNetwork, which reads with it, and HostRights, which changes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "client-lite/file_descriptor.h"
#include "client-lite/kill_switch.h"
#include "client-lite/routes.h"
#include "lib/net/address.h"

namespace adit::client {

// How the kernel would send a packet to a destination.
struct OuterPath {
  Ipv4Address source;
  Ipv4Address via;  // zero: on the link
  uint32_t interface_index = 0;
  uint32_t table = 0;  // that its route stands in, where that was asked for

  friend bool operator==(const OuterPath&, const OuterPath&) = default;
};

class Netlink {
 public:
  // False when the kernel has no rtnetlink; errno says why.
  bool open();

  // Each returns 0 or an errno.

  // With this MTU, and without an IPv6 address: for one, the kernel would send router solicitations
  // and multicast reports that the tunnel cannot carry.
  int set_link_up(uint32_t interface_index, uint16_t mtu_bytes);
  int add_address(uint32_t interface_index, const Ipv4Interface& address);
  int remove_address(uint32_t interface_index, const Ipv4Interface& address);
  // From now on the other addresses of a network stay when the first of them is removed.
  int keep_secondary_addresses(uint32_t interface_index);
  // Never replaces a route that is there: EEXIST then.
  int add_route(const Route& route);
  // Puts it in the place of the one to the same destination, without a moment between the two.
  int replace_route(const Route& route);
  // Removes only a route with our own mark: ESRCH if there is none.
  int remove_route(const Route& route);

  // Adds or removes a route that refuses packets (EACCES to local senders, ICMP "administratively
  // prohibited" to others), and that any other route to the same prefix goes before.
  int change_refusal(const Refusal& refusal, bool add);

  // The unicast routes of the main table. Policy routing is not followed: whoever uses it names
  // an fwmark for the tunnel's packets instead.
  std::optional<std::vector<Route>> routes();
  // The kernel's own choice for a packet with this mark, policy routing and all; nothing when it
  // has no way.
  std::optional<OuterPath> path_to(Ipv4Address destination, uint32_t mark);
  // The same, if a policy rule has it from another table than the main one.
  std::optional<OuterPath> path_by_policy(Ipv4Address destination, uint32_t mark);

 private:
  struct Request;
  // Gives `take` each part of the answer. False: it is not whole.
  template <typename Take>
  bool dump(Request& request, const Take& take);
  // `family`: an attribute of a link's, with what is in it.
  template <typename Family>
  int set_family(uint32_t interface_index, const Family& family);
  void give_no_ipv6_address(uint32_t interface_index);
  void remove_ipv6_addresses(uint32_t interface_index);
  // `answer`: what the kernel says before its acknowledgement, if anything.
  int exchange(Request& request, OuterPath* answer = nullptr);
  std::optional<OuterPath> find_path(Ipv4Address destination, uint32_t mark, unsigned flags);
  int put_route(const Route& route, uint16_t flags);

  FileDescriptor socket_;
  uint32_t sequence_ = 0;
};

// The MTU of an interface, 0 when it is gone.
uint32_t interface_mtu_bytes(uint32_t interface_index);
// Whether an interface is there and set up.
bool interface_is_up(uint32_t interface_index);

}  // namespace adit::client
