#include "lib/tunnel/keys.h"

#include <gtest/gtest.h>

#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::array_of_hex;
using test::hex_of;

TEST(Keys, AreClampedWhenGenerated) {
  const RandomSource all_ones = [](std::span<uint8_t> out) {
    for (uint8_t& byte : out) byte = 0xff;
  };
  const PrivateKey key = generate_private_key(all_ones);
  EXPECT_EQ(key.bytes[0], 0xf8);
  EXPECT_EQ(key.bytes[1], 0xff);
  EXPECT_EQ(key.bytes[31], 0x7f);
  const RandomSource zeros = [](std::span<uint8_t> out) {
    for (uint8_t& byte : out) byte = 0;
  };
  EXPECT_EQ(generate_private_key(zeros).bytes[31], 0x40);
}

// The texts are what `wg pubkey` reads and prints for RFC 7748's Alice.
TEST(Keys, SpeakTheBase64OfWg) {
  const auto alice =
      array_of_hex<32>("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  EXPECT_EQ(to_base64(alice), "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=");
  EXPECT_EQ(to_base64(public_key_of({alice}).bytes),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
  EXPECT_EQ(from_base64("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="), alice);
}

TEST(Keys, SurviveBase64ThereAndBack) {
  const auto random = test::seeded_random(7);
  for (int i = 0; i < 1000; ++i) {
    std::array<uint8_t, 32> key;
    random(key);
    const auto back = from_base64(to_base64(key));
    ASSERT_TRUE(back);
    ASSERT_EQ(*back, key);
  }
}

TEST(Keys, RefuseTextThatIsNotExactlyAKey) {
  const std::string good = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
  EXPECT_FALSE(from_base64(""));
  EXPECT_FALSE(from_base64(good.substr(0, 43)));
  EXPECT_FALSE(from_base64(good + "="));
  EXPECT_FALSE(from_base64(good + "\n"));
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = '*';
    EXPECT_FALSE(from_base64(bad)) << "position " << i;
    if (i == good.size() - 1) continue;
    bad[i] = '=';
    EXPECT_FALSE(from_base64(bad)) << "position " << i;
  }
  std::string trailing_bits = good;
  trailing_bits[42] = 'p';  // one above 'o', so the two bits beyond the key are not zero
  EXPECT_FALSE(from_base64(trailing_bits));
}

}  // namespace
}  // namespace adit::tunnel
