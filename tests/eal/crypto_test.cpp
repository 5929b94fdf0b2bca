#include "gateway/crypto.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <random>

#include "gateway/poly1305.h"
#include "gateway/short_texts.h"
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

// More packets than the library is given at a time, of sessions that share places for their keys,
// short and long, one of them forged.
TEST_P(CryptoTest, DoesManyPacketsAtATimeAsTheReferenceDoesEach) {
  constexpr unsigned kPackets = 75;
  constexpr unsigned kForged = 40;
  Crypto crypto(2);
  std::vector<tunnel::Session> sessions;
  for (uint32_t index = 1; index <= 7; ++index) sessions.push_back(session(index));
  std::vector<Bytes> packets;
  std::vector<Bytes> sealed;
  std::vector<CryptoJob> jobs;
  for (unsigned i = 0; i < kPackets; ++i) {
    const unsigned length = i * 37 % 1460;
    // In turns, then one session several times in a row.
    const tunnel::Session& s = sessions[i < 30 ? i % 7 : i / 10 % 7];
    packets.push_back(adit::test::payload_bytes(length + tunnel::kEncryptedOverheadBytes,
                                                static_cast<uint8_t>(i)));
    sealed.push_back(packets.back());
    tunnel::Aead(s.protection, s.send_key).seal(sealed.back(), length, s.remote_index, i);
    jobs.push_back({.session = &s, .packet = packets.back().data(), .text_bytes = length,
                    .counter = i});
  }
  crypto.seal(jobs);
  EXPECT_EQ(packets, sealed);

  for (unsigned i = 0; i < kPackets; ++i) {
    const tunnel::Session& s = *jobs[i].session;
    packets[i] = adit::test::payload_bytes(jobs[i].text_bytes + tunnel::kEncryptedOverheadBytes,
                                           static_cast<uint8_t>(i));
    sealed[i] = packets[i];
    tunnel::Aead(s.protection, s.receive_key).seal(packets[i], jobs[i].text_bytes, 1, i);
    jobs[i].packet = packets[i].data();
  }
  packets[kForged].back() ^= 1;
  crypto.open(jobs);
  for (unsigned i = 0; i < kPackets; ++i) {
    ASSERT_EQ(jobs[i].authentic, i != kForged) << i;
    const size_t end = sizeof(tunnel::EncryptedHeader) + jobs[i].text_bytes;
    if (i == kForged) continue;
    ASSERT_TRUE(std::equal(packets[i].begin() + sizeof(tunnel::EncryptedHeader),
                           packets[i].begin() + static_cast<ptrdiff_t>(end),
                           sealed[i].begin() + sizeof(tunnel::EncryptedHeader)))
        << i;
  }
}

// Short ones are done side by side, from two of them on, however many there are and how they fall
// into the lanes; and long ones among them are not.
TEST_P(CryptoTest, DoesShortTextsTogetherAsTheReferenceDoesEach) {
  Crypto crypto(64);
  std::vector<tunnel::Session> sessions;
  for (uint32_t index = 1; index <= 7; ++index) sessions.push_back(session(index));
  std::minstd_rand random(1);
  const auto draw = [&random](unsigned below) { return static_cast<unsigned>(random() % below); };
  for (unsigned count = 1; count <= 70; ++count) {
    std::vector<Bytes> packets(count);
    std::vector<Bytes> sealed(count);
    std::vector<CryptoJob> jobs(count);
    const unsigned forged = draw(2 * count);  // half the time none of them
    for (unsigned i = 0; i < count; ++i) {
      const unsigned length = draw(kShortTextMax + 40);
      const tunnel::Session& s = sessions[draw(7)];
      const uint64_t counter = random() * uint64_t{0x1'0000'0001};
      packets[i] = adit::test::payload_bytes(length + tunnel::kEncryptedOverheadBytes,
                                             static_cast<uint8_t>(draw(256)));
      sealed[i] = packets[i];
      tunnel::Aead(s.protection, s.send_key).seal(sealed[i], length, s.remote_index, counter);
      jobs[i] = {.session = &s, .packet = packets[i].data(), .text_bytes = length,
                 .counter = counter};
    }
    const std::vector<Bytes> texts = packets;
    crypto.seal(jobs);
    ASSERT_EQ(packets, sealed) << count;

    for (unsigned i = 0; i < count; ++i) {
      const tunnel::Session& s = *jobs[i].session;
      packets[i] = texts[i];
      tunnel::Aead(s.protection, s.receive_key)
          .seal(packets[i], jobs[i].text_bytes, 1, jobs[i].counter);
    }
    if (forged < count) packets[forged][packets[forged].size() - 1 - draw(16)] ^= 0x40;
    crypto.open(jobs);
    for (unsigned i = 0; i < count; ++i) {
      ASSERT_EQ(jobs[i].authentic, i != forged) << i << " of " << count;
      const auto begin = static_cast<ptrdiff_t>(sizeof(tunnel::EncryptedHeader));
      ASSERT_TRUE(std::equal(packets[i].begin() + begin,
                             packets[i].begin() + begin + jobs[i].text_bytes,
                             texts[i].begin() + begin))
          << i << " of " << count;
    }
  }
}

TEST_P(CryptoTest, ExpandsAKeyOnceWhereEachTunnelHasAPlace) {
  Crypto crypto(8);
  Bytes packet(64 + tunnel::kEncryptedOverheadBytes);
  for (int round = 0; round < 3; ++round) {
    for (uint32_t index = 8; index < 16; ++index) crypto.seal(session(index), 1, packet.data(), 64);
  }
  EXPECT_EQ(crypto.expansions(), GetParam() == Protection::aes_256_gcm ? 8u : 0u);
}

// Keys and texts at which carries run through all limbs, and the sum comes to the modulus, just
// below and just above it, which texts at random do not meet.
TEST(Poly1305Test, AgreesWithTheReferenceAtTheEdges) {
  const auto blocks_of = [](std::initializer_list<uint8_t> firsts) {
    std::vector<Bytes> blocks;
    for (const uint8_t first : firsts) {
      for (const bool is_full : {false, true}) {
        blocks.emplace_back(16, is_full ? uint8_t{0xff} : uint8_t{0});
        blocks.back()[0] = first;
      }
    }
    return blocks;
  };
  // Of a key: its factor, and what is added at the end.
  const std::vector<Bytes> halves = blocks_of({0, 1, 2, 4, 5, 0xff});
  const std::vector<Bytes> blocks =
      blocks_of({0x00, 0x01, 0x05, 0xf0, 0xfa, 0xfb, 0xfc, 0xfe, 0xff});
  for (const Bytes& factor : halves) {
    for (const Bytes& added : halves) {
      Bytes key = factor;
      key.insert(key.end(), added.begin(), added.end());
      for (const Bytes& first : blocks) {
        for (const Bytes& second : blocks) {
          for (const Bytes& third : blocks) {
            Bytes text = first;
            text.insert(text.end(), second.begin(), second.end());
            text.insert(text.end(), third.begin(), third.end());
            std::array<uint8_t, 16> expected{};
            crypto_onetimeauth_poly1305(expected.data(), text.data(), text.size(), key.data());
            Poly1305 poly(key.data());
            poly.add_text(text.data(), static_cast<unsigned>(text.size()));
            std::array<uint8_t, 16> tag{};
            poly.finish(tag.data());
            ASSERT_EQ(tag, expected);
          }
        }
      }
    }
  }
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
