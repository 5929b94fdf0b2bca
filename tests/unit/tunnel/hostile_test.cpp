// Bytes that nobody who means well would send, at every entry that takes bytes from the wire. The
// sanitizers see what no assertion here can: build with -Db_sanitize=address,undefined.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::Bytes;
using test::client_config;
using test::gateway_config;
using test::kAll;
using test::Link;


class Hostile : public testing::Test {
 protected:
  // Random bytes, mostly with a type and a length that lead somewhere.
  Bytes random_packet() {
    constexpr size_t kLengths[] = {0, 1, 8, 16, 31, 32, 33, 64, 92, 148, 1500};
    size_t length = engine() % 2 == 0 ? kLengths[engine() % std::size(kLengths)] : engine() % 200;
    Bytes packet(length);
    for (uint8_t& byte : packet) byte = static_cast<uint8_t>(engine());
    if (!packet.empty()) packet[0] = static_cast<uint8_t>(engine() % 7);
    return packet;
  }
  // A true packet with a few bytes changed, cut or grown.
  Bytes mutated(Bytes packet) {
    for (unsigned i = 0; i < 1 + engine() % 3; ++i) {
      if (packet.empty()) break;
      packet[engine() % packet.size()] ^= static_cast<uint8_t>(1 + engine() % 255);
    }
    if (engine() % 4 == 0) packet.resize(engine() % (packet.size() + 20));
    return packet;
  }

  std::mt19937 engine{1};
};

TEST_F(Hostile, BytesNeitherStopTheEndsNorMoveTheirSession) {
  Link link(client_config(kAll), gateway_config(kAll));
  std::vector<Bytes> captured;
  link.tap = [&](bool, const Bytes& packet) { captured.push_back(packet); };
  link.connect();
  link.run_for(kSecondNs);
  ASSERT_TRUE(link.client->send(link.now_ns, Bytes(100)));
  link.run_for(kSecondNs);
  ASSERT_EQ(captured.size(), 4u);
  link.tap = nullptr;
  const uint32_t index = link.gateway->sessions.at(SessionSet::kCurrent).local_index;
  const uint64_t heard_ns = link.gateway->peer.last_heard_ns();
  const auto received = link.gateway->received;

  for (int i = 0; i < 20'000; ++i) {
    const Bytes packet =
        engine() % 2 == 0 ? random_packet() : mutated(captured[engine() % captured.size()]);
    if (std::ranges::find(captured, packet) != captured.end()) continue;
    // The type of a data packet and its reserved bytes are not authenticated, so such a mutation
    // can be a true packet under another name; what it carries was seen, so it is refused anyway.
    link.gateway->receive(link.now_ns, packet);
    link.client->receive(link.now_ns, packet);
  }
  EXPECT_EQ(link.gateway->sessions.at(SessionSet::kCurrent).local_index, index);
  EXPECT_EQ(link.gateway->sessions_installed, 1u);
  EXPECT_EQ(link.client->sessions_installed, 1u);
  EXPECT_EQ(link.gateway->peer.last_heard_ns(), heard_ns);
  EXPECT_EQ(link.gateway->received, received);
  ASSERT_TRUE(link.client->send(link.now_ns, Bytes(100)));
  link.run_for(kSecondNs);
  EXPECT_EQ(link.gateway->received.size(), received.size() + 1);
}

// Past mac1, which anyone can make, to the code behind it.
TEST_F(Hostile, InitiationsWithAGoodFirstMacOpenNothing) {
  const test::TwoEnds ends;
  CookieJar jar(ends.gateway.public_key);
  for (int i = 0; i < 2'000; ++i) {
    InitiationMessage message;
    for (uint8_t& byte : test::bytes_in(message)) byte = static_cast<uint8_t>(engine());
    message.type = 1;
    message.lanes = message.reserved = 0;
    jar.stamp(test::bytes_in(message), 0);
    ASSERT_TRUE(check_mac1(ends.gateway.public_key, test::bytes_in(message)));
    EXPECT_FALSE(open_initiation(ends.gateway, message));
  }
}

}  // namespace
}  // namespace adit::tunnel
