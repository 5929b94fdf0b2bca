#include "gateway/packet_wait.h"

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace adit::gateway {
namespace {

// Those of this process for which `is_wanted(descriptor)`, the lowest first. None where /proc is
// not to be seen.
template <typename IsWanted>
std::vector<int> descriptors(const IsWanted& is_wanted) {
  std::vector<int> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    const std::string name = entry.path().filename();
    int descriptor = -1;
    std::from_chars(name.data(), name.data() + name.size(), descriptor);
    if (is_wanted(descriptor)) found.push_back(descriptor);
  }
  std::ranges::sort(found);
  return found;
}

bool has_family(int descriptor, int family) {
  int domain = 0;
  socklen_t bytes = sizeof domain;
  return getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 && domain == family;
}

}  // namespace

std::vector<int> packet_sockets(unsigned interface) {
  return descriptors([interface](int descriptor) {
    sockaddr_ll address{};
    socklen_t bytes = sizeof address;
    return has_family(descriptor, AF_PACKET) &&
           getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
           address.sll_ifindex == static_cast<int>(interface);
  });
}

std::vector<int> xdp_sockets() {
  return descriptors([](int descriptor) { return has_family(descriptor, AF_XDP); });
}

PacketWait::PacketWait(const std::vector<int>& sockets) {
  for (const int socket : sockets) sockets_.push_back({socket, POLLIN, 0});
}

void PacketWait::wait(uint64_t time_ns) {
  const timespec time{0, static_cast<long>(time_ns)};
  const bool was_in_vain = std::exchange(was_woken_, false);
  if (!sockets_.empty() && !was_in_vain) {
    if (ppoll(sockets_.data(), sockets_.size(), &time, nullptr) == 0) return;
    const auto can_receive = [](const pollfd& socket) { return (socket.revents & POLLIN) != 0; };
    was_woken_ = std::ranges::any_of(sockets_, can_receive);
    if (was_woken_) return;
  }
  nanosleep(&time, nullptr);
}

}  // namespace adit::gateway
