// The TUN device's large packets: what a program sends in one piece (UDP_SEGMENT) leaves here as
// the datagrams that it stands for, whatever the kernel leaves uncut.
#include "client-lite/tun.h"

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <cstdarg>
#include <cstdio>
#include <memory>

#include "client-lite/device_reader.h"
#include "tests/support/library_function.h"
#include "tests/support/packets.h"
#include "tests/unit/client/own_device.h"

namespace {

// What the kernel of an older machine would refuse: these bits of TUNSETOFFLOAD.
unsigned refused_offloads = 0;
constexpr unsigned kUso = 0x20 | 0x40;  // TUN_F_USO4, TUN_F_USO6

}  // namespace

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (request == TUNSETOFFLOAD && (reinterpret_cast<uintptr_t>(argument) & refused_offloads) != 0) {
    errno = EINVAL;
    return -1;
  }
  static auto* const real = adit::test::library_function<int(int, unsigned long, void*)>("ioctl");
  return real(fd, request, argument);
}

namespace adit::client {
namespace {

using adit::test::Bytes;
using adit::test::payload_bytes;
using adit::test::udp_packet;
using test::kFrom;
using test::kPayloadBytes;
using test::kSegmentBytes;
using test::kSegments;
using test::kTo;

// TUN_F_USO4 came with Linux 6.2.
bool kernel_has_uso() {
  utsname name{};
  unsigned major = 0;
  unsigned minor = 0;
  uname(&name);
  std::sscanf(name.release, "%u.%u", &major, &minor);
  return major > 6 || (major == 6 && minor >= 2);
}

class TunTest : public test::OwnDevice {
 protected:
  void TearDown() override {
    refused_offloads = 0;
    OwnDevice::TearDown();
  }

  // What goes on, with every packet's own length.
  std::vector<Bytes> read_all() {
    std::vector<Bytes> packets;
    auto buffer = std::make_unique<PacketBuffer>();
    Counters counters;
    PacketPath path(counters);
    reads_ = 0;
    EXPECT_TRUE(reader_->read(
        *tun_, counters, [&]() -> PacketBuffer& { return *buffer; },
        [&](std::span<const uint8_t> inner) {
          ++reads_;
          return path.admit(inner);
        },
        [&](const Admitted& packet) {
          const auto inner = buffer->inner().first(packet.bytes);
          packets.emplace_back(inner.begin(), inner.end());
          return false;
        }));
    EXPECT_EQ(counters.tx_malformed, 0u);
    return packets;
  }

  // What is sent in one message comes in so many reads, byte for byte as its single datagrams,
  // checksums included; but the first id is the kernel's to choose.
  void expect_the_single_datagrams_in(size_t reads) {
    const Bytes payload = payload_bytes(kPayloadBytes);
    send_segments(payload);
    const std::vector<Bytes> packets = read_all();
    EXPECT_EQ(reads_, reads);
    ASSERT_EQ(packets.size(), kSegments);
    const auto id_of = [](const Bytes& packet) {
      return reinterpret_cast<const Ipv4Header*>(packet.data())->id.host();
    };
    for (size_t i = 0; i < packets.size(); ++i) {
      const size_t at = i * kSegmentBytes;
      const auto part = std::span(payload).subspan(at).first(
          std::min<size_t>(kSegmentBytes, payload.size() - at));
      const auto id = static_cast<uint16_t>(id_of(packets[0]) + i);
      EXPECT_EQ(packets[i], udp_packet(kFrom, kTo, part, {.id = id})) << "datagram " << i;
    }
  }

  std::unique_ptr<DeviceReader> reader_ = std::make_unique<DeviceReader>();
  size_t reads_ = 0;
};

TEST_F(TunTest, TakesManyDatagramsInOneReadAndCutsThem) {
  open();
  EXPECT_TRUE(tun_->has_tcp_offload());
  EXPECT_EQ(tun_->has_udp_offload(), kernel_has_uso());
  expect_the_single_datagrams_in(kernel_has_uso() ? 1 : kSegments);
}

TEST_F(TunTest, LeavesUdpToAKernelThatTakesTcpOnly) {
  refused_offloads = kUso;
  open();
  EXPECT_TRUE(tun_->has_tcp_offload());
  EXPECT_FALSE(tun_->has_udp_offload());
  expect_the_single_datagrams_in(kSegments);
}

TEST_F(TunTest, LeavesAllToAKernelThatTakesNothing) {
  refused_offloads = ~0u;
  open();
  EXPECT_FALSE(tun_->has_tcp_offload());
  EXPECT_FALSE(tun_->has_udp_offload());
  expect_the_single_datagrams_in(kSegments);
}

TEST_F(TunTest, AsksForNothingWhereOffloadsAreSwitchedOff) {
  open(false);
  EXPECT_FALSE(tun_->has_tcp_offload());
  EXPECT_FALSE(tun_->has_udp_offload());
  expect_the_single_datagrams_in(kSegments);
}

}  // namespace
}  // namespace adit::client
