// What a client's peer takes for the gateway's answer, and what it says of the rest.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "lib/tunnel/peer.h"
#include "tests/unit/tunnel/link.h"

namespace adit::tunnel {
namespace {

using test::Bytes;
using test::bytes_in;
using test::client_config;
using test::gateway_config;
using test::kAll;
using test::Link;
using test::set_of;

constexpr auto kGcm = Protection::aes_256_gcm;

class ClientPeer : public testing::Test {
 protected:
  ClientPeer() {
    link.tap = [this](bool, const Bytes& packet) {
      if (packet[0] == 2) std::memcpy(&response, packet.data(), sizeof(response));
    };
    link.loses = [](bool to_gateway, const Bytes&) { return !to_gateway; };
    link.connect();
    link.run_for(kSecondNs);
  }
  HandshakeReject offer(const ResponseMessage& message) {
    auto reject = HandshakeReject::malformed;
    const Actions actions = link.client->peer.on_response(link.now_ns, message, reject);
    EXPECT_EQ(actions.size(), reject == HandshakeReject::none ? 2u : 0u);
    return reject;
  }

  Link link{client_config(set_of({kGcm})), gateway_config(kAll)};
  ResponseMessage response{};
};

TEST_F(ClientPeer, SaysWhyItRefusesAResponseAndStillTakesTheTrueOne) {
  ResponseMessage bad = response;
  bad.type = 1;
  EXPECT_EQ(offer(bad), HandshakeReject::malformed);
  bad = response;
  bad.receiver_index = Le32::from_host(response.receiver_index.host() + 1);
  EXPECT_EQ(offer(bad), HandshakeReject::unexpected);
  bad = response;
  bad.sealed_nothing[0] ^= 1;
  EXPECT_EQ(offer(bad), HandshakeReject::bad_mac);
  CookieJar(link.ends().client.public_key).stamp(bytes_in(bad), 0);
  EXPECT_EQ(offer(bad), HandshakeReject::not_authentic);
  bad = response;
  bad.chosen = static_cast<uint8_t>(Protection::plain);
  CookieJar(link.ends().client.public_key).stamp(bytes_in(bad), 0);
  EXPECT_EQ(offer(bad), HandshakeReject::no_protection);
  EXPECT_EQ(offer(response), HandshakeReject::none);
  EXPECT_EQ(offer(response), HandshakeReject::unexpected) << "the same again";
}

TEST_F(ClientPeer, RefusesAnInitiation) {
  const auto& ends = link.ends();
  InitiationMessage message;
  create_initiation(ends.gateway, ends.client_seen_by_gateway, 5, {}, tai64n_from_unix(1, 0),
                    ends.random, message);
  auto reject = HandshakeReject::none;
  const auto opened = open_initiation(ends.client, message).value();
  EXPECT_EQ(link.client->peer.on_initiation(link.now_ns, opened, reject).size(), 0u);
  EXPECT_EQ(reject, HandshakeReject::unexpected);
}

TEST(RejectName, TellsEveryReasonApart) {
  std::set<std::string> names;
  for (uint8_t i = 0; i <= static_cast<uint8_t>(HandshakeReject::unexpected); ++i) {
    names.insert(handshake_reject_name(static_cast<HandshakeReject>(i)));
  }
  EXPECT_EQ(names.size(), 10u);
  EXPECT_FALSE(names.contains("unknown"));
}
}  // namespace
}  // namespace adit::tunnel
