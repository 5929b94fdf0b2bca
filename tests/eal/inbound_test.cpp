// From the Internet into a tunnel, byte for byte. Expected packets are built from scratch.
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

class Inbound : public Rig {};
class InboundEach : public Rig, public testing::WithParamInterface<Protection> {};

TEST_P(InboundEach, ReplyReachesTheInternalEndpoint) {
  FarEnd far = open_tunnel(1, GetParam());
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  receive(0, udp_packet(kService, external, kHello));
  const Bytes payload = sent_to_tunnel(far.outer);
  EXPECT_EQ(payload.at(0), GetParam() == Protection::plain ? 5 : 4);
  EXPECT_EQ(far.open(payload), udp_packet(kService, kApplication, kHello, {.ttl = 63}));
}

TEST_P(InboundEach, TcpAndEchoRepliesToo) {
  FarEnd far = open_tunnel(1, GetParam());
  const TcpOptions syn{.flags = kTcpSyn};
  const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, syn));
  const TcpOptions syn_ack{.flags = kTcpSyn | kTcpAck};
  receive(0, tcp_packet(kService, external, {}, syn_ack));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            tcp_packet(kService, kApplication, {}, syn_ack, {.ttl = 63}));

  const Endpoint echo = external_of(far, icmp_query(kInner, kServer, 8, 0x77, 1, kHello));
  receive(0, icmp_query(kServer, kGateway, 0, echo.port.host(), 1, kHello));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_query(kServer, kInner, 0, 0x77, 1, kHello, {.ttl = 63}));
}

TEST_P(InboundEach, EverySizeUpToTheTunnelsMtuFits) {
  FarEnd far = open_tunnel(1, GetParam());
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  for (size_t size = 0; size <= 1440 - 28; size += 7) {
    const Bytes payload = payload_bytes(size);
    receive(0, udp_packet(kService, external, payload));
    ASSERT_EQ(far.open(sent_to_tunnel(far.outer)),
              udp_packet(kService, kApplication, payload, {.ttl = 63}))
        << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Protections, InboundEach,
                         testing::Values(Protection::plain, Protection::aes_256_gcm,
                                         Protection::chacha20_poly1305));

TEST_F(Inbound, AnyRemoteMayUseAMapping) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  const Endpoint stranger{Ipv4Address::from_octets(50, 1, 1, 1), Be16::from_host(53)};
  receive(0, udp_packet(stranger, external, kHello));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            udp_packet(stranger, kApplication, kHello, {.ttl = 63}))
      << "filtering is endpoint-independent by default";
}

TEST_F(Inbound, MappingEndsAfterItsTimeoutAndNotBefore) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  now_ns_ += 170 * tunnel::kSecondNs;  // the session lives for 180 s
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_EQ(sent(0).size(), 1u);
  now_ns_ += 301 * tunnel::kSecondNs;
  receive(0, udp_packet(kService, external, kHello));
  expect_only_drop(Fate::no_mapping);
}

TEST_F(Inbound, TooBigWithDfIsAnsweredWithTheTunnelsMtu) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  const Bytes big = udp_packet(kService, external, payload_bytes(1441 - 28));
  receive(0, big);
  const Bytes quoted(big.begin(), big.begin() + 548);
  EXPECT_EQ(sent_one(0),
            icmp_packet(kGateway, kServer, 3, 4, 1440, quoted, kErrorHeader));
  EXPECT_EQ(drops(Fate::too_big), 1u);
}

TEST_F(Inbound, TtlOneIsAnsweredWithTimeExceeded) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  const Bytes packet = udp_packet(kService, external, kHello, {.ttl = 1});
  receive(0, packet);
  EXPECT_EQ(sent_one(0),
            icmp_packet(kGateway, kServer, 11, 0, 0, packet, kErrorHeader));
  EXPECT_EQ(drops(Fate::ttl_exceeded), 1u);
}

TEST_F(Inbound, IcmpErrorIsTranslatedWithItsQuote) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  const Ipv4Address some_router = Ipv4Address::from_octets(50, 9, 9, 9);
  const Bytes sent_out = udp_packet(external, kService, kHello, {.ttl = 1});
  receive(0, icmp_packet(some_router, kGateway, 11, 0, 0, sent_out));
  const Bytes quoted = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(some_router, kInner, 11, 0, 0, quoted, {.ttl = 63}));
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_EQ(sent(0).size(), 1u) << "an error ends no mapping";
}

TEST_F(Inbound, MssOfASynAckIsClamped) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external =
      external_of(far, tcp_packet(kApplication, kService, {}, {.flags = kTcpSyn}));
  TcpOptions syn_ack{.flags = kTcpSyn | kTcpAck, .options = {2, 4, 1460 >> 8, 1460 & 255}};
  receive(0, tcp_packet(kService, external, {}, syn_ack));
  syn_ack.options = {2, 4, 1400 >> 8, 1400 & 255};
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            tcp_packet(kService, kApplication, {}, syn_ack, {.ttl = 63}));
}

TEST_F(Inbound, OwnAddressAnswersPings) {
  receive(0, icmp_query(kServer, kGateway, 8, 7, 8, kHello));
  const Bytes reply = sent_one(0);
  ASSERT_GE(reply.size(), 28u);
  EXPECT_EQ(reply, icmp_query(kGateway, kServer, 0, 7, 8, kHello,
                              {.id = static_cast<uint16_t>(reply[4] << 8 | reply[5]),
                               .fragment = static_cast<uint16_t>(reply[6] << 8)}));
}

TEST_F(Inbound, NothingGoesIntoATunnelWithoutASession) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  ToWorker drop;
  drop.kind = ToWorker::drop_sessions;
  drop.slot = 1;
  tell(drop);
  receive(0, udp_packet(kService, external, kHello));
  expect_only_drop(Fate::no_session);
}

TEST_F(Inbound, ClosedTunnelsMappingIsGone) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  tell(close);
  receive(0, udp_packet(kService, external, kHello));
  expect_only_drop(Fate::no_mapping);
}

struct DropRow {
  const char* description;
  Fate reason;
  Bytes packet;
};

class InboundDrop : public Rig, public testing::WithParamInterface<DropRow> {};

TEST_P(InboundDrop, UnderItsOwnName) {
  open_tunnel(1, Protection::aes_256_gcm);
  receive(0, GetParam().packet);
  expect_only_drop(GetParam().reason);
}

const Endpoint kNobody{kGateway, Be16::from_host(4444)};
Endpoint from(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return {Ipv4Address::from_octets(a, b, c, d), Be16::from_host(6600)};
}
Bytes with_byte(Bytes packet, size_t at, uint8_t value) {
  packet[at] = value;
  return packet;
}
const Bytes kUnwanted = udp_packet(kService, kNobody, kHello);

INSTANTIATE_TEST_SUITE_P(
    Rows, InboundDrop,
    testing::Values(
        DropRow{"to a port nobody has", Fate::no_mapping, kUnwanted},
        DropRow{"a reply to a ping nobody sent", Fate::no_mapping,
                icmp_query(kServer, kGateway, 0, 9, 9, kHello)},
        DropRow{"from our own address", Fate::bad_source,
                udp_packet(from(30, 1, 1, 10), kNobody, kHello)},
        DropRow{"a tunnel packet from our own address", Fate::bad_source,
                udp_packet(kNobody, kTunnelEndpoint, kHello)},
        DropRow{"a tunnel packet from broadcast", Fate::bad_source,
                udp_packet(from(255, 255, 255, 255), kTunnelEndpoint, kHello)},
        DropRow{"from a multicast group", Fate::bad_source,
                udp_packet(from(224, 0, 0, 1), kNobody, kHello)},
        DropRow{"from loopback", Fate::bad_source, udp_packet(from(127, 0, 0, 1), kNobody, kHello)},
        DropRow{"to an address that is not ours", Fate::not_our_address,
                udp_packet(kService, from(30, 1, 1, 11), kHello)},
        DropRow{"a first fragment to a port nobody has", Fate::no_mapping,
                tcp_packet(kService, kNobody, payload_bytes(36), {}, {.fragment = 0x2000})},
        DropRow{"cut short", Fate::ip_truncated, Bytes(kUnwanted.begin(), kUnwanted.end() - 1)},
        DropRow{"version 6", Fate::ip_bad_version, with_byte(kUnwanted, 0, 0x65)},
        DropRow{"header of 16 bytes", Fate::ip_bad_length, with_byte(kUnwanted, 0, 0x44)},
        DropRow{"header checksum", Fate::ip_bad_checksum, with_byte(kUnwanted, 8, 9)},
        DropRow{"UDP length", Fate::ip_bad_transport, with_byte(kUnwanted, 24, 9)},
        DropRow{"a protocol without ports that nobody uses", Fate::no_mapping,
                adit::test::ipv4_packet(kServer, kGateway, kIpGre, kHello)},
        DropRow{"an ICMP message we do not know", Fate::icmp_unsupported,
                icmp_packet(kServer, kGateway, 40, 0, 0, kHello)},
        DropRow{"an error about nothing we sent", Fate::icmp_no_mapping,
                icmp_packet(kServer, kGateway, 3, 1, 0, udp_packet(kNobody, kService, kHello))},
        DropRow{"an error that quotes too little", Fate::icmp_bad_quote,
                icmp_packet(kServer, kGateway, 3, 1, 0, payload_bytes(12))},
        DropRow{"an error with a wrong checksum", Fate::icmp_bad_checksum,
                with_byte(icmp_packet(kServer, kGateway, 3, 1, 0, kUnwanted), 22, 1)},
        DropRow{"a ping with a wrong checksum", Fate::icmp_bad_checksum,
                with_byte(icmp_query(kServer, kGateway, 8, 1, 1, kHello), 22, 1)}),
    [](const auto& row) { return row_name(row.param.description); });

class InboundTwoPorts : public TwoPortRig {};

TEST_F(InboundTwoPorts, ComesInByThePublicPortAndLeavesByTheUplink) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  receive(1, udp_packet(kService, external, kHello));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            udp_packet(kService, kApplication, kHello, {.ttl = 63}));
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_EQ(drops(Fate::not_our_address), 1u) << "not through the uplink";
}

TEST_F(InboundTwoPorts, UplinkAddressIsNoPoolAddress) {
  receive(0, udp_packet(kService, {kGateway, Be16::from_host(9)}, kHello));
  expect_only_drop(Fate::local_unhandled);
}

}  // namespace
}  // namespace adit::gateway::test
