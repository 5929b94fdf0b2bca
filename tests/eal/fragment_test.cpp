// Fragments: inner ones follow their first one both ways, in any order; packets that are too large
// are cut; outer ones are put together. And what an attacker makes of all this.
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>

#include "lib/net/parse.h"
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

inline constexpr uint64_t kTimeoutNs = 2 * tunnel::kSecondNs;

Ipv4Header header_of(const Bytes& packet) {
  Ipv4Header ip{};
  std::memcpy(&ip, packet.data(), std::min(packet.size(), sizeof ip));
  return ip;
}

// Bytes [begin, end) of a whole packet's payload, as a fragment of it.
Bytes piece_of(const Bytes& whole, size_t begin, size_t end) {
  const Ipv4Header ip = header_of(whole);
  const size_t payload = whole.size() - 20;
  end = std::min(end, payload);
  Ipv4Options options;
  options.tos = ip.tos;
  options.ttl = ip.ttl;
  options.id = ip.id.host();
  options.fragment =
      static_cast<uint16_t>(begin / 8 | (end < payload ? kIpMoreFragments : uint16_t{0}));
  return ipv4_packet(ip.source, ip.destination, ip.protocol,
                     std::span(whole).subspan(20 + begin, end - begin), options);
}

// In pieces of `bytes`, a multiple of 8.
std::vector<Bytes> pieces_of(const Bytes& whole, size_t bytes) {
  std::vector<Bytes> pieces;
  for (size_t at = 0; at < whole.size() - 20; at += bytes) {
    pieces.push_back(piece_of(whole, at, at + bytes));
  }
  return pieces;
}

Bytes with_ttl(const Bytes& packet, uint8_t ttl) {
  const Ipv4Header ip = header_of(packet);
  return ipv4_packet(ip.source, ip.destination, ip.protocol, std::span(packet).subspan(20),
                     {.tos = ip.tos, .ttl = ttl, .id = ip.id.host(),
                      .fragment = ip.fragment.host()});
}

const Bytes kBody = payload_bytes(500);
const Endpoint kSecond{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(7)};

class Fragment : public Rig {
 protected:
  explicit Fragment(const RigOptions& options = {}) : Rig(options) {}

  // The inner packets that reached the far end, in order.
  std::vector<Bytes> opened(FarEnd& far) {
    std::vector<Bytes> inner;
    for (const Bytes& packet : sent(0)) {
      const auto text = far.open(Bytes(packet.begin() + 28, packet.end()));
      EXPECT_TRUE(text);
      inner.push_back(text.value_or(Bytes{}));
    }
    return inner;
  }
  Endpoint external() { return external_; }
  FarEnd open_with_mapping() {
    FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
    external_ = external_of(far, udp_packet(kApplication, kService, kBody));
    return far;
  }
  void expect_left(const std::vector<Bytes>& wanted, const std::vector<Bytes>& got) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], wanted[i]) << i;
  }

 private:
  Endpoint external_;
};

// ---- Inner fragments ----

TEST_F(Fragment, R4787_14_UdpLeavesInOrder) {
  FarEnd far = open_with_mapping();
  for (const Bytes& piece : pieces_of(udp_packet(kApplication, kService, kBody), 128)) {
    receive_from(far, far.seal(piece));
  }
  expect_left(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 128), sent(0));
  EXPECT_EQ(fragments_->datagrams(), 0u) << "a whole datagram leaves no state";
}

TEST_F(Fragment, R4787_14_UdpLeavesInOrderFromOneBurst) {
  FarEnd far = open_with_mapping();
  std::vector<Bytes> sealed;
  for (const Bytes& piece : pieces_of(udp_packet(kApplication, kService, kBody), 128)) {
    sealed.push_back(far.seal(piece));
  }
  receive_together(far, sealed);
  expect_left(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 128), sent(0));
}

TEST_F(Fragment, R4787_14_UdpBeforeItsFirstWaitsAndLeavesBehindIt) {
  FarEnd far = open_with_mapping();
  std::vector<Bytes> pieces = pieces_of(udp_packet(kApplication, kService, kBody), 128);
  std::reverse(pieces.begin(), pieces.end());
  for (size_t i = 0; i + 1 < pieces.size(); ++i) {
    receive_from(far, far.seal(pieces[i]));
    EXPECT_TRUE(sent(0).empty());
    EXPECT_EQ(counters_.held(), static_cast<int64_t>(i + 1));
  }
  receive_from(far, far.seal(pieces.back()));
  std::vector<Bytes> wanted =
      pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 128);
  std::reverse(wanted.begin() + 1, wanted.end());  // the first, then in order of arrival
  expect_left(wanted, sent(0));
  EXPECT_EQ(fragments_->datagrams(), 0u);
}

TEST_F(Fragment, R4787_14_UdpArrivesInOrderAndOutOfOrder) {
  FarEnd far = open_with_mapping();
  const Bytes reply = udp_packet(kService, external(), kBody);
  const Bytes wanted = udp_packet(kService, kApplication, kBody, {.ttl = 63});
  for (const std::vector<size_t>& order :
       {std::vector<size_t>{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}}) {
    const std::vector<Bytes> pieces = pieces_of(reply, 128);
    const std::vector<Bytes> out = pieces_of(wanted, 128);
    for (const size_t i : order) receive(0, pieces[i]);
    std::vector<Bytes> expected = {out[0]};  // nothing before the first, which lets the rest go
    for (const size_t i : order) {
      if (i != 0) expected.push_back(out[i]);
    }
    expect_left(expected, opened(far));
    EXPECT_EQ(fragments_->datagrams(), 0u);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Fragment, R4787_14_TcpCrossesBothWays) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external =
      external_of(far, tcp_packet(kApplication, kService, {}, {.flags = kTcpSyn}));
  for (const Bytes& piece : pieces_of(tcp_packet(kApplication, kService, kBody), 160)) {
    receive_from(far, far.plain(piece));
  }
  expect_left(pieces_of(tcp_packet(external, kService, kBody, {}, {.ttl = 63}), 160), sent(0));
  for (const Bytes& piece : pieces_of(tcp_packet(kService, external, kBody), 160)) {
    receive(0, piece);
  }
  expect_left(pieces_of(tcp_packet(kService, kApplication, kBody, {}, {.ttl = 63}), 160),
              opened(far));
}

TEST_F(Fragment, R4787_14_PingsCrossBothWays) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (const Bytes& piece : pieces_of(icmp_query(kInner, kServer, 8, 77, 1, kBody), 256)) {
    receive_from(far, far.plain(piece));
  }
  const std::vector<Bytes> out = sent(0);
  ASSERT_EQ(out.size(), 2u);
  const auto id = static_cast<uint16_t>(out[0][24] << 8 | out[0][25]);
  expect_left(pieces_of(icmp_query(kGateway, kServer, 8, id, 1, kBody, {.ttl = 63}), 256), out);
  const std::vector<Bytes> reply = pieces_of(icmp_query(kServer, kGateway, 0, id, 1, kBody), 256);
  receive(0, reply[1]);
  receive(0, reply[0]);
  expect_left(pieces_of(icmp_query(kServer, kInner, 0, 77, 1, kBody, {.ttl = 63}), 256),
              opened(far));
}

TEST_F(Fragment, WithoutPortsEveryFragmentFindsItsOwnWay) {
  FarEnd far = open_tunnel(1, Protection::plain);
  std::vector<Bytes> pieces = pieces_of(ipv4_packet(kInner, kServer, kIpEsp, kBody), 256);
  receive_from(far, far.plain(pieces[1]));
  receive_from(far, far.plain(pieces[0]));
  std::vector<Bytes> wanted =
      pieces_of(ipv4_packet(kGateway, kServer, kIpEsp, kBody, {.ttl = 63}), 256);
  std::swap(wanted[0], wanted[1]);
  expect_left(wanted, sent(0));
  receive(0, piece_of(ipv4_packet(kServer, kGateway, kIpEsp, kBody), 256, 512));
  expect_left({piece_of(ipv4_packet(kServer, kInner, kIpEsp, kBody, {.ttl = 63}), 256, 512)},
              opened(far));
}

// Two datagrams at a time, of two subscribers, with the same id and destination.
TEST_F(Fragment, TunnelsAreKeptApart) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  const Bytes of_one = udp_packet(kApplication, kService, kBody);
  const Bytes of_two = udp_packet(kSecond, kService, kBody);
  receive_from(one, one.plain(piece_of(of_one, 0, 256)));
  receive_from(two, two.plain(piece_of(of_two, 256, 600)));
  EXPECT_EQ(sent(0).size(), 1u) << "the second one's waits for the second one's first";
  receive_from(one, one.plain(piece_of(of_one, 256, 600)));
  EXPECT_EQ(sent(0).size(), 1u);
  receive_from(two, two.plain(piece_of(of_two, 0, 256)));
  EXPECT_EQ(sent(0).size(), 2u);
}

TEST_F(Fragment, IdThatComesRoundIsANewDatagram) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));  // the rest is lost on its way
  for (const Bytes& piece : pieces_of(whole, 256)) receive(0, piece);
  EXPECT_EQ(opened(far).size(), 3u);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Fragment, ClosedTunnelTakesItsFragmentsAlong) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));
  EXPECT_EQ(sent(0).size(), 1u);
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  pipeline_->take(close, now_ns_);
  ToWorker open;  // the slot is another's now
  open.kind = ToWorker::open_tunnel;
  open.slot = 1;
  open.epoch = 99;
  open.mtu_bytes = 1440;
  pipeline_->take(open, now_ns_);
  receive(0, piece_of(whole, 256, 600));
  expect_only_drop(Fate::stale_tunnel);
}

TEST_F(Fragment, ToAnotherTunnelIsRefusedAsWholePacketsAre) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(piece_of(udp_packet(kApplication, kSecond, kBody), 256, 600)));
  expect_only_drop(Fate::tunnel_to_tunnel);
}

TEST_F(Fragment, TtlEndsThemToo) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));
  EXPECT_EQ(sent(0).size(), 1u);
  receive(0, with_ttl(piece_of(whole, 256, 600), 1));
  expect_only_drop(Fate::ttl_exceeded);  // and nothing is said about it
}

// ---- What hostile hands send ----

TEST_F(Fragment, WhatWaitsIsDroppedInTime) {
  open_tunnel(1, Protection::plain);
  receive(0, piece_of(udp_packet(kService, {kGateway, Be16::from_host(4444)}, kBody), 256, 600));
  now_ns_ += kTimeoutNs - 1;
  for (int i = 0; i < 4; ++i) pipeline_->sweep(now_ns_);
  EXPECT_EQ(counters_.held(), 1);
  ++now_ns_;
  for (int i = 0; i < 4; ++i) pipeline_->sweep(now_ns_);
  expect_only_drop(Fate::fragment_timeout);
  EXPECT_EQ(fragments_->datagrams(), 0u);
}

TEST_F(Fragment, RouteIsForgottenInTimeEvenBeforeTheSweep) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kService, external(), kBody);
  receive(0, piece_of(whole, 0, 256));
  EXPECT_EQ(sent(0).size(), 1u);
  now_ns_ += kTimeoutNs;
  receive(0, piece_of(whole, 256, 600));
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(fragments_->held(), 1u);
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

// The rig's table has room for 64 datagrams and 128 packets.
TEST_F(Fragment, R4787_14a_FloodFromOutsideStaysInsideItsHalfAndDisturbsNobody) {
  FarEnd far = open_with_mapping();
  for (uint16_t id = 0; id < 1000; ++id) {
    receive(0, ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(64),
                           {.id = id, .fragment = 100}));
  }
  EXPECT_EQ(fragments_->datagrams(), 32u);
  EXPECT_EQ(fragments_->held(), 32u);
  EXPECT_EQ(drops(Fate::fragment_table_full), 968u);
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
  EXPECT_EQ(fragments_->datagrams(), 8u);
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
  EXPECT_EQ(fragments_->held(), Fragments::kHeldPerDatagramMax);
  EXPECT_EQ(drops(Fate::fragment_hold_full), 100u - Fragments::kHeldPerDatagramMax);
}

TEST_F(Fragment, R4787_14a_ScatteredPiecesAreBoundedToo) {
  open_tunnel(1, Protection::plain);
  for (uint16_t at = 1; at <= 100; at = static_cast<uint16_t>(at + 2)) {
    receive(0, ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(8),
                           {.fragment = static_cast<uint16_t>(kIpMoreFragments | at)}));
  }
  EXPECT_EQ(fragments_->held(), 16u);
  EXPECT_EQ(drops(Fate::fragment_hold_full), 34u);
}

// ---- Cutting ----

TEST_F(Fragment, R4787_13a_TooBigForTheTunnelWithoutDfIsCut) {
  FarEnd far = open_with_mapping();
  const Bytes body = payload_bytes(1441 - 28);
  receive(0, udp_packet(kService, external(), body, {.fragment = 0}));
  const Bytes whole = udp_packet(kService, kApplication, body, {.ttl = 63, .fragment = 0});
  expect_left({piece_of(whole, 0, 1416), piece_of(whole, 1416, 2000)}, opened(far));
  EXPECT_EQ(counters_.packets_fragmented, 1u);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(Fragment, R4787_13a_FragmentTooBigForTheTunnelIsCutFurther) {
  FarEnd far = open_with_mapping();
  const Bytes body = payload_bytes(2000);
  const Bytes reply = udp_packet(kService, external(), body, {.fragment = 0});
  receive(0, piece_of(reply, 0, 1480));
  receive(0, piece_of(reply, 1480, 3000));
  const Bytes whole = udp_packet(kService, kApplication, body, {.ttl = 63, .fragment = 0});
  expect_left({piece_of(whole, 0, 1416), piece_of(whole, 1416, 1480), piece_of(whole, 1480, 3000)},
              opened(far));
}

TEST_F(Fragment, LaterFragmentWithDfThatIsTooBigIsDropped) {
  FarEnd far = open_with_mapping();
  const Bytes reply = udp_packet(kService, external(), payload_bytes(3000), {.fragment = 0});
  receive(0, piece_of(reply, 0, 1000));
  EXPECT_EQ(opened(far).size(), 1u);
  receive(0, ipv4_packet(kServer, kGateway, kIpUdp, payload_bytes(1480),
                         {.fragment = kIpDontFragment | kIpMoreFragments | 125}));
  expect_only_drop(Fate::too_big);
}

class FragmentNarrow : public Fragment {
 protected:
  FragmentNarrow() : Fragment({.mtu_bytes = 1000}) {}
};

TEST_F(FragmentNarrow, R4787_13a_TooBigForThePublicPortWithoutDfIsCut) {
  FarEnd far = open_with_mapping();
  const Bytes body = payload_bytes(1400);
  receive_from(far, far.seal(udp_packet(kApplication, kService, body, {.fragment = 0})));
  const Bytes whole = udp_packet(external(), kService, body, {.ttl = 63, .fragment = 0});
  expect_left({piece_of(whole, 0, 976), piece_of(whole, 976, 2000)}, sent(0));
}

class FragmentCrossing : public Fragment {
 protected:
  FragmentCrossing() : Fragment({.tunnel_to_tunnel = true}) {}
};

TEST_F(FragmentCrossing, ReachesTheOtherClientAsItIs) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  receive_from(one, one.plain(piece_of(udp_packet(kApplication, kSecond, kBody), 256, 600)));
  expect_left({piece_of(udp_packet(kApplication, kSecond, kBody, {.ttl = 63}), 256, 600)},
              opened(two));
}

TEST_F(FragmentCrossing, TooBigForTheOtherTunnelIsCut) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  tunnels_->at(2).mtu_bytes = 600;
  receive_from(one, one.plain(udp_packet(kApplication, kSecond, payload_bytes(800),
                                         {.fragment = 0})));
  const Bytes whole =
      udp_packet(kApplication, kSecond, payload_bytes(800), {.ttl = 63, .fragment = 0});
  expect_left({piece_of(whole, 0, 576), piece_of(whole, 576, 2000)}, opened(two));
}

TEST_F(Fragment, NoBufferForThePiecesIsADropOfTheWhole) {
  FarEnd far = open_with_mapping();
  std::vector<rte_mbuf*> all;
  while (rte_mempool_avail_count(pool()) > 1) all.push_back(rte_pktmbuf_alloc(pool()));
  receive(0, udp_packet(kService, external(), payload_bytes(1441 - 28), {.fragment = 0}));
  for (rte_mbuf* mbuf : all) rte_pktmbuf_free(mbuf);
  expect_only_drop(Fate::no_buffer);
}

// ---- Outer fragments ----

class OuterFragment : public Fragment {
 protected:
  Bytes outer(FarEnd& far, const Bytes& inner, uint16_t id = 9) {
    return udp_packet(far.outer, kTunnelEndpoint, far.seal(inner), {.id = id, .fragment = 0});
  }
};

TEST_F(OuterFragment, AreReassembledInEveryOrder) {
  FarEnd far = open_with_mapping();
  for (const std::vector<size_t>& order :
       {std::vector<size_t>{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}}) {
    const std::vector<Bytes> pieces =
        pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 200);
    ASSERT_EQ(pieces.size(), 3u);
    for (const size_t i : order) receive(0, pieces[i]);
    EXPECT_EQ(sent_one(0), udp_packet(external(), kService, kBody, {.ttl = 63}));
    EXPECT_EQ(counters_.held(), 0);
  }
  EXPECT_EQ(fragments_->datagrams(), 0u);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// The first stands last in its burst: the reassembled packet makes the journey all the same.
TEST_F(OuterFragment, OfOneBurst) {
  FarEnd far = open_with_mapping();
  const std::vector<Bytes> pieces =
      pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 200);
  receive_packets(0, {pieces[2], pieces[0], pieces[1]});
  EXPECT_EQ(sent_one(0), udp_packet(external(), kService, kBody, {.ttl = 63}));
  const std::vector<Bytes> more =
      pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 200);
  receive_packets(0, {more[1], more[2], more[0]});
  EXPECT_EQ(sent_one(0), udp_packet(external(), kService, kBody, {.ttl = 63}));
}

// What comes out of a reassembled tunnel packet may be a fragment itself.
TEST_F(OuterFragment, MayCarryAnInnerFragment) {
  FarEnd far = open_with_mapping();
  for (const Bytes& inner : pieces_of(udp_packet(kApplication, kService, kBody), 256)) {
    for (const Bytes& piece : pieces_of(outer(far, inner), 200)) receive(0, piece);
  }
  expect_left(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 256), sent(0));
}

TEST_F(OuterFragment, MissingOnesAreDroppedInTime) {
  FarEnd far = open_with_mapping();
  const std::vector<Bytes> pieces =
      pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 200);
  receive(0, pieces[0]);
  receive(0, pieces[2]);
  EXPECT_EQ(counters_.held(), 2);
  now_ns_ += kTimeoutNs + 1;
  pipeline_->sweep(now_ns_);
  EXPECT_EQ(drops(Fate::fragment_timeout), 2u);
  EXPECT_EQ(counters_.held(), 0);
}

TEST_F(OuterFragment, MoreThanTheReassemblerTakesAreDropped) {
  FarEnd far = open_with_mapping();
  const std::vector<Bytes> pieces =
      pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 40);
  ASSERT_GT(pieces.size(), 8u);
  for (const Bytes& piece : pieces) receive(0, piece);
  EXPECT_TRUE(sent(0).empty());
  EXPECT_EQ(drops(Fate::outer_fragment), 8u) << "one too many takes the others along";
  now_ns_ += kTimeoutNs + 1;
  pipeline_->sweep(now_ns_);
  EXPECT_EQ(counters_.drops_total(), pieces.size()) << "and the rest in time";
}

TEST_F(OuterFragment, WholeThatFitsNoBufferIsDropped) {
  const Bytes whole =
      udp_packet(kClientOuter, kTunnelEndpoint, payload_bytes(4000), {.fragment = 0});
  const std::vector<Bytes> pieces = pieces_of(whole, 1400);
  for (const Bytes& piece : pieces) receive(0, piece);
  EXPECT_EQ(drops(Fate::outer_too_big), pieces.size());
  EXPECT_EQ(counters_.held(), 0);
}

TEST_F(OuterFragment, OverlapIsDropped) {
  FarEnd far = open_with_mapping();
  const Bytes whole = outer(far, udp_packet(kApplication, kService, kBody));
  receive(0, piece_of(whole, 0, 200));
  receive(0, piece_of(whole, 192, 400));
  EXPECT_EQ(drops(Fate::fragment_overlap), 1u);
}

TEST_F(OuterFragment, FloodStaysInsideBoundsAndDisturbsNobody) {
  FarEnd far = open_with_mapping();
  for (uint16_t id = 0; id < 500; ++id) {
    const Bytes whole = udp_packet(kClientOuter, kTunnelEndpoint, kBody, {.id = id, .fragment = 0});
    receive(0, piece_of(whole, 0, 256));
  }
  EXPECT_LE(counters_.held(), 16);
  receive_from(far, far.seal(udp_packet(kApplication, kService, kBody)));
  EXPECT_EQ(sent(0).size(), 1u);
}

class OuterFragmentTwoPorts : public Fragment {
 protected:
  OuterFragmentTwoPorts() : Fragment({.two_ports = true}) {}
};

TEST_F(OuterFragmentTwoPorts, AreTakenFromTheUplinkOnly) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Bytes whole =
      udp_packet(far.outer, kTunnelEndpoint, far.plain(udp_packet(kApplication, kService, kBody)),
                 {.fragment = 0});
  for (const Bytes& piece : pieces_of(whole, 256)) receive(0, piece);
  EXPECT_EQ(sent(1).size(), 1u);
  receive(1, pieces_of(whole, 256)[0]);
  expect_only_drop(Fate::not_our_address);
}

TEST_F(OuterFragmentTwoPorts, OthersToTheUplinksAddressAreNobodys) {
  receive(0, piece_of(udp_packet(kService, {kGateway, Be16::from_host(9)}, kBody), 0, 256));
  expect_only_drop(Fate::local_fragment);
}

}  // namespace
}  // namespace adit::gateway::test
