// Which external port an endpoint gets, where the configuration asks for more than a free one: its
// parity, its side of 1024 (RFC 4787 REQ-3a, REQ-4), a range that follows from who asks (RFC 7422).
#include <set>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;

bool is_odd(const Endpoint& endpoint) { return endpoint.port.host() % 2 != 0; }
bool is_low(const Endpoint& endpoint) { return endpoint.port.host() < 1024; }

// ---- Parity ----

class Parity : public Lab, public testing::WithParamInterface<Kind> {
 protected:
  Parity() : Lab({.nat = {.profiles = {{.port_parity = true}}}}) {}
};
INSTANTIATE_TEST_SUITE_P(Kinds, Parity, testing::Values(Kind::udp, Kind::tcp), kind_name);

TEST_P(Parity, R4787_4_ExternalPortIsOddWhereTheInternalOneIs) {
  const Kind kind = GetParam();
  std::set<uint16_t> ports;
  for (uint32_t slot = 1; slot <= 4; ++slot) {
    for (unsigned port = 2000; port < 2100; ++port) {  // more than a first block has
      const Endpoint internal = at(inner(slot), port);
      const Endpoint external = map(kind, internal, kService, slot);
      EXPECT_EQ(is_odd(external), is_odd(internal));
      EXPECT_EQ(map(kind, internal, kElsewhere, slot), external);
      EXPECT_TRUE(ports.insert(external.port.host()).second);
    }
  }
}

TEST_P(Parity, R4787_4_R4787_11_IsKeptWhenPortsRunOut) {
  const Kind kind = GetParam();
  const auto life_s = kind == Kind::udp ? 301u : 241u;
  unsigned mapped = 0;
  for (unsigned port = 101; port < 3000; port += 2) {  // all odd: half of what there is
    give_in(inside(request(kind, at(kInner, port), kService)));
    const std::vector<Hop> out = come_out();
    ASSERT_EQ(out.size(), 1u);
    if (out[0].place != kInternet) break;
    EXPECT_EQ(out[0].packet[21] % 2, 1) << "the low byte of the source port";
    ++mapped;
  }
  EXPECT_GT(mapped, 300u);
  EXPECT_LE(mapped, 480u) << "half of the ports of four blocks";
  EXPECT_EQ(drops(Fate::port_limit), 1u);
  EXPECT_FALSE(is_odd(map(kind, at(kInner, 5000))));  // of the others there are enough
  set_time(life_s);
  EXPECT_TRUE(is_odd(map(kind, at(kInner, 101))));
}

class NoParity : public Lab {};
TEST_F(NoParity, R4787_4_IsNobodysBusinessUnlessConfigured) {
  ours_only("netfilter keeps the port itself where it can, and its parity with it");
  unsigned kept = 0;
  for (unsigned port = 2000; port < 2064; ++port) {
    kept += is_odd(map(Kind::udp, at(kInner, port))) == (port % 2 != 0);
  }
  EXPECT_GT(kept, 12u);
  EXPECT_LT(kept, 52u);
}

// ---- Ports below 1024 ----

class LowPorts : public Lab, public testing::WithParamInterface<Kind> {
 protected:
  LowPorts() : Lab({.nat = {.low_ports = 512, .first_low_port = 512}}) {}
  std::vector<Row> hairpin();
};
INSTANTIATE_TEST_SUITE_P(Kinds, LowPorts, testing::Values(Kind::udp, Kind::tcp), kind_name);

TEST_P(LowPorts, R4787_3a_BothSidesOf1024KeepToThemselves) {
  for (const unsigned port : {1u, 53u, 123u, 500u, 1022u, 1023u}) {
    EXPECT_TRUE(is_low(map(GetParam(), at(kInner, port)))) << port;
    EXPECT_GE(map(GetParam(), at(kInner, port)).port.host(), 512) << port;
  }
  for (const unsigned port : {1024u, 1025u, 4500u, 65535u}) {
    EXPECT_FALSE(is_low(map(GetParam(), at(kInner, port)))) << port;
  }
}

TEST_P(LowPorts, R4787_1_R4787_2_R4787_3_R4787_3a_LowPortsAreMappedAsAny) {
  const Kind kind = GetParam();
  std::set<uint16_t> ports;
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    const Endpoint internal = at(inner(slot), 500);
    const Endpoint external = map(kind, internal, kService, slot);
    EXPECT_EQ(external.address, map(kind, at(inner(slot), 1025), kService, slot).address);
    EXPECT_EQ(map(kind, internal, kElsewhere, slot), external);
    EXPECT_TRUE(ports.insert(external.port.host()).second);
    play({"anybody's answer", 0, internet(reply(kind, kElsewhere, external)),
          {inside(reply(kind, kElsewhere, internal, kForwarded), slot)}});
  }
}

// The subscribers of an address share them, even where their endpoints are equal.
TEST_P(LowPorts, R4787_3a_R6888_8_ReleasedLowPortRestsForItsOwnEndpoint) {
  const Kind kind = GetParam();
  const Endpoint external = map(kind, at(kInner, 500));
  const uint64_t over_s = (kind == Kind::udp ? 300 : 240) + 1;
  play({"its time is over", over_s, internet(reply(kind, kService, external)), {},
        Fate::no_mapping});
  set_time(over_s + 120);
  EXPECT_EQ(map(kind, at(kInner, 500)), external);
}

std::vector<Row> LowPorts::hairpin() {
  const Kind kind = GetParam();
  const Endpoint of_one = map(kind, at(inner(1), 500), kService, 1);
  const Endpoint of_two = map(kind, at(inner(2), 500), kService, 2);
  return {{"from one to the other", 0, inside(request(kind, at(inner(1), 500), of_two), 1),
           {inside(request(kind, of_one, at(inner(2), 500), kForwarded), 2)}}};
}
TEST_P(LowPorts, R4787_3a_R4787_9_HairpinReachesALowPort) { play(from_anybody(hairpin())); }
TEST_P(LowPorts, R4787_9a_R5382_8a_HairpinComesFromALowPort) { play(hairpin()); }

class FewLowPorts : public Lab {
 protected:
  FewLowPorts() : Lab({.nat = {.low_ports = 16, .first_low_port = 1008}}) {}

  Row refused(uint64_t at_s, const Endpoint& internal, uint32_t slot, Fate reason);
  void fill();

  std::map<uint32_t, Endpoint> external_;  // of each subscriber's port 500
};

Row FewLowPorts::refused(uint64_t at_s, const Endpoint& internal, uint32_t slot, Fate reason) {
  const Bytes quote = request(Kind::udp, internal, kService, kForwarded);
  return {"refused", at_s, inside(request(Kind::udp, internal, kService), slot),
          {inside(icmp_packet(kRouter, inner(slot), 3, 13, 0, quote, kErrorHeader), slot)},
          reason};
}

// An eighth is as much as one may have: two each of eight subscribers.
void FewLowPorts::fill() {
  far(9);
  for (uint32_t slot = 1; slot <= 8; ++slot) {
    external_[slot] = map(Kind::udp, at(inner(slot), 500), kService, slot);
    map(Kind::udp, at(inner(slot), 501), kService, slot);
  }
}

TEST_F(FewLowPorts, R4787_3a_R4787_11_R5508_8_FullRangeIsRefusedByItsOwnName) {
  fill();
  for (uint32_t slot = 1; slot <= 8; ++slot) {
    play(refused(1, at(inner(slot), 502), slot, Fate::port_limit));
  }
  play(refused(1, at(inner(9), 500), 9, Fate::low_ports_full));
  EXPECT_FALSE(is_low(map(Kind::udp, at(inner(9), 1500), kService, 9)));
  EXPECT_TRUE(is_low(map(Kind::tcp, at(inner(9), 500), kService, 9)));
  for (uint32_t slot = 1; slot <= 8; ++slot) {
    EXPECT_EQ(map(Kind::udp, at(inner(slot), 500), kElsewhere, slot), external_[slot]);
  }
}

// The tunnel that ends takes its mappings along; the ports rest before another has them.
TEST_F(FewLowPorts, R6888_8_LowPortsOfAClosedTunnelRestToo) {
  fill();
  set_time(2);
  close(3);
  play({"nobody's", 2, internet(reply(Kind::udp, kService, external_[3])), {}, Fate::no_mapping});
  set_time(121);
  for (uint32_t slot = 1; slot <= 8; ++slot) {
    if (slot == 3) continue;
    map(Kind::udp, at(inner(slot), 500), kService, slot);
    map(Kind::udp, at(inner(slot), 501), kService, slot);
  }
  play(refused(122, at(inner(9), 500), 9, Fate::low_ports_full));
  set_time(123);
  EXPECT_TRUE(is_low(map(Kind::udp, at(inner(9), 500), kService, 9)));
}

// ---- Deterministic ranges ----

class DeterministicRange : public Lab {
 protected:
  DeterministicRange()
      : Lab({.nat = {.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77)},
                     .first_port = 7936,  // the tunnel's own port is in the second range
                     .last_port = 7936 + 8 * 64 - 1,
                     .deterministic_ports = 64}}) {}

  // The first eight subscribers are on the first address, in order.
  static Endpoint first_of(uint32_t slot) {
    const Ipv4Address address = slot <= 8 ? kGateway : Ipv4Address::from_octets(30, 1, 1, 77);
    return at(address, 7936 + (slot - 1) % 8 * 64);
  }
};

TEST_F(DeterministicRange, R4787_2_R4787_3_R6888_4_IsTheSubscribersAndAllItHas) {
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    for (const Kind kind : kKinds) {
      std::set<uint16_t> ports;
      for (unsigned i = 0; i < (slot == 2 ? 63u : 64u); ++i) {
        const Endpoint external = map(kind, at(inner(slot), 3000 + i), kService, slot);
        EXPECT_EQ(external.address, first_of(slot).address);
        EXPECT_EQ(external.port.host() / 64, first_of(slot).port.host() / 64);
        ports.insert(external.port.host());
      }
      EXPECT_EQ(ports.size(), slot == 2 ? 63u : 64u);
      EXPECT_FALSE(slot == 2 && ports.contains(8000)) << "the tunnel's own";
    }
    const Endpoint one_more = at(inner(slot), 9000);
    const Bytes quote = request(Kind::udp, one_more, kService, kForwarded);
    play({"one more", 0, inside(request(Kind::udp, one_more, kService), slot),
          {inside(icmp_packet(kRouter, inner(slot), 3, 13, 0, quote, kErrorHeader), slot)},
          Fate::port_limit});
  }
}

TEST_F(DeterministicRange, R4787_1_R7857_9_EndpointsHaveTheSamePortsAtTheNextConnection) {
  std::map<unsigned, Endpoint> external;
  unsigned successors = 0;
  for (unsigned i = 0; i < 40; ++i) {
    external[i] = map(Kind::udp, at(inner(4), 3000 + i), kService, 4);
    if (i > 0 && external[i].port.host() == external[i - 1].port.host() + 1) ++successors;
  }
  EXPECT_LT(successors, 10u) << "within the range ports are random";
  close(4);
  play({"nobody's now", 60, internet(reply(Kind::udp, kService, external[0])), {},
        Fate::no_mapping});
  for (unsigned i = 40; i-- > 0;) {
    EXPECT_EQ(map(Kind::udp, at(inner(4), 3000 + i), kService, 4), external[i]);
  }
}

}  // namespace
}  // namespace adit::gateway::test
