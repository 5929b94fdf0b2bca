// Handshake threads under ThreadSanitizer: a job has one owner at a time, and what one has written
// the next one sees; what threads share of those who may connect they see whole.
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gateway/handshake_threads.h"
#include "gateway/random.h"
#include "tests/support/cores.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::gateway {
namespace {

using tunnel::HandshakeReject;
using tunnel::Protection;

constexpr unsigned kClients = 40;
constexpr unsigned kRounds = 25;  // each client's handshakes

class HandshakeThreadsTest : public testing::Test {
 protected:
  HandshakeThreadsTest()
      : random(fill_random), gateway(tunnel::make_identity(tunnel::generate_private_key(random))) {
    for (unsigned i = 0; i < kClients; ++i) {
      clients.push_back(tunnel::make_identity(tunnel::generate_private_key(random)));
      remotes_known.push_back({clients.back().public_key, {}});
      seen.push_back(*make_remote_identity(clients.back(), gateway.public_key, {}));
    }
  }

  void fill_in(HandshakeJob& job, unsigned client, unsigned round) {
    job.from = {Ipv4Address::from_host(client + 1), Be16::from_host(20'000)};
    job.worker = client;
    create_initiation(clients[client], seen[client], round, {}, tunnel::tai64n_from_unix(round, 0),
                      random, job.initiation);
  }

  tunnel::RandomSource random;
  tunnel::Identity gateway;
  std::vector<tunnel::Identity> clients;
  std::vector<tunnel::Remotes::Known> remotes_known;
  std::vector<tunnel::RemoteIdentity> seen;
};

TEST_F(HandshakeThreadsTest, OpenAndAnswerEachClientsInTheirOrder) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  HandshakeThreads threads(gateway, remotes, 3, test::all_cores());
  std::array<unsigned, kClients> opened{};
  std::array<unsigned, kClients> answered{};
  unsigned given = 0;
  for (unsigned ended = 0; ended < kClients * kRounds;) {
    while (given < kClients * kRounds && threads.has_room()) {
      HandshakeJob* const job = threads.begin();
      fill_in(*job, given % kClients, given / kClients + 1);
      threads.give(job);
      ++given;
    }
    pollfd waiting{threads.event(), POLLIN, 0};
    ASSERT_EQ(poll(&waiting, 1, 10'000), 1);
    threads.hush();
    while (HandshakeJob* const job = threads.take()) {
      const unsigned client = job->worker;
      if (job->stage == HandshakeJob::opening) {
        ASSERT_EQ(job->reject, HandshakeReject::none);
        ASSERT_EQ(job->subscriber, client);
        ASSERT_EQ(job->opened.remote_index, ++opened[client]);
        job->stage = HandshakeJob::answering;
        job->answer = {.local_index = given, .chosen = Protection::chacha20_poly1305};
        threads.give(job);
        continue;
      }
      ASSERT_TRUE(job->session);
      ASSERT_EQ(job->response.receiver_index.host(), ++answered[client]);
      threads.end(job);
      ++ended;
    }
  }
  const std::vector<uint64_t> done = threads.done();
  EXPECT_EQ(done.size(), 3u);
  EXPECT_GT(std::ranges::min(done), 0u) << "each has its share of the clients";
}

// One works a client's Diffie-Hellman out, and others that want it see the whole of it.
TEST_F(HandshakeThreadsTest, ShareWhatOneHasWorkedOut) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  std::array<unsigned, 3> wrong{};
  {
    std::vector<std::jthread> threads;
    for (unsigned& count : wrong) {
      threads.emplace_back([&] {
        for (unsigned i = 0; i < kClients; ++i) {
          const tunnel::RemoteIdentity* const identity = remotes.identity(i);
          count += identity == nullptr || identity->static_static != seen[i].static_static;
        }
      });
    }
  }
  for (const unsigned count : wrong) EXPECT_EQ(count, 0u);
}

TEST_F(HandshakeThreadsTest, EndWhateverIsUnderWay) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  for (unsigned round = 0; round < 50; ++round) {
    HandshakeThreads threads(gateway, remotes, 2, test::all_cores());
    for (unsigned i = 0; i < round && threads.has_room(); ++i) {
      HandshakeJob* const job = threads.begin();
      fill_in(*job, i % kClients, 1);
      threads.give(job);
    }
  }
}

// A thread is given the next one just when it falls asleep, or a little before or after.
TEST_F(HandshakeThreadsTest, AreWokenByEveryJob) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  HandshakeThreads threads(gateway, remotes, 1, test::all_cores());
  std::atomic<unsigned> waited = 0;
  for (unsigned i = 0; i < 10'000; ++i) {
    for (unsigned step = 0; step < i % 400; ++step) waited.fetch_add(1);
    threads.give(threads.begin());  // no initiation: refused at once
    const auto ends = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    HandshakeJob* job = nullptr;
    while ((job = threads.take()) == nullptr) {
      ASSERT_LT(std::chrono::steady_clock::now(), ends) << i;
    }
    ASSERT_EQ(job->reject, HandshakeReject::not_authentic);
    threads.end(job);
  }
}

// As many as are under way, and no more; what has ended makes room.
TEST_F(HandshakeThreadsTest, AreGivenSoManyAtATime) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  HandshakeThreads threads(gateway, remotes, 2, test::all_cores());
  std::vector<HandshakeJob*> jobs;
  while (HandshakeJob* const job = threads.begin()) jobs.push_back(job);
  EXPECT_EQ(jobs.size(), 2 * HandshakeThreads::kJobsPerThread);
  EXPECT_FALSE(threads.has_room());
  EXPECT_EQ(threads.under_way(), jobs.size());
  threads.end(jobs.back());
  EXPECT_EQ(threads.begin(), jobs.back());
}

TEST_F(HandshakeThreadsTest, WorkInPlaceWhereThereAreNone) {
  tunnel::Remotes remotes(gateway, remotes_known, 1);
  HandshakeThreads in_place(gateway, remotes, 0, {});
  EXPECT_EQ(in_place.event(), -1);
  HandshakeJob* const job = in_place.begin();
  EXPECT_FALSE(in_place.has_room()) << "one is done at once";
  fill_in(*job, 0, 1);
  in_place.give(job);
  ASSERT_EQ(in_place.take(), job);
  EXPECT_EQ(in_place.take(), nullptr);
  job->stage = HandshakeJob::answering;
  job->answer.local_index = 5;
  in_place.give(job);
  ASSERT_EQ(in_place.take(), job);
  ASSERT_TRUE(job->session);
  EXPECT_EQ(job->session->local_index, 5u);
  in_place.end(job);
  EXPECT_EQ(in_place.done(), std::vector<uint64_t>{2});
}

}  // namespace
}  // namespace adit::gateway
