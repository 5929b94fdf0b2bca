// RFC 4787, with what RFC 5382, 5508, 6888 and 7857 say in the same words: mapping, filtering,
// timers. Times in rows are seconds since the test began.
#include <set>
#include <tuple>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
const Endpoint kSecond = at(kInner, 1026);

// ---- Mapping ----

class Mapping : public LabEach {};
INSTANTIATE_TEST_SUITE_P(Kinds, Mapping, testing::ValuesIn(kKinds), kind_name);

TEST_P(Mapping, R4787_1_R5382_1_R5508_1a_IsTheSameForEveryRemote) {
  const Kind kind = GetParam();
  const Endpoint external = map(kind, kApplication);
  for (uint8_t i = 1; i <= 40; ++i) {
    const Endpoint remote = at(Ipv4Address::from_octets(50, 1, i, 1), 1000u + i % 3);
    EXPECT_EQ(map(kind, kApplication, remote), external);
    map(kind, at(kInner, 3000u + i), remote);  // others come and go between
  }
  if (is_ours()) {
    EXPECT_EQ(nat_counts().mappings_created, 41u);
  }
}

TEST_P(Mapping, R4787_3_R5382_7_IsNobodyElses) {
  const Kind kind = GetParam();
  std::set<std::tuple<uint32_t, uint16_t>> externals;
  for (uint32_t slot = 1; slot <= 5; ++slot) {
    for (unsigned port = 5000; port < 5150; ++port) {
      const Endpoint external = map(kind, at(inner(slot), port), kService, slot);
      EXPECT_TRUE(externals.emplace(external.address.host(), external.port.host()).second);
    }
  }
  EXPECT_EQ(externals.size(), 750u);
}

TEST_P(Mapping, R4787_3a_KeepsPortsAboveTheWellKnownOnes) {
  for (unsigned port = 1024; port < 65536; port += 1021) {
    const Endpoint external = map(GetParam(), at(kInner, port));
    EXPECT_GE(external.port.host(), 1024);
    EXPECT_NE(external.port.host(), 8000) << "the tunnel's own";
  }
}

class BigPool : public Lab {
 protected:
  BigPool()
      : Lab({.nat = {.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77),
                              Ipv4Address::from_octets(51, 7, 0, 3)}}}) {}
};

TEST_F(BigPool, R4787_2_R6888_2_R7857_4_SubscriberHasOneAddressInAllProtocols) {
  std::set<uint32_t> used;
  for (uint32_t slot = 1; slot <= 8; ++slot) {
    const Endpoint first = map(Kind::udp, at(inner(slot), 1025), kService, slot);
    used.insert(first.address.host());
    for (unsigned port = 2000; port < 2100; ++port) {
      const Kind kind = kKinds[port % 3];
      EXPECT_EQ(map(kind, at(inner(slot), port), kElsewhere, slot).address, first.address);
    }
  }
  EXPECT_GT(used.size(), 1u) << "one address is no choice";
}

// 64 ports an address, of which a subscriber's first two blocks take 48; a third would want all 64.
class TwoSmallAddresses : public Lab {
 protected:
  TwoSmallAddresses()
      : Lab({.nat = {.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77)},
                     .first_port = 2048,
                     .last_port = 2111,
                     .first_block_ports = 16}}) {}
};

TEST_F(TwoSmallAddresses, R4787_2_R6888_2_SubscriberStaysWhenItsAddressIsFull) {
  std::set<uint32_t> used;
  unsigned mapped = 0;
  for (unsigned port = 3000; port < 3100; ++port) {
    give_in(inside(request(Kind::udp, at(kInner, port), kService)));
    const std::vector<Hop> out = come_out();
    if (out.empty() || out[0].place != kInternet) continue;  // refused, and told so now and then
    const Bytes& packet = out[0].packet;
    used.insert(uint32_t{packet[12]} << 24 | packet[13] << 16 | packet[14] << 8 | packet[15]);
    ++mapped;
  }
  EXPECT_EQ(used.size(), 1u) << "the other address had room";
  EXPECT_LE(mapped, 48u);
  EXPECT_GT(mapped, 40u);
  EXPECT_EQ(drops(Fate::port_limit), 100u - mapped);
}

TEST_F(Lab, R7857_5_OneInternalPortHasAMappingOfEachProtocol) {
  std::map<Kind, Endpoint> external;
  for (const Kind kind : kKinds) external[kind] = map(kind, kApplication);
  for (const Kind kind : kKinds) {
    play({"an answer", 1, internet(reply(kind, kService, external[kind])),
          {inside(reply(kind, kService, kApplication, kForwarded))}});
  }
  if (is_ours()) {
    EXPECT_EQ(nat_counts().mappings_created, 3u);
  }
}

TEST_F(Lab, R7857_5_MappingsOfProtocolsEndIndependently) {
  std::map<Kind, Endpoint> external;
  for (const Kind kind : kKinds) external[kind] = map(kind, kApplication);
  // ICMP's runs out first, UDP's next: neither takes another along.
  play({{"ICMP's has ended", 61,
         internet(reply(Kind::icmp, kService, external[Kind::icmp])), {}, Fate::no_mapping},
        {"UDP's lives", 61, internet(reply(Kind::udp, kService, external[Kind::udp])),
         {inside(reply(Kind::udp, kService, kApplication, kForwarded))}},
        {"TCP's lives", 61, internet(reply(Kind::tcp, kService, external[Kind::tcp])),
         {inside(reply(Kind::tcp, kService, kApplication, kForwarded))}}});
}

// ---- Filtering ----

class Filtering : public LabEach {};
INSTANTIATE_TEST_SUITE_P(Kinds, Filtering, testing::ValuesIn(kKinds), kind_name);

TEST_P(Filtering, R4787_8_R5382_3_R6888_7_AnyRemoteMayUseAMapping) {
  const Kind kind = GetParam();
  const Endpoint external = map(kind, kApplication);
  for (const Endpoint& from : {kService, kElsewhere, at(kServer, 1)}) {
    play({"a packet from anybody", 1, internet(reply(kind, from, external)),
          {inside(reply(kind, from, kApplication, kForwarded))}});
  }
}

TEST_P(Filtering, R7857_6_MappingOfOneProtocolAdmitsNoOther) {
  const Endpoint external = map(GetParam(), kApplication);
  for (const Kind other : kKinds) {
    if (other == GetParam()) continue;
    play({"another protocol to the same number", 1, internet(reply(other, kService, external)), {},
          Fate::no_mapping});
  }
}

// ---- Timers ----

class Timers : public Lab {
 protected:
  Timers() = default;
  explicit Timers(const nat::Timeouts& timeouts)
      : Lab({.nat = {.profiles = {{.timeouts = timeouts}}}}) {}

  // Two mappings, since a packet that passes refreshes what it passed by.
  void expect_life(Kind kind, uint64_t seconds) {
    const Endpoint one = map(kind, kApplication);
    const Endpoint two = map(kind, kSecond);
    play({{"on its last second", seconds, internet(reply(kind, kService, one)),
           {inside(reply(kind, kService, kApplication, kForwarded))}},
          {"a second later", seconds + 1, internet(reply(kind, kService, two)), {},
           Fate::no_mapping}});
  }
};

TEST_F(Timers, R4787_5_R4787_5c_UdpLivesFiveMinutes) { expect_life(Kind::udp, 300); }
TEST_F(Timers, R5508_2_IcmpQueryLivesSixtySeconds) { expect_life(Kind::icmp, 60); }

class OtherTimers : public Timers {
 protected:
  OtherTimers() : Timers({.udp_s = 121, .icmp_s = 75}) {}
};

TEST_F(OtherTimers, R4787_5b_UdpLivesAsConfigured) { expect_life(Kind::udp, 121); }
TEST_F(OtherTimers, R5508_2a_IcmpQueryLivesAsConfigured) { expect_life(Kind::icmp, 75); }

const Endpoint kResolver = at(kServer, 53);

class DnsTimer : public Timers {
 protected:
  DnsTimer() : Timers({.dns_s = 10}) {}

  Hop answer(const Endpoint& external, const Endpoint& from) {
    return internet(reply(Kind::udp, from, external));
  }
  Hop arrived(const Endpoint& from) {
    return inside(reply(Kind::udp, from, kApplication, kForwarded));
  }
};

// REQ-5 lets a timer for well-known destination ports be shorter than two minutes.
TEST_F(DnsTimer, R4787_5b_MappingThatAskedPort53OnlyLivesAsConfigured) {
  const Endpoint external = map(Kind::udp, kApplication, kResolver);
  play({{"answered on its last second", 10, answer(external, kResolver), {arrived(kResolver)}},
        {"a stranger's packet makes it no ordinary one", 10, answer(external, kElsewhere),
         {arrived(kElsewhere)}},
        {"too late", 21, answer(external, kResolver), {}, Fate::no_mapping}});
}

TEST_F(DnsTimer, R4787_5_MappingThatSentElsewhereTooLivesFiveMinutes) {
  const Endpoint external = map(Kind::udp, kApplication, kResolver);
  set_time(10);
  EXPECT_EQ(map(Kind::udp, kApplication, kElsewhere), external);
  EXPECT_EQ(map(Kind::udp, kApplication, kResolver), external);
  play({{"on its last second", 310, answer(external, kResolver), {arrived(kResolver)}},
        {"a second too late", 611, answer(external, kResolver), {}, Fate::no_mapping}});
  // The port is at rest; its endpoint gets it back and begins a new life.
  EXPECT_EQ(map(Kind::udp, kApplication, kResolver), external);
  play({"the next life's short timer", 622, answer(external, kResolver), {}, Fate::no_mapping});
}

TEST_F(DnsTimer, R4787_5_R5382_5_OtherMappingsAreNotConcerned) {
  const Endpoint udp = map(Kind::udp, kApplication);
  const Endpoint tcp = map(Kind::tcp, kApplication, kResolver);
  play({{"UDP to another port", 240, answer(udp, kService), {arrived(kService)}},
        {"TCP to port 53", 240, internet(reply(Kind::tcp, kResolver, tcp)),
         {inside(reply(Kind::tcp, kResolver, kApplication, kForwarded))}}});
}

TEST_F(Timers, R4787_5_MappingToPort53LivesFiveMinutesUnlessConfigured) {
  const Endpoint external = map(Kind::udp, kApplication, kResolver);
  play({"on its last second", 300, internet(reply(Kind::udp, kResolver, external)),
        {inside(reply(Kind::udp, kResolver, kApplication, kForwarded))}});
}

TEST_F(Timers, R4787_6_OutboundPacketsRefresh) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Hop out = inside(request(Kind::udp, kApplication, kElsewhere));
  const Hop left = internet(request(Kind::udp, external, kElsewhere, kForwarded));
  const Hop in = internet(reply(Kind::udp, kService, external));
  const Hop arrived = inside(reply(Kind::udp, kService, kApplication, kForwarded));
  // Only what comes in shows it: what goes out gets its port back even from its rest.
  play({{"out, late", 299, out, {left}},
        {"in, as late", 599, in, {arrived}},
        {"out at the last second", 599, out, {left}},
        {"in at the last second", 899, in, {arrived}}});
}

TEST_F(Timers, R4787_6a_R7857_7_InboundPacketsRefresh) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Hop in = internet(reply(Kind::udp, kElsewhere, external));
  const Hop arrived = inside(reply(Kind::udp, kElsewhere, kApplication, kForwarded));
  play({{"in, late", 299, in, {arrived}},
        {"in, late again", 598, in, {arrived}},
        {"too late", 899, in, {}, Fate::no_mapping}});
}

TEST_F(Timers, R7857_7_ErrorsInReplyRefreshNothing) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes delivered = udp_packet(kElsewhere, kApplication, kHello, kForwarded);
  const Bytes quoted = udp_packet(kElsewhere, external, kHello, kForwarded);
  play({{"port unreachable, late", 299,
         inside(icmp_packet(kInner, kElsewhere.address, 3, 3, 0, delivered)),
         {internet(icmp_packet(kGateway, kElsewhere.address, 3, 3, 0, quoted, kForwarded))}},
        {"its time is over all the same", 301, internet(reply(Kind::udp, kElsewhere, external)), {},
         Fate::no_mapping}});
}

// ---- No application gateway ----

TEST_F(Lab, R4787_10_R5382_6_PayloadIsNobodysBusiness) {
  const std::string ftp = "PORT 192,168,1,10,4,1\r\n227 Entering (192,168,1,10,4,1)\r\n";
  const std::string sip = "INVITE sip:a@40.1.1.10 SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10:1025\r\n"
                          "c=IN IP4 192.168.1.10\r\n";
  Bytes text(ftp.begin(), ftp.end());
  text.insert(text.end(), sip.begin(), sip.end());
  text.insert(text.end(), {192, 168, 1, 10, 4, 1, 30, 1, 1, 10});
  const Endpoint udp = map(Kind::udp, kApplication);
  const Endpoint tcp = map(Kind::tcp, kApplication);
  for (const unsigned port : {21u, 53u, 69u, 554u, 1719u, 1720u, 1723u, 5060u}) {
    const Endpoint remote = at(kServer, port);
    play({{"UDP out", 1, inside(udp_packet(kApplication, remote, text)),
           {internet(udp_packet(udp, remote, text, kForwarded))}},
          {"UDP in", 1, internet(udp_packet(remote, udp, text)),
           {inside(udp_packet(remote, kApplication, text, kForwarded))}},
          {"TCP out", 1, inside(tcp_packet(kApplication, remote, text)),
           {internet(tcp_packet(tcp, remote, text, {}, kForwarded))}},
          {"TCP in", 1, internet(tcp_packet(remote, tcp, text)),
           {inside(tcp_packet(remote, kApplication, text, {}, kForwarded))}}});
  }
}

// ---- The same at all times ----

class SmallPool : public Lab {
 protected:
  SmallPool() : Lab({.nat = {.first_port = 2048, .last_port = 2063, .first_block_ports = 16}}) {}
};

TEST_F(SmallPool, R4787_11_FullTableChangesNothingForWhoIsThere) {
  const Endpoint external = map(Kind::udp, kApplication);
  const auto behaves = [&] {
    EXPECT_EQ(map(Kind::udp, kApplication, kElsewhere), external);
    play({"a stranger's packet", 1, internet(reply(Kind::udp, kElsewhere, external)),
          {inside(reply(Kind::udp, kElsewhere, kApplication, kForwarded))}});
  };
  behaves();
  std::set<uint16_t> ports{external.port.host()};
  for (unsigned i = 1; i < 16; ++i) {
    ports.insert(map(Kind::udp, at(kInner, 4000 + i)).port.host());
    behaves();
  }
  EXPECT_EQ(ports.size(), 16u);
  // One more finds no port. It is refused, not given somebody's.
  far(2);
  for (const auto& [slot, refusal] :
       {std::pair{1u, Fate::port_limit}, std::pair{2u, Fate::pool_exhausted}}) {
    const Bytes one_more = request(Kind::udp, at(inner(slot), 9999), kService);
    const Bytes quote = request(Kind::udp, at(inner(slot), 9999), kService, kForwarded);
    play({"one more", 1, inside(one_more, slot),
          {inside(icmp_packet(kRouter, inner(slot), 3, 13, 0, quote, kErrorHeader), slot)},
          refusal});
    behaves();
  }
}

TEST_F(Lab, R4787_11_SameInternalPortsOfManySubscribersAreNoConflict) {
  std::set<uint16_t> externals;
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    externals.insert(map(Kind::udp, at(inner(slot), 1025), kService, slot).port.host());
    EXPECT_EQ(map(Kind::udp, at(inner(slot), 1025), kElsewhere, slot).port.host(),
              map(Kind::udp, at(inner(slot), 1025), kService, slot).port.host());
  }
  EXPECT_EQ(externals.size(), size_t{kSubscribersMax});
}

// ---- ICMP about UDP ----

TEST_F(Lab, R4787_12_R5508_6_ErrorsEndNoMapping) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes sent_out = udp_packet(external, kService, kHello, kForwarded);
  const Bytes sent_by_host = udp_packet(kApplication, kService, kHello, kForwarded);
  for (uint8_t code = 0; code <= 15; ++code) {
    play({{"unreachable, any code", 1,
           internet(icmp_packet(kServer, kGateway, 3, code, 0, sent_out)),
           {inside(icmp_packet(kServer, kInner, 3, code, 0, sent_by_host, kForwarded))}},
          {"an answer all the same", 1, internet(reply(Kind::udp, kService, external)),
           {inside(reply(Kind::udp, kService, kApplication, kForwarded))}}});
  }
}

TEST_F(Lab, R4787_12_R5508_6_ErrorsNeitherEndNorRefreshAMapping) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes sent_out = udp_packet(external, kService, kHello, kForwarded);
  const Bytes sent_by_host = udp_packet(kApplication, kService, kHello, kForwarded);
  for (uint8_t code = 0; code <= 15; ++code) {
    play({{"unreachable, any code", 200,
           internet(icmp_packet(kServer, kGateway, 3, code, 0, sent_out)),
           {inside(icmp_packet(kServer, kInner, 3, code, 0, sent_by_host, kForwarded))}}});
  }
  play({{"still there", 290, internet(icmp_packet(kServer, kGateway, 3, 3, 0, sent_out)),
         {inside(icmp_packet(kServer, kInner, 3, 3, 0, sent_by_host, kForwarded))}},
        {"and no longer than without them", 310, internet(reply(Kind::udp, kService, external)), {},
         Fate::no_mapping}});
}

TEST_F(Lab, R4787_12a_R4787_12b_UnreachableCrossesBothWaysFromAnybody) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes sent_out = udp_packet(external, kService, kHello, kForwarded);
  const Bytes sent_by_host = udp_packet(kApplication, kService, kHello, kForwarded);
  const Bytes delivered = udp_packet(kService, kApplication, kHello, kForwarded);
  const Bytes as_sent = udp_packet(kService, external, kHello, kForwarded);
  play({{"from a router nobody wrote to", 1,
         internet(icmp_packet(kSomeRouter, kGateway, 3, 1, 0, sent_out)),
         {inside(icmp_packet(kSomeRouter, kInner, 3, 1, 0, sent_by_host, kForwarded))}},
        {"from the host itself", 1, internet(icmp_packet(kServer, kGateway, 3, 3, 0, sent_out)),
         {inside(icmp_packet(kServer, kInner, 3, 3, 0, sent_by_host, kForwarded))}},
        {"from inside", 1, inside(icmp_packet(kInner, kServer, 3, 3, 0, delivered)),
         {internet(icmp_packet(kGateway, kServer, 3, 3, 0, as_sent, kForwarded))}}});
}

// ---- Size ----

TEST_F(Lab, R4787_13_R5508_10_TooBigInboundIsAnsweredWithTheTunnelsMtu) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes fits = udp_packet(kService, external, payload_bytes(1440 - 28));
  const Bytes big = udp_packet(kService, external, payload_bytes(1441 - 28));
  const Bytes quote(big.begin(), big.begin() + 548);
  play({{"fits", 1, internet(fits),
         {inside(udp_packet(kService, kApplication, payload_bytes(1440 - 28), kForwarded))}},
        {"one byte more", 1, internet(big),
         {internet(icmp_packet(kGateway, kServer, 3, 4, 1440, quote, kErrorHeader))},
         Fate::too_big}});
}

class Narrow : public Lab {
 protected:
  Narrow() : Lab(1000) {}
};

TEST_F(Narrow, R4787_13_R5508_10_TooBigOutboundIsAnsweredWithThePortsMtu) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Bytes big = udp_packet(kApplication, kService, payload_bytes(1001 - 28));
  const Bytes quote(big.begin(), big.begin() + 548);
  play({{"fits", 1, inside(udp_packet(kApplication, kService, payload_bytes(1000 - 28))),
         {internet(udp_packet(external, kService, payload_bytes(1000 - 28), kForwarded))}},
        {"one byte more", 1, inside(big),
         {inside(icmp_packet(kRouter, kInner, 3, 4, 1000, quote, kErrorHeader))},
         Fate::too_big}});
}

}  // namespace
}  // namespace adit::gateway::test
