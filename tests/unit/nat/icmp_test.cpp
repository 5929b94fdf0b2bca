// ICMP errors translated both ways, quotes refused, and the messages that the gateway makes.
#include <algorithm>

#include "lib/nat/translate.h"
#include "tests/unit/nat/packet_rows.h"

namespace adit::nat {
namespace {

using test::Bytes;
using test::icmp_packet;
using test::icmp_query;
using test::Ipv4Options;
using test::payload_bytes;
using test::tcp_packet;
using test::udp_packet;
using test::UdpChecksum;

const Bytes kRecordRoute{7, 7, 4, 1, 2, 3, 4, 0};

Bytes first(const Bytes& bytes, size_t count) {
  return {bytes.begin(),
          bytes.begin() + static_cast<std::ptrdiff_t>(std::min(count, bytes.size()))};
}

Bytes joined(Bytes head, const Bytes& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

struct ErrorRow {
  const char* description;
  uint8_t type;
  uint8_t code;
  uint32_t rest;
  Bytes quote_inside;
  Bytes quote_outside;
};

// Quotes of a packet between kRemote and our end; `outbound` when our end was its source.
std::vector<ErrorRow> error_rows(bool outbound) {
  const auto udp = [&](const Endpoint& ours, size_t bytes, Ipv4Options ip = {},
                       UdpChecksum checksum = UdpChecksum::present) {
    const Bytes payload = payload_bytes(bytes);
    return outbound ? udp_packet(ours, kRemote, payload, ip, checksum)
                    : udp_packet(kRemote, ours, payload, ip, checksum);
  };
  const auto tcp = [&](const Endpoint& ours, size_t bytes) {
    return outbound ? tcp_packet(ours, kRemote, payload_bytes(bytes))
                    : tcp_packet(kRemote, ours, payload_bytes(bytes));
  };
  const auto echo = [&](const Endpoint& ours) {
    const uint16_t id = ours.port.host();
    return outbound
               ? icmp_query(ours.address, kRemoteAddress, kIcmpEchoRequest, id, 3, payload_bytes(8))
               : icmp_query(kRemoteAddress, ours.address, kIcmpEchoReply, id, 3, payload_bytes(8));
  };
  // RFC 4884: the quote padded to 128 bytes, its length in words in `rest`, then an extension.
  const auto extended = [&](const Endpoint& ours) {
    Bytes quote = udp(ours, 60);
    quote.resize(128);
    return joined(quote, {0x20, 0, 0xde, 0x1d, 0, 8, 1, 1, 0x12, 0x34, 0x51, 1});
  };
  // A quote that ends inside the TCP checksum keeps the half it has: what is not whole cannot be
  // updated, and its reader does not look at it (RFC 5508 REQ-3c).
  const auto cut_in_checksum = [&](const Endpoint& ours) {
    Bytes quote = first(tcp(ours, 50), 37);
    quote[36] = tcp(kInternal, 50)[36];
    return quote;
  };
  return {
      {"port unreachable about UDP", 3, 3, 0, udp(kInternal, 40), udp(kExternal, 40)},
      {"UDP quoted with its header only", 3, 1, 0, first(udp(kInternal, 40), 28),
       first(udp(kExternal, 40), 28)},
      {"UDP quoted with an absent checksum", 3, 1, 0, udp(kInternal, 9, {}, UdpChecksum::absent),
       udp(kExternal, 9, {}, UdpChecksum::absent)},
      {"quoted header with options", 12, 0, 0x14000000,
       udp(kInternal, 4, {.options = kRecordRoute}), udp(kExternal, 4, {.options = kRecordRoute})},
      {"quoted first fragment", 3, 1, 0, udp(kInternal, 40, {.fragment = kIpMoreFragments}),
       udp(kExternal, 40, {.fragment = kIpMoreFragments})},
      {"fragmentation needed about TCP keeps its MTU", 3, 4, 1400, tcp(kInternal, 50),
       tcp(kExternal, 50)},
      {"TCP quoted with 8 bytes: no checksum in the quote", 11, 0, 0, first(tcp(kInternal, 50), 28),
       first(tcp(kExternal, 50), 28)},
      {"TCP quoted up to its checksum's middle", 11, 0, 0, cut_in_checksum(kInternal),
       cut_in_checksum(kExternal)},
      {"TCP quoted up to and with its checksum", 11, 0, 0, first(tcp(kInternal, 50), 38),
       first(tcp(kExternal, 50), 38)},
      {"about an ICMP query", 3, 1, 0, echo(kInternal), echo(kExternal)},
      {"with an extension behind the quote", 11, 0, 32u << 16, extended(kInternal),
       extended(kExternal)},
  };
}

TEST(IcmpErrorInbound, RewritesOuterDestinationAndQuotedSource) {
  const Mapping mapping = mapping_between(kInternal, kExternal);
  for (const ErrorRow& row : error_rows(true)) {
    Bytes packet = icmp_packet(kRouterAddress, kExternalAddress, row.type, row.code, row.rest,
                               row.quote_outside);
    const ParsedIpv4 parsed = parsed_or_fail(packet);
    QuotedPacket quoted;
    ASSERT_TRUE(parse_quoted(packet, parsed, quoted)) << row.description;
    EXPECT_EQ(quoted.source, kExternalAddress) << row.description;
    EXPECT_EQ(quoted.source_port, kExternal.port) << row.description;
    translate_error_inbound(packet, parsed, quoted, mapping);
    EXPECT_EQ(hex(packet), hex(icmp_packet(kRouterAddress, kInternalAddress, row.type, row.code,
                                           row.rest, row.quote_inside)))
        << row.description;
    EXPECT_TRUE(icmp_checksum_ok(packet, parsed)) << row.description;
  }
}

TEST(IcmpErrorOutbound, RewritesOuterSourceAndQuotedDestination) {
  const Mapping mapping = mapping_between(kInternal, kExternal);
  // A router behind the client sends it, not the mapping's own endpoint.
  const Ipv4Address sender = Ipv4Address::from_octets(192, 168, 7, 1);
  for (const ErrorRow& row : error_rows(false)) {
    Bytes packet =
        icmp_packet(sender, kRemoteAddress, row.type, row.code, row.rest, row.quote_inside);
    const ParsedIpv4 parsed = parsed_or_fail(packet);
    QuotedPacket quoted;
    ASSERT_TRUE(parse_quoted(packet, parsed, quoted)) << row.description;
    EXPECT_EQ(quoted.destination, kInternalAddress) << row.description;
    EXPECT_EQ(quoted.destination_port, kInternal.port) << row.description;
    translate_error_outbound(packet, parsed, quoted, mapping, kExternalAddress);
    EXPECT_EQ(hex(packet), hex(icmp_packet(kExternalAddress, kRemoteAddress, row.type, row.code,
                                           row.rest, row.quote_outside)))
        << row.description;
  }
}

TEST(IcmpError, KeepsAWrongChecksumWrong) {
  Bytes packet = icmp_packet(kRouterAddress, kExternalAddress, 3, 1, 0,
                             udp_packet(kExternal, kRemote, payload_bytes(8)));
  packet[22] ^= 0x40;
  const ParsedIpv4 parsed = parsed_or_fail(packet);
  EXPECT_FALSE(icmp_checksum_ok(packet, parsed));
  QuotedPacket quoted;
  ASSERT_TRUE(parse_quoted(packet, parsed, quoted));
  translate_error_inbound(packet, parsed, quoted, mapping_between(kInternal, kExternal));
  EXPECT_FALSE(icmp_checksum_ok(packet, parsed));
}

TEST(ParseQuoted, RefusesWhatCannotBeTrustedOrMapped) {
  const Bytes udp = udp_packet(kExternal, kRemote, payload_bytes(8));
  const auto changed = [](Bytes bytes, size_t at, uint8_t value) {
    bytes[at] = value;
    return bytes;
  };
  struct Row {
    const char* description;
    Bytes quote;
  };
  const std::vector<Row> rows{
      {"nothing quoted", {}},
      {"header cut", first(udp, 19)},
      {"7 bytes of payload", first(udp, 27)},
      {"7 bytes of payload behind options",
       first(udp_packet(kExternal, kRemote, payload_bytes(8), {.options = kRecordRoute}), 35)},
      {"not IPv4", changed(udp, 0, 0x65)},
      {"header length below 20", changed(udp, 0, 0x44)},
      {"header longer than the quote", changed(first(udp, 28), 0, 0x4f)},
      {"wrong header checksum (REQ-3a)", changed(udp, 8, 63)},
      {"later fragment", udp_packet(kExternal, kRemote, payload_bytes(8), {.fragment = 100})},
      {"an ICMP error about an ICMP error",
       icmp_packet(kExternalAddress, kRemoteAddress, 3, 1, 0, udp)},
      {"an ICMP message that is no query",
       icmp_packet(kExternalAddress, kRemoteAddress, 9, 0, 0, {})},
  };
  for (const Row& row : rows) {
    const Bytes packet = icmp_packet(kRouterAddress, kExternalAddress, 3, 1, 0, row.quote);
    QuotedPacket quoted;
    EXPECT_FALSE(parse_quoted(packet, parsed_or_fail(packet), quoted)) << row.description;
  }
}

TEST(ParseQuoted, DoesNotReadLinkPaddingAsQuote) {
  Bytes packet = icmp_packet(kRouterAddress, kExternalAddress, 3, 1, 0,
                             first(udp_packet(kExternal, kRemote, payload_bytes(8)), 24));
  const ParsedIpv4 parsed = parsed_or_fail(packet);
  packet.resize(packet.size() + 32);
  QuotedPacket quoted;
  EXPECT_FALSE(parse_quoted(packet, parsed, quoted));
}

TEST(BuildIcmpError, QuotesAsMuchAs576BytesHold) {
  for (const size_t payload : {size_t{0}, size_t{20}, size_t{520}, size_t{521}, size_t{1400}}) {
    const Bytes about = udp_packet(kInternal, kRemote, payload_bytes(payload), {.id = 77});
    Bytes out(576);
    const size_t bytes = build_icmp_error(about, kIcmpUnreachable, kIcmpFragmentationNeeded, 1380,
                                          kExternalAddress, kInternalAddress, out);
    const Bytes quote = first(about, 576 - 28);
    const Bytes expected = icmp_packet(kExternalAddress, kInternalAddress, 3, 4, 1380, quote,
                                       {.tos = 0xc0, .ttl = 64, .id = 77, .fragment = 0});
    EXPECT_EQ(hex(first(out, bytes)), hex(expected)) << payload;
  }
}

TEST(BuildIcmpError, LeavesLinkPaddingOut) {
  const Bytes whole = udp_packet(kInternal, kRemote, {}, {.id = 5});
  Bytes padded = whole;
  padded.resize(60, 0xee);
  Bytes out(576);
  const size_t bytes =
      build_icmp_error(padded, kIcmpTimeExceeded, 0, 0, kExternalAddress, kInternalAddress, out);
  EXPECT_EQ(hex(first(out, bytes)), hex(icmp_packet(kExternalAddress, kInternalAddress, 11, 0, 0,
                                                    whole, {.tos = 0xc0, .id = 5, .fragment = 0})));
}

TEST(MaySendIcmpError, IsFalseAboutWhatRfc1812Excludes) {
  const auto address = [](const char* text) { return *Ipv4Address::parse(text); };
  struct Row {
    const char* description;
    Bytes packet;
    bool allowed;
  };
  const auto udp = [&](const char* from, const char* to, uint16_t fragment = 0) {
    return udp_packet({address(from), Be16::from_host(1)}, {address(to), Be16::from_host(2)},
                      payload_bytes(8), {.fragment = fragment});
  };
  const Bytes inner = udp_packet(kInternal, kRemote, {});
  const std::vector<Row> rows{
      {"UDP", udp("192.168.1.10", "40.1.1.10"), true},
      {"first fragment", udp("192.168.1.10", "40.1.1.10", kIpMoreFragments), true},
      {"later fragment", udp("192.168.1.10", "40.1.1.10", 3), false},
      {"to broadcast", udp("192.168.1.10", "255.255.255.255"), false},
      {"to multicast", udp("192.168.1.10", "224.0.0.251"), false},
      {"from nobody", udp("0.0.0.0", "40.1.1.10"), false},
      {"from loopback", udp("127.0.0.1", "40.1.1.10"), false},
      {"from multicast", udp("239.1.1.1", "40.1.1.10"), false},
      {"from class E", udp("250.1.1.1", "40.1.1.10"), false},
      {"from broadcast", udp("255.255.255.255", "40.1.1.10"), false},
      {"echo request", icmp_query(kInternalAddress, kRemoteAddress, 8, 1, 1, {}), true},
      {"ICMP error", icmp_packet(kInternalAddress, kRemoteAddress, 11, 0, 0, inner), false},
      {"redirect", icmp_packet(kInternalAddress, kRemoteAddress, 5, 0, 0, inner), false},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(may_send_icmp_error(row.packet, parsed_or_fail(row.packet)), row.allowed)
        << row.description;
  }
}

TEST(MakeEchoReply, SwapsAddressesAndKeepsTheRest) {
  for (const uint8_t ttl : {uint8_t{1}, uint8_t{64}, uint8_t{255}}) {
    const Bytes payload = payload_bytes(57);
    Bytes packet = icmp_query(kRemoteAddress, kExternalAddress, kIcmpEchoRequest, 0xbeef, 7,
                              payload, {.ttl = ttl, .options = kRecordRoute});
    make_echo_reply(packet, parsed_or_fail(packet));
    EXPECT_EQ(hex(packet), hex(icmp_query(kExternalAddress, kRemoteAddress, kIcmpEchoReply, 0xbeef,
                                          7, payload, {.ttl = 64, .options = kRecordRoute})));
  }
}

}  // namespace
}  // namespace adit::nat
