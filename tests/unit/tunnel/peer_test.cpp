// One rule of the state machine at a time; whole conversations are in peer_link_test.cpp.
#include "lib/tunnel/peer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::Bytes;
using test::bytes_in;
using test::client_config;
using test::gateway_config;
using test::kAll;
using test::kMillisecondNs;
using test::Link;

constexpr auto kGcm = Protection::aes_256_gcm;
constexpr uint64_t kNever = ~uint64_t{0};

PeerConfig quiet(PeerConfig config) {  // no heartbeat and no death to disturb the other timers
  config.heartbeat_ns = 0;
  config.dead_after_ns = 0;
  return config;
}

// A link with a session and nothing in flight, whose heartbeats are off.
class QuietPeer : public testing::Test {
 protected:
  QuietPeer() {
    link.tap = [this](bool to_gateway, const Bytes& packet) {
      ++sent[to_gateway ? 1 : 0][packet[0]];
    };
    link.connect();
    link.run_for(kSecondNs);
    made_ns = link.client->peer.last_handshake_ns();
    sent = {};
  }
  unsigned initiations() const { return sent[1][1]; }
  Peer& client() { return link.client->peer; }

  Link link{quiet(client_config(kAll)), quiet(gateway_config(kAll))};
  std::array<std::array<unsigned, 6>, 2> sent{};  // [to the gateway][message type]
  uint64_t made_ns = 0;
};

TEST_F(QuietPeer, HasNothingToDoWhileNothingHappens) {
  EXPECT_EQ(client().next_deadline_ns(), kNever);
  EXPECT_EQ(link.gateway->peer.next_deadline_ns(), kNever);
  EXPECT_EQ(client().tick(link.now_ns + 3600 * kSecondNs, link.stamp()).size(), 0u);
}

TEST_F(QuietPeer, RekeysWhenItSendsInASessionOlderThanTwoMinutes) {
  link.run_until(made_ns + kRekeyAfterNs);
  link.client->send(link.now_ns, Bytes(1));
  link.run_for(0);
  EXPECT_EQ(initiations(), 0u);
  link.run_until(made_ns + kRekeyAfterNs + 1);
  link.client->send(link.now_ns, Bytes(1));
  link.run_for(kSecondNs);
  EXPECT_EQ(initiations(), 1u);
  EXPECT_GT(client().last_handshake_ns(), made_ns);
}

TEST_F(QuietPeer, RekeysWhenPlainDataIsSentInAnOldSession) {
  client().on_plain_sent(made_ns + kRekeyAfterNs);
  EXPECT_EQ(client().next_deadline_ns(), kNever);
  client().on_plain_sent(made_ns + kRekeyAfterNs + 1);
  EXPECT_EQ(client().next_deadline_ns(), made_ns + kRekeyAfterNs + 1);
}

TEST_F(QuietPeer, RekeysWhenItHearsInASessionThatEndsSoon) {
  client().on_heard(made_ns + 165 * kSecondNs, false);
  EXPECT_EQ(client().next_deadline_ns(), kNever);
  client().on_heard(made_ns + 165 * kSecondNs + 1, false);
  EXPECT_EQ(client().next_deadline_ns(), made_ns + 165 * kSecondNs + 1);
}

TEST_F(QuietPeer, RekeysOnceWhenItsCounterIsHigh) {
  client().on_send_counter(kRekeyAfterMessages);
  link.run_for(10 * kSecondNs);
  EXPECT_EQ(initiations(), 0u);
  client().on_send_counter(kRekeyAfterMessages + 1);
  link.run_for(0);
  EXPECT_EQ(initiations(), 1u);
  client().on_send_counter(kRekeyAfterMessages + 2);
  link.run_for(20 * kSecondNs);
  EXPECT_EQ(initiations(), 1u);
  EXPECT_EQ(link.client->sessions_installed, 2u);
  client().on_send_counter(kRekeyAfterMessages + 1);  // of the new session
  link.run_for(20 * kSecondNs);
  EXPECT_EQ(initiations(), 2u);
}

TEST_F(QuietPeer, HandshakesAgainWhenDataFindsNoAnswerForFifteenSeconds) {
  link.loses = [](bool to_gateway, const Bytes& packet) { return !to_gateway && packet[0] == 4; };
  const uint64_t sent_ns = link.now_ns;
  link.client->send(sent_ns, Bytes(1));
  link.run_for(7 * kSecondNs);
  link.client->send(link.now_ns, Bytes(1));  // does not put it off
  link.run_until(sent_ns + 15 * kSecondNs - 1);
  EXPECT_EQ(initiations(), 0u);
  link.run_for(1);
  EXPECT_EQ(initiations(), 1u);
}

TEST_F(QuietPeer, DoesNotMissAnAnswerToAHeartbeat) {
  link.client->send_encrypted(link.now_ns, {});
  link.run_for(100 * kSecondNs);
  EXPECT_EQ(initiations(), 0u);
}

TEST_F(QuietPeer, AnswersDataWithAKeepaliveAfterTenSecondsUnlessItSendsBefore) {
  link.delay_min_ns = link.delay_max_ns = 0;
  link.gateway->send(link.now_ns, Bytes(1));
  link.run_for(0);
  const uint64_t heard_ns = link.now_ns;
  EXPECT_EQ(client().next_deadline_ns(), heard_ns + kKeepaliveTimeoutNs);
  link.run_for(5 * kSecondNs);
  link.gateway->send(link.now_ns, Bytes(1));  // does not put it off
  link.run_until(heard_ns + kKeepaliveTimeoutNs);
  EXPECT_EQ(link.client->heartbeats_sent, 2u);  // the first confirmed the session
  EXPECT_EQ(client().next_deadline_ns(), kNever);

  link.gateway->send(link.now_ns, Bytes(1));
  link.run_for(kSecondNs);
  link.client->send(link.now_ns, Bytes(1));
  link.run_for(kKeepaliveTimeoutNs - 1);
  EXPECT_EQ(link.client->heartbeats_sent, 2u);
  EXPECT_EQ(link.gateway->heartbeats_sent, 0u);
  link.run_for(1);
  EXPECT_EQ(link.gateway->heartbeats_sent, 1u) << "the gateway answers the client's data too";
}

TEST_F(QuietPeer, DoesNotAnswerAKeepaliveWithAKeepalive) {
  link.gateway->send_encrypted(link.now_ns, {});
  link.run_for(kSecondNs);
  EXPECT_EQ(client().next_deadline_ns(), kNever);
}

TEST_F(QuietPeer, LosesItsSessionAfterThreeMinutes) {
  EXPECT_TRUE(client().has_session(made_ns + kRejectAfterNs - 1));
  EXPECT_FALSE(client().has_session(made_ns + kRejectAfterNs));
}

TEST_F(QuietPeer, HandshakesWhenAPacketWaitsWithoutASession) {
  link.run_for(200 * kSecondNs);
  EXPECT_FALSE(link.client->send(link.now_ns, Bytes(1)));
  link.run_for(kSecondNs);
  EXPECT_EQ(initiations(), 1u);
  EXPECT_TRUE(link.client->send(link.now_ns, Bytes(1)));
}

TEST_F(QuietPeer, NeverInitiatesAsTheGateway) {
  Peer& gateway = link.gateway->peer;
  gateway.on_packet_waiting(link.now_ns);
  gateway.on_send_counter(kRekeyAfterMessages + 1);
  gateway.on_sent(made_ns + 170 * kSecondNs, true);
  gateway.on_plain_sent(made_ns + 170 * kSecondNs);
  gateway.on_heard(made_ns + 170 * kSecondNs, false);
  EXPECT_EQ(gateway.next_deadline_ns(), kNever);
}

TEST_F(QuietPeer, IgnoresStragglersOnceItIsDead) {
  link.loses = [](bool, const Bytes&) { return true; };
  client().connect(link.now_ns, link.stamp());
  link.run_for(kRekeyAttemptNs);
  ASSERT_EQ(link.client->deaths, 1u);
  client().on_heard(link.now_ns, true);
  client().on_sent(link.now_ns, true);
  EXPECT_EQ(client().next_deadline_ns(), kNever);
}

TEST(Heartbeat, IsDueSoLongAfterTheLastPacketSentOfAnyKindButPlain) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.connect();
  link.run_for(kSecondNs);
  Peer& client = link.client->peer;
  const uint64_t now_ns = link.now_ns;
  client.on_sent(now_ns, true);
  EXPECT_EQ(client.next_deadline_ns(), now_ns + 10 * kSecondNs);
  client.on_plain_sent(now_ns + kSecondNs);
  EXPECT_EQ(client.next_deadline_ns(), now_ns + 10 * kSecondNs);
  client.on_sent(now_ns + kSecondNs, false);
  EXPECT_EQ(client.next_deadline_ns(), now_ns + 11 * kSecondNs);
  EXPECT_EQ(client.tick(now_ns + 11 * kSecondNs - 1, link.stamp()).size(), 0u);
  const Actions actions = client.tick(now_ns + 11 * kSecondNs, link.stamp());
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(actions.begin()->kind, Action::send_heartbeat);
}

TEST(Heartbeat, IsTheFirstThingInANewSession) {
  Link link(quiet(client_config(kAll)), quiet(gateway_config(kAll)));
  std::vector<uint8_t> types;
  link.tap = [&types](bool, const Bytes& packet) { types.push_back(packet[0]); };
  link.connect();
  link.run_for(60 * kSecondNs);
  EXPECT_EQ(types, (std::vector<uint8_t>{1, 2, 4}));
}

TEST(Initiation, IsRepeatedEveryFiveSecondsAndALittle) {
  Link link(client_config(kAll), gateway_config(kAll));
  std::vector<uint64_t> sent_ns;
  std::set<uint64_t> intervals;
  link.tap = [&](bool, const Bytes&) { sent_ns.push_back(link.now_ns); };
  link.loses = [](bool, const Bytes&) { return true; };
  link.connect();
  link.run_for(60 * kSecondNs);
  ASSERT_GE(sent_ns.size(), 11u);
  for (size_t i = 1; i < sent_ns.size(); ++i) {
    const uint64_t interval_ns = sent_ns[i] - sent_ns[i - 1];
    EXPECT_GE(interval_ns, kRekeyTimeoutNs);
    EXPECT_LT(interval_ns, kRekeyTimeoutNs + 333 * kMillisecondNs);
    intervals.insert(interval_ns);
  }
  EXPECT_GT(intervals.size(), 5u) << "the jitter differs";
}

TEST(Initiation, IsNotSentAgainWhileOneIsUnderWay) {
  Link link(client_config(kAll), gateway_config(kAll));
  EXPECT_EQ(link.client->peer.connect(link.now_ns, link.stamp()).size(), 1u);
  EXPECT_EQ(link.client->peer.connect(link.now_ns, link.stamp()).size(), 0u);
}

// A CPE has no clock: its stamps must rise though its time does not.
TEST(Initiation, CarriesAStampAboveTheLastWhateverTheClockSays) {
  Link link(client_config(kAll), gateway_config(kAll));
  std::set<Tai64n> stamps;
  Peer& client = link.client->peer;
  const Tai64n persisted = tai64n_from_unix(2'000'000'000, 0);
  client.restore_sent_stamp(persisted);
  uint64_t now_ns = 0;
  for (int i = 0; i < 300; ++i) {
    const Actions actions = i == 0 ? client.connect(now_ns, tai64n_from_unix(0, 0))
                                   : client.tick(now_ns, tai64n_from_unix(0, 0));
    for (const Action& action : actions) {
      if (action.kind == Action::dead) client.connect(now_ns, tai64n_from_unix(0, 0));
      if (action.kind != Action::send_message) continue;
      InitiationMessage message;
      std::memcpy(&message, action.message.data(), sizeof(message));
      const auto opened = open_initiation(link.ends().gateway, message);
      ASSERT_TRUE(opened);
      EXPECT_GT(opened->timestamp, persisted);
      EXPECT_EQ(opened->timestamp, client.last_sent_stamp());
      EXPECT_TRUE(stamps.insert(opened->timestamp).second);
      EXPECT_EQ(opened->timestamp, *stamps.rbegin()) << "the latest is the highest";
    }
    now_ns = client.next_deadline_ns();
  }
  EXPECT_GT(stamps.size(), 256u) << "enough to carry into the next byte";
  const Tai64n future = tai64n_from_unix(3'000'000'000, 0);
  client.tick(client.next_deadline_ns(), future);
  EXPECT_EQ(client.last_sent_stamp(), future) << "a good clock is believed";
}

class GatewayPeer : public testing::Test {
 protected:
  OpenedInitiation initiation(uint32_t second, ProtectionSet offered = kAll) {
    InitiationMessage message;
    create_initiation(ends.client, ends.gateway_seen_by_client, 77, offered,
                      tai64n_from_unix(second, 0), ends.random, message);
    return open_initiation(ends.gateway, message).value();
  }
  HandshakeReject offer(uint64_t now_ns, const OpenedInitiation& opened) {
    auto reject = HandshakeReject::malformed;
    const Actions actions = peer.on_initiation(now_ns, opened, reject);
    EXPECT_EQ(actions.size(), reject == HandshakeReject::none ? 2u : 0u);
    for (const Action& action : actions) {
      if (action.kind == Action::install_session) session = action.session;
    }
    return reject;
  }

  test::TwoEnds ends;
  Peer peer{ends.gateway, ends.client_seen_by_gateway, gateway_config(kAll), ends.random};
  Session session;
};

TEST_F(GatewayPeer, InstallsTheSessionBeforeItAnswers) {
  auto reject = HandshakeReject::malformed;
  const Actions actions = peer.on_initiation(0, initiation(1), reject);
  ASSERT_EQ(reject, HandshakeReject::none);
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions.begin()[0].kind, Action::install_session);
  EXPECT_EQ(actions.begin()[1].kind, Action::send_message);
  EXPECT_EQ(actions.begin()[1].message_bytes, sizeof(ResponseMessage));
  EXPECT_TRUE(check_mac1(ends.client.public_key, actions.begin()[1].message_span()));
}

TEST_F(GatewayPeer, RefusesStampsThatDoNotRise) {
  EXPECT_EQ(offer(0, initiation(100)), HandshakeReject::none);
  EXPECT_EQ(offer(kSecondNs, initiation(100)), HandshakeReject::replayed);
  EXPECT_EQ(offer(kSecondNs, initiation(99)), HandshakeReject::replayed);
  EXPECT_EQ(offer(kSecondNs, initiation(101)), HandshakeReject::none);
  EXPECT_EQ(peer.last_received_stamp(), tai64n_from_unix(101, 0));
  peer.restore_received_stamp(tai64n_from_unix(200, 0));
  EXPECT_EQ(offer(2 * kSecondNs, initiation(150)), HandshakeReject::replayed);
}

TEST_F(GatewayPeer, RefusesMoreThanFiftyInitiationsASecond) {
  EXPECT_EQ(offer(0, initiation(1)), HandshakeReject::none);
  EXPECT_EQ(offer(20 * kMillisecondNs - 1, initiation(2)), HandshakeReject::too_frequent);
  EXPECT_EQ(offer(20 * kMillisecondNs, initiation(2)), HandshakeReject::none);
}

TEST_F(GatewayPeer, RefusesAnotherPeersInitiation) {
  const Identity stranger = make_identity(generate_private_key(ends.random));
  const auto gateway = make_remote_identity(stranger, ends.gateway.public_key, {});
  InitiationMessage message;
  create_initiation(stranger, *gateway, 5, kAll, tai64n_from_unix(1, 0), ends.random, message);
  EXPECT_EQ(offer(0, open_initiation(ends.gateway, message).value()),
            HandshakeReject::unknown_peer);
}

TEST_F(GatewayPeer, GivesEverySessionItsSlotAndAGenerationOfItsOwn) {
  // A random source that gives each word four times over, the first of them all zero: every index
  // but the first would repeat if nobody looked.
  unsigned calls = 0;
  const RandomSource stutter = [&calls](std::span<uint8_t> out) {
    const unsigned word = out.size() == 4 ? calls++ / 4 : 0x5a5a;
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(word + i * (word != 0));
  };
  PeerConfig config = gateway_config(kAll);
  for (const uint32_t slot : {0u, 0x155u, 0xfffu}) {
    config.slot = slot;
    calls = 0;
    Peer gateway(ends.gateway, ends.client_seen_by_gateway, config, stutter);
    std::vector<uint32_t> indices;
    for (uint32_t i = 1; i <= 20; ++i) {
      auto reject = HandshakeReject::malformed;
      const Actions actions = gateway.on_initiation(i * kSecondNs, initiation(i), reject);
      ASSERT_EQ(reject, HandshakeReject::none);
      const uint32_t index = actions.begin()->session.local_index;
      EXPECT_NE(index, 0u);
      EXPECT_EQ(index & 0xfff, slot);
      // It differs from the session being replaced and from the three before.
      for (size_t back = 1; back <= std::min<size_t>(indices.size(), 4); ++back) {
        EXPECT_NE(index, indices[indices.size() - back]);
      }
      indices.push_back(index);
      gateway.on_heard(i * kSecondNs, false);
    }
  }
}

// Every third number drawn is 1, so that 1 is given again soon after it is thought free. (A client
// draws two a handshake, the generation and the retry's jitter, so every second would miss it.)
RandomSource coming_back_to_one(unsigned& calls) {
  return [&calls](std::span<uint8_t> out) {
    const bool generation = out.size() == 4;
    const unsigned word = !generation ? 0x5a : calls % 3 == 0 ? 1 : 2 + calls;
    if (generation) ++calls;
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(word);
  };
}

TEST_F(GatewayPeer, KeepsTheIndexOfALivingSessionWhileAnswersToItsRekeysGetLost) {
  unsigned calls = 0;
  const RandomSource random = coming_back_to_one(calls);
  Peer gateway(ends.gateway, ends.client_seen_by_gateway, gateway_config(kAll), random);
  auto reject = HandshakeReject::malformed;
  const Actions first = gateway.on_initiation(0, initiation(1), reject);
  const uint32_t living = first.begin()->session.local_index;
  gateway.on_heard(1, false);
  for (uint32_t i = 2; i < 12; ++i) {
    const Actions actions = gateway.on_initiation(i * kSecondNs, initiation(i), reject);
    ASSERT_EQ(reject, HandshakeReject::none);
    EXPECT_NE(actions.begin()->session.local_index, living) << i;
  }
}

TEST(ClientIndex, IsNotThatOfALivingSession) {
  const test::TwoEnds ends;
  unsigned calls = 0;
  const RandomSource random = coming_back_to_one(calls);
  Peer client(ends.client, ends.gateway_seen_by_client, client_config(kAll), random);
  Peer gateway(ends.gateway, ends.client_seen_by_gateway, gateway_config(kAll), ends.random);
  std::vector<uint32_t> indices;
  for (uint32_t i = 1; i <= 6; ++i) {
    const Actions asked = client.connect(i * kSecondNs, tai64n_from_unix(i, 0));
    ASSERT_EQ(asked.size(), 1u);
    InitiationMessage message;
    std::memcpy(&message, asked.begin()->message.data(), sizeof(message));
    auto reject = HandshakeReject::malformed;
    const auto opened = open_initiation(ends.gateway, message).value();
    const Actions answered = gateway.on_initiation(i * kSecondNs, opened, reject);
    ASSERT_EQ(answered.size(), 2u);
    ResponseMessage response;
    std::memcpy(&response, answered.begin()[1].message.data(), sizeof(response));
    client.on_response(i * kSecondNs, response, reject);
    ASSERT_EQ(reject, HandshakeReject::none);
    gateway.on_heard(i * kSecondNs, false);
    const uint32_t index = message.sender_index.host();
    EXPECT_EQ(
        std::count(indices.end() - std::min<long>(3, std::ssize(indices)), indices.end(), index), 0)
        << i;
    indices.push_back(index);
  }
}

TEST_F(GatewayPeer, HasASessionOnlyOnceItIsConfirmed) {
  ASSERT_EQ(offer(0, initiation(1)), HandshakeReject::none);
  EXPECT_FALSE(peer.has_session(1));
  peer.on_sent(1, false);
  EXPECT_FALSE(peer.has_session(1));
  peer.on_heard(kSecondNs, false);
  EXPECT_TRUE(peer.has_session(kSecondNs));
  EXPECT_EQ(peer.last_handshake_ns(), 0u);
  EXPECT_EQ(peer.last_heard_ns(), kSecondNs);
  EXPECT_FALSE(peer.has_session(kRejectAfterNs));
}

TEST_F(GatewayPeer, LivesOnForAMomentAfterAnInitiationSoThatTheNewSessionGetsItsChance) {
  ASSERT_EQ(offer(0, initiation(1)), HandshakeReject::none);
  peer.on_heard(kSecondNs, false);
  const uint64_t last_ns = 35 * kSecondNs;
  ASSERT_EQ(offer(last_ns, initiation(2)), HandshakeReject::none);
  for (const Action& action : peer.tick(last_ns + kRekeyTimeoutNs - 1, {})) {
    EXPECT_NE(action.kind, Action::dead);
  }
  const Actions actions = peer.tick(last_ns + kRekeyTimeoutNs, {});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions.begin()[0].kind, Action::drop_sessions);
  EXPECT_EQ(actions.begin()[1].kind, Action::dead);
}

TEST_F(GatewayPeer, RefusesResponsesAndCookiesThatNobodyWaitsFor) {
  auto reject = HandshakeReject::none;
  ResponseMessage response{};
  response.type = 2;
  EXPECT_EQ(peer.on_response(0, response, reject).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::unexpected);
  CookieReplyMessage cookie{};
  cookie.type = 3;
  EXPECT_EQ(peer.on_cookie_reply(0, cookie, reject).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::unexpected);
}

}  // namespace
}  // namespace adit::tunnel
