// Inner fragments: they follow their first one both ways, in any order.
#include <algorithm>

#include "tests/eal/fragment_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::piece_of;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;
using adit::test::with_ttl;

TEST_F(Fragment, R4787_14_UdpLeavesInOrder) {
  FarEnd far = open_with_mapping();
  for (const Bytes& piece : pieces_of(udp_packet(kApplication, kService, kBody), 128)) {
    receive_from(far, far.seal(piece));
  }
  expect_left_renumbered(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 128),
                         sent(0));
  EXPECT_EQ(fragmented_datagrams(), 0u) << "a whole datagram leaves no state";
}

TEST_F(Fragment, R4787_14_UdpLeavesInOrderFromOneBurst) {
  FarEnd far = open_with_mapping();
  std::vector<Bytes> sealed;
  for (const Bytes& piece : pieces_of(udp_packet(kApplication, kService, kBody), 128)) {
    sealed.push_back(far.seal(piece));
  }
  receive_together(far, sealed);
  expect_left_renumbered(pieces_of(udp_packet(external(), kService, kBody, {.ttl = 63}), 128),
                         sent(0));
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
  expect_left_renumbered(wanted, sent(0));
  EXPECT_EQ(fragmented_datagrams(), 0u);
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
    EXPECT_EQ(fragmented_datagrams(), 0u);
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
  expect_left_renumbered(pieces_of(tcp_packet(external, kService, kBody, {}, {.ttl = 63}), 160),
                         sent(0));
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
  expect_left_renumbered(
      pieces_of(icmp_query(kGateway, kServer, 8, id, 1, kBody, {.ttl = 63}), 256), out);
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

TEST_F(Fragment, FirstThatComesTwiceKeepsItsNewId) {
  FarEnd far = open_with_mapping();
  const Bytes whole = udp_packet(kApplication, kService, kBody);
  for (const size_t begin : {0, 0, 256}) {
    receive_from(far, far.seal(piece_of(whole, begin, begin + 256)));
  }
  const Bytes left = udp_packet(external(), kService, kBody, {.ttl = 63});
  expect_left_renumbered(
      {piece_of(left, 0, 256), piece_of(left, 0, 256), piece_of(left, 256, 512)}, sent(0));
  for (const size_t begin : {0, 256}) {
    receive_from(far, far.seal(piece_of(whole, begin, begin + 256)));
  }
  expect_left_renumbered({piece_of(left, 0, 256), piece_of(left, 256, 512)}, sent(0));
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
  tell(close);
  ToWorker open;  // the slot is another's now
  open.kind = ToWorker::open_tunnel;
  open.slot = 1;
  open.epoch = 99;
  open.mtu_bytes = 1440;
  tell(open);
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

}  // namespace
}  // namespace adit::gateway::test
