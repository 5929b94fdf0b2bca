// Packets too large for where they go, and what is cut out of them.
#include <rte_mbuf.h>

#include "tests/eal/fragment_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::udp_packet;

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
  expect_left_renumbered({piece_of(whole, 0, 976), piece_of(whole, 976, 2000)}, sent(0));
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

}  // namespace
}  // namespace adit::gateway::test
