#include "client-lite/packet_lanes.h"

#include <gtest/gtest.h>

#include "lib/pcp/message.h"
#include "lib/tunnel/lanes.h"
#include "tests/support/fragments.h"
#include "tests/support/packets.h"

namespace adit::client {
namespace {

using adit::test::Bytes;
using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr unsigned kLanes = 16;
constexpr uint64_t kNow = 1'000'000'000'000;
constexpr auto kOwn = Ipv4Address::from_octets(192, 168, 1, 10);
constexpr auto kHost = Ipv4Address::from_octets(192, 168, 44, 7);  // behind us
constexpr auto kRouter = Ipv4Address::from_octets(192, 168, 1, 1);
constexpr auto kServer = Ipv4Address::from_octets(40, 1, 1, 10);
constexpr auto kOther = Ipv4Address::from_octets(50, 2, 2, 20);

Endpoint at(Ipv4Address address, uint16_t port) {
  return {address, Be16::from_host(port)};
}

unsigned lane_by(Ipv4Address address, uint8_t protocol, uint16_t port) {
  return tunnel::lane_of(address, protocol, port, kLanes);
}

// The first port from `port` on whose lane is another than `lane`.
uint16_t port_beside(unsigned lane, Ipv4Address address, uint8_t protocol, uint16_t port) {
  while (lane_by(address, protocol, port) == lane) ++port;
  return port;
}

class PacketLanesTest : public ::testing::Test {
 protected:
  PacketLanesTest() { lanes.set(kLanes, Ipv4Interface{kOwn, 24}.prefix()); }

  std::optional<uint8_t> choose(const Bytes& inner, uint64_t now_ns = kNow) {
    const auto packet = path.admit(inner);
    EXPECT_TRUE(packet);
    return lanes.choose(inner, *packet, now_ns);
  }

  Counters counters;
  PacketPath path{counters};
  PacketLanes lanes;
};

TEST_F(PacketLanesTest, AnEndpointHasOneLaneWhateverItSendsTo) {
  std::array<unsigned, kLanes> endpoints{};
  for (uint16_t port = 1025; port < 1281; ++port) {
    const unsigned lane = lane_by(kOwn, kIpUdp, port);
    ++endpoints[lane];
    EXPECT_EQ(choose(udp_packet(at(kOwn, port), at(kServer, 6600), {})), lane);
    EXPECT_EQ(choose(udp_packet(at(kOwn, port), at(kOther, 53), payload_bytes(900))), lane);
    EXPECT_EQ(choose(tcp_packet(at(kHost, port), at(kServer, 80), {})),
              lane_by(kHost, kIpTcp, port));
    EXPECT_EQ(choose(icmp_query(kOwn, kServer, kIcmpEchoRequest, port, 1, {})),
              lane_by(kOwn, kIpIcmp, port));
  }
  for (const unsigned count : endpoints) EXPECT_GT(count, 0u);
  EXPECT_EQ(choose(ipv4_packet(kOwn, kServer, kIpGre, payload_bytes(40))),
            lane_by(kOwn, kIpGre, 0));
}

TEST_F(PacketLanesTest, WithOneLaneEverythingTakesIt) {
  lanes.set(1, {});
  for (uint16_t port = 1025; port < 1050; ++port) {
    EXPECT_EQ(choose(udp_packet(at(kOwn, port), at(kServer, 6600), {})), 0);
  }
  const Bytes whole = udp_packet(at(kOwn, 1), at(kServer, 2), payload_bytes(400), {.fragment = 0});
  EXPECT_EQ(choose(pieces_of(whole, 200)[1]), 0);
}

TEST_F(PacketLanesTest, DhcpTakesTheFirst) {
  EXPECT_EQ(choose(udp_packet(at({}, 68), at(kRouter, 67), payload_bytes(300))), 0);
}

TEST_F(PacketLanesTest, FragmentsFollowTheirFirst) {
  const Bytes datagram =
      udp_packet(at(kOwn, 1025), at(kServer, 6600), payload_bytes(3000), {.id = 7, .fragment = 0});
  const Bytes query = icmp_query(kOwn, kServer, kIcmpEchoRequest, 99, 1, payload_bytes(3000),
                                 {.id = 7, .fragment = 0});
  const std::vector<Bytes> pieces = pieces_of(datagram, 1000);
  const std::vector<Bytes> query_pieces = pieces_of(query, 1000);
  const unsigned lane = lane_by(kOwn, kIpUdp, 1025);
  const unsigned query_lane = lane_by(kOwn, kIpIcmp, 99);
  ASSERT_NE(lane, query_lane);
  EXPECT_EQ(choose(pieces[1]), std::nullopt);  // its first has not come
  EXPECT_EQ(choose(pieces[0]), lane);
  EXPECT_EQ(choose(query_pieces[0]), query_lane);
  for (size_t i = 1; i < pieces.size(); ++i) {
    EXPECT_EQ(choose(pieces[i]), lane);
    EXPECT_EQ(choose(query_pieces[i]), query_lane);
  }
  EXPECT_EQ(choose(adit::test::with_id(pieces[1], 8)), std::nullopt);  // another datagram's
  EXPECT_EQ(choose(pieces[1], kNow + PacketLanes::kFragmentNs - 1), lane);
  EXPECT_EQ(choose(pieces[1], kNow + PacketLanes::kFragmentNs), std::nullopt);
}

TEST_F(PacketLanesTest, FragmentsOfAProtocolWithoutPortsNeedNoFirst) {
  const Bytes whole = ipv4_packet(kOwn, kServer, kIpGre, payload_bytes(400), {.fragment = 0});
  EXPECT_EQ(choose(pieces_of(whole, 200)[1]), lane_by(kOwn, kIpGre, 0));
}

TEST_F(PacketLanesTest, AnIcmpErrorGoesByTheEndpointThatItsQuoteWasSentTo) {
  const unsigned own_lane = lane_by(kHost, kIpIcmp, 0);
  const uint16_t port = port_beside(own_lane, kHost, kIpUdp, 1025);
  const uint16_t id = port_beside(own_lane, kHost, kIpIcmp, 1);
  const auto error_about = [](const Bytes& quote, size_t bytes) {
    return icmp_packet(kHost, kServer, kIcmpUnreachable, kIcmpPortUnreachable, 0,
                       std::span(quote).first(bytes));
  };
  const Bytes udp = udp_packet(at(kServer, 6600), at(kHost, port), payload_bytes(100));
  const Bytes query = icmp_query(kServer, kHost, kIcmpEchoReply, id, 1, payload_bytes(100));
  EXPECT_EQ(choose(error_about(udp, 28)), lane_by(kHost, kIpUdp, port));
  EXPECT_EQ(choose(error_about(udp, udp.size())), lane_by(kHost, kIpUdp, port));
  EXPECT_EQ(choose(error_about(query, 28)), lane_by(kHost, kIpIcmp, id));
  // What does not say where it went.
  EXPECT_EQ(choose(error_about(udp, 27)), own_lane);
  EXPECT_EQ(choose(error_about(udp, 0)), own_lane);
  const Bytes whole =
      udp_packet(at(kServer, 6600), at(kHost, port), payload_bytes(100), {.fragment = 0});
  EXPECT_EQ(choose(error_about(pieces_of(whole, 48)[1], 28)), own_lane);
  Bytes long_header = udp;
  long_header[0] = 0x4f;
  EXPECT_EQ(choose(error_about(long_header, 28)), own_lane);
}

TEST_F(PacketLanesTest, ARequestOfTheGatewayGoesByTheEndpointThatItNames) {
  const uint16_t asking = 40000;
  const unsigned own_lane = lane_by(kOwn, kIpUdp, asking);
  const uint16_t port = port_beside(own_lane, kOwn, kIpTcp, 1025);
  pcp::RequestHeader header{};
  header.version = pcp::kVersion;
  pcp::MapBody body{};
  body.protocol = kIpTcp;
  body.internal_port = Be16::from_host(port);
  const auto request = [&](uint8_t opcode, size_t bytes = 60) {
    header.opcode = opcode;
    Bytes message(sizeof header + sizeof body);
    std::memcpy(message.data(), &header, sizeof header);
    std::memcpy(message.data() + sizeof header, &body, sizeof body);
    message.resize(bytes);
    return message;
  };
  const auto sent_to = [&](Ipv4Address server, uint16_t server_port, const Bytes& message) {
    return choose(udp_packet(at(kOwn, asking), at(server, server_port), message));
  };
  EXPECT_EQ(sent_to(kRouter, 5351, request(1)), lane_by(kOwn, kIpTcp, port));
  EXPECT_EQ(sent_to(kRouter, 5351, request(2)), lane_by(kOwn, kIpTcp, port));
  // Of no endpoint, no request, too short, for another server or another service.
  EXPECT_EQ(sent_to(kRouter, 5351, request(0)), own_lane);
  EXPECT_EQ(sent_to(kRouter, 5351, request(1 | pcp::kIsResponse)), own_lane);
  EXPECT_EQ(sent_to(kRouter, 5351, request(1, 59)), own_lane);
  EXPECT_EQ(sent_to(kServer, 5351, request(1)), own_lane);
  EXPECT_EQ(sent_to(kRouter, 5350, request(1)), own_lane);
  header.version = 0;
  EXPECT_EQ(sent_to(kRouter, 5351, request(1)), own_lane);
}

}  // namespace
}  // namespace adit::client
