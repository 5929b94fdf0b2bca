// The socket on the loopback device, with the kernel's own UDP_SEGMENT and UDP_GRO; and on a card
// that shows what it sends.
#include "client-lite/udp_socket.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/own_network.h"

namespace adit::client {
namespace {

using Bytes = std::vector<uint8_t>;
using Whole = UdpSocket::Whole;
constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

template <typename Network>
class WithTwoSockets : public Network {
 protected:
  void SetUp() override {
    Network::SetUp();
    if (this->IsSkipped()) return;
    std::string refusal;
    ASSERT_TRUE(sender.open(0, rights, refusal)) << refusal;
    ASSERT_TRUE(receiver.open(0, rights, refusal)) << refusal;
    to = {kLoopback, Be16::from_host(receiver.local_port())};
  }

  unsigned send(const std::vector<Bytes>& datagrams) {
    const std::vector<std::span<const uint8_t>> spans(datagrams.begin(), datagrams.end());
    return sender.send(spans, to);
  }
  // Everything that comes within a moment, datagram by datagram.
  std::vector<Bytes> receive() {
    std::vector<Bytes> out;
    std::array<Arrival, kReceiveBatch> arrivals;
    pollfd wait{receiver.fd(), POLLIN, 0};
    while (poll(&wait, 1, 50) > 0) {
      const unsigned count = receiver.receive(*buffers, arrivals);
      messages += count;
      for (unsigned i = 0; i < count; ++i) {
        EXPECT_EQ(arrivals[i].source.port.host(), sender.local_port());
        std::span<uint8_t> left = arrivals[i].bytes;
        do {
          const auto datagram = left.first(std::min(left.size(), arrivals[i].datagram_bytes));
          out.emplace_back(datagram.begin(), datagram.end());
          left = left.subspan(datagram.size());
        } while (!left.empty());
      }
    }
    return out;
  }

  HostRights rights;
  UdpSocket sender;
  UdpSocket receiver;
  Endpoint to;
  unsigned messages = 0;
  std::unique_ptr<std::array<ArrivalBuffer, kReceiveBatch>> buffers{
      new std::array<ArrivalBuffer, kReceiveBatch>};
};

using UdpSocketTest = WithTwoSockets<::testing::Test>;

class UdpSocketOnAChangingLink : public WithTwoSockets<test::OwnNetwork> {
 protected:
  void set_link_mtu(uint16_t mtu_bytes) {
    ASSERT_EQ(netlink_.set_link_up(if_nametoindex("lo"), mtu_bytes), 0);
  }
};

std::vector<Bytes> datagrams_of(const std::vector<size_t>& sizes) {
  std::vector<Bytes> out;
  for (const size_t size : sizes) out.emplace_back(size, static_cast<uint8_t>(out.size()));
  return out;
}

TEST_F(UdpSocketTest, CarriesEveryDatagramWholeAndInOrder) {
  std::vector<size_t> sizes;
  for (size_t i = 0; i < kSendBatch; ++i) sizes.push_back(i % 7 == 0 ? 40 + i : 1472);
  std::vector<std::vector<size_t>> cases = {
      {100},
      {100, 100, 100},
      {100, 100, 50, 50, 50, 7},
      {100, 101, 102, 101, 1},
      {0, 0, 5},
      std::vector<size_t>(kSendBatch, 1472),  // more than a UDP message holds
      std::vector<size_t>(kSendBatch, 64),
      sizes,
  };
  for (const std::vector<size_t>& list : cases) {
    const std::vector<Bytes> datagrams = datagrams_of(list);
    EXPECT_EQ(send(datagrams), datagrams.size());
    EXPECT_EQ(receive(), datagrams);
  }
}

TEST_F(UdpSocketTest, EquallyLongDatagramsTravelAsOne) {
  if (!sender.sends_segments() || !receiver.receives_segments()) {
    GTEST_SKIP() << "this kernel has no UDP_SEGMENT or no UDP_GRO";
  }
  const std::vector<Bytes> datagrams = datagrams_of({500, 500, 500, 500, 499});
  EXPECT_EQ(send(datagrams), 5u);
  EXPECT_EQ(receive(), datagrams);
  EXPECT_EQ(messages, 1u);
}

TEST_F(UdpSocketTest, ASenderWithoutSegmentsSendsEachDatagramByItself) {
  sender.forgo_segments();
  const std::vector<Bytes> datagrams = datagrams_of(std::vector<size_t>(10, 900));
  EXPECT_EQ(send(datagrams), 10u);
  EXPECT_EQ(receive(), datagrams);
  EXPECT_EQ(messages, 10u);
}

TEST_F(UdpSocketTest, AReceiverWithoutSegmentsGetsEachDatagramByItself) {
  receiver.forgo_segments();
  const std::vector<Bytes> datagrams = datagrams_of(std::vector<size_t>(10, 900));
  EXPECT_EQ(send(datagrams), 10u);
  EXPECT_EQ(receive(), datagrams);
  EXPECT_EQ(messages, 10u);
}

TEST_F(UdpSocketTest, AReboundSocketHasAnotherPortAndCarriesAsBefore) {
  const uint16_t port = sender.local_port();
  ASSERT_TRUE(sender.rebind(rights));
  EXPECT_NE(sender.local_port(), port);
  const std::vector<Bytes> datagrams = datagrams_of({100, 100, 7});
  EXPECT_EQ(send(datagrams), datagrams.size());
  EXPECT_EQ(receive(), datagrams);
}

TEST_F(UdpSocketTest, IsTheSameWhenShared) {
  UdpSocket shared = sender.share();
  ASSERT_GE(shared.fd(), 0);
  EXPECT_EQ(shared.local_port(), sender.local_port());
  EXPECT_EQ(shared.sends_segments(), sender.sends_segments());
  const std::vector<Bytes> datagrams = datagrams_of({500, 500, 499});
  EXPECT_EQ(send(datagrams), datagrams.size());
  EXPECT_EQ(receive(), datagrams);
  const UdpSocket old = std::exchange(sender, std::move(shared));
  EXPECT_EQ(send(datagrams), datagrams.size());
  EXPECT_EQ(receive(), datagrams);
  EXPECT_LT(UdpSocket{}.share().fd(), 0);
}

// Each of 16 lanes' threads has each lane's socket.
TEST_F(UdpSocketTest, IsSharedWhereNoDescriptorIsLeft) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  UdpSocket shared = sender.share();
  UdpSocket another;
  std::string refusal;
  EXPECT_FALSE(another.open(0, rights, refusal)) << "there is indeed none";
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  sender = std::move(shared);
  const std::vector<Bytes> datagrams = datagrams_of({500, 500, 499});
  EXPECT_EQ(send(datagrams), datagrams.size());
  EXPECT_EQ(receive(), datagrams);
}

TEST_F(UdpSocketTest, WhatMustStayWholeIsRefusedByASmallerLink) {
  const std::vector<Bytes> small = datagrams_of({1000});
  EXPECT_EQ(sender.send_whole(small[0], to, rights), Whole::sent);
  EXPECT_EQ(receive(), small);
  // The loopback device takes 65536 bytes: with its headers this is more than a datagram can be.
  EXPECT_EQ(sender.send_whole(Bytes(65535 - 27), to, rights), Whole::too_large);
}

// What arrives still comes to the socket itself, and nobody else may have its port.
TEST_F(UdpSocketTest, AfterWhatMustStayWholeThePortIsStillItsOwn) {
  ASSERT_EQ(sender.send_whole(Bytes(100), to, rights), Whole::sent);
  EXPECT_EQ(receive().size(), 1u);
  const Endpoint back{kLoopback, Be16::from_host(sender.local_port())};
  const Bytes answer(50);
  const std::span<const uint8_t> datagram = answer;
  ASSERT_EQ(receiver.send({&datagram, 1}, back), 1u);
  std::array<Arrival, kReceiveBatch> arrivals;
  EXPECT_EQ(sender.receive(*buffers, arrivals), 1u);
  std::string refusal;
  UdpSocket other;
  EXPECT_FALSE(other.open(sender.local_port(), rights, refusal));
}

// The second socket shares the port in a way in which the kernel lets no other user in.
TEST_F(UdpSocketTest, WhileWhatMustStayWholeIsSentNobodyElseCanJoinThePort) {
  if (geteuid() != 0) GTEST_SKIP() << "another user is needed";
  constexpr uid_t kNobody = 65534;
  int alive[2];
  ASSERT_EQ(pipe2(alive, O_NONBLOCK | O_CLOEXEC), 0);
  const uint16_t port = sender.local_port();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close(alive[1]);
    if (setuid(kNobody) != 0) _exit(2);
    sockaddr_in wanted{};
    wanted.sin_family = AF_INET;
    wanted.sin_port = Be16::from_host(port).raw();
    const int on = 1;
    for (char end; read(alive[0], &end, 1) != 0;) {
      const FileDescriptor other(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      setsockopt(other.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
      if (bind(other.get(), reinterpret_cast<const sockaddr*>(&wanted), sizeof wanted) == 0) {
        _exit(1);
      }
    }
    _exit(0);
  }
  for (unsigned i = 0; i < 5000; ++i) sender.send_whole(Bytes(100), to, rights);
  close(alive[0]);
  close(alive[1]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0) << "1: it has joined";
}

TEST_F(UdpSocketTest, WhatMustStayWholeIsSentWithoutASecondSocketToo) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Bytes datagram(100);
  const Whole small = sender.send_whole(datagram, to, rights);
  const Whole large = sender.send_whole(Bytes(65535 - 27), to, rights);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(small, Whole::sent) << "or the path's MTU would be taken for smaller than it is";
  EXPECT_EQ(large, Whole::too_large);
  EXPECT_EQ(receive(), std::vector<Bytes>{datagram});
  int discover = -1;
  socklen_t bytes = sizeof discover;
  getsockopt(sender.fd(), IPPROTO_IP, IP_MTU_DISCOVER, &discover, &bytes);
  EXPECT_EQ(discover, IP_PMTUDISC_DONT);
}

class UdpSocketOnACard : public test::OwnNetwork {};

// What another thread sends on the same socket meanwhile may be cut on its way, as ever.
TEST_F(UdpSocketOnACard, WhatMustStayWholeIsAllThatMust) {
  test::Card card("eth0", "10.1.1.10/24");
  HostRights rights;
  UdpSocket socket;
  std::string refusal;
  ASSERT_TRUE(socket.open(0, rights, refusal)) << refusal;
  const Endpoint to{test::address_of("10.1.1.1"), Be16::from_host(8000)};
  const Bytes usual(100);
  const Bytes whole(200);
  std::atomic<unsigned> sent = 0;
  std::atomic<bool> ends = false;
  std::thread other([&, shared = socket.share()]() mutable {
    const std::span<const uint8_t> datagram = usual;
    while (!ends) sent += shared.send({&datagram, 1}, to);
  });
  unsigned seen_usual = 0;
  unsigned seen_whole = 0;
  const auto look = [&] {
    for (Bytes packet = card.take(); !packet.empty(); packet = card.take()) {
      const auto* ip = reinterpret_cast<const Ipv4Header*>(packet.data());
      const auto* udp = reinterpret_cast<const UdpHeader*>(ip + 1);
      if (ip->destination != to.address) continue;
      const bool is_whole = packet.size() == sizeof *ip + sizeof *udp + whole.size();
      ++(is_whole ? seen_whole : seen_usual);
      ASSERT_EQ((ip->fragment.host() & kIpDontFragment) != 0, is_whole);
      ASSERT_EQ(ip->source, test::address_of("10.1.1.10"));
      ASSERT_EQ(udp->source_port.host(), socket.local_port());
    }
  };
  for (unsigned i = 0; i < 300 && !HasFatalFailure(); ++i) {
    EXPECT_EQ(socket.send_whole(whole, to, rights), Whole::sent);
    for (const unsigned until = sent + 3; sent < until;) std::this_thread::yield();
    look();
  }
  ends = true;
  other.join();
  EXPECT_EQ(socket.send_whole(Bytes(1473), to, rights), Whole::too_large);
  EXPECT_GT(seen_usual, 300u);
  EXPECT_GT(seen_whole, 200u);
}

// That says nothing of the path's MTU.
TEST_F(UdpSocketOnACard, WhatHasNoWayIsLostAndNotTooLarge) {
  test::Card card("eth0", "10.1.1.10/24");
  HostRights rights;
  UdpSocket socket;
  std::string refusal;
  ASSERT_TRUE(socket.open(0, rights, refusal)) << refusal;
  const Endpoint nowhere{test::address_of("40.1.1.1"), Be16::from_host(8000)};
  EXPECT_EQ(socket.send_whole(Bytes(100), nowhere, rights), Whole::lost);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const Whole alone = socket.send_whole(Bytes(100), nowhere, rights);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(alone, Whole::lost) << "without a second socket";
}

TEST(SegmentUse, IsOverForGoodOnceTheKernelSaysThatItCannot) {
  SegmentUse use;
  EXPECT_FALSE(use.is_due());
  use.set_possible(true);
  EXPECT_TRUE(use.is_due());
  EXPECT_TRUE(use.on_refused(EIO));
  EXPECT_FALSE(use.is_possible());
  use.on_sent(1'000'000);
  EXPECT_FALSE(use.is_due());
}

TEST(SegmentUse, IsTriedAgainAfterALinkWasTooNarrow) {
  for (const int error : {EINVAL, EMSGSIZE}) {
    SegmentUse use;
    use.set_possible(true);
    EXPECT_TRUE(use.on_refused(error));
    EXPECT_TRUE(use.is_possible());
    use.on_sent(SegmentUse::kSinglesAfterRefusal - 1);
    EXPECT_FALSE(use.is_due());
    use.on_sent(64);
    EXPECT_TRUE(use.is_due());
  }
}

TEST(SegmentUse, OtherRefusalsSayNothingOfSegments) {
  SegmentUse use;
  use.set_possible(true);
  for (const int error : {EPERM, ENETUNREACH, ENOBUFS}) EXPECT_FALSE(use.on_refused(error));
  EXPECT_TRUE(use.is_due());
}

TEST_F(UdpSocketTest, SendsOneByOneWhatTheKernelRefusesToCut) {
  if (!sender.sends_segments()) GTEST_SKIP() << "this kernel has no UDP_SEGMENT";
  // The kernel cuts no message of a socket that leaves the UDP checksum out (EINVAL).
  const int on = 1;
  ASSERT_EQ(setsockopt(sender.fd(), SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
  const std::vector<Bytes> datagrams = datagrams_of({90, 80, 80, 80, 100, 100});
  for (unsigned i = 0; i < 2; ++i) {
    messages = 0;
    EXPECT_EQ(send(datagrams), datagrams.size());
    EXPECT_EQ(receive(), datagrams);
    EXPECT_EQ(messages, datagrams.size());
  }
}

// Too narrow for the datagrams: each goes in fragments, and in a message of its own.
TEST_F(UdpSocketOnAChangingLink, SegmentsAreBackSoonAfterALinkWasNarrow) {
  if (!sender.sends_segments()) GTEST_SKIP() << "this kernel has no UDP_SEGMENT";
  set_link_mtu(1400);
  const std::vector<Bytes> datagrams = datagrams_of(std::vector<size_t>(16, 1450));
  const auto send_and_count = [&] {
    messages = 0;
    EXPECT_EQ(send(datagrams), datagrams.size());
    EXPECT_EQ(receive(), datagrams);
    return messages;
  };
  const auto send_on = [&] {
    for (size_t sent = 0; sent < 5'000; sent += datagrams.size()) {
      ASSERT_EQ(send(datagrams), datagrams.size());
    }
    receive();
  };
  EXPECT_EQ(send_and_count(), datagrams.size());
  send_on();
  EXPECT_EQ(send_and_count(), datagrams.size());
  set_link_mtu(1500);
  EXPECT_EQ(send_and_count(), datagrams.size()) << "it is not tried with every batch";
  send_on();
  EXPECT_EQ(send_and_count(), 1u);
}

}  // namespace
}  // namespace adit::client
