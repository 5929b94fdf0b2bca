// RFC 7857 §10, RFC 6864: the identification of translated packets that may be, or are, fragments.
#include <cstring>
#include <set>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::udp_packet;

const Ipv4Options kMayFragment{.fragment = 0};

uint16_t id_of(const Bytes& packet) { return static_cast<uint16_t>(packet[4] << 8 | packet[5]); }
Ipv4Options left_with(uint16_t id) { return {.ttl = 63, .id = id, .fragment = 0}; }

class Ipv4Id : public LabEach {
 protected:
  // What left for the Internet since the last call.
  Bytes left() {
    const std::vector<Hop> out = come_out();
    EXPECT_EQ(out.size(), 1u);
    EXPECT_TRUE(out.empty() || out[0].place == kInternet);
    return out.empty() ? Bytes(28) : out[0].packet;
  }
};
INSTANTIATE_TEST_SUITE_P(Each, Ipv4Id, testing::ValuesIn(kKinds), kind_name);

// Both send the same id to the same host all the time.
TEST_P(Ipv4Id, R7857_10_TwoSubscribersNeverShareAnId) {
  std::map<uint32_t, Endpoint> external;
  for (const uint32_t slot : {1u, 2u}) {
    external[slot] = map(GetParam(), at(inner(slot), 1025), kService, slot);
  }
  std::set<uint16_t> ids;
  constexpr unsigned kPackets = 20'000;
  for (unsigned i = 0; i < kPackets; ++i) {
    const uint32_t slot = 1 + i % 2;
    give_in(inside(request(GetParam(), at(inner(slot), 1025), kService, kMayFragment), slot));
    const Bytes packet = left();
    const uint16_t id = id_of(packet);
    ASSERT_EQ(packet, request(GetParam(), external[slot], kService, left_with(id)));
    ASSERT_TRUE(ids.insert(id).second) << "after " << i;
  }
}

TEST_P(Ipv4Id, R7857_10_APacketThatNobodyMayFragmentKeepsItsOwn) {
  const Endpoint external = map(GetParam(), kApplication);
  for (const uint16_t id : std::initializer_list<uint16_t>{0, 1, 0x1234, 0xffff}) {
    play({"atomic", 1, inside(request(GetParam(), kApplication, kService, {.id = id})),
          {internet(request(GetParam(), external, kService, {.ttl = 63, .id = id}))}});
  }
}

// The fragments of two datagrams, of two subscribers and with one id, come mixed; whoever puts them
// together by their new ids has both.
TEST_P(Ipv4Id, R7857_10_FragmentsOfADatagramShareTheirNewId) {
  std::map<uint32_t, Bytes> whole;
  std::map<uint32_t, Bytes> expected;
  for (const uint32_t slot : {1u, 2u}) {
    const Endpoint internal = at(inner(slot), 1025);
    const Endpoint external = map(GetParam(), internal, kService, slot);
    whole[slot] = request(GetParam(), internal, kService);
    expected[slot] = request(GetParam(), external, kService);
  }
  const auto piece = [&](uint32_t slot, bool is_first) {
    const auto payload = std::span(whole[slot]).subspan(20);
    return ipv4_packet(inner(slot), kServer, whole[slot][9],
                       is_first ? payload.first(24) : payload.subspan(24),
                       {.fragment = is_first ? kIpMoreFragments : uint16_t{3}});
  };
  std::map<uint16_t, Bytes> joined;
  for (const auto& [slot, is_first] : {std::pair{1u, true}, {2u, true}, {2u, false}, {1u, false}}) {
    give_in(inside(piece(slot, is_first), slot));
    const Bytes packet = left();
    Bytes& body = joined[id_of(packet)];
    body.insert(body.end(), packet.begin() + 20, packet.end());
  }
  std::set<Bytes> bodies;
  for (const auto& [id, body] : joined) bodies.insert(body);
  EXPECT_EQ(bodies, (std::set<Bytes>{Bytes(expected[1].begin() + 20, expected[1].end()),
                                     Bytes(expected[2].begin() + 20, expected[2].end())}));
}

// An error quotes the id that we gave; the inner host knows its packet by addresses and ports.
TEST_P(Ipv4Id, R7857_10_ErrorsAboutARenumberedPacketComeBack) {
  const Endpoint external = map(GetParam(), kApplication);
  give_in(inside(request(GetParam(), kApplication, kService, kMayFragment)));
  const Bytes packet = left();
  play({"host unreachable", 1, internet(icmp_packet(kSomeRouter, kGateway, 3, 1, 0, packet)),
        {inside(icmp_packet(kSomeRouter, kInner, 3, 1, 0,
                            request(GetParam(), kApplication, kService, left_with(id_of(packet))),
                            kForwarded))}});
  EXPECT_EQ(external.address, kGateway);
}

using Ids = Ipv4Id;
INSTANTIATE_TEST_SUITE_P(Udp, Ids, testing::Values(Kind::udp), kind_name);

TEST_P(Ids, R7857_10_ErrorsFromInsideAndHairpinnedPacketsAreNumberedToo) {
  const Endpoint one = map(Kind::udp, at(inner(1), 1025));
  const Endpoint two = map(Kind::udp, at(inner(2), 1025), kService, 2);
  std::set<uint16_t> ids;
  for (unsigned i = 0; i < 100; ++i) {
    const Bytes got = udp_packet(kService, at(inner(1), 1025), payload_bytes(9), kForwarded);
    give_in(inside(icmp_packet(inner(1), kServer, 3, 3, 0, got, kMayFragment)));
    EXPECT_TRUE(ids.insert(id_of(left())).second);
  }
  ids.clear();
  for (unsigned i = 0; i < 100; ++i) {
    const uint32_t slot = 1 + i % 2;
    give_in(inside(request(Kind::udp, at(inner(slot), 1025), two, kMayFragment), slot));
    std::vector<Hop> out = come_out();
    ASSERT_EQ(out.size(), 1u);
    const Hop wanted = inside(request(Kind::udp, slot == 1 ? one : two, at(inner(2), 1025),
                                      left_with(id_of(out[0].packet))),
                              2);
    take_source(wanted, out[0]);
    EXPECT_EQ(out[0], wanted);
    EXPECT_TRUE(ids.insert(id_of(out[0].packet)).second);
  }
}

}  // namespace
}  // namespace adit::gateway::test
