#include "client-lite/netlink.h"

#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

namespace adit::client {

// One request: header, fixed part, attributes.
struct Netlink::Request {
  alignas(NLMSG_ALIGNTO) uint8_t bytes[256] = {};

  Request(uint16_t type, uint16_t flags, const void* body, size_t body_bytes) {
    nlmsghdr* header = this->header();
    header->nlmsg_type = type;
    header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    header->nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(body_bytes));
    std::memcpy(NLMSG_DATA(header), body, body_bytes);
  }
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes); }

  template <typename T>
  void add(uint16_t type, const T& value) {
    const size_t at = NLMSG_ALIGN(header()->nlmsg_len);
    const rtattr attribute{static_cast<uint16_t>(RTA_LENGTH(sizeof value)), type};
    std::memcpy(bytes + at, &attribute, sizeof attribute);
    std::memcpy(bytes + at + RTA_LENGTH(0), &value, sizeof value);
    header()->nlmsg_len = static_cast<uint32_t>(at + RTA_LENGTH(sizeof value));
  }
};

namespace {

// The attributes of one dumped route.
struct RouteReader {
  Route route;
  bool has_interface = false;

  void read(const rtattr* attribute) {
    const void* value = RTA_DATA(attribute);
    const size_t bytes = RTA_PAYLOAD(attribute);
    if (attribute->rta_type == RTA_MULTIPATH && bytes >= sizeof(rtnexthop)) {
      read_multipath(value, bytes);
      return;
    }
    if (attribute->rta_type == RTA_METRICS) {
      read_metrics(static_cast<const uint8_t*>(value), bytes);
      return;
    }
    if (bytes != 4) return;
    switch (attribute->rta_type) {
      case RTA_DST: std::memcpy(&route.destination.address, value, 4); break;
      case RTA_GATEWAY: std::memcpy(&route.via, value, 4); break;
      case RTA_PRIORITY: std::memcpy(&route.metric, value, 4); break;
      case RTA_OIF:
        std::memcpy(&route.interface_index, value, 4);
        has_interface = true;
        break;
      default: break;
    }
  }

  // Of several equal ways the first is as good as any.
  void read_multipath(const void* value, size_t bytes) {
    rtnexthop hop;
    std::memcpy(&hop, value, sizeof hop);
    if (hop.rtnh_len > bytes || hop.rtnh_len < sizeof hop) return;
    route.interface_index = static_cast<uint32_t>(hop.rtnh_ifindex);
    has_interface = true;
    const auto* attribute = reinterpret_cast<const rtattr*>(
        static_cast<const uint8_t*>(value) + RTNH_LENGTH(0));
    if (hop.rtnh_len >= RTNH_LENGTH(0) + RTA_LENGTH(4) && attribute->rta_type == RTA_GATEWAY) {
      std::memcpy(&route.via, RTA_DATA(attribute), 4);
    }
  }

  void read_metrics(const uint8_t* value, size_t bytes) {
    auto left = static_cast<int>(bytes);
    for (const auto* metric = reinterpret_cast<const rtattr*>(value); RTA_OK(metric, left);
         metric = RTA_NEXT(metric, left)) {
      if (metric->rta_type == RTAX_MTU && RTA_PAYLOAD(metric) == 4) {
        std::memcpy(&route.mtu_bytes, RTA_DATA(metric), 4);
      }
    }
  }
};

void read_route(const nlmsghdr* header, std::vector<Route>& out) {
  if (header->nlmsg_type != RTM_NEWROUTE || header->nlmsg_len < NLMSG_LENGTH(sizeof(rtmsg))) {
    return;
  }
  const auto* message = static_cast<const rtmsg*>(NLMSG_DATA(header));
  if (message->rtm_family != AF_INET || message->rtm_table != RT_TABLE_MAIN ||
      message->rtm_type != RTN_UNICAST || message->rtm_dst_len > 32) {
    return;
  }
  RouteReader reader;
  reader.route.destination.length_bits = message->rtm_dst_len;
  reader.route.protocol = message->rtm_protocol;
  auto left = static_cast<int>(RTM_PAYLOAD(header));
  for (const rtattr* attribute = RTM_RTA(message); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    reader.read(attribute);
  }
  // A route whose carrier is down leads nowhere.
  if (reader.has_interface && (message->rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) == 0) {
    out.push_back(reader.route);
  }
}

ifinfomsg link_body(uint32_t interface_index) {
  ifinfomsg body{};
  body.ifi_family = AF_UNSPEC;
  body.ifi_index = static_cast<int>(interface_index);
  return body;
}

void read_path(const nlmsghdr* header, OuterPath& out) {
  if (header->nlmsg_len < NLMSG_LENGTH(sizeof(rtmsg))) return;
  const auto* message = static_cast<const rtmsg*>(NLMSG_DATA(header));
  auto left = static_cast<int>(RTM_PAYLOAD(header));
  for (const rtattr* attribute = RTM_RTA(message); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    if (RTA_PAYLOAD(attribute) != 4) continue;
    switch (attribute->rta_type) {
      case RTA_PREFSRC: std::memcpy(&out.source, RTA_DATA(attribute), 4); break;
      case RTA_GATEWAY: std::memcpy(&out.via, RTA_DATA(attribute), 4); break;
      case RTA_OIF: std::memcpy(&out.interface_index, RTA_DATA(attribute), 4); break;
      case RTA_TABLE: std::memcpy(&out.table, RTA_DATA(attribute), 4); break;
      default: break;
    }
  }
}

}  // namespace

bool Netlink::open() {
  socket_ = FileDescriptor(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  return socket_.is_open();
}

int Netlink::exchange(Request& request, OuterPath* answer) {
  nlmsghdr* header = request.header();
  header->nlmsg_flags |= NLM_F_ACK;
  header->nlmsg_seq = ++sequence_;
  if (send(socket_.get(), header, header->nlmsg_len, 0) < 0) return errno;
  alignas(NLMSG_ALIGNTO) uint8_t part[4096];
  for (;;) {
    const ssize_t got = recv(socket_.get(), part, sizeof part, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    auto left = static_cast<uint32_t>(got);
    for (auto* reply = reinterpret_cast<nlmsghdr*>(part); NLMSG_OK(reply, left);
         reply = NLMSG_NEXT(reply, left)) {
      if (reply->nlmsg_seq != sequence_) continue;
      if (reply->nlmsg_type == RTM_NEWROUTE && answer != nullptr) read_path(reply, *answer);
      if (reply->nlmsg_type != NLMSG_ERROR) continue;
      return -static_cast<const nlmsgerr*>(NLMSG_DATA(reply))->error;
    }
  }
}

// An MTU below IPv6's smallest (1280) ends IPv6 on a device, and one above begins it anew, with an
// address if the device is up.
int Netlink::set_link_up(uint32_t interface_index, uint16_t mtu_bytes) {
  give_no_ipv6_address(interface_index);
  ifinfomsg body = link_body(interface_index);
  body.ifi_flags = IFF_UP;
  body.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, 0, &body, sizeof body);
  request.add(IFLA_MTU, uint32_t{mtu_bytes});
  const int error = exchange(request);
  give_no_ipv6_address(interface_index);
  remove_ipv6_addresses(interface_index);
  return error;
}

template <typename Family>
int Netlink::set_family(uint32_t interface_index, const Family& family) {
  const ifinfomsg body = link_body(interface_index);
  Request request(RTM_NEWLINK, 0, &body, sizeof body);
  request.add(IFLA_AF_SPEC, family);
  return exchange(request);
}

// (On a kernel without IPv6, or for a device without it, this is refused, and there is none.)
void Netlink::give_no_ipv6_address(uint32_t interface_index) {
  struct {
    rtattr inet6;
    rtattr mode;
    uint8_t value[4];  // one, and padding
  } const family{{sizeof family, AF_INET6},
                 {RTA_LENGTH(1), IFLA_INET6_ADDR_GEN_MODE},
                 {IN6_ADDR_GEN_MODE_NONE}};
  set_family(interface_index, family);
}

void Netlink::remove_ipv6_addresses(uint32_t interface_index) {
  struct Address {
    ifaddrmsg body;
    in6_addr address;
  };
  std::array<Address, 8> found;  // the kernel gives one
  size_t count = 0;
  ifaddrmsg all{};
  all.ifa_family = AF_INET6;
  Request request(RTM_GETADDR, NLM_F_DUMP, &all, sizeof all);
  dump(request, [&](const nlmsghdr* part) {
    const auto* body = static_cast<const ifaddrmsg*>(NLMSG_DATA(part));
    if (part->nlmsg_type != RTM_NEWADDR || body->ifa_index != interface_index) return;
    auto left = static_cast<int>(IFA_PAYLOAD(part));
    for (const rtattr* attribute = IFA_RTA(body); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
      if (attribute->rta_type != IFA_ADDRESS || RTA_PAYLOAD(attribute) != sizeof(in6_addr) ||
          count == found.size()) {
        continue;
      }
      found[count].body = *body;
      std::memcpy(&found[count++].address, RTA_DATA(attribute), sizeof(in6_addr));
    }
  });
  for (const Address& address : std::span(found).first(count)) {
    Request removal(RTM_DELADDR, 0, &address.body, sizeof address.body);
    removal.add(IFA_LOCAL, address.address);
    exchange(removal);
  }
}

namespace {

ifaddrmsg address_body(uint32_t interface_index, const Ipv4Interface& address) {
  ifaddrmsg body{};
  body.ifa_family = AF_INET;
  body.ifa_prefixlen = address.length_bits;
  body.ifa_scope = RT_SCOPE_UNIVERSE;
  body.ifa_index = interface_index;
  return body;
}

rtmsg route_body(const Route& route) {
  rtmsg body{};
  body.rtm_family = AF_INET;
  body.rtm_dst_len = route.destination.length_bits;
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = route.protocol;
  body.rtm_scope = route.via.is_zero() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  body.rtm_type = RTN_UNICAST;
  return body;
}

}  // namespace

int Netlink::add_address(uint32_t interface_index, const Ipv4Interface& address) {
  const ifaddrmsg body = address_body(interface_index, address);
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
  request.add(IFA_LOCAL, address.address);
  request.add(IFA_ADDRESS, address.address);
  return exchange(request);
}

int Netlink::remove_address(uint32_t interface_index, const Ipv4Interface& address) {
  const ifaddrmsg body = address_body(interface_index, address);
  Request request(RTM_DELADDR, 0, &body, sizeof body);
  request.add(IFA_LOCAL, address.address);
  request.add(IFA_ADDRESS, address.address);
  return exchange(request);
}

int Netlink::keep_secondary_addresses(uint32_t interface_index) {
  // Attributes within attributes, the innermost of which says which setting of IPv4's it is.
  struct {
    rtattr inet;
    rtattr settings;
    rtattr setting;
    uint32_t value;
  } const family{{sizeof family, AF_INET},
                 {sizeof family - sizeof(rtattr), IFLA_INET_CONF},
                 {sizeof family - 2 * sizeof(rtattr), IPV4_DEVCONF_PROMOTE_SECONDARIES},
                 1};
  return set_family(interface_index, family);
}

int Netlink::add_route(const Route& route) {
  return put_route(route, NLM_F_CREATE | NLM_F_EXCL);
}

int Netlink::replace_route(const Route& route) {
  return put_route(route, NLM_F_CREATE | NLM_F_REPLACE);
}

int Netlink::put_route(const Route& route, uint16_t flags) {
  const rtmsg body = route_body(route);
  Request request(RTM_NEWROUTE, flags, &body, sizeof body);
  request.add(RTA_DST, route.destination.address);
  request.add(RTA_OIF, route.interface_index);
  if (!route.via.is_zero()) request.add(RTA_GATEWAY, route.via);
  if (route.metric != 0) request.add(RTA_PRIORITY, route.metric);
  return exchange(request);
}

int Netlink::remove_route(const Route& route) {
  const rtmsg body = route_body(route);
  Request request(RTM_DELROUTE, 0, &body, sizeof body);
  request.add(RTA_DST, route.destination.address);
  request.add(RTA_OIF, route.interface_index);
  if (!route.via.is_zero()) request.add(RTA_GATEWAY, route.via);
  if (route.metric != 0) request.add(RTA_PRIORITY, route.metric);
  return exchange(request);
}

int Netlink::change_refusal(const Refusal& refusal, bool add) {
  rtmsg body{};
  body.rtm_family = refusal.is_ipv6 ? AF_INET6 : AF_INET;
  body.rtm_dst_len = refusal.is_ipv6 ? refusal.ipv6_length_bits : refusal.prefix.length_bits;
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = kRouteProtocol;
  body.rtm_scope = RT_SCOPE_UNIVERSE;
  body.rtm_type = RTN_PROHIBIT;
  Request request(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_EXCL : 0, &body,
                  sizeof body);
  if (refusal.is_ipv6) {
    std::array<uint8_t, 16> address{refusal.ipv6_first_byte};
    request.add(RTA_DST, address);
  } else {
    request.add(RTA_DST, refusal.prefix.address);
  }
  request.add(RTA_PRIORITY, kRefusalMetric);
  return exchange(request);
}

std::optional<std::vector<Route>> Netlink::routes() {
  rtmsg body{};
  body.rtm_family = AF_INET;
  Request request(RTM_GETROUTE, NLM_F_DUMP, &body, sizeof body);
  std::vector<Route> table;
  const bool is_whole = dump(request, [&table](const nlmsghdr* part) { read_route(part, table); });
  return is_whole ? std::optional(std::move(table)) : std::nullopt;
}

template <typename Take>
bool Netlink::dump(Request& request, const Take& take) {
  nlmsghdr* header = request.header();
  header->nlmsg_seq = ++sequence_;
  if (send(socket_.get(), header, header->nlmsg_len, 0) < 0) return false;
  // The kernel packs a dump's parts into as much as the reader takes, at most 32 KiB.
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, size_t{32} << 10> parts;
  for (;;) {
    const ssize_t got = recv(socket_.get(), parts.data(), parts.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    auto left = static_cast<uint32_t>(got);
    for (auto* reply = reinterpret_cast<nlmsghdr*>(parts.data()); NLMSG_OK(reply, left);
         reply = NLMSG_NEXT(reply, left)) {
      if (reply->nlmsg_seq != sequence_) continue;
      if (reply->nlmsg_type == NLMSG_DONE) return true;
      if (reply->nlmsg_type == NLMSG_ERROR) return false;
      take(reply);
    }
  }
}

std::optional<OuterPath> Netlink::path_to(Ipv4Address destination, uint32_t mark) {
  return find_path(destination, mark, 0);
}

std::optional<OuterPath> Netlink::path_by_policy(Ipv4Address destination, uint32_t mark) {
  const std::optional<OuterPath> path = find_path(destination, mark, RTM_F_LOOKUP_TABLE);
  const bool is_by_policy = path && path->table != RT_TABLE_MAIN && path->table != RT_TABLE_LOCAL;
  return is_by_policy ? path : std::nullopt;
}

std::optional<OuterPath> Netlink::find_path(Ipv4Address destination, uint32_t mark,
                                            unsigned flags) {
  rtmsg body{};
  body.rtm_family = AF_INET;
  body.rtm_dst_len = 32;
  body.rtm_flags = flags;
  Request request(RTM_GETROUTE, 0, &body, sizeof body);
  request.add(RTA_DST, destination);
  if (mark != 0) request.add(RTA_MARK, mark);
  OuterPath path;
  if (exchange(request, &path) != 0 || path.interface_index == 0) return std::nullopt;
  if ((flags & RTM_F_LOOKUP_TABLE) == 0) path.table = 0;
  return path;
}

namespace {

// Asks the kernel `what` of an interface. False when it is gone.
bool ask_interface(uint32_t interface_index, unsigned long what, ifreq& request) {
  if (if_indextoname(interface_index, request.ifr_name) == nullptr) return false;
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return ioctl(socket.get(), what, &request) == 0;
}

}  // namespace

uint32_t interface_mtu_bytes(uint32_t interface_index) {
  ifreq request{};
  if (!ask_interface(interface_index, SIOCGIFMTU, request)) return 0;
  return static_cast<uint32_t>(request.ifr_mtu);
}

bool interface_is_up(uint32_t interface_index) {
  ifreq request{};
  return ask_interface(interface_index, SIOCGIFFLAGS, request) && (request.ifr_flags & IFF_UP) != 0;
}

}  // namespace adit::client
