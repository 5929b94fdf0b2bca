#include "client-lite/udp_socket.h"

#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace adit::client {
namespace {

// How long a full send buffer is waited for before packets are given up: longer would keep
// arrivals waiting, shorter would drop what the link is about to take.
constexpr int kSendWaitMs = 2;
// What one message may hold: the kernel's UDP_MAX_SEGMENTS, of the kernels that have the smaller
// one, and the largest payload of UDP.
constexpr unsigned kSegmentsMax = 64;
constexpr size_t kMessageBytesMax = 65535 - 20 - 8;

sockaddr_in socket_address(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = endpoint.address.value.raw();
  address.sin_port = endpoint.port.raw();
  return address;
}

// A control message of one integer.
template <typename T>
struct Control {
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(T))> bytes{};
};

// Of a datagram: the kernel takes all of it or nothing.
UdpSocket::Whole outcome_of(ssize_t sent_bytes) {
  if (sent_bytes >= 0) return UdpSocket::Whole::sent;
  return errno == EMSGSIZE ? UdpSocket::Whole::too_large : UdpSocket::Whole::lost;
}

}  // namespace

// Datagrams as sendmmsg() wants them.
struct UdpSocket::Messages {
  unsigned count = 0;
  std::array<mmsghdr, kSendBatch> headers;
  std::array<uint8_t, kSendBatch> datagrams;  // in each message
  std::array<iovec, kSendBatch> parts;
  std::array<Control<uint16_t>, kSendBatch> controls;
};

bool UdpSocket::open(uint16_t port, HostRights& rights, std::string& refusal) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socket_ = std::make_shared<const FileDescriptor>(fd);
  if (fd < 0) {
    refusal = std::string("UDP socket: ") + std::strerror(errno);
    return false;
  }
  rights.enlarge_buffers(fd);
  // Outer packets may be fragmented on their way, as WireGuard's are: an outer path whose ICMP is
  // filtered then costs speed instead of the connection.
  const int discover = IP_PMTUDISC_DONT;
  setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
  if (const int error = rights.mark_socket(fd); error != 0) {
    refusal = std::string("fwmark: ") + std::strerror(error);
    return false;
  }
  const sockaddr_in local = socket_address({{}, Be16::from_host(port)});
  if (bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    refusal = "UDP port " + std::to_string(port) + ": " + std::strerror(errno);
    return false;
  }
  const int each_by_itself = 0;
  const int on = 1;
  segments_.set_possible(
      setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &each_by_itself, sizeof each_by_itself) == 0);
  receives_segments_ = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) == 0;
  return true;
}

void UdpSocket::forgo_segments() {
  const int off = 0;
  setsockopt(fd(), IPPROTO_UDP, UDP_GRO, &off, sizeof off);
  segments_.set_possible(false);
  receives_segments_ = false;
}

bool UdpSocket::rebind(HostRights& rights) {
  UdpSocket fresh;
  std::string refusal;
  if (!fresh.open(0, rights, refusal)) return false;
  if (!receives_segments_) fresh.forgo_segments();
  fresh.segments_.set_possible(fresh.sends_segments() && sends_segments());
  *this = std::move(fresh);
  return true;
}

uint16_t UdpSocket::local_port() const {
  sockaddr_in address{};
  socklen_t bytes = sizeof address;
  if (getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return 0;
  return Be16::from_raw(address.sin_port).host();
}

unsigned UdpSocket::receive(std::span<ArrivalBuffer, kReceiveBatch> buffers,
                            std::span<Arrival, kReceiveBatch> arrivals) {
  std::array<mmsghdr, kReceiveBatch> messages{};
  std::array<iovec, kReceiveBatch> rooms;
  std::array<sockaddr_in, kReceiveBatch> sources;
  std::array<Control<int>, kReceiveBatch> controls;
  for (unsigned i = 0; i < kReceiveBatch; ++i) {
    rooms[i] = {buffers[i].bytes.data(), buffers[i].bytes.size()};
    messages[i].msg_hdr.msg_iov = &rooms[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &sources[i];
    messages[i].msg_hdr.msg_namelen = sizeof sources[i];
    if (!receives_segments_) continue;
    messages[i].msg_hdr.msg_control = controls[i].bytes.data();
    messages[i].msg_hdr.msg_controllen = controls[i].bytes.size();
  }
  int count;
  do {
    count = recvmmsg(fd(), messages.data(), kReceiveBatch, MSG_DONTWAIT, nullptr);
    // Anything but EAGAIN is a report about an earlier packet, and reading it clears it.
  } while (count < 0 && errno != EAGAIN && errno != EBADF && errno != ENOTSOCK);
  for (int i = 0; i < count; ++i) {
    msghdr& header = messages[i].msg_hdr;
    const bool whole = (header.msg_flags & MSG_TRUNC) == 0;
    arrivals[i].bytes = std::span(buffers[i].bytes).first(whole ? messages[i].msg_len : 0);
    arrivals[i].datagram_bytes = arrivals[i].bytes.size();
    arrivals[i].source = {{Be32::from_raw(sources[i].sin_addr.s_addr)},
                          Be16::from_raw(sources[i].sin_port)};
    const cmsghdr* control = receives_segments_ ? CMSG_FIRSTHDR(&header) : nullptr;
    if (control != nullptr && control->cmsg_level == IPPROTO_UDP &&
        control->cmsg_type == UDP_GRO) {
      int bytes;
      std::memcpy(&bytes, CMSG_DATA(control), sizeof bytes);
      if (bytes > 0) arrivals[i].datagram_bytes = static_cast<size_t>(bytes);
    }
  }
  return count < 0 ? 0 : static_cast<unsigned>(count);
}

// Puts datagrams one after another into one message as long as they are equally long, and a shorter
// one behind them; without UDP_SEGMENT each into its own.
void UdpSocket::gather(std::span<const std::span<const uint8_t>> datagrams, sockaddr_in& address,
                       Messages& out) const {
  const bool joins = segments_.is_due();
  out.count = 0;
  for (size_t at = 0; at < datagrams.size();) {
    const size_t first_bytes = datagrams[at].size();
    const size_t begin = at;
    size_t bytes = 0;
    bool ends = false;
    do {
      const std::span<const uint8_t> datagram = datagrams[at];
      out.parts[at] = {const_cast<uint8_t*>(datagram.data()), datagram.size()};
      bytes += datagram.size();
      ends = datagram.size() < first_bytes || !joins;
      ++at;
    } while (!ends && at < datagrams.size() && at - begin < kSegmentsMax &&
             datagrams[at].size() <= first_bytes && datagrams[at].size() > 0 &&
             bytes + datagrams[at].size() <= kMessageBytesMax);
    mmsghdr& message = out.headers[out.count];
    message = {};
    message.msg_hdr.msg_iov = &out.parts[begin];
    message.msg_hdr.msg_iovlen = at - begin;
    message.msg_hdr.msg_name = &address;
    message.msg_hdr.msg_namelen = sizeof address;
    if (at - begin > 1) {
      Control<uint16_t>& room = out.controls[out.count];
      message.msg_hdr.msg_control = room.bytes.data();
      message.msg_hdr.msg_controllen = room.bytes.size();
      cmsghdr* control = CMSG_FIRSTHDR(&message.msg_hdr);
      control->cmsg_level = IPPROTO_UDP;
      control->cmsg_type = UDP_SEGMENT;
      control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
      const auto segment_bytes = static_cast<uint16_t>(first_bytes);
      std::memcpy(CMSG_DATA(control), &segment_bytes, sizeof segment_bytes);
    }
    out.datagrams[out.count++] = static_cast<uint8_t>(at - begin);
  }
}

unsigned UdpSocket::send(std::span<const std::span<const uint8_t>> datagrams,
                         const Endpoint& destination) {
  sockaddr_in address = socket_address(destination);
  Messages messages;
  datagrams = datagrams.first(std::min<size_t>(datagrams.size(), kSendBatch));
  gather(datagrams, address, messages);
  unsigned taken = 0;
  bool waited = false;
  for (unsigned at = 0, first = 0; at < messages.count;) {  // `first` datagram of message `at`
    const int sent = sendmmsg(fd(), &messages.headers[at], messages.count - at, 0);
    if (sent > 0) {
      for (const unsigned end = at + static_cast<unsigned>(sent); at < end; ++at) {
        taken += messages.datagrams[at];
        first += messages.datagrams[at];
      }
    } else if (errno == EAGAIN && !waited) {
      waited = true;
      pollfd room{fd(), POLLOUT, 0};
      poll(&room, 1, kSendWaitMs);
    } else if (errno == EAGAIN) {
      break;
    } else if (messages.datagrams[at] > 1 && segments_.on_refused(errno)) {
      datagrams = datagrams.subspan(first);
      gather(datagrams, address, messages);
      at = first = 0;
    } else if (errno != EINTR) {
      // No route, no memory, refused by a filter: this is lost, the next may not be.
      first += messages.datagrams[at];
      ++at;
    }
  }
  segments_.on_sent(static_cast<unsigned>(datagrams.size()));
  return taken;
}

// The kernel has DF for a socket and not for a datagram, and other threads send on this one. So
// there is a second one of the same port for the moment, at an address that nobody has (RFC 5737):
// nothing arrives there that was meant for the first. The source address is that of the route.
UdpSocket::Whole UdpSocket::send_whole(std::span<const uint8_t> datagram,
                                       const Endpoint& destination, HostRights& rights) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto set = [&socket](int level, int option, auto value) {
    return setsockopt(socket.get(), level, option, &value, sizeof value) == 0;
  };
  // PROBE: DF, and what ICMP has told the kernel of the path does not matter.
  if (!set(IPPROTO_IP, IP_MTU_DISCOVER, int{IP_PMTUDISC_PROBE}) ||
      !set(IPPROTO_IP, IP_FREEBIND, int{1}) || rights.mark_socket(socket.get()) != 0 ||
      !share_port(socket.get())) {
    return send_whole_alone(datagram, destination);
  }
  sockaddr_in address = socket_address(destination);
  iovec part{const_cast<uint8_t*>(datagram.data()), datagram.size()};
  Control<in_pktinfo> room;  // zero: any source
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.bytes.data();
  message.msg_controllen = room.bytes.size();
  cmsghdr* control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_PKTINFO;
  control->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
  return outcome_of(sendmsg(socket.get(), &message, 0));
}

// Where there can be no second one (a port below 1024, which only root may bind): whatever other
// threads send at this moment has DF too.
UdpSocket::Whole UdpSocket::send_whole_alone(std::span<const uint8_t> datagram,
                                             const Endpoint& destination) const {
  const auto set = [this](int discover) {
    return setsockopt(fd(), IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover) == 0;
  };
  if (!set(IP_PMTUDISC_PROBE)) return Whole::lost;
  const sockaddr_in address = socket_address(destination);
  const Whole outcome =
      outcome_of(sendto(fd(), datagram.data(), datagram.size(), 0,
                        reinterpret_cast<const sockaddr*>(&address), sizeof address));
  set(IP_PMTUDISC_DONT);
  return outcome;
}

// Binds `other` to this socket's port, which is open to no other user before, meanwhile and after.
bool UdpSocket::share_port(int other) const {
  const auto set_shared = [](int socket, int shared) {
    return setsockopt(socket, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared) == 0;
  };
  const sockaddr_in nowhere = socket_address(
      {Ipv4Address::from_octets(192, 0, 2, 1), Be16::from_host(local_port())});
  const bool is_bound =
      set_shared(other, 1) && set_shared(fd(), 1) &&
      bind(other, reinterpret_cast<const sockaddr*>(&nowhere), sizeof nowhere) == 0;
  set_shared(fd(), 0);
  return is_bound;
}

}  // namespace adit::client
