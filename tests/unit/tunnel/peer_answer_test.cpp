// How a gateway's peer answers in two steps, and what may happen between them.
#include <gtest/gtest.h>

#include "lib/tunnel/peer.h"
#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::gateway_config;
using test::kAll;
using test::kMillisecondNs;


class AnsweringPeer : public testing::Test {
 protected:
  OpenedInitiation initiation(uint32_t second) {
    InitiationMessage message;
    create_initiation(ends.client, ends.gateway_seen_by_client, 77, kAll,
                      tai64n_from_unix(second, 0), ends.random, message);
    return open_initiation(ends.gateway, message).value();
  }
  std::optional<Peer::Answer> begin(uint64_t now_ns, const OpenedInitiation& opened) {
    reject = HandshakeReject::malformed;
    return peer.begin_answer(now_ns, opened, reject);
  }
  // What may take its time, elsewhere.
  Session make(const OpenedInitiation& opened, const Peer::Answer& answer) {
    return create_response(opened, ends.client_seen_by_gateway, answer.local_index, answer.chosen,
                           0, ends.random, response)
        .value();
  }
  Actions end(uint64_t now_ns, const Session& session) {
    reject = HandshakeReject::malformed;
    return peer.end_answer(now_ns, session, response, reject);
  }

  test::TwoEnds ends;
  PeerConfig config = gateway_config(kAll);
  Peer peer{ends.gateway, ends.client_seen_by_gateway, config, ends.random};
  HandshakeReject reject = HandshakeReject::none;
  ResponseMessage response;
};

TEST_F(AnsweringPeer, InstallsTheSessionThatWasMadeMeanwhile) {
  const OpenedInitiation opened = initiation(1);
  const auto answer = begin(0, opened);
  ASSERT_TRUE(answer);
  EXPECT_EQ(reject, HandshakeReject::none);
  EXPECT_EQ(peer.last_received_stamp(), opened.timestamp);
  const Session session = make(opened, *answer);
  const Actions actions = end(kSecondNs, session);
  EXPECT_EQ(reject, HandshakeReject::none);
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions.begin()[0].session.send_key, session.send_key);
  EXPECT_TRUE(check_mac1(ends.client.public_key, actions.begin()[1].message_span()));
}

// Who sees that there is no silence asks it for nothing but what does not wait for silence.
TEST_F(AnsweringPeer, SaysWhatIsDueBesideSilence) {
  const OpenedInitiation opened = initiation(1);
  end(0, make(opened, begin(0, opened).value()));
  EXPECT_TRUE(peer.awaits_confirmation());
  peer.on_heard(kSecondNs, false);
  EXPECT_FALSE(peer.awaits_confirmation());
  peer.on_sent(kSecondNs, false);
  EXPECT_EQ(peer.next_deadline_ns(), kSecondNs + config.heartbeat_ns);
  EXPECT_EQ(peer.next_deadline_but_silence_ns(), ~uint64_t{0});
  peer.on_heard(2 * kSecondNs, true);  // it wants an answer
  EXPECT_EQ(peer.next_deadline_but_silence_ns(), 2 * kSecondNs + kKeepaliveTimeoutNs);
}

TEST_F(AnsweringPeer, MakesOneAnswerAtATime) {
  const OpenedInitiation opened = initiation(1);
  const auto answer = begin(0, opened);
  EXPECT_FALSE(begin(kMillisecondNs, opened));
  EXPECT_EQ(reject, HandshakeReject::replayed);
  EXPECT_FALSE(begin(kRekeyTimeoutNs - 1, initiation(2)));
  EXPECT_EQ(reject, HandshakeReject::too_frequent);

  const Session session = make(opened, answer.value());
  EXPECT_EQ(end(kSecondNs, session).size(), 2u);
  EXPECT_EQ(end(kSecondNs, session).size(), 0u) << "it has ended";
  EXPECT_EQ(reject, HandshakeReject::unexpected);
  EXPECT_TRUE(begin(kSecondNs, initiation(2)));
}

TEST_F(AnsweringPeer, WaitsForAnAnswerNoLongerThanItsClientDoes) {
  const OpenedInitiation first = initiation(1);
  const auto late = begin(0, first);
  EXPECT_TRUE(begin(kRekeyTimeoutNs, initiation(2)));
  EXPECT_EQ(end(kRekeyTimeoutNs, make(first, late.value())).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::unexpected);
}

TEST_F(AnsweringPeer, AnswersTheNextAtOnceWhereAnAnswerIsGivenUp) {
  const auto given_up = begin(0, initiation(1));
  peer.abandon_answer(given_up.value());
  const OpenedInitiation second = initiation(2);
  const auto answer = begin(kSecondNs, second);
  ASSERT_TRUE(answer);
  peer.abandon_answer(given_up.value());  // again, and too late: that is another one's affair
  EXPECT_EQ(end(kSecondNs, make(second, *answer)).size(), 2u);
}

// A key that leads to no session (RFC 7748 section 6.1): all of its products are zero.
TEST_F(AnsweringPeer, IsNotHeldUpByOneThatCannotBeAnswered) {
  OpenedInitiation worthless = initiation(1);
  worthless.remote_ephemeral = {};
  EXPECT_EQ(peer.on_initiation(0, worthless, reject).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::not_authentic);
  EXPECT_EQ(peer.on_initiation(kSecondNs, initiation(2), reject).size(), 2u);
  EXPECT_EQ(reject, HandshakeReject::none);
}

TEST_F(AnsweringPeer, ForgetsTheAnswerThatIsBeingMadeWhenItDies) {
  const OpenedInitiation opened = initiation(1);
  const auto answer = begin(0, opened);
  EXPECT_EQ(peer.next_deadline_ns(), config.dead_after_ns);
  EXPECT_EQ(peer.tick(config.dead_after_ns, {}).size(), 2u) << "sessions dropped, dead";
  EXPECT_EQ(end(config.dead_after_ns, make(opened, answer.value())).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::unexpected);
}

}  // namespace
}  // namespace adit::tunnel
