// Several lanes of one client: the byte that negotiates them, who may grant what, and which lane a
// packet belongs to.
#include "lib/tunnel/lanes.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

#include "lib/tunnel/cookie.h"
#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::Bytes;
using test::bytes_in;
using test::client_config;
using test::gateway_config;
using test::kAll;
using test::Link;

constexpr auto kGcm = Protection::aes_256_gcm;

constexpr LaneChoice choice(unsigned lanes, unsigned lane) {
  return {static_cast<uint8_t>(lanes), static_cast<uint8_t>(lane)};
}

// ---- The byte ----

TEST(LaneByte, IsZeroForAnOrdinaryClientAndNamesTheRest) {
  EXPECT_EQ(lane_byte({}), 0);
  EXPECT_EQ(lane_byte({2, 0}), 0x10);
  EXPECT_EQ(lane_byte({16, 15}), 0xff);
  unsigned good = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto read = lane_choice_of(static_cast<uint8_t>(byte));
    EXPECT_EQ(read.has_value(), byte % 16 <= byte / 16) << byte << ": is the lane one of them?";
    if (!read) continue;
    ++good;
    EXPECT_EQ(lane_byte(*read), byte);
  }
  EXPECT_EQ(good, 136u) << "1 + 2 + ... + 16";
}

TEST(Lanes, AreAcceptedUpToWhatWasWantedAndForTheLaneThatAsked) {
  EXPECT_EQ(accept_lanes(0, {1, 0}), 1u);
  EXPECT_EQ(accept_lanes(0, {4, 0}), 1u) << "the gateway grants no more than the tunnel proper";
  EXPECT_EQ(accept_lanes(0, {4, 1}), std::nullopt) << "which is not lane 1";
  EXPECT_EQ(accept_lanes(lane_byte({4, 3}), {4, 3}), 4u);
  EXPECT_EQ(accept_lanes(lane_byte({3, 1}), {4, 1}), 3u);
  EXPECT_EQ(accept_lanes(lane_byte({5, 1}), {4, 1}), std::nullopt) << "more than wanted";
  EXPECT_EQ(accept_lanes(lane_byte({2, 0}), {1, 0}), std::nullopt) << "unasked";
  EXPECT_EQ(accept_lanes(lane_byte({4, 2}), {4, 1}), std::nullopt) << "another lane";
  EXPECT_EQ(accept_lanes(0x0f, {16, 15}), std::nullopt) << "malformed";
}

// ---- The handshake ----

struct LaneHandshake {
  test::TwoEnds ends;
  InitiationMessage initiation{};
  InitiatorState state;
  std::optional<OpenedInitiation> opened;
  ResponseMessage response{};
  std::optional<Session> gateway_session;

  explicit LaneHandshake(LaneChoice wanted, unsigned granted, ProtectionSet offered = kAll) {
    state = create_initiation(ends.client, ends.gateway_seen_by_client, 7, offered,
                              tai64n_from_unix(1000, 0), ends.random, initiation, wanted)
                .value();
    opened = open_initiation(ends.gateway, initiation);
    if (!opened) return;
    gateway_session = create_response(
        *opened, ends.client_seen_by_gateway, 9,
        offered.bits == 0 ? Protection::chacha20_poly1305 : kGcm, 77, ends.random, response,
        granted);
  }
  std::optional<Session> answered(const ResponseMessage& message) const {
    return open_response(ends.client, ends.gateway_seen_by_client, state, message, 88);
  }
};

TEST(LaneHandshake, TellsTheLaneAndTheNumberBothWays) {
  for (const LaneChoice wanted : {choice(1, 0), choice(2, 1), choice(16, 15), choice(16, 0)}) {
    const LaneHandshake handshake(wanted, wanted.lanes);
    ASSERT_TRUE(handshake.opened);
    EXPECT_EQ(handshake.opened->wanted, wanted);
    EXPECT_EQ(accept_lanes(handshake.response.lanes, wanted), unsigned{wanted.lanes});
    const auto session = handshake.answered(handshake.response);
    ASSERT_TRUE(session && handshake.gateway_session);
    EXPECT_EQ(session->send_key, handshake.gateway_session->receive_key);
  }
}

TEST(LaneHandshake, LeavesByteTwoZeroWhereOneLaneIsWantedOrGranted) {
  const LaneHandshake ordinary(choice(1, 0), 1);
  EXPECT_EQ(ordinary.initiation.lanes, 0);
  EXPECT_EQ(ordinary.response.lanes, 0);
  const LaneHandshake refused(choice(4, 0), 1);
  EXPECT_EQ(refused.initiation.lanes, 0x30);
  EXPECT_EQ(refused.response.lanes, 0);
  EXPECT_TRUE(refused.answered(refused.response));
}

// As the offer and the choice (noise_test.cpp). Macs are left out: whoever knows the public keys
// can make them.
TEST(LaneHandshake, LetsNobodyChangeTheByteInEitherMessage) {
  for (const LaneChoice wanted : {choice(1, 0), choice(16, 5)}) {
    const LaneHandshake handshake(wanted, wanted.lanes);
    ASSERT_TRUE(handshake.answered(handshake.response));
    for (unsigned byte = 0; byte < 256; ++byte) {
      InitiationMessage initiation = handshake.initiation;
      initiation.lanes = static_cast<uint8_t>(byte);
      EXPECT_EQ(open_initiation(handshake.ends.gateway, initiation).has_value(),
                byte == handshake.initiation.lanes)
          << byte;
      ResponseMessage response = handshake.response;
      response.lanes = static_cast<uint8_t>(byte);
      EXPECT_EQ(handshake.answered(response).has_value(), byte == handshake.response.lanes)
          << byte;
    }
  }
}

// A stock offer with lanes, and an offer of the same byte without: their transcripts differ.
TEST(LaneHandshake, LetsNobodyMoveTheByteToWhereTheOfferStands) {
  const LaneHandshake handshake(choice(2, 1), 2, {});
  InitiationMessage moved = handshake.initiation;
  std::swap(moved.offered, moved.lanes);
  ASSERT_EQ(moved.offered, 0x11);
  EXPECT_FALSE(open_initiation(handshake.ends.gateway, moved));
}

TEST(LaneHandshake, RefusesALaneBeyondThoseThatThereAreThoughItIsAuthentic) {
  LaneHandshake handshake(choice(2, 1), 2);
  const auto named = open_name(handshake.ends.gateway, handshake.initiation).value();
  handshake.initiation.lanes = 0x0f;  // after the transcript has taken the good one
  EXPECT_FALSE(open_initiation(named, handshake.ends.client_seen_by_gateway,
                               handshake.initiation));
}

TEST(LaneHandshake, RefusesAnAuthenticAnswerThatGrantsMoreThanWasWanted) {
  LaneHandshake handshake(choice(2, 1), 2);
  handshake.opened->wanted.lanes = 16;  // a gateway that believes so
  ASSERT_TRUE(create_response(*handshake.opened, handshake.ends.client_seen_by_gateway, 9, kGcm, 77,
                              handshake.ends.random, handshake.response, 3));
  EXPECT_FALSE(handshake.answered(handshake.response));
  handshake.state.wanted.lanes = 3;
  EXPECT_TRUE(handshake.answered(handshake.response)) << "it is authentic";
}

// ---- Peers ----

PeerConfig with_lanes(PeerConfig config, LaneChoice lanes) {
  config.lanes = lanes;
  return config;
}

TEST(LanePeers, AgreeOnTheFewerLanes) {
  struct Row {
    unsigned wanted, may, granted;
  };
  for (const auto& [wanted, may, granted] : {Row{1, 16, 1}, {4, 1, 1}, {4, 4, 4}, {4, 3, 3},
                                             {2, 16, 2}, {16, 16, 16}}) {
    Link link(with_lanes(client_config(kAll), choice(wanted, 0)),
              with_lanes(gateway_config(kAll), choice(may, 0)));
    unsigned byte_two = 0;
    link.tap = [&](bool, const Bytes& packet) { byte_two |= packet[2]; };
    EXPECT_EQ(link.client->peer.lanes_granted(), 1u);
    link.connect();
    link.run_for(kSecondNs);
    EXPECT_TRUE(link.client->peer.has_session(link.now_ns));
    EXPECT_EQ(link.client->peer.lanes_granted(), granted);
    EXPECT_EQ(link.gateway->peer.lanes_granted(), granted);
    EXPECT_EQ(byte_two != 0, wanted > 1) << "nobody speaks of lanes to who has not asked";
  }
}

TEST(LanePeers, OfOneLaneMakeASessionOfTheirOwn) {
  Link link(with_lanes(client_config(kAll), choice(4, 2)),
            with_lanes(gateway_config(kAll), choice(3, 2)));
  link.connect();
  link.run_for(kSecondNs);
  EXPECT_TRUE(link.client->peer.has_session(link.now_ns));
  EXPECT_EQ(link.client->peer.lanes_granted(), 3u);
  link.run_for(130 * kSecondNs);  // over a rekey
  EXPECT_GT(link.client->sessions_installed, 1u);
  EXPECT_EQ(link.client->peer.lanes_granted(), 3u);
}

TEST(LanePeers, RefuseAnotherLane) {
  for (const LaneChoice may : {choice(4, 0), choice(4, 3), choice(2, 1), choice(1, 0)}) {
    const LaneChoice wanted = choice(4, 2);
    Link link(with_lanes(client_config(kAll), wanted), with_lanes(gateway_config(kAll), may));
    link.connect();
    link.run_for(kSecondNs);
    EXPECT_EQ(link.gateway->last_reject, HandshakeReject::no_lane);
    EXPECT_FALSE(link.client->peer.has_session(link.now_ns));
  }
}

TEST(LanePeers, ClientSaysWhyAnAnswerIsRefused) {
  Link link(with_lanes(client_config(kAll), choice(2, 0)),
            with_lanes(gateway_config(kAll), choice(16, 0)));
  Bytes answer;
  link.loses = [&](bool to_gateway, const Bytes& packet) {
    if (!to_gateway) answer = packet;
    return !to_gateway;
  };
  link.connect();
  link.run_for(kSecondNs);
  ResponseMessage response;
  ASSERT_EQ(answer.size(), sizeof response);
  std::memcpy(&response, answer.data(), sizeof response);
  auto reject = HandshakeReject::none;
  ResponseMessage more = response;
  more.lanes = lane_byte({3, 0});
  CookieJar(link.ends().client.public_key).stamp(bytes_in(more), 0);
  EXPECT_EQ(link.client->peer.on_response(link.now_ns, more, reject).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::no_lane);
  link.client->peer.on_response(link.now_ns, response, reject);
  EXPECT_EQ(reject, HandshakeReject::none);
}

// ---- The lane of a packet ----

TEST(LaneOf, IsWhatTheProtocolSays) {
  const auto source = *Ipv4Address::parse("192.168.1.10");
  EXPECT_EQ(lane_of(source, 17, 1025, 1), 0u);
  // Computed apart from this code, by the arithmetic in docs/protocol.md.
  EXPECT_EQ(lane_of(source, 17, 1025, 16), 14u);
  EXPECT_EQ(lane_of(source, 6, 1025, 16), 7u);
  EXPECT_EQ(lane_of(source, 17, 1026, 16), 4u);
  EXPECT_EQ(lane_of(source, 47, 0, 16), 2u);
  EXPECT_EQ(lane_of(*Ipv4Address::parse("10.0.0.1"), 17, 65535, 7), 5u);
}

// Whatever of the endpoint changes: a client's many ports, a LAN's many hosts with one port.
TEST(LaneOf, SpreadsEndpointsEvenly) {
  for (unsigned lanes = 2; lanes <= kLanesMax; ++lanes) {
    std::vector<unsigned> by_port(lanes);
    std::vector<unsigned> by_host(lanes);
    constexpr unsigned kEndpoints = 16'000;
    for (unsigned i = 0; i < kEndpoints; ++i) {
      ++by_port[lane_of(*Ipv4Address::parse("192.168.1.10"), 17, static_cast<uint16_t>(1024 + i),
                        lanes)];
      ++by_host[lane_of(Ipv4Address::from_host(0x0a000000 + i), 6, 443, lanes)];
    }
    for (const auto& counts : {by_port, by_host}) {
      for (const unsigned count : counts) {
        EXPECT_GT(count, kEndpoints / lanes * 8 / 10) << lanes << " lanes";
        EXPECT_LT(count, kEndpoints / lanes * 12 / 10) << lanes << " lanes";
      }
    }
  }
}

}  // namespace
}  // namespace adit::tunnel
