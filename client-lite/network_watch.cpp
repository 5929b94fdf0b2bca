#include "client-lite/network_watch.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <limits>

#include "client-lite/routes.h"

namespace adit::client {
namespace {

// The interface that a route leads to, 0 where it does not say.
uint32_t interface_of(const nlmsghdr* message) {
  const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(message));
  auto left = static_cast<int>(RTM_PAYLOAD(message));
  for (const rtattr* attribute = RTM_RTA(route); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    uint32_t index;
    if (attribute->rta_type != RTA_OIF || RTA_PAYLOAD(attribute) != sizeof index) continue;
    std::memcpy(&index, RTA_DATA(attribute), sizeof index);
    return index;
  }
  return 0;
}

// Adds what one notification is about. What cannot be read may be anything.
void look_at(const nlmsghdr* message, uint32_t own_interface, NetworkWatch::Changes& changes) {
  const auto is_cut = [message](size_t body_bytes) {
    return message->nlmsg_len < NLMSG_LENGTH(body_bytes);
  };
  const auto note = [&](uint32_t index) {
    (index == own_interface ? changes.device : changes.host) = true;
  };
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      if (is_cut(sizeof(ifinfomsg))) return note(0);
      const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
      note(static_cast<uint32_t>(link->ifi_index));
      // A bridge says the same of a port that leaves it, in its own family.
      changes.device_gone = changes.device_gone ||
                            (message->nlmsg_type == RTM_DELLINK && link->ifi_family == AF_UNSPEC &&
                             link->ifi_index == static_cast<int>(own_interface));
      return;
    }
    case RTM_NEWADDR:
    case RTM_DELADDR:
      if (is_cut(sizeof(ifaddrmsg))) return note(0);
      return note(static_cast<const ifaddrmsg*>(NLMSG_DATA(message))->ifa_index);
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      if (is_cut(sizeof(rtmsg))) return note(0);
      const uint32_t index = interface_of(message);
      const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(message));
      // That somebody took away the gateway's route, or a kill switch's, is worth a look; that we
      // made it is not. Of IPv6 nothing else matters.
      const bool is_ours = route->rtm_protocol == kRouteProtocol;
      const bool is_made_by_us = is_ours && message->nlmsg_type == RTM_NEWROUTE;
      if (route->rtm_family == AF_INET6 && (!is_ours || is_made_by_us)) return;
      if (index == own_interface || !is_made_by_us) note(index);
      return;
    }
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return note(0);
    default:
      return;
  }
}

}  // namespace

bool NetworkWatch::open() {
  netlink_ = FileDescriptor(
      socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE |
                     RTMGRP_IPV6_ROUTE;
  clock_ = FileDescriptor(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!netlink_.is_open() || !clock_.is_open() ||
      bind(netlink_.get(), reinterpret_cast<const sockaddr*>(&groups), sizeof groups) != 0) {
    return false;
  }
  rearm();
  return true;
}

NetworkWatch::Changes NetworkWatch::read_changes(uint32_t own_interface) {
  Changes changes;
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 8192> part;
  for (;;) {
    const ssize_t got = recv(netlink_.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {  // more than the socket's buffer holds: all may be different
      changes.host = changes.device = true;
      continue;
    }
    if (got <= 0) return changes;
    auto left = static_cast<uint32_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(part.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      look_at(message, own_interface, changes);
    }
  }
}

// Far in the future: it never expires, it is only cancelled.
void NetworkWatch::rearm() {
  uint64_t expirations;
  if (read(clock_.get(), &expirations, sizeof expirations) < 0 && errno == EBADF) return;
  itimerspec never{};
  never.it_value.tv_sec = std::numeric_limits<time_t>::max();
  timerfd_settime(clock_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr);
}

}  // namespace adit::client
