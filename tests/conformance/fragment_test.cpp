// RFC 4787 REQ-13 and REQ-14 for what is larger than a packet: fragments both ways, in any order.
// What their tables hold, and for how long, is tests/eal/fragment_test.cpp's.
#include <algorithm>
#include <array>

#include "tests/conformance/lab.h"
#include "tests/support/fragments.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;

class FragmentRows : public Lab, public testing::WithParamInterface<Kind> {
 protected:
  // A large packet, whole.
  static Bytes large(const Endpoint& from, const Endpoint& to, uint8_t ttl = 64) {
    const Bytes body = payload_bytes(500);
    if (GetParam() == Kind::udp) return udp_packet(from, to, body, {.ttl = ttl});
    if (GetParam() == Kind::tcp) return tcp_packet(from, to, body, {}, {.ttl = ttl});
    const bool is_request = to == kService;
    return adit::test::icmp_query(from.address, to.address,
                                  is_request ? kIcmpEchoRequest : kIcmpEchoReply,
                                  (is_request ? from : to).port.host(), 1, body, {.ttl = ttl});
  }
  // Whichever comes last, all have left by then, the first of them first.
  void expect_cross(const std::array<size_t, 3>& order, const Hop& in, const Hop& out) {
    const std::vector<Bytes> pieces = pieces_of(in.packet, 176);
    const std::vector<Bytes> wanted = pieces_of(out.packet, 176);
    ASSERT_EQ(pieces.size(), order.size());
    std::vector<Hop> left;
    for (const size_t i : order) {
      give_in({in.place, pieces[i]});
      for (Hop& hop : come_out()) left.push_back(std::move(hop));
    }
    ASSERT_EQ(left.size(), wanted.size());
    EXPECT_EQ(left[0], (Hop{out.place, wanted[0]}));
    for (const Bytes& piece : wanted) {
      EXPECT_EQ(std::count(left.begin(), left.end(), Hop{out.place, piece}), 1);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, FragmentRows, testing::ValuesIn(kKinds), kind_name);

TEST_P(FragmentRows, R4787_14_CrossBothWaysInAnyOrder) {
  const Endpoint external = map(GetParam(), kApplication);
  std::array<size_t, 3> order = {0, 1, 2};
  do {
    expect_cross(order, inside(large(kApplication, kService)),
                 internet(large(external, kService, 63)));
    expect_cross(order, internet(large(kService, external)),
                 inside(large(kService, kApplication, 63)));
  } while (std::next_permutation(order.begin(), order.end()));
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
  const Bytes whole = udp_packet(external, kService, body, {.ttl = 63, .fragment = 0});
  play({"too big", 1, inside(udp_packet(kApplication, kService, body, {.fragment = 0})),
        {internet(piece_of(whole, 0, 976)), internet(piece_of(whole, 976, 2000))}});
}

}  // namespace
}  // namespace adit::gateway::test
