#include "client-lite/tun.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

// Without this the kernel gives the device a link-local IPv6 address and sends router
// solicitations and multicast reports that the tunnel cannot carry. On a kernel without IPv6
// there is no such file, and nothing to do.
void disable_ipv6(const std::string& name) {
  const std::string path = "/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6";
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.is_open() && write(file.get(), "1", 1) != 1) return;
}

}  // namespace

bool Tun::open(const std::string& name, std::string& refusal) {
  device_ = FileDescriptor(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!device_.is_open()) {
    refusal = std::string("/dev/net/tun: ") + std::strerror(errno);
    return false;
  }
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (ioctl(device_.get(), TUNSETIFF, &request) != 0) {
    const int error = errno;
    refusal = "device " + name + ": ";
    if (error == EBUSY) {
      refusal += "another program has it";
    } else if (error == EINVAL) {
      refusal += "there is a device of that name that is no TUN device";
    } else if (error == EPERM) {
      refusal += "not permitted: creating it needs CAP_NET_ADMIN";
    } else {
      refusal += std::strerror(error);
    }
    return false;
  }
  name_ = request.ifr_name;
  interface_index_ = if_nametoindex(name_.c_str());
  disable_ipv6(name_);
  return true;
}

Tun::Outcome Tun::read(std::span<uint8_t> room, size_t& bytes) {
  for (;;) {
    const ssize_t got = ::read(device_.get(), room.data(), room.size());
    if (got > 0) {
      bytes = static_cast<size_t>(got);
      return Outcome::packet;
    }
    if (got < 0 && errno == EINTR) continue;
    // EBADFD: somebody deleted the device.
    if (got < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) return Outcome::gone;
    return Outcome::nothing;
  }
}

bool Tun::write(std::span<const uint8_t> packet) {
  ssize_t written;
  do {
    written = ::write(device_.get(), packet.data(), packet.size());
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(packet.size());
}

}  // namespace adit::client
