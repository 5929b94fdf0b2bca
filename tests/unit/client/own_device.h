// A network namespace with a tunnel's device in it, and a program that gives the kernel many
// datagrams in one message (UDP_SEGMENT).
#pragma once

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <memory>
#include <string>

#include "client-lite/tun.h"
#include "tests/support/packets.h"
#include "tests/unit/client/own_network.h"

namespace adit::client::test {

inline constexpr uint16_t kSegmentBytes = 1000;
inline constexpr size_t kSegments = 13;
inline constexpr size_t kPayloadBytes = kSegments * kSegmentBytes - 345;
inline const Endpoint kFrom{address_of("192.168.1.10"), Be16::from_host(1025)};
inline const Endpoint kTo{address_of("192.168.1.77"), Be16::from_host(443)};

inline sockaddr_in socket_address(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = endpoint.address.value.raw();
  address.sin_port = endpoint.port.raw();
  return address;
}

class OwnDevice : public OwnNetwork {
 protected:
  void open(bool offloads = true) {
    std::string refusal;
    ASSERT_TRUE(tun_->open("adit0", offloads, Tun::Queues::one, refusal)) << refusal;
    ASSERT_EQ(netlink_.set_link_up(tun_->interface_index(), 1440), 0);
    ASSERT_EQ(netlink_.add_address(tun_->interface_index(), interface_of("192.168.1.10/24")), 0);
  }

  // Gives the kernel many datagrams in one message.
  void send_segments(const adit::test::Bytes& payload) {
    const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in from = socket_address(kFrom);
    const sockaddr_in to = socket_address(kTo);
    const int segment_bytes = kSegmentBytes;
    const int whole = IP_PMTUDISC_DO;
    ASSERT_EQ(bind(socket.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
    ASSERT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    ASSERT_EQ(setsockopt(socket.get(), IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof whole), 0);
    ASSERT_EQ(
        setsockopt(socket.get(), IPPROTO_UDP, UDP_SEGMENT, &segment_bytes, sizeof segment_bytes),
        0);
    ASSERT_EQ(::send(socket.get(), payload.data(), payload.size(), 0), ssize_t(payload.size()));
  }

  std::unique_ptr<Tun> tun_ = std::make_unique<Tun>();
};

}  // namespace adit::client::test
