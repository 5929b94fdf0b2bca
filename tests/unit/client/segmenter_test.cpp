// The segmenter against packets built from scratch, one by one.
#include "client-lite/segmenter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>

#include "tests/support/packets.h"

namespace adit::client {
namespace {

using adit::test::Bytes;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

const Endpoint kFrom{Ipv4Address::from_octets(192, 168, 1, 10), Be16::from_host(1025)};
const Endpoint kTo{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(443)};

std::vector<Bytes> cut(const Bytes& packet, const Offload& offload) {
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::trusted, parsed), ParseError::none);
  Segmenter segmenter;
  std::vector<Bytes> out;
  if (!segmenter.begin(packet, parsed, offload)) return out;
  for (;;) {
    Bytes room(segmenter.packet_bytes_max(), 0xee);
    const size_t bytes = segmenter.next(room);
    if (bytes == 0) return out;
    room.resize(bytes);
    out.push_back(room);
  }
}

// What the kernel leaves in the place of a checksum that is still to be computed is not to matter.
Bytes spoil(Bytes packet, size_t checksum_at) {
  packet[checksum_at] ^= 0x5a;
  packet[10] ^= 0xa5;  // the IPv4 header's own
  return packet;
}

TEST(Segmenter, CutsTcpAsIfEachSegmentHadBeenBuiltAlone) {
  std::mt19937 random(1);
  for (unsigned round = 0; round < 400; ++round) {
    const size_t payload_size = 1 + random() % (round % 4 == 0 ? 60000 : 5000);
    const uint16_t segment_bytes =
        static_cast<uint16_t>(std::max<size_t>(1 + random() % 1460, payload_size / 500 + 1));
    const Bytes payload = payload_bytes(payload_size, static_cast<uint8_t>(random()));
    TcpOptions tcp;
    tcp.flags = static_cast<uint8_t>(kTcpAck | (random() % 256 & ~(kTcpSyn | kTcpRst)));
    // Often so that the sequence wraps on the way.
    tcp.sequence = random() % 2 ? static_cast<uint32_t>(random())
                                : static_cast<uint32_t>(0 - random() % payload_size);
    tcp.acknowledgement = static_cast<uint32_t>(random());
    tcp.window = static_cast<uint16_t>(random());
    tcp.options = payload_bytes(random() % 11 * 4, 7);
    Ipv4Options ip;
    ip.tos = static_cast<uint8_t>(random());
    ip.ttl = static_cast<uint8_t>(1 + random() % 255);
    ip.id = static_cast<uint16_t>(random());
    ip.options = payload_bytes(random() % 4 * 4, 1);
    const size_t checksum_at = 20 + ip.options.size() + offsetof(TcpHeader, checksum);
    const std::vector<Bytes> segments =
        cut(spoil(tcp_packet(kFrom, kTo, payload, tcp, ip), checksum_at),
            {.kind = Offload::tcp, .segment_bytes = segment_bytes});

    ASSERT_EQ(segments.size(), (payload_size + segment_bytes - 1) / segment_bytes);
    const TcpOptions whole = tcp;
    const uint16_t id = ip.id;
    for (size_t i = 0; i < segments.size(); ++i) {
      const size_t at = i * segment_bytes;
      const size_t end = std::min(at + segment_bytes, payload_size);
      tcp.sequence = static_cast<uint32_t>(whole.sequence + at);
      tcp.flags = whole.flags;
      if (i > 0) tcp.flags &= 0x7f;                      // CWR
      if (i + 1 < segments.size()) tcp.flags &= 0xf6;    // FIN, PSH
      ip.id = static_cast<uint16_t>(id + i);
      ASSERT_EQ(segments[i],
                tcp_packet(kFrom, kTo, std::span(payload).subspan(at, end - at), tcp, ip))
          << "round " << round << ", segment " << i << " of " << segments.size();
    }
  }
}

TEST(Segmenter, CutsUdpAsIfEachDatagramHadBeenBuiltAlone) {
  std::mt19937 random(2);
  for (unsigned round = 0; round < 300; ++round) {
    const size_t payload_size = 1 + random() % 20000;
    const uint16_t segment_bytes =
        static_cast<uint16_t>(std::max<size_t>(1 + random() % 1400, payload_size / 64 + 1));
    const Bytes payload = payload_bytes(payload_size, static_cast<uint8_t>(random()));
    Ipv4Options ip;
    ip.id = static_cast<uint16_t>(random());
    const std::vector<Bytes> datagrams =
        cut(spoil(udp_packet(kFrom, kTo, payload, ip), 20 + offsetof(UdpHeader, checksum)),
            {.kind = Offload::udp, .segment_bytes = segment_bytes});
    ASSERT_EQ(datagrams.size(), (payload_size + segment_bytes - 1) / segment_bytes);
    for (size_t i = 0; i < datagrams.size(); ++i) {
      const size_t at = i * segment_bytes;
      const size_t end = std::min(at + segment_bytes, payload_size);
      ASSERT_EQ(datagrams[i],
                udp_packet(kFrom, kTo, std::span(payload).subspan(at, end - at), ip))
          << "round " << round << ", datagram " << i;
      ++ip.id;
    }
  }
}

TEST(Segmenter, RefusesWhatIsNotWhatItIsSaidToBe) {
  const Bytes tcp = tcp_packet(kFrom, kTo, payload_bytes(100));
  const Bytes udp = udp_packet(kFrom, kTo, payload_bytes(100));
  EXPECT_EQ(cut(tcp, {.kind = Offload::tcp, .segment_bytes = 50}).size(), 2u);
  EXPECT_TRUE(cut(tcp, {.kind = Offload::tcp, .segment_bytes = 0}).empty());
  EXPECT_TRUE(cut(tcp, {.kind = Offload::udp, .segment_bytes = 50}).empty());
  EXPECT_TRUE(cut(udp, {.kind = Offload::tcp, .segment_bytes = 50}).empty());
  EXPECT_TRUE(cut(tcp, {.kind = Offload::whole, .segment_bytes = 50}).empty());
  EXPECT_TRUE(cut(tcp_packet(kFrom, kTo, {}), {.kind = Offload::tcp, .segment_bytes = 50}).empty());
  const Bytes fragment =
      tcp_packet(kFrom, kTo, payload_bytes(104), {}, {.fragment = kIpMoreFragments});
  EXPECT_TRUE(cut(fragment, {.kind = Offload::tcp, .segment_bytes = 50}).empty());
}

// The pseudo-header's sum stands where the checksum goes, as the kernel leaves it.
Bytes with_partial_checksum(Bytes packet, size_t checksum_at) {
  const auto bytes = static_cast<uint32_t>(packet.size() - 20);
  const Bytes pseudo(packet.begin() + 12, packet.begin() + 20);
  const uint16_t sum =
      static_cast<uint16_t>(~test::plain_checksum(pseudo, packet[9] + bytes));
  packet[checksum_at] = static_cast<uint8_t>(sum >> 8);
  packet[checksum_at + 1] = static_cast<uint8_t>(sum);
  return packet;
}

TEST(FillChecksum, CompletesWhatTheKernelBegan) {
  for (size_t size = 0; size < 300; ++size) {
    const Bytes tcp = tcp_packet(kFrom, kTo, payload_bytes(size));
    Bytes packet = with_partial_checksum(tcp, 36);
    ASSERT_NE(packet, tcp);
    ASSERT_TRUE(fill_checksum(packet, {.checksum_start = 20, .checksum_offset = 16}));
    EXPECT_EQ(packet, tcp);
    const Bytes udp = udp_packet(kFrom, kTo, payload_bytes(size));
    packet = with_partial_checksum(udp, 26);
    ASSERT_TRUE(fill_checksum(packet, {.checksum_start = 20, .checksum_offset = 6}));
    EXPECT_EQ(packet, udp);
  }
}

TEST(FillChecksum, SendsNoUdpChecksumOfZero) {
  // A payload word that brings the sum to 0xffff, whose complement would say "no checksum".
  Bytes udp = udp_packet(kFrom, kTo, Bytes(2));
  udp = udp_packet(kFrom, kTo, Bytes{udp[26], udp[27]});
  ASSERT_EQ(udp[26] << 8 | udp[27], 0xffff);
  Bytes packet = with_partial_checksum(udp, 26);
  ASSERT_TRUE(fill_checksum(packet, {.checksum_start = 20, .checksum_offset = 6}));
  EXPECT_EQ(packet, udp);
}

TEST(FillChecksum, RefusesAPlaceOutsideThePacket) {
  Bytes packet = udp_packet(kFrom, kTo, payload_bytes(2));
  const Bytes before = packet;
  EXPECT_FALSE(fill_checksum(packet, {.checksum_start = 24, .checksum_offset = 5}));
  EXPECT_FALSE(fill_checksum(packet, {.checksum_start = 65535, .checksum_offset = 65535}));
  EXPECT_EQ(packet, before);
}

}  // namespace
}  // namespace adit::client
