// Packets nobody asked for, at random: nothing crashes, the conservation law holds, and the
// tunnel that is up goes on working.
#include <random>

#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

class Malformed : public Rig {
 protected:
  // Sends a packet, now and then with some of its bytes changed or cut off.
  void receive_mutated(const Bytes& packet) {
    Bytes frame(14);
    std::copy(kOurMac.bytes.begin(), kOurMac.bytes.end(), frame.begin());
    frame[12] = 0x08;
    frame.insert(frame.end(), packet.begin(), packet.end());
    for (unsigned flips = random_() % 4; flips > 0; --flips) {
      frame[random_() % std::min<size_t>(frame.size(), 100)] = static_cast<uint8_t>(random_());
    }
    if (random_() % 8 == 0) frame.resize(random_() % (frame.size() + 1));
    receive_frame(0, frame);
    sent_frames(0);
    handed_out();
  }

  std::mt19937 random_{7};
};

TEST_F(Malformed, MutatedPacketsFromBothSidesLeaveTheTunnelWorking) {
  FarEnd sealed = open_tunnel(1, Protection::aes_256_gcm);
  FarEnd plain = open_tunnel(2, Protection::plain);
  const Endpoint second{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(1025)};
  const Endpoint external =
      external_of(sealed, udp_packet(kApplication, kService, payload_bytes(9)));
  const Bytes syn_options = {2, 4, 5, 0xb4, 1, 3, 3, 7};
  for (int round = 0; round < 100'000; ++round) {
    const Bytes body = payload_bytes(random_() % 200, static_cast<uint8_t>(round));
    Bytes inner = udp_packet(round % 2 ? kApplication : second, kService, body);
    switch (random_() % 5) {
      case 0:
        inner = tcp_packet(second, kService, body, {.flags = kTcpSyn, .options = syn_options});
        break;
      case 1:
        inner = icmp_packet(second.address, kServer, 3, 3, 0, inner);
        break;
      case 2:
        inner = icmp_query(second.address, kServer, 8, 7, 7, body, {.options = {1, 1, 1, 1}});
        break;
      default:
        break;
    }
    switch (random_() % 4) {
      case 0: {  // hostile inside an honest wrapping
        for (unsigned flips = random_() % 4; flips > 0; --flips) {
          inner[random_() % inner.size()] = static_cast<uint8_t>(random_());
        }
        receive_from(plain, plain.plain(inner));
        sent_frames(0);
        handed_out();
        break;
      }
      case 1:
        receive_mutated(udp_packet(kClientOuter, kTunnelEndpoint, sealed.seal_at(inner, 1 << 20)));
        break;
      case 2:
        receive_mutated(udp_packet(kService, external, body));
        break;
      default:
        receive_mutated(
            icmp_packet(kServer, kGateway, 3, 1, 0, udp_packet(external, kService, body)));
        break;
    }
    if (round % 5000 == 0) now_ns_ += tunnel::kSecondNs;
  }
  EXPECT_GT(counters_.drops_total(), 10'000u);
  receive(0, udp_packet(kService, external, payload_bytes(9)));
  EXPECT_EQ(sealed.open(sent_to_tunnel(sealed.outer)),
            udp_packet(kService, kApplication, payload_bytes(9), {.ttl = 63}));
}

TEST_F(Malformed, RandomBytesAreNeverMoreThanADrop) {
  open_tunnel(1, Protection::aes_256_gcm);
  for (int round = 0; round < 100'000; ++round) {
    Bytes frame(random_() % 120);
    for (uint8_t& b : frame) b = static_cast<uint8_t>(random_());
    if (frame.size() >= 34 && round % 2 == 0) {
      std::copy(kOurMac.bytes.begin(), kOurMac.bytes.end(), frame.begin());
      frame[12] = 0x08;
      frame[13] = 0;
      frame[14] = 0x45;
    }
    receive_frame(0, frame);
    sent_frames(0);
    handed_out();
  }
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

}  // namespace
}  // namespace adit::gateway::test
