// A flood of handshakes: the control thread asks for cookies, in the buffers that the flood came in,
// and the worker sends them; who brings one back gets in.
#include <rte_mbuf.h>

#include <cstring>

#include "tests/eal/control_rig.h"

namespace adit::gateway::test {
namespace {

// So many at once that each must have a cookie.
class Flooded : public ControlRig {
 protected:
  static constexpr unsigned kFlood = 200;
  Flooded() : ControlRig(kFlood) { start(1); }

  void all_initiate() {
    for (unsigned i = 0; i < kFlood; ++i) receive(clients_[i].initiate(), endpoint_of(i));
  }
  // Every packet buffer that is left.
  std::vector<rte_mbuf*> take_all_buffers() {
    std::vector<rte_mbuf*> all;
    while (rte_mbuf* const buffer = rte_pktmbuf_alloc(pool_)) all.push_back(buffer);
    return all;
  }
};

TEST_F(Flooded, EachIsAnsweredByACookieInItsOwnBufferAndComesInWithIt) {
  all_initiate();
  std::vector<rte_mbuf*> others = take_all_buffers();
  tick();
  EXPECT_EQ(control_->counters().cookies_sent, kFlood);
  EXPECT_EQ(control_->counters().no_buffer, 0u);
  EXPECT_EQ(accepted(), 0u);
  ASSERT_EQ(replied().size(), kFlood);
  for (unsigned i = 0; i < kFlood; ++i) {
    EXPECT_EQ(replied()[i].to, endpoint_of(i));
    tunnel::CookieReplyMessage cookie;
    ASSERT_EQ(replied()[i].packet.size(), sizeof cookie);
    std::memcpy(&cookie, replied()[i].packet.data(), sizeof cookie);
    EXPECT_EQ(cookie.receiver_index.host(), clients_[i].second) << "what it calls itself";
    EXPECT_TRUE(clients_[i].jar.on_reply(cookie, 0)) << i;
  }
  rte_pktmbuf_free_bulk(others.data(), static_cast<unsigned>(others.size()));
  EXPECT_EQ(buffers_in_use(), 0u);

  all_initiate();
  tick_until(kFlood);
  EXPECT_EQ(told(ToWorker::install_session).size(), kFlood);
  EXPECT_EQ(replied().size(), kFlood) << "no more of them";
}

// A worker that takes none for a while gets what the ring holds; what it has no room for is counted.
TEST_F(Flooded, CookiesThatAWorkerDoesNotTakeAreCountedAndFillNothingElse) {
  for (int twice = 0; twice < 2; ++twice) {
    all_initiate();
    control_->tick(now_ns_);
  }
  tick();
  EXPECT_EQ(control_->counters().cookies_sent, 2 * kFlood);
  EXPECT_EQ(replied().size(), kRigReplies - 1);
  EXPECT_EQ(control_->counters().worker_ring_full, 2 * kFlood - (kRigReplies - 1));
  EXPECT_EQ(control_->counters().packets_given, kRigReplies - 1);
  EXPECT_EQ(buffers_in_use(), 0u);
}

// All come back at once, as after a restart of the gateway: more than can be answered before they
// try again.
class Herd : public ControlRig {
 protected:
  static constexpr unsigned kHerd = 1500;
  static constexpr unsigned kStep = 200;  // what the rings hold
  Herd() : ControlRig(kHerd) { start(1); }

  void all_initiate() {
    for (unsigned i = 0; i < kHerd; ++i) {
      receive(clients_[i].initiate(), endpoint_of(i));
      if (i % kStep == kStep - 1 || i == kHerd - 1) tick();
    }
  }
  void take_cookies() {
    for (const Replied& reply : replied()) {
      tunnel::CookieReplyMessage cookie;
      ASSERT_EQ(reply.packet.size(), sizeof cookie);
      std::memcpy(&cookie, reply.packet.data(), sizeof cookie);
      EXPECT_TRUE(
          clients_[reply.to.port.host() - endpoint_of(0).port.host()].jar.on_reply(cookie, 0));
    }
  }
  uint64_t crowded_out() const { return control_->counters().handshakes_crowded_out; }
};

TEST_F(Herd, WaitsToBeAnsweredAndNobodyHasToComeAgain) {
  all_initiate();
  EXPECT_EQ(replied().size(), kHerd);
  take_cookies();
  all_initiate();
  EXPECT_LT(accepted(), kHerd / 2) << "answered already: nobody had to wait";
  EXPECT_EQ(buffers_in_use(), 0u) << "of those who wait";
  tick_until(kHerd);
  EXPECT_EQ(accepted(), kHerd);
  EXPECT_EQ(crowded_out(), 0u);
  EXPECT_EQ(refused_in_all(), 0u);
}

TEST_F(Herd, WhoWaitsForAsLongAsItTakesToTryAgainIsNotAnswered) {
  all_initiate();
  take_cookies();
  all_initiate();
  now_ns_ += tunnel::kRekeyTimeoutNs - 1;
  tick();
  const uint64_t answered = accepted();
  EXPECT_GT(answered, 0u);
  EXPECT_EQ(crowded_out(), 0u);
  ++now_ns_;
  tick_while([&] { return accepted() + crowded_out() < kHerd; });
  EXPECT_EQ(accepted(), answered);
  EXPECT_EQ(crowded_out(), kHerd - answered);
}

// A tunnel that its worker has not heard of would be deaf until it is given up.
TEST_F(Herd, OpensEveryTunnelThoughItsWorkerTakesNothingForAWhile) {
  const auto all_come_in = [&](const std::function<void()>& turn) {
    const uint64_t before = accepted();
    for (unsigned i = 0; i < kHerd; ++i) {
      receive(clients_[i].initiate(), endpoint_of(i));
      for (unsigned turns = 0; accepted() <= before + i && turns < 1000; ++turns) turn();
      ASSERT_EQ(accepted(), before + i + 1);
    }
  };
  all_come_in([&] { control_->tick(now_ns_); });
  EXPECT_TRUE(told().empty()) << "nobody has looked yet";
  for (unsigned i = 0; i < 4; ++i) tick();
  const std::vector<Told> opened = told(ToWorker::open_tunnel);
  ASSERT_EQ(opened.size(), kHerd);
  for (unsigned i = 0; i < kHerd; ++i) EXPECT_EQ(opened[i].message.subscriber, i) << "in order";
  const size_t installed = told(ToWorker::install_session).size();
  EXPECT_LT(installed, kHerd);
  EXPECT_EQ(control_->counters().worker_ring_full, kHerd - installed) << "those come again";
  EXPECT_EQ(buffers_in_use(), 0u);

  now_ns_ += tunnel::kRekeyTimeoutNs;
  all_come_in([&] { tick(); });
  EXPECT_EQ(told(ToWorker::open_tunnel).size(), kHerd);
  EXPECT_EQ(told(ToWorker::install_session).size(), installed + kHerd);
}

class RepliesPath : public Rig {};

TEST_F(RepliesPath, AreSentFromTheTunnelEndpointToWhomTheyAreFor) {
  const Endpoint other{Ipv4Address::from_octets(20, 1, 1, 99), Be16::from_host(7)};
  for (const Endpoint& to : {kClientOuter, other}) {
    const Bytes payload = adit::test::payload_bytes(sizeof(tunnel::CookieReplyMessage));
    const Reply reply{to, rte_pktmbuf_alloc(pool())};
    ASSERT_NE(reply.packet, nullptr);
    std::memcpy(rte_pktmbuf_append(reply.packet, static_cast<uint16_t>(payload.size())),
                payload.data(), payload.size());
    deliver(0, reply);
    EXPECT_EQ(sent_to_tunnel(to), payload);
  }
  EXPECT_EQ(counters_.handed_in, 2u);
}

}  // namespace
}  // namespace adit::gateway::test
