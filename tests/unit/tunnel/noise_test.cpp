#include "lib/tunnel/noise.h"

#include <gtest/gtest.h>

#include <optional>

#include "lib/tunnel/cookie.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::bytes_in;
using test::TwoEnds;

constexpr auto kChaCha = Protection::chacha20_poly1305;
constexpr auto kGcm = Protection::aes_256_gcm;
constexpr auto kPlain = Protection::plain;
constexpr ProtectionSet kStock{};
constexpr ProtectionSet kAll = kStock.with(kChaCha).with(kGcm).with(kPlain);
constexpr uint32_t kClientIndex = 0x01020304;
constexpr uint32_t kGatewayIndex = 0xa0b0c0d0;

struct Handshake {
  TwoEnds ends;
  InitiationMessage initiation{};
  InitiatorState state;
  ResponseMessage response{};
  std::optional<Session> gateway_session;
  std::optional<Session> client_session;

  explicit Handshake(ProtectionSet offered, Protection chosen, const PresharedKey& psk = {})
      : ends(psk) {
    state = create_initiation(ends.client, ends.gateway_seen_by_client, kClientIndex, offered,
                              tai64n_from_unix(1000, 0), ends.random, initiation)
                .value();
    const auto opened = open_initiation(ends.gateway, initiation);
    if (!opened) return;
    gateway_session = create_response(*opened, ends.client_seen_by_gateway, kGatewayIndex, chosen,
                                      77, ends.random, response);
    client_session = open_response(ends.client, ends.gateway_seen_by_client, state, response, 88);
  }
};

void expect_mirrored(const Session& client, const Session& gateway, Protection protection) {
  EXPECT_TRUE(client.initiator);
  EXPECT_FALSE(gateway.initiator);
  EXPECT_EQ(client.local_index, kClientIndex);
  EXPECT_EQ(client.remote_index, kGatewayIndex);
  EXPECT_EQ(gateway.local_index, kGatewayIndex);
  EXPECT_EQ(gateway.remote_index, kClientIndex);
  EXPECT_EQ(client.protection, protection);
  EXPECT_EQ(gateway.protection, protection);
  EXPECT_EQ(client.send_key, gateway.receive_key);
  EXPECT_EQ(client.receive_key, gateway.send_key);
  EXPECT_NE(client.send_key, client.receive_key);
  EXPECT_EQ(client.send_tag, gateway.receive_tag);
  EXPECT_EQ(client.receive_tag, gateway.send_tag);
  EXPECT_NE(client.send_tag, client.receive_tag);
  EXPECT_EQ(gateway.established_ns, 77u);
  EXPECT_EQ(client.established_ns, 88u);
}

TEST(Handshake, GivesBothEndsMirroredSessionsForEveryOfferAndChoice) {
  const PresharedKey psk{{1, 2, 3}};
  for (const PresharedKey& key : {PresharedKey{}, psk}) {
    for (uint8_t bits = 0; bits < 8; ++bits) {
      for (const Protection chosen : {kChaCha, kGcm, kPlain}) {
        const ProtectionSet offered{bits};
        if (bits == 0 ? chosen != kChaCha : !offered.contains(chosen)) continue;
        SCOPED_TRACE(testing::Message() << "offer " << int{bits} << ' ' << protection_name(chosen));
        const Handshake handshake(offered, chosen, key);
        ASSERT_TRUE(handshake.gateway_session && handshake.client_session);
        expect_mirrored(*handshake.client_session, *handshake.gateway_session, chosen);
      }
    }
  }
}

TEST(Handshake, OpensMessageOneInTwoStepsAsInOne) {
  const Handshake handshake(kAll, kGcm);
  const auto at_once = open_initiation(handshake.ends.gateway, handshake.initiation);
  const auto named = open_name(handshake.ends.gateway, handshake.initiation);
  ASSERT_TRUE(at_once && named);
  EXPECT_EQ(named->remote_public_key, handshake.ends.client.public_key);
  const auto opened =
      open_initiation(*named, handshake.ends.client_seen_by_gateway, handshake.initiation);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->chaining_key, at_once->chaining_key);
  EXPECT_EQ(opened->hash, at_once->hash);
  EXPECT_EQ(opened->remote_public_key, at_once->remote_public_key);
  EXPECT_EQ(opened->remote_ephemeral, at_once->remote_ephemeral);
  EXPECT_EQ(opened->timestamp, at_once->timestamp);
  EXPECT_EQ(opened->remote_index, at_once->remote_index);
  EXPECT_EQ(opened->offered, at_once->offered);
}

// Anybody who knows the gateway's public key can write another's name into message 1.
TEST(Handshake, BelievesANameOnlyWithTheSecretOfBothKeys) {
  TwoEnds ends;
  RemoteIdentity gateway = ends.gateway_seen_by_client;
  gateway.static_static[7] ^= 1;
  InitiationMessage forged;
  ASSERT_TRUE(create_initiation(ends.client, gateway, kClientIndex, kAll,
                                tai64n_from_unix(1000, 0), ends.random, forged));
  const auto named = open_name(ends.gateway, forged);
  ASSERT_TRUE(named);
  EXPECT_EQ(named->remote_public_key, ends.client.public_key);
  EXPECT_FALSE(open_initiation(*named, ends.client_seen_by_gateway, forged));
  EXPECT_FALSE(open_initiation(ends.gateway, forged));
}

TEST(Handshake, LeavesByteOneZeroTowardsAStockPeer) {
  const Handshake handshake(kStock, kChaCha);
  EXPECT_EQ(handshake.initiation.offered, 0);
  EXPECT_EQ(handshake.response.chosen, 0);
  EXPECT_TRUE(handshake.client_session);
}

TEST(Handshake, DeliversTheInitiatorsKeyStampIndexAndOffer) {
  Handshake handshake(kAll, kGcm);
  const auto opened = open_initiation(handshake.ends.gateway, handshake.initiation);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->remote_public_key, handshake.ends.client.public_key);
  EXPECT_EQ(opened->timestamp, tai64n_from_unix(1000, 0));
  EXPECT_EQ(opened->remote_index, kClientIndex);
  EXPECT_EQ(opened->offered, kAll);
}

// Rule 4: from one chaining key, no two ciphers get the same key. The random source repeats, so
// only the choice differs between these handshakes; as the choice is not mixed into the chaining
// key, equal labels would give equal keys.
TEST(Handshake, MakesSeparateKeysForGcmAndTheSameOnesForPlainsControlPackets) {
  const Handshake chacha(kAll, kChaCha);
  const Handshake gcm(kAll, kGcm);
  const Handshake plain(kAll, kPlain);
  ASSERT_TRUE(chacha.client_session && gcm.client_session && plain.client_session);
  EXPECT_NE(chacha.client_session->send_key, gcm.client_session->send_key);
  EXPECT_NE(chacha.client_session->receive_key, gcm.client_session->receive_key);
  EXPECT_EQ(chacha.client_session->send_key, plain.client_session->send_key);
  EXPECT_EQ(chacha.client_session->send_tag, plain.client_session->send_tag);
}

// A byte that the handshake proper leaves alone (types, indices, mac1 itself) is guarded by mac1;
// mac2 is guarded only where it is asked for, so it is left out here.
TEST(Handshake, FailsWhenAnyByteOfMessageOneIsTamperedWith) {
  const Handshake handshake(kAll, kGcm);
  const RandomSource random = test::seeded_random(2);
  CookieChecker checker(handshake.ends.gateway.public_key);
  InitiationMessage stamped = handshake.initiation;
  CookieJar(handshake.ends.gateway.public_key).stamp(bytes_in(stamped), 0);
  ASSERT_EQ(checker.check(bytes_in(stamped), {}, 0, random), CookieChecker::Verdict::mac1_only);
  for (size_t i = 0; i < sizeof(stamped) - kMacBytes; ++i) {
    for (const uint8_t flip : {uint8_t{0x01}, uint8_t{0x80}}) {
      InitiationMessage tampered = stamped;
      bytes_in(tampered)[i] ^= flip;
      EXPECT_EQ(checker.check(bytes_in(tampered), {}, 0, random), CookieChecker::Verdict::bad_mac1)
          << "byte " << i;
    }
  }
}

// Anyone who knows the gateway's public key can make a good mac1. What then still must not pass
// is everything but the sender's index, which only chooses where the answer goes, and the macs.
TEST(Handshake, FailsWhenMessageOneIsTamperedWithAndStampedAgain) {
  const Handshake handshake(kAll, kGcm);
  for (size_t i = 0; i < offsetof(InitiationMessage, mac1); ++i) {
    if (i >= offsetof(InitiationMessage, sender_index) &&
        i < offsetof(InitiationMessage, ephemeral)) {
      continue;
    }
    for (const uint8_t flip : {uint8_t{0x01}, uint8_t{0x80}}) {
      // X25519 ignores the top bit of a public key, but the transcript hash does not.
      InitiationMessage tampered = handshake.initiation;
      bytes_in(tampered)[i] ^= flip;
      EXPECT_FALSE(open_initiation(handshake.ends.gateway, tampered)) << "byte " << i;
    }
  }
}

TEST(Handshake, FailsWhenMessageTwoIsTamperedWithAndStampedAgain) {
  const Handshake handshake(kAll, kGcm);
  for (size_t i = 0; i < offsetof(ResponseMessage, mac1); ++i) {
    if (i >= offsetof(ResponseMessage, sender_index) &&
        i < offsetof(ResponseMessage, receiver_index)) {
      continue;
    }
    for (const uint8_t flip : {uint8_t{0x01}, uint8_t{0x80}}) {
      ResponseMessage tampered = handshake.response;
      bytes_in(tampered)[i] ^= flip;
      EXPECT_FALSE(open_response(handshake.ends.client, handshake.ends.gateway_seen_by_client,
                                 handshake.state, tampered, 0))
          << "byte " << i;
    }
  }
}

TEST(Handshake, LetsNobodyDowngradeTheOfferOrTheChoice) {
  const Handshake handshake(kStock.with(kGcm).with(kChaCha), kGcm);
  for (unsigned offer = 0; offer < 256; ++offer) {
    InitiationMessage tampered = handshake.initiation;
    if (offer == tampered.offered) continue;
    tampered.offered = static_cast<uint8_t>(offer);
    EXPECT_FALSE(open_initiation(handshake.ends.gateway, tampered)) << offer;
  }
  for (unsigned choice = 0; choice < 256; ++choice) {
    ResponseMessage tampered = handshake.response;
    if (choice == tampered.chosen) continue;
    tampered.chosen = static_cast<uint8_t>(choice);
    EXPECT_FALSE(open_response(handshake.ends.client, handshake.ends.gateway_seen_by_client,
                               handshake.state, tampered, 0))
        << choice;
  }
}

// An honest transcript with a choice that was not offered: only the check of the choice refuses.
TEST(Handshake, RefusesAnAuthenticChoiceThatWasNotOffered) {
  Handshake handshake(kStock.with(kGcm), kGcm);
  auto opened = open_initiation(handshake.ends.gateway, handshake.initiation).value();
  opened.offered = kAll;  // a gateway that answers more than it was offered
  ResponseMessage response;
  ASSERT_TRUE(create_response(opened, handshake.ends.client_seen_by_gateway, kGatewayIndex, kPlain,
                              0, handshake.ends.random, response));
  EXPECT_FALSE(open_response(handshake.ends.client, handshake.ends.gateway_seen_by_client,
                             handshake.state, response, 0));
  handshake.state.offered = kAll;
  EXPECT_TRUE(open_response(handshake.ends.client, handshake.ends.gateway_seen_by_client,
                            handshake.state, response, 0));
}

TEST(Choice, IsTakenOnlyIfItWasOffered) {
  EXPECT_EQ(accept_choice(0, kStock), kChaCha);
  EXPECT_EQ(accept_choice(0, kAll), kChaCha);
  EXPECT_EQ(accept_choice(0, kStock.with(kGcm)), std::nullopt);
  EXPECT_EQ(accept_choice(1, kStock), std::nullopt);
  EXPECT_EQ(accept_choice(2, kAll), kGcm);
  EXPECT_EQ(accept_choice(4, kAll), kPlain);
  EXPECT_EQ(accept_choice(4, kStock.with(kGcm)), std::nullopt);
  EXPECT_EQ(accept_choice(3, kAll), std::nullopt) << "two bits are no choice";
  EXPECT_EQ(accept_choice(8, {0xff}), std::nullopt) << "a protection we do not know";
}

TEST(Handshake, FailsWithAnotherPresharedKey) {
  Handshake handshake(kAll, kGcm, PresharedKey{{1}});
  RemoteIdentity wrong = handshake.ends.gateway_seen_by_client;
  wrong.preshared_key.bytes[31] ^= 1;
  EXPECT_FALSE(open_response(handshake.ends.client, wrong, handshake.state, handshake.response, 0));
}

TEST(Handshake, FailsAtAnyoneButTheAddressedGateway) {
  const Handshake handshake(kAll, kGcm);
  EXPECT_FALSE(open_initiation(handshake.ends.client, handshake.initiation));
}

TEST(Handshake, RefusesRemoteKeysOfLowOrder) {
  const TwoEnds ends;
  EXPECT_FALSE(make_remote_identity(ends.client, PublicKey{}, {}));
  EXPECT_FALSE(make_remote_identity(ends.client, PublicKey{{1}}, {}));
  Handshake handshake(kAll, kGcm);
  std::fill(std::begin(handshake.initiation.ephemeral), std::end(handshake.initiation.ephemeral),
            uint8_t{0});
  EXPECT_FALSE(open_initiation(handshake.ends.gateway, handshake.initiation));
}

TEST(Tai64n, CountsAsTheLabelSaysAndHidesFineTime) {
  EXPECT_EQ(test::hex_of(tai64n_from_unix(0, 0)), "400000000000000a00000000");
  EXPECT_EQ(test::hex_of(tai64n_from_unix(1, 0x01ffffff)), "400000000000000b01000000");
  EXPECT_LT(tai64n_from_unix(5, 999'999'999), tai64n_from_unix(6, 0));
  EXPECT_LT(tai64n_from_unix(255, 0), tai64n_from_unix(256, 0));
}

TEST(ProtectionName, IsWhatAConfigurationSays) {
  EXPECT_STREQ(protection_name(kChaCha), "chacha20-poly1305");
  EXPECT_STREQ(protection_name(kGcm), "aes-256-gcm");
  EXPECT_STREQ(protection_name(kPlain), "plain");
}

}  // namespace
}  // namespace adit::tunnel
