// One port for both sides: the rules that take tunnel packets out, and whom they bring them to. A
// card in software applies them; what a port does with a device that refuses them,
// steering_test.cpp has.
#include "gateway/flow_rules.h"

#include <algorithm>
#include <bit>
#include <random>
#include <tuple>

#include "tests/eal/rig.h"
#include "tests/support/fragments.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::NicModel;
using adit::test::payload_bytes;
using adit::test::pieces_of;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr unsigned kClients = 100'000;
constexpr uint16_t kVlan = 100;

// The rules that `workers` have of a kind.
std::vector<FlowRule> rules_of(CardRules kind, unsigned workers, uint16_t vlan = 0) {
  return kind == CardRules::hash ? hash_rules(kTunnelEndpoint, vlan, workers, 40)
                                 : source_port_rules(kTunnelEndpoint, vlan, workers);
}

NicModel nic_of(CardRules kind, unsigned workers, uint16_t vlan = 0) {
  const auto plan = plan_steering(workers, 512, 128, std::nullopt);
  return NicModel::by_rules(plan.value(), 128, rules_of(kind, workers, vlan));
}

Bytes tunnel_frame(const Endpoint& from, uint16_t vlan = 0) {
  return frame_of(udp_packet(from, kTunnelEndpoint, payload_bytes(20)), kEtherTypeIpv4, vlan);
}

Endpoint random_endpoint(std::mt19937_64& random) {
  const auto bits = random();
  return {Ipv4Address::from_host(0x14000000 | (bits & 0xffffff)),
          Be16::from_host(static_cast<uint16_t>(bits >> 40))};
}

class FlowRules : public testing::TestWithParam<std::tuple<CardRules, unsigned>> {
 protected:
  const CardRules kind_ = std::get<0>(GetParam());
  const unsigned workers_ = std::get<1>(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Cards, FlowRules,
                         testing::Combine(testing::Values(CardRules::hash, CardRules::source_port),
                                          testing::Values(2u, 3u, 4u, 5u, 8u, 63u)));

TEST_P(FlowRules, EveryWorkerGetsAboutTheSameShareOfTheClients) {
  const NicModel nic = nic_of(kind_, workers_);
  std::mt19937_64 random(3);
  std::vector<unsigned> clients(workers_);
  for (unsigned i = 0; i < kClients; ++i) {
    const Bytes frame = tunnel_frame(random_endpoint(random));
    ASSERT_NE(nic.rule_for(frame), nullptr);
    ++clients[nic.queue_of(frame)];
  }
  const auto [least, most] = std::ranges::minmax(clients);
  EXPECT_GT(least, kClients / workers_ * 3 / 4);
  EXPECT_LT(most, kClients / workers_ * 4 / 3);
}

TEST_P(FlowRules, AreForWholeTunnelPacketsAndNothingElse) {
  const NicModel nic = nic_of(kind_, workers_, kVlan);
  const auto has_rule = [&](const Bytes& packet, uint16_t vlan = kVlan) {
    return nic.rule_for(frame_of(packet, kEtherTypeIpv4, vlan)) != nullptr;
  };
  const Bytes bytes = payload_bytes(64);
  const Endpoint elsewhere{kPublic, kTunnelEndpoint.port};
  const Endpoint other_port{kGateway, Be16::from_host(8001)};
  EXPECT_TRUE(has_rule(udp_packet(kClientOuter, kTunnelEndpoint, bytes)));
  EXPECT_FALSE(has_rule(udp_packet(kClientOuter, kTunnelEndpoint, bytes), 0));
  EXPECT_FALSE(has_rule(udp_packet(kClientOuter, kTunnelEndpoint, bytes), kVlan + 1));
  EXPECT_FALSE(has_rule(udp_packet(kClientOuter, elsewhere, bytes)));
  EXPECT_FALSE(has_rule(udp_packet(kClientOuter, other_port, bytes)));
  EXPECT_FALSE(has_rule(udp_packet(kTunnelEndpoint, kClientOuter, bytes)));
  EXPECT_FALSE(has_rule(tcp_packet(kClientOuter, kTunnelEndpoint, bytes)));
  EXPECT_FALSE(has_rule(icmp_packet(kServer, kGateway, 3, 3, 0, bytes)));
  EXPECT_FALSE(
      has_rule(udp_packet(kClientOuter, kTunnelEndpoint, bytes, {.fragment = kIpMoreFragments})));
}

TEST(FlowRulesBySourcePort, EachPortMeetsOneOfThem) {
  for (const unsigned workers : {2u, 3u, 4u, 7u, 16u, 63u, 64u}) {
    const std::vector<FlowRule> rules = source_port_rules(kTunnelEndpoint, 0, workers);
    std::vector<unsigned> rules_of_queue(workers);
    for (const FlowRule& rule : rules) ++rules_of_queue.at(rule.queues.at(0));
    const auto [least, most] = std::ranges::minmax(rules_of_queue);
    EXPECT_LE(most * 4, least * 5) << workers << " workers";
    if (std::has_single_bit(workers)) {
      EXPECT_EQ(rules.size(), workers);
    }
    for (unsigned port = 0; port < 65'536; ++port) {
      ASSERT_EQ(std::ranges::count_if(rules,
                                      [&](const FlowRule& rule) {
                                        return (port & rule.source_port_mask) == rule.source_port;
                                      }),
                1);
    }
  }
}

// ---- The gateway behind such a card ----

struct Card {
  CardRules rules;
  unsigned workers;
  uint16_t vlan;
};

std::string card_name(const testing::TestParamInfo<Card>& info) {
  const char* const kinds[] = {"NoRules", "Hash", "SourcePort"};
  return std::string(kinds[static_cast<unsigned>(info.param.rules)]) +
         std::to_string(info.param.workers) + (info.param.vlan != 0 ? "Vlan" : "");
}

class OnePort : public Rig, public testing::WithParamInterface<Card> {
 protected:
  OnePort()
      : Rig({.vlan = GetParam().vlan,
             .workers = GetParam().workers,
             .card_rules = GetParam().rules}) {}

  // A tunnel whose first handshake the card has brought to its worker.
  FarEnd tunnel_of(uint32_t slot, Protection protection) {
    FarEnd far = open_tunnel(slot, protection);
    do {
      far.outer = random_endpoint(random_);
    } while (queue_of(0, udp_packet(far.outer, kTunnelEndpoint, payload_bytes(20))) !=
             tunnels_->home(slot));
    receive_from(far, far.seal({}));  // a heartbeat: it is there now
    sent_frames(0);
    return far;
  }
  // Packets of so many flows of each worker's, to and fro; how many packets were handed over.
  uint64_t handed_over_of(unsigned flows) {
    uint64_t sum = 0;
    for (uint32_t slot = 1; slot <= 2 * GetParam().workers; ++slot) {
      const bool is_plain = slot <= GetParam().workers;
      FarEnd far = tunnel_of(slot, is_plain ? Protection::plain : Protection::aes_256_gcm);
      const uint64_t before = counters_.handed_over;
      for (unsigned i = 0; i < flows; ++i) {
        const Endpoint internal{Ipv4Address::from_host(kInner.host() - 1 + slot),
                                Be16::from_host(static_cast<uint16_t>(2000 + i))};
        const Bytes inner = udp_packet(internal, kService, payload_bytes(24));
        receive_from(far, is_plain ? far.plain(inner) : far.seal(inner));
        const Bytes out = sent_one(0);
        const Endpoint external{external_address(),
                                Be16::from_host(static_cast<uint16_t>(out[20] << 8 | out[21]))};
        EXPECT_EQ(out, udp_packet(external, kService, payload_bytes(24), {.ttl = 63}));
        receive(0, udp_packet(kService, external, payload_bytes(24, 2)));
        EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
                  udp_packet(kService, internal, payload_bytes(24, 2), {.ttl = 63}));
      }
      sum += counters_.handed_over - before;
    }
    return sum;
  }

  std::mt19937_64 random_{7};
};

INSTANTIATE_TEST_SUITE_P(Cards, OnePort,
                         testing::Values(Card{CardRules::hash, 2, 0}, Card{CardRules::hash, 3, 0},
                                         Card{CardRules::hash, 4, 0}, Card{CardRules::hash, 3, kVlan},
                                         Card{CardRules::source_port, 2, 0},
                                         Card{CardRules::source_port, 3, 0},
                                         Card{CardRules::source_port, 4, 0},
                                         Card{CardRules::source_port, 3, kVlan}),
                         card_name);

TEST_P(OnePort, NothingIsHandedOverWithRules) {
  EXPECT_EQ(handed_over_of(50), 0u);
}

// What no rule is for: it finds its worker by being handed over.
TEST_P(OnePort, FragmentOfATunnelPacketArrivesAllTheSame) {
  for (uint32_t slot = 1; slot <= GetParam().workers; ++slot) {
    FarEnd far = tunnel_of(slot, Protection::aes_256_gcm);
    const Endpoint internal{Ipv4Address::from_host(kInner.host() - 1 + slot), kApplication.port};
    const Bytes inner = udp_packet(internal, kService, payload_bytes(400));
    const Bytes whole =
        udp_packet(far.outer, kTunnelEndpoint, far.seal(inner), {.id = 9, .fragment = 0});
    for (const Bytes& piece : pieces_of(whole, 200)) receive(0, piece);
    EXPECT_EQ(sent_one(0).size(), inner.size());
  }
}

using OnePortWithoutRules = OnePort;
INSTANTIATE_TEST_SUITE_P(Cards, OnePortWithoutRules, testing::Values(Card{CardRules::none, 3, 0}),
                         card_name);

// Two replies in three come to a worker that is not theirs.
TEST_P(OnePortWithoutRules, RepliesAreHandedOver) {
  const uint64_t handed_over = handed_over_of(50);
  EXPECT_GT(handed_over, 6 * 50 / 3u);
  EXPECT_LT(handed_over, 6 * 50u);
}

}  // namespace
}  // namespace adit::gateway::test
