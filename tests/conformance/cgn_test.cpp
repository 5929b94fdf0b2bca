// RFC 6888, and RFC 7857 where it speaks of carriers: shares of the pool, limits, ports at rest.
#include <set>
#include <utility>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;

class Cgn : public Lab {
 protected:
  Cgn() = default;
  explicit Cgn(const nat::Settings& nat) : Lab({.nat = nat}) {}

  // A new mapping is refused: a named drop, and the subscriber is told.
  Row refused(uint64_t at_s, const Endpoint& internal, Fate reason, uint32_t slot = 1,
              Kind kind = Kind::udp) {
    const Bytes quote = request(kind, internal, kService, kForwarded);
    return {"refused", at_s, inside(request(kind, internal, kService), slot),
            {inside(icmp_packet(kRouter, inner(slot), 3, 13, 0, quote, kErrorHeader), slot)},
            reason};
  }
  void expect_goes_on(const Endpoint& internal, const Endpoint& external, uint32_t slot = 1) {
    EXPECT_EQ(map(Kind::udp, internal, kElsewhere, slot), external);
    give_in(internet(reply(Kind::udp, kElsewhere, external)));
    EXPECT_EQ(come_out(), std::vector<Hop>{inside(
                              reply(Kind::udp, kElsewhere, internal, kForwarded), slot)});
  }
};

// ---- The pool ----

const Ipv4Address kFar = Ipv4Address::from_octets(51, 7, 0, 3);

class DisjointPool : public Cgn {
 protected:
  DisjointPool() : Cgn({.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77), kFar}}) {}
};

TEST_F(DisjointPool, R6888_3_EveryAddressServes) {
  std::set<uint32_t> used;
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    const Endpoint internal = at(inner(slot), 1025);
    const Endpoint external = map(Kind::udp, internal, kService, slot);
    EXPECT_TRUE(nat_->is_pool_address(external.address));
    used.insert(external.address.host());
    expect_goes_on(internal, external, slot);
  }
  EXPECT_EQ(used.size(), 3u);
}

class SixtyFourPorts : public Cgn {
 protected:
  SixtyFourPorts()
      : Cgn({.first_port = 2048, .last_port = 2111, .first_block_ports = 16,
             .profiles = {{.limits = {.blocks = 1}}}}) {}
};

TEST_F(SixtyFourPorts, R6888_13_EveryPortOfTheRangeIsUsedInEveryProtocol) {
  for (const Kind kind : kKinds) {
    std::set<uint16_t> ports;
    for (uint32_t slot = 1; slot <= 4; ++slot) {
      for (unsigned i = 0; i < 16; ++i) {
        ports.insert(map(kind, at(inner(slot), 3000 + i), kService, slot).port.host());
      }
    }
    EXPECT_EQ(ports.size(), 64u);
    EXPECT_EQ(*ports.begin(), 2048);
    EXPECT_EQ(*ports.rbegin(), 2111);
  }
}

TEST_F(Cgn, R6888_15_R7857_9_ExternalPortsDoNotFollowFromInternalOnes) {
  std::set<uint16_t> blocks;
  unsigned successors = 0;
  unsigned same_as_neighbour = 0;
  std::map<uint32_t, std::vector<uint16_t>> ports;
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    for (unsigned i = 0; i < 32; ++i) {
      ports[slot].push_back(map(Kind::udp, at(inner(slot), 3000 + i), kService, slot).port.host());
      if (i > 0 && ports[slot][i] == ports[slot][i - 1] + 1) ++successors;
      if (slot > 1 && ports[slot][i] % 64 == ports[slot - 1][i] % 64) ++same_as_neighbour;
    }
    blocks.insert(ports[slot][0] / 64);
  }
  // By chance one of 64 is: 7 of 465, and 7 of 448.
  EXPECT_LT(successors, 25u);
  EXPECT_LT(same_as_neighbour, 25u);
  EXPECT_GT(*blocks.rbegin() - *blocks.begin(), 256) << "blocks lie all over the range";
}

// ---- Limits ----

class TenMappings : public Cgn {
 protected:
  TenMappings() : Cgn({.profiles = {{.limits = {.mappings = 10}}}}) {}
};

TEST_F(TenMappings, R6888_4_R6888_5_LimitHoldsForOneSubscriberAndAllProtocols) {
  const Endpoint first = map(Kind::udp, kApplication);
  for (unsigned i = 1; i < 10; ++i) map(kKinds[i % 3], at(kInner, 2000 + i));
  far(2);
  for (const Kind kind : kKinds) {
    play(refused(1, at(kInner, 4000), Fate::mapping_limit, 1, kind));
  }
  expect_goes_on(kApplication, first);
  map(Kind::udp, at(inner(2), 1025), kService, 2);  // another is not concerned
  play({"once one has ended, there is room", 302,
        internet(reply(Kind::udp, kService, first)), {}, Fate::no_mapping});
  map(Kind::udp, at(kInner, 4000));
}

class OneBlock : public Cgn {
 protected:
  OneBlock() : Cgn({.first_block_ports = 16, .profiles = {{.limits = {.blocks = 1}}}}) {}
};

TEST_F(OneBlock, R6888_4_PortsAreLimitedAsConfigured) {
  const Endpoint first = map(Kind::udp, kApplication);
  for (unsigned i = 1; i < 16; ++i) map(Kind::udp, at(kInner, 2000 + i));
  play(refused(1, at(kInner, 4000), Fate::port_limit));
  expect_goes_on(kApplication, first);
  map(Kind::udp, at(inner(2), 1025), kService, 2);
}

class FiveASecond : public Cgn {
 protected:
  FiveASecond()
      : Cgn({.profiles = {{.limits = {.new_mappings_per_second = 5, .new_mappings_burst = 8}}}}) {}
};

TEST_F(FiveASecond, R6888_5_RateOfNewMappingsIsLimited) {
  unsigned port = 2000;
  const auto make = [&](unsigned count) {
    for (unsigned i = 0; i < count; ++i) map(Kind::udp, at(kInner, port++));
  };
  const Endpoint first = map(Kind::udp, kApplication);
  make(7);
  play(refused(0, at(kInner, 9000), Fate::rate_limited));
  set_time(1);
  make(5);
  play(refused(1, at(kInner, 9000), Fate::rate_limited));
  expect_goes_on(kApplication, first);
  map(Kind::udp, at(inner(2), 1025), kService, 2);
  set_time(100);
  make(8);  // no more than the burst, however long it was quiet
  play(refused(100, at(kInner, 9000), Fate::rate_limited));
}

class OneMappingEach : public Cgn {
 protected:
  OneMappingEach() : Cgn({.profiles = {{.limits = {.mappings = 1}}}}) {}
};

TEST_F(OneMappingEach, R6888_11_AnswersAreRateLimitedAndWhatExistsGoesOn) {
  const Endpoint first = map(Kind::udp, kApplication);
  for (unsigned i = 0; i < 20; ++i) play(refused(1, at(kInner, 4000 + i), Fate::mapping_limit));
  for (unsigned i = 0; i < 30; ++i) {
    play({"refused without a word", 1, inside(request(Kind::udp, at(kInner, 5000 + i), kService)),
          {}, Fate::mapping_limit});
  }
  expect_goes_on(kApplication, first);
  play(refused(2, at(kInner, 4000), Fate::mapping_limit));
}

// ---- Ports at rest ----

class SixteenPorts : public Cgn {
 protected:
  SixteenPorts() : Cgn({.first_port = 2048, .last_port = 2063, .first_block_ports = 16}) {}

  std::map<unsigned, Endpoint> take_all() {
    std::map<unsigned, Endpoint> external;
    for (unsigned i = 0; i < 16; ++i) {
      external[3000 + i] = map(Kind::udp, at(kInner, 3000 + i));
    }
    return external;
  }
};

// The mappings' last second is 300, their rest begins at 301.
TEST_F(SixteenPorts, R6888_8_ReleasedPortRestsBeforeItServesAnotherEndpoint) {
  const auto external = take_all();
  play(refused(301, at(kInner, 4000), Fate::port_limit));
  play(refused(421, at(kInner, 4000), Fate::port_limit));
  set_time(422);
  const Endpoint again = map(Kind::udp, at(kInner, 4000));
  EXPECT_GE(again.port.host(), 2048);
  EXPECT_LE(again.port.host(), 2063);
}

TEST_F(SixteenPorts, R6888_8_ItsOwnEndpointMayHaveItBackAtOnce) {
  const auto external = take_all();
  set_time(421);
  for (const auto& [port, endpoint] : external) {
    EXPECT_EQ(map(Kind::udp, at(kInner, port)), endpoint);
  }
}

TEST_F(SixteenPorts, R6888_8_PortsOfAClosedTunnelRestToo) {
  take_all();
  far(2);
  set_time(10);
  close(1);
  sweep_all();
  play(refused(10, at(inner(2), 1025), Fate::pool_exhausted, 2));
  set_time(130);
  sweep_all();
  play(refused(130, at(inner(2), 1025), Fate::pool_exhausted, 2));
  set_time(131);
  sweep_all();
  map(Kind::udp, at(inner(2), 1025), kService, 2);
}

// ---- For who runs it ----

TEST_F(Cgn, R6888_10_OperatorSeesASubscribersMappings) {
  ours_only("what the operator sees");
  std::set<std::pair<unsigned, uint16_t>> expected;
  for (const Kind kind : kKinds) {
    expected.emplace(static_cast<unsigned>(kind), map(kind, kApplication).port.host());
  }
  map(Kind::udp, at(inner(2), 1025), kService, 2);
  ToWorker list;
  list.kind = ToWorker::list_mappings;
  list.slot = 1;
  tell(list);
  std::set<std::pair<unsigned, uint16_t>> listed;
  const std::vector<ToControl> items = handed_out();
  for (const ToControl& item : items) {
    if (item.kind != ToControl::mapping) continue;
    EXPECT_EQ(item.slot, 1u);
    EXPECT_EQ(item.from, kApplication);
    EXPECT_EQ(item.external.address, kGateway);
    listed.emplace(item.protocol, item.external.port.host());
  }
  EXPECT_EQ(listed, expected);
  ASSERT_FALSE(items.empty());
  EXPECT_EQ(items.back().kind, ToControl::mappings_end);
}

}  // namespace
}  // namespace adit::gateway::test
