// The clock hand: that it meets whatever is over, within a round, and passes over what is not.
#include <array>
#include <set>
#include <vector>

#include "lib/nat/table.h"
#include "tests/unit/nat/nat_fixture.h"

namespace adit::nat {
namespace {

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
constexpr Endpoint kResolver{Ipv4Address::from_octets(40, 1, 1, 11), Be16::from_host(53)};
constexpr unsigned kTunnels = 20;

// Timers of every kind, all different, and every kind of block.
Settings lively_settings() {
  Settings settings = settings_with_pool(2);
  settings.first_block_ports = 16;
  settings.first_low_port = 512;
  settings.low_ports = 32;
  Profile& profile = settings.profiles[0];
  profile.timeouts = {.udp_s = 90, .tcp_established_s = 500, .tcp_opening_s = 40,
                      .tcp_closing_s = 25, .icmp_s = 30, .dns_s = 10, .port_rest_s = 15};
  settings.profiles.push_back(profile);
  settings.profiles[1].inbound_refresh = false;
  settings.profiles[1].timeouts.tcp_closing_s = 60;
  settings.profiles[1].timeouts.port_rest_s = 0;
  return settings;
}

class AgeingTest {
 public:
  explicit AgeingTest(uint64_t seed) : random_(seed), nat_(lively_settings(), seed) {
    for (unsigned t = 0; t < kTunnels; ++t) attach(t);
  }

  // A second after the other, in which something happens, and then the hand goes round.
  void run(unsigned seconds) {
    for (unsigned i = 0; i < seconds && !testing::Test::HasFatalFailure(); ++i) {
      ++nat_.now_s;
      for (unsigned n = below(12); n > 0; --n) act();
      nat_.sweep_all();
      check_that_nothing_is_over();
    }
    EXPECT_GT(nat_->counts().mappings_expired, seconds / 2);
  }

 private:
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  void attach(unsigned t) {
    nat_->attach(subscribers_[t], t, static_cast<uint16_t>(t % 2), nat_.now_s);
  }

  void act() {
    const unsigned t = below(kTunnels);
    Subscriber& subscriber = subscribers_[t];
    const auto protocol = static_cast<Protocol>(below(kProtocols));
    Endpoint internal = internal_endpoint(below(30));
    if (below(8) == 0) internal.port = Be16::from_host(static_cast<uint16_t>(600 + below(4)));
    Mapping* mapping = nat_.find(subscriber, protocol, internal);
    if (mapping == nullptr && below(3) == 0) {
      Refusal refusal = Refusal::none;
      mapping = nat_->create_outbound(subscriber, protocol, internal, nat_.now_s, refusal);
    }
    if (mapping == nullptr) return;
    constexpr std::array<uint8_t, 6> kFlags{kTcpAck, kTcpSyn, kTcpSyn | kTcpAck,
                                            kTcpFin | kTcpAck, kTcpRst, kTcpAck};
    const uint8_t flags = kFlags[below(kFlags.size())];
    Hold wish{.protocol = protocol, .internal = internal, .wanted = {}, .is_open = below(2) == 0,
              .lifetime_s = below(200), .nonce = {}};
    HoldRefusal refusal;
    switch (below(16)) {
      case 0:
        nat_->hold(subscriber, wish, nat_.now_s, refusal);
        break;
      case 1:
        EXPECT_TRUE(nat_->let_go(subscriber, protocol, internal, {}, nat_.now_s));
        break;
      case 2:
        nat_->detach(subscriber, nat_.now_s);
        attach(t);
        break;
      case 3:
      case 4:
      case 5:
      case 6:
        nat_->on_inbound(*mapping, kRemote, flags, nat_.now_s);
        break;
      default:
        nat_->on_outbound(*mapping, below(4) == 0 ? kResolver : kRemote, flags, nat_.now_s);
    }
  }

  // Every entry of the table, by lookups that would move it on.
  void check_that_nothing_is_over() {
    const Settings settings = lively_settings();
    Table table(settings.pool, nat_.memory());
    const Nat::Counts before = nat_->counts();
    uint64_t used = 0;
    for (uint32_t unit = 0; unit < table.total_units(); ++unit) {
      table.visit(unit, 1, [&](Mapping& mapping) {
        if (mapping.state == MappingState::reserved) return;
        ++used;
        const auto protocol = static_cast<Protocol>(mapping.protocol);
        if (mapping.is_live()) {
          ASSERT_NE(nat_.find_inbound(mapping.external, protocol), nullptr)
              << "protocol " << unsigned{mapping.protocol} << ", state "
              << static_cast<int>(mapping.tcp_state) << ", unused for "
              << nat_.now_s - mapping.last_seen_s << " s";
        } else {
          ASSERT_LE(nat_.now_s - mapping.last_seen_s,
                    settings.profiles[mapping.profile].timeouts.port_rest_s);
        }
      });
    }
    ASSERT_EQ(before.mappings_live + before.mappings_resting, used);
    ASSERT_EQ(before.blocks_granted == 0, used == 0);
  }

  std::mt19937_64 random_;
  TestNat nat_;
  std::array<Subscriber, kTunnels> subscribers_;
};

TEST(NatAgeing, MeetsWhateverIsOverInTheRoundAfterIt) {
  AgeingTest(1).run(6000);
}

TEST(NatAgeing, ReturnsABlockInWhichNoMappingWasMade) {
  Settings settings = settings_with_pool(1);
  settings.deterministic_ports = 64;
  settings.profiles[0].limits.mappings = 0;
  TestNat nat(settings);
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  EXPECT_EQ(nat.refusal_of(subscriber, Protocol::udp, internal_endpoint(1)),
            Refusal::mapping_limit);
  EXPECT_EQ(nat->counts().blocks_granted, 1u);
  nat.sweep_all();
  EXPECT_EQ(nat->counts().blocks_granted, 0u);
}

// What the hand may cost: the mappings of a block are left alone until one of them can be over.
TEST(NatAgeing, PassesOverBlocksInWhichNothingCanBeOver) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const mapping = nat.create(subscriber, Protocol::udp, internal_endpoint(1));
  nat.now_s += 200;
  nat->on_outbound(*mapping, kRemote, 0, nat.now_s);
  nat.sweep_all();  // has seen when it was used
  nat.now_s += 300;
  // Were it looked at, it would be seen to be over.
  const uint32_t last_seen_s = std::exchange(mapping->last_seen_s, nat.now_s - 301);
  nat.sweep_all();
  EXPECT_TRUE(mapping->is_live());
  mapping->last_seen_s = last_seen_s;
  ++nat.now_s;
  nat.sweep_all();
  EXPECT_FALSE(mapping->is_live());
}

// What the hand knows of a block when it has looked into it is how it stands then. These bring an
// end nearer.
class NatAgeingSooner : public testing::Test {
 protected:
  NatAgeingSooner() : nat_(settings()) {
    nat_->attach(subscriber_, 7, 0, nat_.now_s);
    mapping_ = nat_.create(subscriber_, Protocol::tcp, internal_endpoint(1));
    nat_->on_outbound(*mapping_, kRemote, kTcpSyn, nat_.now_s);
    nat_->on_inbound(*mapping_, kRemote, kTcpSyn | kTcpAck, nat_.now_s);
  }
  static Settings settings() {
    Settings settings = settings_with_pool(1);
    settings.profiles[0].inbound_refresh = false;
    return settings;
  }
  void pass_s(uint32_t seconds) {
    nat_.now_s += seconds;
    nat_.sweep_all();
  }

  TestNat nat_;
  Subscriber subscriber_;
  Mapping* mapping_ = nullptr;
};

TEST_F(NatAgeingSooner, AConnectionThatCloses) {
  pass_s(100);
  nat_->on_inbound(*mapping_, kRemote, kTcpFin | kTcpAck, nat_.now_s);
  nat_->on_outbound(*mapping_, kRemote, kTcpFin | kTcpAck, nat_.now_s);
  pass_s(240);
  EXPECT_TRUE(mapping_->is_live());
  pass_s(1);
  EXPECT_FALSE(mapping_->is_live());
}

TEST_F(NatAgeingSooner, AResetThatIsNoUse) {
  pass_s(1000);
  nat_->on_inbound(*mapping_, kRemote, kTcpRst, nat_.now_s);
  pass_s(0);
  EXPECT_FALSE(mapping_->is_live());
}

TEST_F(NatAgeingSooner, AHoldThatIsMadeShorter) {
  const Endpoint internal = internal_endpoint(2);
  Hold wish{.protocol = Protocol::udp, .internal = internal, .wanted = {}, .is_open = true,
            .lifetime_s = 5000, .nonce = {}};
  HoldRefusal refusal;
  Mapping* const held = nat_->hold(subscriber_, wish, nat_.now_s, refusal);
  ASSERT_NE(held, nullptr);
  nat_->detach(subscriber_, nat_.now_s);  // the other one, of TCP, has to be looked at sooner
  nat_->attach(subscriber_, 7, 0, nat_.now_s);
  pass_s(121);
  Mapping* const again = nat_->hold(subscriber_, wish, nat_.now_s, refusal);
  ASSERT_NE(again, nullptr);
  pass_s(1000);
  wish.lifetime_s = 10;
  ASSERT_EQ(nat_->hold(subscriber_, wish, nat_.now_s, refusal), again);
  pass_s(10);
  EXPECT_TRUE(again->is_live());
  pass_s(1);
  EXPECT_FALSE(again->is_live());
}

TEST_F(NatAgeingSooner, ATunnelThatGoes) {
  pass_s(100);
  nat_->detach(subscriber_, nat_.now_s);
  pass_s(120);
  EXPECT_EQ(nat_->counts().blocks_granted, 1u);
  pass_s(1);
  EXPECT_EQ(nat_->counts().blocks_granted, 0u);
}

TEST(NatAgeing, LooksIntoAnEstablishedConnectionNoMoreOftenThanItsShortestTimerRuns) {
  TestNat nat(settings_with_pool(1));
  Subscriber subscriber;
  nat->attach(subscriber, 7, 0, nat.now_s);
  Mapping* const mapping = nat.create(subscriber, Protocol::tcp, internal_endpoint(1));
  nat->on_outbound(*mapping, kRemote, kTcpSyn, nat.now_s);
  nat->on_inbound(*mapping, kRemote, kTcpSyn | kTcpAck, nat.now_s);
  const uint32_t last_seen_s = mapping->last_seen_s;
  unsigned looks = 0;
  for (unsigned i = 0; i < 7440; ++i) {
    ++nat.now_s;
    mapping->last_seen_s = nat.now_s - 7441;
    nat->sweep(nat.now_s, 1000);
    if (mapping->is_live()) continue;
    ++looks;
    mapping->last_seen_s = last_seen_s;
    ASSERT_EQ(nat.create(subscriber, Protocol::tcp, internal_endpoint(1)), mapping);
    nat->on_outbound(*mapping, kRemote, kTcpSyn, nat.now_s);
    nat->on_inbound(*mapping, kRemote, kTcpSyn | kTcpAck, nat.now_s);
  }
  EXPECT_GT(looks, 20u);
  EXPECT_LT(looks, 100u);
}

// The hand goes over no more than it is asked to, wherever it stands, and over all in a round.
TEST(NatAgeing, GoesRoundInAsManySweepsAsItsStepsAre) {
  TestNat nat(settings_with_pool(1));
  std::vector<Subscriber> subscribers(100);
  uint32_t n = 0;
  for (Subscriber& subscriber : subscribers) {
    nat->attach(subscriber, n, 0, nat.now_s);
    nat.create(subscriber, Protocol::udp, internal_endpoint(n++));
  }
  nat.sweep_all();
  nat.now_s += 301;
  EXPECT_EQ(nat->sweep(nat.now_s, UINT32_MAX, 0), 0u);
  for (unsigned i = 0; i < 10; ++i) EXPECT_EQ(nat->sweep(nat.now_s, UINT32_MAX, 10), 10u);
  EXPECT_EQ(nat->counts().mappings_live, 0u);
}

// A block that returns leaves a gap, which another one fills: that one is not forgotten.
TEST(NatAgeing, MissesNoBlockWhileOthersReturn) {
  Settings settings = settings_with_pool(2);
  settings.first_block_ports = 16;
  for (unsigned step = 1; step < 40; ++step) {
    TestNat nat(settings, step);
    std::vector<Subscriber> subscribers(200);
    uint32_t n = 0;
    for (Subscriber& subscriber : subscribers) {
      nat->attach(subscriber, n, 0, nat.now_s);
      Mapping* const mapping = nat.create(subscriber, Protocol::udp, internal_endpoint(n++));
      // Some begin their rest so that they return at once, others when they are looked at again.
      if (n % 3 == 0) mapping->last_seen_s -= 301 + 121;
    }
    const uint32_t rounds = 200 / step + 1;
    for (unsigned i = 0; i < rounds; ++i) nat->sweep(nat.now_s, UINT32_MAX, step);
    EXPECT_EQ(nat->counts().blocks_granted, 134u) << "step " << step;
    nat.now_s += 301 + 121;
    for (unsigned i = 0; i < rounds; ++i) nat->sweep(nat.now_s, UINT32_MAX, step);
    EXPECT_EQ(nat->counts().blocks_granted, 0u) << "step " << step;
  }
}

}  // namespace
}  // namespace adit::nat
