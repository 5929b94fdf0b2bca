// Who is reached without a mapping that traffic makes, and where: networks exempt from translation
// and hosts outside with inner addresses.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);

Ipv4Prefix prefix(const char* text) { return *Ipv4Prefix::parse(text); }

// The server's network is exempt; kElsewhere is not.
class Exempt : public Lab {
 protected:
  Exempt() : Lab({.exempt = {prefix("10.9.0.0/16"), prefix("40.1.1.0/24")}}) {}
};

TEST_F(Exempt, R6888_6_ItSeesInnerAddressesAndReachesThem) {
  far(2);
  for (const Kind kind : kKinds) {
    play({{"out", 1, inside(request(kind, kApplication, kService)),
           {internet(request(kind, kApplication, kService, kForwarded))}},
          {"back", 1, internet(reply(kind, kService, kApplication)),
           {inside(reply(kind, kService, kApplication, kForwarded))}},
          {"unasked, to another client", 1, internet(request(kind, kService, at(inner(2), 99))),
           {inside(request(kind, kService, at(inner(2), 99), kForwarded), 2)}}});
  }
  for (const uint8_t protocol : {kIpEsp, kIpGre, kIpSctp}) {
    play({{"out without ports", 1, inside(ipv4_packet(kInner, kServer, protocol, kHello)),
           {internet(ipv4_packet(kInner, kServer, protocol, kHello, kForwarded))}},
          {"in without ports", 1, internet(ipv4_packet(kServer, kInner, protocol, kHello)),
           {inside(ipv4_packet(kServer, kInner, protocol, kHello, kForwarded))}}});
  }
  EXPECT_EQ(nat_counts().mappings_created, 0u);
  EXPECT_EQ(portless_live(), 0u);
}

TEST_F(Exempt, R6888_6_EverybodyElseIsTranslated) {
  for (const Kind kind : kKinds) {
    const Endpoint external = map(kind, kApplication, kElsewhere);
    EXPECT_EQ(external.address, kGateway);
    play({{"its answer", 1, internet(reply(kind, kElsewhere, external)),
           {inside(reply(kind, kElsewhere, kApplication, kForwarded))}},
          {"to the inner address", 1, internet(reply(kind, kElsewhere, kApplication)), {},
           Fate::not_our_address},
          {"exempt, but to the external endpoint", 1, internet(reply(kind, kService, external)),
           {inside(reply(kind, kService, kApplication, kForwarded))}},
          {"the same endpoint to an exempt destination", 1,
           inside(request(kind, kApplication, kService)),
           {internet(request(kind, kApplication, kService, kForwarded))}}});
  }
}

TEST_F(Exempt, R6888_6_IcmpErrorsPassWithTheirQuotes) {
  far(1);
  const Bytes out = request(Kind::udp, kApplication, kService, {.ttl = 1});
  const Bytes in = request(Kind::udp, kService, kApplication, kForwarded);
  const Ipv4Address router = Ipv4Address::from_octets(10, 9, 0, 1);
  play({{"from a router there", 1, internet(icmp_packet(router, kInner, 11, 0, 0, out)),
         {inside(icmp_packet(router, kInner, 11, 0, 0, out, kForwarded))}},
        {"from the client", 1, inside(icmp_packet(kInner, kServer, 3, 3, 0, in)),
         {internet(icmp_packet(kInner, kServer, 3, 3, 0, in, kForwarded))}}});
}

// Each by itself, in any order.
TEST_F(Exempt, R6888_6_FragmentsPass) {
  const Bytes piece = payload_bytes(64);
  for (const uint16_t fragment : std::initializer_list<uint16_t>{0x0010, 0x2008, 0x2000}) {
    const auto packet = [&](Ipv4Address from, Ipv4Address to, uint8_t ttl) {
      return ipv4_packet(from, to, kIpUdp, piece, {.ttl = ttl, .fragment = fragment});
    };
    play({{"out", 1, inside(packet(kInner, kServer, 64)), {internet(packet(kInner, kServer, 63))}},
          {"in", 1, internet(packet(kServer, kInner, 64)),
           {inside(packet(kServer, kInner, 63))}}});
  }
  EXPECT_EQ(fragmented_datagrams(), 0u);
}

TEST_F(Exempt, R6888_6_TtlSizeAndMssAreARouters) {
  const Bytes last_hop_out = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  const Bytes last_hop_in = udp_packet(kService, kApplication, kHello, {.ttl = 1});
  const Bytes large = udp_packet(kService, kApplication, payload_bytes(1420));
  const auto syn = [](uint16_t mss) {
    return adit::test::TcpOptions{
        .flags = kTcpSyn,
        .options = {2, 4, static_cast<uint8_t>(mss >> 8), static_cast<uint8_t>(mss)}};
  };
  play({{"TTL 1 out", 1, inside(last_hop_out),
         {inside(icmp_packet(kRouter, kInner, 11, 0, 0, last_hop_out, kErrorHeader))},
         Fate::ttl_exceeded},
        {"TTL 1 in", 1, internet(last_hop_in),
         {internet(icmp_packet(kGateway, kServer, 11, 0, 0, last_hop_in, kErrorHeader))},
         Fate::ttl_exceeded},
        {"too large for the tunnel", 1, internet(large),
         {internet(icmp_packet(kGateway, kServer, 3, 4, 1440,
                               {large.data(), 548}, kErrorHeader))},
         Fate::too_big},
        {"MSS out", 1, inside(tcp_packet(kApplication, kService, {}, syn(1460))),
         {internet(tcp_packet(kApplication, kService, {}, syn(1400), kForwarded))}},
        {"MSS in", 1, internet(tcp_packet(kService, kApplication, {}, syn(1460))),
         {inside(tcp_packet(kService, kApplication, {}, syn(1400), kForwarded))}}});
}

TEST_F(Exempt, R6888_6_SourcesAreCheckedAsEver) {
  far(2);
  play({{"another's address", 1, inside(request(Kind::udp, at(inner(2), 5), kService)), {},
         Fate::spoofed_source},
        {"an address that nobody has", 1, internet(request(Kind::udp, kService, at(inner(3), 5))),
         {}, Fate::not_our_address}});
  close(2);
  play({"an address that nobody has any more", 1,
        internet(request(Kind::udp, kService, at(inner(2), 5))), {}, Fate::not_our_address});
}

// Exempt is everything: then only what is the gateway's own counts as inside.
class ExemptAll : public Lab {
 protected:
  ExemptAll() : Lab({.exempt = {prefix("0.0.0.0/0")}}) {}
};

TEST_F(ExemptAll, R6888_6_WhatIsInsideStaysInside) {
  far(2);
  const Endpoint second = at(inner(2), 5);
  play({{"elsewhere", 1, inside(request(Kind::udp, kApplication, kElsewhere)),
         {internet(request(Kind::udp, kApplication, kElsewhere, kForwarded))}},
        {"to another client", 1, inside(request(Kind::udp, kApplication, second)), {},
         Fate::tunnel_to_tunnel},
        {"to our own address inside", 1, inside(request(Kind::udp, kApplication, at(kRouter, 5))),
         {}, Fate::to_router},
        {"from outside, as another client", 1, internet(request(Kind::udp, second, kApplication)),
         {}, Fate::bad_source},
        {"from outside, as ourselves", 1,
         internet(request(Kind::udp, at(kGateway, 5), kApplication)), {}, Fate::bad_source}});
}

// ---- Hosts outside with addresses of the clients' own networks ----

const Endpoint kTwin = at(Ipv4Address::from_octets(192, 168, 1, 11), 80);  // the second client's
const Endpoint kUnleased = at(Ipv4Address::from_octets(192, 168, 1, 99), 80);

class Overlapping : public Lab, public testing::WithParamInterface<bool> {
 protected:
  Overlapping() : Lab({.tunnel_to_tunnel = GetParam(), .inner_networks_outside = true}) {}

  void expect_talk(const Endpoint& client, uint32_t slot, const Endpoint& remote) {
    for (const Kind kind : kKinds) {
      const Endpoint external = map(kind, client, remote, slot);
      EXPECT_EQ(external.address, kGateway);
      play({"its answer", 1, internet(reply(kind, remote, external)),
            {inside(reply(kind, remote, client, kForwarded), slot)}});
    }
  }
};
INSTANTIATE_TEST_SUITE_P(TunnelToTunnel, Overlapping, testing::Bool());

TEST_P(Overlapping, R4787_7_InnerHostTalksToAnOuterOneWithAnAddressOfItsNetwork) {
  expect_talk(kApplication, 1, kUnleased);
}

TEST_P(Overlapping, R4787_7_TwoHostsOfOneAddressInsideAndOutside) {
  far(2);
  const Endpoint second = at(inner(2), 1025);
  if (!GetParam()) {
    expect_talk(kApplication, 1, kTwin);         // the host outside, not the second client
    expect_talk(second, 2, at(kInner, 80));      // and the other way round
    return;
  }
  // Where clients reach one another, the client has the address, and nobody outside may claim it.
  const Endpoint external = map(Kind::udp, kApplication);
  play({{"to the client", 1, inside(request(Kind::udp, kApplication, kTwin)),
         {inside(request(Kind::udp, kApplication, kTwin, kForwarded), 2)}},
        {"from outside", 1, internet(reply(Kind::udp, kTwin, external)), {}, Fate::bad_source}});
}

TEST_P(Overlapping, R4787_7_SpoofProtectionStays) {
  far(2);
  const Endpoint external = map(Kind::udp, kApplication);
  play({{"a client with another's address", 1, inside(request(Kind::udp, kTwin, kService)), {},
         Fate::spoofed_source},
        {"a client with an unleased address", 1, inside(request(Kind::udp, kUnleased, kService)),
         {}, Fate::spoofed_source},
        {"our own address inside is ours", 1,
         inside(request(Kind::udp, kApplication, at(kRouter, 80))), {}, Fate::to_router},
        {"and nobody's outside", 1, internet(reply(Kind::udp, at(kRouter, 80), external)), {},
         Fate::bad_source}});
}

// Unless configured, such an address is nobody's outside.
TEST_F(Lab, R4787_7_OtherwiseInnerNetworksAreInsideOnly) {
  ours_only("policy");
  const Endpoint external = map(Kind::udp, kApplication);
  play({{"out", 1, inside(request(Kind::udp, kApplication, kUnleased)), {},
         Fate::tunnel_to_tunnel},
        {"in", 1, internet(reply(Kind::udp, kUnleased, external)), {}, Fate::bad_source}});
}

}  // namespace
}  // namespace adit::gateway::test
