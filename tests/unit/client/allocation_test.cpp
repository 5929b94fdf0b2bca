// The client's packet path, from a TUN device to a socket and back, in parts put together as the
// client puts them: once each has been in use, no packet allocates.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "client-lite/device_reader.h"
#include "client-lite/device_writer.h"
#include "client-lite/packet_path.h"
#include "client-lite/udp_socket.h"
#include "tests/support/allocation_count.h"
#include "tests/support/packets.h"
#include "tests/unit/client/fake_gateway.h"
#include "tests/unit/client/own_device.h"

namespace adit::client {
namespace {

using adit::test::allocations;
using adit::test::NoAllocation;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;
using tunnel::Protection;

constexpr uint64_t kNow = 1000 * tunnel::kSecondNs;
constexpr unsigned kRounds = 20;
constexpr unsigned kStreamPackets = 12;
const Ipv4Address kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

// Memory that the compiler cannot do without.
template <typename Pointer>
Pointer used(Pointer memory) {
  asm volatile("" : : "g"(memory) : "memory");
  return memory;
}

TEST(AllocationCount, CountsEveryWayToAllocate) {
  uint64_t expected = allocations();
  const auto expect_one_more = [&](const char* how) {
    EXPECT_EQ(allocations(), ++expected) << how;
  };
  delete used(new int);
  expect_one_more("new");
  operator delete (used(operator new (64, std::align_val_t{64})), std::align_val_t{64});
  expect_one_more("new, aligned");
  std::free(used(std::malloc(8)));
  expect_one_more("malloc");
  std::free(used(std::calloc(2, 8)));
  expect_one_more("calloc");
  std::free(used(std::realloc(nullptr, 8)));
  expect_one_more("realloc");
  std::free(used(std::aligned_alloc(64, 64)));
  expect_one_more("aligned_alloc");
  void* memory = nullptr;
  EXPECT_EQ(posix_memalign(&memory, 64, 64), 0);
  expect_one_more("posix_memalign");
  std::free(memory);
}

class AllocationTest : public test::OwnDevice, public ::testing::WithParamInterface<Protection> {
 protected:
  void SetUp() override {
    OwnDevice::SetUp();
    if (IsSkipped()) return;
    open();
    ASSERT_EQ(netlink_.set_link_up(if_nametoindex("lo"), 65535), 0);
    writer_.learn_kinds();
    std::string refusal;
    ASSERT_TRUE(socket_.open(0, rights_, refusal)) << refusal;
    ASSERT_TRUE(far_socket_.open(0, rights_, refusal)) << refusal;
    path_.set_gateway({kLoopback, Be16::from_host(far_socket_.local_port())});
    path_.set_address(test::kFrom.address);
    path_.set_mtu(1440);
    const auto sessions = test::shake_hands(GetParam(), 77, kNow);
    path_.install(sessions.client);
    gateway_.emplace(sessions.gateway);
  }

  // From the device to the socket: what the kernel has for us.
  void carry_out() {
    std::array<std::span<const uint8_t>, kSendBatch> datagrams;
    unsigned count = 0;
    reader_->read(
        *tun_, counters_, [&]() -> PacketBuffer& { return (*outbound_)[count]; },
        [&](std::span<const uint8_t> inner) { return path_.admit(inner); },
        [&](const Admitted& packet) {
          datagrams[count] = path_.wrap((*outbound_)[count], packet).datagram;
          return ++count == kSendBatch;
        });
    const Endpoint gateway{kLoopback, Be16::from_host(far_socket_.local_port())};
    sent_ += socket_.send(std::span(datagrams).first(count), gateway);
  }

  // From the socket to the device.
  void carry_in() {
    std::array<Arrival, kReceiveBatch> arrivals;
    const unsigned count = socket_.receive(*inbound_, arrivals);
    for_each_datagram(std::span(arrivals).first(count),
                      [&](std::span<uint8_t> datagram, const Endpoint& source) {
                        const Received received = path_.receive(datagram, source, kNow);
                        if (received.kind == Received::packet) {
                          writer_.add(received.inner, received.parsed);
                        }
                      });
    writer_.flush();
  }

  // A stream's next packets and two datagrams, as the gateway sends them.
  void send_inbound() {
    std::vector<test::Bytes> inner;
    for (unsigned i = 0; i < kStreamPackets; ++i) {
      inner.push_back(
          tcp_packet(test::kTo, test::kFrom, payload_bytes(1000), {.sequence = 1000 + i * 1000}));
    }
    for (const size_t bytes : {100, 1300}) {
      inner.push_back(udp_packet(test::kTo, test::kFrom, payload_bytes(bytes)));
    }
    const Endpoint client{kLoopback, Be16::from_host(socket_.local_port())};
    for (const test::Bytes& packet : inner) {
      const test::Bytes datagram =
          GetParam() == Protection::plain ? gateway_->plain(packet) : gateway_->sealed(packet);
      const std::span<const uint8_t> bytes(datagram);
      ASSERT_EQ(far_socket_.send({&bytes, 1}, client), 1u);
    }
  }

  Counters counters_;
  PacketPath path_{counters_};
  HostRights rights_;
  UdpSocket socket_;
  UdpSocket far_socket_;
  std::optional<test::FakeGateway> gateway_;
  std::unique_ptr<DeviceReader> reader_ = std::make_unique<DeviceReader>();
  DeviceWriter writer_{*tun_, counters_};
  std::unique_ptr<std::array<PacketBuffer, kSendBatch>> outbound_{
      new std::array<PacketBuffer, kSendBatch>};
  std::unique_ptr<std::array<ArrivalBuffer, kReceiveBatch>> inbound_{
      new std::array<ArrivalBuffer, kReceiveBatch>};
  unsigned sent_ = 0;
};

INSTANTIATE_TEST_SUITE_P(PacketPath, AllocationTest,
                         ::testing::Values(Protection::aes_256_gcm, Protection::chacha20_poly1305,
                                           Protection::plain));

TEST_P(AllocationTest, NoPacketAllocates) {
  for (unsigned round = 0; round < kRounds; ++round) {
    send_segments(payload_bytes(test::kPayloadBytes));
    send_inbound();
    const NoAllocation scope;
    carry_out();
    carry_in();
  }
  EXPECT_GE(sent_, kRounds * test::kSegments);  // and what the kernel answers to what came in
  EXPECT_EQ(counters_.rx_packets, kRounds * (kStreamPackets + 2));
}

}  // namespace
}  // namespace adit::client
