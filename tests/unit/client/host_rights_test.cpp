// The child that has the client's one right: what it does for it, and what it refuses.
#include "client-lite/host_rights.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string>

#include "client-lite/conflicts.h"
#include "client-lite/privileges.h"
#include "tests/unit/client/own_network.h"

namespace adit::client {
namespace {

using test::interface_of;
using test::prefix_of;

// Of /proc/PID/status, without the tab.
std::string told_of(pid_t pid, const std::string& name) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

// The one child of this thread.
pid_t child() {
  std::ifstream children("/proc/thread-self/children");
  pid_t pid = 0;
  children >> pid;
  return pid;
}

bool has_address(const char* device, const char* address) {
  for (const HostAddress& other : host_addresses("")) {
    if (other.device == device && other.address == interface_of(address)) return true;
  }
  return false;
}

class HostRightsTest : public test::OwnHost {
 protected:
  Route to_tunnel(const char* prefix) const {
    return {prefix_of(prefix), {}, tunnel_->index(), 0, 0, kRouteProtocol};
  }
  Route to_card(const char* prefix, uint8_t protocol = kRouteProtocol) const {
    return {prefix_of(prefix), test::address_of("10.1.1.1"), card_->index(), 0, 0, protocol};
  }
};

TEST_F(HostRightsTest, TheChildHasOneRightAndAFilter) {
  ASSERT_EQ(rights_.change_refusal(*Refusal::parse("30.0.0.0/8"), true), 0);  // it has begun
  const pid_t pid = child();
  EXPECT_EQ(told_of(pid, "Name"), "adit-rights");
  EXPECT_EQ(std::stoull(told_of(pid, "CapPrm"), nullptr, 16), kNetAdmin);
  EXPECT_EQ(std::stoull(told_of(pid, "CapBnd"), nullptr, 16), kNetAdmin);
  EXPECT_EQ(told_of(pid, "NoNewPrivs"), "1");
  EXPECT_EQ(told_of(pid, "Seccomp"), "2");
}

TEST_F(HostRightsTest, ItChangesTheClientsDevice) {
  rights_.confine(tunnel_->index());
  EXPECT_EQ(rights_.set_link_up(tunnel_->index(), 1400), 0);
  EXPECT_EQ(interface_mtu_bytes(tunnel_->index()), 1400u);
  EXPECT_EQ(rights_.add_address(tunnel_->index(), interface_of("192.168.1.10/24")), 0);
  EXPECT_EQ(rights_.keep_secondary_addresses(tunnel_->index()), 0);
  EXPECT_TRUE(has_address("adit0", "192.168.1.10/24"));
  EXPECT_EQ(rights_.add_route(to_tunnel("0.0.0.0/1")), 0);
  EXPECT_EQ(rights_.add_route(to_tunnel("0.0.0.0/1")), EEXIST) << "the kernel's own answer";
  EXPECT_EQ(rights_.replace_route(to_tunnel("0.0.0.0/1")), 0);
  EXPECT_EQ(netlink_.path_to(test::address_of("40.1.1.1"), 0)->interface_index, tunnel_->index());
  EXPECT_EQ(rights_.remove_route(to_tunnel("0.0.0.0/1")), 0);
  EXPECT_EQ(rights_.remove_address(tunnel_->index(), interface_of("192.168.1.10/24")), 0);
  EXPECT_FALSE(has_address("adit0", "192.168.1.10/24"));
}

// IPv6's smallest MTU is between the two, and the kernel begins anew with it.
TEST_F(HostRightsTest, TheDeviceHasNoIpv6AddressWhateverItsMtu) {
  const auto has_ipv6 = [](const std::string& device) {
    std::ifstream addresses("/proc/net/if_inet6");
    for (std::string line; std::getline(addresses, line);) {
      if (line.ends_with(" " + device)) return true;
    }
    return false;
  };
  std::ofstream("/proc/sys/net/ipv6/conf/eth0/addr_gen_mode") << 0;
  std::ofstream("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") << 1;
  std::ofstream("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") << 0;
  ASSERT_TRUE(has_ipv6("eth0")) << "this kernel has IPv6";
  for (const uint16_t mtu_bytes : std::to_array<uint16_t>({1140, 1440, 1140, 1280})) {
    EXPECT_EQ(rights_.set_link_up(tunnel_->index(), mtu_bytes), 0);
    EXPECT_FALSE(has_ipv6("adit0")) << mtu_bytes;
  }
}

TEST_F(HostRightsTest, OfOtherDevicesItTouchesButTheWayToAnAddress) {
  rights_.confine(tunnel_->index());
  EXPECT_EQ(rights_.add_route(to_card("30.1.1.10/32")), 0);
  EXPECT_EQ(rights_.remove_route(to_card("30.1.1.10/32")), 0);
  EXPECT_EQ(rights_.add_route(to_card("30.1.1.0/24")), EPERM);
  EXPECT_EQ(rights_.remove_route(to_card("30.1.1.10/32", kByHand)), EPERM);
  EXPECT_EQ(rights_.set_link_up(card_->index(), 1300), EPERM);
  EXPECT_EQ(interface_mtu_bytes(card_->index()), 1500u);
  EXPECT_EQ(rights_.add_address(card_->index(), interface_of("10.9.9.9/24")), EPERM);
  EXPECT_EQ(rights_.remove_address(card_->index(), interface_of("10.1.1.10/24")), EPERM);
  EXPECT_TRUE(has_address("eth0", "10.1.1.10/24"));
  rights_.confine(card_->index());
  EXPECT_EQ(rights_.set_link_up(card_->index(), 1300), EPERM) << "it is confined once";
}

TEST_F(HostRightsTest, ItReplacesNoRouteButItsOwn) {
  rights_.confine(tunnel_->index());
  route("0.0.0.0/0", "10.1.1.1", *card_);
  route("7.7.7.7/32", "10.1.1.1", *card_);
  EXPECT_EQ(rights_.replace_route(to_tunnel("0.0.0.0/0")), EPERM);
  EXPECT_EQ(rights_.replace_route(to_tunnel("10.1.1.0/24")), EPERM);
  EXPECT_EQ(rights_.replace_route(to_card("7.7.7.7/32")), EPERM);
  EXPECT_EQ(rights_.add_route(to_tunnel("8.0.0.0/8")), 0);
  EXPECT_EQ(rights_.replace_route(to_tunnel("8.0.0.0/8")), 0);
  EXPECT_EQ(rights_.replace_route(to_tunnel("8.0.0.0/8")), 0) << "it is still its own";
  EXPECT_EQ(rights_.remove_route(to_tunnel("8.0.0.0/8")), 0);
  route("8.0.0.0/8", "10.1.1.1", *card_);
  EXPECT_EQ(rights_.replace_route(to_tunnel("8.0.0.0/8")), EPERM) << "and then another's";
}

TEST_F(HostRightsTest, BeforeItIsConfinedItUndoesWhatAnEarlierRunLeft) {
  ASSERT_EQ(netlink_.add_route(to_card("30.1.1.0/24")), 0);
  EXPECT_EQ(rights_.remove_route(to_card("30.1.1.0/24")), 0);
}

TEST_F(HostRightsTest, ASocketIsMarkedAndItsBuffersOutgrowTheHostsLimit) {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  rights_.confine(tunnel_->index());
  const auto option = [&socket](int name) {
    int value = 0;
    socklen_t bytes = sizeof value;
    EXPECT_EQ(getsockopt(socket.get(), SOL_SOCKET, name, &value, &bytes), 0);
    return value;
  };
  EXPECT_EQ(rights_.mark_socket(socket.get()), 0);
  EXPECT_EQ(option(SO_MARK), static_cast<int>(kMark));
  int limit_bytes = 0;
  std::ifstream("/proc/sys/net/core/rmem_max") >> limit_bytes;
  rights_.enlarge_buffers(socket.get());
  // (The kernel counts twice what is asked for.)
  EXPECT_EQ(option(SO_RCVBUF), 2 * (4 << 20)) << "the limit being " << limit_bytes;
  EXPECT_EQ(option(SO_SNDBUF), 2 * (4 << 20));
}

TEST_F(HostRightsTest, WhoHasNoRightOfHisOwnStillHasTheChilds) {
  const auto without_rights = [this] {
    std::string refusal;
    HostRights rights;
    if (!rights.open(HostRights::Place::in_child, refusal) ||
        !drop_privileges(kNoRights, refusal)) {
      _exit(1);
    }
    const Ipv4Interface address = interface_of("192.168.1.10/24");
    if (netlink_.add_address(tunnel_->index(), address) != EPERM) _exit(2);
    if (rights.add_address(tunnel_->index(), address) != 0) _exit(3);
    _exit(rights.can_change() ? 0 : 4);
  };
  EXPECT_EXIT(without_rights(), testing::ExitedWithCode(0), "");
}

TEST_F(HostRightsTest, WithoutTheRightThereIsNoChildAndNothingCanBeChanged) {
  const auto without_rights = [this] {
    std::string refusal;
    HostRights rights;
    if (!drop_privileges(kNoRights, refusal) ||
        !rights.open(HostRights::Place::in_child, refusal)) {
      _exit(1);
    }
    if (rights.fd() >= 0 || rights.can_change() || rights.is_lost()) _exit(2);
    _exit(rights.set_link_up(tunnel_->index(), 1400) == EPERM ? 0 : 3);
  };
  EXPECT_EXIT(without_rights(), testing::ExitedWithCode(0), "");
}

TEST_F(HostRightsTest, ThatTheChildIsGoneIsSeen) {
  const pid_t pid = child();
  EXPECT_FALSE(rights_.is_lost());
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  pollfd wait{rights_.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 5000), 1);
  rights_.on_readable();
  EXPECT_TRUE(rights_.is_lost());
  EXPECT_EQ(kill(pid, 0), -1) << "nor is it left as a zombie";
  EXPECT_EQ(rights_.set_link_up(tunnel_->index(), 1400), EPIPE);
}

TEST_F(HostRightsTest, ThatTheChildIsGoneIsSeenByWhoAsksIt) {
  ASSERT_EQ(kill(child(), SIGKILL), 0);
  EXPECT_EQ(rights_.set_link_up(tunnel_->index(), 1400), EPIPE);
  EXPECT_TRUE(rights_.is_lost());
}

}  // namespace
}  // namespace adit::client
