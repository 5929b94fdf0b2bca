// From one tunnel to another, where the configuration allows it.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
const Endpoint kSecond{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(7)};

class Crossing : public Rig {
 protected:
  Crossing() : Rig({.tunnel_to_tunnel = true}) {}
};

TEST_F(Crossing, PacketReachesTheOtherClientUntranslated) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  FarEnd two = open_tunnel(2, Protection::plain);
  receive_from(one, one.seal(udp_packet(kApplication, kSecond, kHello)));
  EXPECT_EQ(two.open(sent_to_tunnel(two.outer)),
            udp_packet(kApplication, kSecond, kHello, {.ttl = 63}));
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(Crossing, LanBehindAClientIsReachedToo) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  ToWorker open;
  open.kind = ToWorker::open_tunnel;
  open.tunnel_to_tunnel = true;
  open.slot = 3;
  open.mtu_bytes = 1440;
  open.prefix_count = 1;
  open.prefixes[0] = *Ipv4Prefix::parse("10.20.0.0/16");
  tell(open);
  const Endpoint on_lan{Ipv4Address::from_octets(10, 20, 3, 4), Be16::from_host(7)};
  receive_from(one, one.seal(udp_packet(kApplication, on_lan, kHello)));
  expect_only_drop(Fate::no_session);  // it is that tunnel's, which has none yet
}

TEST_F(Crossing, AddressThatNobodyHoldsAnyMoreIsNotReached) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  open_tunnel(2, Protection::plain);
  ToWorker release;
  release.kind = ToWorker::set_address;
  release.slot = 2;
  tell(release);
  receive_from(one, one.seal(udp_packet(kApplication, kSecond, kHello)));
  expect_only_drop(Fate::tunnel_to_tunnel);
}

TEST_F(Crossing, PacketToTheClientsOwnLanDoesNotGoRound) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(one, one.seal(udp_packet(kApplication, {kInner, Be16::from_host(7)}, kHello)));
  expect_only_drop(Fate::tunnel_to_itself);
}

TEST_F(Crossing, TtlOneIsAnswered) {
  FarEnd one = open_tunnel(1, Protection::aes_256_gcm);
  open_tunnel(2, Protection::plain);
  const Bytes packet = udp_packet(kApplication, kSecond, kHello, {.ttl = 1});
  receive_from(one, one.seal(packet));
  EXPECT_EQ(one.open(sent_to_tunnel(one.outer)),
            icmp_packet(kRouter, kInner, kIcmpTimeExceeded, 0, 0, packet, kErrorHeader));
  EXPECT_EQ(drops(Fate::ttl_exceeded), 1u);
}

}  // namespace
}  // namespace adit::gateway::test
