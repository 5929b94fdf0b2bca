#include "lib/nat/pool_addresses.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace adit::nat {
namespace {

std::vector<Ipv4Address> range(Ipv4Address first, unsigned count) {
  std::vector<Ipv4Address> addresses;
  for (unsigned i = 0; i < count; ++i) {
    addresses.push_back(Ipv4Address::from_host(first.host() + i));
  }
  return addresses;
}

void expect_each_has_its_place(const std::vector<Ipv4Address>& addresses) {
  const PoolAddresses pool(addresses);
  const std::set<Ipv4Address> all(addresses.begin(), addresses.end());
  for (uint32_t i = 0; i < addresses.size(); ++i) {
    EXPECT_EQ(pool.index_of(addresses[i]), i);
    for (const uint32_t beside : {addresses[i].host() - 1, addresses[i].host() + 1}) {
      const Ipv4Address other = Ipv4Address::from_host(beside);
      if (all.contains(other)) continue;
      EXPECT_EQ(pool.index_of(other), PoolAddresses::kNone);
    }
  }
}

TEST(PoolAddresses, AnEmptyPoolHasNone) {
  const PoolAddresses pool({});
  EXPECT_EQ(pool.index_of(Ipv4Address{}), PoolAddresses::kNone);
  EXPECT_EQ(pool.index_of(Ipv4Address::from_octets(30, 1, 1, 10)), PoolAddresses::kNone);
}

TEST(PoolAddresses, EachIsFoundAndNoOther) {
  for (const unsigned count : {1u, 2u, 3u, 16u, 255u, 256u, 4096u}) {
    SCOPED_TRACE(count);
    expect_each_has_its_place(range(Ipv4Address::from_octets(51, 0, 0, 1), count));
  }
  std::mt19937 random(1);
  std::set<Ipv4Address> scattered;
  while (scattered.size() < 1000) {
    scattered.insert(Ipv4Address::from_host(static_cast<uint32_t>(random())));
  }
  expect_each_has_its_place({scattered.begin(), scattered.end()});
}

// What the packet path relies on: pools are ranges.
TEST(PoolAddresses, NeighboursDoNotQueueForOnePlace) {
  for (const Ipv4Address first :
       {Ipv4Address::from_octets(51, 0, 0, 1), Ipv4Address::from_octets(100, 64, 0, 0),
        Ipv4Address::from_octets(198, 51, 100, 0), Ipv4Address::from_octets(203, 0, 112, 200)}) {
    for (const unsigned count : {2u, 16u, 64u, 256u, 4096u}) {
      EXPECT_LE(PoolAddresses(range(first, count)).probes_max(), 2u)
          << count << " from " << first.host();
    }
  }
}

// One address from each of many networks: no worse than places drawn at random.
TEST(PoolAddresses, AddressesFarApartDoNotEither) {
  for (const uint32_t step : {16u, 256u, 4096u, 65536u}) {
    std::vector<Ipv4Address> addresses;
    for (uint32_t i = 0; i < 64; ++i) {
      addresses.push_back(Ipv4Address::from_host(0x33000001 + i * step));
    }
    EXPECT_LE(PoolAddresses(addresses).probes_max(), 8u) << step;
  }
}

}  // namespace
}  // namespace adit::nat
