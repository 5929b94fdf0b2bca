// A client with several lanes: each a tunnel of the worker that its source port leads to, which all
// share one external address and the subscriber's limits, and live no longer than lane 0.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "gateway/status.h"
#include "lib/dhcp/client.h"
#include "lib/tunnel/lanes.h"
#include "tests/eal/lanes_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;
using tunnel::HandshakeReject;
using tunnel::kSecondNs;

// The n-th of an inner host's endpoints.
Endpoint endpoint(unsigned n, Ipv4Address host = kInner) {
  return {host, Be16::from_host(static_cast<uint16_t>(2000 + n))};
}
unsigned lane_of(const Endpoint& from, size_t lanes) {
  return tunnel::lane_of(from.address, kIpUdp, from.port.host(), static_cast<unsigned>(lanes));
}
Bytes datagram(const Endpoint& from, const Endpoint& to = kService) {
  return udp_packet(from, to, payload_bytes(24));
}

class Lanes : public LanesRig {};

TEST_F(Lanes, ReachTheWorkersThatTheirSourcePortsLeadTo) {
  const auto lanes = begin_all(3);
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_TRUE(is_up(*lanes[i])) << i;
    EXPECT_EQ(lanes[i]->end->peer.lanes_granted(), 3u);
    EXPECT_EQ(tunnels_->home(slot_of(*lanes[i])), i);
  }
  EXPECT_EQ(control_->open_tunnels(), 3u);

  std::array<unsigned, 3> carried{};
  for (unsigned n = 0; n < 60; ++n) {
    LaneEnd& lane = *lanes[lane_of(endpoint(n), lanes.size())];
    const auto external = external_by(lane, datagram(endpoint(n)));
    ASSERT_TRUE(external);
    ++carried[lane.lane];
    receive(1, udp_packet(kService, *external, payload_bytes(24, 9)));
    settle();
    ASSERT_EQ(lane.end->received.size(), carried[lane.lane]) << "the answer came by its lane";
  }
  for (const unsigned count : carried) EXPECT_GT(count, 10u);
  EXPECT_EQ(counters_.handed_over, 0u) << "each is one worker's work, both ways";
}

TEST_F(Lanes, LeaveByOneExternalAddressAndGiveAnEndpointOneMapping) {
  for (size_t subscriber = 0; subscriber < 2; ++subscriber) {
    const auto host = Ipv4Address::from_host(kInner.host() + static_cast<uint32_t>(subscriber));
    const auto lanes = begin_all(4, subscriber);
    std::map<Endpoint, Endpoint> externals;  // by the internal one
    std::set<Endpoint> distinct;
    std::set<Ipv4Address> addresses;
    for (const Endpoint& to : {kService, Endpoint{kServer, Be16::from_host(53)}}) {
      for (unsigned n = 0; n < 40; ++n) {
        const Endpoint from = endpoint(n, host);
        const auto external = external_by(*lanes[lane_of(from, 4)], datagram(from, to));
        ASSERT_TRUE(external);
        EXPECT_EQ(externals.try_emplace(from, *external).first->second, *external);
        distinct.insert(*external);
        addresses.insert(external->address);
      }
    }
    EXPECT_EQ(distinct.size(), 40u);
    EXPECT_EQ(addresses.size(), 1u);
  }
  EXPECT_EQ(nat_counts().mappings_live, 80u);
}

TEST_F(Lanes, AreEachToldInTheStatusWithItsWorker) {
  begin_all(3);
  begin(0, 1, 1, 1);
  const StatusSources sources{.config = &config_,
                              .control = control_.get(),
                              .tunnels = tunnels_.get(),
                              .workers = {{&counters_, nat_}}};
  std::vector<std::string> told;
  const auto status = nlohmann::json::parse(status_text(sources, now_ns_));
  for (const auto& tunnel : status["tunnels"]) {
    told.push_back(tunnel["subscriber"].get<std::string>() + " " + tunnel["lane"].dump() + "/" +
                   tunnel["lanes"].dump() + " at " + tunnel["worker"].dump());
  }
  EXPECT_EQ(told, (std::vector<std::string>{"site 0/3 at 0", "site 1/3 at 1", "site 2/3 at 2",
                                            "other 0/1 at 1"}));
}

class RestedLanes : public LanesRig {
 protected:
  RestedLanes() : LanesRig([](Config& config) { config.pools[0].nat.timeouts.port_rest_ns = 0; }) {}
};

TEST_F(RestedLanes, AreCounted) {
  const auto counts = [this] {
    const StatusSources sources{
        .config = &config_, .control = control_.get(), .tunnels = tunnels_.get()};
    return nlohmann::ordered_json::parse(status_text(sources, now_ns_))["control"]["lanes"].dump();
  };
  begin(0, 1, 1, 1);
  EXPECT_EQ(counts(), R"({"granted":0,"open":0})") << "it has one";
  const std::vector<LaneEnd*> lanes = {&begin(0, 4, 0), &begin(1, 4, 1), &begin(2, 4, 2)};
  EXPECT_EQ(counts(), R"({"granted":4,"open":3})");
  begin(0, 4, 0);  // once more
  EXPECT_EQ(counts(), R"({"granted":4,"open":3})");
  begin_all(2, 1);
  EXPECT_EQ(counts(), R"({"granted":6,"open":5})");
  pass(config_.tunnel.dead_after_ns + kSecondNs, {lanes[0], lanes[2]});
  EXPECT_EQ(counts(), R"({"granted":4,"open":2})");
  begin(0, 1, 0);
  EXPECT_EQ(counts(), R"({"granted":0,"open":0})");
}

TEST_F(Lanes, AreNotOpenedWithoutTheFirst) {
  LaneEnd& early = begin(1, 2, 1);
  EXPECT_FALSE(is_up(early));
  EXPECT_EQ(rejected(HandshakeReject::no_lane), 1u);
  EXPECT_EQ(control_->counters().lanes_without_first, 1u);
  EXPECT_EQ(control_->open_tunnels(), 0u);
  begin(0, 2, 0);
  pass(6 * kSecondNs, {&early});  // it tries again
  EXPECT_TRUE(is_up(early));
  EXPECT_EQ(rejected(HandshakeReject::no_lane), 1u);
}

TEST_F(Lanes, AreNoMoreThanTheFirstWasGranted) {
  EXPECT_EQ(begin(0, 16, 0).end->peer.lanes_granted(), 4u);
  EXPECT_FALSE(is_up(begin(4, 16, 1)));
  EXPECT_TRUE(is_up(begin(3, 16, 1)));
  EXPECT_EQ(rejected(HandshakeReject::no_lane), 1u);
  EXPECT_EQ(control_->counters().lanes_not_granted, 1u);
  EXPECT_EQ(control_->counters().lanes_without_first, 0u);
}

TEST_F(Lanes, EndWithTheFirst) {
  const auto lanes = begin_all(3);
  for (LaneEnd* const lane : lanes) EXPECT_TRUE(external_by(*lane, datagram(endpoint(lane->lane))));
  EXPECT_EQ(nat_counts().mappings_live, 3u);
  pass(config_.tunnel.dead_after_ns + kSecondNs, {lanes[1], lanes[2]});
  EXPECT_EQ(control_->open_tunnels(), 0u);
  const uint64_t unknown = drops(Fate::unknown_index);
  EXPECT_FALSE(external_by(*lanes[1], datagram(endpoint(1))));
  EXPECT_EQ(drops(Fate::unknown_index), unknown + 1);
  EXPECT_EQ(nat_counts().mappings_live, 0u);
  EXPECT_FALSE(is_up(begin(1, 3, 1)));
  EXPECT_EQ(rejected(HandshakeReject::no_lane), 1u);
  // They come back in their order.
  for (LaneEnd* const lane : begin_all(3)) EXPECT_TRUE(is_up(*lane));
}

TEST_F(Lanes, EndAloneWhereTheyAreNotTheFirst) {
  const auto lanes = begin_all(3);
  pass(config_.tunnel.dead_after_ns + kSecondNs, {lanes[0], lanes[2]});
  EXPECT_EQ(control_->open_tunnels(), 2u);
  EXPECT_TRUE(external_by(*lanes[0], datagram(endpoint(1))));
  const auto before = external_by(*lanes[2], datagram(endpoint(2)));
  LaneEnd& again = begin(1, 3, 1);
  EXPECT_TRUE(is_up(again));
  EXPECT_EQ(external_by(again, datagram(endpoint(3)))->address, before->address);
}

// Each beginning gives a subscriber its limits anew, so there is a time between two.
TEST_F(Lanes, AreAsManyAsThereWereWhereTheyHaveJustBegun) {
  const auto lanes = begin_all(2);
  const uint32_t epoch = tunnels_->at(slot_of(*lanes[0])).epoch;
  LaneEnd& more = begin(0, 3, 0);
  EXPECT_EQ(more.end->peer.lanes_granted(), 2u);
  LaneEnd& fewer = begin(0, 1, 0);
  EXPECT_EQ(fewer.end->peer.lanes_granted(), 1u);
  EXPECT_EQ(tunnels_->at(slot_of(fewer)).epoch, epoch);
  EXPECT_EQ(control_->open_tunnels(), 2u);
}

TEST_F(RestedLanes, BeginAnewWhereAnotherNumberIsWanted) {
  const auto lanes = begin_all(3);
  const uint32_t epoch = tunnels_->at(slot_of(*lanes[0])).epoch;
  LaneEnd& same = begin(0, 3, 0);  // the client has been started again
  EXPECT_EQ(tunnels_->at(slot_of(same)).epoch, epoch);
  EXPECT_EQ(control_->open_tunnels(), 3u);

  LaneEnd& fewer = begin(0, 2, 0);
  EXPECT_EQ(fewer.end->peer.lanes_granted(), 2u);
  EXPECT_NE(tunnels_->at(slot_of(fewer)).epoch, epoch);
  EXPECT_EQ(control_->open_tunnels(), 1u);
  EXPECT_TRUE(is_up(begin(1, 2, 1)));
  EXPECT_FALSE(is_up(begin(2, 3, 2)));

  LaneEnd& ordinary = begin(0, 1, 0);
  EXPECT_TRUE(is_up(ordinary));
  EXPECT_EQ(control_->open_tunnels(), 1u);
  EXPECT_TRUE(external_by(ordinary, datagram(endpoint(1))));
}

TEST_F(Lanes, DoNotBeginAnewAtWhatWasSentBefore) {
  Bytes old;
  {
    LaneEnd& first = begin(0, 3, 0);
    // Its handshake as it was on the wire: made again from a clock that has not moved.
    now_ns_ -= 10 * kSecondNs;
    first.end->transmit = [&](Bytes payload) { old = std::move(payload); };
    tunnel::Actions sent = tunnel::Peer(clients_[0],
                                        *tunnel::make_remote_identity(
                                            clients_[0], gateway_.public_key, {}),
                                        {.initiates = true}, random_)
                               .connect(now_ns_, tunnel::tai64n_from_unix(now_ns_ / kSecondNs, 0));
    first.end->carry_out(now_ns_, sent);
    now_ns_ += 10 * kSecondNs;
  }
  const auto lanes = begin_all(3);
  receive_from(lanes[0]->outer, old);
  settle();
  EXPECT_EQ(rejected(HandshakeReject::replayed), 1u);
  EXPECT_EQ(control_->open_tunnels(), 3u);
  EXPECT_TRUE(external_by(*lanes[1], datagram(endpoint(1))));
}

// It could not be answered, and so it changes nothing.
TEST_F(Lanes, DoNotBeginAnewForAHandshakeThatIsRefused) {
  const auto lanes = begin_all(3);
  pass(121 * kSecondNs, lanes);
  config_.tunnel.protections = {Protection::plain};
  config_.subscribers[0].protections = {Protection::aes_256_gcm};
  EXPECT_FALSE(is_up(begin(0, 2, 0)));
  EXPECT_EQ(rejected(HandshakeReject::no_protection), 1u);
  EXPECT_EQ(control_->open_tunnels(), 3u);
}

class UngrantedLanes : public LanesRig {
 protected:
  UngrantedLanes() : LanesRig([](Config& config) { config.subscribers[0].lanes = 1; }) {}
};

TEST_F(UngrantedLanes, LeaveTheClientWithOne) {
  LaneEnd& only = begin(0, 4, 0);
  EXPECT_TRUE(is_up(only));
  EXPECT_EQ(only.end->peer.lanes_granted(), 1u);
  EXPECT_FALSE(is_up(begin(1, 4, 1)));
  EXPECT_TRUE(external_by(only, datagram(endpoint(1))));
}

class LeasedLanes : public LanesRig {
 protected:
  LeasedLanes() : LanesRig([](Config& config) { config.subscribers[0].address.reset(); }) {}

  void send_by(LaneEnd& lane, const std::optional<dhcp::Datagram>& query) {
    ASSERT_TRUE(query);
    Bytes packet(dhcp::kPacketBytesMax);
    packet.resize(dhcp::wrap(*query, packet));
    lane.end->send(now_ns_, packet);
    settle();
  }
};

TEST_F(LeasedLanes, AllHaveTheAddressOnceItIsLeased) {
  const std::vector<LaneEnd*> lanes = {&begin(0, 3, 0), &begin(1, 3, 1)};
  const auto first = config_.pools[0].range.first;
  for (LaneEnd* const lane : lanes) {
    EXPECT_FALSE(external_by(*lane, datagram(endpoint(0, first))));
  }
  EXPECT_EQ(drops(Fate::spoofed_source), 2u);

  dhcp::Client client(clients_[0].public_key.bytes, [] { return uint64_t{5}; });
  send_by(*lanes[0], client.start(now_ns_).send);
  ASSERT_EQ(lanes[0]->end->received.size(), 1u);
  const auto answer = dhcp::unwrap(lanes[0]->end->received[0]);
  ASSERT_TRUE(answer);
  client.on_message(now_ns_, answer->message);
  ASSERT_TRUE(client.lease());
  const Ipv4Address address = client.lease()->address.address;
  for (LaneEnd* const lane : lanes) {
    EXPECT_TRUE(external_by(*lane, datagram(endpoint(1 + lane->lane, address))));
  }
  LaneEnd& later = begin(2, 3, 2);
  EXPECT_TRUE(external_by(later, datagram(endpoint(7, address))));
  // It is the subscriber's as long as lane 0 is there, whichever of the others goes.
  pass(config_.tunnel.dead_after_ns + kSecondNs, {lanes[0], &later});
  EXPECT_EQ(control_->open_tunnels(), 2u);
  EXPECT_EQ(control_->dhcp().use(0).bound, 1u);
  EXPECT_TRUE(external_by(later, datagram(endpoint(7, address))));

  send_by(*lanes[0], client.release(now_ns_).send);
  for (LaneEnd* const lane : {lanes[0], &later}) {
    EXPECT_FALSE(external_by(*lane, datagram(endpoint(8, address))));
  }
}

}  // namespace
}  // namespace adit::gateway::test
