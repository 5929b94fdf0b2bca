// Datagrams and TCP segments by way of the kernel: what is on the wire behind a veth are the frames
// that were given, with whole checksums. In a network namespace of the test's own.
#include "gateway/kernel_sender.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "lib/net/checksum.h"
#include "tests/support/packets.h"

namespace adit::gateway {
namespace {

using adit::test::Bytes;

const Endpoint kGateway = {Ipv4Address::from_octets(30, 1, 1, 10), Be16::from_host(8000)};
const Endpoint kClient = {Ipv4Address::from_octets(20, 1, 1, 10), Be16::from_host(20001)};
const Endpoint kServer = {Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
const Endpoint kOther = {Ipv4Address::from_octets(20, 1, 1, 11), Be16::from_host(20001)};

Bytes frame_of(const Bytes& packet) {
  Bytes frame = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
  frame.insert(frame.end(), packet.begin(), packet.end());
  return frame;
}

// An outer frame; ids are as one worker gives them.
Bytes outer_frame(const Endpoint& to, size_t payload_bytes, uint16_t id) {
  const Bytes payload = adit::test::payload_bytes(payload_bytes, static_cast<uint8_t>(id));
  return frame_of(adit::test::udp_packet(kGateway, to, payload, {.id = id, .fragment = 0}));
}

// One way of a TCP connection to a server, as a client's kernel sends it.
struct Connection {
  Endpoint from;
  uint32_t sequence = 0xffff'8000;  // ends soon, and begins anew
  uint16_t id = 65'530;             // likewise
  Bytes options = {1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9};  // timestamps

  Bytes segment(size_t payload_bytes, uint8_t flags = kTcpAck) {
    const Bytes payload = adit::test::payload_bytes(payload_bytes, static_cast<uint8_t>(id));
    const Bytes packet = adit::test::tcp_packet(
        from, kServer, payload, {.flags = flags, .sequence = sequence, .options = options},
        {.ttl = 63, .id = id});
    ++id;
    sequence += static_cast<uint32_t>(payload_bytes);
    return frame_of(packet);
  }
};

// Each connection's frames, in their order; by source port.
std::map<uint16_t, std::vector<Bytes>> by_connection(const std::vector<Bytes>& frames) {
  std::map<uint16_t, std::vector<Bytes>> sorted;
  for (const Bytes& frame : frames) {
    const size_t port = sizeof(EthernetHeader) + sizeof(Ipv4Header);
    sorted[static_cast<uint16_t>(frame.at(port) << 8 | frame.at(port + 1))].push_back(frame);
  }
  return sorted;
}

class KernelSenderTest : public testing::Test {
 protected:
  void SetUp() override {
    outside_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs to be root";
    ASSERT_EQ(std::system("ip link add near type veth peer name far && ip link set near up && "
                          "ip link set far up"),
              0);
    pool_ = rte_pktmbuf_pool_create("kernel_sender", 255, 0, 0, RTE_PKTMBUF_HEADROOM + 9216, -1);
    ASSERT_NE(pool_, nullptr);
    far_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_IP);
    address.sll_ifindex = static_cast<int>(if_nametoindex("far"));
    ASSERT_EQ(bind(far_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const int room = 4 << 20;
    setsockopt(far_, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    std::string refusal;
    sender_ = KernelSender::open(if_nametoindex("near"), refusal);
    if (sender_ == nullptr) GTEST_SKIP() << refusal;
    // A link that has just come up loses what is sent until the kernel gets round to it.
    for (unsigned tries = 0; arrived().empty(); ++tries) {
      ASSERT_LT(tries, 100u);
      std::vector<rte_mbuf*> probe = {datagram_of(outer_frame(kClient, 100, 1))};
      ASSERT_EQ(sender_->send(probe).sent, 1u);
    }
  }
  void TearDown() override {
    sender_.reset();
    if (pool_ != nullptr) {
      EXPECT_EQ(rte_mempool_in_use_count(pool_), 0u);
      rte_mempool_free(pool_);
    }
    if (far_ >= 0) close(far_);
    EXPECT_EQ(setns(outside_, CLONE_NEWNET), 0);
    close(outside_);
  }

  // The veth is a wire then: what it gets is cut and has checksums before it leaves.
  static void make_wire() {
    ASSERT_EQ(std::system("ethtool -K near tx off tso off gso off tx-udp-segmentation off "
                          "> /dev/null"),
              0);
  }

  rte_mbuf* mbuf_of(const Bytes& frame) {
    rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size())), frame.data(),
                frame.size());
    return mbuf;
  }
  // As send_outer_udp() leaves it.
  rte_mbuf* datagram_of(const Bytes& frame) {
    rte_mbuf* mbuf = mbuf_of(frame);
    mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;
    mbuf->l2_len = sizeof(EthernetHeader);
    mbuf->l3_len = sizeof(Ipv4Header);
    auto& ip = *rte_pktmbuf_mtod_offset(mbuf, Ipv4Header*, sizeof(EthernetHeader));
    auto& udp = *reinterpret_cast<UdpHeader*>(&ip + 1);
    PartialSum sum = PartialSum{ip.source.value.raw()} + ip.destination.value.raw();
    sum += PartialSum{Be16::from_host(kIpUdp).raw()} + udp.length_bytes.raw();
    udp.checksum = Be16::from_raw(fold(sum));
    return mbuf;
  }

  // What has come out at the far end. A veth hands over before send() returns.
  std::vector<Bytes> arrived() const {
    std::vector<Bytes> frames;
    for (pollfd waiting{far_, POLLIN, 0}; poll(&waiting, 1, 50) > 0;) {
      Bytes frame(70'000);
      const ssize_t bytes = recv(far_, frame.data(), frame.size(), 0);
      if (bytes <= 0) break;
      frame.resize(static_cast<size_t>(bytes));
      frames.push_back(std::move(frame));
    }
    return frames;
  }

  // The same of `frames`, all of which the kernel takes.
  std::vector<Bytes> arrived_of(std::vector<rte_mbuf*>& frames) {
    const size_t given = frames.size();
    const KernelSender::Outcome outcome = sender_->send(frames);
    EXPECT_EQ(outcome.sent, given);
    EXPECT_EQ(outcome.lost, 0u);
    EXPECT_EQ(outcome.left, 0u);
    return arrived();
  }

  rte_mempool* pool_ = nullptr;
  std::unique_ptr<KernelSender> sender_;

 private:
  int outside_ = -1;
  int far_ = -1;
};

TEST_F(KernelSenderTest, OnTheWireAreTheFramesThatWereGiven) {
  make_wire();
  std::vector<Bytes> given;
  uint16_t id = 65'500;
  const auto give = [&](const Endpoint& to, size_t bytes, unsigned count) {
    for (; count > 0; --count) given.push_back(outer_frame(to, bytes, id++));
  };
  give(kClient, 1472, 60);  // more than one large packet, over the end of the ids
  give(kClient, 700, 2);    // the first ends a run, being shorter
  give(kOther, 700, 3);
  give(kClient, 96, 70);    // more than the kernel cuts out of one
  ++id;
  give(kClient, 96, 1);     // an id is missing
  give(kClient, 112, 1);    // longer than the one before
  std::vector<rte_mbuf*> frames;
  for (const Bytes& frame : given) frames.push_back(datagram_of(frame));
  const std::vector<Bytes> seen = arrived_of(frames);
  ASSERT_EQ(seen.size(), given.size());
  for (size_t i = 0; i < given.size(); ++i) EXPECT_EQ(seen[i], given[i]) << "frame " << i;
}

TEST_F(KernelSenderTest, TheKernelGetsManyAsOne) {
  std::vector<rte_mbuf*> frames;
  for (uint16_t id = 0; id < 40; ++id) {
    frames.push_back(datagram_of(outer_frame(kClient, 1472, id)));
  }
  EXPECT_EQ(sender_->send(frames).sent, 40u);
  const std::vector<Bytes> seen = arrived();  // a veth passes on what is not cut
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].size(), 42 + 40 * 1472u);
}

TEST_F(KernelSenderTest, OnTheWireAreTheSegmentsThatWereGiven) {
  make_wire();
  constexpr uint8_t kPushed = kTcpAck | kTcpPsh;
  Connection one = {.from = {kGateway.address, Be16::from_host(5001)}};
  Connection two = {.from = {kGateway.address, Be16::from_host(5002)}, .options = {}};
  std::vector<Bytes> given = {one.segment(0, kTcpSyn)};
  for (unsigned i = 0; i < 70; ++i) given.push_back(one.segment(1388));  // more than 64 KiB
  given.push_back(one.segment(300));                                     // shorter, not pushed
  for (unsigned i = 0; i < 30; ++i) {
    given.push_back(one.segment(1388, i == 29 ? kPushed : uint8_t{kTcpAck}));
    given.push_back(two.segment(1400));  // by turns
  }
  Bytes wrong = two.segment(1400);
  wrong.back() ^= 1;  // its checksum is wrong, and stays wrong
  given.push_back(wrong);
  given.push_back(two.segment(1400));
  given.push_back(two.segment(0));  // acknowledges only
  two.sequence += 1400;             // one is missing
  given.push_back(two.segment(1400));
  given.push_back(two.segment(1400, kTcpAck | kTcpFin));
  ASSERT_GT(given.size(), Coalescer::kPacketsMax);

  std::vector<rte_mbuf*> frames;
  for (const Bytes& frame : given) frames.push_back(mbuf_of(frame));
  const std::vector<Bytes> seen = arrived_of(frames);
  ASSERT_EQ(seen.size(), given.size());
  auto expected = by_connection(given);
  for (const auto& [port, arrivals] : by_connection(seen)) {
    ASSERT_EQ(arrivals.size(), expected[port].size());
    for (size_t i = 0; i < arrivals.size(); ++i) {
      EXPECT_EQ(arrivals[i], expected[port][i]) << "frame " << i << " of port " << port;
    }
  }
}

TEST_F(KernelSenderTest, TheKernelGetsAConnectionsSegmentsAsOne) {
  Connection connection = {.from = {kGateway.address, Be16::from_host(5001)}};
  const size_t headers_bytes = connection.segment(0).size();
  std::vector<rte_mbuf*> frames;
  for (unsigned i = 0; i < 40; ++i) frames.push_back(mbuf_of(connection.segment(1388)));
  frames.push_back(datagram_of(outer_frame(kClient, 1000, 1)));  // by the same call
  EXPECT_EQ(sender_->send(frames).sent, 41u);
  const std::vector<Bytes> seen = arrived();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].size(), 42 + 1000u);
  EXPECT_EQ(seen[1].size(), headers_bytes + 40 * 1388u);
}

TEST_F(KernelSenderTest, AJumboDatagramByItselfHasItsChecksum) {
  ASSERT_EQ(std::system("ip link set near mtu 9000 && ip link set far mtu 9000"), 0);
  make_wire();
  const Bytes frame = outer_frame(kClient, 8000, 1);
  std::vector<rte_mbuf*> frames = {datagram_of(frame)};
  EXPECT_EQ(sender_->send(frames).sent, 1u);
  EXPECT_EQ(arrived(), std::vector<Bytes>{frame});
}

TEST_F(KernelSenderTest, WhatIsNeitherIsLeftInOrder) {
  make_wire();
  const Bytes first = outer_frame(kClient, 100, 1);
  const Bytes second = outer_frame(kClient, 100, 2);
  rte_mbuf* const others[] = {mbuf_of(outer_frame(kOther, 50, 7)),
                              mbuf_of(outer_frame(kOther, 60, 8))};
  std::vector<rte_mbuf*> frames = {others[0], datagram_of(first), others[1], datagram_of(second)};
  const KernelSender::Outcome outcome = sender_->send(frames);
  EXPECT_EQ(outcome.sent, 2u);
  ASSERT_EQ(outcome.left, 2u);
  EXPECT_EQ(frames[0], others[0]);
  EXPECT_EQ(frames[1], others[1]);
  rte_pktmbuf_free_bulk(frames.data(), 2);
  EXPECT_EQ(arrived(), (std::vector<Bytes>{first, second}));
}

TEST_F(KernelSenderTest, WhatTheKernelRefusesIsLostAndCounted) {
  ASSERT_EQ(std::system("ip link set near down"), 0);
  std::vector<rte_mbuf*> frames = {datagram_of(outer_frame(kClient, 100, 1)),
                                   datagram_of(outer_frame(kOther, 100, 2))};
  const KernelSender::Outcome outcome = sender_->send(frames);
  EXPECT_EQ(outcome.sent, 0u);
  EXPECT_EQ(outcome.lost, 2u);
  EXPECT_EQ(outcome.left, 0u);
}

TEST(KernelSender, CutsFromLinux62On) {
  EXPECT_TRUE(cuts_datagrams("6.2.0"));
  EXPECT_TRUE(cuts_datagrams("6.18.44-virtual"));
  EXPECT_TRUE(cuts_datagrams("10.0"));
  EXPECT_FALSE(cuts_datagrams("6.1.0-18-amd64"));
  EXPECT_FALSE(cuts_datagrams("5.19"));
  EXPECT_FALSE(cuts_datagrams(""));
  EXPECT_FALSE(cuts_datagrams("6"));
  EXPECT_FALSE(cuts_datagrams("six"));
}

}  // namespace
}  // namespace adit::gateway
