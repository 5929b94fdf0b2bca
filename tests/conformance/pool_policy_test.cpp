// Subscribers of different pools, for whom the translator behaves differently: each profile's rules
// hold for its own subscribers, side by side, and for nobody else.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

// Subscriber 1 has everything by default; for subscriber 2 all is different.
const nat::Profile kPlain{};
const nat::Profile kOther{.timeouts = {.udp_s = 600, .tcp_opening_s = 30, .icmp_s = 90,
                                       .dns_s = 10, .port_rest_s = 5},
                          .port_parity = true,
                          .inbound_refresh = false,
                          .hairpin = false,
                          .filtering = kStrict};

class TwoPools : public Lab {
 protected:
  explicit TwoPools(RigOptions options = {}, const nat::Profile& other = kOther)
      : Lab(with_profiles(std::move(options), other)) {}

  void extend_open(ToWorker& open) override {
    open.profile = open.slot == 2 ? 1 : 0;
    open.tunnel_to_tunnel = settings_.tunnel_to_tunnel && open.slot != 2;
  }
  // Its mapping lives for so long without traffic, and no longer. Two, since a packet that passes
  // refreshes what it passed by.
  void expect_life(Kind kind, uint32_t slot, const Endpoint& remote, uint64_t from_s,
                   uint64_t seconds) {
    const Endpoint first = at(inner(slot), 4001);
    const Endpoint second = at(inner(slot), 4003);
    set_time(from_s);
    const Endpoint one = map(kind, first, remote, slot);
    const Endpoint two = map(kind, second, remote, slot);
    play({{"on its last second", from_s + seconds, internet(reply(kind, remote, one)),
           {inside(reply(kind, remote, first, kForwarded), slot)}},
          {"a second later", from_s + seconds + 1, internet(reply(kind, remote, two)), {},
           Fate::no_mapping}});
  }

 private:
  static RigOptions with_profiles(RigOptions options, const nat::Profile& other) {
    options.nat.profiles = {kPlain, other};
    return options;
  }
};

TEST_F(TwoPools, R4787_8a_R5382_3a_FilteringIsThePools) {
  for (const Kind kind : kKinds) {
    const Endpoint mine = at(inner(1), 3000);
    const Endpoint theirs = at(inner(2), 3000);
    const Endpoint open = map(kind, mine, kService, 1);
    const Endpoint strict = map(kind, theirs, kService, 2);
    play({{"who was sent to, to either", 1, internet(reply(kind, kService, open)),
           {inside(reply(kind, kService, mine, kForwarded), 1)}},
          {"and to the other", 1, internet(reply(kind, kService, strict)),
           {inside(reply(kind, kService, theirs, kForwarded), 2)}},
          {"a stranger, to whom anybody may send", 1, internet(reply(kind, kElsewhere, open)),
           {inside(reply(kind, kElsewhere, mine, kForwarded), 1)}},
          {"and to the other", 1, internet(reply(kind, kElsewhere, strict)), {},
           Fate::filtered}});
  }
}

TEST_F(TwoPools, R4787_5b_UdpTimerIsThePools) {
  expect_life(Kind::udp, 1, kService, 0, 300);
  expect_life(Kind::udp, 2, kService, 1000, 600);
}
TEST_F(TwoPools, R5508_2a_IcmpTimerIsThePools) {
  expect_life(Kind::icmp, 1, kService, 0, 60);
  expect_life(Kind::icmp, 2, kService, 1000, 90);
}
TEST_F(TwoPools, R4787_5b_DnsTimerIsThePools) {
  expect_life(Kind::udp, 1, at(kServer, 53), 0, 300);
  expect_life(Kind::udp, 2, at(kServer, 53), 1000, 10);
}

class ParityOfOne : public TwoPools {
 protected:
  ParityOfOne() : TwoPools({}, {.port_parity = true}) {}
};

TEST_F(ParityOfOne, R4787_4_ParityIsThePools) {
  unsigned kept = 0;
  for (unsigned port = 2000; port < 2060; ++port) {
    const Endpoint external = map(Kind::udp, at(inner(1), port), kService, 1);
    kept += external.port.host() % 2 == port % 2;
    EXPECT_EQ(map(Kind::udp, at(inner(2), port), kService, 2).port.host() % 2, port % 2);
    EXPECT_EQ(map(Kind::tcp, at(inner(2), port), kService, 2).port.host() % 2, port % 2);
  }
  EXPECT_GT(kept, 10u);
  EXPECT_LT(kept, 50u) << "by chance, half of them";
}

TEST_F(TwoPools, R4787_6a_R7857_7_InboundRefreshIsThePools) {
  for (const uint32_t slot : {1u, 2u}) {
    const Endpoint internal = at(inner(slot), 3001);
    const uint64_t life_s = slot == 1 ? 300 : 600;
    const uint64_t from_s = slot * 2000;
    set_time(from_s);
    const Endpoint external = map(Kind::udp, internal, kService, slot);
    play({"inbound, halfway", from_s + life_s / 2, internet(reply(Kind::udp, kService, external)),
          {inside(reply(Kind::udp, kService, internal, kForwarded), slot)}});
    const Row later{"after its time", from_s + life_s + 1,
                    internet(reply(Kind::udp, kService, external)),
                    {inside(reply(Kind::udp, kService, internal, kForwarded), slot)}};
    const Row too_late{later.description, later.at_s, later.in, {}, Fate::no_mapping};
    play(slot == 1 ? later : too_late);
  }
}

TEST_F(TwoPools, R4787_9_HairpinningIsThePools) {
  const Endpoint mine = at(inner(1), 3001);
  const Endpoint theirs = at(inner(2), 3001);
  const Endpoint my_external = map(Kind::udp, mine, kService, 1);
  const Endpoint their_external = map(Kind::udp, theirs, kService, 2);
  play({{"to another external endpoint of its own pool", 1,
         inside(request(Kind::udp, mine, my_external), 1),
         {inside(request(Kind::udp, my_external, mine, kForwarded), 1)}},
        {"from a pool that may not", 1, inside(request(Kind::udp, theirs, my_external), 2), {},
         Fate::hairpin},
        {"to that pool, which filters", 1, inside(request(Kind::udp, mine, their_external), 1), {},
         Fate::filtered}});
}

// A port at rest waits as long as its own pool says, whoever comes next.
TEST_F(TwoPools, R6888_8_RestIsThePools) {
  const Endpoint theirs = at(inner(2), 3001);
  map(Kind::udp, theirs, kService, 2);
  set_time(601);  // idle: it rests
  sweep_all();
  EXPECT_EQ(nat_counts().mappings_resting, 1u);
  set_time(601 + 6);
  sweep_all();
  EXPECT_EQ(nat_counts().mappings_resting, 0u);
  const Endpoint mine = at(inner(1), 3001);
  map(Kind::udp, mine, kService, 1);
  set_time(607 + 301 + 100);
  sweep_all();
  EXPECT_EQ(nat_counts().mappings_resting, 1u) << "the default is two minutes";
}

class JoinedPools : public TwoPools {
 protected:
  JoinedPools() : TwoPools({.tunnel_to_tunnel = true}) {}
};

TEST_F(JoinedPools, R4787_9_TunnelToTunnelTakesBothPools) {
  far(2);
  far(3);
  const Endpoint one = at(inner(1), 3001);
  const Endpoint two = at(inner(2), 3001);
  const Endpoint three = at(inner(3), 3001);
  play({{"both may", 1, inside(request(Kind::udp, one, three), 1),
         {inside(request(Kind::udp, one, three, kForwarded), 3)}},
        {"the other may not", 1, inside(request(Kind::udp, one, two), 1), {},
         Fate::tunnel_to_tunnel},
        {"nor write itself", 1, inside(request(Kind::udp, two, one), 2), {},
         Fate::tunnel_to_tunnel}});
}

}  // namespace
}  // namespace adit::gateway::test
