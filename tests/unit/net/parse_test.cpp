#include "lib/net/parse.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "lib/net/checksum.h"

namespace adit {
namespace {

using Bytes = std::vector<uint8_t>;

void seal_header(Bytes& packet) {
  const size_t header = (packet[0] & 15u) * 4u;
  packet[10] = packet[11] = 0;
  const uint16_t sum = internet_checksum({packet.data(), std::min(header, packet.size())}).host();
  packet[10] = static_cast<uint8_t>(sum >> 8);
  packet[11] = static_cast<uint8_t>(sum);
}

// 192.168.1.10 -> 40.1.1.10 with the given protocol and transport bytes.
Bytes ipv4(uint8_t protocol, const Bytes& transport, unsigned option_words = 0) {
  const size_t header = 20 + option_words * 4;
  const size_t total = header + transport.size();
  Bytes packet(total, 1);  // options, where there are any: no operation
  const uint8_t fixed[] = {static_cast<uint8_t>(0x45 + option_words), 0,
                           static_cast<uint8_t>(total >> 8), static_cast<uint8_t>(total),
                           0, 1, 0, 0, 64, protocol, 0, 0, 192, 168, 1, 10, 40, 1, 1, 10};
  std::copy(std::begin(fixed), std::end(fixed), packet.begin());
  std::copy(transport.begin(), transport.end(), packet.begin() + static_cast<long>(header));
  seal_header(packet);
  return packet;
}

const Bytes kUdp = {0x04, 0x01, 0x19, 0xc8, 0, 10, 0, 0, 'h', 'i'};

ParseError parse(const Bytes& packet, ParsedIpv4& out) {
  return parse_ipv4(packet, HeaderChecksum::verify, out);
}

TEST(ParseIpv4, FindsPortsAndOffsets) {
  ParsedIpv4 out;
  ASSERT_EQ(parse(ipv4(17, kUdp, 2), out), ParseError::none);
  EXPECT_EQ(out.header_bytes, 28);
  EXPECT_EQ(out.transport_bytes, 8);
  EXPECT_EQ(out.payload_offset(), 36);
  EXPECT_EQ(out.total_bytes, 38);
  EXPECT_EQ(out.source_port.host(), 1025);
  EXPECT_EQ(out.destination_port.host(), 6600);
  EXPECT_FALSE(out.is_fragment);
}

TEST(ParseIpv4, IgnoresLinkPadding) {
  ParsedIpv4 out;
  Bytes packet = ipv4(17, kUdp);
  packet.resize(60, 0xaa);
  ASSERT_EQ(parse(packet, out), ParseError::none);
  EXPECT_EQ(out.total_bytes, 30);
}

TEST(ParseIpv4, TakesTheIdentifierOfIcmpQueriesAsPorts) {
  ParsedIpv4 out;
  ASSERT_EQ(parse(ipv4(1, {8, 0, 0, 0, 0x12, 0x34, 0, 1}), out), ParseError::none);
  EXPECT_EQ(out.source_port.host(), 0x1234);
  ASSERT_EQ(parse(ipv4(1, {3, 1, 0, 0, 0x12, 0x34, 0, 1}), out), ParseError::none);
  EXPECT_EQ(out.source_port.host(), 0) << "an error has no identifier";
}

TEST(ParseIpv4, ReadsNoPortsInALaterFragment) {
  ParsedIpv4 out;
  Bytes packet = ipv4(17, kUdp);
  packet[6] = 0x20;  // more fragments
  seal_header(packet);
  ASSERT_EQ(parse(packet, out), ParseError::none);
  EXPECT_TRUE(out.is_fragment);
  EXPECT_TRUE(out.is_first_fragment);
  EXPECT_EQ(out.source_port.host(), 1025);
  packet[7] = 10;  // offset 80
  seal_header(packet);
  ASSERT_EQ(parse(packet, out), ParseError::none);
  EXPECT_FALSE(out.is_first_fragment);
  EXPECT_EQ(out.source_port.host(), 0);
}

struct BadRow {
  const char* description;
  ParseError expected;
  Bytes packet;
};

Bytes changed(Bytes packet, size_t at, uint8_t value, bool seal = true) {
  packet[at] = value;
  if (seal) seal_header(packet);
  return packet;
}

TEST(ParseIpv4, RefusesWhatItCannotTrust) {
  const Bytes good = ipv4(17, kUdp);
  const Bytes tcp(20, 0);
  const BadRow rows[] = {
      {"nothing", ParseError::truncated, {}},
      {"19 bytes", ParseError::truncated, Bytes(good.begin(), good.begin() + 19)},
      {"cut short of its total length", ParseError::truncated,
       Bytes(good.begin(), good.end() - 1)},
      {"version 6", ParseError::bad_version, changed(good, 0, 0x65)},
      {"header of 16 bytes", ParseError::bad_length, changed(good, 0, 0x44, false)},
      {"header longer than the packet", ParseError::bad_length, changed(good, 0, 0x4f, false)},
      {"total below the header", ParseError::bad_length, changed(good, 3, 19)},
      {"wrong header checksum", ParseError::bad_checksum, changed(good, 8, 63, false)},
      {"UDP header cut", ParseError::truncated, ipv4(17, Bytes(7, 0))},
      {"UDP length below 8", ParseError::bad_transport,
       ipv4(17, {0, 1, 0, 2, 0, 7, 0, 0})},
      {"UDP length above the packet", ParseError::bad_transport,
       ipv4(17, {0, 1, 0, 2, 0, 9, 0, 0})},
      {"TCP header cut", ParseError::truncated, ipv4(6, Bytes(19, 0))},
      {"TCP data offset below 5", ParseError::bad_transport, ipv4(6, tcp)},
      {"TCP data offset above the packet", ParseError::bad_transport,
       ipv4(6, changed(tcp, 12, 0x60, false))},
      {"ICMP header cut", ParseError::truncated, ipv4(1, Bytes(7, 0))},
  };
  for (const BadRow& row : rows) {
    ParsedIpv4 out;
    EXPECT_EQ(parse(row.packet, out), row.expected) << row.description;
  }
}

TEST(ParseIpv4, BelievesADeviceThatVouchesForTheChecksum) {
  Bytes packet = ipv4(17, kUdp);
  packet[10] ^= 1;
  ParsedIpv4 out;
  EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::trusted, out), ParseError::none);
}

// Whatever the bytes, what is accepted lies inside them.
TEST(ParseIpv4, NeverPointsOutsideTheBytes) {
  std::mt19937 random(3);
  unsigned accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    static constexpr uint8_t kProtocols[] = {1, 6, 17, 50};
    Bytes packet = ipv4(kProtocols[random() % 4], Bytes(random() % 60, 0x50),
                        static_cast<unsigned>(random() % 11));
    for (int flips = static_cast<int>(random() % 4); flips > 0; --flips) {
      packet[random() % packet.size()] = static_cast<uint8_t>(random());
    }
    packet.resize(random() % 8 == 0 ? random() % packet.size() : packet.size());
    ParsedIpv4 out;
    if (parse_ipv4(packet, HeaderChecksum::trusted, out) != ParseError::none) continue;
    ++accepted;
    ASSERT_LE(out.total_bytes, packet.size());
    ASSERT_GE(out.header_bytes, 20);
    ASSERT_LE(out.payload_offset(), out.total_bytes);
  }
  EXPECT_GT(accepted, 10'000u);
}

}  // namespace
}  // namespace adit
