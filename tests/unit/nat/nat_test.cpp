// The translator's behaviour, one rule a test: mappings, their timers and limits.
#include "lib/nat/nat.h"

#include <set>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
constexpr Endpoint kOtherRemote{Ipv4Address::from_octets(40, 2, 2, 2), Be16::from_host(53)};

TEST(Nat, GivesAnEndpointOneMappingWhateverTheRemote) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  EXPECT_EQ(nat.find(subscriber, Protocol::udp, internal_endpoint(1)), nullptr);
  Mapping* const mapping = nat.create(subscriber, Protocol::udp, internal_endpoint(1));
  ASSERT_NE(mapping, nullptr);
  EXPECT_EQ(mapping->tunnel_slot, 7u);
  EXPECT_EQ(mapping->internal, internal_endpoint(1));
  EXPECT_EQ(mapping->external.address, pool_address(0));
  nat->on_outbound(*mapping, kRemote, 0, nat.now_s);
  nat->on_outbound(*mapping, kOtherRemote, 0, nat.now_s);
  EXPECT_EQ(nat.find(subscriber, Protocol::udp, internal_endpoint(1)), mapping);
  EXPECT_EQ(nat.find_inbound(mapping->external, Protocol::udp), mapping);
}

TEST(Nat, KeepsProtocolsApart) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const udp = nat.create(subscriber, Protocol::udp, internal_endpoint(1));
  EXPECT_EQ(nat.find(subscriber, Protocol::tcp, internal_endpoint(1)), nullptr);
  EXPECT_EQ(nat.find_inbound(udp->external, Protocol::tcp), nullptr);
  EXPECT_EQ(nat.find_inbound(udp->external, Protocol::icmp), nullptr);
  Mapping* const tcp = nat.create(subscriber, Protocol::tcp, internal_endpoint(1));
  Mapping* const icmp = nat.create(subscriber, Protocol::icmp, internal_endpoint(1));
  EXPECT_EQ(std::set({udp, tcp, icmp}).size(), 3u);
  EXPECT_EQ(nat->counts().blocks_granted, 1u);
}

TEST(Nat, ReturnsTheSameMappingToTheNextPacketOfTheBurst) {
  Settings settings = settings_with_pool(1);
  settings.profiles[0].limits.new_mappings_burst = 1;
  settings.profiles[0].limits.new_mappings_per_second = 0;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const mapping = nat.create(subscriber, Protocol::udp, internal_endpoint(1));
  EXPECT_EQ(nat.create(subscriber, Protocol::udp, internal_endpoint(1)), mapping);
  EXPECT_EQ(nat->counts().mappings_created, 1u);
}

TEST(Nat, KnowsItsPoolAddressesOnly) {
  Settings settings = settings_with_pool(0);
  std::mt19937_64 random(5);
  std::set<Ipv4Address> pool;
  while (pool.size() < 3) pool.insert(Ipv4Address::from_host(static_cast<uint32_t>(random())));
  settings.pool.assign(pool.begin(), pool.end());
  TestNat nat(settings);
  for (const Ipv4Address address : pool) EXPECT_TRUE(nat->is_pool_address(address));
  for (int round = 0; round < 1000; ++round) {
    const Ipv4Address address = Ipv4Address::from_host(static_cast<uint32_t>(random()));
    EXPECT_EQ(nat->is_pool_address(address), pool.contains(address));
  }
}

struct TimeoutRow {
  const char* description;
  Protocol protocol;
  bool answered;  // an inbound packet came from the remote, a SYN+ACK for TCP
  uint32_t timeout_s;
};

TEST(Nat, ExpiresAMappingOnTimeWithoutASweep) {
  const Timeouts defaults;
  const TimeoutRow rows[] = {
      {"UDP", Protocol::udp, false, defaults.udp_s},
      {"UDP answered", Protocol::udp, true, defaults.udp_s},
      {"ICMP", Protocol::icmp, false, defaults.icmp_s},
      {"TCP unanswered", Protocol::tcp, false, defaults.tcp_opening_s},
      {"TCP established", Protocol::tcp, true, defaults.tcp_established_s},
  };
  for (const TimeoutRow& row : rows) {
    TestNat nat(settings_with_pool(1));
    Subscriber subscriber;
    nat->attach(subscriber, 7, 0, nat.now_s);
    Mapping* const mapping = nat.create(subscriber, row.protocol, internal_endpoint(1));
    const Endpoint external = mapping->external;
    nat->on_outbound(*mapping, kRemote, kTcpSyn, nat.now_s);
    if (row.answered) nat->on_inbound(*mapping, kRemote, kTcpSyn | kTcpAck, nat.now_s);
    nat.now_s += row.timeout_s;
    EXPECT_EQ(nat.find_inbound(external, row.protocol), mapping) << row.description;
    EXPECT_EQ(nat.find(subscriber, row.protocol, internal_endpoint(1)), mapping) << row.description;
    nat.now_s += 1;
    EXPECT_EQ(nat.find_inbound(external, row.protocol), nullptr) << row.description;
    EXPECT_EQ(nat.find(subscriber, row.protocol, internal_endpoint(1)), nullptr) << row.description;
    EXPECT_EQ(subscriber.live_mappings, 0u) << row.description;
    EXPECT_EQ(nat->counts().mappings_expired, 1u) << row.description;
  }
}

TEST(Nat, IsRefreshedByUseInBothDirections) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const mapping = nat.create(subscriber, Protocol::udp, internal_endpoint(1));
  for (int round = 0; round < 20; ++round) {
    nat.now_s += 290;
    ASSERT_EQ(nat.find_inbound(mapping->external, Protocol::udp), mapping);
    if (round % 2 == 0) {
      nat->on_inbound(*mapping, kRemote, 0, nat.now_s);
    } else {
      nat->on_outbound(*mapping, kRemote, 0, nat.now_s);
    }
    nat.sweep_all();
  }
}

TEST(Nat, IsNotKeptAliveByAStrangersTcpSegments) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const mapping = nat.create(subscriber, Protocol::tcp, internal_endpoint(1));
  nat->on_outbound(*mapping, kRemote, kTcpSyn, nat.now_s);
  nat.now_s += 200;
  nat->on_inbound(*mapping, kOtherRemote, kTcpSyn, nat.now_s);
  nat->on_outbound(*mapping, kOtherRemote, kTcpRst | kTcpAck, nat.now_s);
  nat.now_s += 41;
  EXPECT_EQ(nat.find_inbound(mapping->external, Protocol::tcp), nullptr);
}

TEST(Nat, RevivesARestingPortForItsOwnEndpointOnly) {
  Settings settings = settings_with_pool(1);
  settings.first_block_ports = 16;
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  std::vector<Endpoint> externals;
  for (uint32_t n = 0; n < 16; ++n) {
    externals.push_back(nat.create(subscriber, Protocol::udp, internal_endpoint(n))->external);
  }
  nat.now_s += 301;
  nat.sweep_all();
  EXPECT_EQ(nat->counts().mappings_resting, 16u);
  EXPECT_EQ(subscriber.live_mappings, 0u);
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(99)), Refusal::port_limit);
  EXPECT_EQ(nat.create(subscriber, Protocol::udp, internal_endpoint(3))->external, externals[3]);
  EXPECT_EQ(nat->counts().mappings_revived, 1u);
  nat.now_s += 119;
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(99)), Refusal::port_limit);
  nat.now_s += 2;  // released 121 s ago: more than 120, as whole seconds are counted
  Mapping* const reused = nat.create(subscriber, Protocol::udp, internal_endpoint(99));
  EXPECT_NE(reused->external, externals[3]);
}

TEST(Nat, RestsFromTheMomentOfExpiryNotOfTheSweep) {
  Settings settings = settings_with_pool(1);
  settings.first_block_ports = 16;
  settings.profiles[0].limits.blocks = 1;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 16; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  // Nobody looks for as long as timeout and rest take; then a new endpoint comes at once.
  nat.now_s += 301 + 120;
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(99)), Refusal::port_limit);
  nat.now_s += 1;
  nat.create(subscriber, Protocol::udp, internal_endpoint(99));
}

TEST(Nat, TakesNewMappingsFromATokenBucket) {
  Settings settings = settings_with_pool(1);
  settings.profiles = {
      {.limits = {.mappings = 1000, .new_mappings_per_second = 0, .new_mappings_burst = 1}},
      {.limits = {.mappings = 1000, .new_mappings_per_second = 3, .new_mappings_burst = 5}}};
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 1, nat.now_s);
  uint32_t n = 0;
  const auto granted_now = [&] {
    unsigned granted = 0;
    while (nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(n++)) == Refusal::none) {
      ++granted;
    }
    return granted;
  };
  EXPECT_EQ(granted_now(), 5u);
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(n)), Refusal::rate_limited);
  nat.now_s += 1;
  EXPECT_EQ(granted_now(), 3u);
  nat.now_s += 1000;
  EXPECT_EQ(granted_now(), 5u);
}

TEST(Nat, LimitsLiveMappingsAndKeepsThoseThereAre) {
  Settings settings = settings_with_pool(1);
  settings.profiles[0].limits.mappings = 10;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (uint32_t n = 0; n < 10; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::tcp, internal_endpoint(99)),
            Refusal::mapping_limit);
  for (uint32_t n = 0; n < 10; ++n) {
    EXPECT_NE(nat.find(subscriber, Protocol::udp, internal_endpoint(n)), nullptr);
  }
  nat.now_s += 301;
  nat.sweep_all();  // resting ports count toward ports, not toward mappings
  nat.create(subscriber, Protocol::tcp, internal_endpoint(99));
}

TEST(Nat, ListsLiveMappingsUpToTheRoomThereIs) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  Subscriber other;
  nat->attach(subscriber, 7, 0, nat.now_s);
  nat->attach(other, 8, 0, nat.now_s);
  nat.create(other, Protocol::udp, internal_endpoint(1));
  for (uint32_t n = 0; n < 100; ++n) nat.create(subscriber, Protocol::udp, internal_endpoint(n));
  nat.now_s += 200;
  std::set<Endpoint> expected;
  for (uint32_t n = 0; n < 100; n += 4) {
    nat->on_outbound(*nat.find(subscriber, Protocol::udp, internal_endpoint(n)), kRemote, 0,
                     nat.now_s);
    expected.insert(internal_endpoint(n));
  }
  nat.now_s += 101;
  std::vector<Mapping> out(200);
  ASSERT_EQ(nat->list(subscriber, out, nat.now_s), 25u);
  std::set<Endpoint> listed;
  for (unsigned i = 0; i < 25; ++i) listed.insert(out[i].internal);
  EXPECT_EQ(listed, expected);
  EXPECT_EQ(nat->list(subscriber, std::span(out).first(3), nat.now_s), 3u);
}

}  // namespace
}  // namespace adit::nat
