// Which ports a subscriber gets, and when they come back: blocks, the sweep, reserved ports.
#include <algorithm>
#include <set>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};

TEST(NatBlocks, GrowsToFourBlocksEachTwiceTheLastOnOneAddress) {
  TestNat nat(settings_with_pool(4));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  std::set<Endpoint> externals;
  uint32_t n = 0;
  while (nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(n)) == Refusal::none) {
    externals.insert(nat.find(subscriber, Protocol::udp, internal_endpoint(n))->external);
    ++n;
  }
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(n)), Refusal::port_limit);
  EXPECT_EQ(nat->counts().blocks_granted, 4u);
  for (unsigned i = 0; i < kBlocksMax; ++i) EXPECT_EQ(subscriber.blocks[i].ports, 64u << i);
  EXPECT_EQ(nat->granted_entries(), 960u * kProtocols);
  EXPECT_EQ(externals.size(), n);
  std::set<Ipv4Address> addresses;
  for (const Endpoint& external : externals) addresses.insert(external.address);
  EXPECT_EQ(addresses.size(), 1u);
  // Every block is searched: each endpoint is still found, at the port it was given.
  for (uint32_t i = 0; i < n; ++i) {
    Mapping* const mapping = nat.find(subscriber, Protocol::udp, internal_endpoint(i));
    ASSERT_NE(mapping, nullptr);
    EXPECT_EQ(mapping->internal, internal_endpoint(i));
  }
  EXPECT_GT(nat->counts().spilled, 0u);
  // The other protocols have the same numbers to themselves.
  nat.create(subscriber, Protocol::tcp, internal_endpoint(n));
}

TEST(NatBlocks, ReturnsABlockWhoseEntriesHaveAllRestedAndKeepsTheOthers) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 150; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  ASSERT_EQ(nat->counts().blocks_granted, 2u);
  // Keep one mapping of the second block in use.
  Mapping* kept = nullptr;
  for (uint32_t n = 0; kept == nullptr; ++n) {
    Mapping* const mapping = nat.find(subscriber, Protocol::udp, internal_endpoint(n));
    const uint32_t first = subscriber.blocks[1].first & 0xffff;
    const uint32_t port = mapping->external.port.host();
    if (port >= first && port < first + subscriber.blocks[1].ports) kept = mapping;
  }
  const Endpoint internal = kept->internal;
  for (int round = 0; round < 5; ++round) {
    nat.now_s += 100;
    nat->on_outbound(*kept, kRemote, 0, nat.now_s);
    nat.sweep_all();
  }
  EXPECT_EQ(nat->counts().blocks_granted, 1u);
  EXPECT_EQ(subscriber.blocks[0].ports, 0u);
  EXPECT_EQ(subscriber.blocks[1].ports, 128u);
  EXPECT_EQ(nat.find(subscriber, Protocol::udp, internal), kept);
  EXPECT_EQ(nat->counts().mappings_resting, 0u);
}

TEST(NatBlocks, ForgetsADetachedTunnelAtOnceAndItsPortsAfterTheirRest) {
  Settings settings = settings_with_pool(1);
  settings.first_port = 1024;
  settings.last_port = 1087;  // one block
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  std::vector<Endpoint> externals;
  for (uint32_t n = 0; n < 20; ++n) {
    externals.push_back(nat.create(subscriber, Protocol::udp, internal_endpoint(n))->external);
  }
  nat->detach(subscriber, nat.now_s);
  EXPECT_FALSE(subscriber.attached);
  for (const Endpoint& external : externals) {
    EXPECT_EQ(nat.find_inbound(external, Protocol::udp), nullptr);
  }
  EXPECT_EQ(nat->counts().mappings_detached, 20u);
  EXPECT_EQ(nat->counts().mappings_live, 0u);

  // The same memory serves the next tunnel while the old one's ports rest.
  std::memset(static_cast<void*>(&subscriber), 0, sizeof subscriber);
  nat->attach(subscriber, 8, 0, nat.now_s);
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
  nat.now_s += 120;
  nat.sweep_all();
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
  nat.now_s += 1;
  nat.sweep_all();
  EXPECT_EQ(nat->counts().blocks_granted, 0u);
  EXPECT_EQ(nat->counts().mappings_resting, 0u);
  EXPECT_EQ(nat.create(subscriber, Protocol::udp, internal_endpoint(0))->tunnel_slot, 8u);
  EXPECT_EQ(subscriber.live_mappings, 1u);
}

TEST(NatBlocks, NeverGivesOutReservedPortsOrPortsOutsideItsRange) {
  Settings settings = settings_with_pool(2);
  settings.first_port = 5001;
  settings.last_port = 5321;
  settings.first_block_ports = 16;
  settings.profiles[0].limits.blocks = 1;
  settings.reserved = {{pool_address(1), 5100},
                       {pool_address(1), 5100},
                       {Ipv4Address::from_octets(9, 9, 9, 9), 5200}};
  for (uint16_t port = 5136; port < 5152; ++port)
    settings.reserved.push_back({pool_address(0), port});
  TestNat nat(settings);
  std::vector<Subscriber> subscribers(64);
  std::set<Endpoint> externals;
  uint32_t n = 0;
  for (Subscriber& subscriber : subscribers) {
    nat->attach(subscriber, n, 0, nat.now_s);
    while (nat.refusal_of(subscriber, Protocol::tcp, internal_endpoint(n)) == Refusal::none) {
      externals.insert(nat.find(subscriber, Protocol::tcp, internal_endpoint(n++))->external);
    }
  }
  for (const Endpoint& external : externals) {
    EXPECT_GE(external.port.host(), 5001);
    EXPECT_LE(external.port.host(), 5321);
  }
  EXPECT_FALSE(externals.contains({pool_address(1), Be16::from_host(5100)}));
  EXPECT_TRUE(externals.contains({pool_address(0), Be16::from_host(5100)}));
  // All the rest was given: 321 a pool address, less 1 here and a whole window of 16 there.
  EXPECT_EQ(externals.size(), 2u * 321 - 1 - 16);
  EXPECT_EQ(nat.find_inbound({pool_address(1), Be16::from_host(5100)}, Protocol::tcp), nullptr);
  EXPECT_EQ(nat.find_inbound({pool_address(1), Be16::from_host(80)}, Protocol::tcp), nullptr);
}

TEST(NatBlocks, SpreadsSubscribersOverThePoolAndUsesAllOfIt) {
  Settings settings = settings_with_pool(8);
  settings.last_port = 1024 + 64 * 16 - 1;  // 16 first blocks an address
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings);
  std::vector<Subscriber> subscribers(8 * 16 + 1);
  std::map<Ipv4Address, unsigned> per_address;
  for (size_t i = 0; i + 1 < subscribers.size(); ++i) {
    nat->attach(subscribers[i], static_cast<uint32_t>(i), 0, nat.now_s);
    ++per_address[nat.create(subscribers[i], Protocol::udp, internal_endpoint(0))
                      ->external.address];
    if (i + 1 == 32) {
      EXPECT_GE(per_address.size(), 6u) << "the first quarter stands on few addresses";
    }
  }
  for (const auto& [address, count] : per_address) EXPECT_EQ(count, 16u) << address.to_string();
  nat->attach(subscribers.back(), 999, 0, nat.now_s);
  EXPECT_EQ(nat.refusal_of(subscribers.back(), Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
  EXPECT_EQ(nat.refusal_of(subscribers.back(), Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
}

// Tunnels of one host, which are to have one external address (RFC 4787 REQ-2).
TEST(NatBlocks, StayOnTheAddressThatTheyAreTiedToWhateverRoomThereIs) {
  Settings settings = settings_with_pool(8);
  settings.last_port = 1024 + 64 * 16 - 1;  // 16 first blocks an address
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings);
  std::vector<Subscriber> tied(17);
  for (uint32_t i = 0; i < 16; ++i) {
    nat->attach(tied[i], i, 0, nat.now_s, i, pool_address(5));
    EXPECT_EQ(nat->address_of(tied[i]), pool_address(5)) << "before it has a block";
    EXPECT_EQ(nat.create(tied[i], Protocol::udp, internal_endpoint(i))->external.address,
              pool_address(5));
  }
  nat->attach(tied[16], 16, 0, nat.now_s, 16, pool_address(5));
  EXPECT_EQ(nat.refusal_of(tied[16], Protocol::udp, internal_endpoint(16)), Refusal::port_limit);
  nat->detach(tied[16], nat.now_s);
  EXPECT_FALSE(tied[16].is_tied) << "the slot's next tunnel is free again";
}

TEST(NatBlocks, RefusesAFurtherBlockOnAnotherAddress) {
  Settings settings = settings_with_pool(2);
  settings.last_port = 1024 + 64 - 1;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 64; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(64)), Refusal::port_limit);
}

TEST(NatBlocks, SweepsAtMostWhatItIsAskedAndMissesNothing) {
  TestNat nat(settings_with_pool(1));
  std::vector<Subscriber> subscribers(50);
  uint32_t n = 0;
  for (Subscriber& subscriber : subscribers) {
    nat->attach(subscriber, n, 0, nat.now_s);
    for (int i = 0; i < 10; ++i) nat.create(subscriber, Protocol::udp, internal_endpoint(n++));
  }
  nat.now_s += 301;
  EXPECT_LE(nat->sweep(nat.now_s, 1), 16u);
  EXPECT_EQ(nat->sweep(nat.now_s, 0), 0u);
  for (uint64_t seen = 0; seen < nat->granted_entries(); seen += 96) nat->sweep(nat.now_s, 96);
  EXPECT_EQ(nat->counts().mappings_expired, 500u);
  EXPECT_EQ(nat->counts().mappings_live, 0u);
  nat.now_s += 121;
  // A round and a block's remainder, for the hand stands somewhere within a block.
  for (uint64_t left = nat->granted_entries() + 192; left > 0; left -= 48) {
    nat->sweep(nat.now_s, 48);
  }
  EXPECT_EQ(nat->counts().blocks_granted, 0u);
  EXPECT_EQ(nat->sweep(nat.now_s, 1000), 0u);
}

TEST(NatBlocks, EndsASweepThatReturnsTheLastBlock) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 20; ++n) {
    nat.create(subscriber, Protocol::udp, internal_endpoint(n));
    nat.now_s += 301 + 121;
    // To the window after the mapping's, wherever that is in the block; then a whole round, in
    // whose midst the block returns and leaves no other to go on with.
    while (nat->counts().mappings_live != 0) nat->sweep(nat.now_s, 1);
    ASSERT_EQ(nat->counts().mappings_resting, 0u);
    nat->sweep(nat.now_s, 4 * 48);
    ASSERT_EQ(nat->counts().blocks_granted, 0u);
    ASSERT_EQ(nat->granted_entries(), 0u);
  }
}

TEST(NatBlocks, LeavesTheMemoryOfADetachedSubscriberAlone) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 10; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  // Whatever stands there next, even what stood there before, is none of the translator's.
  const Subscriber before = subscriber;
  nat->detach(subscriber, nat.now_s);
  std::memcpy(static_cast<void*>(&subscriber), &before, sizeof subscriber);
  nat.now_s += 121;
  nat.sweep_all();
  EXPECT_EQ(nat->counts().blocks_granted, 0u);
  EXPECT_EQ(std::memcmp(&subscriber, &before, sizeof subscriber), 0);
}

TEST(NatBlocks, GivesNeighbouringEndpointsPortsThatAreHardToGuess) {
  // RFC 7857 §9: the next port given must not follow from the last.
  Settings settings = settings_with_pool(1);
  settings.first_block_ports = 1024;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  std::map<int, unsigned> steps;
  int last = 0;
  for (uint32_t n = 0; n < 300; ++n) {
    const int port =
        nat.create(subscriber, Protocol::udp, internal_endpoint(n))->external.port.host();
    ++steps[port - last];
    last = port;
  }
  for (const auto& [step, times] : steps) EXPECT_LE(times, 6u) << "step " << step;
}

// How full a single block is when it first refuses an endpoint: mean and worst of 1000 keys.
struct Fill {
  double mean;
  double worst;
};

Fill fill_at_first_refusal(uint16_t block_ports) {
  Settings settings = settings_with_pool(1);
  settings.first_block_ports = block_ports;
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings, block_ports);
  Fill fill{0, 1};
  constexpr int kKeys = 1000;
  for (int round = 0; round < kKeys; ++round) {
    Subscriber subscriber;
    nat->attach(subscriber, 7, 0, nat.now_s);
    uint32_t n = 0;
    while (nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(n)) == Refusal::none) ++n;
    fill.mean += double(n) / block_ports / kKeys;
    fill.worst = std::min(fill.worst, double(n) / block_ports);
    nat->detach(subscriber, nat.now_s);
    nat.now_s += 121;
    nat.sweep_all();
    EXPECT_EQ(nat->counts().blocks_granted, 0u);
    EXPECT_EQ(nat->counts().spilled, 0u);
  }
  return fill;
}

TEST(NatBlocks, FillsABlockOf64PortsToNineTenthsBeforeItRefuses) {
  const Fill fill = fill_at_first_refusal(64);
  RecordProperty("mean_percent", std::to_string(fill.mean * 100));
  std::printf("64 ports: full to %.1f %% in the mean, %.1f %% at worst\n", fill.mean * 100,
              fill.worst * 100);
  EXPECT_GE(fill.worst, 0.9);
}

TEST(NatBlocks, FillsLargerBlocksWellBeforeItRefuses) {
  for (const uint16_t ports : {uint16_t{128}, uint16_t{256}, uint16_t{1024}}) {
    const Fill fill = fill_at_first_refusal(ports);
    std::printf("%u ports: full to %.1f %% in the mean, %.1f %% at worst\n", ports, fill.mean * 100,
                fill.worst * 100);
    EXPECT_GE(fill.mean, 0.83) << ports;
    EXPECT_GE(fill.worst, 0.6) << ports;
  }
}

}  // namespace
}  // namespace adit::nat
