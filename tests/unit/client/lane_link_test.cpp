// A lane beyond the first, towards a gateway made of lib/tunnel on the loopback device.
#include "client-lite/lane_link.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>
#include <memory>

#include "client-lite/clock.h"
#include "client-lite/lanes.h"
#include "lib/tunnel/cookie.h"

namespace adit::client {
namespace {

using tunnel::HandshakeReject;
using tunnel::kSecondNs;

constexpr unsigned kLane = 2;
constexpr unsigned kLanes = 3;
constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr uint64_t kHeartbeatNs = 25 * kSecondNs;
constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

Config config_of() {
  Config config;
  config.lanes = kLanes;
  return config;
}

class LaneLinkTest : public ::testing::Test {
 protected:
  LaneLinkTest() {
    std::string refusal;
    EXPECT_TRUE(gateway.open(0, rights, refusal)) << refusal;
    tunnel::PeerConfig peer_config;
    const tunnel::Protection protections[] = {tunnel::Protection::aes_256_gcm};
    peer_config.initiates = true;
    peer_config.accept(protections);
    link.begin(
        {.gateway_identity = *tunnel::make_remote_identity(own, gateway_identity.public_key, {}),
         .config = peer_config,
         .gateway = {kLoopback, Be16::from_host(gateway.local_port())},
         .lanes = kLanes},
        kNow);
    // As a begun tunnel has it.
    board.change([this](LanesView& view) {
      view.lanes = kLanes;
      view.gateway = {kLoopback, Be16::from_host(gateway.local_port())};
    });
  }

  // Does what is due until `end_ns`, step by step; what comes at the gateway is in `came`.
  void run_until(uint64_t end_ns) {
    for (; now_ns < end_ns; now_ns += kSecondNs / 20) {
      link.tick(round_trip, kHeartbeatNs, now_ns);
      receive();
    }
  }
  void receive() {
    std::array<Arrival, kReceiveBatch> arrivals;
    const unsigned count = gateway.receive(*buffers, arrivals);
    for_each_datagram(std::span(arrivals).first(count),
                      [this](std::span<uint8_t> datagram, const Endpoint& source) {
                        came.push_back({{datagram.begin(), datagram.end()}, source, now_ns});
                      });
  }
  // Answers the last initiation that came, and has what follows come.
  void answer() {
    tunnel::InitiationMessage initiation;
    ASSERT_EQ(came.back().bytes.size(), sizeof initiation);
    std::memcpy(&initiation, came.back().bytes.data(), sizeof initiation);
    const auto opened = tunnel::open_initiation(gateway_identity, initiation);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->wanted, (tunnel::LaneChoice{kLanes, kLane}));
    const auto remote = tunnel::make_remote_identity(gateway_identity, own.public_key, {});
    tunnel::PeerConfig answering;
    answering.allowed = opened->offered;
    answering.preference = {tunnel::Protection::aes_256_gcm};
    answering.lanes = {kLanes, kLane};
    answering_peer.emplace(gateway_identity, *remote, answering, random);
    HandshakeReject reject{};
    for (const tunnel::Action& action : answering_peer->on_initiation(now_ns, *opened, reject)) {
      if (action.kind == tunnel::Action::send_message) {
        EXPECT_EQ(link.on_message(action.message_span(), now_ns), HandshakeReject::none);
      }
    }
    EXPECT_EQ(reject, HandshakeReject::none);
    receive();
  }
  void hear() { board.report(kLane).heard_ns.store(now_ns); }
  bool has_session() {
    uint64_t version = 0;
    return board.read(version).lane[kLane].has_session();
  }

  struct Came {
    std::vector<uint8_t> bytes;
    Endpoint source;
    uint64_t at_ns;
    bool is_initiation() const { return bytes[0] == 1; }
  };

  const tunnel::RandomSource random{fill_random};
  const tunnel::Identity own = tunnel::make_identity(tunnel::generate_private_key(random));
  const tunnel::Identity gateway_identity =
      tunnel::make_identity(tunnel::generate_private_key(random));
  const Config config = config_of();
  const Log log{config::LogLevel::kError};
  const StateFiles files{testing::TempDir(), "lane-link-test"};
  SentStamps stamps{files, log};
  Counters counters;
  LaneBoard board;
  HostRights rights;
  std::unique_ptr<LaneSender> sender = std::make_unique<LaneSender>(board, counters, config);
  LaneLink link{kLane, {config, log, own, random, stamps, counters, board, *sender, rights}};
  std::optional<tunnel::Peer> answering_peer;
  UdpSocket gateway;
  RoundTrip round_trip;
  uint64_t now_ns = kNow;
  std::vector<Came> came;
  std::unique_ptr<std::array<ArrivalBuffer, kReceiveBatch>> buffers{
      new std::array<ArrivalBuffer, kReceiveBatch>};
};

TEST_F(LaneLinkTest, TriesFromAnotherPortLaterAndLaterWhileItIsNotAnswered) {
  run_until(kNow + 7 * kSecondNs);
  ASSERT_GE(came.size(), 3u);
  EXPECT_LE(came.size(), 5u);
  for (size_t i = 0; i < came.size(); ++i) {
    EXPECT_TRUE(came[i].is_initiation());
    for (size_t j = 0; j < i; ++j) EXPECT_NE(came[i].source.port, came[j].source.port);
  }
  EXPECT_GE(came[2].at_ns - came[1].at_ns, came[1].at_ns - came[0].at_ns);
  EXPECT_TRUE(link.is_down());
  EXPECT_EQ(link.useless_since_ns(), kNow);
  EXPECT_FALSE(has_session());
}

TEST_F(LaneLinkTest, IsUpWithAProbeInItsOwnSessionWhenItIsAnswered) {
  run_until(kNow + kSecondNs / 10);
  ASSERT_EQ(came.size(), 1u);
  answer();
  EXPECT_FALSE(link.is_down());
  EXPECT_TRUE(has_session());
  ASSERT_EQ(came.size(), 2u);
  EXPECT_EQ(came[1].bytes[0], 4);
  EXPECT_EQ(came[1].source, came[0].source);
  EXPECT_EQ(link.local_port(), came[0].source.port.host());
  EXPECT_EQ(counters.sessions, 1u);
  EXPECT_EQ(stamps.last(), answering_peer->last_received_stamp());
  link.end();
  EXPECT_FALSE(has_session());
}

TEST_F(LaneLinkTest, ProbesWhenNothingAnswersThenTakesAnotherPortThenIsDown) {
  run_until(kNow + kSecondNs / 10);
  answer();
  hear();
  const uint16_t port = link.local_port();
  run_until(now_ns + 5 * kSecondNs);  // silent, but nothing was sent either
  came.clear();
  board.report(kLane).sent_ns.store(now_ns);
  const uint64_t sent_ns = now_ns;
  run_until(sent_ns + 3 * kSecondNs);
  ASSERT_FALSE(came.empty());
  EXPECT_GE(came[0].at_ns, sent_ns + kSecondNs);
  EXPECT_EQ(link.local_port(), port);
  run_until(sent_ns + 9 * kSecondNs / 2);
  EXPECT_NE(link.local_port(), port);
  EXPECT_TRUE(came.back().is_initiation());
  EXPECT_TRUE(has_session());  // which is sent in as long as there is hope
  EXPECT_FALSE(link.is_down());
  run_until(sent_ns + 10 * kSecondNs);
  EXPECT_TRUE(link.is_down());
  EXPECT_FALSE(has_session());
}

TEST_F(LaneLinkTest, StaysAsItIsWhileWhatIsSentIsAnswered) {
  run_until(kNow + kSecondNs / 10);
  answer();
  const uint16_t port = link.local_port();
  for (unsigned second = 0; second < 100; ++second) {
    board.report(kLane).sent_ns.store(now_ns);
    run_until(now_ns + kSecondNs / 2);
    hear();
    run_until(now_ns + kSecondNs / 2);
  }
  EXPECT_EQ(link.local_port(), port);
  EXPECT_FALSE(link.is_down());
  EXPECT_EQ(counters.handshakes_sent, 1u);
  // And is renewed in time.
  for (unsigned second = 0; second < 30; ++second) {
    board.report(kLane).sent_ns.store(now_ns);
    run_until(now_ns + kSecondNs / 2);
    hear();
    run_until(now_ns + kSecondNs / 2);
  }
  EXPECT_EQ(counters.handshakes_sent, 3u);  // the second was not answered for five seconds
}

TEST_F(LaneLinkTest, AsksAtOnceWhenTheTunnelIsRenewed) {
  run_until(kNow + kSecondNs / 10);
  answer();
  hear();
  run_until(now_ns + kSecondNs);
  came.clear();
  link.on_tunnel_renewed(now_ns);
  run_until(now_ns + kSecondNs / 10);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_EQ(came[0].bytes[0], 4);
  // Unanswered twice: a gateway that knows nothing of it.
  run_until(now_ns + 2 * kSecondNs);
  came.clear();
  link.on_tunnel_renewed(now_ns);
  run_until(now_ns + kSecondNs / 10);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_TRUE(came[0].is_initiation());
  answer();
  EXPECT_FALSE(link.is_down());
}

TEST_F(LaneLinkTest, TakesAnotherPortAndAsksWhenThePathIsAnother) {
  run_until(kNow + kSecondNs / 10);
  answer();
  hear();
  run_until(now_ns + kSecondNs);
  came.clear();
  const uint16_t port = link.local_port();
  link.on_path_changed(now_ns);
  EXPECT_NE(link.local_port(), port);
  run_until(now_ns + kSecondNs / 10);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_EQ(came[0].bytes[0], 4);
  EXPECT_EQ(came[0].source.port.host(), link.local_port());
}

TEST_F(LaneLinkTest, ShowsACookieFromThePortThatItWasGivenTo) {
  run_until(kNow + kSecondNs / 10);
  ASSERT_EQ(came.size(), 1u);
  const Came first = came[0];
  tunnel::CookieChecker checker(gateway_identity.public_key);
  uint32_t sender_index = 0;
  std::memcpy(&sender_index, first.bytes.data() + 4, sizeof sender_index);  // little-endian
  ASSERT_EQ(checker.check(first.bytes, first.source, now_ns, random),
            tunnel::CookieChecker::Verdict::mac1_only);
  const tunnel::CookieReplyMessage reply =
      checker.make_reply(first.bytes, sender_index, first.source, now_ns, random);
  const std::span bytes(reinterpret_cast<const uint8_t*>(&reply), sizeof reply);
  EXPECT_EQ(link.on_message(bytes, now_ns), HandshakeReject::none);
  run_until(kNow + 6 * kSecondNs);
  ASSERT_EQ(came.size(), 2u);
  EXPECT_EQ(came[1].source, first.source);
  EXPECT_EQ(checker.check(came[1].bytes, came[1].source, now_ns, random),
            tunnel::CookieChecker::Verdict::mac1_and_mac2);
  answer();
  EXPECT_FALSE(link.is_down());
}

// A way that carries handshakes alone.
TEST_F(LaneLinkTest, ASessionInWhichNothingIsHeardIsOfNoUse) {
  while (now_ns < kNow + 30 * kSecondNs) {
    const size_t before = came.size();
    run_until(now_ns + kSecondNs / 10);
    if (came.size() > before && came.back().is_initiation()) answer();
  }
  EXPECT_EQ(link.useless_since_ns(), kNow);
  hear();
  run_until(now_ns + kSecondNs / 10);
  EXPECT_EQ(link.useless_since_ns(), std::nullopt);
}

// Whatever else is heard: after so long nothing may go in it.
TEST_F(LaneLinkTest, HasNoSessionBeyondItsEndByTime) {
  run_until(kNow + kSecondNs / 10);
  answer();
  const uint64_t end_ns = now_ns + tunnel::kRejectAfterNs;
  while (now_ns < end_ns) {
    EXPECT_TRUE(has_session());
    board.report(kLane).sent_ns.store(now_ns);
    hear();
    run_until(now_ns + kSecondNs / 2);
  }
  EXPECT_GT(counters.handshakes_sent, 5u) << "it was to be renewed";
  run_until(now_ns + kSecondNs / 2);
  EXPECT_FALSE(has_session());
}

// Where there is no way to the gateway, nothing else is done.
TEST_F(LaneLinkTest, HasNoSessionBeyondItsEndThoughItIsNotTended) {
  run_until(kNow + kSecondNs / 10);
  answer();
  EXPECT_EQ(link.session_ends_ns(), now_ns + tunnel::kRejectAfterNs);
  link.expire(link.session_ends_ns() - 1);
  EXPECT_TRUE(has_session());
  link.expire(link.session_ends_ns());
  EXPECT_FALSE(has_session());
  EXPECT_EQ(link.session_ends_ns(), UINT64_MAX);
}

TEST_F(LaneLinkTest, RenewsASessionOfWhichManyPacketsWereSent) {
  run_until(kNow + kSecondNs / 10);
  answer();
  hear();
  run_until(now_ns + 6 * kSecondNs);
  came.clear();
  uint64_t version = 0;
  *board.read(version).lane[kLane].next_counter = tunnel::kRekeyAfterMessages + 1;
  run_until(now_ns + kSecondNs / 5);
  ASSERT_EQ(came.size(), 1u);
  EXPECT_TRUE(came[0].is_initiation());
}

TEST_F(LaneLinkTest, RefusesWhatNobodyWaitsFor) {
  tunnel::ResponseMessage response{};
  const std::span bytes(reinterpret_cast<const uint8_t*>(&response), sizeof response);
  EXPECT_EQ(link.on_message(bytes, now_ns), HandshakeReject::unexpected);
  run_until(kNow + kSecondNs / 10);
  EXPECT_NE(link.on_message(bytes, now_ns), HandshakeReject::none);
  EXPECT_EQ(link.on_message(bytes.first(sizeof(tunnel::CookieReplyMessage)), now_ns),
            HandshakeReject::unexpected);
  EXPECT_TRUE(link.is_down());
}

}  // namespace
}  // namespace adit::client
