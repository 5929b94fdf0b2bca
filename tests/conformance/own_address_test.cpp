// Addresses outside that are a subscriber's own: one to one with its inner address, or routed.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::udp_packet;
using adit::test::UdpChecksum;

const Bytes kHello = payload_bytes(33);
const Ipv4Address kOneToOne = Ipv4Address::from_octets(30, 1, 1, 20);       // of subscriber 2
const Ipv4Address kOtherOneToOne = Ipv4Address::from_octets(50, 7, 7, 7);   // of subscriber 4
const Ipv4Prefix kRouted = *Ipv4Prefix::parse("30.1.1.64/29");              // of subscriber 3
const Ipv4Address kRoutedHost = Ipv4Address::from_octets(30, 1, 1, 66);
const Endpoint kHost = at(Ipv4Address::from_octets(192, 168, 1, 11), 1025);  // subscriber 2 inside
const Endpoint kOutside = at(kOneToOne, 1025);                               // and outside
const Endpoint kRoutedEnd = at(kRoutedHost, 1025);

class OwnAddresses : public Lab {
 protected:
  explicit OwnAddresses(RigOptions options = {}) : Lab(with_addresses(std::move(options))) {}

  void extend_open(ToWorker& open) override {
    if (open.slot == 2) open.external_address = kOneToOne;
    if (open.slot == 4) open.external_address = kOtherOneToOne;
    if (open.slot != 3) return;
    open.prefix_count = open.routed_count = 1;
    open.prefixes[0] = kRouted;
  }

  void expect_no_state() {
    EXPECT_EQ(nat_counts().mappings_created, 0u);
    EXPECT_EQ(portless_live(), 0u);
    EXPECT_EQ(fragmented_datagrams(), 0u);
  }
  std::vector<Row> from_other_clients();
  void expect_unreachable_without_tunnel(const Endpoint& from, uint32_t slot);

 private:
  static RigOptions with_addresses(RigOptions options) {
    options.outer = {kRouted, {kOneToOne, 32}, {kOtherOneToOne, 32}};
    return options;
  }
};

TEST_F(OwnAddresses, Ours_g_OneToOneEveryPortAndProtocolBothWays) {
  for (const Kind kind : kKinds) {
    play({{"out", 1, inside(request(kind, kHost, kService), 2),
           {internet(request(kind, kOutside, kService, kForwarded))}},
          {"back", 1, internet(reply(kind, kService, kOutside)),
           {inside(reply(kind, kService, kHost, kForwarded), 2)}},
          {"unasked", 1, internet(request(kind, kElsewhere, at(kOneToOne, 9))),
           {inside(request(kind, kElsewhere, at(kHost.address, 9), kForwarded), 2)}},
          {"answered", 1, inside(reply(kind, at(kHost.address, 9), kElsewhere), 2),
           {internet(reply(kind, at(kOneToOne, 9), kElsewhere, kForwarded))}}});
  }
  for (const uint8_t protocol : {kIpEsp, kIpGre, kIpSctp, IpProtocol{253}}) {
    play({{"out without ports", 1, inside(ipv4_packet(kHost.address, kServer, protocol, kHello), 2),
           {internet(ipv4_packet(kOneToOne, kServer, protocol, kHello, kForwarded))}},
          {"in without ports", 1, internet(ipv4_packet(kServer, kOneToOne, protocol, kHello)),
           {inside(ipv4_packet(kServer, kHost.address, protocol, kHello, kForwarded), 2)}}});
  }
  expect_no_state();
}

TEST_F(OwnAddresses, Ours_g_OneToOneLeavesAnAbsentUdpChecksumAbsent) {
  play({{"out", 1, inside(udp_packet(kHost, kService, kHello, {}, UdpChecksum::absent), 2),
         {internet(udp_packet(kOutside, kService, kHello, kForwarded, UdpChecksum::absent))}},
        {"in", 1, internet(udp_packet(kService, kOutside, kHello, {}, UdpChecksum::absent)),
         {inside(udp_packet(kService, kHost, kHello, kForwarded, UdpChecksum::absent), 2)}}});
}

TEST_F(OwnAddresses, Ours_g_OneToOneTranslatesIcmpErrorsWithTheirQuotes) {
  far(2);
  const adit::test::Ipv4Options last{.ttl = 1};
  for (const Kind kind : kKinds) {
    const Bytes quoted_out = request(kind, kOutside, kService, last);
    const Bytes quoted_in = request(kind, kService, kHost, kForwarded);
    play({{"from a router", 1, internet(icmp_packet(kSomeRouter, kOneToOne, 11, 0, 0, quoted_out)),
           {inside(icmp_packet(kSomeRouter, kHost.address, 11, 0, 0,
                               request(kind, kHost, kService, last), kForwarded), 2)}},
          {"from the host", 1,
           inside(icmp_packet(kHost.address, kServer, 3, 3, 0, quoted_in), 2),
           {internet(icmp_packet(kOneToOne, kServer, 3, 3, 0,
                                 request(kind, kService, kOutside, kForwarded), kForwarded))}}});
  }
  const auto esp = [](Ipv4Address from) { return ipv4_packet(from, kServer, kIpEsp, kHello); };
  play({"about ESP", 1, internet(icmp_packet(kSomeRouter, kOneToOne, 3, 1, 0, esp(kOneToOne))),
        {inside(icmp_packet(kSomeRouter, kHost.address, 3, 1, 0, esp(kHost.address), kForwarded),
                2)}});
  Bytes bad = icmp_packet(kSomeRouter, kOneToOne, 3, 1, 0, esp(kOneToOne));
  bad.back() ^= 1;
  play({{"about nothing of its own", 1,
         internet(icmp_packet(kSomeRouter, kOneToOne, 3, 1, 0, esp(kGateway))), {},
         Fate::icmp_no_mapping},
        {"about nothing that it was sent", 1,
         inside(icmp_packet(kHost.address, kServer, 3, 3, 0,
                            request(Kind::udp, kService, at(kInner, 5))), 2), {},
         Fate::icmp_no_mapping},
        {"damaged", 1, internet(bad), {}, Fate::icmp_bad_checksum}});
}

// The two fragments of a datagram, the second first. Its checksum stands in the first one.
std::vector<Bytes> fragments_of(const Endpoint& from, const Endpoint& to, uint8_t ttl = 64) {
  const Bytes whole = udp_packet(from, to, payload_bytes(80));
  const std::span<const uint8_t> datagram{whole.data() + 20, whole.size() - 20};
  return {ipv4_packet(from.address, to.address, kIpUdp, datagram.subspan(48),
                      {.ttl = ttl, .fragment = 48 / 8}),
          ipv4_packet(from.address, to.address, kIpUdp, datagram.first(48),
                      {.ttl = ttl, .fragment = 0x2000})};
}

TEST_F(OwnAddresses, Ours_g_FragmentsPassEachByItself) {
  for (unsigned i = 0; i < 2; ++i) {
    play({{"one to one, out", 1, inside(fragments_of(kHost, kService)[i], 2),
           {internet(fragments_of(kOutside, kService, 63)[i])}},
          {"one to one, in", 1, internet(fragments_of(kService, kOutside)[i]),
           {inside(fragments_of(kService, kHost, 63)[i], 2)}},
          {"routed, out", 1, inside(fragments_of(kRoutedEnd, kService)[i], 3),
           {internet(fragments_of(kRoutedEnd, kService, 63)[i])}},
          {"routed, in", 1, internet(fragments_of(kService, kRoutedEnd)[i]),
           {inside(fragments_of(kService, kRoutedEnd, 63)[i], 3)}},
          {"from the one to the other", 1, inside(fragments_of(kHost, kRoutedEnd)[i], 2),
           {inside(fragments_of(kOutside, kRoutedEnd, 63)[i], 3)}}});
  }
  expect_no_state();
}

TEST_F(OwnAddresses, Ours_g_RoutedAddressesAreNotTranslated) {
  for (const Kind kind : kKinds) {
    play({{"out", 1, inside(request(kind, kRoutedEnd, kService), 3),
           {internet(request(kind, kRoutedEnd, kService, kForwarded))}},
          {"back", 1, internet(reply(kind, kService, kRoutedEnd)),
           {inside(reply(kind, kService, kRoutedEnd, kForwarded), 3)}},
          {"unasked", 1, internet(request(kind, kElsewhere, kRoutedEnd)),
           {inside(request(kind, kElsewhere, kRoutedEnd, kForwarded), 3)}}});
  }
  const Bytes quote = request(Kind::udp, kRoutedEnd, kService, {.ttl = 1});
  play({{"ESP", 1, inside(ipv4_packet(kRoutedHost, kServer, kIpEsp, kHello), 3),
         {internet(ipv4_packet(kRoutedHost, kServer, kIpEsp, kHello, kForwarded))}},
        {"an ICMP error", 1, internet(icmp_packet(kSomeRouter, kRoutedHost, 11, 0, 0, quote)),
         {inside(icmp_packet(kSomeRouter, kRoutedHost, 11, 0, 0, quote, kForwarded), 3)}}});
  expect_no_state();
  EXPECT_EQ(map(Kind::udp, at(inner(3), 1025), kService, 3).address, kGateway);
}

std::vector<Row> OwnAddresses::from_other_clients() {
  for (uint32_t slot = 1; slot <= 4; ++slot) far(slot);
  std::vector<Row> rows;
  for (const Kind kind : kKinds) {
    const Endpoint external = map(kind, kApplication);
    const Row of_kind[] = {
        {"to one to one", 1, inside(request(kind, kApplication, at(kOneToOne, 9))),
         {inside(request(kind, external, at(kHost.address, 9), kForwarded), 2)}},
        {"its answer", 1, inside(reply(kind, at(kHost.address, 9), external), 2),
         {inside(reply(kind, at(kOneToOne, 9), kApplication, kForwarded))}},
        {"to routed", 1, inside(request(kind, kApplication, kRoutedEnd)),
         {inside(request(kind, external, kRoutedEnd, kForwarded), 3)}},
        {"its answer", 1, inside(reply(kind, kRoutedEnd, external), 3),
         {inside(reply(kind, kRoutedEnd, kApplication, kForwarded))}},
        {"between two", 1, inside(request(kind, kHost, at(kOtherOneToOne, 9)), 2),
         {inside(request(kind, kOutside, at(inner(4), 9), kForwarded), 4)}},
        {"and another kind", 1, inside(request(kind, kRoutedEnd, kOutside), 3),
         {inside(request(kind, kRoutedEnd, kHost, kForwarded), 2)}},
        {"to itself", 1, inside(request(kind, kHost, at(kOneToOne, 9)), 2),
         {inside(request(kind, kOutside, at(kHost.address, 9), kForwarded), 2)}}};
    rows.insert(rows.end(), std::begin(of_kind), std::end(of_kind));
  }
  const auto gre = [](Ipv4Address from, Ipv4Address to, uint8_t ttl) {
    return ipv4_packet(from, to, kIpGre, kHello, {.ttl = ttl});
  };
  rows.push_back({"without ports", 1, inside(gre(kInner, kOneToOne, 64)),
                  {inside(gre(kGateway, kHost.address, 63), 2)}});
  rows.push_back({"its answer", 1, inside(gre(kHost.address, kGateway, 64), 2),
                  {inside(gre(kOneToOne, kInner, 63))}});
  return rows;
}
TEST_F(OwnAddresses, Ours_g_OtherClientsReachThem) { play(from_anybody(from_other_clients())); }
TEST_F(OwnAddresses, R4787_9a_R5382_8a_OtherClientsComeFromTheirExternalEndpoints) {
  play(from_other_clients());
}

TEST_F(OwnAddresses, Ours_g_IcmpErrorsFollowHairpinnedPacketsBack) {
  for (uint32_t slot = 1; slot <= 3; ++slot) far(slot);
  const Endpoint external = map(Kind::udp, kApplication);
  const Endpoint target = at(kHost.address, 9);
  const Bytes delivered = request(Kind::udp, external, target, kForwarded);
  const Bytes sent = request(Kind::udp, kApplication, at(kOneToOne, 9), kForwarded);
  play({"from the host behind", 1,
        inside(icmp_packet(kHost.address, kGateway, 3, 3, 0, delivered), 2),
        {inside(icmp_packet(kOneToOne, kInner, 3, 3, 0, sent, kForwarded))}});
}

TEST_F(OwnAddresses, Ours_g_TheGatewayAnswersItsOwnPing) {
  const auto query = [](Ipv4Address from, Ipv4Address to, uint8_t type) {
    return icmp_query(from, to, type, 7, 1, kHello);
  };
  play({{"from one to one", 1, inside(query(kHost.address, kGateway, kIcmpEchoRequest), 2),
         {inside(query(kGateway, kHost.address, kIcmpEchoReply), 2)}},
        {"from routed", 1, inside(query(kRoutedHost, kGateway, kIcmpEchoRequest), 3),
         {inside(query(kGateway, kRoutedHost, kIcmpEchoReply), 3)}}});
}

TEST_F(OwnAddresses, Ours_g_NobodyElseMayHaveThem) {
  far(2);
  far(3);
  for (const Ipv4Address address : {kOneToOne, kRoutedHost}) {
    play({{"another client", 1, inside(request(Kind::udp, at(address, 5), kService)), {},
           Fate::spoofed_source},
          {"from outside", 1, internet(request(Kind::udp, at(address, 5), kOutside)), {},
           Fate::bad_source}});
  }
  play({{"beside the prefix", 1,
         inside(request(Kind::udp, at(Ipv4Address::from_octets(30, 1, 1, 72), 5), kService), 3), {},
         Fate::spoofed_source},
        {"a loop", 1, inside(request(Kind::udp, kRoutedEnd, at(kRouted.address, 5)), 3), {},
         Fate::tunnel_to_itself}});
}

// `from`, an endpoint of the tunnel `slot`, is told, and so is somebody outside.
void OwnAddresses::expect_unreachable_without_tunnel(const Endpoint& from, uint32_t slot) {
  far(slot);
  for (const Endpoint& to : {kOutside, kRoutedEnd}) {
    const auto from_outside = request(Kind::udp, kElsewhere, to);
    const auto from_inside = request(Kind::udp, from, to);
    for (const bool opened : {false, true}) {
      if (opened) {
        for (const uint32_t owner : {2, 3}) {
          far(owner);
          close(owner);
        }
      }
      play({{"from outside", 1, internet(from_outside),
             {internet(icmp_packet(kGateway, kElsewhere.address, 3, 1, 0, from_outside,
                                   kErrorHeader))},
             Fate::no_tunnel},
            {"from inside", 1, inside(from_inside, slot),
             {inside(icmp_packet(kGateway, from.address, 3, 1, 0,
                                 request(Kind::udp, from, to, kForwarded), kErrorHeader),
                     slot)},
             Fate::no_tunnel}});
    }
  }
}
TEST_F(OwnAddresses, Ours_g_WithoutItsTunnelTheHostIsUnreachable) {
  expect_unreachable_without_tunnel(at(inner(4), 9), 4);
}
TEST_F(OwnAddresses, R4787_9a_UnreachableFindsTheExternalEndpointItComesFrom) {
  expect_unreachable_without_tunnel(kApplication, 1);
}

TEST_F(OwnAddresses, Ours_g_TtlAndSizeAreARouters) {
  far(2);
  const Bytes last_hop = udp_packet(kService, kOutside, kHello, {.ttl = 1});
  const Bytes large = udp_packet(kService, kOutside, payload_bytes(1420));
  const Bytes last_hop_out = udp_packet(kHost, kService, kHello, {.ttl = 1});
  play({{"TTL 1 in", 1, internet(last_hop),
         {internet(icmp_packet(kGateway, kServer, 11, 0, 0, last_hop, kErrorHeader))},
         Fate::ttl_exceeded},
        {"TTL 1 out", 1, inside(last_hop_out, 2),
         {inside(icmp_packet(kRouter, kHost.address, 11, 0, 0, last_hop_out, kErrorHeader), 2)},
         Fate::ttl_exceeded},
        {"too large for the tunnel", 1, internet(large),
         {internet(icmp_packet(kGateway, kServer, 3, 4, 1440, {large.data(), 548}, kErrorHeader))},
         Fate::too_big}});
}

class OwnAddressesFiltered : public OwnAddresses {
 protected:
  OwnAddressesFiltered()
      : OwnAddresses({.nat = {.profiles = {{.hairpin = false, .filtering = kStrict}}}}) {}
};

TEST_F(OwnAddressesFiltered, Ours_g_FilteringIsForMappingsAndHairpinForAll) {
  far(2);
  far(3);
  for (const Kind kind : kKinds) {
    play({{"unasked to one to one", 1, internet(request(kind, kElsewhere, kOutside)),
           {inside(request(kind, kElsewhere, kHost, kForwarded), 2)}},
          {"unasked to routed", 1, internet(request(kind, kElsewhere, kRoutedEnd)),
           {inside(request(kind, kElsewhere, kRoutedEnd, kForwarded), 3)}},
          {"from a client", 1, inside(request(kind, kApplication, kOutside)), {}, Fate::hairpin},
          {"from the routed one", 1, inside(request(kind, kRoutedEnd, kOutside), 3), {},
           Fate::hairpin},
          {"to a shared address", 1, inside(request(kind, kRoutedEnd, at(kGateway, 2000)), 3), {},
           Fate::hairpin}});
  }
}

}  // namespace
}  // namespace adit::gateway::test
