// Subscribers that move between translators which share a table (nat_moving.cpp).
#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr unsigned kSharers = 3;
constexpr unsigned kSlicePorts = 512;  // the largest block has them
constexpr unsigned kSlices = 30;       // that are given out
constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};

Settings shared_settings() {
  // Few enough that blocks stand side by side.
  Settings settings = settings_with_pool(1);
  settings.last_port = static_cast<uint16_t>(settings.first_port + kSlices * kSlicePorts - 1);
  settings.sharers = kSharers;
  for (unsigned unit = 0; unit < kUnitsPerAddress; ++unit) {
    settings.shares.push_back(static_cast<uint8_t>(unit * kWindowPorts / kSlicePorts % kSharers));
  }
  return settings;
}

// Three translators over one table, and what workers do for them: blocks are carried home.
class NatMoving : public testing::Test {
 protected:
  explicit NatMoving(Settings settings = shared_settings()) {
    memory_.resize(Nat::memory_bytes(settings) + 64);
    const auto start = reinterpret_cast<uintptr_t>(memory_.data());
    const std::span<std::byte> aligned(reinterpret_cast<std::byte*>((start + 63) / 64 * 64),
                                       Nat::memory_bytes(settings));
    for (unsigned share = 0; share < kSharers; ++share) {
      settings.share = static_cast<uint8_t>(share);
      nats_[share] = std::make_unique<Nat>(settings, aligned, [this] { return random_(); });
    }
  }
  void move(Subscriber& subscriber, unsigned from, unsigned to) {
    nats_[from]->leave(subscriber);
    nats_[to]->adopt(subscriber);
  }
  void sweep(unsigned share, unsigned entries) {
    nats_[share]->sweep(now_s_, entries);
    bring_home(share);
  }
  void bring_home(unsigned share) {
    const auto block = nats_[share]->homesick();
    if (!block) return;
    EXPECT_FALSE(nats_[share]->is_own(block->unit));
    nats_[share]->send_home(*block);
    const auto home = std::ranges::find_if(nats_, [&](const auto& nat) {
      return nat->is_own(block->unit);
    });
    (*home)->take_back(block->unit);
  }
  Mapping* create(unsigned share, Subscriber& subscriber, const Endpoint& internal) {
    Refusal refusal = Refusal::none;
    return nats_[share]->create_outbound(subscriber, Protocol::udp, internal, now_s_, refusal);
  }
  // All mappings end and rest; what there is goes home.
  void expect_all_returns() {
    now_s_ += 1000;
    for (unsigned i = 0; i < 3 * 200; ++i) sweep(i % kSharers, 100'000);
    const Nat::Counts end = counts();
    EXPECT_EQ(end.mappings_live + end.mappings_resting + end.blocks_granted + end.spilled, 0u);
    for (const auto& nat : nats_) {
      EXPECT_EQ(nat->granted_entries(), 0u);
      EXPECT_FALSE(nat->has_orphans());
    }
  }
  Nat::Counts counts() const {
    Nat::Counts sum;
    for (const auto& nat : nats_) sum += nat->counts();
    return sum;
  }

  std::mt19937_64 random_{7};
  std::vector<std::byte> memory_;
  std::array<std::unique_ptr<Nat>, kSharers> nats_;
  uint32_t now_s_ = 1'000'000;
};

// The next translator's clock is a second behind: no second has passed.
TEST_F(NatMoving, EarnsNoTokensByMovingToAnEarlierClock) {
  Subscriber subscriber;
  nats_[0]->attach(subscriber, 7, 0, now_s_);
  create(0, subscriber, internal_endpoint(0));
  subscriber.tokens = 0;
  move(subscriber, 0, 1);
  --now_s_;
  EXPECT_EQ(create(1, subscriber, internal_endpoint(1)), nullptr);
  ++now_s_;
  EXPECT_EQ(create(1, subscriber, internal_endpoint(1)), nullptr) << "nor by going on in it";
  ++now_s_;
  EXPECT_NE(create(1, subscriber, internal_endpoint(1)), nullptr);
}

TEST_F(NatMoving, TakesEverythingAlongAndLeavesNothing) {
  Subscriber subscriber;
  nats_[0]->attach(subscriber, 7, 0, now_s_);
  std::vector<Endpoint> externals;
  for (uint32_t n = 0; n < 200; ++n) {
    externals.push_back(create(0, subscriber, internal_endpoint(n))->external);
  }
  const Nat::Counts before = nats_[0]->counts();
  ASSERT_GT(before.spilled, 0u);
  move(subscriber, 0, 1);
  const Nat::Counts left = nats_[0]->counts();
  EXPECT_EQ(left.mappings_live + left.mappings_resting + left.blocks_granted + left.spilled, 0u);
  EXPECT_EQ(nats_[0]->granted_entries(), 0u);
  const Nat::Counts after = nats_[1]->counts();
  EXPECT_EQ(after.mappings_live, before.mappings_live);
  EXPECT_EQ(after.blocks_granted, before.blocks_granted);
  EXPECT_EQ(after.spilled, before.spilled);
  for (uint32_t n = 0; n < 200; ++n) {
    Mapping* const mapping =
        nats_[1]->find_outbound(subscriber, Protocol::udp, internal_endpoint(n), now_s_);
    ASSERT_NE(mapping, nullptr);
    EXPECT_EQ(mapping->external, externals[n]);
  }
  EXPECT_EQ(counts().mappings_created, 200u);
}

TEST_F(NatMoving, NextBlockIsTheNewTranslatorsOnTheSameAddress) {
  Subscriber subscriber;
  nats_[0]->attach(subscriber, 7, 0, now_s_);
  create(0, subscriber, internal_endpoint(0));
  move(subscriber, 0, 2);
  for (uint32_t n = 1; subscriber.blocks[1].ports == 0; ++n) {
    create(2, subscriber, internal_endpoint(n));
  }
  EXPECT_TRUE(nats_[0]->is_own(subscriber.blocks[0].first_unit()));
  EXPECT_TRUE(nats_[2]->is_own(subscriber.blocks[1].first_unit()));
  EXPECT_EQ(subscriber.blocks[0].first / kPortsPerAddress,
            subscriber.blocks[1].first / kPortsPerAddress);
}

// Not only when its ports have rested: until then nothing could be granted there.
TEST_F(NatMoving, BlockOfASubscriberThatIsGoneGoesHomeAtOnce) {
  Subscriber subscriber;
  nats_[0]->attach(subscriber, 7, 0, now_s_);
  create(0, subscriber, internal_endpoint(0));
  move(subscriber, 0, 1);
  nats_[1]->sweep(now_s_, 1000);
  EXPECT_FALSE(nats_[1]->homesick());
  nats_[1]->detach(subscriber, now_s_);
  EXPECT_TRUE(nats_[1]->has_orphans());
  sweep(1, 1000);
  EXPECT_FALSE(nats_[1]->has_orphans());
  EXPECT_EQ(nats_[0]->counts().mappings_resting, 1u);
}

// Whoever comes and goes, moves and ages: in the end all is as in the beginning.
TEST_F(NatMoving, EverythingComesHomeWhateverChanceDoes) {
  constexpr unsigned kSubscribers = 40;
  struct Place {
    Subscriber subscriber;
    unsigned at = 0;
  };
  const auto places = std::make_unique<std::array<Place, kSubscribers>>();
  const auto random = [this](unsigned below) { return static_cast<unsigned>(random_() % below); };
  for (unsigned i = 0; i < 60'000; ++i) {
    Place& place = (*places)[random(kSubscribers)];
    Subscriber& subscriber = place.subscriber;
    switch (random(12)) {
      case 0:
        now_s_ += random(20);
        break;
      case 1:
        if (subscriber.attached) {
          nats_[place.at]->detach(subscriber, now_s_);
        } else if (!nats_[place.at]->has_orphans()) {
          place.at = random(kSharers);
        }
        break;
      case 2:
      case 3:
        if (subscriber.attached) {
          const unsigned to = (place.at + 1 + random(kSharers - 1)) % kSharers;
          move(subscriber, place.at, to);
          place.at = to;
        }
        break;
      case 4:
      case 5:
      case 6:
        sweep(random(kSharers), 1 + random(2000));
        break;
      default:
        if (!subscriber.attached) nats_[place.at]->attach(subscriber, 7, 0, now_s_);
        for (unsigned j = 0; j <= random(40); ++j) {
          const Endpoint internal = internal_endpoint(random(300));
          Mapping* mapping =
              nats_[place.at]->find_outbound(subscriber, Protocol::udp, internal, now_s_);
          if (mapping == nullptr) mapping = create(place.at, subscriber, internal);
          if (mapping == nullptr) continue;
          ASSERT_EQ(mapping->internal, internal);
          nats_[place.at]->on_outbound(*mapping, kRemote, 0, now_s_);
        }
    }
    std::array<uint64_t, kSharers> live{};
    for (const Place& each : *places) live[each.at] += each.subscriber.live_mappings;
    for (unsigned share = 0; share < kSharers; ++share) {
      const Nat::Counts& its = nats_[share]->counts();
      ASSERT_EQ(its.mappings_live, live[share]) << "step " << i;
      ASSERT_LE(its.mappings_live + its.mappings_resting, nats_[share]->granted_entries());
    }
  }
  EXPECT_GT(counts().blocks_granted, 10u);
  for (Place& place : *places) {
    if (place.subscriber.attached) nats_[place.at]->detach(place.subscriber, now_s_);
  }
  expect_all_returns();
  // And every port can be granted once more.
  for (unsigned share = 0; share < kSharers; ++share) {
    std::vector<std::unique_ptr<Subscriber>> all;
    uint64_t ports = 0;
    for (unsigned i = 0; i < 2000; ++i) {
      all.push_back(std::make_unique<Subscriber>());
      nats_[share]->attach(*all.back(), i, 0, now_s_);
      if (create(share, *all.back(), internal_endpoint(i)) == nullptr) break;
      ports += 64;
    }
    EXPECT_EQ(ports, kSlices / kSharers * kSlicePorts) << share;
  }
}

// ---- Deterministic ranges ----

constexpr uint16_t kRangePorts = 128;

class NatMovingRanges : public NatMoving {
 protected:
  NatMovingRanges() : NatMoving(range_settings()) {}
  static Settings range_settings() {
    Settings settings = shared_settings();
    settings.deterministic_ports = kRangePorts;
    return settings;
  }
  static DeterministicRanges ranges() {
    const Settings settings = range_settings();
    return {1, settings.first_port, settings.last_port, kRangePorts};
  }
  // Whose range's windows are, so that its tunnels open there.
  unsigned home_of(uint32_t ordinal) const {
    const uint32_t unit = ranges().range_of(ordinal)->first_port / kWindowPorts;
    for (unsigned share = 0; share < kSharers; ++share) {
      if (nats_[share]->is_own(unit)) return share;
    }
    return kSharers;
  }
  void attach(Subscriber& subscriber, uint32_t ordinal) {
    nats_[home_of(ordinal)]->attach(subscriber, 100 + ordinal, 0, now_s_, ordinal);
  }
  static bool is_in_range(const Mapping& mapping, uint32_t ordinal) {
    return ranges().ordinal_of(0, mapping.external.port.host()) == ordinal;
  }
};

TEST_F(NatMovingRanges, AreTheirSubscribersUntilItIsDetached) {
  constexpr uint32_t kOrdinal = 3;
  const unsigned home = home_of(kOrdinal);
  const unsigned to = (home + 1) % kSharers;
  Subscriber subscriber;
  attach(subscriber, kOrdinal);
  ASSERT_TRUE(nats_[home]->has_range(subscriber));
  move(subscriber, home, to);
  EXPECT_EQ(nats_[to]->counts().blocks_granted, 1u) << "which has not been used yet";
  EXPECT_TRUE(is_in_range(*create(to, subscriber, internal_endpoint(0)), kOrdinal));
  now_s_ += 1000;
  for (unsigned i = 0; i < 3; ++i) sweep(to, 100'000);
  EXPECT_EQ(nats_[to]->counts().mappings_live + nats_[to]->counts().mappings_resting, 0u);
  EXPECT_EQ(nats_[to]->counts().blocks_granted, 1u);
  EXPECT_TRUE(is_in_range(*create(to, subscriber, internal_endpoint(1)), kOrdinal));
  nats_[to]->detach(subscriber, now_s_);
  bring_home(to);
  EXPECT_FALSE(nats_[to]->has_orphans());
  EXPECT_EQ(nats_[home]->counts().blocks_granted, 1u);
  EXPECT_EQ(nats_[home]->counts().mappings_resting, 1u);
}

TEST_F(NatMovingRanges, ThatAreAwayAreRefusedByName) {
  constexpr uint32_t kOrdinal = 3;
  const unsigned home = home_of(kOrdinal);
  const unsigned to = (home + 2) % kSharers;
  Subscriber first;
  attach(first, kOrdinal);
  const Endpoint external = create(home, first, internal_endpoint(0))->external;
  move(first, home, to);
  Subscriber next;
  attach(next, kOrdinal);
  Refusal refusal = Refusal::none;
  const auto refused_at = [&](unsigned share, Subscriber& subscriber) {
    EXPECT_EQ(nats_[share]->create_outbound(subscriber, Protocol::udp, internal_endpoint(0), now_s_,
                                            refusal),
              nullptr);
    return refusal;
  };
  EXPECT_EQ(refused_at(home, next), Refusal::range_away);
  EXPECT_FALSE(nats_[home]->has_range(next));
  Hold wish;
  wish.internal = internal_endpoint(0);
  wish.lifetime_s = 100;
  HoldRefusal no_hold;
  EXPECT_EQ(nats_[home]->hold(next, wish, now_s_, no_hold), nullptr);
  EXPECT_EQ(no_hold.no_mapping, Refusal::range_away);
  nats_[to]->detach(first, now_s_);
  EXPECT_EQ(refused_at(home, next), Refusal::range_away) << "it is on its way";
  bring_home(to);
  EXPECT_TRUE(nats_[home]->has_range(next));
  EXPECT_EQ(create(home, next, internal_endpoint(0))->external, external) << "where it rested";
  EXPECT_EQ(counts().mappings_revived, 1u);
}

// Nobody is kept from moving who has no range at all.
TEST_F(NatMovingRanges, OneSubscriberTooManyMovesAsItIs) {
  Subscriber subscriber;
  nats_[1]->attach(subscriber, 7, 0, now_s_, static_cast<uint32_t>(ranges().count()));
  ASSERT_TRUE(nats_[1]->has_range(subscriber));
  move(subscriber, 1, 2);
  Refusal refusal = Refusal::none;
  EXPECT_EQ(nats_[2]->create_outbound(subscriber, Protocol::udp, internal_endpoint(0), now_s_,
                                      refusal),
            nullptr);
  EXPECT_EQ(refusal, Refusal::pool_exhausted);
}

// Whoever comes and goes, moves and ages: a subscriber's ports are its range's, its own endpoint
// gets a resting one back, and it waits for its range only while that is on its way.
TEST_F(NatMovingRanges, ComeHomeWhateverChanceDoes) {
  constexpr unsigned kSubscribers = 12;
  struct Place {
    Subscriber subscriber;
    unsigned at = 0;
    bool is_on_its_way = false;  // its range, as far as has been seen
    std::map<Endpoint, Endpoint> external;
  };
  const auto places = std::make_unique<std::array<Place, kSubscribers>>();
  const auto random = [this](unsigned below) { return static_cast<unsigned>(random_() % below); };
  unsigned waits = 0;
  for (unsigned i = 0; i < 60'000; ++i) {
    const uint32_t ordinal = random(kSubscribers);
    Place& place = (*places)[ordinal];
    Subscriber& subscriber = place.subscriber;
    switch (random(12)) {
      case 0:
        now_s_ += random(20);
        break;
      case 1:
        if (subscriber.attached) {
          nats_[place.at]->detach(subscriber, now_s_);
          if (place.at != home_of(ordinal)) place.is_on_its_way = true;
          if (random(2) == 0) bring_home(place.at);  // else the sweep does
        }
        break;
      case 2:
      case 3:
        if (subscriber.attached && nats_[place.at]->has_range(subscriber)) {
          const unsigned to = (place.at + 1 + random(kSharers - 1)) % kSharers;
          move(subscriber, place.at, to);
          place.at = to;
        }
        break;
      case 4:
      case 5:
      case 6:
        sweep(random(kSharers), 1 + random(2000));
        break;
      default:
        if (!subscriber.attached) {
          place.at = home_of(ordinal);
          attach(subscriber, ordinal);
        }
        for (unsigned j = 0; j <= random(40); ++j) {
          const Endpoint internal = internal_endpoint(random(60));
          Refusal refusal = Refusal::none;
          Mapping* const mapping = nats_[place.at]->create_outbound(subscriber, Protocol::udp,
                                                                    internal, now_s_, refusal);
          if (mapping == nullptr) {
            ASSERT_EQ(refusal, Refusal::range_away);
            ASSERT_TRUE(place.is_on_its_way && place.at == home_of(ordinal));
            ++waits;
            continue;
          }
          if (place.at == home_of(ordinal)) place.is_on_its_way = false;
          ASSERT_TRUE(is_in_range(*mapping, ordinal));
          ASSERT_EQ(mapping->internal, internal);
          const auto [known, is_new] = place.external.emplace(internal, mapping->external);
          const bool was_its = mapping->created_s != now_s_;
          if (was_its && !is_new) {
            ASSERT_EQ(known->second, mapping->external);
          }
          known->second = mapping->external;
          nats_[place.at]->on_outbound(*mapping, kRemote, 0, now_s_);
        }
    }
    std::array<uint64_t, kSharers> live{};
    for (const Place& each : *places) live[each.at] += each.subscriber.live_mappings;
    for (unsigned share = 0; share < kSharers; ++share) {
      ASSERT_EQ(nats_[share]->counts().mappings_live, live[share]) << "step " << i;
    }
  }
  EXPECT_GT(waits, 0u);
  for (Place& place : *places) {
    if (place.subscriber.attached) nats_[place.at]->detach(place.subscriber, now_s_);
  }
  expect_all_returns();
  for (uint32_t ordinal = 0; ordinal < kSubscribers; ++ordinal) {
    Subscriber again;
    attach(again, ordinal);
    EXPECT_TRUE(nats_[home_of(ordinal)]->has_range(again));
  }
}

}  // namespace
}  // namespace adit::nat
