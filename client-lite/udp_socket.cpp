#include "client-lite/udp_socket.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

// Room for what arrives while this thread is away for a few milliseconds at a gigabit a second.
constexpr int kSocketBufferBytes = 4 << 20;
// How long a full send buffer is waited for before packets are given up: longer would keep
// arrivals waiting, shorter would drop what the link is about to take.
constexpr int kSendWaitMs = 2;

// FORCE goes beyond net.core.*mem_max and needs CAP_NET_ADMIN; without it the limit holds.
void set_buffer(int fd, int force_option, int option) {
  const int bytes = kSocketBufferBytes;
  if (setsockopt(fd, SOL_SOCKET, force_option, &bytes, sizeof bytes) != 0) {
    setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes);
  }
}

sockaddr_in socket_address(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = endpoint.address.value.raw();
  address.sin_port = endpoint.port.raw();
  return address;
}

}  // namespace

bool UdpSocket::open(uint16_t port, std::optional<uint32_t> fwmark, std::string& refusal) {
  socket_ = FileDescriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = socket_.get();
  if (fd < 0) {
    refusal = std::string("UDP socket: ") + std::strerror(errno);
    return false;
  }
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  // Outer packets may be fragmented on their way, as WireGuard's are: an outer path whose ICMP is
  // filtered then costs speed instead of the connection.
  const int discover = IP_PMTUDISC_DONT;
  setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
  if (fwmark && setsockopt(fd, SOL_SOCKET, SO_MARK, &*fwmark, sizeof *fwmark) != 0) {
    refusal = std::string("fwmark: ") + std::strerror(errno);
    return false;
  }
  const sockaddr_in local = socket_address({{}, Be16::from_host(port)});
  if (bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
    refusal = "UDP port " + std::to_string(port) + ": " + std::strerror(errno);
    return false;
  }
  return true;
}

uint16_t UdpSocket::local_port() const {
  sockaddr_in address{};
  socklen_t bytes = sizeof address;
  if (getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return 0;
  return Be16::from_raw(address.sin_port).host();
}

unsigned UdpSocket::receive(std::span<PacketBuffer, kBatch> buffers,
                            std::span<Arrival, kBatch> arrivals) {
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> rooms;
  std::array<sockaddr_in, kBatch> sources;
  for (unsigned i = 0; i < kBatch; ++i) {
    rooms[i] = {buffers[i].bytes.data(), buffers[i].bytes.size()};
    messages[i].msg_hdr.msg_iov = &rooms[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &sources[i];
    messages[i].msg_hdr.msg_namelen = sizeof sources[i];
  }
  int count;
  do {
    count = recvmmsg(socket_.get(), messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    // Anything but EAGAIN is a report about an earlier packet, and reading it clears it.
  } while (count < 0 && errno != EAGAIN && errno != EBADF && errno != ENOTSOCK);
  for (int i = 0; i < count; ++i) {
    const bool whole = (messages[i].msg_hdr.msg_flags & MSG_TRUNC) == 0;
    arrivals[i].bytes = std::span(buffers[i].bytes).first(whole ? messages[i].msg_len : 0);
    arrivals[i].source = {{Be32::from_raw(sources[i].sin_addr.s_addr)},
                          Be16::from_raw(sources[i].sin_port)};
  }
  return count < 0 ? 0 : static_cast<unsigned>(count);
}

unsigned UdpSocket::send(std::span<const std::span<const uint8_t>> datagrams,
                         const Endpoint& destination) {
  sockaddr_in address = socket_address(destination);
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> parts;
  const auto count = static_cast<unsigned>(std::min<size_t>(datagrams.size(), kBatch));
  for (unsigned i = 0; i < count; ++i) {
    parts[i] = {const_cast<uint8_t*>(datagrams[i].data()), datagrams[i].size()};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &address;
    messages[i].msg_hdr.msg_namelen = sizeof address;
  }
  unsigned taken = 0;
  bool waited = false;
  for (unsigned at = 0; at < count;) {
    const int sent = sendmmsg(socket_.get(), messages.data() + at, count - at, 0);
    if (sent > 0) {
      taken += static_cast<unsigned>(sent);
      at += static_cast<unsigned>(sent);
    } else if (errno == EAGAIN && !waited) {
      waited = true;
      pollfd room{socket_.get(), POLLOUT, 0};
      poll(&room, 1, kSendWaitMs);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      ++at;  // no route, no memory, refused by a filter: this datagram is lost, the next may not be
    }
  }
  return taken;
}

}  // namespace adit::client
