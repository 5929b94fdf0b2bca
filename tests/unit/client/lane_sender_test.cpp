// What one thread sends in lanes: packets from a queue that is a socket here, to a gateway on the
// loopback device.
#include "client-lite/lane_sender.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <map>
#include <memory>

#include "client-lite/second_tunnel.h"
#include "lib/tunnel/lanes.h"
#include "tests/support/fragments.h"
#include "tests/support/packets.h"
#include "tests/unit/client/fake_gateway.h"

namespace adit::client {
namespace {

using adit::test::payload_bytes;
using adit::test::pieces_of;
using adit::test::udp_packet;
using test::Bytes;
using tunnel::kSecondNs;

constexpr unsigned kLanes = 2;
constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr auto kOwn = Ipv4Address::from_octets(192, 168, 1, 10);
constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);
constexpr Endpoint kServer{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};

// One of ours that takes this lane.
Endpoint source_in(unsigned lane) {
  uint16_t port = 2000;
  while (tunnel::lane_of(kOwn, kIpUdp, port, kLanes) != lane) ++port;
  return {kOwn, Be16::from_host(port)};
}
Bytes packet_in(unsigned lane, size_t bytes = 100) {
  return udp_packet(source_in(lane), kServer, payload_bytes(bytes, static_cast<uint8_t>(lane)));
}
// Of a datagram that is too long for one packet.
std::vector<Bytes> fragments_in(unsigned lane, uint16_t id = 7) {
  return pieces_of(
      udp_packet(source_in(lane), kServer, payload_bytes(3000), {.id = id, .fragment = 0}), 1000);
}

Config config_of() {
  Config config;
  config.lanes = kLanes;
  return config;
}

class LaneSenderTest : public ::testing::Test {
 protected:
  LaneSenderTest() {
    std::string refusal;
    EXPECT_TRUE(gateway.open(0, rights, refusal)) << refusal;
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
    host = FileDescriptor(ends[0]);
    queue = std::make_unique<Tun>(FileDescriptor(ends[1]));
    board.change([this](LanesView& view) {
      view.lanes = kLanes;
      view.gateway = {kLoopback, Be16::from_host(gateway.local_port())};
      view.address = Ipv4Interface{kOwn, 24};
    });
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      auto socket = std::make_shared<UdpSocket>();
      EXPECT_TRUE(socket->open(0, rights, refusal)) << refusal;
      lane_of_port[socket->local_port()] = lane;
      board.change([&](LanesView& view) { view.lane[lane].socket = std::move(socket); });
    }
  }

  void install(unsigned lane, uint64_t at_ns = kNow) {
    const auto pair = test::shake_hands(tunnel::Protection::aes_256_gcm, ++last_index, at_ns);
    far_ends.insert_or_assign(lane, test::FakeGateway(pair.gateway));
    board.change([&](LanesView& view) {
      view.lane[lane].session = pair.client;
      view.lane[lane].next_counter = make_counter();
    });
  }
  void drop(unsigned lane) {
    board.change([&](LanesView& view) {
      view.lane[lane].session = {};
      view.lane[lane].next_counter = nullptr;
    });
  }
  void send(const Bytes& packet, uint64_t now_ns = kNow) {
    ASSERT_EQ(::send(host.get(), packet.data(), packet.size(), 0), ssize_t(packet.size()));
    EXPECT_TRUE(sender->send_from(*queue, now_ns));
  }
  // What the gateway gets of each lane, opened and without its padding.
  std::vector<std::pair<unsigned, Bytes>> arrived() {
    std::vector<std::pair<unsigned, Bytes>> all;
    std::array<Arrival, kReceiveBatch> arrivals;
    while (const unsigned count = gateway.receive(*buffers, arrivals)) {
      for_each_datagram(std::span(arrivals).first(count),
                        [&](std::span<uint8_t> datagram, const Endpoint& source) {
                          const unsigned lane = lane_of_port.at(source.port.host());
                          auto inner = far_ends.at(lane).open(datagram);
                          ASSERT_TRUE(inner);
                          inner->resize(size_t((*inner)[2]) << 8 | (*inner)[3]);
                          all.emplace_back(lane, std::move(*inner));
                        });
    }
    return all;
  }
  using Arrived = decltype(std::declval<LaneSenderTest>().arrived());

  LaneBoard board;
  Counters counters;
  const Config config = config_of();
  std::unique_ptr<LaneSender> sender = std::make_unique<LaneSender>(board, counters, config);
  FileDescriptor host;  // writes what the queue reads
  std::unique_ptr<Tun> queue;
  HostRights rights;
  UdpSocket gateway;
  std::map<uint16_t, unsigned> lane_of_port;
  std::map<unsigned, test::FakeGateway> far_ends;
  uint32_t last_index = 0;
  std::unique_ptr<std::array<ArrivalBuffer, kReceiveBatch>> buffers{
      new std::array<ArrivalBuffer, kReceiveBatch>};
};

TEST_F(LaneSenderTest, SendsEachPacketInItsLaneWithItsSession) {
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    send(packet_in(lane));
    EXPECT_EQ(arrived(), (Arrived{{lane, packet_in(lane)}}));
    EXPECT_EQ(board.report(lane).tx_packets, 1u);
  }
}

TEST_F(LaneSenderTest, WhatWaitsForALaneHoldsUpNoOtherAndGoesInOrder) {
  install(0);
  send(packet_in(1, 101));
  send(packet_in(0));
  send(packet_in(1, 102));
  EXPECT_EQ(arrived(), (Arrived{{0, packet_in(0)}}));
  EXPECT_TRUE(board.report(1).is_awaited);
  install(1);
  sender->refresh(kNow);
  EXPECT_EQ(arrived(), (Arrived{{1, packet_in(1, 101)}, {1, packet_in(1, 102)}}));
  EXPECT_EQ(counters.tx_no_session, 0u);
}

TEST_F(LaneSenderTest, WhatWaitsForAGatewayThatIsLeftGoesToNoOther) {
  install(0);
  send(packet_in(1));
  drop(0);
  send(packet_in(0));
  board.change([](LanesView& view) { ++view.tunnel; });
  sender->refresh(kNow);
  EXPECT_EQ(counters.tx_no_session, 2u);
  // What comes from now on is for the next one.
  send(packet_in(1, 101));
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane);
  sender->refresh(kNow);
  EXPECT_EQ(arrived(), (Arrived{{1, packet_in(1, 101)}}));
  EXPECT_EQ(counters.tx_no_session, 2u);
}

TEST_F(LaneSenderTest, WhatWaitsIsDroppedWhereThereAreOtherLanes) {
  install(0);
  send(packet_in(1));
  board.change([](LanesView& view) { view.lanes = 1; });
  sender->refresh(kNow);
  EXPECT_EQ(counters.tx_no_session, 1u);
  send(packet_in(1));
  EXPECT_EQ(arrived(), (Arrived{{0, packet_in(1)}}));
}

// ---- Keys ----

TEST_F(LaneSenderTest, ASessionsKeysAreForgottenWhenItEndsByTime) {
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane, kNow + lane * kSecondNs);
  sender->refresh(kNow + kSecondNs);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const uint64_t end_ns = kNow + lane * kSecondNs + tunnel::kRejectAfterNs;
    EXPECT_EQ(sender->next_expiry_ns(), end_ns);
    sender->expire(end_ns - 1);
    EXPECT_TRUE(sender->path(lane).protection());
    sender->expire(end_ns);
    EXPECT_FALSE(sender->path(lane).protection());
    EXPECT_FALSE(sender->send_probe(lane, tunnel::kProbeRequest, 1, end_ns));
  }
  EXPECT_EQ(sender->next_expiry_ns(), UINT64_MAX);
}

TEST_F(LaneSenderTest, InTheLaneThatItReceivesItTakesWhatIsUnderWayInATunnelThatWasLeft) {
  constexpr uint64_t kEnd = kNow + SecondTunnel::kLingerNs;
  sender = std::make_unique<LaneSender>(board, counters, config, 1);
  install(0);
  install(1);
  sender->refresh(kNow);
  const Endpoint old_gateway{kLoopback, Be16::from_host(gateway.local_port())};
  const int old_socket = sender->socket(1).fd();
  test::FakeGateway old = std::move(far_ends.at(1));
  board.change([](LanesView& view) {
    ++view.moves;
    ++view.tunnel;
    view.gateway.port = Be16::from_host(9);
    view.lane[1] = {};
  });
  sender->refresh(kNow);
  EXPECT_FALSE(sender->path(1).usable(kNow)) << "nothing is sent there any more";
  EXPECT_EQ(sender->left_socket().fd(), old_socket);
  EXPECT_EQ(sender->next_expiry_ns(), kEnd);
  const auto is_heard = [&] {
    Bytes datagram = old.sealed({});
    return sender->left_path().receive(datagram, old_gateway, kNow).heard;
  };
  sender->expire(kEnd - 1);
  EXPECT_TRUE(is_heard());
  sender->expire(kEnd);
  EXPECT_FALSE(is_heard());
  EXPECT_LT(sender->left_socket().fd(), 0);
}

TEST_F(LaneSenderTest, WhatIsUnderWayIsForgottenWithTheNextTunnel) {
  sender = std::make_unique<LaneSender>(board, counters, config, 1);
  install(1);
  sender->refresh(kNow);
  board.change([](LanesView& view) { ++view.moves, ++view.tunnel; });
  sender->refresh(kNow);
  EXPECT_GE(sender->left_socket().fd(), 0);
  board.change([](LanesView& view) { ++view.tunnel; });
  sender->refresh(kNow);
  EXPECT_LT(sender->left_socket().fd(), 0);
  EXPECT_FALSE(sender->left_path().protection());
}

TEST_F(LaneSenderTest, ASessionThatHasARenewedOneIsForgottenAtItsOwnEnd) {
  install(1);
  sender->refresh(kNow);
  test::FakeGateway old = std::move(far_ends.at(1));
  const uint64_t renewed_ns = kNow + tunnel::kRekeyAfterNs;
  install(1, renewed_ns);
  sender->refresh(renewed_ns);
  EXPECT_EQ(sender->next_expiry_ns(), kNow + tunnel::kRejectAfterNs);
  const auto receive = [&](uint64_t now_ns) {
    Bytes datagram = old.sealed({});
    return sender->path(1)
        .receive(datagram, {kLoopback, Be16::from_host(gateway.local_port())}, now_ns)
        .heard;
  };
  EXPECT_TRUE(receive(renewed_ns));
  sender->expire(kNow + tunnel::kRejectAfterNs);
  EXPECT_FALSE(receive(kNow + tunnel::kRejectAfterNs));
  EXPECT_EQ(counters.rx_unknown_index, 1u) << "there are no keys of it any more";
  EXPECT_EQ(sender->next_expiry_ns(), renewed_ns + tunnel::kRejectAfterNs);
}

TEST_F(LaneSenderTest, ASessionWhoseCountersAreUsedUpCarriesNothing) {
  install(1);
  uint64_t version = 0;
  *board.read(version).lane[1].next_counter = tunnel::kRejectAfterMessages - 1;
  send(packet_in(1));
  EXPECT_EQ(arrived().size(), 1u);
  send(packet_in(1));
  EXPECT_EQ(arrived().size(), 0u);
  EXPECT_EQ(counters.tx_counter_exhausted, 1u);
}

// ---- Fragments ----

TEST_F(LaneSenderTest, FragmentsBeforeTheirFirstFollowIt) {
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane);
  const auto pieces = fragments_in(1);
  ASSERT_EQ(pieces.size(), 4u);
  send(pieces[3]);
  send(fragments_in(0, 8)[1]);  // another datagram's
  send(pieces[1]);
  EXPECT_EQ(arrived(), Arrived{});
  send(pieces[0]);
  EXPECT_EQ(arrived(), (Arrived{{1, pieces[0]}, {1, pieces[3]}, {1, pieces[1]}}));
  send(pieces[2]);
  EXPECT_EQ(arrived(), (Arrived{{1, pieces[2]}}));
  EXPECT_EQ(counters.tx_fragment_alone, 0u);
}

TEST_F(LaneSenderTest, FragmentsWaitWithTheirFirstForItsLane) {
  install(0);
  const auto pieces = fragments_in(1);
  send(pieces[1]);
  send(pieces[0]);
  install(1);
  sender->refresh(kNow);
  EXPECT_EQ(arrived(), (Arrived{{1, pieces[0]}, {1, pieces[1]}}));
}

TEST_F(LaneSenderTest, FragmentsWaitForTheirFirstNoLongerThanAtTheGateway) {
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane);
  const auto pieces = fragments_in(1);
  send(pieces[1]);
  const uint64_t end_ns = kNow + LaneSender::kFragmentWaitNs;
  EXPECT_EQ(sender->next_expiry_ns(), end_ns);
  send(pieces[2], end_ns - 1);
  sender->expire(end_ns);
  EXPECT_EQ(counters.tx_fragment_alone, 1u);
  EXPECT_EQ(sender->next_expiry_ns(), end_ns - 1 + LaneSender::kFragmentWaitNs);
  send(pieces[0], end_ns);
  EXPECT_EQ(arrived(), (Arrived{{1, pieces[0]}, {1, pieces[2]}}));
}

TEST_F(LaneSenderTest, FragmentsThatWaitHaveBoundedRoom) {
  for (unsigned lane = 0; lane < kLanes; ++lane) install(lane);
  for (unsigned id = 0; id <= PacketQueue::kPacketsMax; ++id) {
    send(fragments_in(1, static_cast<uint16_t>(id))[1]);
  }
  EXPECT_EQ(counters.tx_fragment_alone, 1u);
  send(packet_in(0));
  EXPECT_EQ(arrived().size(), 1u);
  sender->expire(kNow + LaneSender::kFragmentWaitNs);
  EXPECT_EQ(counters.tx_fragment_alone, 1u + PacketQueue::kPacketsMax);
}

}  // namespace
}  // namespace adit::client
