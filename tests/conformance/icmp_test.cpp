// RFC 5508: queries, and errors that quote what they are about.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::payload_bytes;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);

class Icmp : public Lab {};

Bytes with_byte(Bytes packet, size_t where, uint8_t value) {
  packet[where] = value;
  return packet;
}

// ---- Queries ----

TEST_F(Icmp, R5508_1_EchoAndTimestampCrossBothWays) {
  struct Query {
    uint8_t request, reply;
  };
  for (const auto& [request, reply] : {Query{8, 0}, Query{13, 14}}) {
    const Endpoint external = map(Kind::icmp, at(kInner, 0x77));
    const uint16_t id = external.port.host();
    play({{"request", 1, inside(icmp_query(kInner, kServer, request, 0x77, 5, kHello)),
           {internet(icmp_query(kGateway, kServer, request, id, 5, kHello, kForwarded))}},
          {"reply", 1, internet(icmp_query(kServer, kGateway, reply, id, 5, kHello)),
           {inside(icmp_query(kServer, kInner, reply, 0x77, 5, kHello, kForwarded))}}});
  }
}

// ---- Errors: what stands in them ----

// An error about a UDP packet of kApplication's to kService, as it comes from outside, and as it
// has to arrive; parts of the quote to be chosen.
class Quoted : public Icmp {
 protected:
  Endpoint external_;
  void SetUp() override { external_ = map(Kind::udp, kApplication); }
  Bytes from_outside(const Bytes& quote, uint8_t type = 3, uint8_t code = 1, uint32_t rest = 0) {
    return icmp_packet(kSomeRouter, kGateway, type, code, rest, quote);
  }
  Bytes arrived(const Bytes& quote, uint8_t type = 3, uint8_t code = 1, uint32_t rest = 0) {
    return icmp_packet(kSomeRouter, kInner, type, code, rest, quote, kForwarded);
  }
  Bytes sent_out() { return udp_packet(external_, kService, kHello, kForwarded); }
  Bytes by_host() { return udp_packet(kApplication, kService, kHello, kForwarded); }
  Bytes delivered() { return udp_packet(kService, kApplication, kHello, kForwarded); }
};

TEST_F(Quoted, R5508_3_WrongChecksumIsDropped) {
  play({{"from outside", 1, internet(with_byte(from_outside(sent_out()), 22, 1)), {},
         Fate::icmp_bad_checksum},
        {"from inside", 1,
         inside(with_byte(icmp_packet(kInner, kServer, 3, 1, 0, delivered()), 22, 1)), {},
         Fate::icmp_bad_checksum}});
}

TEST_F(Quoted, R5508_3a_WrongChecksumOfTheQuotedHeaderIsDropped) {
  play({{"from outside", 1, internet(from_outside(with_byte(sent_out(), 8, 9))), {},
         Fate::icmp_bad_quote},
        {"from inside", 1,
         inside(icmp_packet(kInner, kServer, 3, 1, 0, with_byte(delivered(), 8, 9))), {},
         Fate::icmp_bad_quote}});
}

TEST_F(Quoted, R5508_3b_OptionsOfEveryLengthAreSkipped) {
  for (size_t length = 4; length <= 40; length += 4) {
    const adit::test::Ipv4Options ip{.ttl = 63, .options = Bytes(length, 1)};
    play({{"from outside", 1, internet(from_outside(udp_packet(external_, kService, kHello, ip))),
           {inside(arrived(udp_packet(kApplication, kService, kHello, ip)))}},
          {"from inside", 1,
           inside(icmp_packet(kInner, kServer, 3, 1, 0,
                              udp_packet(kService, kApplication, kHello, ip))),
           {internet(icmp_packet(kGateway, kServer, 3, 1, 0,
                                 udp_packet(kService, external_, kHello, ip), kForwarded))}}});
  }
}

TEST_F(Quoted, R5508_3c_QuotedTransportChecksumNeedNotBeRight) {
  // Wrong by as much before as behind: what is incremental keeps an error, and repairs none. The
  // quote's last byte is under that checksum, and changed in both.
  const size_t last = sent_out().size() - 1;
  play({"from outside", 1, internet(from_outside(with_byte(sent_out(), last, 0x5a))),
        {inside(arrived(with_byte(by_host(), last, 0x5a)))}});
}

TEST_F(Quoted, R5508_3d_ExtensionsPassUnharmed) {
  // RFC 4884 §4: the quote padded to 128 bytes, its length in words, then the extensions: here
  // an MPLS label (RFC 4950) with the structure's own checksum.
  const uint32_t rest = 32u << 16;
  Bytes extension = {0x20, 0, 0, 0, 0, 8, 1, 1, 0, 0x40, 0x11, 0xff};
  const uint16_t sum = adit::test::plain_checksum(extension);
  extension[2] = static_cast<uint8_t>(sum >> 8);
  extension[3] = static_cast<uint8_t>(sum);
  const auto extended = [&](Bytes quote) {
    quote.resize(128);
    quote.insert(quote.end(), extension.begin(), extension.end());
    return quote;
  };
  play({"time exceeded", 1, internet(from_outside(extended(sent_out()), 11, 0, rest)),
        {inside(arrived(extended(by_host()), 11, 0, rest))}});
}

TEST_F(Quoted, R5508_4_FromOutsideTypeAndCodeAreKept) {
  struct Error {
    uint8_t type, code;
    uint32_t rest;
  };
  for (const auto& [type, code, rest] :
       {Error{3, 0, 0}, Error{3, 4, 1300}, Error{3, 13, 0}, Error{11, 0, 0}, Error{11, 1, 0},
        Error{12, 0, 0x14000000}}) {
    play({"an error", 1, internet(from_outside(sent_out(), type, code, rest)),
          {inside(arrived(by_host(), type, code, rest))}});
  }
}

TEST_F(Quoted, R5508_4_FromOutsideWithoutMappingIsDropped) {
  const Bytes of_nobody =
      udp_packet(at(kGateway, external_.port.host() ^ 1u), kService, kHello, kForwarded);
  play({{"a port of nobody", 1, internet(from_outside(of_nobody)), {}, Fate::icmp_no_mapping},
        {"not about a packet of the address it is sent to", 1,
         internet(from_outside(udp_packet(at(kServer, 9), kService, kHello))), {},
         Fate::icmp_no_mapping}});
}

TEST_F(Quoted, R5508_4_FromOutsideWhenTheMappingHasEndedIsDropped) {
  play({"too late", 301, internet(from_outside(sent_out())), {}, Fate::icmp_no_mapping});
}

TEST_F(Quoted, R5508_4_R5508_5_AboutQueriesToo) {
  const Endpoint echo = map(Kind::icmp, at(kInner, 0x77));
  const Bytes sent = request(Kind::icmp, echo, kService, kForwarded);
  play({{"from outside", 1, internet(from_outside(sent)),
         {inside(arrived(request(Kind::icmp, at(kInner, 0x77), kService, kForwarded)))}},
        {"from inside", 1,
         inside(icmp_packet(kInner, kServer, 3, 1, 0,
                            reply(Kind::icmp, kService, at(kInner, 0x77), kForwarded))),
         {internet(icmp_packet(kGateway, kServer, 3, 1, 0,
                               reply(Kind::icmp, kService, echo, kForwarded), kForwarded))}}});
}

TEST_F(Quoted, R5508_5_FromInsideSourceAndQuoteAreRewritten) {
  const Bytes as_sent = udp_packet(kService, external_, kHello, kForwarded);
  const Bytes of_nobody = udp_packet(kService, at(kInner, 9), kHello, kForwarded);
  play({{"port unreachable", 1, inside(icmp_packet(kInner, kServer, 3, 3, 0, delivered())),
         {internet(icmp_packet(kGateway, kServer, 3, 3, 0, as_sent, kForwarded))}},
        {"time exceeded", 1, inside(icmp_packet(kInner, kServer, 11, 0, 0, delivered())),
         {internet(icmp_packet(kGateway, kServer, 11, 0, 0, as_sent, kForwarded))}},
        {"about a packet that nobody delivered", 1,
         inside(icmp_packet(kInner, kServer, 3, 3, 0, of_nobody)), {}, Fate::icmp_no_mapping}});
}

// A router on the client's LAN has no mapping; the error is about a host that has.
TEST_F(Icmp, R5508_5c_RouterInsideSpeaksWithTheGatewaysAddress) {
  const Endpoint host = at(Ipv4Address::from_octets(10, 20, 3, 4), 1025);
  const Ipv4Address router = Ipv4Address::from_octets(10, 20, 0, 1);
  ours_only("networks behind a subscriber");
  far(1);
  Tunnel& tunnel = tunnels_->at(1);
  tunnel.prefix_count = 1;
  tunnel.open->prefixes[0] = *Ipv4Prefix::parse("10.20.0.0/16");
  const Endpoint external = map(Kind::udp, host);
  const uint64_t mappings = nat_counts().mappings_created;
  play({"host unreachable", 1,
        inside(icmp_packet(router, kServer, 3, 1, 0,
                           udp_packet(kService, host, kHello, kForwarded))),
        {internet(icmp_packet(kGateway, kServer, 3, 1, 0,
                              udp_packet(kService, external, kHello, kForwarded), kForwarded))}});
  EXPECT_EQ(nat_counts().mappings_created, mappings) << "it makes no mapping either";
}

TEST_F(Quoted, R5508_6_ErrorsFromInsideRefreshNothing) {
  const Bytes as_sent = udp_packet(kService, external_, kHello, kForwarded);
  play({{"late", 300, inside(icmp_packet(kInner, kServer, 3, 3, 0, delivered())),
         {internet(icmp_packet(kGateway, kServer, 3, 3, 0, as_sent, kForwarded))}},
        {"too late", 301, internet(reply(Kind::udp, kService, external_)), {}, Fate::no_mapping}});
}

// ---- The gateway's own messages ----

class OneMapping : public Lab {
 protected:
  OneMapping() : Lab({.nat = {.profiles = {{.limits = {.mappings = 1}}}}}) {}
};

TEST_F(OneMapping, R5508_8_PacketForWhichNoStateMayBeMadeIsAnswered) {
  map(Kind::udp, kApplication);
  for (const Kind kind : kKinds) {
    play({"no mapping for it", 1, inside(request(kind, at(kInner, 4000), kService)),
          {inside(icmp_packet(kRouter, kInner, 3, 13, 0,
                              request(kind, at(kInner, 4000), kService, kForwarded),
                              kErrorHeader))},
          Fate::mapping_limit});
  }
}

TEST_F(Icmp, R5508_10_TimeExceededBothWays) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes out = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  const Bytes in = udp_packet(kService, external, kHello, {.ttl = 1});
  play({{"outbound", 1, inside(out),
         {inside(icmp_packet(kRouter, kInner, 11, 0, 0, out, kErrorHeader))}, Fate::ttl_exceeded},
        {"inbound", 1, internet(in),
         {internet(icmp_packet(kGateway, kServer, 11, 0, 0, in, kErrorHeader))},
         Fate::ttl_exceeded}});
}

TEST_F(Icmp, R5508_10_OwnAddressesAnswerEchoRequests) {
  const adit::test::Ipv4Options ip{.fragment = 0};
  play({{"from outside", 1, internet(icmp_query(kServer, kGateway, 8, 7, 8, kHello, ip)),
         {internet(icmp_query(kGateway, kServer, 0, 7, 8, kHello, ip))}},
        {"from inside", 1, inside(icmp_query(kInner, kRouter, 8, 7, 8, kHello, ip)),
         {inside(icmp_query(kRouter, kInner, 0, 7, 8, kHello, ip))}}});
}

// ---- Policy about them ----

class SilentInside : public Lab {
 protected:
  SilentInside()
      : Lab({.icmp_errors = {.to_clients = false},
             .nat = {.profiles = {{.limits = {.mappings = 1}}}}}) {}
};

TEST_F(SilentInside, R5508_9_ClientsAreToldNothingAndTheDropKeepsItsName) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes in = udp_packet(kService, external, kHello, {.ttl = 1});
  play({{"at a limit", 1, inside(request(Kind::udp, at(kInner, 4000), kService)), {},
         Fate::mapping_limit},
        {"TTL 1", 1, inside(udp_packet(kApplication, kService, kHello, {.ttl = 1})), {},
         Fate::ttl_exceeded},
        {"the Internet is told", 1, internet(in),
         {internet(icmp_packet(kGateway, kServer, 11, 0, 0, in, kErrorHeader))},
         Fate::ttl_exceeded},
        {"errors of others pass", 1,
         internet(icmp_packet(kSomeRouter, kGateway, 3, 1, 0,
                              udp_packet(external, kService, kHello, kForwarded))),
         {inside(icmp_packet(kSomeRouter, kInner, 3, 1, 0,
                             udp_packet(kApplication, kService, kHello, kForwarded),
                             kForwarded))}}});
  EXPECT_EQ(counters_.icmp_errors_suppressed, 2u);
}

class SilentOutside : public Lab {
 protected:
  SilentOutside() : Lab({.icmp_errors = {.to_internet = false}}) {}
};

TEST_F(SilentOutside, R5508_9_TheInternetIsToldNothingAndTheDropKeepsItsName) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes out = udp_packet(kApplication, kService, kHello, {.ttl = 1});
  play({{"TTL 1", 1, internet(udp_packet(kService, external, kHello, {.ttl = 1})), {},
         Fate::ttl_exceeded},
        {"clients are told", 1, inside(out),
         {inside(icmp_packet(kRouter, kInner, 11, 0, 0, out, kErrorHeader))}, Fate::ttl_exceeded},
        {"a SYN that nobody asked for", 1,
         internet(adit::test::tcp_packet(kService, at(kGateway, 5555), {}, {.flags = kTcpSyn})),
         {}, Fate::unsolicited_syn}});
  set_time(10);
  sweep();
  EXPECT_EQ(come_out(), std::vector<Hop>{});
  EXPECT_EQ(counters_.icmp_errors_suppressed, 2u);
}

class FiveErrorsATunnel : public Lab {
 protected:
  FiveErrorsATunnel()
      : Lab({.icmp_errors = {.per_second = 7, .per_tunnel_per_second = 5}, .workers = 1}) {}
  Row told(uint64_t at_s, uint32_t slot) {
    const Bytes out = udp_packet(at(inner(slot), 9), kService, kHello, {.ttl = 1});
    return {"told", at_s, inside(out, slot),
            {inside(icmp_packet(kRouter, inner(slot), 11, 0, 0, out, kErrorHeader), slot)},
            Fate::ttl_exceeded};
  }
  Row not_told(uint64_t at_s, uint32_t slot) {
    Row row = told(at_s, slot);
    row.out.clear();
    return row;
  }
};

TEST_F(FiveErrorsATunnel, R5508_9_RatesAreAsConfigured) {
  for (unsigned i = 0; i < 5; ++i) play(told(1, 1));
  play({not_told(1, 1), told(1, 2), told(1, 2), not_told(1, 2), told(2, 1), told(2, 2)});
}

TEST_F(Icmp, R5508_11_OtherMessagesAreDroppedAndMakeNoState) {
  for (const uint8_t type : {uint8_t{1}, uint8_t{9}, uint8_t{10}, uint8_t{15}, uint8_t{17},
                             uint8_t{18}, uint8_t{30}, uint8_t{40}, uint8_t{255}}) {
    play({{"from inside", 1, inside(icmp_packet(kInner, kServer, type, 0, 1, kHello)), {},
           Fate::icmp_unsupported},
          {"from outside", 1, internet(icmp_packet(kServer, kGateway, type, 0, 1, kHello)), {},
           Fate::icmp_unsupported}});
  }
  play({"a reply to nothing, from inside", 1,
        inside(icmp_query(kInner, kServer, 0, 1, 1, kHello)), {}, Fate::icmp_unsupported});
  if (is_ours()) {
    EXPECT_EQ(nat_counts().mappings_created, 0u);
  }
}

}  // namespace
}  // namespace adit::gateway::test
