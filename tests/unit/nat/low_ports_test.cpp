// RFC 4787 REQ-3a: internal ports below 1024 get external ports below 1024, from a range that the
// subscribers of an address share.
#include <set>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};

Settings settings_with_low_ports(uint16_t first, uint16_t ports, uint32_t addresses = 1) {
  Settings settings = settings_with_pool(addresses);
  settings.first_low_port = first;
  settings.low_ports = ports;
  return settings;
}

Endpoint low_endpoint(unsigned port) {
  return {internal_endpoint(0).address, Be16::from_host(static_cast<uint16_t>(port))};
}

class LowPorts : public testing::Test {
 protected:
  explicit LowPorts(const Settings& settings = settings_with_low_ports(512, 512))
      : nat_(settings), subscribers_(10) {
    for (uint32_t i = 0; i < subscribers_.size(); ++i) {
      nat_->attach(subscribers_[i], 100 + i, 0, nat_.now_s);
    }
  }

  TestNat nat_;
  std::vector<Subscriber> subscribers_;
};

TEST_F(LowPorts, AreForInternalUdpAndTcpPortsBelow1024) {
  for (const Protocol protocol : {Protocol::udp, Protocol::tcp}) {
    for (const unsigned port : {0u, 1u, 123u, 500u, 1023u}) {
      Mapping* const mapping = nat_.create(subscribers_[0], protocol, low_endpoint(port));
      EXPECT_GE(mapping->external.port.host(), 512);
      EXPECT_LE(mapping->external.port.host(), 1023);
      EXPECT_EQ(nat_.find(subscribers_[0], protocol, low_endpoint(port)), mapping);
      EXPECT_EQ(nat_.find_inbound(mapping->external, protocol), mapping);
    }
    EXPECT_GE(nat_.create(subscribers_[0], protocol, low_endpoint(1024))->external.port.host(),
              1024);
  }
  EXPECT_GE(nat_.create(subscribers_[0], Protocol::icmp, low_endpoint(5))->external.port.host(),
            1024);
  EXPECT_EQ(subscribers_[0].low_mappings, 10);
}

TEST_F(LowPorts, TellSubscribersWithTheSameEndpointApart) {
  std::set<Endpoint> externals;
  for (Subscriber& subscriber : subscribers_) {
    EXPECT_EQ(nat_.find(subscriber, Protocol::udp, low_endpoint(500)), nullptr);
    Mapping* const mapping = nat_.create(subscriber, Protocol::udp, low_endpoint(500));
    EXPECT_EQ(mapping->tunnel_slot, subscriber.tunnel_slot);
    externals.insert(mapping->external);
    EXPECT_EQ(subscriber.live_mappings, 1u);
  }
  EXPECT_EQ(externals.size(), subscribers_.size());
  for (Subscriber& subscriber : subscribers_) {
    EXPECT_EQ(nat_.find(subscriber, Protocol::udp, low_endpoint(500))->tunnel_slot,
              subscriber.tunnel_slot);
  }
  std::vector<Mapping> listed(5);
  ASSERT_EQ(nat_->list(subscribers_[3], listed, nat_.now_s), 1u);
  EXPECT_EQ(listed[0].tunnel_slot, 103u);
}

TEST_F(LowPorts, RestForTheirOwnEndpointAndThenReturn) {
  const Endpoint external =
      nat_.create(subscribers_[0], Protocol::udp, low_endpoint(500))->external;
  nat_.now_s += 301;
  EXPECT_EQ(nat_.find(subscribers_[0], Protocol::udp, low_endpoint(500)), nullptr);
  EXPECT_EQ(subscribers_[0].live_mappings, 0u);
  EXPECT_EQ(nat_.create(subscribers_[0], Protocol::udp, low_endpoint(500))->external, external);
  EXPECT_EQ(nat_->counts().mappings_revived, 1u);
  EXPECT_EQ(subscribers_[0].low_mappings, 1);
  nat_.now_s += 301 + 121;
  nat_.sweep_all();
  EXPECT_EQ(subscribers_[0].low_mappings, 0);
  EXPECT_EQ(nat_->counts().blocks_granted, 0u);
  EXPECT_EQ(nat_->counts().mappings_resting, 0u);
  nat_.create(subscribers_[1], Protocol::udp, low_endpoint(500));  // the range can be had again
}

TEST_F(LowPorts, OfADetachedTunnelRestAndForgetIt) {
  const Endpoint external =
      nat_.create(subscribers_[0], Protocol::udp, low_endpoint(500))->external;
  const Endpoint other = nat_.create(subscribers_[1], Protocol::udp, low_endpoint(500))->external;
  nat_->detach(subscribers_[0], nat_.now_s);
  EXPECT_EQ(nat_.find_inbound(external, Protocol::udp), nullptr);
  EXPECT_EQ(nat_->counts().mappings_detached, 1u);
  EXPECT_NE(nat_.find_inbound(other, Protocol::udp), nullptr);
  // The memory may be anybody's now: what stands there stays as it is.
  std::memset(static_cast<void*>(&subscribers_[0]), 0x5a, sizeof(Subscriber));
  const Subscriber before = subscribers_[0];
  nat_.now_s += 121;
  nat_.sweep_all();
  EXPECT_EQ(std::memcmp(&subscribers_[0], &before, sizeof before), 0);
  EXPECT_EQ(nat_->counts().mappings_resting, 0u);
  EXPECT_EQ(nat_->counts().mappings_live, 1u);
}

TEST_F(LowPorts, AreSharedSoThatNobodyTakesThemAll) {
  for (unsigned port = 0; port < 64; ++port) {
    nat_.create(subscribers_[0], Protocol::tcp, low_endpoint(port));
  }
  EXPECT_EQ(nat_.refusal_of(subscribers_[0], Protocol::udp, low_endpoint(64)),
            Refusal::port_limit);
  nat_.create(subscribers_[0], Protocol::udp, internal_endpoint(64));  // others it may have
  nat_.create(subscribers_[1], Protocol::udp, low_endpoint(64));
}

class SixteenLowPorts : public LowPorts {
 protected:
  SixteenLowPorts() : LowPorts(settings_with_low_ports(1008, 16)) {}
};

TEST_F(SixteenLowPorts, WhenFullRefuseByTheirOwnName) {
  std::set<uint16_t> ports;
  for (unsigned i = 0; i < 8; ++i) {
    for (const unsigned port : {67u, 68u}) {
      ports.insert(nat_.create(subscribers_[i], Protocol::udp, low_endpoint(port))
                       ->external.port.host());
    }
  }
  EXPECT_EQ(ports.size(), 16u);
  EXPECT_EQ(nat_.refusal_of(subscribers_[8], Protocol::udp, low_endpoint(67)),
            Refusal::low_ports_full);
  nat_.create(subscribers_[8], Protocol::tcp, low_endpoint(67));
  nat_.create(subscribers_[8], Protocol::udp, internal_endpoint(1));
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_NE(nat_.find(subscribers_[i], Protocol::udp, low_endpoint(67)), nullptr);
  }
  // Without a sweep, time makes room: the last of them are idle, then rested.
  nat_.now_s += 301 + 120;
  EXPECT_EQ(nat_.refusal_of(subscribers_[9], Protocol::udp, low_endpoint(67)),
            Refusal::low_ports_full);
  nat_.now_s += 1;
  nat_.create(subscribers_[9], Protocol::udp, low_endpoint(67));
}

// Tags have eight bits: of so many subscribers some have the tag of another's mapping.
TEST_F(SixteenLowPorts, AreNobodysButTheirOwnersWhateverTheTags) {
  std::vector<Mapping*> mappings;
  for (unsigned i = 0; i < 8; ++i) {
    for (const unsigned port : {67u, 68u}) {
      mappings.push_back(nat_.create(subscribers_[i], Protocol::udp, low_endpoint(port)));
    }
  }
  for (uint32_t round = 0; round < 500; ++round) {
    Subscriber other;
    nat_->attach(other, 500 + round, 0, nat_.now_s);
    nat_.create(other, Protocol::tcp, low_endpoint(67));
    ASSERT_EQ(nat_.find(other, Protocol::udp, low_endpoint(67)), nullptr);
    ASSERT_EQ(nat_.find(other, Protocol::udp, low_endpoint(68)), nullptr);
    nat_->detach(other, nat_.now_s);
    nat_.now_s += 121;
    for (Mapping* const mapping : mappings) nat_->on_outbound(*mapping, kRemote, 0, nat_.now_s);
    nat_.sweep_all();
  }
}

class TwoOfManyAddresses : public LowPorts {
 protected:
  TwoOfManyAddresses() : LowPorts(settings_with_low_ports(512, 256, 8)) {}
};

TEST_F(TwoOfManyAddresses, KeepTheirSubscriberOnItsAddress) {
  std::set<Ipv4Address> addresses;
  for (Subscriber& subscriber : subscribers_) {
    Mapping* const low = nat_.create(subscriber, Protocol::udp, low_endpoint(500));
    const Ipv4Address address = low->external.address;
    addresses.insert(address);
    EXPECT_EQ(nat_.create(subscriber, Protocol::tcp, internal_endpoint(1))->external.address,
              address);
    for (int round = 0; round < 50; ++round) {  // its block returns, the low port stays in use
      nat_.now_s += 200;
      nat_->on_outbound(*low, kRemote, 0, nat_.now_s);
    }
    nat_.sweep_all();
    EXPECT_EQ(subscriber.blocks[0].ports, 0);
    EXPECT_EQ(nat_.create(subscriber, Protocol::tcp, internal_endpoint(2))->external.address,
              address);
  }
  EXPECT_GT(addresses.size(), 2u);
}

TEST(LowPortsOfAFullAddress, KeepTheirSubscriberFromAnother) {
  Settings settings = settings_with_low_ports(512, 256, 2);
  settings.last_port = 1024 + 64 - 1;  // one block an address
  TestNat nat(settings);
  std::vector<Subscriber> subscribers(3);
  for (uint32_t i = 0; i < 3; ++i) nat->attach(subscribers[i], i, 0, nat.now_s);
  Mapping* const low = nat.create(subscribers[0], Protocol::udp, low_endpoint(500));
  const auto pass_time = [&](uint32_t seconds) {
    nat.now_s += seconds;
    nat->on_outbound(*low, kRemote, 0, nat.now_s);
    nat.sweep_all();
  };
  pass_time(121);
  ASSERT_EQ(subscribers[0].blocks[0].ports, 0) << "it was empty";
  // Others take both addresses' blocks; then the one at the other address returns.
  for (const uint32_t i : {1u, 2u}) nat.create(subscribers[i], Protocol::tcp, internal_endpoint(1));
  for (const uint32_t i : {1u, 2u}) {
    if (subscribers[i].pool_index != low->pool_index) nat->detach(subscribers[i], nat.now_s);
  }
  pass_time(121);
  EXPECT_EQ(nat.refusal_of(subscribers[0], Protocol::tcp, internal_endpoint(1)),
            Refusal::port_limit);
}

TEST(LowPortsWithParity, KeepIt) {
  Settings settings = settings_with_low_ports(512, 256);
  settings.profiles[0].port_parity = true;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  for (unsigned port = 500; port < 530; ++port) {
    EXPECT_EQ(nat.create(subscriber, Protocol::udp, low_endpoint(port))->external.port.host() % 2,
              port % 2);
  }
}

}  // namespace
}  // namespace adit::nat
