// Tunnel packets that came in pieces are put together.
#include "tests/eal/fragment_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::pieces_of;
using adit::test::udp_packet;

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
  EXPECT_EQ(fragmented_datagrams(), 0u);
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
  expect_left_renumbered(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 256),
                         sent(0));
}

TEST_F(OuterFragment, MissingOnesAreDroppedInTime) {
  FarEnd far = open_with_mapping();
  const std::vector<Bytes> pieces =
      pieces_of(outer(far, udp_packet(kApplication, kService, kBody)), 200);
  receive(0, pieces[0]);
  receive(0, pieces[2]);
  EXPECT_EQ(counters_.held(), 2);
  now_ns_ += kFragmentTimeoutNs + 1;
  sweep();
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
  now_ns_ += kFragmentTimeoutNs + 1;
  sweep();
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
  EXPECT_LE(counters_.held(), 16 * settings_.workers);
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
