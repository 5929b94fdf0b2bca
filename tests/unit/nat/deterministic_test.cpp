// Deterministic allocation (RFC 7422): a subscriber's ports follow from its ordinal, both ways.
#include "lib/nat/deterministic.h"

#include <set>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};

TEST(DeterministicRanges, AnswerBothWays) {
  const DeterministicRanges settings[] = {{3, 1024, 65535, 1024}, {2, 1, 65535, 8192},
                                          {1, 1000, 2000, 64},    {4, 5001, 5321, 16},
                                          {2, 2048, 4095, 2048},  {1, 100, 163, 64}};
  for (const DeterministicRanges& ranges : settings) {
    std::set<std::pair<uint32_t, uint16_t>> firsts;
    for (uint32_t ordinal = 0; ordinal < ranges.count(); ++ordinal) {
      const auto range = ranges.range_of(ordinal);
      ASSERT_TRUE(range);
      EXPECT_LT(range->pool_index, ranges.addresses);
      EXPECT_GE(range->first_port, ranges.first_port);
      EXPECT_LE(range->first_port + ranges.range_ports - 1, ranges.last_port);
      EXPECT_EQ(range->first_port % ranges.range_ports, 0u);
      EXPECT_TRUE(firsts.emplace(range->pool_index, range->first_port).second);
      const auto last = static_cast<uint16_t>(range->first_port + ranges.range_ports - 1);
      EXPECT_EQ(ranges.ordinal_of(range->pool_index, range->first_port), ordinal);
      EXPECT_EQ(ranges.ordinal_of(range->pool_index, last), ordinal);
    }
    EXPECT_FALSE(ranges.range_of(static_cast<uint32_t>(ranges.count())));
    EXPECT_FALSE(ranges.ordinal_of(ranges.addresses, ranges.last_port));
  }
}

TEST(DeterministicRanges, KnowWhatFits) {
  EXPECT_EQ((DeterministicRanges{3, 1024, 65535, 1024}.count()), 3u * 63);
  EXPECT_EQ((DeterministicRanges{1, 1, 65535, 8192}.count()), 7u);  // not the one that holds port 0
  EXPECT_EQ((DeterministicRanges{1, 1025, 2047, 1024}.count()), 0u);
  EXPECT_FALSE((DeterministicRanges{1, 1025, 2047, 1024}.range_of(0)));
  EXPECT_FALSE((DeterministicRanges{1, 1025, 2047, 1024}.ordinal_of(0, 1500)));
  EXPECT_FALSE((DeterministicRanges{1, 1000, 2000, 64}.ordinal_of(0, 1023)));
  EXPECT_EQ((DeterministicRanges{1, 1000, 2000, 64}.ordinal_of(0, 1024)), 0u);
  EXPECT_FALSE((DeterministicRanges{1, 1000, 2000, 64}.ordinal_of(0, 1984)));
}

class Deterministic : public testing::Test {
 protected:
  static constexpr uint16_t kPorts = 64;

  Deterministic() : nat_(make_settings()), subscribers_(6) {
    for (uint32_t i = 0; i < subscribers_.size(); ++i) {
      nat_->attach(subscribers_[i], 100 + i, 0, nat_.now_s, i);
    }
  }
  // Two ranges an address: for the fifth and the sixth subscriber there is none.
  static Settings make_settings() {
    Settings settings = settings_with_pool(2);
    settings.first_port = 4096;
    settings.last_port = 4096 + 2 * kPorts - 1;
    settings.deterministic_ports = kPorts;
    settings.reserved = {{pool_address(0), 4100}};
    for (uint16_t port = 4176; port < 4192; ++port) {  // a whole window
      settings.reserved.push_back({pool_address(0), port});
    }
    return settings;
  }
  std::set<uint16_t> fill(unsigned i, Protocol protocol = Protocol::udp) {
    std::set<uint16_t> ports;
    uint32_t n = 0;
    while (nat_.refusal_of(subscribers_[i], protocol, internal_endpoint(n)) == Refusal::none) {
      const Mapping* const mapping = nat_.find(subscribers_[i], protocol, internal_endpoint(n++));
      EXPECT_EQ(mapping->external.address, pool_address(i / 2));
      ports.insert(mapping->external.port.host());
    }
    EXPECT_EQ(nat_.refusal_of(subscribers_[i], protocol, internal_endpoint(n)),
              Refusal::port_limit);
    EXPECT_EQ(ports.size(), n);
    return ports;
  }

  TestNat nat_;
  std::vector<Subscriber> subscribers_;
};

TEST_F(Deterministic, GivesPortsOfTheSubscribersOwnRangeAndNoMore) {
  for (unsigned i = 0; i < 4; ++i) {
    for (const Protocol protocol : {Protocol::udp, Protocol::icmp}) {
      const std::set<uint16_t> ports = fill(i, protocol);
      EXPECT_GE(*ports.begin(), 4096 + i % 2 * kPorts);
      EXPECT_LT(*ports.rbegin(), 4096 + (i % 2 + 1) * kPorts);
      EXPECT_GT(ports.size(), i == 1 ? 40u : 56u);
      EXPECT_FALSE(i < 2 && (ports.contains(4100) || ports.contains(4180)));
    }
    EXPECT_EQ(subscribers_[i].blocks[1].ports, 0);
  }
  EXPECT_EQ(nat_->counts().blocks_granted, 4u);
}

TEST_F(Deterministic, RefusesSubscribersForWhomThereIsNoRange) {
  EXPECT_EQ(nat_.refusal_of(subscribers_[4], Protocol::udp, internal_endpoint(0)),
            Refusal::pool_exhausted);
  EXPECT_EQ(nat_.find(subscribers_[4], Protocol::udp, internal_endpoint(0)), nullptr);
  nat_->detach(subscribers_[4], nat_.now_s);
}

TEST_F(Deterministic, GivesThePortsOfAnEarlierConnectionBack) {
  std::map<uint32_t, Endpoint> external;
  for (uint32_t n = 0; n < 40; ++n) {
    external[n] = nat_.create(subscribers_[2], Protocol::udp, internal_endpoint(n))->external;
  }
  nat_->detach(subscribers_[2], nat_.now_s);
  nat_.now_s += 60;
  std::memset(static_cast<void*>(&subscribers_[2]), 0, sizeof(Subscriber));
  nat_->attach(subscribers_[2], 200, 0, nat_.now_s, 2);
  EXPECT_EQ(nat_.find(subscribers_[2], Protocol::udp, internal_endpoint(0)), nullptr);
  for (uint32_t n = 0; n < 40; ++n) {
    Mapping* const mapping = nat_.create(subscribers_[2], Protocol::udp, internal_endpoint(n));
    EXPECT_EQ(mapping->external, external[n]);
    EXPECT_EQ(mapping->tunnel_slot, 200u);
  }
  EXPECT_EQ(nat_->counts().mappings_created, 40u);
  EXPECT_EQ(nat_->counts().mappings_revived, 40u);
  EXPECT_EQ(nat_->counts().blocks_granted, 1u);
  EXPECT_EQ(subscribers_[2].live_mappings, 40u);
}

TEST_F(Deterministic, TakesTheRangeFromATunnelThatWasNeverClosed) {
  const Endpoint external =
      nat_.create(subscribers_[0], Protocol::udp, internal_endpoint(0))->external;
  nat_.create(subscribers_[0], Protocol::udp, internal_endpoint(1));
  Subscriber again;
  nat_->attach(again, 300, 0, nat_.now_s, 0);
  Mapping* const mapping = nat_.create(again, Protocol::udp, internal_endpoint(0));
  EXPECT_EQ(mapping->external, external);
  EXPECT_EQ(mapping->tunnel_slot, 300u);
  EXPECT_EQ(subscribers_[0].live_mappings, 0u);
  EXPECT_EQ(again.live_mappings, 1u);
  EXPECT_EQ(nat_.find(subscribers_[0], Protocol::udp, internal_endpoint(1)), nullptr);
  // The last to speak has it; nothing is counted twice when both go.
  nat_.create(subscribers_[0], Protocol::udp, internal_endpoint(1));
  EXPECT_EQ(again.live_mappings, 0u);
  nat_->detach(again, nat_.now_s);
  nat_->detach(subscribers_[0], nat_.now_s);
  nat_.now_s += 121;
  nat_.sweep_all();
  EXPECT_EQ(nat_->counts().blocks_granted, 0u);
  EXPECT_EQ(nat_->counts().mappings_live, 0u);
  EXPECT_EQ(nat_->counts().mappings_resting, 0u);
}

TEST_F(Deterministic, SweepsAndReturnsARangeLikeAnyBlock) {
  Mapping* const mapping = nat_.create(subscribers_[1], Protocol::tcp, internal_endpoint(0));
  const uint16_t first = static_cast<uint16_t>(subscribers_[1].blocks[0].first);
  nat_->on_outbound(*mapping, kRemote, kTcpSyn, nat_.now_s);
  nat_.now_s += 241 + 121;
  nat_.sweep_all();
  EXPECT_EQ(nat_->counts().blocks_granted, 0u);
  EXPECT_EQ(subscribers_[1].blocks[0].ports, 0);
  nat_.create(subscribers_[1], Protocol::tcp, internal_endpoint(3));
  EXPECT_EQ(static_cast<uint16_t>(subscribers_[1].blocks[0].first), first);
}

}  // namespace
}  // namespace adit::nat
