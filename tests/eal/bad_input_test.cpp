// Packets that are wrong in one known way, at every length that the way has: each is dropped under
// the name that it must have, makes no state, is not answered, and another subscriber's traffic
// goes on. malformed_test.cpp has those that are wrong at random.
#include "tests/eal/fragment_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::piece_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;
using adit::test::UdpChecksum;

const Bytes kHello = payload_bytes(33);
const adit::test::Ipv4Options kHopLess{.ttl = 63};

class BadInput : public Rig {
 protected:
  enum class From : bool { inside, outside };

  void SetUp() override {
    external_ = external_of(far_, udp_packet(kApplication, kService, kHello));
    bystanders_ = external_of(bystander_, udp_packet(kSecond, kService, kHello));
  }
  void TearDown() override {
    receive_from(bystander_, bystander_.seal(udp_packet(kSecond, kService, kHello)));
    EXPECT_EQ(sent_one(0), udp_packet(bystanders_, kService, kHello, kHopLess));
    receive(0, udp_packet(kService, bystanders_, kHello));
    EXPECT_EQ(bystander_.open(sent_to_tunnel(bystander_.outer)),
              udp_packet(kService, kSecond, kHello, kHopLess));
    Rig::TearDown();
  }

  void give(From from, const Bytes& packet) {
    from == From::inside ? receive_from(far_, far_.plain(packet)) : receive(0, packet);
  }
  void expect_refused(From from, const Bytes& packet, Fate reason) {
    const auto state = [&] {
      return std::array<uint64_t, 4>{nat_counts().mappings_created, portless_live(),
                                     fragmented_datagrams(), held_fragments()};
    };
    const auto state_before = state();
    const uint64_t drops_before = drops(reason);
    const uint64_t all_before = counters_.drops_total();
    give(from, packet);
    EXPECT_EQ(drops(reason) - drops_before, 1u) << fate_name(reason);
    EXPECT_EQ(counters_.drops_total() - all_before, 1u);
    EXPECT_EQ(sent(0), std::vector<Bytes>{});
    EXPECT_EQ(state(), state_before);
  }

  FarEnd far_ = open_tunnel(1, Protection::plain);
  FarEnd bystander_ = open_tunnel(2, Protection::aes_256_gcm);
  Endpoint external_;    // of kApplication
  Endpoint bystanders_;  // of kSecond
};

// ---- IP ----

TEST_F(BadInput, HeaderOfEveryLengthPassesOrIsRefused) {
  for (uint8_t words = 0; words < 16; ++words) {
    // 60 bytes with their own idea of how many of them are the header; a no-operation each (RFC
    // 791) is what may be in it.
    Bytes out = udp_packet(kApplication, kService, payload_bytes(12), {.options = Bytes(20, 1)});
    Bytes in = udp_packet(kService, external_, payload_bytes(12), {.options = Bytes(20, 1)});
    for (Bytes* packet : {&out, &in}) {
      (*packet)[0] = static_cast<uint8_t>(0x40 | words);
      (*packet)[10] = (*packet)[11] = 0;
      const uint16_t sum = adit::test::plain_checksum(
          std::span(*packet).first(std::clamp<size_t>(words * 4u, 12, packet->size())));
      (*packet)[10] = static_cast<uint8_t>(sum >> 8);
      (*packet)[11] = static_cast<uint8_t>(sum);
    }
    if (words < 5) {
      expect_refused(From::inside, out, Fate::inner_bad_length);
      expect_refused(From::outside, in, Fate::ip_bad_length);
    }
    if (words == 15) {
      expect_refused(From::inside, out, Fate::inner_truncated);
      expect_refused(From::outside, in, Fate::ip_truncated);
    }
  }
  for (size_t bytes = 0; bytes <= 40; bytes += 4) {
    const adit::test::Ipv4Options options{.options = Bytes(bytes, 1)};
    const adit::test::Ipv4Options hop_less{.ttl = 63, .options = Bytes(bytes, 1)};
    give(From::inside, udp_packet(kApplication, kService, kHello, options));
    EXPECT_EQ(sent_one(0), udp_packet(external_, kService, kHello, hop_less)) << bytes;
    give(From::outside, udp_packet(kService, external_, kHello, options));
    EXPECT_EQ(far_.open(sent_to_tunnel(far_.outer)),
              udp_packet(kService, kApplication, kHello, hop_less))
        << bytes;
  }
}

TEST_F(BadInput, PacketCutShortAtEveryLength) {
  const Bytes out = tcp_packet(kApplication, kService, kHello);
  const Bytes in = tcp_packet(kService, external_, kHello);
  for (size_t bytes = 1; bytes < out.size(); ++bytes) {
    // A tunnel packet too short for any inner one is not even looked up.
    expect_refused(From::inside, Bytes(out.begin(), out.begin() + static_cast<long>(bytes)),
                   bytes < sizeof(Ipv4Header) ? Fate::tunnel_truncated : Fate::inner_truncated);
    expect_refused(From::outside, Bytes(in.begin(), in.begin() + static_cast<long>(bytes)),
                   Fate::ip_truncated);
  }
}

// RFC 791 lets a packet be so short that its transport header does not fit.
TEST_F(BadInput, TransportHeaderCutShortAtEveryLength) {
  const Bytes whole = tcp_packet(kApplication, kService, kHello);
  for (const auto& [protocol, header] : {std::pair{kIpUdp, 8}, {kIpTcp, 20}, {kIpIcmp, 8}}) {
    for (long bytes = 0; bytes < header; ++bytes) {
      const Bytes part(whole.begin() + 20, whole.begin() + 20 + bytes);
      expect_refused(From::inside, ipv4_packet(kInner, kServer, protocol, part),
                     Fate::inner_truncated);
      expect_refused(From::outside, ipv4_packet(kServer, kGateway, protocol, part),
                     Fate::ip_truncated);
    }
  }
}

TEST_F(BadInput, SourceThatIsTheDestination) {
  expect_refused(From::inside, tcp_packet(kApplication, kApplication, {}, {.flags = kTcpSyn}),
                 Fate::tunnel_to_tunnel);
  expect_refused(From::inside, udp_packet({kGateway, kService.port}, {kGateway, kService.port},
                                          kHello),
                 Fate::spoofed_source);
  expect_refused(From::outside, tcp_packet(external_, external_, {}, {.flags = kTcpSyn}),
                 Fate::bad_source);
  expect_refused(From::outside, udp_packet(external_, external_, kHello), Fate::bad_source);
  expect_refused(From::outside, udp_packet(kTunnelEndpoint, kTunnelEndpoint, kHello),
                 Fate::bad_source);
}

// ---- UDP and TCP ----

TEST_F(BadInput, PortZero) {
  const Endpoint from_zero{kInner, Be16{}};
  const Endpoint to_zero{kServer, Be16{}};
  expect_refused(From::inside, udp_packet(from_zero, kService, kHello), Fate::inner_bad_transport);
  expect_refused(From::inside, tcp_packet(from_zero, kService, {}), Fate::inner_bad_transport);
  expect_refused(From::inside, udp_packet(kApplication, to_zero, kHello),
                 Fate::inner_bad_transport);
  expect_refused(From::inside, tcp_packet(kApplication, to_zero, {}), Fate::inner_bad_transport);
  expect_refused(From::outside, udp_packet(to_zero, external_, kHello), Fate::ip_bad_transport);
  expect_refused(From::outside, tcp_packet(kService, {kGateway, Be16{}}, {}),
                 Fate::ip_bad_transport);
}

// It says that there is none (RFC 768), and goes on saying so.
TEST_F(BadInput, UdpChecksumZeroPassesAndStaysZero) {
  give(From::inside, udp_packet(kApplication, kService, kHello, {}, UdpChecksum::absent));
  EXPECT_EQ(sent_one(0), udp_packet(external_, kService, kHello, kHopLess, UdpChecksum::absent));
  give(From::outside, udp_packet(kService, external_, kHello, {}, UdpChecksum::absent));
  EXPECT_EQ(far_.open(sent_to_tunnel(far_.outer)),
            udp_packet(kService, kApplication, kHello, kHopLess, UdpChecksum::absent));
}

TEST_F(BadInput, UdpLengthThatIsNotThePackets) {
  for (const unsigned length : {0u, 7u, 42u, 65535u}) {  // 41 is right
    Bytes out = udp_packet(kApplication, kService, kHello);
    Bytes in = udp_packet(kService, external_, kHello);
    for (Bytes* packet : {&out, &in}) {
      (*packet)[24] = static_cast<uint8_t>(length >> 8);
      (*packet)[25] = static_cast<uint8_t>(length);
    }
    expect_refused(From::inside, out, Fate::inner_bad_transport);
    expect_refused(From::outside, in, Fate::ip_bad_transport);
  }
}

TEST_F(BadInput, TcpHeaderLengthThatIsNotThePackets) {
  for (const unsigned words : {0u, 4u, 14u, 15u}) {  // 20 + 33 bytes are 13 words
    Bytes out = tcp_packet(kApplication, kService, kHello);
    Bytes in = tcp_packet(kService, external_, kHello);
    out[32] = in[32] = static_cast<uint8_t>(words << 4);
    expect_refused(From::inside, out, Fate::inner_bad_transport);
    expect_refused(From::outside, in, Fate::ip_bad_transport);
  }
}

// ---- ICMP ----

TEST_F(BadInput, QuoteCutShortAtEveryLength) {
  const Bytes sent_out = udp_packet(external_, kService, kHello, kHopLess);
  const Bytes delivered = udp_packet(kService, kApplication, kHello, kHopLess);
  for (long bytes = 0; bytes < 28; ++bytes) {  // the header and 8 bytes are what there must be
    const Bytes out(delivered.begin(), delivered.begin() + bytes);
    const Bytes in(sent_out.begin(), sent_out.begin() + bytes);
    expect_refused(From::inside, icmp_packet(kInner, kServer, 3, 3, 0, out), Fate::icmp_bad_quote);
    expect_refused(From::outside, icmp_packet(kServer, kGateway, 3, 3, 0, in),
                   Fate::icmp_bad_quote);
  }
}

TEST_F(BadInput, QuoteWithOptionsCutShortAtEveryLength) {
  const Bytes sent_out =
      udp_packet(external_, kService, kHello, {.ttl = 63, .options = Bytes(40, 1)});
  for (long bytes = 0; bytes < 68; ++bytes) {
    const Bytes in(sent_out.begin(), sent_out.begin() + bytes);
    expect_refused(From::outside, icmp_packet(kServer, kGateway, 11, 0, 0, in),
                   Fate::icmp_bad_quote);
  }
}

TEST_F(BadInput, FloodOfErrorsAboutNothing) {
  for (unsigned i = 0; i < 3000; ++i) {
    const Endpoint nobody{kGateway, Be16::from_host(static_cast<uint16_t>(1 + i))};
    if (nobody.port == external_.port || nobody.port == bystanders_.port) continue;
    const Endpoint nothing{kInner, Be16::from_host(static_cast<uint16_t>(2000 + i))};
    expect_refused(From::outside,
                   icmp_packet(kServer, kGateway, 3, 3, 0, udp_packet(nobody, kService, kHello)),
                   Fate::icmp_no_mapping);
    expect_refused(From::inside,
                   icmp_packet(kInner, kServer, 3, 3, 0, udp_packet(kService, nothing, kHello)),
                   Fate::icmp_no_mapping);
  }
  // Nor one about an error (RFC 1122 §3.2.2).
  const Bytes error = icmp_packet(kGateway, kServer, 3, 3, 0, kHello);
  expect_refused(From::outside, icmp_packet(kServer, kGateway, 3, 3, 0, error),
                 Fate::icmp_bad_quote);
}

// ---- Fragments ----

TEST_F(BadInput, FirstFragmentTooSmallForItsHeaderAtEveryLength) {
  const Bytes out = tcp_packet(kApplication, kService, kBody);
  const Bytes in = tcp_packet(kService, external_, kBody);
  for (const size_t bytes : {8u, 16u}) {
    expect_refused(From::inside, piece_of(out, 0, bytes), Fate::fragment_tiny);
    expect_refused(From::outside, piece_of(in, 0, bytes), Fate::fragment_tiny);
  }
}

// Around a first fragment of bytes 0 to 256 and one that ends at 384: whatever touches them.
TEST_F(BadInput, FragmentThatOverlapsAnotherWhereverItBegins) {
  const Bytes out = udp_packet(kApplication, kService, kBody);
  const Bytes in = udp_packet(kService, external_, kBody);
  for (const auto& [from, whole] : {std::pair{From::inside, &out}, {From::outside, &in}}) {
    give(from, piece_of(*whole, 0, 256));
    give(from, piece_of(*whole, 256, 384));
    EXPECT_EQ(sent(0).size(), 2u);
    for (size_t begin = 8; begin < 384; begin += 8) {
      expect_refused(from, piece_of(*whole, begin, begin + 8), Fate::fragment_overlap);
    }
    expect_refused(from, piece_of(*whole, 248, 400), Fate::fragment_overlap);
    expect_refused(from, piece_of(*whole, 8, 508), Fate::fragment_overlap);
    give(from, piece_of(*whole, 384, 508));
    EXPECT_EQ(sent(0).size(), 1u) << "the datagram itself arrives all the same";
  }
}

}  // namespace
}  // namespace adit::gateway::test
