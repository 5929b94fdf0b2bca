// Every primitive against published vectors, or, where none are published for what WireGuard uses
// (HMAC-BLAKE2s and the KDF over it, short keyed BLAKE2s), against Python's hashlib and hmac:
//
//   key, message = bytes(range(32)), b"the gallery is level"
//   hashlib.blake2s(message, key=key, digest_size=16)
//   H = lambda k, m: hmac.new(k, m, hashlib.blake2s).digest()
//   H(key, message); t0 = H(key, message); t1 = H(t0, b"\1"); t2 = H(t0, t1 + b"\2"); ...
#include "lib/tunnel/crypto.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <string_view>

#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::array_of_hex;
using test::bytes_of_hex;
using test::hex_of;

ByteSpan text(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Bytes32 counting_key() {
  Bytes32 key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  return key;
}

constexpr std::string_view kMessage = "the gallery is level";
constexpr std::string_view kSunscreen =
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    "sunscreen would be it.";

TEST(Blake2s, HashesAsRfc7693AppendixB) {
  const auto abc = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
  EXPECT_EQ(hex_of(blake2s({text("abc")})), abc);
  EXPECT_EQ(hex_of(blake2s({text("a"), {}, text("bc")})), abc) << "parts are one message";
}

TEST(Blake2s, MakesShortKeyedMacs) {
  EXPECT_EQ(hex_of(blake2s_mac(counting_key(), text(kMessage))),
            "529e6445014e591d9bbcf652a2fc0fe8");
}

TEST(HmacBlake2s, AgreesWithPython) {
  EXPECT_EQ(hex_of(hmac_blake2s(counting_key(), {text(kMessage)})),
            "20f9b70850032f2af7725ab14a0d3c6cbce68827fa58a49ef986d7b528a14597");
}

TEST(Kdf, AgreesWithPythonForOneTwoAndThreeOutputs) {
  const std::string one = "3ba0ea15c2fbb3db3ad55831fb53d5f28702b9e041abce7bd34961c8cfd000e3";
  const std::string two = "f1ca07a2ea4c8cadce4c6d2a65d4bf608a5bfb0e796dbc8db93dbea2aba110fd";
  const std::string three = "05f6e4efe5ab90bd3dea033f52ccec1be19c1a744acd3c0f1956e77991f2a9db";
  EXPECT_EQ(hex_of(kdf1(counting_key(), text(kMessage))), one);
  const auto pair = kdf2(counting_key(), text(kMessage));
  EXPECT_EQ(hex_of(pair[0]), one);
  EXPECT_EQ(hex_of(pair[1]), two);
  const auto triple = kdf3(counting_key(), text(kMessage));
  EXPECT_EQ(hex_of(triple[0]), one);
  EXPECT_EQ(hex_of(triple[1]), two);
  EXPECT_EQ(hex_of(triple[2]), three);
}

TEST(Kdf, TakesAnEmptyInput) {
  const auto pair = kdf2(counting_key(), {});
  EXPECT_EQ(hex_of(pair[0]), "7a38c34bf2b8738d7374ca77c44ecb309a11d2b2528304fa86052c365e722624");
  EXPECT_EQ(hex_of(pair[1]), "1a17621f346abdc520746a9fb64d8eb03231d674fc15687537b0780fd9c060fd");
}

TEST(X25519, MultipliesAsRfc7748Section52) {
  const auto first =
      x25519(array_of_hex<32>("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
             array_of_hex<32>("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"));
  ASSERT_TRUE(first);
  EXPECT_EQ(hex_of(*first), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
  const auto second =
      x25519(array_of_hex<32>("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
             array_of_hex<32>("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"));
  ASSERT_TRUE(second);
  EXPECT_EQ(hex_of(*second), "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
}

TEST(X25519, IteratesAsRfc7748Section52) {
  Bytes32 scalar{9};
  Bytes32 point{9};
  for (int i = 1; i <= 1000; ++i) {
    const auto result = x25519(scalar, point);
    ASSERT_TRUE(result);
    point = scalar;
    scalar = *result;
    if (i == 1) {
      ASSERT_EQ(hex_of(scalar), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
  }
  EXPECT_EQ(hex_of(scalar), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

TEST(X25519, AgreesAsRfc7748Section61) {
  const auto alice =
      array_of_hex<32>("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const auto bob =
      array_of_hex<32>("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  EXPECT_EQ(hex_of(x25519_public(alice)),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(hex_of(x25519_public(bob)),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const std::string shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  EXPECT_EQ(hex_of(x25519(alice, x25519_public(bob)).value()), shared);
  EXPECT_EQ(hex_of(x25519(bob, x25519_public(alice)).value()), shared);
}

TEST(X25519, RefusesPointsOfLowOrder) {
  const auto key = counting_key();
  EXPECT_FALSE(x25519(key, Bytes32{}));
  EXPECT_FALSE(x25519(key, Bytes32{1}));
  EXPECT_FALSE(x25519(key, array_of_hex<32>("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd86620"
                                            "5165f49b800")));
}

// The same by libcrypto.
Bytes32 shared_by_libcrypto(const Bytes32& private_key, const Bytes32& public_key) {
  EVP_PKEY* own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, private_key.data(), 32);
  EVP_PKEY* other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, public_key.data(), 32);
  EVP_PKEY_CTX* use = EVP_PKEY_CTX_new(own, nullptr);
  Bytes32 shared{};
  size_t bytes = shared.size();
  EXPECT_EQ(EVP_PKEY_derive_init(use), 1);
  EXPECT_EQ(EVP_PKEY_derive_set_peer(use, other), 1);
  EXPECT_EQ(EVP_PKEY_derive(use, shared.data(), &bytes), 1);
  EVP_PKEY_CTX_free(use);
  EVP_PKEY_free(other);
  EVP_PKEY_free(own);
  return shared;
}

Bytes32 public_by_libcrypto(const Bytes32& private_key) {
  EVP_PKEY* own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, private_key.data(), 32);
  Bytes32 public_key{};
  size_t bytes = public_key.size();
  EXPECT_EQ(EVP_PKEY_get_raw_public_key(own, public_key.data(), &bytes), 1);
  EVP_PKEY_free(own);
  return public_key;
}

// Any 32 bytes are a private key and a public one, whatever their highest and lowest bits.
TEST(X25519, AgreesWithLibcryptoOnRandomKeysAndPoints) {
  const RandomSource random = test::seeded_random(25519);
  for (int i = 0; i < 500; ++i) {
    Bytes32 scalar;
    Bytes32 point;
    random(scalar);
    random(point);
    ASSERT_EQ(x25519(scalar, point), shared_by_libcrypto(scalar, point)) << i;
    ASSERT_EQ(x25519_public(scalar), public_by_libcrypto(scalar)) << i;
  }
}

TEST(ChaCha20Poly1305, SealsAsRfc8439Section282) {
  const auto key =
      array_of_hex<32>("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  const auto nonce = array_of_hex<12>("070000004041424344454647");
  const auto additional = bytes_of_hex("50515253c0c1c2c3c4c5c6c7");
  const std::string expected =
      "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
      "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
      "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
      "3ff4def08e4b7a9de576d26586cec64b6116"
      "1ae10b594f09e26a7e902ecbd0600691";
  std::vector<uint8_t> sealed(kSunscreen.size() + 16);
  chacha20_poly1305_seal(key, nonce, additional, text(kSunscreen), sealed);
  EXPECT_EQ(hex_of(sealed), expected);
  std::vector<uint8_t> opened(kSunscreen.size());
  ASSERT_TRUE(chacha20_poly1305_open(key, nonce, additional, sealed, opened));
  EXPECT_TRUE(std::ranges::equal(opened, text(kSunscreen)));
  sealed[5] ^= 1;
  EXPECT_FALSE(chacha20_poly1305_open(key, nonce, additional, sealed, opened));
}

TEST(XChaCha20Poly1305, SealsAsTheDraftsAppendixA31) {
  const auto key =
      array_of_hex<32>("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  const auto nonce = array_of_hex<24>("404142434445464748494a4b4c4d4e4f5051525354555657");
  const auto additional = bytes_of_hex("50515253c0c1c2c3c4c5c6c7");
  const std::string expected =
      "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
      "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
      "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
      "21f9664c97637da9768812f615c68b13b52e"
      "c0875924c1c7987947deafd8780acf49";
  std::vector<uint8_t> sealed(kSunscreen.size() + 16);
  xchacha20_poly1305_seal(key, nonce, additional, text(kSunscreen), sealed);
  EXPECT_EQ(hex_of(sealed), expected);
  std::vector<uint8_t> opened(kSunscreen.size());
  ASSERT_TRUE(xchacha20_poly1305_open(key, nonce, additional, sealed, opened));
  EXPECT_TRUE(std::ranges::equal(opened, text(kSunscreen)));
  sealed.back() ^= 1;
  EXPECT_FALSE(xchacha20_poly1305_open(key, nonce, additional, sealed, opened));
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: those with a 256-bit key
// and a 96-bit nonce.
struct GcmCase {
  const char* name;
  const char* key;
  const char* nonce;
  const char* additional;
  const char* text;
  const char* sealed;  // with the tag
};
constexpr GcmCase kGcmCases[] = {
    {"13", "0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"14", "0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "00000000000000000000000000000000",
     "cea7403d4d606b6e074ec5d3baf39d18"
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {"15", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"16", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

TEST(Aes256Gcm, SealsAndOpensThePublishedCases) {
  for (const GcmCase& row : kGcmCases) {
    SCOPED_TRACE(row.name);
    Aes256Gcm gcm(array_of_hex<32>(row.key));
    const auto nonce = array_of_hex<12>(row.nonce);
    const auto additional = bytes_of_hex(row.additional);
    const auto plain = bytes_of_hex(row.text);
    std::vector<uint8_t> sealed(plain.size() + 16);
    std::vector<uint8_t> opened(plain.size());
    // Twice, alternating: one expanded key serves both directions any number of times.
    for (int round = 0; round < 2; ++round) {
      gcm.seal(nonce, additional, plain, sealed);
      EXPECT_EQ(hex_of(sealed), row.sealed);
      ASSERT_TRUE(gcm.open(nonce, additional, sealed, opened));
      EXPECT_EQ(opened, plain);
      sealed.back() ^= 0x80;
      EXPECT_FALSE(gcm.open(nonce, additional, sealed, opened));
    }
  }
}

TEST(Nonce, IsFourZeroBytesAndTheCounterLittleEndian) {
  EXPECT_EQ(hex_of(nonce_from_counter(0x0102030405060708)), "000000000807060504030201");
}

}  // namespace
}  // namespace adit::tunnel
