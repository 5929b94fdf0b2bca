// Rewriting of whole packets. Each row's expected packet is built from scratch by
// tests/support/packets, so that every incremental checksum is compared with a full one.
#include "lib/nat/translate.h"

#include <random>

#include "tests/unit/nat/packet_rows.h"

namespace adit::nat {
namespace {

using test::Bytes;
using test::icmp_query;
using test::payload_bytes;
using test::tcp_packet;
using test::udp_packet;
using test::UdpChecksum;

struct Row {
  const char* description;
  Bytes inside;   // the packet as it is on the internal side
  Bytes outside;  // and on the external side
};

// IPv4 options: router alert (RFC 2113) and padding.
const Bytes kRouterAlert{0x94, 4, 0, 0, 1, 1, 1, 0};

constexpr uint16_t kFirstFragment = kIpMoreFragments;

std::vector<Row> outbound_rows() {
  const Bytes payload = payload_bytes(33);
  const Bytes options{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8};
  const uint16_t inner_id = kInternal.port.host();
  const uint16_t outer_id = kExternal.port.host();
  return {
      {"UDP", udp_packet(kInternal, kRemote, payload), udp_packet(kExternal, kRemote, payload)},
      {"UDP without payload", udp_packet(kInternal, kRemote, {}),
       udp_packet(kExternal, kRemote, {})},
      {"UDP whose checksum is absent keeps it absent",
       udp_packet(kInternal, kRemote, payload, {}, UdpChecksum::absent),
       udp_packet(kExternal, kRemote, payload, {}, UdpChecksum::absent)},
      {"UDP behind IPv4 options",
       udp_packet(kInternal, kRemote, payload, {.options = kRouterAlert}),
       udp_packet(kExternal, kRemote, payload, {.options = kRouterAlert})},
      {"UDP in a first fragment",
       udp_packet(kInternal, kRemote, payload, {.fragment = kFirstFragment}),
       udp_packet(kExternal, kRemote, payload, {.fragment = kFirstFragment})},
      {"TCP", tcp_packet(kInternal, kRemote, payload), tcp_packet(kExternal, kRemote, payload)},
      {"TCP with options of both layers",
       tcp_packet(kInternal, kRemote, payload, {.options = options}, {.options = kRouterAlert}),
       tcp_packet(kExternal, kRemote, payload, {.options = options}, {.options = kRouterAlert})},
      {"TCP reset", tcp_packet(kInternal, kRemote, {}, {.flags = kTcpRst}),
       tcp_packet(kExternal, kRemote, {}, {.flags = kTcpRst})},
      {"ICMP echo request",
       icmp_query(kInternalAddress, kRemoteAddress, kIcmpEchoRequest, inner_id, 9, payload),
       icmp_query(kExternalAddress, kRemoteAddress, kIcmpEchoRequest, outer_id, 9, payload)},
      {"ICMP timestamp request",
       icmp_query(kInternalAddress, kRemoteAddress, 13, inner_id, 1, payload_bytes(12)),
       icmp_query(kExternalAddress, kRemoteAddress, 13, outer_id, 1, payload_bytes(12))},
  };
}

std::vector<Row> inbound_rows() {
  const Bytes payload = payload_bytes(101, 5);
  const uint16_t inner_id = kInternal.port.host();
  const uint16_t outer_id = kExternal.port.host();
  return {
      {"UDP", udp_packet(kRemote, kInternal, payload), udp_packet(kRemote, kExternal, payload)},
      {"UDP whose checksum is absent keeps it absent",
       udp_packet(kRemote, kInternal, payload, {}, UdpChecksum::absent),
       udp_packet(kRemote, kExternal, payload, {}, UdpChecksum::absent)},
      {"TCP behind IPv4 options",
       tcp_packet(kRemote, kInternal, payload, {}, {.options = kRouterAlert}),
       tcp_packet(kRemote, kExternal, payload, {}, {.options = kRouterAlert})},
      {"TCP in a first fragment",
       tcp_packet(kRemote, kInternal, payload, {}, {.fragment = kFirstFragment}),
       tcp_packet(kRemote, kExternal, payload, {}, {.fragment = kFirstFragment})},
      {"ICMP echo reply",
       icmp_query(kRemoteAddress, kInternalAddress, kIcmpEchoReply, inner_id, 9, payload),
       icmp_query(kRemoteAddress, kExternalAddress, kIcmpEchoReply, outer_id, 9, payload)},
      {"ICMP timestamp reply",
       icmp_query(kRemoteAddress, kInternalAddress, 14, inner_id, 1, payload_bytes(12)),
       icmp_query(kRemoteAddress, kExternalAddress, 14, outer_id, 1, payload_bytes(12))},
  };
}

TEST(TranslateOutbound, RewritesSourceAndNothingElse) {
  const Mapping mapping = mapping_between(kInternal, kExternal);
  for (const Row& row : outbound_rows()) {
    Bytes packet = row.inside;
    translate_outbound(packet.data(), parsed_or_fail(packet), mapping);
    EXPECT_EQ(hex(packet), hex(row.outside)) << row.description;
  }
}

TEST(TranslateInbound, RewritesDestinationAndNothingElse) {
  const Mapping mapping = mapping_between(kInternal, kExternal);
  for (const Row& row : inbound_rows()) {
    Bytes packet = row.outside;
    translate_inbound(packet.data(), parsed_or_fail(packet), mapping);
    EXPECT_EQ(hex(packet), hex(row.inside)) << row.description;
  }
}

// A 16-bit word of payload that makes the UDP checksum of the translated packet compute to zero.
Bytes payload_that_sums_to_zero(const Endpoint& from, const Endpoint& to) {
  for (unsigned word = 0; word < 0x10000; ++word) {
    const Bytes payload{static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
    const Bytes packet = udp_packet(from, to, payload);
    if (packet[26] == 0xff && packet[27] == 0xff) return payload;
  }
  return {};
}

TEST(TranslateOutbound, SendsAComputedUdpChecksumOfZeroAsAllOnes) {
  const Bytes payload = payload_that_sums_to_zero(kExternal, kRemote);
  ASSERT_FALSE(payload.empty());
  Bytes packet = udp_packet(kInternal, kRemote, payload);
  translate_outbound(packet.data(), parsed_or_fail(packet), mapping_between(kInternal, kExternal));
  EXPECT_EQ(hex(packet), hex(udp_packet(kExternal, kRemote, payload)));
  EXPECT_EQ(packet[26], 0xff);
  EXPECT_EQ(packet[27], 0xff);
}

// Any endpoints, any payload: the incremental result is the one computed from scratch.
TEST(Translate, AgreesWithFullRecomputationOnRandomPackets) {
  std::mt19937 random(20240707);
  const auto endpoint = [&] {
    return Endpoint{Ipv4Address::from_host(static_cast<uint32_t>(random())),
                    Be16::from_host(static_cast<uint16_t>(1 + random() % 65535))};
  };
  for (int round = 0; round < 50'000; ++round) {
    const Endpoint internal = endpoint();
    const Endpoint external = endpoint();
    const Endpoint remote = endpoint();
    const Mapping mapping = mapping_between(internal, external);
    Bytes payload(random() % 40);
    for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
    const auto make = [&](const Endpoint& from, const Endpoint& to, uint16_t id) {
      switch (round % 3) {
        case 0:
          return udp_packet(from, to, payload);
        case 1:
          return tcp_packet(from, to, payload);
        default:
          return icmp_query(from.address, to.address, kIcmpEchoRequest, id, 1, payload);
      }
    };
    Bytes out = make(internal, remote, internal.port.host());
    translate_outbound(out.data(), parsed_or_fail(out), mapping);
    ASSERT_EQ(hex(out), hex(make(external, remote, external.port.host()))) << round;
    Bytes in = make(remote, external, external.port.host());
    translate_inbound(in.data(), parsed_or_fail(in), mapping);
    ASSERT_EQ(hex(in), hex(make(remote, internal, internal.port.host()))) << round;
  }
}

TEST(DecrementTtl, LowersTtlAndUpdatesTheHeaderChecksum) {
  for (unsigned ttl = 2; ttl <= 255; ++ttl) {
    Bytes packet = udp_packet(kInternal, kRemote, {}, {.ttl = static_cast<uint8_t>(ttl)});
    ASSERT_TRUE(decrement_ttl(packet.data()));
    const Bytes expected =
        udp_packet(kInternal, kRemote, {}, {.ttl = static_cast<uint8_t>(ttl - 1)});
    EXPECT_EQ(hex(packet), hex(expected)) << "TTL " << ttl;
  }
}

TEST(DecrementTtl, RefusesToReachZeroAndChangesNothing) {
  for (const uint8_t ttl : {uint8_t{0}, uint8_t{1}}) {
    const Bytes original = udp_packet(kInternal, kRemote, {}, {.ttl = ttl});
    Bytes packet = original;
    EXPECT_FALSE(decrement_ttl(packet.data()));
    EXPECT_EQ(hex(packet), hex(original));
  }
}

struct MssRow {
  const char* description;
  uint8_t flags;
  Bytes options;
  Bytes expected_options;  // equal to `options` when nothing is to change
};

TEST(ClampMss, LowersTheOptionOfASynAndLeavesEverythingElse) {
  constexpr uint16_t kMssMax = 1380;  // 0x0564
  const std::vector<MssRow> rows{
      {"above the limit", kTcpSyn, {2, 4, 0x05, 0xb4}, {2, 4, 0x05, 0x64}},
      {"SYN with ACK", kTcpSyn | kTcpAck, {2, 4, 0x05, 0xb4}, {2, 4, 0x05, 0x64}},
      {"at the limit", kTcpSyn, {2, 4, 0x05, 0x64}, {2, 4, 0x05, 0x64}},
      {"below the limit is never raised", kTcpSyn, {2, 4, 0x02, 0x18}, {2, 4, 0x02, 0x18}},
      {"behind other options",
       kTcpSyn,
       {1, 1, 4, 2, 2, 4, 0x23, 0x00},
       {1, 1, 4, 2, 2, 4, 5, 0x64}},
      {"at an odd offset", kTcpSyn, {1, 2, 4, 0x05, 0xb4, 0, 0, 0}, {1, 2, 4, 5, 0x64, 0, 0, 0}},
      {"no SYN", kTcpAck, {2, 4, 0x05, 0xb4}, {2, 4, 0x05, 0xb4}},
      {"no options", kTcpSyn, {}, {}},
      {"behind the end of options",
       kTcpSyn,
       {0, 0, 0, 0, 2, 4, 5, 0xb4},
       {0, 0, 0, 0, 2, 4, 5, 0xb4}},
      {"option of length zero",
       kTcpSyn,
       {3, 0, 2, 4, 0x05, 0xb4, 0, 0},
       {3, 0, 2, 4, 5, 0xb4, 0, 0}},
      {"option of length one",
       kTcpSyn,
       {3, 1, 2, 4, 0x05, 0xb4, 0, 0},
       {3, 1, 2, 4, 5, 0xb4, 0, 0}},
      {"option longer than the header",
       kTcpSyn,
       {8, 41, 2, 4, 5, 0xb4, 0, 0},
       {8, 41, 2, 4, 5, 0xb4, 0, 0}},
      {"option cut by the header's end", kTcpSyn, {1, 1, 2, 4}, {1, 1, 2, 4}},
      {"kind without length at the end", kTcpSyn, {1, 1, 1, 2}, {1, 1, 1, 2}},
      {"MSS of a wrong length", kTcpSyn, {2, 3, 0x05, 0xb4, 0xff}, {2, 3, 0x05, 0xb4, 0xff}},
  };
  for (const MssRow& row : rows) {
    Bytes options = row.options;
    Bytes expected_options = row.expected_options;
    options.resize((options.size() + 3) / 4 * 4);
    expected_options.resize(options.size());
    const Bytes payload = payload_bytes(7);
    const auto make = [&](const Bytes& with) {
      return tcp_packet(kInternal, kRemote, payload, {.flags = row.flags, .options = with});
    };
    Bytes packet = make(options);
    const bool changed = clamp_mss(packet.data(), parsed_or_fail(packet), kMssMax);
    EXPECT_EQ(changed, options != expected_options) << row.description;
    EXPECT_EQ(hex(packet), hex(make(expected_options))) << row.description;
  }
}

TEST(ClampMss, LeavesUdpAlone) {
  const Bytes original = udp_packet(kInternal, kRemote, payload_bytes(40));
  Bytes packet = original;
  EXPECT_FALSE(clamp_mss(packet.data(), parsed_or_fail(packet), 1));
  EXPECT_EQ(hex(packet), hex(original));
}

}  // namespace
}  // namespace adit::nat
