#include "lib/net/checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace adit {
namespace {

// RFC 1071 §3's example: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
TEST(Checksum, SumsRfc1071Example) {
  const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(internet_checksum(bytes).host(), static_cast<uint16_t>(~0xddf2));
}

TEST(Checksum, OverAValidHeaderIsZero) {
  uint8_t header[] = {0x45, 0, 0, 0x54, 0x12, 0x34, 0x40, 0, 0x40, 1, 0, 0,
                      192,  168, 1, 10, 40, 1, 1, 10};
  const Be16 checksum = internet_checksum(header);
  header[10] = static_cast<uint8_t>(checksum.host() >> 8);
  header[11] = static_cast<uint8_t>(checksum.host());
  EXPECT_EQ(internet_checksum(header).raw(), 0);
}

// The definition, a word at a time, against the wide sum; every length and alignment.
TEST(Checksum, AgreesWithTheDefinition) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(300);
  for (auto& b : bytes) b = static_cast<uint8_t>(random());
  for (size_t offset = 0; offset < 4; ++offset) {
    for (size_t length = 0; offset + length <= bytes.size(); ++length) {
      uint32_t sum = 0;
      for (size_t i = 0; i < length; ++i) {
        sum += i % 2 == 0 ? bytes[offset + i] * 256u : bytes[offset + i];
      }
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
      const std::span<const uint8_t> span{bytes.data() + offset, length};
      ASSERT_EQ(internet_checksum(span).host(), static_cast<uint16_t>(~sum)) << length;
    }
  }
}

TEST(Checksum, CoversThePseudoHeader) {
  // A UDP datagram 192.168.1.10:1025 -> 40.1.1.10:6600 "hi"; sum written out word by word.
  const uint8_t segment[] = {0x04, 0x01, 0x19, 0xc8, 0x00, 0x0a, 0, 0, 'h', 'i'};
  uint32_t sum = 0xc0a8 + 0x010a + 0x2801 + 0x010a + 17 + 10;
  sum += 0x0401 + 0x19c8 + 0x000a + 0x6869;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(transport_checksum(Ipv4Address::from_octets(192, 168, 1, 10),
                               Ipv4Address::from_octets(40, 1, 1, 10), 17, segment)
                .host(),
            static_cast<uint16_t>(~sum));
}

// RFC 1624 §4's example: checksum 0xdd2f, a word 0x5555 becomes 0x3285, the result is 0x0000.
TEST(ChecksumDelta, GivesRfc1624Example) {
  const auto delta = ChecksumDelta{}.replace(Be16::from_host(0x5555), Be16::from_host(0x3285));
  EXPECT_EQ(delta.apply(Be16::from_host(0xdd2f)).host(), 0x0000);
}

TEST(ChecksumDelta, EqualsComputingFromScratch) {
  std::mt19937 random(2);
  for (int round = 0; round < 20'000; ++round) {
    uint8_t bytes[24];
    for (auto& b : bytes) b = static_cast<uint8_t>(random());
    bytes[2] = bytes[3] = 0;
    const Be16 before = internet_checksum(bytes);
    const auto old_word = Be32::from_host(static_cast<uint32_t>(bytes[8]) << 24 | bytes[9] << 16 |
                                          bytes[10] << 8 | bytes[11]);
    const auto new_word = Be32::from_host(static_cast<uint32_t>(random()));
    std::memcpy(bytes + 8, &new_word, 4);
    const Be16 expected = internet_checksum(bytes);
    const auto delta = ChecksumDelta{}.replace(old_word, new_word);
    ASSERT_EQ(delta.apply(before), expected) << round;
    ASSERT_EQ(delta.inverse().apply(expected), before) << round;
  }
}

TEST(ChecksumDelta, KeepsUdpsTwoZeros) {
  const auto delta = ChecksumDelta{}.replace(Be16::from_host(0x5555), Be16::from_host(0x3285));
  EXPECT_EQ(delta.apply_udp(Be16::from_host(0)).host(), 0);            // none stays none
  EXPECT_EQ(delta.apply_udp(Be16::from_host(0xdd2f)).host(), 0xffff);  // computed 0 is sent so
}

}  // namespace
}  // namespace adit
