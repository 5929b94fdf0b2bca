// Whole conversations between two peers on a simulated clock: see link.h.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::Bytes;
using test::client_config;
using test::gateway_config;
using test::kAll;
using test::kMillisecondNs;
using test::Link;
using test::set_of;

constexpr auto kChaCha = Protection::chacha20_poly1305;
constexpr auto kGcm = Protection::aes_256_gcm;
constexpr auto kPlain = Protection::plain;

bool is_handshake(const Bytes& packet) {
  return packet[0] <= 3;
}

Bytes numbered(uint32_t number) {
  Bytes packet(64);
  std::memcpy(packet.data(), &number, sizeof(number));
  return packet;
}

// Every number from 0 to count - 1 exactly once, in any order.
void expect_all_once(const std::vector<Bytes>& received, uint32_t count) {
  std::vector<unsigned> times(count);
  for (const Bytes& packet : received) {
    uint32_t number = 0;
    ASSERT_GE(packet.size(), sizeof(number));
    std::memcpy(&number, packet.data(), sizeof(number));
    ASSERT_LT(number, count);
    ++times[number];
  }
  unsigned lost = 0;
  unsigned duplicated = 0;
  for (const unsigned n : times) {
    lost += n == 0;
    duplicated += n > 1;
  }
  EXPECT_EQ(lost, 0u);
  EXPECT_EQ(duplicated, 0u);
}

class Traffic : public testing::TestWithParam<Protection> {};

TEST_P(Traffic, OfTenMinutesLosesAndDuplicatesNothingAcrossRekeys) {
  Link link(client_config(set_of({GetParam()})), gateway_config(kAll));
  // Packets overtake each other by more than a round trip, so that those of the old session come
  // after the first of the new one.
  link.delay_max_ns = 400 * kMillisecondNs;
  link.connect();
  link.run_for(2 * kSecondNs);
  constexpr uint32_t kPackets = 600 * 20;
  for (uint32_t i = 0; i < kPackets; ++i) {
    ASSERT_TRUE(link.client->send(link.now_ns, numbered(i))) << i;
    ASSERT_TRUE(link.gateway->send(link.now_ns, numbered(i))) << i;
    link.run_for(50 * kMillisecondNs);
  }
  link.run_for(kSecondNs);
  expect_all_once(link.gateway->received, kPackets);
  expect_all_once(link.client->received, kPackets);
  EXPECT_EQ(link.client->refused, 0u);
  EXPECT_EQ(link.gateway->refused, 0u);
  // At 0, 120, 240, 360 and 480 seconds and a little.
  EXPECT_EQ(link.client->sessions_installed, 5u);
  EXPECT_EQ(link.gateway->sessions_installed, 5u);
  EXPECT_EQ(link.client->deaths + link.gateway->deaths, 0u);
}

// Only the handshakes are lost here, so that a lost data packet would be the rekey's doing.
TEST_P(Traffic, LosesNothingWhenThreeHandshakesInTenDo) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    Link link(client_config(set_of({GetParam()})), gateway_config(kAll), seed);
    link.loses = [&link](bool, const Bytes& packet) {
      return is_handshake(packet) && link.chance(30);
    };
    link.connect();
    link.run_for(30 * kSecondNs);
    ASSERT_TRUE(link.client->peer.has_session(link.now_ns));
    constexpr uint32_t kPackets = 400 * 10;
    for (uint32_t i = 0; i < kPackets; ++i) {
      ASSERT_TRUE(link.client->send(link.now_ns, numbered(i))) << i;
      ASSERT_TRUE(link.gateway->send(link.now_ns, numbered(i))) << i;
      link.run_for(100 * kMillisecondNs);
    }
    link.run_for(kSecondNs);
    expect_all_once(link.gateway->received, kPackets);
    expect_all_once(link.client->received, kPackets);
    EXPECT_GE(link.client->sessions_installed, 4u);
  }
}

TEST_P(Traffic, ComesBackByItselfAfterTheGatewayForgotEverything) {
  Link link(client_config(set_of({GetParam()})), gateway_config(kAll));
  link.connect();
  link.run_for(20 * kSecondNs);
  link.restart_gateway();
  // Someone keeps sending. In an encrypted session 15 s without an answer start a handshake; a
  // plain one, where data proves nothing, is given up when no heartbeat came.
  const uint64_t restarted_ns = link.now_ns;
  while (!link.gateway->peer.has_session(link.now_ns)) {
    link.client->send(link.now_ns, numbered(1));
    link.run_for(kSecondNs);
    if (link.client->deaths == 1) link.connect();
    ASSERT_LT(link.now_ns, restarted_ns + 60 * kSecondNs);
  }
  link.gateway->received.clear();
  ASSERT_TRUE(link.client->send(link.now_ns, numbered(0)));
  link.run_for(kSecondNs);
  expect_all_once(link.gateway->received, 1);
}

INSTANTIATE_TEST_SUITE_P(InEveryProtection, Traffic, testing::Values(kChaCha, kGcm, kPlain),
                         [](const auto& protection) {
                           std::string name = protection_name(protection.param);
                           std::erase(name, '-');
                           return name;
                         });

TEST(Negotiation, HasTheGatewaysFirstPreferenceAmongWhatIsOfferedAndAllowed) {
  for (uint8_t offered = 0; offered < 8; ++offered) {
    for (uint8_t allowed = 0; allowed < 8; ++allowed) {
      SCOPED_TRACE(testing::Message() << "offered " << int{offered} << " allowed " << int{allowed});
      Link link(client_config({offered}), gateway_config({allowed}));
      link.connect();
      link.run_for(kSecondNs);
      const uint8_t effective = offered == 0 ? 1 : offered;  // an empty offer is stock: ChaCha
      const uint8_t both = effective & allowed;
      if (both == 0) {
        EXPECT_FALSE(link.client->sessions.at(SessionSet::kCurrent).exists());
        EXPECT_EQ(link.gateway->last_reject, HandshakeReject::no_protection);
        continue;
      }
      const Protection expected = both & 2 ? kGcm : both & 1 ? kChaCha : kPlain;
      const Session& session = link.client->sessions.at(SessionSet::kCurrent);
      ASSERT_TRUE(session.exists());
      EXPECT_EQ(session.protection, expected);
      EXPECT_EQ(link.gateway->sessions.at(SessionSet::kCurrent).protection, expected);
    }
  }
}

TEST(Heartbeats, FlowBothWaysThoughOnlyPlainDataIsSent) {
  Link link(client_config(set_of({kPlain})), gateway_config(kAll));
  unsigned plain = 0;
  link.tap = [&plain](bool, const Bytes& packet) { plain += packet[0] == 5; };
  link.connect();
  link.run_for(kSecondNs);
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(link.client->send(link.now_ns, numbered(i)));
    ASSERT_TRUE(link.gateway->send(link.now_ns, numbered(i)));
    link.run_for(100 * kMillisecondNs);
  }
  EXPECT_EQ(plain, 2000u);
  // 101 seconds at 10 seconds each; the client's first confirms its session.
  EXPECT_EQ(link.client->heartbeats_sent, 11u);
  EXPECT_EQ(link.gateway->heartbeats_sent, 10u);
  EXPECT_EQ(link.client->deaths + link.gateway->deaths, 0u);
}

TEST(Heartbeats, ConfirmTheSessionBeforeAnyData) {
  for (const Protection protection : {kChaCha, kGcm, kPlain}) {
    Link link(client_config(set_of({protection})), gateway_config(kAll));
    link.connect();
    link.run_for(kSecondNs);
    EXPECT_EQ(link.gateway->heartbeats_received, 1u);
    EXPECT_TRUE(link.gateway->peer.has_session(link.now_ns));
    EXPECT_TRUE(link.gateway->send(link.now_ns, numbered(0)));
  }
}

TEST(Heartbeats, KeepAnIdleTunnelAliveForHoursAndRenewItsSession) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.connect();
  link.run_for(7200 * kSecondNs);
  EXPECT_EQ(link.client->deaths + link.gateway->deaths, 0u);
  EXPECT_TRUE(link.client->peer.has_session(link.now_ns));
  EXPECT_TRUE(link.gateway->peer.has_session(link.now_ns));
  EXPECT_NEAR(link.client->sessions_installed, 7200 / 130, 6);
  EXPECT_TRUE(link.gateway->send(link.now_ns, numbered(0)));
}

TEST(Death, ComesToBothEndsOfADeadLinkAndBothForgetTheirSessions) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.connect();
  link.run_for(kSecondNs);
  link.loses = [](bool, const Bytes&) { return true; };
  link.run_for(50 * kSecondNs);
  for (const auto* end : {link.client.get(), link.gateway.get()}) {
    EXPECT_EQ(end->deaths, 1u);
    EXPECT_FALSE(end->peer.has_session(link.now_ns));
    EXPECT_FALSE(end->sessions.at(SessionSet::kCurrent).exists());
    EXPECT_EQ(end->peer.next_deadline_ns(), ~uint64_t{0}) << "a dead peer asks for no more ticks";
  }
  link.loses = nullptr;
  link.connect();
  link.run_for(kSecondNs);
  EXPECT_TRUE(link.client->peer.has_session(link.now_ns));
  EXPECT_TRUE(link.gateway->peer.has_session(link.now_ns));
}

// A plain packet proves nothing, so it must not keep a tunnel alive (rules 8 and 9).
TEST(Death, ComesThoughPlainDataGoesOnWhenAllElseIsLost) {
  Link link(client_config(set_of({kPlain})), gateway_config(kAll));
  link.connect();
  link.run_for(kSecondNs);
  link.loses = [](bool, const Bytes& packet) { return packet[0] != 5; };
  for (int i = 0; i < 50 && link.client->deaths + link.gateway->deaths < 2; ++i) {
    link.client->send(link.now_ns, numbered(0));
    link.gateway->send(link.now_ns, numbered(0));
    link.run_for(kSecondNs);
  }
  EXPECT_EQ(link.client->deaths, 1u);
  EXPECT_EQ(link.gateway->deaths, 1u);
}

TEST(Death, ComesAfterNinetySecondsOfUnansweredInitiations) {
  Link link(client_config(kAll), gateway_config(kAll));
  unsigned initiations = 0;
  link.tap = [&initiations](bool, const Bytes& packet) { initiations += packet[0] == 1; };
  link.loses = [](bool, const Bytes&) { return true; };
  link.connect();
  link.run_for(kRekeyAttemptNs - 1);
  EXPECT_EQ(link.client->deaths, 0u);
  EXPECT_GE(initiations, 17u);
  EXPECT_LE(initiations, 18u);
  link.run_for(1);
  EXPECT_EQ(link.client->deaths, 1u);
}

TEST(Death, ComesToAGatewayWhoseAnswerNobodyConfirms) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.loses = [](bool to_gateway, const Bytes& packet) { return !to_gateway || packet[0] != 1; };
  link.connect();
  link.run_for(kSecondNs);
  EXPECT_EQ(link.gateway->sessions_installed, 1u);
  EXPECT_FALSE(link.gateway->peer.has_session(link.now_ns));
  link.loses = [](bool, const Bytes&) { return true; };
  link.run_for(36 * kSecondNs);
  EXPECT_EQ(link.gateway->deaths, 1u);
}

TEST(Cookie, LetsTheClientInUnderLoadAtItsNextTry) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.gateway->under_load = true;
  link.connect();
  link.run_for(4 * kSecondNs);
  EXPECT_EQ(link.gateway->cookies_given, 1u);
  EXPECT_FALSE(link.client->peer.has_session(link.now_ns));
  link.run_for(2 * kSecondNs);
  EXPECT_EQ(link.gateway->cookies_given, 1u);
  EXPECT_TRUE(link.client->peer.has_session(link.now_ns));
  EXPECT_TRUE(link.gateway->peer.has_session(link.now_ns));
}

TEST(Replay, OfAnInitiationIsRefused) {
  Link link(client_config(kAll), gateway_config(kAll));
  Bytes initiation;
  link.tap = [&initiation](bool, const Bytes& packet) {
    if (packet[0] == 1) initiation = packet;
  };
  link.connect();
  link.run_for(kSecondNs);
  ASSERT_EQ(link.gateway->sessions_installed, 1u);
  link.gateway->receive(link.now_ns, initiation);
  EXPECT_EQ(link.gateway->last_reject, HandshakeReject::replayed);
  EXPECT_EQ(link.gateway->sessions_installed, 1u);
}

TEST(Replay, OfAResponseIsRefused) {
  Link link(client_config(kAll), gateway_config(kAll));
  Bytes response;
  link.tap = [&response](bool, const Bytes& packet) {
    if (packet[0] == 2) response = packet;
  };
  link.connect();
  link.run_for(kSecondNs);
  link.client->receive(link.now_ns, response);
  EXPECT_EQ(link.client->last_reject, HandshakeReject::unexpected);
  EXPECT_EQ(link.client->sessions_installed, 1u);
}

TEST(Replay, OfADataPacketIsRefusedAndDoesNotCountAsHeard) {
  Link link(client_config(kAll), gateway_config(kAll));
  link.connect();
  link.run_for(kSecondNs);
  Bytes data;
  link.tap = [&data](bool, const Bytes& packet) { data = packet; };
  link.client->send(link.now_ns, numbered(0));
  link.run_for(kSecondNs);
  const uint64_t heard_ns = link.gateway->peer.last_heard_ns();
  link.gateway->receive(link.now_ns, data);
  EXPECT_EQ(link.gateway->received.size(), 1u);
  EXPECT_EQ(link.gateway->refused, 1u);
  EXPECT_EQ(link.gateway->peer.last_heard_ns(), heard_ns);
}

TEST(Tampering, WithAnyByteOfEitherMessageKeepsTheSessionFromComingUp) {
  for (const uint8_t type : {uint8_t{1}, uint8_t{2}}) {
    const size_t length = type == 1 ? sizeof(InitiationMessage) : sizeof(ResponseMessage);
    for (size_t i = 0; i < length - kMacBytes; ++i) {  // mac2 counts under load only
      Link link(client_config(kAll), gateway_config(kAll));
      // The link has no way to change a packet, so it loses the true one and delivers another.
      std::optional<Bytes> tampered;
      link.loses = [&](bool, const Bytes& packet) {
        if (packet[0] != type) return false;
        tampered = packet;
        (*tampered)[i] ^= 0x04;
        return true;
      };
      link.connect();
      link.run_for(kSecondNs);
      ASSERT_TRUE(tampered);
      (type == 1 ? link.gateway : link.client)->receive(link.now_ns, *tampered);
      link.run_for(kSecondNs);
      ASSERT_FALSE(link.client->peer.has_session(link.now_ns)) << int{type} << " byte " << i;
      ASSERT_FALSE(link.gateway->peer.has_session(link.now_ns)) << int{type} << " byte " << i;
    }
  }
}

}  // namespace
}  // namespace adit::tunnel
