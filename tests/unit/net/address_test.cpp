#include "lib/net/address.h"

#include <gtest/gtest.h>

namespace adit {
namespace {

TEST(Ipv4Address, ReadsDottedQuadsAndNothingElse) {
  EXPECT_EQ(Ipv4Address::parse("192.168.1.10"), Ipv4Address::from_octets(192, 168, 1, 10));
  EXPECT_EQ(Ipv4Address::parse("0.0.0.0")->host(), 0u);
  EXPECT_EQ(Ipv4Address::parse("255.255.255.255")->host(), 0xffffffffu);
  for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1..3.4", "a.b.c.d",
                          "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4", "1.2.3.4/8"}) {
    EXPECT_FALSE(Ipv4Address::parse(bad)) << bad;
  }
}

TEST(Ipv4Address, PrintsWhatItReads) {
  EXPECT_EQ(Ipv4Address::from_octets(40, 1, 1, 10).to_string(), "40.1.1.10");
}

TEST(Ipv4Address, KnowsItsKind) {
  EXPECT_TRUE(Ipv4Address::parse("224.0.0.1")->is_multicast());
  EXPECT_TRUE(Ipv4Address::parse("239.255.255.255")->is_multicast());
  EXPECT_FALSE(Ipv4Address::parse("240.0.0.1")->is_multicast());
  EXPECT_TRUE(Ipv4Address::parse("127.9.9.9")->is_loopback());
  EXPECT_TRUE(Ipv4Address::parse("255.255.255.255")->is_broadcast());
}

TEST(Ipv4Prefix, RefusesHostBits) {
  EXPECT_EQ(Ipv4Prefix::parse("10.0.0.0/8")->to_string(), "10.0.0.0/8");
  EXPECT_EQ(Ipv4Prefix::parse("10.1.2.3")->length_bits, 32);
  EXPECT_EQ(Ipv4Prefix::parse("0.0.0.0/0")->length_bits, 0);
  EXPECT_FALSE(Ipv4Prefix::parse("10.0.0.1/8"));
  EXPECT_FALSE(Ipv4Prefix::parse("10.0.0.0/33"));
  EXPECT_FALSE(Ipv4Prefix::parse("10.0.0.0/"));
}

TEST(Ipv4Prefix, ContainsAndOverlaps) {
  const auto net = *Ipv4Prefix::parse("192.168.0.0/23");
  EXPECT_TRUE(net.contains(*Ipv4Address::parse("192.168.1.255")));
  EXPECT_FALSE(net.contains(*Ipv4Address::parse("192.168.2.0")));
  EXPECT_TRUE(Ipv4Prefix::parse("0.0.0.0/0")->contains(*Ipv4Address::parse("8.8.8.8")));
  EXPECT_TRUE(net.overlaps(*Ipv4Prefix::parse("192.168.1.0/24")));
  EXPECT_TRUE(Ipv4Prefix::parse("192.168.1.0/24")->overlaps(net));
  EXPECT_FALSE(net.overlaps(*Ipv4Prefix::parse("192.168.2.0/24")));
}

TEST(Ipv4Interface, KeepsItsAddressAndKnowsItsSubnet) {
  const auto interface = *Ipv4Interface::parse("192.168.1.10/24");
  EXPECT_EQ(interface.address, *Ipv4Address::parse("192.168.1.10"));
  EXPECT_EQ(interface.prefix(), *Ipv4Prefix::parse("192.168.1.0/24"));
  EXPECT_EQ(interface.prefix().mask(), *Ipv4Address::parse("255.255.255.0"));
}

TEST(Endpoint, ReadsAddressAndPort) {
  const auto endpoint = *Endpoint::parse("30.1.1.10:8000");
  EXPECT_EQ(endpoint.port.host(), 8000);
  EXPECT_EQ(endpoint.to_string(), "30.1.1.10:8000");
  for (const char* bad : {"30.1.1.10", "30.1.1.10:0", "30.1.1.10:65536", "30.1.1.10:", ":80"}) {
    EXPECT_FALSE(Endpoint::parse(bad)) << bad;
  }
}

TEST(MacAddress, PrintsAndKnowsGroups) {
  EXPECT_EQ((MacAddress{{2, 0, 0, 0, 0xab, 1}}).to_string(), "02:00:00:00:ab:01");
  EXPECT_TRUE(kBroadcastMac.is_group());
  EXPECT_TRUE((MacAddress{{1, 0, 0x5e, 0, 0, 1}}).is_group());
  EXPECT_FALSE((MacAddress{{2, 0, 0, 0, 0, 1}}).is_group());
}

}  // namespace
}  // namespace adit
