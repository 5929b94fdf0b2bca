// From one client to another, or to itself, by external endpoints of ours: what of it only the
// gateway knows. The rows of packets are in tests/conformance/hairpin_test.cpp.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
const Endpoint kSecond{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(7)};
const TcpOptions kSyn{.flags = kTcpSyn};
const TcpOptions kSynAck{.flags = kTcpSyn | kTcpAck};
const adit::test::Ipv4Options kHopLess{.ttl = 63};

class Hairpin : public Rig {
 protected:
  FarEnd one_ = open_tunnel(1, Protection::aes_256_gcm);
  FarEnd two_ = open_tunnel(2, Protection::plain);
  // Each has talked to a server, so that it has an external endpoint.
  Endpoint first_external() {
    return external_of(one_, udp_packet(kApplication, kService, kHello));
  }
  Endpoint second_external() {
    return external_of(two_, udp_packet(kSecond, kService, kHello));
  }
};

TEST_F(Hairpin, R4787_9a_UdpComesFromTheSendersExternalEndpointBothWays) {
  const Endpoint first = first_external();
  const Endpoint second = second_external();
  receive_from(one_, one_.seal(udp_packet(kApplication, second, kHello)));
  EXPECT_EQ(two_.open(sent_to_tunnel(two_.outer)), udp_packet(first, kSecond, kHello, kHopLess));
  receive_from(two_, two_.plain(udp_packet(kSecond, first, kHello)));
  EXPECT_EQ(one_.open(sent_to_tunnel(one_.outer)),
            udp_packet(second, kApplication, kHello, kHopLess));
  EXPECT_EQ(counters_.hairpinned, 2u);
}

TEST_F(Hairpin, R5382_8a_TcpConnectsAndIsTrackedAtBothEnds) {
  const Endpoint second = external_of(two_, tcp_packet(kSecond, kService, {}, kSyn));
  receive(0, tcp_packet(kService, second, {}, {.flags = kTcpRst | kTcpAck}));
  two_.open(sent_to_tunnel(two_.outer));

  receive_from(one_, one_.seal(tcp_packet(kApplication, second, {}, kSyn)));
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  const nat::Mapping* const mapping =
      nat_->find_outbound(tunnels_->at(1).subscriber, nat::Protocol::tcp, kApplication, now_s);
  ASSERT_NE(mapping, nullptr);
  const Endpoint first = mapping->external;
  EXPECT_EQ(two_.open(sent_to_tunnel(two_.outer)), tcp_packet(first, kSecond, {}, kSyn, kHopLess));
  receive_from(two_, two_.plain(tcp_packet(kSecond, first, {}, kSynAck)));
  EXPECT_EQ(one_.open(sent_to_tunnel(one_.outer)),
            tcp_packet(second, kApplication, {}, kSynAck, kHopLess));
  receive_from(one_, one_.seal(tcp_packet(kApplication, second, kHello)));
  EXPECT_EQ(two_.open(sent_to_tunnel(two_.outer)),
            tcp_packet(first, kSecond, kHello, {}, kHopLess));
  // Both mappings run on the established timer, whichever end speaks next.
  now_ns_ += 7000 * tunnel::kSecondNs;
  const auto later_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  EXPECT_TRUE(nat_->find_inbound(first.address, nat::Protocol::tcp, first.port, later_s));
  EXPECT_TRUE(nat_->find_inbound(second.address, nat::Protocol::tcp, second.port, later_s));
}

TEST_F(Hairpin, TooBigForTheReceiverIsAnsweredToTheInnerSender) {
  first_external();
  const Endpoint second = second_external();
  tunnels_->at(2).mtu_bytes = 1000;
  const Bytes payload = payload_bytes(1001 - 28);
  receive_from(one_, one_.seal(udp_packet(kApplication, second, payload)));
  Bytes quoted = udp_packet(kApplication, second, payload, kHopLess);
  quoted.resize(548);
  EXPECT_EQ(one_.open(sent_to_tunnel(one_.outer)),
            icmp_packet(kGateway, kInner, 3, 4, 1000, quoted, kErrorHeader));
  EXPECT_EQ(drops(Fate::too_big), 1u);
  receive_from(one_, one_.seal(udp_packet(kApplication, second, payload_bytes(1000 - 28))));
  EXPECT_TRUE(two_.open(sent_to_tunnel(two_.outer))) << "just fits";
}

TEST_F(Hairpin, TtlOneIsAnsweredByTheRouterAndTtlTwoPassesOnce) {
  const Endpoint first = first_external();
  const Endpoint second = second_external();
  const Bytes packet = udp_packet(kApplication, second, kHello, {.ttl = 1});
  receive_from(one_, one_.seal(packet));
  EXPECT_EQ(one_.open(sent_to_tunnel(one_.outer)),
            icmp_packet(kRouter, kInner, kIcmpTimeExceeded, 0, 0, packet, kErrorHeader));
  receive_from(one_, one_.seal(udp_packet(kApplication, second, kHello, {.ttl = 2})));
  EXPECT_EQ(two_.open(sent_to_tunnel(two_.outer)), udp_packet(first, kSecond, kHello, {.ttl = 1}));
}

TEST_F(Hairpin, MssIsClampedToTheNarrowerTunnel) {
  const Endpoint second = external_of(two_, tcp_packet(kSecond, kService, {}, kSyn));
  const Endpoint first = external_of(one_, tcp_packet(kApplication, kService, {}, kSyn));
  tunnels_->at(2).mtu_bytes = 1000;
  TcpOptions syn{.flags = kTcpSyn, .options = {2, 4, 1460 >> 8, 1460 & 255}};
  receive_from(one_, one_.seal(tcp_packet(kApplication, second, {}, syn)));
  syn.options = {2, 4, 960 >> 8, 960 & 255};
  EXPECT_EQ(two_.open(sent_to_tunnel(two_.outer)), tcp_packet(first, kSecond, {}, syn, kHopLess));
}

TEST_F(Hairpin, WholeBurstTurnsRound) {
  first_external();
  const Endpoint second = second_external();
  std::vector<Bytes> burst;
  for (unsigned i = 0; i < kBurstMax; ++i) {
    burst.push_back(one_.seal(udp_packet(kApplication, second, kHello)));
  }
  receive_together(one_, burst);
  EXPECT_EQ(sent(0).size(), size_t{kBurstMax});
}

TEST_F(Hairpin, Rfc1812PingFromInsideToAnExternalAddressIsAnsweredByTheGateway) {
  receive_from(one_, one_.seal(icmp_query(kInner, kGateway, 8, 5, 6, kHello)));
  EXPECT_EQ(one_.open(sent_to_tunnel(one_.outer)),
            icmp_query(kGateway, kInner, 0, 5, 6, kHello));
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(Hairpin, TunnelPortIsNotReachedFromInside) {
  receive_from(one_, one_.seal(udp_packet(kApplication, kTunnelEndpoint, one_.seal_at({}, 99))));
  expect_only_drop(Fate::no_mapping);
}

class HairpinOff : public Rig {
 protected:
  HairpinOff() : Rig({.nat = {.profiles = {{.hairpin = false}}}}) {}
};

TEST_F(HairpinOff, R4787_9_IsRefusedUnderItsNameWhereSwitchedOff) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(udp_packet(kApplication, {kGateway, kService.port}, kHello)));
  expect_only_drop(Fate::hairpin);
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(HairpinOff, Rfc1812PingIsAnsweredAllTheSame) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(icmp_query(kInner, kGateway, 8, 5, 6, kHello)));
  EXPECT_TRUE(far.open(sent_to_tunnel(far.outer)));
}

struct HairpinRow {
  const char* description;
  Fate reason;
  Bytes inner;
};

class HairpinDrop : public Rig, public testing::WithParamInterface<HairpinRow> {};

TEST_P(HairpinDrop, UnderItsOwnName) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(GetParam().inner));
  expect_only_drop(GetParam().reason);
}

Bytes with_byte(Bytes packet, size_t at, uint8_t value) {
  packet[at] = value;
  return packet;
}

INSTANTIATE_TEST_SUITE_P(
    Rows, HairpinDrop,
    testing::Values(
        HairpinRow{"UDP to a port without mapping", Fate::no_mapping,
                   udp_packet(kApplication, {kGateway, kService.port}, kHello)},
        HairpinRow{"no ports", Fate::hairpin, ipv4_packet(kInner, kGateway, kIpEsp, kHello)},
        HairpinRow{"timestamp request", Fate::icmp_unsupported,
                   icmp_query(kInner, kGateway, 13, 1, 1, payload_bytes(12))},
        HairpinRow{"echo reply", Fate::icmp_unsupported,
                   icmp_query(kInner, kGateway, 0, 1, 1, kHello)},
        HairpinRow{"ping with a wrong checksum", Fate::icmp_bad_checksum,
                   with_byte(icmp_query(kInner, kGateway, 8, 1, 1, kHello), 22, 1)},
        HairpinRow{"part of a ping", Fate::local_fragment,
                   icmp_query(kInner, kGateway, 8, 1, 1, kHello, {.fragment = kIpMoreFragments})},
        HairpinRow{"later part of a ping", Fate::local_fragment,
                   icmp_query(kInner, kGateway, 8, 1, 1, kHello, {.fragment = 5})}),
    [](const auto& row) { return row_name(row.param.description); });

}  // namespace
}  // namespace adit::gateway::test
