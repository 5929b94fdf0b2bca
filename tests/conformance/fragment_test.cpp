// RFC 4787 REQ-13 and REQ-14 for what is larger than a packet: fragments both ways, in any order.
// What their tables hold, and for how long, is tests/eal/fragment_test.cpp's.
#include <algorithm>
#include <array>

#include "tests/conformance/lab.h"
#include "tests/support/fragments.h"

namespace adit::gateway::test {
namespace {

using adit::test::header_of;
using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;

class FragmentRows : public Lab, public testing::WithParamInterface<Kind> {
 protected:
  // A large packet, whole.
  static Bytes large(const Endpoint& from, const Endpoint& to, const Ipv4Options& ip = {}) {
    const Bytes body = payload_bytes(500);
    if (GetParam() == Kind::udp) return udp_packet(from, to, body, ip);
    if (GetParam() == Kind::tcp) return tcp_packet(from, to, body, {}, ip);
    const bool is_request = to == kService;
    return icmp_query(from.address, to.address, is_request ? kIcmpEchoRequest : kIcmpEchoReply,
                      (is_request ? from : to).port.host(), 1, body, ip);
  }
  struct Crossing {
    uint32_t place;
    Endpoint from, to;
  };
  // Cut in three, in every order: when the last has come all have left, the first of them first.
  // They have one identification, which may be a new one.
  void expect_cross(const Crossing& in, const Crossing& out) {
    std::array<size_t, 3> order = {0, 1, 2};
    uint16_t id = 7;
    do {
      const std::vector<Bytes> pieces =
          pieces_of(large(in.from, in.to, {.id = ++id}), kPieceBytes);
      ASSERT_EQ(pieces.size(), order.size());
      std::vector<Hop> left;
      for (const size_t i : order) {
        give_in({in.place, pieces[i]});
        for (Hop& hop : come_out()) left.push_back(std::move(hop));
      }
      ASSERT_EQ(left.size(), pieces.size());
      const uint16_t id_out = header_of(left[0].packet).id.host();
      const std::vector<Bytes> wanted =
          pieces_of(large(out.from, out.to, {.ttl = 63, .id = id_out}), kPieceBytes);
      EXPECT_EQ(left[0], (Hop{out.place, wanted[0]}));
      for (const Bytes& piece : wanted) {
        EXPECT_EQ(std::count(left.begin(), left.end(), Hop{out.place, piece}), 1);
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }

 private:
  static constexpr size_t kPieceBytes = 176;
};

INSTANTIATE_TEST_SUITE_P(Kinds, FragmentRows, testing::ValuesIn(kKinds), kind_name);

TEST_P(FragmentRows, R4787_14_CrossBothWaysInAnyOrder) {
  const Endpoint external = map(GetParam(), kApplication);
  expect_cross({1, kApplication, kService}, {kInternet, external, kService});
  expect_cross({kInternet, kService, external}, {1, kService, kApplication});
}

class HairpinnedFragmentRows : public FragmentRows {};

INSTANTIATE_TEST_SUITE_P(Kinds, HairpinnedFragmentRows, testing::Values(Kind::udp, Kind::tcp),
                         kind_name);

TEST_P(HairpinnedFragmentRows, R4787_9a_R5382_8a_TurnRoundInAnyOrder) {
  const Endpoint second = at(inner(2), 7);
  const Endpoint first_external = map(GetParam(), kApplication);
  const Endpoint second_external = map(GetParam(), second, kService, 2);
  expect_cross({1, kApplication, second_external}, {2, first_external, second});
  expect_cross({2, second, first_external}, {1, second_external, kApplication});
}

class Large : public Lab {};

TEST_F(Large, R4787_13a_PacketTooBigForTheTunnelIsCutInOrder) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes body = payload_bytes(1441 - 28);
  const Bytes whole = udp_packet(kService, kApplication, body, {.ttl = 63, .fragment = 0});
  play({"one byte too big", 1, internet(udp_packet(kService, external, body, {.fragment = 0})),
        {inside(piece_of(whole, 0, 1416)), inside(piece_of(whole, 1416, 2000))}});
}

class LargeForThePort : public Lab {
 protected:
  LargeForThePort() : Lab(1000) {}
};

TEST_F(LargeForThePort, R4787_13a_PacketTooBigForThePublicPortIsCutInOrder) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes body = payload_bytes(1400);
  give_in(inside(udp_packet(kApplication, kService, body, {.fragment = 0})));
  const std::vector<Hop> out = come_out();
  ASSERT_EQ(out.size(), 2u);
  const uint16_t id = header_of(out[0].packet).id.host();  // which may be a new one
  const Bytes whole =
      udp_packet(external, kService, body, {.ttl = 63, .id = id, .fragment = 0});
  EXPECT_EQ(out[0], internet(piece_of(whole, 0, 976)));
  EXPECT_EQ(out[1], internet(piece_of(whole, 976, 2000)));
}

}  // namespace
}  // namespace adit::gateway::test
