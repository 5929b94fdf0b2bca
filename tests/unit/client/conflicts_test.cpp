// Addresses in the tunnel against addresses of the host.
#include "client-lite/conflicts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace adit::client {
namespace {

const Ipv4Address kGateway = Ipv4Address::from_octets(30, 1, 1, 10);

std::string conflict(const char* wanted, std::vector<HostAddress> host = {}) {
  return conflict_of(*Ipv4Interface::parse(wanted), kGateway, host);
}

HostAddress on(const char* device, const char* address) {
  return {device, *Ipv4Interface::parse(address)};
}

TEST(Conflict, IsTheSameNetworkOrAPartOfIt) {
  EXPECT_EQ(conflict("192.168.1.10/24", {on("lo", "127.0.0.1/8"), on("wlan0", "192.168.1.7/24")}),
            "the tunnel's address 192.168.1.10/24 is in a network that wlan0 is in already, with "
            "192.168.1.7/24");
  EXPECT_NE(conflict("192.168.1.10/24", {on("wlan0", "192.168.0.7/16")}), "");
  EXPECT_NE(conflict("192.168.1.10/32", {on("wlan0", "192.168.1.10/24")}), "");
}

TEST(Conflict, IsNoOtherNetworkAndNoWiderOne) {
  EXPECT_EQ(conflict("192.168.1.10/24"), "");
  EXPECT_EQ(conflict("192.168.1.10/24", {on("eth0", "192.168.2.10/24")}), "");
  EXPECT_EQ(conflict("10.0.0.10/8", {on("eth0", "10.1.1.10/24")}), "");
  // A host address takes no network.
  EXPECT_EQ(conflict("192.168.1.10/32", {on("eth0", "192.168.1.7/24")}), "");
}

TEST(Conflict, IsANetworkThatHoldsTheGateway) {
  EXPECT_EQ(conflict("30.1.1.77/24"),
            "the gateway's own address 30.1.1.10 lies in the tunnel's network 30.1.1.77/24: its "
            "packets would go into the tunnel");
  EXPECT_NE(conflict("30.1.1.10/32"), "");
  EXPECT_EQ(conflict("30.1.2.77/24"), "");
}

TEST(NetworkTaken, IsOneThatHoldsTheRouteOrIsTheSame) {
  const std::vector<HostAddress> host = {on("lo", "127.0.0.1/8"), on("eth0", "10.1.1.10/24")};
  const auto device = [&host](const char* destination) {
    const HostAddress* taken = network_taken_by(*Ipv4Prefix::parse(destination), host);
    return taken == nullptr ? "" : taken->device;
  };
  for (const char* route : {"10.1.1.0/24", "10.1.1.0/25", "10.1.1.128/25", "10.1.1.1/32"}) {
    EXPECT_EQ(device(route), "eth0") << route;
  }
  // The host's own route is longer than a wider one, and stays in force.
  for (const char* route : {"10.1.0.0/23", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.0/24"}) {
    EXPECT_EQ(device(route), "") << route;
  }
}

TEST(HostAddresses, HaveTheLoopbackDevicesUnlessItIsLeftOut) {
  const auto is_on_lo = [](const HostAddress& address) { return address.device == "lo"; };
  const std::vector<HostAddress> all = host_addresses("");
  const auto loopback = std::find_if(all.begin(), all.end(), is_on_lo);
  ASSERT_NE(loopback, all.end());
  EXPECT_EQ(loopback->address.to_string(), "127.0.0.1/8");
  const std::vector<HostAddress> others = host_addresses("lo");
  EXPECT_TRUE(std::none_of(others.begin(), others.end(), is_on_lo));
}

}  // namespace
}  // namespace adit::client
