#include "gateway/crypto.h"

#include <gtest/gtest.h>

#include <random>

#include "lib/tunnel/seal.h"
#include "tests/support/packets.h"

namespace adit::gateway {
namespace {

using adit::test::Bytes;
using tunnel::Protection;

class CryptoTest : public testing::TestWithParam<Protection> {
 protected:
  tunnel::Session session(uint32_t index = 0x1234) const {
    tunnel::Session out;
    out.local_index = index;
    out.remote_index = 0x5678;
    out.protection = GetParam();
    for (unsigned i = 0; i < 32; ++i) {
      out.send_key[i] = static_cast<uint8_t>(i * 7 + index);
      out.receive_key[i] = static_cast<uint8_t>(i * 11 + index);
    }
    out.established_ns = index;
    return out;
  }
};

TEST_P(CryptoTest, SealsByteForByteAsTheReferenceDoes) {
  Crypto crypto(2);
  const tunnel::Session s = session();
  tunnel::Aead reference(s.protection, s.send_key);
  for (unsigned length = 0; length <= 1500; ++length) {
    const Bytes text = adit::test::payload_bytes(length, static_cast<uint8_t>(length));
    Bytes ours(length + tunnel::kEncryptedOverheadBytes);
    std::copy(text.begin(), text.end(), ours.begin() + sizeof(tunnel::EncryptedHeader));
    Bytes theirs = ours;
    const uint64_t counter = length * 0x100000001u;
    crypto.seal(s, counter, ours.data(), length);
    reference.seal(theirs, length, s.remote_index, counter);
    ASSERT_EQ(ours, theirs) << length;
  }
}

TEST_P(CryptoTest, OpensWhatTheReferenceSealsAndRefusesEveryFlippedBit) {
  Crypto crypto(2);
  const tunnel::Session s = session();
  tunnel::Aead reference(s.protection, s.receive_key);
  for (unsigned length = 0; length <= 1500; ++length) {
    const Bytes text = adit::test::payload_bytes(length, static_cast<uint8_t>(length));
    Bytes packet(length + tunnel::kEncryptedOverheadBytes);
    std::copy(text.begin(), text.end(), packet.begin() + sizeof(tunnel::EncryptedHeader));
    reference.seal(packet, length, s.local_index, length);
    Bytes tampered = packet;
    tampered[8 + length % (packet.size() - 8)] ^= static_cast<uint8_t>(1u << (length % 8));
    ASSERT_FALSE(crypto.open(s, tampered.data(), static_cast<unsigned>(tampered.size()))) << length;
    const auto opened = crypto.open(s, packet.data(), static_cast<unsigned>(packet.size()));
    ASSERT_EQ(opened, length);
    const auto begin = packet.begin() + sizeof(tunnel::EncryptedHeader);
    ASSERT_EQ(Bytes(begin, begin + length), text) << length;
  }
}

TEST_P(CryptoTest, KeepsSessionsApartInACacheTooSmallForThem) {
  Crypto crypto(2);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t index = 1; index <= 50; ++index) {
      const tunnel::Session s = session(index);
      tunnel::Aead reference(s.protection, s.send_key);
      Bytes ours(40 + tunnel::kEncryptedOverheadBytes, 0x5a);
      Bytes theirs = ours;
      crypto.seal(s, 9, ours.data(), 40);
      reference.seal(theirs, 40, s.remote_index, 9);
      ASSERT_EQ(ours, theirs) << index;
    }
  }
}

TEST_P(CryptoTest, KnowsANewSessionThatReusesAnIndex) {
  Crypto crypto(2);
  tunnel::Session s = session();
  Bytes before(32 + tunnel::kEncryptedOverheadBytes, 1);
  crypto.seal(s, 0, before.data(), 32);
  s.send_key[0] ^= 1;
  ++s.established_ns;
  Bytes ours(32 + tunnel::kEncryptedOverheadBytes, 1);
  Bytes theirs = ours;
  crypto.seal(s, 0, ours.data(), 32);
  tunnel::Aead(s.protection, s.send_key).seal(theirs, 32, s.remote_index, 0);
  EXPECT_EQ(ours, theirs);
}

INSTANTIATE_TEST_SUITE_P(Protections, CryptoTest,
                         testing::Values(Protection::aes_256_gcm, Protection::chacha20_poly1305,
                                         Protection::plain),
                         [](const auto& row) {
                           switch (row.param) {
                             case Protection::aes_256_gcm:
                               return "AesGcm";
                             case Protection::plain:
                               return "PlainControl";
                             default:
                               return "ChaCha";
                           }
                         });

}  // namespace
}  // namespace adit::gateway
