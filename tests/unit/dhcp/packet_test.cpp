#include "lib/dhcp/packet.h"

#include <gtest/gtest.h>

#include "lib/net/checksum.h"
#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {
namespace {

Octets wrapped(const Datagram& datagram) {
  Octets out(kPacketBytesMax);
  out.resize(wrap(datagram, out));
  return out;
}

Octets joined(Octets headers, const Octets& message) {
  headers.insert(headers.end(), message.begin(), message.end());
  return headers;
}

const Ipv4Address kEverybody = address("255.255.255.255");

TEST(DhcpPacket, IsWhatScapyMakes) {
  EXPECT_EQ(wrapped({Ipv4Address{}, kEverybody, golden_discover()}),
            joined(kDiscoverPacketHeaders, make_octets(kDiscoverFirst44, kDiscoverOptions)));
  EXPECT_EQ(wrapped({address("192.168.1.1"), kEverybody, golden_ack()}),
            joined(kAckPacketHeaders, make_octets(kAckFirst44, kAckOptions)));
}

TEST(DhcpPacket, IsReadBackWithItsAddresses) {
  const auto read = unwrap(joined(kAckPacketHeaders, make_octets(kAckFirst44, kAckOptions)));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->source, address("192.168.1.1"));
  EXPECT_EQ(read->destination, kEverybody);
  EXPECT_EQ(read->message, golden_ack());
}

TEST(DhcpPacket, IsRefusedWhenAnyBitIsFlipped) {
  // The IPv4 and UDP checksums cover every byte of the packet.
  const Octets right = wrapped({address("192.168.1.1"), kEverybody, golden_ack()});
  ASSERT_TRUE(unwrap(right));
  for (size_t i = 0; i < right.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Octets wrong = right;
      wrong[i] = static_cast<uint8_t>(wrong[i] ^ (1u << bit));
      EXPECT_FALSE(unwrap(wrong)) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(DhcpPacket, IsRefusedWhenCutAnywhere) {
  const Octets right = wrapped({address("192.168.1.1"), kEverybody, golden_ack()});
  for (size_t length = 0; length < right.size(); ++length) {
    EXPECT_FALSE(unwrap(std::span(right).first(length))) << length;
  }
}

TEST(DhcpPacket, MayHaveLinkPaddingBehindIt) {
  Octets padded = wrapped({address("192.168.1.1"), kEverybody, golden_ack()});
  padded.resize(padded.size() + 6);
  EXPECT_TRUE(unwrap(padded));
}

TEST(DhcpPacket, MayHaveNoUdpChecksum) {
  Octets packet = wrapped({address("192.168.1.1"), kEverybody, golden_ack()});
  packet[26] = packet[27] = 0;
  EXPECT_TRUE(unwrap(packet));
}

// Rewrites a field of a right packet and repairs the IPv4 checksum; the UDP checksum is left out.
Octets altered(size_t offset, uint8_t value) {
  Octets packet = wrapped({address("192.168.1.1"), kEverybody, golden_ack()});
  packet[26] = packet[27] = 0;
  packet[offset] = value;
  packet[10] = packet[11] = 0;
  const uint16_t checksum = internet_checksum(std::span(packet).first(20)).host();
  packet[10] = static_cast<uint8_t>(checksum >> 8);
  packet[11] = static_cast<uint8_t>(checksum);
  return packet;
}

TEST(DhcpPacket, IsRefusedWhenItIsNoWholeUdpToTheRightPort) {
  EXPECT_TRUE(unwrap(altered(8, 63))) << "another TTL is no fault";
  EXPECT_TRUE(unwrap(altered(20, 9))) << "nor is another source port";
  EXPECT_FALSE(unwrap(altered(9, 6))) << "TCP";
  EXPECT_FALSE(unwrap(altered(6, 0x20))) << "more fragments";
  EXPECT_FALSE(unwrap(altered(7, 1))) << "a later fragment";
  EXPECT_FALSE(unwrap(altered(23, 67))) << "a reply to the server's port";
  EXPECT_FALSE(unwrap(altered(23, 69))) << "another port";
  EXPECT_FALSE(unwrap(altered(28, 1))) << "a request to the client's port";
}

TEST(DhcpPacket, IsNotWrittenWhereThereIsNoRoom) {
  const Datagram datagram{Ipv4Address{}, kEverybody, golden_discover()};
  const size_t whole = wrapped(datagram).size();
  for (size_t room = 0; room < whole; ++room) {
    Octets out(room);
    EXPECT_EQ(wrap(datagram, out), 0u) << room;
  }
}

}  // namespace
}  // namespace adit::dhcp
