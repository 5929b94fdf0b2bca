// A network namespace for one test, with a card to the outside whose packets the test reads: a TUN
// device. Only root may make one.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "client-lite/file_descriptor.h"
#include "client-lite/host_rights.h"
#include "client-lite/netlink.h"
#include "lib/net/address.h"
#include "lib/net/headers.h"

namespace adit::client::test {

inline Ipv4Address address_of(const char* text) { return *Ipv4Address::parse(text); }
inline Ipv4Prefix prefix_of(const char* text) { return *Ipv4Prefix::parse(text); }
inline Ipv4Interface interface_of(const char* text) { return *Ipv4Interface::parse(text); }

class Card {
 public:
  // Ready, with this address where there is one.
  explicit Card(const std::string& name, const char* address = nullptr)
      : device_(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) {
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    EXPECT_EQ(ioctl(device_.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
    index_ = if_nametoindex(name.c_str());
    Netlink netlink;
    EXPECT_TRUE(netlink.open());
    EXPECT_EQ(netlink.set_link_up(index_, 1500), 0);
    if (address != nullptr) {
      EXPECT_EQ(netlink.add_address(index_, interface_of(address)), 0);
    }
  }

  uint32_t index() const { return index_; }

  // The next packet that the kernel has sent here, or nothing.
  std::vector<uint8_t> take() {
    std::array<uint8_t, 2048> room;
    const ssize_t got = read(device_.get(), room.data(), room.size());
    return {room.data(), room.data() + std::max<ssize_t>(got, 0)};
  }
  // How many of those that wait here, a few hundred at most, go to `destination`.
  unsigned count_to(Ipv4Address destination) {
    unsigned count = 0;
    for (std::vector<uint8_t> packet = take(); !packet.empty(); packet = take()) {
      const auto* header = reinterpret_cast<const Ipv4Header*>(packet.data());
      if (packet.size() >= sizeof *header && header->destination == destination) ++count;
    }
    return count;
  }

 private:
  FileDescriptor device_;
  uint32_t index_ = 0;
};

class OwnNetwork : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = FileDescriptor(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "a network namespace: " << std::strerror(errno);
    }
    is_own_ = true;
    ASSERT_TRUE(netlink_.open());
  }
  void TearDown() override {
    if (is_own_) {
      ASSERT_EQ(setns(before_.get(), CLONE_NEWNET), 0);
    }
  }

  // By hand: a route of the host's, and not of the client's.
  void route(const char* destination, const char* via, const Card& card, uint32_t metric = 0) {
    const Route route{prefix_of(destination), address_of(via), card.index(), metric, 0, kByHand};
    ASSERT_EQ(netlink_.add_route(route), 0);
  }

  static constexpr uint8_t kByHand = 4;  // RTPROT_STATIC
  Netlink netlink_;

 private:
  FileDescriptor before_;
  bool is_own_ = false;
};

// With a card outside, a tunnel's device, and a child with the rights to change the network.
class OwnHost : public OwnNetwork {
 protected:
  static constexpr uint32_t kMark = 51;

  void SetUp() override {
    OwnNetwork::SetUp();
    if (IsSkipped()) return;
    card_.emplace("eth0", "10.1.1.10/24");
    tunnel_.emplace("adit0");
    std::string refusal;
    ASSERT_TRUE(rights_.open(HostRights::Place::in_child, refusal)) << refusal;
  }

  std::optional<Card> card_;
  std::optional<Card> tunnel_;
  HostRights rights_{kMark};
};

}  // namespace adit::client::test
