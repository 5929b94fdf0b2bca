// A worker's sleep, and what ends it.
#include "gateway/packet_wait.h"

#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>

namespace adit::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kTime{400};

milliseconds waited(PacketWait& wait) {
  const auto begin = steady_clock::now();
  wait.wait(std::chrono::nanoseconds(kTime).count());
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
}

class PacketWaitTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair_.data()), 0);
  }
  void TearDown() override {
    for (const int descriptor : pair_) close(descriptor);
  }

  std::array<int, 2> pair_{};
};

TEST_F(PacketWaitTest, WhatCanBeReceivedEndsIt) {
  PacketWait wait({pair_[0]});
  ASSERT_EQ(write(pair_[1], "x", 1), 1);
  EXPECT_LT(waited(wait), kTime / 2);
}

TEST_F(PacketWaitTest, NothingEndsItAfterItsTime) {
  PacketWait wait({pair_[0]});
  EXPECT_GE(waited(wait), kTime);
}

TEST_F(PacketWaitTest, WithoutSocketsItIsASleep) {
  PacketWait wait({});
  EXPECT_GE(waited(wait), kTime);
}

// Where no buffer is free the driver leaves it where it is, and there it can still be received.
TEST_F(PacketWaitTest, WhatIsNotReceivedEndsEveryOtherOnly) {
  PacketWait wait({pair_[0]});
  ASSERT_EQ(write(pair_[1], "x", 1), 1);
  EXPECT_LT(waited(wait), kTime / 2);
  EXPECT_GE(waited(wait), kTime);
  EXPECT_LT(waited(wait), kTime / 2);
  wait.was_busy();
  EXPECT_LT(waited(wait), kTime / 2) << "another packet";
}

// A socket in error is ready at once, and would be so for ever.
TEST_F(PacketWaitTest, ASocketInErrorWakesNobody) {
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  close(pipe_ends[0]);  // POLLERR at the other end
  PacketWait wait({pipe_ends[1]});
  EXPECT_GE(waited(wait), kTime);
  close(pipe_ends[1]);
}

TEST(PacketSockets, AreThoseOfTheInterface) {
  const int bound = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (bound < 0) GTEST_SKIP() << "needs to be root";
  const int unbound = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  const int other_kind = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(if_nametoindex("lo"));
  ASSERT_EQ(bind(bound, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(packet_sockets(if_nametoindex("lo")), std::vector<int>{bound});
  EXPECT_TRUE(packet_sockets(if_nametoindex("lo") + 1000).empty());
  for (const int descriptor : {bound, unbound, other_kind}) close(descriptor);
}

TEST(PacketSockets, OfXdpAreFound) {
  const std::vector<int> before = xdp_sockets();
  const int one = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (one < 0) GTEST_SKIP() << "needs to be root, and a kernel with AF_XDP";
  EXPECT_EQ(xdp_sockets().size(), before.size() + 1);
  EXPECT_EQ(xdp_sockets().back(), one);
  close(one);
}

}  // namespace
}  // namespace adit::gateway
