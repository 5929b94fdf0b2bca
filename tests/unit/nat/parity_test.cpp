// RFC 4787 REQ-4: the external port is odd where the internal one is.
#include <set>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

Settings settings_with_parity() {
  Settings settings = settings_with_pool(1);
  settings.profiles[0].port_parity = true;
  return settings;
}

TEST(Parity, IsKeptInEveryBlockAndNotInIcmp) {
  TestNat nat(settings_with_parity());
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  unsigned icmp_differs = 0;
  uint32_t n = 0;
  const auto has_room = [&](Protocol protocol) {
    return nat.refusal_of(subscriber, protocol, internal_endpoint(n)) == Refusal::none;
  };
  while (has_room(Protocol::udp) && has_room(Protocol::tcp) && has_room(Protocol::icmp)) {
    for (const Protocol protocol : {Protocol::udp, Protocol::tcp}) {
      Mapping* const mapping = nat.create(subscriber, protocol, internal_endpoint(n));
      ASSERT_EQ(mapping->external.port.host() % 2, mapping->internal.port.host() % 2);
      ASSERT_EQ(nat.find(subscriber, protocol, internal_endpoint(n)), mapping);
    }
    const Mapping* const query = nat.create(subscriber, Protocol::icmp, internal_endpoint(n));
    icmp_differs += query->external.port.host() % 2 != query->internal.port.host() % 2;
    ++n;
  }
  EXPECT_EQ(nat->counts().blocks_granted, 4u);
  EXPECT_GT(icmp_differs, n / 4);
  EXPECT_LT(icmp_differs, n - n / 4);
}

TEST(Parity, HalfTheBlockServesOddPortsAndHalfEvenOnes) {
  Settings settings = settings_with_parity();
  settings.first_block_ports = 16;
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  std::set<Endpoint> externals;
  for (uint32_t n = 1; n < 16; n += 2) {
    externals.insert(nat.create(subscriber, Protocol::udp, internal_endpoint(n))->external);
  }
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(17)), Refusal::port_limit);
  for (uint32_t n = 0; n < 16; n += 2) {
    externals.insert(nat.create(subscriber, Protocol::udp, internal_endpoint(n))->external);
  }
  EXPECT_EQ(externals.size(), 16u);
  // What has rested is found by time alone, and by its parity too.
  nat.now_s += 301 + 121;
  EXPECT_EQ(nat.create(subscriber, Protocol::udp, internal_endpoint(19))->external.port.host() % 2,
            1);
}

TEST(Parity, GrantsNoBlockThatHasAWindowWithoutPortsOfAParity) {
  Settings settings = settings_with_parity();
  settings.first_port = 2048;
  settings.last_port = 2048 + 4 * 16 - 1;
  settings.first_block_ports = 16;
  for (uint16_t port = 2064; port < 2080; port += 2) {
    settings.reserved.push_back({pool_address(0), port});
  }
  TestNat nat(settings);
  std::vector<Subscriber> subscribers(4);
  for (uint32_t i = 0; i < 3; ++i) {
    nat->attach(subscribers[i], i, 0, nat.now_s);
    const uint16_t port =
        nat.create(subscribers[i], Protocol::udp, internal_endpoint(0))->external.port.host();
    EXPECT_TRUE(port < 2064 || port >= 2080);
  }
  nat->attach(subscribers[3], 3, 0, nat.now_s);
  EXPECT_EQ(nat.refusal_of(subscribers[3], Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
}

}  // namespace
}  // namespace adit::nat
