// The translator against a plain model of it: maps of what each endpoint was given and when it was
// last used, and nothing about blocks, hashes or windows. Random operations, more than a million,
// on a clock that jumps and wraps; after each the two must agree.
#include <array>
#include <map>
#include <optional>

#include "lib/nat/table.h"
#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
constexpr unsigned kTunnels = 12;
constexpr uint32_t kEndpoints = 90;  // a tunnel's; more than its blocks can hold
constexpr uint32_t kRestMax_s = 120;
constexpr unsigned kOperations = 1'500'000;

// What the model knows of a mapping. Who it belongs to is part of the key below.
struct Entry {
  Endpoint external;
  uint32_t last_seen_s = 0;
  uint32_t timeout_s = 0;
  uint32_t rest_s = 0;
  std::optional<uint32_t> detached_s;

  uint32_t released_s() const { return detached_s.value_or(last_seen_s + timeout_s + 1); }
  bool is_live(uint32_t now_s) const {
    return !detached_s && static_cast<int32_t>(now_s - last_seen_s) <= int32_t(timeout_s);
  }
  bool is_resting(uint32_t now_s) const {
    return !is_live(now_s) && static_cast<int32_t>(now_s - released_s()) <= int32_t(rest_s);
  }
};

class ModelTest {
 public:
  ModelTest(uint64_t seed, const Settings& settings)
      : random_(seed), settings_(settings), nat_(settings_, seed) {
    for (unsigned t = 0; t < kTunnels; ++t) attach(t);
  }

  void run() {
    for (unsigned operation = 0; operation < kOperations && !testing::Test::HasFatalFailure();
         ++operation) {
      step();
      if (operation % 5000 == 0) check_counts();
    }
    check_that_all_returns();
  }

  // Tight everywhere: small blocks, a narrow range, reserved ports in its midst.
  static Settings make_settings() {
    Settings settings = settings_with_pool(2);
    settings.first_port = 2005;
    settings.last_port = 2399;
    settings.first_block_ports = 16;
    for (uint16_t port = 2100; port < 2390; port = static_cast<uint16_t>(port + 37)) {
      settings.reserved.push_back({pool_address(port % 2), port});
    }
    // Three profiles that differ in everything.
    settings.profiles = {
        {.limits = {.mappings = 100'000, .new_mappings_per_second = 1000,
                    .new_mappings_burst = 1000, .blocks = 3},
         .timeouts = {.udp_s = 120, .tcp_established_s = 900, .icmp_s = 60, .port_rest_s = 120}},
        {.limits = {.mappings = 25, .new_mappings_per_second = 1000, .new_mappings_burst = 1000,
                    .blocks = 2},
         .timeouts = {.udp_s = 300, .tcp_established_s = 700, .icmp_s = 90, .port_rest_s = 20},
         .inbound_refresh = false},
        {.limits = {.mappings = 100'000, .new_mappings_per_second = 1, .new_mappings_burst = 20,
                    .blocks = 4},
         .timeouts = {.udp_s = 150, .tcp_opening_s = 100, .icmp_s = 70, .port_rest_s = 0}}};
    return settings;
  }
  static Settings with_every_option() {
    Settings settings = make_settings();
    settings.profiles[0].port_parity = true;
    settings.profiles[2].port_parity = true;
    settings.first_low_port = 512;
    settings.low_ports = 16;
    return settings;
  }

 private:
  // A few of a tunnel's endpoints have low ports.
  static Endpoint endpoint(uint64_t n) {
    Endpoint internal = internal_endpoint(static_cast<uint32_t>(n));
    if (n < 12) internal.port = Be16::from_host(static_cast<uint16_t>(500 + n));
    return internal;
  }
  bool is_low(Protocol protocol, Be16 port) const {
    return settings_.low_ports > 0 && protocol != Protocol::icmp && port.host() < 1024;
  }

  // A tunnel's life number, the protocol and the endpoint.
  using Key = std::tuple<uint32_t, Protocol, Endpoint>;
  using Place = std::pair<Protocol, Endpoint>;

  void attach(unsigned tunnel) {
    life_[tunnel] = next_life_++;
    nat_->attach(subscribers_[tunnel], life_[tunnel], static_cast<uint16_t>(tunnel % 3),
                 nat_.now_s);
  }
  const Profile& profile_of(unsigned tunnel) const { return settings_.profiles[tunnel % 3]; }

  void step() {
    const auto tunnel = static_cast<unsigned>(random_() % kTunnels);
    const auto protocol = static_cast<Protocol>(random_() % kProtocols);
    const Endpoint internal = endpoint(random_() % kEndpoints);
    const auto dice = random_() % 1000;
    if (dice < 900) {
      outbound(tunnel, protocol, internal);
    } else if (dice < 970) {
      inbound();
    } else if (dice < 990) {
      nat_->sweep(nat_.now_s, static_cast<unsigned>(random_() % 400));
    } else if (dice < 999) {
      nat_.now_s += static_cast<uint32_t>(random_() % 10 == 0 ? random_() % 150 : random_() % 3);
    } else {
      detach(tunnel);
      attach(tunnel);
    }
  }

  void outbound(unsigned tunnel, Protocol protocol, const Endpoint& internal) {
    Subscriber& subscriber = subscribers_[tunnel];
    const auto known = entries_.find({life_[tunnel], protocol, internal});
    const bool live = known != entries_.end() && known->second.is_live(nat_.now_s);
    Mapping* mapping = nat_.find(subscriber, protocol, internal);
    ASSERT_EQ(mapping != nullptr, live);
    if (!live) {
      Refusal refusal = Refusal::none;
      mapping = nat_->create_outbound(subscriber, protocol, internal, nat_.now_s, refusal);
      ASSERT_EQ(mapping == nullptr, refusal != Refusal::none);
      if (mapping == nullptr) return check_refusal(tunnel, refusal);
      check_new(tunnel, protocol, internal, *mapping);
      if (testing::Test::HasFatalFailure()) return;
    }
    Entry& entry = entries_[{life_[tunnel], protocol, internal}];
    ASSERT_EQ(mapping->external, entry.external);
    ASSERT_EQ(mapping->internal, internal);
    ASSERT_EQ(mapping->tunnel_slot, life_[tunnel]);
    if (random_() % 2 == 0) use(tunnel, *mapping, entry, protocol);
  }

  // Packets out, and sometimes the answer.
  void use(unsigned tunnel, Mapping& mapping, Entry& entry, Protocol protocol) {
    nat_->on_outbound(mapping, kRemote, kTcpSyn, nat_.now_s);
    entry.last_seen_s = nat_.now_s;
    if (protocol == Protocol::tcp && random_() % 8 == 0) {
      nat_->on_inbound(mapping, kRemote, kTcpSyn | kTcpAck, nat_.now_s);
      entry.timeout_s = profile_of(tunnel).timeouts.tcp_established_s;
    }
  }

  void check_new(unsigned tunnel, Protocol protocol, const Endpoint& internal,
                 const Mapping& mapping) {
    const Endpoint& external = mapping.external;
    ASSERT_TRUE(nat_->is_pool_address(external.address));
    if (is_low(protocol, internal.port)) {
      ASSERT_GE(external.port.host(), settings_.first_low_port);
      ASSERT_LT(external.port.host(), settings_.first_low_port + settings_.low_ports);
    } else {
      ASSERT_GE(external.port.host(), settings_.first_port);
      ASSERT_LE(external.port.host(), settings_.last_port);
    }
    if (profile_of(tunnel).port_parity && protocol != Protocol::icmp) {
      ASSERT_EQ(external.port.host() % 2, internal.port.host() % 2);
    }
    for (const ReservedPort& reserved : settings_.reserved) {
      ASSERT_FALSE(reserved.address == external.address && reserved.port == external.port.host());
    }
    // Nobody else has it, and whoever had it last has let it rest.
    const Key key{life_[tunnel], protocol, internal};
    const auto last = at_place_.find({protocol, external});
    if (last != at_place_.end() && last->second != key) {
      const Entry& other = entries_.at(last->second);
      ASSERT_FALSE(other.is_live(nat_.now_s)) << "no port overloading (RFC 4787 REQ-3)";
      ASSERT_FALSE(other.is_resting(nat_.now_s));
      entries_.erase(last->second);
    }
    const auto known = entries_.find(key);
    if (known != entries_.end()) {
      if (known->second.is_resting(nat_.now_s)) {
        ASSERT_EQ(known->second.external, external) << "a resting port is its own endpoint's";
      }
      at_place_.erase({protocol, known->second.external});
    }
    check_pairing(tunnel, external.address);
    const Timeouts& timeouts = profile_of(tunnel).timeouts;
    const std::array<uint32_t, kProtocols> first{timeouts.udp_s, timeouts.tcp_opening_s,
                                                 timeouts.icmp_s};
    entries_[key] = {external, nat_.now_s, first[static_cast<unsigned>(protocol)],
                     timeouts.port_rest_s, {}};
    at_place_[{protocol, external}] = key;
    ASSERT_LE(subscribers_[tunnel].live_mappings,
              profile_of(tunnel).limits.mappings);
  }

  // RFC 4787 REQ-2: all of a tunnel's live mappings are on one address.
  void check_pairing(unsigned tunnel, Ipv4Address address) {
    const Key from{life_[tunnel], Protocol::udp, Endpoint{}};
    for (auto it = entries_.lower_bound(from); it != entries_.end(); ++it) {
      if (std::get<0>(it->first) != life_[tunnel]) break;
      if (it->second.is_live(nat_.now_s)) {
        ASSERT_EQ(it->second.external.address, address);
      }
    }
  }

  void check_refusal(unsigned tunnel, Refusal refusal) {
    const Subscriber& subscriber = subscribers_[tunnel];
    const Limits& limits = profile_of(tunnel).limits;
    bool has_block = subscriber.low_mappings > 0;
    for (const Subscriber::Block& block : subscriber.blocks) has_block |= block.ports != 0;
    ++refusals_[static_cast<unsigned>(refusal)];
    switch (refusal) {
      case Refusal::mapping_limit:
        ASSERT_EQ(subscriber.live_mappings, limits.mappings);
        break;
      case Refusal::rate_limited:
        ASSERT_EQ(subscriber.tokens, 0u);
        break;
      case Refusal::port_limit:
        ASSERT_TRUE(has_block);
        break;
      case Refusal::pool_exhausted:
        ASSERT_FALSE(has_block);
        break;
      case Refusal::low_ports_full:
        ASSERT_GT(settings_.low_ports, 0);
        break;
      case Refusal::range_away:
        FAIL() << "there is one translator";
      case Refusal::none:
        break;
    }
  }

  // A packet to some port of the range, given out or not.
  void inbound() {
    const bool low = random_() % 8 == 0;
    const uint64_t port = low ? 512 + random_() % 16 : 2000 + random_() % 405;
    const Endpoint external{pool_address(static_cast<uint32_t>(random_() % 2)),
                            Be16::from_host(static_cast<uint16_t>(port))};
    const auto protocol = static_cast<Protocol>(random_() % kProtocols);
    const auto known = at_place_.find({protocol, external});
    const bool live = known != at_place_.end() && entries_.at(known->second).is_live(nat_.now_s);
    Mapping* const mapping = nat_.find_inbound(external, protocol);
    ASSERT_EQ(mapping != nullptr, live);
    if (!live) return;
    ASSERT_EQ(mapping->tunnel_slot, std::get<0>(known->second));
    ASSERT_EQ(mapping->internal, std::get<2>(known->second));
    if (protocol == Protocol::tcp) return;
    nat_->on_inbound(*mapping, kRemote, 0, nat_.now_s);
    if (settings_.profiles[mapping->profile].inbound_refresh) {
      entries_.at(known->second).last_seen_s = nat_.now_s;
    }
  }

  void detach(unsigned tunnel) {
    const Key from{life_[tunnel], Protocol::udp, Endpoint{}};
    for (auto it = entries_.lower_bound(from); it != entries_.end(); ++it) {
      if (std::get<0>(it->first) != life_[tunnel]) break;
      if (it->second.is_live(nat_.now_s)) it->second.detached_s = nat_.now_s;
    }
    nat_->detach(subscribers_[tunnel], nat_.now_s);
    std::memset(static_cast<void*>(&subscribers_[tunnel]), 0, sizeof(Subscriber));
  }

  // After a whole sweep every count is a fact about the model, and the windows add up.
  void check_counts() {
    nat_.sweep_all();
    uint64_t live = 0;
    uint64_t resting = 0;
    std::map<uint32_t, uint32_t> live_of;
    for (auto it = entries_.begin(); it != entries_.end();) {
      const auto& [key, entry] = *it;
      if (entry.is_live(nat_.now_s)) {
        ++live;
        ++live_of[std::get<0>(key)];
      } else if (entry.is_resting(nat_.now_s)) {
        ++resting;
      } else {
        at_place_.erase({std::get<1>(key), entry.external});
        it = entries_.erase(it);
        continue;
      }
      ++it;
    }
    const Nat::Counts& counts = nat_->counts();
    ASSERT_EQ(counts.mappings_live, live);
    ASSERT_EQ(counts.mappings_resting, resting);
    ASSERT_EQ(counts.mappings_created + counts.mappings_revived,
              counts.mappings_live + counts.mappings_expired + counts.mappings_detached);
    for (unsigned t = 0; t < kTunnels; ++t) {
      ASSERT_EQ(subscribers_[t].live_mappings, live_of[life_[t]]);
    }
    check_windows();
  }

  // A second view of the same memory: tags in use and spills, summed over all windows.
  void check_windows() {
    const Table table(settings_.pool, nat_.memory());
    uint64_t used = 0;
    uint64_t spilled = 0;
    for (uint32_t unit = 0; unit < table.total_units(); ++unit) {
      for (unsigned p = 0; p < kProtocols; ++p) {
        spilled += table.window(unit).spilled[p];
        for (const uint8_t tag : table.window(unit).tags[p]) {
          used += tag != kFreeTag && tag != kReservedTag;
        }
      }
    }
    ASSERT_EQ(used, entries_.size());
    ASSERT_EQ(spilled, nat_->counts().spilled);
    spilled_max_ = std::max(spilled_max_, spilled);
  }

  void check_that_all_returns() {
    // The run has been where it should have been: every refusal but none, revivals, spills.
    for (unsigned i = 1; i < refusals_.size(); ++i) {
      if (i == static_cast<unsigned>(Refusal::low_ports_full) && settings_.low_ports == 0) continue;
      if (i == static_cast<unsigned>(Refusal::range_away)) continue;
      EXPECT_GT(refusals_[i], 0u) << "refusal " << i;
    }
    EXPECT_GT(nat_->counts().mappings_revived, 1000u);
    EXPECT_GT(nat_->counts().mappings_expired, 1000u);
    EXPECT_GT(spilled_max_, 20u);
    for (unsigned t = 0; t < kTunnels; ++t) detach(t);
    nat_.now_s += kRestMax_s + 1;
    check_counts();
    EXPECT_EQ(nat_->counts().mappings_live, 0u);
    EXPECT_EQ(nat_->counts().mappings_resting, 0u);
    EXPECT_EQ(nat_->counts().spilled, 0u);
    EXPECT_EQ(nat_->counts().blocks_granted, 0u);
    EXPECT_EQ(nat_->granted_entries(), 0u);
  }

  std::mt19937_64 random_;
  const Settings settings_;
  TestNat nat_;
  std::array<Subscriber, kTunnels> subscribers_;
  std::array<uint32_t, kTunnels> life_{};
  uint32_t next_life_ = 100;
  std::map<Key, Entry> entries_;
  std::map<Place, Key> at_place_;
  std::array<uint64_t, 7> refusals_{};
  uint64_t spilled_max_ = 0;
};

TEST(NatModel, AgreesWithThePlainModelOverRandomOperations) {
  ModelTest(20261124, ModelTest::make_settings()).run();
}

TEST(NatModel, AgreesWithParityAndLowPortsToo) {
  ModelTest(20261125, ModelTest::with_every_option()).run();
}

}  // namespace
}  // namespace adit::nat
