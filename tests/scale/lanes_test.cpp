// What the threads of a client with lanes share, under ThreadSanitizer: sessions and sockets that
// the main thread publishes, and a session's counter that all of them take their own from.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "client-lite/lane_board.h"
#include "client-lite/lane_sender.h"
#include "tests/unit/client/fake_gateway.h"

namespace adit::client {
namespace {

constexpr unsigned kThreads = 3;
constexpr unsigned kLanes = 2;
constexpr unsigned kSessions = 20;    // of each lane, one after another
constexpr size_t kPacketsEach = 200;  // that come of each session, at least
constexpr uint64_t kNow = 1'000'000'000'000;
constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

TEST(LaneThreads, SendInTheSessionsThatArePublishedWithNoCounterTwice) {
  LaneBoard board;
  Config config;
  config.lanes = kLanes;
  std::string refusal;
  HostRights rights;
  UdpSocket gateway;
  ASSERT_TRUE(gateway.open(0, rights, refusal)) << refusal;
  std::map<uint32_t, test::FakeGateway> sessions;  // by the index that the gateway is sent
  std::atomic<bool> is_over{false};
  std::array<uint32_t, kLanes> current{};  // of the sessions published last

  const auto publish = [&](unsigned number) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const auto pair =
          test::shake_hands(tunnel::Protection::aes_256_gcm, 1 + number * kLanes + lane, kNow);
      sessions.emplace(pair.client.remote_index, test::FakeGateway(pair.gateway));
      current[lane] = pair.client.remote_index;
      auto socket = std::make_shared<UdpSocket>();
      ASSERT_TRUE(socket->open(0, rights, refusal)) << refusal;
      board.change([&](LanesView& view) {
        view.lanes = kLanes;
        view.gateway = {kLoopback, Be16::from_host(gateway.local_port())};
        view.lane[lane] = {pair.client, std::make_shared<std::atomic<uint64_t>>(0),
                           std::move(socket)};
      });
    }
  };

  const auto work = [&](unsigned me) {
    Counters counters;
    const auto sender = std::make_unique<LaneSender>(board, counters, config);
    for (unsigned i = me; !is_over; ++i) {
      sender->send_probe(i % kLanes, tunnel::kProbeRequest, i, kNow);
      board.report(i % kLanes).sent_ns.store(i, std::memory_order_relaxed);
    }
    EXPECT_EQ(counters.tx_counter_exhausted, 0u);
  };

  std::map<uint32_t, std::set<uint64_t>> counters_of;
  unsigned twice = 0;
  unsigned not_authentic = 0;
  const auto buffers = std::make_unique<std::array<ArrivalBuffer, kReceiveBatch>>();
  const auto receive = [&] {
    std::array<Arrival, kReceiveBatch> arrivals;
    const unsigned count = gateway.receive(*buffers, arrivals);
    for_each_datagram(
        std::span(arrivals).first(count), [&](std::span<uint8_t> datagram, const Endpoint&) {
          const auto* header = reinterpret_cast<const tunnel::EncryptedHeader*>(datagram.data());
          const uint32_t index = header->receiver_index.host();
          const auto session = sessions.find(index);
          not_authentic += session == sessions.end() || !session->second.open(datagram);
          twice += !counters_of[index].insert(header->counter.host()).second;
        });
  };
  {
    publish(0);
    std::vector<std::jthread> threads;
    for (unsigned me = 0; me < kThreads; ++me) threads.emplace_back(work, me);
    for (unsigned number = 0; number < kSessions; ++number) {
      if (number > 0) publish(number);
      while (counters_of[current[0]].size() < kPacketsEach ||
             counters_of[current[1]].size() < kPacketsEach) {
        receive();
      }
    }
    is_over = true;
  }
  receive();
  EXPECT_EQ(counters_of.size(), kSessions * kLanes);
  EXPECT_EQ(twice, 0u);
  EXPECT_EQ(not_authentic, 0u);
}

}  // namespace
}  // namespace adit::client
