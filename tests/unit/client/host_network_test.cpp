// What the client puts on a host, in a network namespace with the kernel's own routing: while it
// changes, nothing goes a way that it must not go.
#include "client-lite/host_network.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/client/own_network.h"

namespace adit::client {
namespace {

using test::address_of;
using test::Card;
using test::interface_of;
using test::prefix_of;

const Ipv4Address kServer = address_of("9.9.9.9");
const Ipv4Address kGateway = address_of("30.1.1.10");
constexpr unsigned kChanges = 60;  // with what stands between two of them, a moment is hit

// Sends datagrams without a pause, while it lives.
class Sender {
 public:
  explicit Sender(Ipv4Address destination)
      : thread_([this, destination] { run(destination); }) {
    while (sent_ < 100) std::this_thread::yield();
  }
  ~Sender() {
    ends_ = true;
    thread_.join();
  }

  // Returns when some have gone the present way.
  void wait() const {
    for (const unsigned until = sent_ + 20; sent_ < until;) std::this_thread::yield();
  }

 private:
  void run(Ipv4Address destination) {
    const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = destination.value.raw();
    to.sin_port = Be16::from_host(9).raw();
    while (!ends_) {
      sendto(socket.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
      ++sent_;
    }
  }

  std::atomic<bool> ends_ = false;
  std::atomic<unsigned> sent_ = 0;
  std::thread thread_;
};

class HostNetworkTest : public test::OwnHost {
 protected:
  void SetUp() override {
    OwnHost::SetUp();
    if (IsSkipped()) return;
    route("0.0.0.0/0", "10.1.1.1", *card_, 100);
    std::string refusal;
    ASSERT_TRUE(network_.open(journal_, refusal)) << refusal;
    network_.set_device("adit0", tunnel_->index());
    network_.set_gateway(kGateway);
  }
  void TearDown() override {
    if (tunnel_) network_.undo_all();
    std::filesystem::remove(journal_);
    OwnHost::TearDown();
  }

  static HostNetwork::Settings settings(const char* address, const char* router = "0.0.0.0") {
    HostNetwork::Settings settings;
    settings.address = interface_of(address);
    settings.router = address_of(router);
    settings.mtu_bytes = 1400;
    settings.routes = {prefix_of("0.0.0.0/0")};
    return settings;
  }

  std::vector<Ipv4Interface> addresses_of_tunnel() const {
    std::vector<Ipv4Interface> found;
    for (const HostAddress& host : host_addresses("eth0")) found.push_back(host.address);
    return found;
  }
  uint32_t device_towards(Ipv4Address destination) {
    const auto path = netlink_.path_to(destination, 0);
    return path ? path->interface_index : 0;
  }

  // Goes from one to the other and back, again and again, while packets traverse.
  void expect_no_gap(const HostNetwork::Settings& one, const HostNetwork::Settings& other) {
    network_.apply(one);
    ASSERT_EQ(network_.problem(), "");
    const Sender sender(kServer);
    unsigned leaked = 0;
    for (unsigned i = 0; i < kChanges; ++i) {
      const HostNetwork::Settings& next = i % 2 == 0 ? other : one;
      network_.apply(next);
      sender.wait();
      leaked += card_->count_to(kServer);
      ASSERT_EQ(network_.problem(), "");
      ASSERT_EQ(addresses_of_tunnel(), std::vector{next.address});
      ASSERT_EQ(device_towards(kGateway), card_->index());
      ASSERT_EQ(network_.mend(), HostNetwork::Device::intact);
    }
    EXPECT_EQ(leaked, 0u);
    EXPECT_EQ(card_->count_to(kServer), 0u);
  }

  const std::string journal_ =
      std::filesystem::temp_directory_path() / ("host-network-" + std::to_string(getpid()));
  const Log log_{config::LogLevel::kError};
  HostNetwork network_{log_, rights_};
};

TEST_F(HostNetworkTest, AnotherAddressOfTheSameNetworkLeavesNoGap) {
  expect_no_gap(settings("192.168.1.10/24", "192.168.1.1"),
                settings("192.168.1.77/24", "192.168.1.1"));
}

TEST_F(HostNetworkTest, AnAddressOfAnotherNetworkBehindAnotherRouterLeavesNoGap) {
  expect_no_gap(settings("192.168.1.10/24", "192.168.1.1"),
                settings("172.16.5.9/16", "172.16.0.1"));
}

TEST_F(HostNetworkTest, TheSameAddressInAnotherNetworkLeavesNoGap) {
  expect_no_gap(settings("192.168.1.10/24"), settings("192.168.1.10/32"));
}

TEST_F(HostNetworkTest, RoutesThatAreOfferedOtherwiseLeaveNoGap) {
  HostNetwork::Settings one = settings("192.168.1.10/24");
  HostNetwork::Settings other = settings("192.168.1.11/24");
  one.routes.clear();
  other.routes.clear();
  one.offered_routes = {prefix_of("9.0.0.0/8")};
  other.offered_routes = {prefix_of("9.0.0.0/9"), prefix_of("0.0.0.0/0")};
  expect_no_gap(one, other);
}

TEST_F(HostNetworkTest, ANetworkThatTheHostComesIntoLaterIsLeftToIt) {
  const HostNetwork::Settings wanted = settings("192.168.1.10/24", "192.168.1.1");
  const Ipv4Address neighbour = address_of("192.168.1.50");
  network_.apply(wanted);
  ASSERT_EQ(device_towards(neighbour), tunnel_->index());
  const Ipv4Interface own = interface_of("192.168.1.7/24");
  ASSERT_EQ(netlink_.add_address(card_->index(), own), 0);
  network_.refresh();
  EXPECT_EQ(device_towards(neighbour), card_->index());
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
  EXPECT_EQ(addresses_of_tunnel(), std::vector{interface_of("192.168.1.10/32")});
  EXPECT_EQ(network_.problem(), "the tunnel's network 192.168.1.0/24 is left to eth0, which has "
                                "come into it with 192.168.1.7/24");
  EXPECT_EQ(network_.mend(), HostNetwork::Device::intact);
  ASSERT_EQ(netlink_.remove_address(card_->index(), own), 0);
  network_.refresh();
  EXPECT_EQ(device_towards(neighbour), tunnel_->index());
  EXPECT_EQ(addresses_of_tunnel(), std::vector{wanted.address});
  EXPECT_EQ(network_.mend(), HostNetwork::Device::intact);
  EXPECT_EQ(network_.problem(), "");
}

TEST_F(HostNetworkTest, AnAddressWithoutANetworkSharesNone) {
  network_.apply(settings("192.168.1.10/32"));
  ASSERT_EQ(netlink_.add_address(card_->index(), interface_of("192.168.1.7/24")), 0);
  network_.refresh();
  EXPECT_EQ(network_.problem(), "");
  EXPECT_EQ(device_towards(address_of("192.168.1.50")), card_->index());
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
}

// Packets of more than the tunnel takes would go nowhere, without a word.
TEST_F(HostNetworkTest, AnMtuThatOtherHandsHaveRaisedIsLoweredAgainAndOneLoweredStays) {
  network_.apply(settings("192.168.1.10/24"));
  ASSERT_EQ(netlink_.set_link_up(tunnel_->index(), 9000), 0);
  EXPECT_EQ(network_.mend(), HostNetwork::Device::mended);
  EXPECT_EQ(interface_mtu_bytes(tunnel_->index()), 1400u);
  ASSERT_EQ(netlink_.set_link_up(tunnel_->index(), 1300), 0);
  EXPECT_EQ(network_.mend(), HostNetwork::Device::intact);
  EXPECT_EQ(interface_mtu_bytes(tunnel_->index()), 1300u);
}

// What is there before stays, so that nothing slips past the tunnel.
TEST_F(HostNetworkTest, WithoutAWayToTheGatewayOutsideNothingNewLeadsIntoTheTunnel) {
  const std::string cut_off = "no route to the gateway 30.1.1.10 outside the tunnel: routes that "
                              "cover it are not installed";
  const Route outside{prefix_of("0.0.0.0/0"), address_of("10.1.1.1"), card_->index(), 100, 0,
                      kByHand};
  ASSERT_EQ(netlink_.remove_route(outside), 0);
  network_.apply(settings("192.168.1.10/24"));
  EXPECT_EQ(network_.problem(), cut_off);
  EXPECT_EQ(device_towards(kServer), 0u);
  ASSERT_EQ(netlink_.add_route(outside), 0);
  network_.refresh();
  EXPECT_EQ(network_.problem(), "");
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
  EXPECT_EQ(device_towards(kGateway), card_->index());
  ASSERT_EQ(netlink_.remove_route(outside), 0);
  network_.refresh();
  EXPECT_EQ(network_.problem(), cut_off);
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
}

// The first card keeps its address, and its route to the gateway stands.
TEST_F(HostNetworkTest, TheWayToTheGatewayFollowsTheDefaultRouteWithoutAGap) {
  network_.apply(settings("192.168.1.10/24", "192.168.1.1"));
  Card second("eth1", "10.3.1.10/24");
  const Route better{prefix_of("0.0.0.0/0"), address_of("10.3.1.1"), second.index(), 0, 0, kByHand};
  const Sender sender(kGateway);
  sender.wait();
  EXPECT_EQ(tunnel_->count_to(kGateway), 0u);
  for (unsigned i = 0; i < kChanges; ++i) {
    const bool is_there = i % 2 == 0;
    ASSERT_EQ(is_there ? netlink_.add_route(better) : netlink_.remove_route(better), 0);
    network_.refresh();
    ASSERT_EQ(device_towards(kGateway), is_there ? second.index() : card_->index());
    sender.wait();
    ASSERT_EQ(tunnel_->count_to(kGateway), 0u) << "a packet of the tunnel's went into the tunnel";
  }
}

// What has the mark goes by a table of its own, and the main one has no way out.
TEST_F(HostNetworkTest, AWayThatOnlyAPolicyRuleHasIsOneToTheGateway) {
  const Route outside{prefix_of("0.0.0.0/0"), address_of("10.1.1.1"), card_->index(), 100, 0,
                      kByHand};
  ASSERT_EQ(netlink_.remove_route(outside), 0);
  ASSERT_EQ(system("ip route add default via 10.1.1.1 dev eth0 table 100 && "
                   "ip rule add fwmark 51 lookup 100"), 0);
  network_.apply(settings("192.168.1.10/24"));
  EXPECT_EQ(network_.problem(), "");
  EXPECT_EQ(network_.traversing(), std::vector{prefix_of("0.0.0.0/0")});
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
  EXPECT_EQ(device_towards(kGateway), card_->index());
  EXPECT_EQ(network_.outer_mtu_bytes(kGateway), 1500u);
  network_.refresh();
  EXPECT_EQ(network_.problem(), "") << "its own route to the gateway is no way by itself";
  EXPECT_EQ(device_towards(kGateway), card_->index());
  ASSERT_EQ(system("ip rule delete fwmark 51"), 0);
  network_.refresh();
  EXPECT_NE(network_.problem(), "");
}

TEST_F(HostNetworkTest, ThatAPolicyRuleLeadsPastTheTunnelIsAProblem) {
  ASSERT_EQ(system("ip route add default via 10.1.1.1 dev eth0 table 100 && "
                   "ip rule add lookup 100"), 0);
  network_.apply(settings("192.168.1.10/24"));
  EXPECT_EQ(network_.problem(), "a policy rule (ip rule) leads packets past the tunnel's routes, "
                                "which are in the main table");
  ASSERT_EQ(system("ip rule delete lookup 100"), 0);
  network_.refresh();
  network_.mend();
  EXPECT_EQ(network_.problem(), "");
}

TEST_F(HostNetworkTest, ThatAnotherHasTheRoutesIsToldAsThat) {
  route("0.0.0.0/1", "10.1.1.1", *card_);
  route("128.0.0.0/1", "10.1.1.1", *card_);
  network_.apply(settings("192.168.1.10/24"));
  EXPECT_NE(network_.problem().find("another route to it is there already"), std::string::npos)
      << network_.problem();
}

TEST_F(HostNetworkTest, WhatIsNotInPlaceDoesNotTraverse) {
  const Route outside{prefix_of("0.0.0.0/0"), address_of("10.1.1.1"), card_->index(), 100, 0,
                      kByHand};
  ASSERT_EQ(netlink_.remove_route(outside), 0);
  network_.apply(settings("192.168.1.10/24"));
  EXPECT_TRUE(network_.traversing().empty());
}

TEST_F(HostNetworkTest, ARouteWhoseSuccessorTheKernelRefusesStays) {
  network_.apply(settings("192.168.1.10/24", "192.168.1.1"));
  ASSERT_EQ(network_.problem(), "");
  network_.apply(settings("192.168.1.10/24", "192.168.1.255"));  // a broadcast address is no router
  EXPECT_NE(network_.problem(), "");
  EXPECT_EQ(device_towards(kServer), tunnel_->index()) << "it would leave past the tunnel";
  network_.apply(settings("192.168.1.10/24", "192.168.1.2"));
  EXPECT_EQ(network_.problem(), "");
  EXPECT_EQ(device_towards(kServer), tunnel_->index());
}

// ---- Kill switch ----

class KillSwitchTest : public test::OwnNetwork {
 protected:
  static constexpr const char* kAll[] = {"0.0.0.0/1", "128.0.0.0/1"};

  // A client's, with a journal of its own.
  struct Host {
    explicit Host(const std::string& name)
        : journal(std::filesystem::temp_directory_path() /
                  ("kill-switch-" + name + std::to_string(getpid()))) {
      std::string refusal;
      network.set_kill_switch(std::array{Ipv4Prefix{}});
      EXPECT_TRUE(rights.open(HostRights::Place::in_child, refusal)) << refusal;
      EXPECT_TRUE(network.open(journal, refusal)) << refusal;
    }
    ~Host() {
      network.undo_all();
      std::filesystem::remove(journal);
    }

    const std::string journal;
    const Log log{config::LogLevel::kError};
    HostRights rights;
    HostNetwork network{log, rights};
  };

  bool is_refused() {
    errno = 0;
    return !netlink_.path_to(kServer, 0) && !netlink_.path_to(address_of("200.1.1.1"), 0) &&
           system("[ $(ip route show type prohibit | wc -l) = 2 ]") == 0;
  }
};

TEST_F(KillSwitchTest, WhatOtherHandsTakeAwayIsPutBack) {
  Host host("one");
  ASSERT_TRUE(is_refused());
  ASSERT_EQ(system("ip route flush proto 173; ip -6 route flush proto 173"), 0);
  ASSERT_FALSE(is_refused());
  host.network.refresh();
  EXPECT_TRUE(is_refused());
  EXPECT_EQ(system("[ $(ip -6 route show type prohibit | wc -l) = 2 ]"), 0);
}

// Without the child nothing can be put back, and status goes on to say so.
TEST_F(KillSwitchTest, ThatItCannotBePutBackStaysAProblem) {
  Host host("one");
  ASSERT_EQ(system("ip route flush proto 173"), 0);
  std::ifstream children("/proc/thread-self/children");
  pid_t child = 0;
  children >> child;
  ASSERT_EQ(kill(child, SIGKILL), 0);
  host.network.refresh();
  EXPECT_EQ(host.network.problem(), "kill switch: 128.0.0.0/1: Broken pipe");
  host.network.mend();
  EXPECT_NE(host.network.problem(), "");
}

TEST_F(KillSwitchTest, OfTwoClientsEachHoldsItToItsOwnEnd) {
  std::optional<Host> one(std::in_place, "one");
  std::optional<Host> two(std::in_place, "two");
  two.reset();
  EXPECT_TRUE(is_refused()) << "the second one's end is not the first one's";
  two.emplace("two");
  one.reset();
  two->network.refresh();  // of which it hears by the routes that go
  EXPECT_TRUE(is_refused());
  two.reset();
  EXPECT_FALSE(is_refused());
  EXPECT_EQ(system("[ $(ip route show type prohibit | wc -l) = 0 ]"), 0);
}

// ---- Name servers ----

// A stand-in for resolvconf, which writes down how it is called. It is the only program there, so
// that it is taken whatever keeps the name servers of the machine that this runs on.
class NameServersTest : public HostNetworkTest {
 protected:
  void SetUp() override {
    HostNetworkTest::SetUp();
    std::filesystem::create_directory(tools_);
    install("resolvconf");
    setenv("PATH", tools_.c_str(), 1);
  }
  void TearDown() override {
    HostNetworkTest::TearDown();
    setenv("PATH", path_.c_str(), 1);
    std::filesystem::remove_all(tools_);
  }

  void install(const char* name) {
    const std::filesystem::path tool = tools_ / name;
    std::ofstream(tool) << "#!/bin/sh\n{ echo \"$*\"; [ \"$1\" != -a ] || /bin/cat; } >>"
                        << calls_.string() << "\n";
    std::filesystem::permissions(tool, std::filesystem::perms::owner_all);
  }
  // Since the last time.
  std::string calls() {
    std::ifstream file(calls_);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    std::filesystem::remove(calls_);
    return all;
  }
  static HostNetwork::Settings with_dns(std::vector<Ipv4Address> servers) {
    HostNetwork::Settings wanted = settings("192.168.1.10/24");
    wanted.dns = std::move(servers);
    return wanted;
  }

  const std::string path_ = getenv("PATH");
  const std::filesystem::path tools_ = journal_ + ".tools";
  const std::filesystem::path calls_ = tools_ / "calls";
};

TEST_F(NameServersTest, OthersTakeThePlaceOfTheFormerWithoutAMomentWithoutAny) {
  network_.apply(with_dns({address_of("9.9.9.9")}));
  EXPECT_EQ(calls(), "-a adit0\nnameserver 9.9.9.9\n");
  network_.apply(with_dns({address_of("9.9.9.9")}));
  EXPECT_EQ(calls(), "");
  network_.apply(with_dns({address_of("1.1.1.1"), address_of("8.8.8.8")}));
  EXPECT_EQ(calls(), "-a adit0\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n");
  network_.apply(with_dns({}));
  EXPECT_EQ(calls(), "-d adit0\n");
  network_.apply(with_dns({address_of("9.9.9.9")}));
  calls();
  network_.undo_all();
  EXPECT_EQ(calls(), "-d adit0\n");
}

// The program knows it by the former name only.
TEST_F(NameServersTest, OfADeviceThatWasRenamedTheFormerAreTakenBackAfterTheNewWereTold) {
  network_.apply(with_dns({address_of("9.9.9.9")}));
  calls();
  network_.set_device("other0", tunnel_->index());
  network_.apply(with_dns({address_of("1.1.1.1")}));
  EXPECT_EQ(calls(), "-a other0\nnameserver 1.1.1.1\n-d adit0\n");
  network_.undo_all();
  EXPECT_EQ(calls(), "-d other0\n");
}

TEST_F(NameServersTest, ResolvectlIsToldOfEveryNameAndThatThisIsOver) {
  const Ipv4Address servers[] = {address_of("9.9.9.9")};
  install("resolvectl");
  DnsTeller teller;
  const auto told = [&](bool for_all, bool was_for_all) {
    EXPECT_TRUE(teller.run(
        request_to_set(DnsTool::resolvectl, "adit0", servers, for_all, was_for_all)));
    return calls();
  };
  EXPECT_EQ(told(false, false), "dns adit0 9.9.9.9\n");
  EXPECT_EQ(told(true, false), "dns adit0 9.9.9.9\ndomain adit0 ~.\n");
  EXPECT_EQ(told(false, true), "dns adit0 9.9.9.9\ndomain adit0 \n");
}

}  // namespace
}  // namespace adit::client
