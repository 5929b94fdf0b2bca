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

// Whether a notification is about something else than our device and the routes that we install.
// What cannot be read may be anything.
bool concerns_others(const nlmsghdr* message, uint32_t own_interface) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      if (message->nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) return true;
      return static_cast<const ifinfomsg*>(NLMSG_DATA(message))->ifi_index !=
             static_cast<int>(own_interface);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      if (message->nlmsg_len < NLMSG_LENGTH(sizeof(ifaddrmsg))) return true;
      return static_cast<const ifaddrmsg*>(NLMSG_DATA(message))->ifa_index != own_interface;
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      if (message->nlmsg_len < NLMSG_LENGTH(sizeof(rtmsg))) return true;
      const auto* route = static_cast<const rtmsg*>(NLMSG_DATA(message));
      auto left = static_cast<int>(RTM_PAYLOAD(message));
      for (const rtattr* attribute = RTM_RTA(route); RTA_OK(attribute, left);
           attribute = RTA_NEXT(attribute, left)) {
        uint32_t index;
        if (attribute->rta_type != RTA_OIF || RTA_PAYLOAD(attribute) != sizeof index) continue;
        std::memcpy(&index, RTA_DATA(attribute), sizeof index);
        if (index == own_interface) return false;
      }
      // That somebody took away the gateway's route is worth a look; that we made it is not.
      return route->rtm_protocol != kRouteProtocol || message->nlmsg_type == RTM_DELROUTE;
    }
    default:
      return false;
  }
}

}  // namespace

bool NetworkWatch::open() {
  netlink_ = FileDescriptor(
      socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl groups{};
  groups.nl_family = AF_NETLINK;
  groups.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE;
  clock_ = FileDescriptor(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!netlink_.is_open() || !clock_.is_open() ||
      bind(netlink_.get(), reinterpret_cast<const sockaddr*>(&groups), sizeof groups) != 0) {
    return false;
  }
  rearm();
  return true;
}

bool NetworkWatch::read_changes(uint32_t own_interface) {
  bool changed = false;
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 8192> part;
  for (;;) {
    const ssize_t got = recv(netlink_.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {  // more than the socket's buffer holds: all may be different
      changed = true;
      continue;
    }
    if (got <= 0) return changed;
    auto left = static_cast<uint32_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(part.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      changed = changed || concerns_others(message, own_interface);
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
