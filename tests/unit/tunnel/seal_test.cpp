#include "lib/tunnel/seal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "lib/tunnel/crypto.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::hex_of;

constexpr Protection kProtections[] = {Protection::chacha20_poly1305, Protection::aes_256_gcm,
                                       Protection::plain};

SessionKey key_of(uint8_t first) {
  SessionKey key{};
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(first + i);
  return key;
}

std::vector<uint8_t> packet_with(size_t text_bytes) {
  std::vector<uint8_t> packet(text_bytes + kEncryptedOverheadBytes);
  for (size_t i = 0; i < text_bytes; ++i) packet[sizeof(EncryptedHeader) + i] = uint8_t(i * 7);
  return packet;
}

TEST(Seal, WritesWireGuardsHeader) {
  Aead aead(Protection::chacha20_poly1305, key_of(1));
  auto packet = packet_with(0);
  EXPECT_EQ(aead.seal(packet, 0, 0x04030201, 0x0c0b0a0908070605), kEncryptedOverheadBytes);
  EXPECT_EQ(hex_of(std::span(packet).first(16)),
            "0400000001020304"
            "05060708090a0b0c");
}

TEST(Seal, OpensWhatItSealedAtEveryLength) {
  for (const Protection protection : kProtections) {
    Aead sender(protection, key_of(1));
    Aead receiver(protection, key_of(1));
    for (size_t text_bytes = 0; text_bytes < 200; ++text_bytes) {
      auto packet = packet_with(text_bytes);
      const auto clear = packet;
      ASSERT_EQ(sender.seal(packet, text_bytes, 7, text_bytes), packet.size());
      if (text_bytes > 8) {
        ASSERT_FALSE(std::equal(packet.begin() + 16, packet.end() - 16, clear.begin() + 16));
      }
      const auto opened = receiver.open(packet);
      ASSERT_TRUE(opened) << protection_name(protection) << ' ' << text_bytes;
      ASSERT_EQ(*opened, text_bytes);
      ASSERT_TRUE(std::equal(packet.begin() + 16, packet.end() - 16, clear.begin() + 16));
    }
  }
}

TEST(Seal, IsThePrimitiveOverTheCountersNonce) {
  auto packet = packet_with(40);
  const std::vector<uint8_t> clear(packet.begin() + 16, packet.end() - 16);
  std::vector<uint8_t> expected(clear.size() + kTagBytes);
  chacha20_poly1305_seal(key_of(3), nonce_from_counter(99), {}, clear, expected);
  Aead(Protection::chacha20_poly1305, key_of(3)).seal(packet, 40, 1, 99);
  EXPECT_EQ(hex_of(std::span(packet).subspan(16)), hex_of(expected));

  packet = packet_with(40);
  Aes256Gcm(key_of(3)).seal(nonce_from_counter(99), {}, clear, expected);
  Aead(Protection::aes_256_gcm, key_of(3)).seal(packet, 40, 1, 99);
  EXPECT_EQ(hex_of(std::span(packet).subspan(16)), hex_of(expected));
}

TEST(Seal, OpensNothingThatWasTamperedWith) {
  for (const Protection protection : kProtections) {
    Aead aead(protection, key_of(1));
    auto sealed = packet_with(33);
    aead.seal(sealed, 33, 7, 12);
    // The type and the index are not part of what is authenticated, as in WireGuard: whoever looks
    // the key up by them has read them already. The counter is, as the nonce.
    for (size_t i = offsetof(EncryptedHeader, counter); i < sealed.size(); ++i) {
      auto tampered = sealed;
      tampered[i] ^= 0x10;
      ASSERT_FALSE(aead.open(tampered)) << protection_name(protection) << " byte " << i;
    }
    EXPECT_TRUE(aead.open(sealed)) << "a refused packet leaves the key usable";
  }
}

TEST(Seal, OpensNothingShortAndNothingOfAnotherKeyOrCipher) {
  for (const Protection protection : kProtections) {
    Aead aead(protection, key_of(1));
    auto sealed = packet_with(64);
    aead.seal(sealed, 64, 7, 0);
    for (size_t length = 0; length < sealed.size(); ++length) {
      std::vector<uint8_t> cut(sealed.begin(), sealed.begin() + static_cast<long>(length));
      ASSERT_FALSE(aead.open(cut)) << length;
    }
    auto copy = sealed;
    EXPECT_FALSE(Aead(protection, key_of(2)).open(copy));
    copy = sealed;
    const auto other = protection == Protection::aes_256_gcm ? Protection::chacha20_poly1305
                                                             : Protection::aes_256_gcm;
    EXPECT_FALSE(Aead(other, key_of(1)).open(copy));
  }
}

TEST(Seal, KeepsItsKeyWhenMoved) {
  for (const Protection protection : kProtections) {
    Aead first(protection, key_of(1));
    auto packet = packet_with(5);
    first.seal(packet, 5, 1, 2);
    Aead second(std::move(first));
    EXPECT_EQ(second.open(packet), 5u);
  }
}

TEST(Padding, RoundsUpToSixteenButNotBeyondTheMtu) {
  EXPECT_EQ(padded_bytes(0, 1420), 0u);
  EXPECT_EQ(padded_bytes(1, 1420), 16u);
  EXPECT_EQ(padded_bytes(16, 1420), 16u);
  EXPECT_EQ(padded_bytes(17, 1420), 32u);
  EXPECT_EQ(padded_bytes(1409, 1420), 1420u);
  EXPECT_EQ(padded_bytes(1420, 1420), 1420u);
  EXPECT_EQ(padded_bytes(1500, 1420), 1500u) << "never shorter than the packet";
}

}  // namespace
}  // namespace adit::tunnel
