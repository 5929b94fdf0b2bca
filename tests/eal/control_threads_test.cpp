// Handshakes with one control thread and with more: what comes out is the same.
#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "tests/eal/control_rig.h"

namespace adit::gateway::test {
namespace {

using tunnel::HandshakeReject;

class ControlThreads : public ControlRig, public testing::WithParamInterface<unsigned> {
 protected:
  ControlThreads() { start(GetParam()); }

  uint64_t steps() const {
    const std::vector<uint64_t> done = control_->handshakes().done();
    EXPECT_EQ(done.size(), std::max(GetParam() - 1, 1u));
    uint64_t sum = 0;
    for (const uint64_t count : done) sum += count;
    return sum;
  }
};

TEST_P(ControlThreads, AnswerEveryClientInATunnelOfItsOwn) {
  for (unsigned i = 0; i < kClients; ++i) receive(clients_[i].initiate(), endpoint_of(i));
  tick_until(kClients);
  EXPECT_EQ(control_->open_tunnels(), kClients);
  EXPECT_EQ(steps(), 2 * kClients);

  std::map<uint32_t, uint32_t> subscribers;  // by slot
  for (const Told& told : told(ToWorker::open_tunnel)) {
    EXPECT_TRUE(subscribers.emplace(told.message.slot, told.message.subscriber).second);
  }
  const std::vector<Told> answers = told(ToWorker::install_session);
  ASSERT_EQ(answers.size(), kClients);
  std::set<uint32_t> answered;
  for (const Told& told : answers) {
    ASSERT_TRUE(subscribers.contains(told.message.slot));
    const uint32_t subscriber = subscribers[told.message.slot];
    EXPECT_TRUE(answered.insert(subscriber).second);
    EXPECT_EQ(told.message.remote, endpoint_of(subscriber));
    const auto theirs = session_of(clients_[subscriber], told);
    ASSERT_TRUE(theirs);
    const tunnel::Session& ours = told.message.session;
    EXPECT_EQ(theirs->send_key, ours.receive_key);
    EXPECT_EQ(theirs->receive_key, ours.send_key);
    EXPECT_EQ(theirs->remote_index, ours.local_index);
    EXPECT_EQ(theirs->local_index, ours.remote_index);
    EXPECT_EQ(ours.protection, Protection::aes_256_gcm);
    EXPECT_EQ(ours.established_ns, now_ns_);
    EXPECT_EQ(ours.local_index % std::bit_ceil(kClients + 1), told.message.slot);
  }
}

// A tunnel stands before its session is sent to it.
TEST_P(ControlThreads, OpenATunnelBeforeItsSession) {
  receive(clients_[0].initiate(), endpoint_of(0));
  tick_until(1);
  const auto opened = told(ToWorker::open_tunnel);
  const auto installed = told(ToWorker::install_session);
  ASSERT_EQ(opened.size(), 1u);
  ASSERT_EQ(installed.size(), 1u);
  EXPECT_EQ(opened[0].message.slot, installed[0].message.slot);
  // And a second session comes into the same tunnel.
  now_ns_ += tunnel::kSecondNs;
  receive(clients_[0].initiate(), endpoint_of(0));
  tick_until(2);
  EXPECT_EQ(told(ToWorker::open_tunnel).size(), 1u);
  EXPECT_EQ(told(ToWorker::install_session)[1].message.slot, opened[0].message.slot);
}

// Clients behind one endpoint are one thread's, and what comes from there keeps its order.
TEST_P(ControlThreads, AnswerWhatComesFromOneEndpointInItsOrder) {
  for (HandshakeClient& client : clients_) receive(client.initiate(), endpoint_of(0));
  tick_until(kClients);
  const std::vector<Told> answers = told(ToWorker::install_session);
  ASSERT_EQ(answers.size(), kClients);
  for (unsigned i = 0; i < kClients; ++i) {
    EXPECT_TRUE(session_of(clients_[i], answers[i])) << i;
  }
}

TEST_P(ControlThreads, AnswerTheFirstOfTwoAndRefuseTheSecondAsTooFrequent) {
  constexpr unsigned kPairs = 50;
  std::vector<tunnel::InitiatorState> firsts;
  for (unsigned i = 0; i < kPairs; ++i) {
    receive(clients_[i].initiate(), endpoint_of(i));
    firsts.push_back(*clients_[i].state);
    receive(clients_[i].initiate(), endpoint_of(i));
  }
  tick_until(kPairs, kPairs);
  EXPECT_EQ(refused(HandshakeReject::too_frequent), kPairs);
  for (unsigned i = 0; i < kPairs; ++i) clients_[i].state = firsts[i];
  std::map<uint32_t, uint32_t> subscribers;
  for (const Told& told : told(ToWorker::open_tunnel)) {
    subscribers[told.message.slot] = told.message.subscriber;
  }
  for (const Told& told : told(ToWorker::install_session)) {
    EXPECT_TRUE(session_of(clients_[subscribers[told.message.slot]], told));
  }
}

// At once, while the first is on its way, and later.
TEST_P(ControlThreads, RefuseWhatIsRepeated) {
  std::vector<tunnel::InitiationMessage> messages;
  for (unsigned i = 0; i < 30; ++i) {
    messages.push_back(clients_[i].initiate());
    for (int copy = 0; copy < 3; ++copy) receive(messages[i], endpoint_of(i));
  }
  tick_until(30, 60);
  now_ns_ += tunnel::kSecondNs;
  for (unsigned i = 0; i < 30; ++i) receive(messages[i], endpoint_of(i + 1));
  tick_until(30, 90);
  EXPECT_EQ(refused(HandshakeReject::replayed), 90u);
  EXPECT_EQ(told(ToWorker::install_session).size(), 30u);
}

TEST_P(ControlThreads, RefuseStrangersAndForgeries) {
  HandshakeClient stranger(clients_[0].gateway.public_key, clients_[0].random);
  for (unsigned i = 0; i < 20; ++i) {
    receive(stranger.initiate(), endpoint_of(i));
    tunnel::InitiationMessage forged = clients_[i].initiate();
    forged.sealed_timestamp[3] ^= 1;
    clients_[i].jar.stamp({reinterpret_cast<uint8_t*>(&forged), sizeof forged}, 0);
    receive(forged, endpoint_of(i));
  }
  tick_until(0, 40);
  EXPECT_EQ(refused(HandshakeReject::unknown_peer), 20u);
  EXPECT_EQ(refused(HandshakeReject::not_authentic), 20u);
  EXPECT_EQ(replied().size(), 20u) << "a cookie, as a sign, to a stranger";
  EXPECT_EQ(control_->open_tunnels(), 0u);
  EXPECT_TRUE(told(ToWorker::open_tunnel).empty());
}

// Whatever is under way when it ends; and it starts again.
TEST_P(ControlThreads, EndWithHandshakesUnderWay) {
  for (unsigned round = 0; round < 30; ++round) {
    for (unsigned i = 0; i < kClients; ++i) receive(clients_[i].initiate(), endpoint_of(i));
    for (unsigned i = 0; i < round / 10; ++i) tick();
    stop();
    ASSERT_EQ(buffers_in_use(), 0u);
    start(GetParam());
  }
  receive(clients_[0].initiate(), endpoint_of(0));
  tick_until(1);
}

INSTANTIATE_TEST_SUITE_P(Of, ControlThreads, testing::Values(1u, 2u, 3u),
                         [](const auto& threads) { return std::to_string(threads.param); });

// Its tunnel ages out between the decision and the answer, which others keep waiting.
TEST_F(ControlRig, AnAnswerForATunnelThatHasEndedIsForgotten) {
  constexpr unsigned kTogether = HandshakeThreads::kJobsPerThread;
  uint64_t late = 0;
  for (unsigned round = 0; round < 5; ++round) {
    start(2);
    for (unsigned i = 0; i < kTogether; ++i) receive(clients_[i].initiate(), endpoint_of(0));
    tick_while([&] { return control_->open_tunnels() == 0; });
    now_ns_ += config_.tunnel.dead_after_ns;
    tick();
    tick_while([&] { return accepted() + refused(HandshakeReject::unexpected) < kTogether; });
    EXPECT_EQ(told(ToWorker::install_session).size(), accepted());
    late += refused(HandshakeReject::unexpected);
    stop();
  }
  EXPECT_GT(late, 0u);
}

}  // namespace
}  // namespace adit::gateway::test
