#include "client-lite/routes.h"

#include <gtest/gtest.h>

namespace adit::client {
namespace {

constexpr uint32_t kEthernet = 2;
constexpr uint32_t kWireless = 3;
constexpr uint32_t kTun = 9;

Ipv4Prefix prefix(const char* text) { return Ipv4Prefix::parse(text).value(); }
Ipv4Address address(const char* text) { return Ipv4Address::parse(text).value(); }
Route theirs(const char* destination, const char* via, uint32_t interface, uint32_t metric = 0) {
  return {prefix(destination), address(via), interface, metric, 0, 3};
}

const std::vector<Route> kTable = {
    theirs("0.0.0.0/0", "10.1.1.1", kEthernet, 100),
    theirs("0.0.0.0/0", "10.9.1.1", kWireless, 600),
    theirs("10.1.1.0/24", "0.0.0.0", kEthernet),
};

RouteWish wish(std::vector<Ipv4Prefix> prefixes) {
  return {std::move(prefixes), address("192.168.1.1"), kTun, address("30.1.1.10")};
}

TEST(Routes, LongestPrefixThenLowestMetricLeadsToTheGateway) {
  const auto far = next_hop_for(kTable, address("30.1.1.10"), kTun).value();
  EXPECT_EQ(far.via, address("10.1.1.1"));
  EXPECT_EQ(far.interface_index, kEthernet);
  const auto near = next_hop_for(kTable, address("10.1.1.20"), kTun).value();
  EXPECT_TRUE(near.via.is_zero());
}

TEST(Routes, NeitherTheTunnelNorOurOwnExceptionLeadsToTheGateway) {
  std::vector<Route> table = kTable;
  table.push_back(theirs("30.1.1.0/24", "0.0.0.0", kTun));
  table.push_back({prefix("30.1.1.10/32"), address("10.7.7.7"), kWireless, 0, 0, kRouteProtocol});
  EXPECT_EQ(next_hop_for(table, address("30.1.1.10"), kTun)->via, address("10.1.1.1"));
  EXPECT_FALSE(next_hop_for({}, address("30.1.1.10"), kTun).has_value());
}

TEST(Routes, APrefixThatDoesNotCoverTheGatewayNeedsNoException) {
  const RoutePlan plan = plan_routes(wish({prefix("40.1.1.10/32")}), kTable);
  EXPECT_FALSE(plan.gateway_cut_off);
  ASSERT_EQ(plan.routes.size(), 1u);
  EXPECT_EQ(plan.routes[0],
            (Route{prefix("40.1.1.10/32"), address("192.168.1.1"), kTun, 0, 0, kRouteProtocol}));
}

TEST(Routes, TheDefaultRouteIsTwoHalvesBehindAHostRouteForTheGateway) {
  const RoutePlan plan = plan_routes(wish({prefix("0.0.0.0/0")}), kTable);
  ASSERT_EQ(plan.routes.size(), 3u);
  EXPECT_EQ(plan.routes[0],
            (Route{prefix("30.1.1.10/32"), address("10.1.1.1"), kEthernet, 0, 0, kRouteProtocol}));
  EXPECT_EQ(plan.routes[1].destination, prefix("0.0.0.0/1"));
  EXPECT_EQ(plan.routes[2].destination, prefix("128.0.0.0/1"));
  EXPECT_EQ(plan.routes[2].interface_index, kTun);
}

TEST(Routes, AnySmallerPrefixThatCoversTheGatewayNeedsTheException) {
  const RoutePlan plan = plan_routes(wish({prefix("30.0.0.0/8")}), kTable);
  ASSERT_EQ(plan.routes.size(), 2u);
  EXPECT_EQ(plan.routes[0].destination, prefix("30.1.1.10/32"));
}

TEST(Routes, OtherGatewaysAreKeptOutsideAsFarAsTheyCan) {
  RouteWish wanted = wish({prefix("30.0.0.0/8"), prefix("50.0.0.1/32")});
  wanted.others = {address("30.1.1.10"), address("30.2.2.2"), address("20.1.1.1"),
                   address("50.0.0.1")};
  const RoutePlan plan = plan_routes(wanted, kTable);
  ASSERT_EQ(plan.routes.size(), 4u);
  EXPECT_EQ(plan.routes[0].destination, prefix("30.1.1.10/32")) << "once, though named twice";
  EXPECT_EQ(plan.routes[1],
            (Route{prefix("30.2.2.2/32"), address("10.1.1.1"), kEthernet, 0, 0, kRouteProtocol}));
  EXPECT_EQ(plan.routes[2].destination, prefix("30.0.0.0/8"));
  EXPECT_EQ(plan.routes[3].destination, prefix("50.0.0.1/32")) << "asked for by name";
  // One that nothing but the tunnel leads to is no reason to install nothing.
  const std::vector<Route> narrow = {theirs("30.1.1.0/24", "10.1.1.1", kEthernet)};
  EXPECT_EQ(plan_routes(wanted, narrow).routes.size(), 3u);
  EXPECT_FALSE(plan_routes(wanted, narrow).gateway_cut_off);
}

TEST(Routes, WithoutAGatewayThereIsNoExceptionForIt) {
  RouteWish wanted = wish({prefix("0.0.0.0/0")});
  wanted.gateway = {};
  wanted.others = {address("30.2.2.2")};
  const RoutePlan plan = plan_routes(wanted, kTable);
  ASSERT_EQ(plan.routes.size(), 3u);
  EXPECT_EQ(plan.routes[0].destination, prefix("30.2.2.2/32"));
}

TEST(Routes, NothingIsInstalledWhenTheGatewayWouldBeCutOff) {
  const RoutePlan plan = plan_routes(wish({prefix("0.0.0.0/0")}), {});
  EXPECT_TRUE(plan.gateway_cut_off);
  EXPECT_TRUE(plan.routes.empty());
}

TEST(Routes, TheGatewaysOwnAddressAndRepetitionsAreLeftOut) {
  const RoutePlan plan = plan_routes(
      wish({prefix("30.1.1.10/32"), prefix("40.1.1.0/24"), prefix("40.1.1.0/24")}), kTable);
  ASSERT_EQ(plan.routes.size(), 1u);
  EXPECT_EQ(plan.routes[0].destination, prefix("40.1.1.0/24"));
}

TEST(PrivateUse, IsOfNetworksThatAreNobodysOnTheInternet) {
  for (const char* text : {"10.0.0.0/8", "10.1.2.0/24", "172.16.0.0/12", "172.31.255.0/24",
                           "192.168.1.0/24", "100.64.0.0/10", "100.127.1.1/32"}) {
    EXPECT_TRUE(is_for_private_use(*Ipv4Prefix::parse(text))) << text;
  }
  for (const char* text : {"0.0.0.0/0", "8.0.0.0/8", "10.0.0.0/7", "172.0.0.0/8", "172.32.0.0/16",
                           "192.0.0.0/8", "192.169.0.0/16", "100.0.0.0/8", "203.0.113.0/24"}) {
    EXPECT_FALSE(is_for_private_use(*Ipv4Prefix::parse(text))) << text;
  }
}

}  // namespace
}  // namespace adit::client
