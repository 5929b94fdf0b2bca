// Fragments from hostile hands: each ends in time, under a name, and within its share.
#include "tests/eal/fragment_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;

TEST_F(Fragment, WhatWaitsIsDroppedInTime) {
  open_tunnel(1, Protection::plain);
  receive(0, piece_of(udp_packet(kService, {kGateway, Be16::from_host(4444)}, kBody), 256, 600));
  now_ns_ += kFragmentTimeoutNs - 1;
  for (int i = 0; i < 4; ++i) sweep();
  EXPECT_EQ(counters_.held(), 1);
  ++now_ns_;
  for (int i = 0; i < 4; ++i) sweep();
  expect_only_drop(Fate::fragment_timeout);
  EXPECT_EQ(fragmented_datagrams(), 0u);
}

TEST_F(Fragment, RouteIsForgottenInTimeEvenBeforeTheSweep) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));
  EXPECT_EQ(sent(0).size(), 1u);
  now_ns_ += kFragmentTimeoutNs;
  receive(0, piece_of(whole, 256, 600));
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(held_fragments(), 1u);
}

TEST_F(Fragment, OverlapIsDropped) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));
  receive(0, piece_of(whole, 256, 384));
  EXPECT_EQ(sent(0).size(), 2u);
  receive(0, piece_of(whole, 248, 400));
  expect_only_drop(Fate::fragment_overlap);
}

TEST_F(Fragment, LaterFragmentInsideTheTcpHeaderIsDropped) {
  open_tunnel(1, Protection::plain);
  const Bytes whole = tcp_packet(kService, {kGateway, Be16::from_host(4444)}, kBody);
  receive(0, piece_of(whole, 8, 256));
  expect_only_drop(Fate::fragment_overlap);
}

TEST_F(Fragment, FirstFragmentWithoutItsHeaderIsDropped) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(piece_of(tcp_packet(kApplication, kService, kBody), 0, 16)));
  expect_only_drop(Fate::fragment_tiny);
  receive(0, piece_of(tcp_packet(kService, {kGateway, Be16::from_host(4444)}, kBody), 0, 8));
  EXPECT_EQ(drops(Fate::fragment_tiny), 2u);
}

TEST_F(Fragment, MalformedOnesAreDropped) {
  FarEnd far = open_with_mapping();
  const Bytes part = payload_bytes(33);
  const auto fragment = [&](uint16_t field) {
    return ipv4_packet(kServer, kGateway, kIpUdp, part, {.fragment = field});
  };
  receive(0, fragment(kIpMoreFragments | 40));  // 33 bytes in the middle
  receive(0, fragment(8191));                   // the ping of death
  EXPECT_EQ(drops(Fate::fragment_malformed), 2u);
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 256, 600));
  receive(0, ipv4_packet(kServer, kGateway, kIpUdp, part, {.fragment = 100}));  // another end
  EXPECT_EQ(drops(Fate::fragment_malformed), 3u);
  EXPECT_TRUE(sent(0).empty());
}

TEST_F(Fragment, WhatTheGatewayWouldReadItselfMustBeWhole) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint dhcp{Ipv4Address::from_octets(255, 255, 255, 255), Be16::from_host(67)};
  receive_from(far, far.seal(piece_of(udp_packet(kApplication, dhcp, kBody), 0, 256)));
  receive_from(far, far.seal(piece_of(adit::test::icmp_packet(kInner, kServer, 3, 3, 0, kBody), 0,
                                      256)));
  receive(0, piece_of(icmp_query(kServer, kGateway, 8, 1, 1, kBody), 0, 256));
  EXPECT_EQ(drops(Fate::local_fragment), 3u);
  EXPECT_EQ(counters_.drops_total(), 3u);
}

// The rig's tables have room for 64 datagrams and 128 packets, each worker's.
TEST_F(Fragment, R4787_14a_FloodFromOutsideStaysInsideItsHalfAndDisturbsNobody) {
  FarEnd far = open_with_mapping();
  for (uint16_t id = 0; id < 1000; ++id) {
    receive(0, ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(64),
                           {.id = id, .fragment = 100}));
  }
  const unsigned half = 32 * settings_.workers;
  EXPECT_EQ(fragmented_datagrams(), half);
  EXPECT_EQ(held_fragments(), half);
  EXPECT_EQ(drops(Fate::fragment_table_full), 1000 - half);
  receive(0, udp_packet(kService, external(), kBody));
  EXPECT_EQ(opened(far).size(), 1u) << "whole packets";
  for (const Bytes& piece : pieces_of(udp_packet(kService, external(), kBody, {.id = 7777}), 256)) {
    receive(0, piece);
  }
  EXPECT_EQ(opened(far).size(), 2u) << "fragments in order";
}

TEST_F(Fragment, R4787_14a_FloodFromATunnelStaysInsideItsShare) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  for (uint16_t id = 0; id < 100; ++id) {
    receive_from(one, one.plain(piece_of(udp_packet(kApplication, kService, kBody, {.id = id}), 0,
                                         256)));
  }
  EXPECT_EQ(fragmented_datagrams(), 8u);
  EXPECT_EQ(drops(Fate::fragment_table_full), 92u);
  sent(0);
  for (const Bytes& piece : pieces_of(udp_packet(kSecond, kService, kBody), 256)) {
    receive_from(two, two.plain(piece));
  }
  EXPECT_EQ(sent(0).size(), 2u);
}

TEST_F(Fragment, SharesComeBackHoweverOftenTheLastComesFirst) {
  FarEnd far = open_with_mapping();
  for (uint16_t id = 0; id < 200; ++id) {
    const std::vector<Bytes> in =
        pieces_of(udp_packet(kService, external(), kBody, {.id = id}), 256);
    receive(0, in[1]);
    receive(0, in[0]);
    EXPECT_EQ(opened(far).size(), 2u);
    const std::vector<Bytes> out =
        pieces_of(udp_packet(kApplication, kService, kBody, {.id = id}), 256);
    receive_from(far, far.seal(out[1]));
    receive_from(far, far.seal(out[0]));
    EXPECT_EQ(sent(0).size(), 2u);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Fragment, R4787_14a_OneDatagramMayNotHoldTooMany) {
  open_tunnel(1, Protection::plain);
  const auto piece = [](uint16_t at) {
    return ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(8),
                       {.fragment = static_cast<uint16_t>(kIpMoreFragments | at)});
  };
  for (uint16_t at = 1; at <= 100; ++at) receive(0, piece(at));
  EXPECT_EQ(held_fragments(), Fragments::kHeldPerDatagramMax);
  EXPECT_EQ(drops(Fate::fragment_hold_full), 100u - Fragments::kHeldPerDatagramMax);
}

TEST_F(Fragment, R4787_14a_ScatteredPiecesAreBoundedToo) {
  open_tunnel(1, Protection::plain);
  for (uint16_t at = 1; at <= 100; at = static_cast<uint16_t>(at + 2)) {
    receive(0, ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(8),
                           {.fragment = static_cast<uint16_t>(kIpMoreFragments | at)}));
  }
  EXPECT_EQ(held_fragments(), 16u);
  EXPECT_EQ(drops(Fate::fragment_hold_full), 34u);
}

}  // namespace
}  // namespace adit::gateway::test
