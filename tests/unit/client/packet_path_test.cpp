#include "client-lite/packet_path.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "tests/support/allocation_count.h"
#include "tests/support/packets.h"
#include "tests/unit/client/fake_gateway.h"

namespace adit::client {
namespace {

using adit::test::NoAllocation;
using adit::test::payload_bytes;
using adit::test::udp_packet;
using test::Bytes;
using test::FakeGateway;
using test::SessionPair;
using test::shake_hands;
using tunnel::kSecondNs;
using tunnel::Protection;

constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr auto kOwn = Ipv4Address::from_octets(192, 168, 1, 10);
constexpr auto kServer = Ipv4Address::from_octets(40, 1, 1, 10);
constexpr auto kRouter = Ipv4Address::from_octets(192, 168, 1, 1);
const Endpoint kGateway{Ipv4Address::from_octets(30, 1, 1, 10), Be16::from_host(8000)};

Endpoint at(Ipv4Address address, uint16_t port) { return {address, Be16::from_host(port)}; }
Bytes outbound() { return udp_packet(at(kOwn, 1025), at(kServer, 6600), payload_bytes(100)); }
Bytes inbound() { return udp_packet(at(kServer, 6600), at(kOwn, 1025), payload_bytes(100)); }
Bytes dhcp_query() { return udp_packet(at({}, 68), at(kRouter, 67), payload_bytes(300)); }
Bytes dhcp_answer() { return udp_packet(at(kRouter, 67), at(kOwn, 68), payload_bytes(300)); }
Bytes copy(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

// A path with a session of `protection`, and its gateway. No packet, right or wrong, may allocate.
struct World {
  explicit World(Protection protection = Protection::aes_256_gcm)
      : pair(shake_hands(protection, 77, kNow)), gateway(pair.gateway) {
    path.set_gateway(kGateway);
    path.set_address(kOwn);
    path.set_takes_dhcp(true);
    path.set_mtu(1440);
    path.install(pair.client);
  }
  Bytes wrap(const Bytes& inner) {
    std::copy(inner.begin(), inner.end(), buffer->inner().begin());
    std::span<const uint8_t> datagram;
    {
      const NoAllocation scope;
      const auto packet = path.admit(buffer->inner().first(inner.size()));
      if (packet) datagram = path.wrap(*buffer, *packet).datagram;
    }
    return copy(datagram);
  }
  Received receive(Bytes datagram) { return receive_at(std::move(datagram), kNow); }
  Received receive_at(Bytes datagram, uint64_t now_ns) {
    last = std::move(datagram);
    const NoAllocation scope;
    return path.receive(last, kGateway, now_ns);
  }

  SessionPair pair;
  FakeGateway gateway;
  Counters counters;
  PacketPath path{counters};
  std::unique_ptr<PacketBuffer> buffer{new PacketBuffer};
  Bytes last;  // what Received::inner points into
};

uint64_t drops(const Counters& counters) {
  uint64_t sum = 0;
#define ADIT_ADD(name, meaning) sum += counters.name;
  ADIT_CLIENT_DROPS(ADIT_ADD)
#undef ADIT_ADD
  return sum;
}

class EveryProtection : public ::testing::TestWithParam<Protection> {};
INSTANTIATE_TEST_SUITE_P(PacketPath, EveryProtection,
                         ::testing::Values(Protection::aes_256_gcm, Protection::chacha20_poly1305,
                                           Protection::plain));

TEST_P(EveryProtection, CarriesAPacketToTheGatewayUnchanged) {
  World world(GetParam());
  const Bytes inner = outbound();
  const Bytes datagram = world.wrap(inner);
  if (GetParam() == Protection::plain) {
    ASSERT_EQ(datagram.size(), inner.size() + 8);
    EXPECT_EQ(datagram[0], 5);
    EXPECT_TRUE(std::equal(datagram.begin() + 1, datagram.begin() + 4,
                           world.pair.gateway.receive_tag.begin()));
    EXPECT_TRUE(std::equal(inner.begin(), inner.end(), datagram.begin() + 8));
  } else {
    EXPECT_EQ(datagram[0], 4);
    Bytes opened = world.gateway.open(datagram).value();
    EXPECT_EQ(opened.size(), 128u);  // 128 already is a multiple of 16
    EXPECT_EQ(opened, inner);
  }
  EXPECT_EQ(world.counters.tx_packets, 1u);
  EXPECT_EQ(world.counters.tx_bytes, inner.size());
}

TEST_P(EveryProtection, CarriesAPacketFromTheGatewayUnchanged) {
  World world(GetParam());
  const Bytes inner = inbound();
  const bool plain = GetParam() == Protection::plain;
  const Received received =
      world.receive(plain ? world.gateway.plain(inner) : world.gateway.sealed(inner));
  ASSERT_EQ(received.kind, Received::packet);
  EXPECT_EQ(copy(received.inner), inner);
  EXPECT_EQ(received.heard, !plain);
  EXPECT_EQ(drops(world.counters), 0u);
}

TEST_P(EveryProtection, SealsDhcpWhateverTheProtection) {
  World world(GetParam());
  for (const Bytes& inner : {dhcp_query(), dhcp_answer()}) {
    const Bytes datagram = world.wrap(inner);
    ASSERT_EQ(datagram[0], 4);
    Bytes opened = world.gateway.open(datagram).value();
    opened.resize(inner.size());
    EXPECT_EQ(opened, inner);
  }
}

TEST(PacketPath, PadsWithZerosToSixteenBytes) {
  World world;
  world.wrap(udp_packet(at(kOwn, 1), at(kServer, 2), Bytes(500, 0xee)));  // dirties the buffer
  const Bytes inner = udp_packet(at(kOwn, 1), at(kServer, 2), payload_bytes(5));
  const Bytes opened = world.gateway.open(world.wrap(inner)).value();
  ASSERT_EQ(opened.size(), 48u);
  EXPECT_TRUE(std::all_of(opened.begin() + 33, opened.end(), [](uint8_t b) { return b == 0; }));
}

TEST(PacketPath, CutsThePaddingOffAnInnerPacket) {
  World world;
  Bytes padded = inbound();
  const Bytes inner = padded;
  padded.resize(padded.size() + 15);
  EXPECT_EQ(copy(world.receive(world.gateway.sealed(padded)).inner), inner);
}

uint64_t counter_of(const Bytes& datagram) {
  return reinterpret_cast<const tunnel::EncryptedHeader*>(datagram.data())->counter.host();
}

TEST(PacketPath, SendersInOneSessionShareItsCounterToItsEnd) {
  World world;
  World other;
  const SharedCounter counter = std::make_shared<std::atomic<uint64_t>>(5);
  world.path.install(world.pair.client, counter);
  other.path.install(world.pair.client, counter);
  EXPECT_EQ(counter_of(world.wrap(outbound())), 5u);
  EXPECT_EQ(counter_of(other.wrap(outbound())), 6u);
  EXPECT_EQ(counter_of(world.wrap(outbound())), 7u);
  EXPECT_EQ(other.path.send_counter(), 8u);
  EXPECT_TRUE(world.gateway.open(other.wrap(outbound())));
  *counter = tunnel::kRejectAfterMessages - 1;
  EXPECT_FALSE(world.wrap(outbound()).empty());
  for (unsigned i = 0; i < 3; ++i) EXPECT_TRUE(other.wrap(outbound()).empty());
  EXPECT_EQ(*counter, tunnel::kRejectAfterMessages);
  EXPECT_EQ(other.counters.tx_counter_exhausted, 3u);
}

TEST(PacketPath, APaddedProbeMakesAnOuterPacketOfExactlyItsLength) {
  World world;
  constexpr size_t kOuterHeaders = sizeof(Ipv4Header) + sizeof(UdpHeader);
  for (const size_t bytes : {160u, 1500u, 1559u, 9061u}) {
    std::ranges::fill(world.buffer->bytes, uint8_t{0xa5});  // what was there before
    const auto wrapped = world.path.wrap_padded_probe(*world.buffer, bytes, 0x0102030405060708,
                                                      Be16::from_host(1400));
    const Bytes datagram = copy(wrapped.datagram);
    EXPECT_EQ(datagram.size() + kOuterHeaders, bytes);
    Bytes expected(bytes - kOuterOverheadBytes, 0);
    expected[0] = tunnel::kProbeRequest;
    expected[2] = 1400 / 256;
    expected[3] = 1400 % 256;
    for (uint8_t i = 0; i < 8; ++i) expected[8 + i] = static_cast<uint8_t>(i + 1);
    EXPECT_EQ(world.gateway.open(datagram), expected);
  }
}

// The route to the gateway leads into the tunnel: wrapped again, it would never end.
TEST(PacketPath, WrapsNoTunnelPacketOfItsOwn) {
  World world;
  EXPECT_TRUE(world.wrap(udp_packet(at(kOwn, 5000), kGateway, payload_bytes(100))).empty());
  EXPECT_EQ(world.counters.tx_outer_loop, 1u);
  const Endpoint other_port = at(kGateway.address, 53);
  EXPECT_FALSE(world.wrap(udp_packet(at(kOwn, 5000), other_port, payload_bytes(9))).empty());
}

TEST(PacketPath, DropsWhatIsNotIpv4FromTheDevice) {
  World world;
  Bytes ipv6(40);
  ipv6[0] = 0x60;
  EXPECT_TRUE(world.wrap(ipv6).empty());
  EXPECT_EQ(world.counters.tx_not_ipv4, 1u);
  Bytes cut = outbound();
  cut.resize(25);
  EXPECT_TRUE(world.wrap(cut).empty());
  EXPECT_EQ(world.counters.tx_malformed, 1u);
}

TEST(PacketPath, HearsHeartbeatsAndProbes) {
  World world;
  Received received = world.receive(world.gateway.sealed({}));
  EXPECT_EQ(received.kind, Received::heartbeat);
  EXPECT_TRUE(received.heard);

  tunnel::ProbePacket probe{};
  probe.kind = tunnel::kProbeRequest;
  probe.stamp = Be64::from_host(0x1122334455667788);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&probe);
  received = world.receive(world.gateway.sealed({bytes, sizeof probe}));
  EXPECT_EQ(received.kind, Received::probe_request);
  EXPECT_EQ(received.stamp, 0x1122334455667788u);
  probe.kind = tunnel::kProbeReply;
  received = world.receive(world.gateway.sealed({bytes, sizeof probe}));
  EXPECT_EQ(received.kind, Received::probe_reply);
  EXPECT_TRUE(received.heard);
}

TEST(PacketPath, TakesSealedDhcpOutAndDropsPlainDhcp) {
  World world(Protection::plain);
  const Received sealed = world.receive(world.gateway.sealed(dhcp_answer()));
  EXPECT_EQ(sealed.kind, Received::dhcp);
  EXPECT_EQ(copy(sealed.inner), dhcp_answer());
  for (const Bytes& inner : {dhcp_answer(), dhcp_query()}) {
    EXPECT_EQ(world.receive(world.gateway.plain(inner)).kind, Received::dropped);
  }
  EXPECT_EQ(world.counters.rx_plain_dhcp, 2u);
}

TEST(PacketPath, TakesDhcpBeforeThereIsAnAddress) {
  World world;
  world.path.set_address(std::nullopt);
  EXPECT_EQ(world.receive(world.gateway.sealed(dhcp_answer())).kind, Received::dhcp);
  EXPECT_EQ(world.receive(world.gateway.sealed(inbound())).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_misdirected, 1u);
}

TEST(PacketPath, DeliversOnlyToOurAddressAndTheLanBehindUs) {
  World world;
  const auto behind = Ipv4Address::from_octets(192, 168, 44, 7);
  const Bytes inner = udp_packet(at(kServer, 1), at(behind, 2), payload_bytes(8));
  EXPECT_EQ(world.receive(world.gateway.sealed(inner)).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_misdirected, 1u);
  world.path.set_lan({*Ipv4Prefix::parse("192.168.44.0/24")});
  EXPECT_EQ(world.receive(world.gateway.sealed(inner)).kind, Received::packet);
}

TEST(PacketPath, DropsEachKindOfBadDatagramUnderItsOwnName) {
  World world;
  World plain_world(Protection::plain);
  Counters& counters = world.counters;
  Counters& plain_counters = plain_world.counters;
  const Bytes good = world.gateway.sealed(inbound());

  world.last = good;
  world.path.receive(world.last, at(kServer, 8000), kNow);
  EXPECT_EQ(counters.rx_wrong_source, 1u);
  world.receive({});
  world.receive({4, 0, 0, 0, 1, 2, 3});
  world.receive(Bytes(good.begin(), good.begin() + 31));
  Bytes response(93);
  response[0] = 2;
  world.receive(response);
  EXPECT_EQ(counters.rx_bad_length, 4u);
  for (const unsigned type : {0, 1, 6, 255}) {
    Bytes unknown = good;
    unknown[0] = static_cast<uint8_t>(type);
    world.receive(unknown);
  }
  Bytes reserved = good;
  reserved[2] = 1;
  world.receive(reserved);
  EXPECT_EQ(counters.rx_unknown_type, 5u);
  Bytes index = good;
  index[4] ^= 1;
  world.receive(index);
  world.receive(Bytes{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                      0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(counters.rx_unknown_index, 2u);
  Bytes forged = good;
  forged.back() ^= 1;
  EXPECT_FALSE(world.receive(forged).heard);
  EXPECT_EQ(counters.rx_not_authentic, 1u);
  EXPECT_EQ(world.receive(good).kind, Received::packet);
  EXPECT_FALSE(world.receive(good).heard);
  EXPECT_EQ(counters.rx_replayed, 1u);
  Bytes bare = world.gateway.plain(inbound());
  world.receive(bare);
  EXPECT_EQ(counters.rx_wrong_protection, 1u);
  EXPECT_TRUE(world.receive(world.gateway.sealed(Bytes{0x60, 1, 2})).heard);
  EXPECT_EQ(counters.rx_inner_unknown, 1u);
  Bytes broken = inbound();
  broken[10] ^= 1;  // the header checksum
  world.receive(world.gateway.sealed(broken));
  EXPECT_EQ(counters.rx_inner_malformed, 1u);
  Bytes tagged = plain_world.gateway.plain(inbound());
  tagged[1] ^= 1;
  plain_world.receive(tagged);
  EXPECT_EQ(plain_counters.rx_bad_tag, 1u);
  EXPECT_EQ(drops(counters), 17u);
  EXPECT_EQ(drops(plain_counters), 1u);
}

TEST_P(EveryProtection, RefusesBothWaysOnceTheSessionIsPastItsLife) {
  World world(GetParam());
  const uint64_t end_ns = kNow + tunnel::kRejectAfterNs;
  EXPECT_TRUE(world.path.usable(end_ns - 1));
  EXPECT_FALSE(world.path.usable(end_ns));
  const Bytes datagram = GetParam() == Protection::plain ? world.gateway.plain(inbound())
                                                         : world.gateway.sealed(inbound());
  EXPECT_EQ(world.receive_at(datagram, end_ns).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_expired_session, 1u);
  world.path.expire(end_ns);
  EXPECT_EQ(world.receive_at(datagram, end_ns).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_unknown_index, 1u);
}

TEST(PacketPath, ARekeySendsInTheNewSessionAndStillTakesTheOld) {
  World world;
  SessionPair second = shake_hands(Protection::aes_256_gcm, 78, kNow);
  FakeGateway renewed(second.gateway);
  world.path.install(second.client);
  EXPECT_TRUE(renewed.open(world.wrap(outbound())).has_value());
  EXPECT_EQ(world.receive(world.gateway.sealed(inbound())).kind, Received::packet);
  EXPECT_EQ(world.receive(renewed.sealed(inbound())).kind, Received::packet);
  // A third puts the first out.
  world.path.install(shake_hands(Protection::plain, 79, kNow).client);
  EXPECT_EQ(world.receive(world.gateway.sealed(inbound())).kind, Received::dropped);
  EXPECT_EQ(world.receive(renewed.sealed(inbound())).kind, Received::packet);
  EXPECT_EQ(world.wrap(outbound())[0], 5);
}

TEST(PacketPath, ClearForgetsEverySession) {
  World world;
  world.path.clear();
  EXPECT_FALSE(world.path.usable(kNow));
  EXPECT_EQ(world.receive(world.gateway.sealed(inbound())).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_unknown_index, 1u);
}

TEST(PacketPath, SurvivesEveryTruncationAndEveryFlippedByte) {
  for (const Protection protection : {Protection::aes_256_gcm, Protection::plain}) {
    World world(protection);
    uint64_t received = 0;
    for (size_t size = 0; size < 160; ++size) {
      for (const bool bare : {false, true}) {
        Bytes datagram =
            bare ? world.gateway.plain(inbound()) : world.gateway.sealed(inbound());
        datagram.resize(std::min(size, datagram.size()));
        received += world.receive(datagram).kind != Received::dropped;
        datagram = bare ? world.gateway.plain(inbound()) : world.gateway.sealed(inbound());
        if (size < datagram.size()) datagram[size] ^= 0xff;
        received += world.receive(datagram).kind != Received::dropped;
      }
    }
    EXPECT_EQ(received + drops(world.counters), 160u * 4);
  }
}

// As when the client moves to another gateway: what each has counted and seen goes along.
TEST(PacketPath, SwappedWithAnotherEachGoesOnInTheOthersPlace) {
  World world;
  const SessionPair pair = shake_hands(Protection::aes_256_gcm, 78, kNow);
  FakeGateway other(pair.gateway);
  PacketPath second{world.counters};
  second.set_gateway(at(Ipv4Address::from_octets(30, 2, 1, 10), 8000));
  second.set_address(Ipv4Address::from_octets(192, 168, 1, 99));
  second.install(pair.client);
  const Bytes first = world.gateway.sealed(inbound());
  ASSERT_EQ(world.receive(first).kind, Received::packet);
  world.wrap(outbound());

  world.path.swap(second);
  EXPECT_EQ(other.open(world.wrap(outbound())), outbound());
  EXPECT_EQ(second.send_counter(), 1u);
  Bytes again = first;
  EXPECT_EQ(second.receive(again, kGateway, kNow).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_replayed, 1u);
  Bytes more = world.gateway.sealed(inbound());
  EXPECT_EQ(second.receive(more, kGateway, kNow).kind, Received::packet);
  EXPECT_EQ(world.receive(world.gateway.sealed(inbound())).kind, Received::dropped);
  EXPECT_EQ(world.counters.rx_wrong_source, 1u);
}

}  // namespace
}  // namespace adit::client
