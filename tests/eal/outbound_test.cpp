// From a tunnel to the Internet, byte for byte. Expected packets are built from scratch.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);

class Outbound : public Rig {};

class OutboundEach : public Rig, public testing::WithParamInterface<Protection> {
 protected:
  // As the client would send it in this session.
  Bytes wrap(FarEnd& far, const Bytes& inner) {
    return GetParam() == Protection::plain ? far.plain(inner) : far.seal(inner);
  }
};

TEST_P(OutboundEach, UdpLeavesFromAnExternalEndpointWithTtlOneLess) {
  FarEnd far = open_tunnel(1, GetParam());
  receive_from(far, wrap(far, udp_packet(kApplication, kService, kHello)));
  const Bytes out = sent_one(0);
  ASSERT_GE(out.size(), 22u);
  const Endpoint external{kGateway, Be16::from_host(static_cast<uint16_t>(out[20] << 8 | out[21]))};
  EXPECT_GE(external.port.host(), 1024);
  EXPECT_NE(external.port.host(), 8000);
  EXPECT_EQ(out, udp_packet(external, kService, kHello, {.ttl = 63}));
}

TEST_P(OutboundEach, TcpAndIcmpQueriesTooAndTheSameEndpointKeepsItsMapping) {
  FarEnd far = open_tunnel(1, GetParam());
  receive_from(far, wrap(far, tcp_packet(kApplication, kService, kHello)));
  Bytes out = sent_one(0);
  const Endpoint external{kGateway, Be16::from_host(static_cast<uint16_t>(out[20] << 8 | out[21]))};
  EXPECT_EQ(out, tcp_packet(external, kService, kHello, {}, {.ttl = 63}));

  const Endpoint elsewhere{Ipv4Address::from_octets(50, 1, 1, 1), Be16::from_host(80)};
  receive_from(far, wrap(far, tcp_packet(kApplication, elsewhere, kHello)));
  EXPECT_EQ(sent_one(0), tcp_packet(external, elsewhere, kHello, {}, {.ttl = 63}))
      << "mapping is endpoint-independent";

  receive_from(far, wrap(far, icmp_query(kInner, kServer, 8, 0x77, 1, kHello)));
  out = sent_one(0);
  const auto id = static_cast<uint16_t>(out[24] << 8 | out[25]);
  EXPECT_EQ(out, icmp_query(kGateway, kServer, 8, id, 1, kHello, {.ttl = 63}));
  EXPECT_EQ(nat_counts().mappings_live, 2u);
}

INSTANTIATE_TEST_SUITE_P(Protections, OutboundEach,
                         testing::Values(Protection::plain, Protection::aes_256_gcm,
                                         Protection::chacha20_poly1305));

TEST_F(Outbound, AbsentUdpChecksumStaysAbsent) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(udp_packet(kApplication, kService, kHello, {},
                                        adit::test::UdpChecksum::absent)));
  const Bytes out = sent_one(0);
  EXPECT_EQ(out[26], 0);
  EXPECT_EQ(out[27], 0);
}

TEST_F(Outbound, TunnelsHaveMappingsOfTheirOwn) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  Endpoint second = kApplication;
  second.address = Ipv4Address::from_octets(192, 168, 1, 11);
  EXPECT_NE(external_of(one, udp_packet(kApplication, kService, kHello)),
            external_of(two, udp_packet(second, kService, kHello)));
}

TEST_F(Outbound, PacketThatLooksLikeATunnelPacketIsData) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint other_gateway{kServer, Be16::from_host(8000)};
  const Bytes inside = far.seal_at(udp_packet(kApplication, kService, kHello), 1000);
  receive_from(far, far.seal(udp_packet(kApplication, other_gateway, inside)));
  const Bytes out = sent_one(0);
  EXPECT_EQ(Bytes(out.begin() + 28, out.end()), inside);
}

TEST_F(Outbound, TtlOneComesBackAsTimeExceededFromTheRouter) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes packet = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  receive_from(far, far.seal(packet));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(kRouter, kInner, kIcmpTimeExceeded, 0, 0, packet, kErrorHeader));
  EXPECT_EQ(drops(Fate::ttl_exceeded), 1u);
}

TEST_F(Outbound, IcmpErrorsAreRateLimited) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes packet = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  for (int i = 0; i < 50; ++i) receive_from(far, far.seal(packet));
  EXPECT_EQ(sent(0).size(), 20u);
  now_ns_ += tunnel::kSecondNs;
  receive_from(far, far.seal(packet));
  EXPECT_EQ(sent(0).size(), 1u);
  EXPECT_EQ(counters_.icmp_errors_suppressed, 30u);
}

TEST_F(Outbound, RouterAnswersPings) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(icmp_query(kInner, kRouter, 8, 5, 6, kHello)));
  const auto reply = far.open(sent_to_tunnel(far.outer));
  ASSERT_TRUE(reply);
  EXPECT_EQ((*reply)[20], kIcmpEchoReply);
  EXPECT_EQ(*reply, icmp_query(kRouter, kInner, 0, 5, 6, kHello,
                               {.id = static_cast<uint16_t>((*reply)[4] << 8 | (*reply)[5]),
                                .fragment = static_cast<uint16_t>((*reply)[6] << 8)}));
}

TEST_F(Outbound, MssOfASynIsClampedToTheTunnelsMtu) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  TcpOptions syn{.flags = kTcpSyn, .options = {2, 4, 1460 >> 8, 1460 & 255}};
  receive_from(far, far.seal(tcp_packet(kApplication, kService, {}, syn)));
  const Bytes out = sent_one(0);
  const Endpoint external{kGateway, Be16::from_host(static_cast<uint16_t>(out[20] << 8 | out[21]))};
  syn.options = {2, 4, 1400 >> 8, 1400 & 255};
  EXPECT_EQ(out, tcp_packet(external, kService, {}, syn, {.ttl = 63}));
  EXPECT_EQ(counters_.mss_clamped, 1u);
}

TEST_F(Outbound, IcmpErrorFromInsideIsTranslatedWithItsQuote) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  // The inner host refuses what it received: it quotes the packet as it came to it.
  const Bytes received = udp_packet(kService, kApplication, kHello, {.ttl = 60});
  receive_from(far, far.seal(icmp_packet(kInner, kServer, 3, 3, 0, received)));
  const Bytes quoted = udp_packet(kService, external, kHello, {.ttl = 60});
  EXPECT_EQ(sent_one(0), icmp_packet(kGateway, kServer, 3, 3, 0, quoted, {.ttl = 63}));
}

TEST_F(Outbound, AtAQuotaTheNewMappingIsRefusedAndTheClientTold) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint old = external_of(far, udp_packet(kApplication, kService, kHello));
  const uint16_t burst = 1000;  // nat::Limits
  for (uint16_t i = 0; i < burst; ++i) {
    Endpoint internal = kApplication;
    internal.port = Be16::from_host(static_cast<uint16_t>(2000 + i));
    receive_from(far, far.seal(udp_packet(internal, kService, kHello)));
    sent_frames(0);
  }
  EXPECT_GT(drops(Fate::rate_limited) + drops(Fate::port_limit), 0u);
  now_ns_ += 2 * tunnel::kSecondNs;
  EXPECT_EQ(external_of(far, udp_packet(kApplication, kService, kHello)), old)
      << "what exists goes on";
}

struct DropRow {
  const char* description;
  Fate reason;
  Bytes inner;
};

class OutboundDrop : public Rig, public testing::WithParamInterface<DropRow> {};

TEST_P(OutboundDrop, UnderItsOwnName) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(GetParam().inner));
  expect_only_drop(GetParam().reason);
  EXPECT_EQ(nat_counts().mappings_created, 0u) << "no state is made";
}

Bytes with_byte(Bytes packet, size_t at, uint8_t value) {
  packet[at] = value;
  return packet;
}
Endpoint to(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return {Ipv4Address::from_octets(a, b, c, d), Be16::from_host(6600)};
}
const Endpoint kSpoofed{Ipv4Address::from_octets(192, 168, 1, 99), Be16::from_host(1025)};
const Bytes kGood = udp_packet(kApplication, kService, kHello);

INSTANTIATE_TEST_SUITE_P(
    Rows, OutboundDrop,
    testing::Values(
        DropRow{"version 6 inside", Fate::unknown_inner, with_byte(kGood, 0, 0x65)},
        DropRow{"header of 16 bytes", Fate::inner_bad_length, with_byte(kGood, 0, 0x44)},
        DropRow{"total length above what is there", Fate::inner_truncated, with_byte(kGood, 2, 9)},
        DropRow{"header checksum", Fate::inner_bad_checksum, with_byte(kGood, 8, 9)},
        DropRow{"UDP length above the packet", Fate::inner_bad_transport, with_byte(kGood, 24, 9)},
        DropRow{"not this tunnel's source", Fate::spoofed_source,
                udp_packet(kSpoofed, kService, kHello)},
        DropRow{
            "to clients' DHCP port", Fate::rogue_dhcp,
            udp_packet(kApplication,
                       {Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(68)}, kHello)},
        DropRow{
            "a ping to the router with a wrong checksum", Fate::icmp_bad_checksum,
            with_byte(icmp_query(kInner, Ipv4Address::from_octets(192, 168, 1, 1), 8, 1, 1, kHello),
                      22, 1)},
        DropRow{"to a multicast group", Fate::bad_destination,
                udp_packet(kApplication, to(224, 0, 0, 9), kHello)},
        DropRow{"to broadcast", Fate::bad_destination,
                udp_packet(kApplication, to(255, 255, 255, 255), kHello)},
        DropRow{"to loopback", Fate::bad_destination,
                udp_packet(kApplication, to(127, 0, 0, 1), kHello)},
        DropRow{"to the router, and no ping", Fate::to_router,
                udp_packet(kApplication, to(192, 168, 1, 1), kHello)},
        DropRow{"to another tunnel", Fate::tunnel_to_tunnel,
                udp_packet(kApplication, to(192, 168, 1, 11), kHello)},
        DropRow{"an echo reply nobody asked for", Fate::icmp_unsupported,
                icmp_query(kInner, kServer, 0, 1, 1, kHello)},
        DropRow{"an error about nothing we delivered", Fate::icmp_no_mapping,
                icmp_packet(kInner, kServer, 3, 3, 0, udp_packet(kService, kApplication, kHello))},
        DropRow{"an error that quotes too little", Fate::icmp_bad_quote,
                icmp_packet(kInner, kServer, 3, 3, 0, payload_bytes(12))},
        DropRow{"an error with a wrong checksum", Fate::icmp_bad_checksum,
                with_byte(icmp_packet(kInner, kServer, 3, 3, 0, kGood), 22, 1)}),
    [](const auto& row) { return row_name(row.param.description); });

// With a public port of a smaller MTU than the tunnel's.
class OutboundNarrow : public Rig {
 protected:
  OutboundNarrow() : Rig({.mtu_bytes = 1000}) {}
};

TEST_F(OutboundNarrow, TooBigWithDfIsAnsweredWithThePortsMtu) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes big = udp_packet(kApplication, kService, payload_bytes(1001 - 28));
  receive_from(far, far.seal(big));
  const Bytes quoted(big.begin(), big.begin() + 548);
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(kRouter, kInner, 3, 4, 1000, quoted, kErrorHeader));
  EXPECT_EQ(drops(Fate::too_big), 1u);
}

class OutboundVlan : public Rig {
 protected:
  OutboundVlan() : Rig({.vlan = 42}) {}
};

TEST_F(OutboundVlan, TagsWhatItSendsAndTakesOnlyItsOwnTag) {
  FarEnd far = open_tunnel(1, Protection::plain);
  external_of(far, udp_packet(kApplication, kService, kHello));  // checks the tag
  Bytes frame(14 + 4 + 20, 0);
  std::copy(kOurMac.bytes.begin(), kOurMac.bytes.end(), frame.begin());
  frame[12] = 0x81;
  frame[15] = 43;
  frame[16] = 0x08;
  receive_frame(0, frame);
  expect_only_drop(Fate::wrong_vlan);
}

class OutboundTwoPorts : public TwoPortRig {};

TEST_F(OutboundTwoPorts, LeavesByThePublicPort) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  EXPECT_EQ(external.address, kPublic);
  EXPECT_TRUE(sent(0).empty());
}

TEST_F(OutboundTwoPorts, TunnelPacketsAreTakenFromTheUplinkOnly) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive(1, udp_packet(kClientOuter, kTunnelEndpoint, far.seal(kGood)));
  expect_only_drop(Fate::not_our_address);
}

}  // namespace
}  // namespace adit::gateway::test
