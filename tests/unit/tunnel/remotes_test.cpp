#include "lib/tunnel/remotes.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "lib/tunnel/crypto.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

constexpr uint64_t kSeed = 0x9e3779b97f4a7c15;

class RemotesTest : public testing::Test {
 protected:
  // Keys that need not be points: finding them asks for bytes only.
  static Remotes::Known stranger(uint32_t number) {
    Remotes::Known known{};
    std::memcpy(known.public_key.bytes.data() + 4, &number, sizeof number);
    return known;
  }

  test::TwoEnds ends{PresharedKey{{9}}};
};

TEST_F(RemotesTest, FindsEverybodyAndNobodyElse) {
  std::vector<Remotes::Known> known;
  for (uint32_t i = 0; i < 10'000; ++i) known.push_back(stranger(i));
  const Remotes remotes(ends.gateway, known, kSeed);
  for (uint32_t i = 0; i < 10'000; ++i) {
    ASSERT_EQ(remotes.find(known[i].public_key), i);
    ASSERT_EQ(remotes.find(stranger(10'000 + i).public_key), Remotes::kNobody);
  }
}

// Keys that begin with the same bytes share a place.
TEST_F(RemotesTest, TellsKeysApartThatBeginAlike) {
  std::vector<Remotes::Known> known(5);
  for (uint8_t i = 0; i < known.size(); ++i) known[i].public_key.bytes[31] = i;
  const Remotes remotes(ends.gateway, known, kSeed);
  for (uint8_t i = 0; i < known.size(); ++i) EXPECT_EQ(remotes.find(known[i].public_key), i);
}

TEST_F(RemotesTest, FindsNobodyWhereThereIsNobody) {
  const Remotes remotes(ends.gateway, {}, kSeed);
  EXPECT_EQ(remotes.find(ends.client.public_key), Remotes::kNobody);
}

TEST_F(RemotesTest, HasWhatAHandshakeNeeds) {
  const Remotes::Known known[] = {stranger(1), {ends.client.public_key, PresharedKey{{9}}}};
  Remotes remotes(ends.gateway, known, kSeed);
  for (int i = 0; i < 2; ++i) {  // made, and made already
    const RemoteIdentity* const identity = remotes.identity(1);
    ASSERT_NE(identity, nullptr);
    EXPECT_EQ(identity->public_key, ends.client.public_key);
    EXPECT_EQ(identity->preshared_key, ends.client_seen_by_gateway.preshared_key);
    EXPECT_EQ(identity->static_static, ends.client_seen_by_gateway.static_static);
  }
}

TEST_F(RemotesTest, AKeyThatIsNoPointIsUseless) {
  const Remotes::Known known[] = {{PublicKey{}, {}}};
  Remotes remotes(ends.gateway, known, kSeed);
  EXPECT_EQ(remotes.identity(0), nullptr);
  EXPECT_EQ(remotes.identity(0), nullptr);
}

// Threads that want the same ones at once all get the whole of them.
TEST_F(RemotesTest, ThreadsShareWhatOneHasWorkedOut) {
  constexpr uint32_t kKnown = 200;
  std::vector<Remotes::Known> known;
  std::vector<Bytes32> expected;
  for (uint32_t i = 0; i < kKnown; ++i) {
    known.push_back({public_key_of(generate_private_key(ends.random)), {}});
    expected.push_back(
        make_remote_identity(ends.gateway, known.back().public_key, {})->static_static);
  }
  Remotes remotes(ends.gateway, known, kSeed);
  std::array<unsigned, 3> wrong{};
  {
    std::vector<std::jthread> threads;
    for (unsigned& count : wrong) {
      threads.emplace_back([&] {
        for (uint32_t i = 0; i < kKnown; ++i) {
          const RemoteIdentity* const identity = remotes.identity(i);
          count += identity == nullptr || identity->static_static != expected[i];
        }
      });
    }
  }
  for (const unsigned count : wrong) EXPECT_EQ(count, 0u);
}

}  // namespace
}  // namespace adit::tunnel
