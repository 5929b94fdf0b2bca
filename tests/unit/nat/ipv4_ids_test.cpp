#include "lib/nat/ipv4_ids.h"

#include <gtest/gtest.h>

#include <vector>

#include "lib/nat/translate.h"
#include "tests/support/packets.h"

namespace adit::nat {
namespace {

const Ipv4Address kExternal = Ipv4Address::from_octets(30, 1, 1, 10);
const Ipv4Address kRemote = Ipv4Address::from_octets(40, 1, 1, 10);

TEST(Ipv4Ids, ComeAgainToATripleAfterAllOthersOnly) {
  Ipv4Ids ids(7);
  std::vector<bool> seen(65536);
  for (unsigned round = 0; round < 65536; ++round) {
    const uint16_t id = ids.next(kExternal, kRemote, Protocol::udp).host();
    ASSERT_FALSE(seen[id]) << round;
    seen[id] = true;
  }
}

TEST(Ipv4Ids, BeginElsewhereForEachTripleAndKey) {
  std::vector<uint16_t> first;
  for (uint64_t key : {1, 2}) {
    Ipv4Ids ids(key);
    for (uint32_t i = 0; i < 8; ++i) {
      const Ipv4Address remote = Ipv4Address::from_host(kRemote.host() + i / 4);
      const Ipv4Address external = Ipv4Address::from_host(kExternal.host() + i / 2 % 2);
      first.push_back(
          ids.next(external, remote, i % 2 == 0 ? Protocol::udp : Protocol::tcp).host());
    }
  }
  for (size_t i = 0; i < first.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(first[i], first[j]) << i << ' ' << j;
  }
}

TEST(SetId, UpdatesTheHeaderChecksum) {
  using adit::test::ipv4_packet;
  for (const uint16_t id : std::initializer_list<uint16_t>{0, 1, 0x1234, 0xfffe, 0xffff}) {
    adit::test::Bytes packet = ipv4_packet(kExternal, kRemote, 17, {}, {.id = 0x1234});
    set_id(packet.data(), Be16::from_host(id));
    EXPECT_EQ(packet, ipv4_packet(kExternal, kRemote, 17, {}, {.id = id}));
  }
}

TEST(IsAtomic, WithDfAndNoFragment) {
  const auto is = [](uint16_t field) {
    return is_atomic(
        adit::test::ipv4_packet(kExternal, kRemote, 17, {}, {.fragment = field}).data());
  };
  EXPECT_TRUE(is(kIpDontFragment));
  EXPECT_FALSE(is(0));
  EXPECT_FALSE(is(kIpDontFragment | kIpMoreFragments));
  EXPECT_FALSE(is(kIpDontFragment | 1));
  EXPECT_FALSE(is(kIpMoreFragments));
}

}  // namespace
}  // namespace adit::nat
