// What of a subscriber with several lanes is there once: its limits, which are shared out, the way
// to its inner address, which is lane 0, and where a mapping that it asks for has to be made.
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "lib/pcp/message.h"
#include "lib/tunnel/lanes.h"
#include "tests/eal/lanes_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::udp_packet;

Endpoint endpoint(unsigned n) {
  return {kInner, Be16::from_host(static_cast<uint16_t>(2000 + n))};
}
unsigned lane_of(const Endpoint& from, size_t lanes) {
  return tunnel::lane_of(from.address, kIpUdp, from.port.host(), static_cast<unsigned>(lanes));
}

// ---- Limits ----

TEST(LaneLimits, AreTheSubscribersDividedAndPortsComeInWholeBlocks) {
  Config config;
  config.pools.resize(1);
  config.nat.external = {{kPublic, kPublic}};
  config.subscribers.resize(3);
  config.subscribers[0].lanes = 16;
  config.subscribers[2].lanes = 2;
  config.subscribers[2].limits = {.mappings = 1, .new_mappings_per_second = 3, .blocks = 1};
  std::vector<uint16_t> first;
  const nat::Settings settings = nat_settings(config, first);
  EXPECT_EQ(settings.profiles.size(), 16u + 2u)
      << "the second subscriber's one is the first's with one lane";
  EXPECT_EQ(first[0], first[1]);
  const auto limits = [&](unsigned subscriber, unsigned lanes) {
    return settings.profiles[first[subscriber] + lanes - 1].limits;
  };
  const nat::Limits whole{2048, 500, 1000, 4};
  EXPECT_EQ(limits(1, 1), whole);
  EXPECT_EQ(limits(0, 2), (nat::Limits{1024, 250, 500, 3}))
      << "twice 64 + 128 + 256 ports are 896 of 960";
  EXPECT_EQ(limits(0, 3), (nat::Limits{682, 166, 333, 2}));
  EXPECT_EQ(limits(0, 16), (nat::Limits{128, 31, 62, 1}));
  EXPECT_EQ(limits(2, 2).mappings, 1u) << "a lane of none could carry nothing";
  EXPECT_EQ(limits(2, 2).new_mappings_per_second, 1u);
  EXPECT_EQ(limits(2, 2).blocks, 1u);
}

class FewMappings : public LanesRig {
 protected:
  FewMappings()
      : LanesRig([](Config& config) {
          config.subscribers[0].limits.mappings = 20;
          config.pools[0].nat.timeouts.port_rest_ns = 0;  // may begin anew at once
        }) {}
};

TEST_F(FewMappings, AreSharedOutAmongTheLanes) {
  const auto lanes = begin_all(2);
  std::array<unsigned, 2> made{};
  for (unsigned n = 0; n < 60; ++n) {
    const unsigned lane = lane_of(endpoint(n), 2);
    made[lane] += external_by(*lanes[lane], udp_packet(endpoint(n), kService, {})).has_value();
  }
  EXPECT_EQ(made, (std::array{10u, 10u}));
  EXPECT_EQ(drops(Fate::mapping_limit), 40u);
  // With one lane it has them all.
  LaneEnd& ordinary = begin(0, 1, 0);
  unsigned alone = 0;
  for (unsigned n = 100; n < 160; ++n) {
    alone += external_by(ordinary, udp_packet(endpoint(n), kService, {})).has_value();
  }
  EXPECT_EQ(alone, 20u);
}

// A tunnel that is one of two lanes; the rig's limits are small.
class OneOfTwo : public Rig {
 protected:
  explicit OneOfTwo(const RigOptions& options = {.workers = 1}) : Rig(options) {}
  void extend_open(ToWorker& open) override { open.lanes = 2; }
};

class OneOfTwoFiltered : public OneOfTwo {
 protected:
  OneOfTwoFiltered()
      : OneOfTwo({.nat = {.profiles = {{.filtering = {nat::Filtering::address_dependent}}}},
                  .workers = 1}) {}
};

TEST_F(OneOfTwoFiltered, HasHalfOfTheSessions) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (uint32_t n = 0; n < 10; ++n) {
    const Endpoint to{Ipv4Address::from_host(kServer.host() + n), kService.port};
    receive_from(far, far.plain(udp_packet(kApplication, to, payload_bytes(8))));
  }
  EXPECT_EQ(sent_frames(0).size(), kRigSessionsPerTunnel / 2 + 8u) << "and errors about the rest";
  EXPECT_EQ(drops(Fate::session_limit), 10 - kRigSessionsPerTunnel / 2);
}

class OneOfTwoTold : public OneOfTwo {
 protected:
  OneOfTwoTold()
      : OneOfTwo({.icmp_errors = {.per_second = 100, .per_tunnel_per_second = 10},
                  .workers = 1}) {}
};

TEST_F(OneOfTwoTold, CausesHalfOfTheErrors) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (unsigned n = 0; n < 20; ++n) {
    receive_from(far, far.plain(udp_packet(kApplication, kService, payload_bytes(8), {.ttl = 1})));
  }
  EXPECT_EQ(sent_frames(0).size(), 5u);
  EXPECT_EQ(counters_.icmp_errors_suppressed, 15u);
}

TEST_F(OneOfTwo, HasHalfOfTheMappingsWithoutPorts) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (uint32_t n = 0; n < 40; ++n) {
    const auto to = Ipv4Address::from_host(kServer.host() + n);
    receive_from(far, far.plain(ipv4_packet(kInner, to, 47, payload_bytes(8))));
    sent_frames(0);
  }
  EXPECT_EQ(portless_live(), PortlessMappings::kPerTunnelMax / 2);
  EXPECT_EQ(drops(Fate::portless_limit), 40 - PortlessMappings::kPerTunnelMax / 2);
}

// ---- The way to it ----

class JoinedLanes : public LanesRig {
 protected:
  JoinedLanes()
      : LanesRig([](Config& config) {
          config.pools[0].tunnel_to_tunnel = true;
          config.subscribers[0].prefixes = {*Ipv4Prefix::parse("10.20.0.0/16")};
        }) {}
};

TEST_F(JoinedLanes, AreReachedByTheFirst) {
  const auto lanes = begin_all(3);
  LaneEnd& other = begin(0, 1, 2, 1);
  const Endpoint from{config_.subscribers[1].address.value(), Be16::from_host(9)};
  const Endpoint lan{Ipv4Address::from_octets(10, 20, 0, 5), Be16::from_host(80)};
  size_t count = 0;
  const auto expect_reached = [&](LaneEnd& first) {
    for (const Endpoint& to : {kApplication, lan}) {
      other.end->send(now_ns_, udp_packet(from, to, payload_bytes(24)));
      settle();
      EXPECT_EQ(first.end->received.size(), ++count);
    }
  };
  expect_reached(*lanes[0]);
  // That a further lane ends, and comes again, changes nothing.
  pass(config_.tunnel.dead_after_ns + tunnel::kSecondNs, {lanes[0], lanes[1], &other});
  EXPECT_EQ(control_->open_tunnels(), 3u);
  expect_reached(*lanes[0]);
  begin(2, 3, 2);
  expect_reached(*lanes[0]);
  EXPECT_TRUE(lanes[1]->end->received.empty());
  EXPECT_TRUE(lanes[2]->end->received.empty());
  // And its answers reach the other by whichever lane is theirs.
  for (LaneEnd* const lane : {lanes[0], lanes[1]}) {
    const size_t before = other.end->received.size();
    lane->end->send(now_ns_, udp_packet(kApplication, from, payload_bytes(24)));
    settle();
    EXPECT_EQ(other.end->received.size(), before + 1);
  }
}

TEST_F(JoinedLanes, DoNotSendToThemselvesByWayOfTheFirst) {
  const auto lanes = begin_all(2);
  for (LaneEnd* const lane : lanes) {
    lane->end->send(now_ns_, udp_packet(endpoint(1), kApplication, payload_bytes(24)));
    settle();
  }
  EXPECT_EQ(drops(Fate::tunnel_to_itself), 2u);
  EXPECT_TRUE(lanes[0]->end->received.empty());
}

class RoutedLanes : public LanesRig {
 protected:
  RoutedLanes()
      : LanesRig([](Config& config) {
          config.subscribers[0].routed = {*Ipv4Prefix::parse("50.1.0.0/29")};
        }) {}
};

TEST_F(RoutedLanes, AreEnteredByTheFirstAndLeftByAll) {
  const auto lanes = begin_all(2);
  const Endpoint routed{Ipv4Address::from_octets(50, 1, 0, 1), Be16::from_host(80)};
  receive(1, udp_packet(kService, routed, payload_bytes(24)));
  settle();
  ASSERT_EQ(lanes[0]->end->received.size(), 1u);
  EXPECT_TRUE(lanes[1]->end->received.empty());
  for (LaneEnd* const lane : lanes) {
    EXPECT_EQ(external_by(*lane, udp_packet(routed, kService, payload_bytes(24))), routed);
    EXPECT_FALSE(external_by(*lane, udp_packet(routed, routed, payload_bytes(24))));
  }
  EXPECT_EQ(drops(Fate::tunnel_to_itself), 2u);
}

// ---- Mappings that it asks for ----

class AskingLanes : public LanesRig {
 protected:
  AskingLanes()
      : LanesRig([](Config& config) { config.nat.port_control.enabled = true; }) {}

  // What it is answered that asks by `lane` for a mapping of the endpoint.
  pcp::Result ask(LaneEnd& lane, const Endpoint& internal) {
    struct {
      pcp::RequestHeader header;
      pcp::MapBody map;
    } request{};
    request.header.version = 2;
    request.header.opcode = 1;  // MAP
    request.header.lifetime_s = Be32::from_host(3600);
    request.header.client = pcp::MappedAddress::of(internal.address);
    request.map.protocol = kIpUdp;
    request.map.internal_port = internal.port;
    request.map.external = pcp::MappedAddress::of({});
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&request);
    const size_t before = lane.end->received.size();
    lane.end->send(now_ns_, udp_packet({internal.address, Be16::from_host(40000)},
                                       {kRouter, Be16::from_host(5351)},
                                       std::span(bytes, sizeof request)));
    settle();
    EXPECT_EQ(lane.end->received.size(), before + 1);
    pcp::ResponseHeader header{};
    std::memcpy(&header, lane.end->received.back().data() + 28, sizeof header);
    return static_cast<pcp::Result>(header.result);
  }
};

TEST_F(AskingLanes, GetAMappingAtItsEndpointsOwnLaneAndNowhereElse) {
  const auto lanes = begin_all(3);
  for (unsigned n = 0; n < 12; ++n) {
    const unsigned own = lane_of(endpoint(n), lanes.size());
    for (LaneEnd* const lane : lanes) {
      EXPECT_EQ(ask(*lane, endpoint(n)), lane->lane == own ? pcp::Result::success
                                                           : pcp::Result::not_authorized);
    }
  }
  EXPECT_EQ(nat_counts().mappings_live, 12u);
}

}  // namespace
}  // namespace adit::gateway::test
