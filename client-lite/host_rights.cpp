#include "client-lite/host_rights.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <type_traits>

#include "client-lite/privileges.h"

namespace adit::client {

// One change, as it goes to the child: the same program, so as it stands in memory.
struct HostRights::Change {
  enum class Kind : uint8_t {
    confine,
    set_link_up,
    add_address,
    remove_address,
    keep_secondary_addresses,
    add_route,
    replace_route,
    remove_route,
    add_refusal,
    remove_refusal,
    mark_socket,
    enlarge_buffers,
  };
  Kind kind;
  uint16_t mtu_bytes = 0;
  uint32_t interface_index = 0;  // of the link, or the address's
  Ipv4Interface address = {};
  Route route = {};
  Refusal refusal = {};
};

namespace {

constexpr const char* kChildName = "adit-rights";
// At a gigabit a second this is what comes within a few milliseconds.
constexpr int kSocketBufferBytes = 4 << 20;
// The kernel answers in microseconds, or when it is done with what others want of its network,
// which may take seconds; a child that does not answer at all has been stopped.
constexpr timeval kAnswerWait{60, 0};

// A message and the socket that it is about, if any.
struct Envelope {
  explicit Envelope(iovec& content) {
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = room.data();
    message.msg_controllen = room.size();
  }
  void enclose(int socket) {
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof socket);
    std::memcpy(CMSG_DATA(control), &socket, sizeof socket);
  }
  void enclose_nothing() { message.msg_controllen = 0; }
  // The last one, if there are more: the room has space for two.
  FileDescriptor take_out() {
    FileDescriptor socket;
    const cmsghdr* control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_type != SCM_RIGHTS) return socket;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= control->cmsg_len; at += sizeof(int)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control) + at - CMSG_LEN(0), sizeof fd);
      socket = FileDescriptor(fd);
    }
    return socket;
  }

  msghdr message{};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(int))> room{};
};

// FORCE goes beyond net.core.*mem_max; without CAP_NET_ADMIN that limit holds.
void enlarge(int socket, int force_option, int option) {
  const int bytes = kSocketBufferBytes;
  if (setsockopt(socket, SOL_SOCKET, force_option, &bytes, sizeof bytes) != 0) {
    setsockopt(socket, SOL_SOCKET, option, &bytes, sizeof bytes);
  }
}

// Of what the kernel replaces: to the same destination, with the same metric.
bool is_like(const Route& one, const Route& other) {
  return one.destination == other.destination && one.metric == other.metric;
}

}  // namespace

bool HostRights::open(Place place, std::string& refusal) {
  const auto refuse = [&refusal](const char* what) {
    refusal = std::string(what) + ": " + std::strerror(errno);
    return false;
  };
  if (place == Place::here || !has_net_admin()) return netlink_.open() || refuse("rtnetlink");
  if (!child_.open(kChildName, [this](int parent) { serve(parent); })) {
    return refuse("a child to change the network");
  }
  setsockopt(child_.fd(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerWait, sizeof kAnswerWait);
  return true;
}

bool HostRights::can_change() const { return child_.fd() >= 0 || has_net_admin(); }

// It says nothing unasked.
void HostRights::on_readable() { child_.bury(); }

void HostRights::confine(uint32_t interface_index) {
  make({.kind = Change::Kind::confine, .interface_index = interface_index});
}

int HostRights::set_link_up(uint32_t interface_index, uint16_t mtu_bytes) {
  return make({.kind = Change::Kind::set_link_up,
               .mtu_bytes = mtu_bytes,
               .interface_index = interface_index});
}

int HostRights::add_address(uint32_t interface_index, const Ipv4Interface& address) {
  return make({.kind = Change::Kind::add_address,
               .interface_index = interface_index,
               .address = address});
}

int HostRights::remove_address(uint32_t interface_index, const Ipv4Interface& address) {
  return make({.kind = Change::Kind::remove_address,
               .interface_index = interface_index,
               .address = address});
}

int HostRights::keep_secondary_addresses(uint32_t interface_index) {
  return make(
      {.kind = Change::Kind::keep_secondary_addresses, .interface_index = interface_index});
}

int HostRights::add_route(const Route& route) {
  return make({.kind = Change::Kind::add_route, .route = route});
}

int HostRights::replace_route(const Route& route) {
  return make({.kind = Change::Kind::replace_route, .route = route});
}

int HostRights::remove_route(const Route& route) {
  return make({.kind = Change::Kind::remove_route, .route = route});
}

int HostRights::change_refusal(const Refusal& refusal, bool add) {
  return make({.kind = add ? Change::Kind::add_refusal : Change::Kind::remove_refusal,
               .refusal = refusal});
}

int HostRights::mark_socket(int socket) {
  return fwmark_ ? make({.kind = Change::Kind::mark_socket}, socket) : 0;
}

void HostRights::enlarge_buffers(int socket) {
  make({.kind = Change::Kind::enlarge_buffers}, socket);
}

int HostRights::make(const Change& change, int socket) {
  return child_.was_opened() ? ask_child(change, socket) : make_here(change, socket);
}

int HostRights::make_here(const Change& change, int socket) {
  switch (change.kind) {
    case Change::Kind::confine:
      device_ = change.interface_index;
      return 0;
    case Change::Kind::set_link_up:
      return netlink_.set_link_up(change.interface_index, change.mtu_bytes);
    case Change::Kind::add_address:
      return netlink_.add_address(change.interface_index, change.address);
    case Change::Kind::remove_address:
      return netlink_.remove_address(change.interface_index, change.address);
    case Change::Kind::keep_secondary_addresses:
      return netlink_.keep_secondary_addresses(change.interface_index);
    case Change::Kind::add_route:
      return netlink_.add_route(change.route);
    case Change::Kind::replace_route:
      return netlink_.replace_route(change.route);
    case Change::Kind::remove_route:
      return netlink_.remove_route(change.route);
    case Change::Kind::add_refusal:
      return netlink_.change_refusal(change.refusal, true);
    case Change::Kind::remove_refusal:
      return netlink_.change_refusal(change.refusal, false);
    case Change::Kind::mark_socket:
      return setsockopt(socket, SOL_SOCKET, SO_MARK, &*fwmark_, sizeof *fwmark_) == 0 ? 0 : errno;
    case Change::Kind::enlarge_buffers:
      enlarge(socket, SO_RCVBUFFORCE, SO_RCVBUF);
      enlarge(socket, SO_SNDBUFFORCE, SO_SNDBUF);
      return 0;
  }
  return EINVAL;
}

// ---- The child ----

// Before it is confined, what an earlier run has left is undone, at devices that may be others.
bool HostRights::allows(const Change& change) const {
  if (!device_) return true;
  switch (change.kind) {
    case Change::Kind::confine:
      return false;
    case Change::Kind::set_link_up:
    case Change::Kind::add_address:
    case Change::Kind::remove_address:
    case Change::Kind::keep_secondary_addresses:
      return change.interface_index == *device_;
    case Change::Kind::replace_route:
      if (!has_made_one_like(change.route)) return false;
      [[fallthrough]];
    case Change::Kind::add_route:
    case Change::Kind::remove_route:
      return change.route.protocol == kRouteProtocol &&
             (change.route.interface_index == *device_ ||
              change.route.destination.length_bits == 32);
    case Change::Kind::mark_socket:
      return fwmark_.has_value();
    case Change::Kind::add_refusal:
    case Change::Kind::remove_refusal:
    case Change::Kind::enlarge_buffers:
      return true;
  }
  return false;
}

bool HostRights::has_made_one_like(const Route& route) const {
  return std::any_of(made_.begin(), made_.end(),
                     [&route](const Route& made) { return is_like(made, route); });
}

int HostRights::make_for_parent(const Change& change, int socket) {
  if (!allows(change)) return EPERM;
  const int error = make_here(change, socket);
  const bool removes = change.kind == Change::Kind::remove_route;
  const bool puts = change.kind == Change::Kind::add_route ||
                    change.kind == Change::Kind::replace_route;
  if (!removes && (!puts || error != 0)) return error;
  std::erase_if(made_, [&change](const Route& made) { return is_like(made, change.route); });
  if (puts) made_.push_back(change.route);
  return error;
}

void HostRights::serve(int parent) {
  if (!netlink_.open() ||
      !HelperProcess::give_up_all_but(kNetAdmin, Sandbox::rights, kChildName)) {
    return;
  }
  Change change{};
  for (;;) {
    iovec content{&change, sizeof change};
    Envelope envelope(content);
    const ssize_t got = recvmsg(parent, &envelope.message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof change)) return;
    const FileDescriptor socket = envelope.take_out();
    const int error = make_for_parent(change, socket.get());
    if (send(parent, &error, sizeof error, MSG_NOSIGNAL) != sizeof error) return;
  }
}

int HostRights::ask_child(const Change& change, int socket) {
  if (child_.fd() < 0) return EPIPE;
  static_assert(std::is_trivially_copyable_v<Change>);
  iovec content{const_cast<Change*>(&change), sizeof change};
  Envelope envelope(content);
  if (socket >= 0) {
    envelope.enclose(socket);
  } else {
    envelope.enclose_nothing();
  }
  if (sendmsg(child_.fd(), &envelope.message, MSG_NOSIGNAL) >= 0) {
    int error = 0;
    ssize_t got;
    do {
      got = recv(child_.fd(), &error, sizeof error, 0);
    } while (got < 0 && errno == EINTR);
    if (got == sizeof error) return error;
  }
  // An answer that comes later would be taken for another's.
  child_.bury();
  return EPIPE;
}

}  // namespace adit::client
