// From one subscriber to another, or to itself, by external endpoints.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;

class HairpinRows : public Lab {
 protected:
  const Endpoint second_ = at(inner(2), 7);
  // Where both have already spoken to somebody outside.
  Endpoint first_external() { return map(Kind::udp, kApplication); }
  Endpoint second_external() { return map(Kind::udp, second_, kService, 2); }

  std::vector<Row> there_and_back();
  std::vector<Row> within_one_tunnel();
  std::vector<Row> without_checksum();
  std::vector<Row> connection();
};

// Each is played twice: does it arrive (REQ-9), and does it come from the right endpoint (REQ-9a)?
std::vector<Row> HairpinRows::there_and_back() {
  const Endpoint first = first_external();
  const Endpoint second = second_external();
  return {{"there", 1, inside(udp_packet(kApplication, second, kHello)),
           {inside(udp_packet(first, second_, kHello, kForwarded), 2)}},
          {"and back", 1, inside(udp_packet(second_, first, kHello), 2),
           {inside(udp_packet(second, kApplication, kHello, kForwarded))}}};
}

std::vector<Row> HairpinRows::within_one_tunnel() {
  const Endpoint first = first_external();
  const Endpoint neighbour = at(kInner, 4000);
  const Endpoint neighbours_external = map(Kind::udp, neighbour);
  return {{"to another port of its own", 1, inside(udp_packet(neighbour, first, kHello)),
           {inside(udp_packet(neighbours_external, kApplication, kHello, kForwarded))}},
          {"to itself", 1, inside(udp_packet(kApplication, first, kHello)),
           {inside(udp_packet(first, kApplication, kHello, kForwarded))}}};
}

std::vector<Row> HairpinRows::without_checksum() {
  const Endpoint first = first_external();
  const Endpoint second = second_external();
  const auto absent = adit::test::UdpChecksum::absent;
  return {{"there", 1, inside(udp_packet(kApplication, second, kHello, {}, absent)),
           {inside(udp_packet(first, second_, kHello, kForwarded, absent), 2)}}};
}

std::vector<Row> HairpinRows::connection() {
  const Endpoint second = map(Kind::tcp, second_, kService, 2);
  const Endpoint first = map(Kind::tcp, kApplication);
  return {{"SYN", 1, inside(tcp_packet(kApplication, second, {}, {.flags = kTcpSyn})),
           {inside(tcp_packet(first, second_, {}, {.flags = kTcpSyn}, kForwarded), 2)}},
          {"SYN+ACK", 1, inside(tcp_packet(second_, first, {}, {.flags = kSynAck}), 2),
           {inside(tcp_packet(second, kApplication, {}, {.flags = kSynAck}, kForwarded))}},
          {"text", 1, inside(tcp_packet(kApplication, second, kHello)),
           {inside(tcp_packet(first, second_, kHello, {}, kForwarded), 2)}}};
}

TEST_F(HairpinRows, R4787_9_ArrivesBothWays) { play(from_anybody(there_and_back())); }
TEST_F(HairpinRows, R4787_9a_ComesFromTheSendersExternalEndpointBothWays) {
  play(there_and_back());
}

TEST_F(HairpinRows, R4787_9_ArrivesWithinOneTunnelAndAtTheSenderItself) {
  play(from_anybody(within_one_tunnel()));
}
TEST_F(HairpinRows, R4787_9a_ComesFromTheExternalEndpointWithinOneTunnel) {
  play(within_one_tunnel());
}

TEST_F(HairpinRows, R4787_9_AbsentUdpChecksumStaysAbsent) {
  play(from_anybody(without_checksum()));
}
TEST_F(HairpinRows, R4787_9a_ComesFromTheExternalEndpointWithoutChecksum) {
  play(without_checksum());
}

TEST_F(HairpinRows, R5382_8_ConnectionFromOneToAnother) { play(from_anybody(connection())); }
TEST_F(HairpinRows, R5382_8a_SegmentsComeFromTheSendersExternalEndpoint) { play(connection()); }

TEST_F(HairpinRows, R4787_9a_FirstPacketComesFromTheMappingThatItMakes) {
  const Endpoint second = second_external();
  far(1);
  give_in(inside(udp_packet(kApplication, second, kHello)));
  const std::vector<Hop> out = come_out();
  const Endpoint first = first_external();
  EXPECT_EQ(out, std::vector{inside(udp_packet(first, second_, kHello, kForwarded), 2)});
}

// REQ-7a: to the quoted packet's source, which is the sender; from the address that it wrote to.
TEST_F(HairpinRows, R5508_7_R7857_12_ErrorAboutAHairpinnedPacketReachesItsSender) {
  const Endpoint first = first_external();
  const Endpoint second = second_external();
  const Bytes delivered = udp_packet(first, second_, kHello, kForwarded);
  const Bytes as_sent = udp_packet(kApplication, second, kHello, kForwarded);
  play({{"a packet", 1, inside(udp_packet(kApplication, second, kHello)), {inside(delivered, 2)},
         Fate::next, Source::ignored},
        {"refused", 1, inside(icmp_packet(second_.address, first.address, 3, 3, 0, delivered), 2),
         {inside(icmp_packet(kGateway, kInner, 3, 3, 0, as_sent, kForwarded))}}});
}

TEST_F(HairpinRows, R5508_7_ErrorAboutAPacketThatNobodySentGoesNowhere) {
  first_external();
  second_external();
  const Bytes never_sent = udp_packet(at(kGateway, 1), second_, kHello);
  play({"an error", 1, inside(icmp_packet(second_.address, kGateway, 3, 3, 0, never_sent), 2), {},
        Fate::icmp_no_mapping});
}

}  // namespace
}  // namespace adit::gateway::test
