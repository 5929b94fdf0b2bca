// What the main thread keeps of lanes, without any thread beside it: for how long it has keys.
#include "client-lite/lanes.h"

#include <gtest/gtest.h>

#include "client-lite/clock.h"
#include "tests/unit/client/fake_gateway.h"

namespace adit::client {
namespace {

using tunnel::kSecondNs;

constexpr uint64_t kNow = 1000 * kSecondNs;
constexpr uint64_t kEnd = kNow + tunnel::kRejectAfterNs;

Config config_of() {
  Config config;
  config.lanes = 2;
  return config;
}

class LanesTest : public ::testing::Test {
 protected:
  void install(uint64_t at_ns = kNow) {
    const auto pair = test::shake_hands(tunnel::Protection::aes_256_gcm, ++last_index, at_ns);
    lanes.install(pair.client, make_counter());
    lanes.expire(at_ns);
    ASSERT_EQ(lanes.next_expiry_ns(), kEnd);
  }
  void begin() {
    const auto gateway = tunnel::make_identity(tunnel::generate_private_key(random));
    lanes.begin({.gateway_identity = *tunnel::make_remote_identity(own, gateway.public_key, {}),
                 .config = {},
                 .gateway = {},
                 .lanes = 2});
  }

  const Config config = config_of();
  const Log log{config::LogLevel::kError};
  const tunnel::RandomSource random{fill_random};
  const tunnel::Identity own = tunnel::make_identity(tunnel::generate_private_key(random));
  const StateFiles files{"", "lanes-test"};
  SentStamps stamps{files, log};
  Counters counters;
  HostRights rights;
  uint32_t last_index = 0;
  Lanes lanes{config, log, own, random, stamps, counters, rights};
};

// A tunnel without a way to its gateway is not tended; but its keys end all the same.
TEST_F(LanesTest, KeysAreForgottenAtTheirEndWhetherOrNotTheTunnelIsTended) {
  begin();
  install();
  lanes.expire(kEnd - 1);
  EXPECT_EQ(lanes.next_expiry_ns(), kEnd);
  lanes.expire(kEnd);
  EXPECT_EQ(lanes.next_expiry_ns(), UINT64_MAX);
}

TEST_F(LanesTest, KeysThatWereRenewedAreForgottenAtTheirOwnEnd) {
  begin();
  install();
  install(kNow + tunnel::kRekeyAfterNs);
  lanes.expire(kEnd);
  EXPECT_EQ(lanes.next_expiry_ns(), kEnd + tunnel::kRekeyAfterNs);
}

TEST_F(LanesTest, KeysOfATunnelThatIsLeftAreForgottenAtOnce) {
  begin();
  install();
  lanes.end();
  lanes.expire(kNow + 1);
  EXPECT_EQ(lanes.next_expiry_ns(), UINT64_MAX);
}

}  // namespace
}  // namespace adit::client
