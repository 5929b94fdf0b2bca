// Protocols without ports, both ways.
#include <cstring>

#include "lib/net/checksum.h"
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;

const Bytes kBody = payload_bytes(64);
const Ipv4Address kSecondInner = Ipv4Address::from_octets(192, 168, 1, 11);
const Ipv4Address kOtherServer = Ipv4Address::from_octets(50, 1, 1, 1);

class Portless : public Rig {};

TEST_F(Portless, EveryProtocolCrossesBothWays) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  for (const uint8_t protocol : {kIpEsp, kIpGre, kIpSctp, IpProtocol{253}}) {
    receive_from(far, far.seal(ipv4_packet(kInner, kServer, protocol, kBody)));
    EXPECT_EQ(sent_one(0), ipv4_packet(kGateway, kServer, protocol, kBody, {.ttl = 63}));
    receive(0, ipv4_packet(kServer, kGateway, protocol, kBody));
    EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
              ipv4_packet(kServer, kInner, protocol, kBody, {.ttl = 63}));
  }
}

TEST_F(Portless, SubscribersMayTalkToDifferentRemotesAndClashOnTheSame) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  FarEnd two = open_tunnel(2, Protection::aes_256_gcm);
  receive_from(one, one.seal(ipv4_packet(kInner, kServer, kIpEsp, kBody)));
  receive_from(two, two.seal(ipv4_packet(kSecondInner, kOtherServer, kIpEsp, kBody)));
  EXPECT_EQ(sent(0).size(), 2u);
  receive(0, ipv4_packet(kOtherServer, kGateway, kIpEsp, kBody));
  EXPECT_TRUE(two.open(sent_to_tunnel(two.outer)));

  const Bytes clashing = ipv4_packet(kSecondInner, kServer, kIpEsp, kBody);
  receive_from(two, two.seal(clashing));
  EXPECT_EQ(drops(Fate::portless_clash), 1u);
  EXPECT_EQ(two.open(sent_to_tunnel(two.outer)),
            icmp_packet(kRouter, kSecondInner, 3, 13, 0,
                        ipv4_packet(kSecondInner, kServer, kIpEsp, kBody, {.ttl = 63}),
                        kErrorHeader));
  receive(0, ipv4_packet(kServer, kGateway, kIpEsp, kBody));
  EXPECT_TRUE(one.open(sent_to_tunnel(one.outer))) << "the first goes on";
}

TEST_F(Portless, MappingEndsWhenIdleAndFreesTheRemote) {
  FarEnd one = open_tunnel(1, Protection::plain);
  receive_from(one, one.plain(ipv4_packet(kInner, kServer, kIpEsp, kBody)));
  EXPECT_EQ(sent(0).size(), 1u);
  now_ns_ += 300 * tunnel::kSecondNs;
  receive(0, ipv4_packet(kServer, kGateway, kIpEsp, kBody));
  expect_only_drop(Fate::no_mapping);
  for (int i = 0; i < 10; ++i) sweep();
  EXPECT_EQ(portless_live(), 0u);
  FarEnd two = open_tunnel(2, Protection::plain);
  receive_from(two, two.plain(ipv4_packet(kSecondInner, kServer, kIpEsp, kBody)));
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(Portless, ClosedTunnelTakesItsMappingsAlong) {
  FarEnd one = open_tunnel(1, Protection::plain);
  receive_from(one, one.plain(ipv4_packet(kInner, kServer, kIpEsp, kBody)));
  sent(0);
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  tell(close);
  receive(0, ipv4_packet(kServer, kGateway, kIpEsp, kBody));
  expect_only_drop(Fate::no_mapping);
}

TEST_F(Portless, OneSubscriberCannotFillTheTable) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (unsigned i = 0; i < PortlessMappings::kPerTunnelMax; ++i) {
    const Ipv4Address remote = Ipv4Address::from_octets(50, 1, 2, static_cast<uint8_t>(i));
    receive_from(far, far.plain(ipv4_packet(kInner, remote, kIpGre, kBody)));
  }
  EXPECT_EQ(sent(0).size(), size_t{PortlessMappings::kPerTunnelMax});
  receive_from(far, far.plain(ipv4_packet(kInner, kServer, kIpGre, kBody)));
  EXPECT_EQ(drops(Fate::portless_limit), 1u);
}

TEST_F(Portless, ErrorAboutOneReachesItsSender) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(ipv4_packet(kInner, kServer, kIpEsp, kBody)));
  const Bytes sent_out = sent_one(0);
  receive(0, icmp_packet(kOtherServer, kGateway, 3, 4, 1300, sent_out));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(kOtherServer, kInner, 3, 4, 1300,
                        ipv4_packet(kInner, kServer, kIpEsp, kBody, {.ttl = 63}), {.ttl = 63}));
}

// UDP-Lite's checksum covers the addresses.
TEST_F(Portless, ChecksumOverAddressesIsUpdated) {
  constexpr uint8_t kUdpLite = 136;
  const auto datagram = [](Ipv4Address from) {
    Bytes segment = {0, 7, 0, 9, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o', '!'};
    const Be16 sum = transport_checksum(from, kServer, kUdpLite, segment);
    std::memcpy(segment.data() + 6, &sum, 2);
    return segment;
  };
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(ipv4_packet(kInner, kServer, kUdpLite, datagram(kInner))));
  EXPECT_EQ(sent_one(0),
            ipv4_packet(kGateway, kServer, kUdpLite, datagram(kGateway), {.ttl = 63}));
}

}  // namespace
}  // namespace adit::gateway::test
