// Replies come back to the worker that has their port: computed with DPDK's own Toeplitz hash.
#include "gateway/steering.h"

#include <gtest/gtest.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_thash.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "gateway/port.h"
#include "tests/support/flow_card.h"
#include "tests/support/nic_model.h"
#include "tests/support/packets.h"
#include "tests/support/rss_card.h"

namespace adit::gateway {
namespace {

constexpr unsigned kTuples = 200'000;

TEST(Steering, EveryReplyReachesItsWorkerWhateverTheTableSize) {
  std::mt19937_64 random(7);
  for (const unsigned entries : {64u, 128u, 256u, 512u, 1024u, 2048u}) {
    for (const auto& [workers, block_ports] : {std::pair{2u, 512u}, {3u, 512u}, {8u, 16u}}) {
      const auto plan = plan_steering(workers, block_ports, entries, std::nullopt);
      ASSERT_TRUE(plan);
      EXPECT_EQ(plan->slices, std::min(entries, 65536 / block_ports));
      std::vector<uint8_t> key = port_steering_key(40);
      const std::vector<uint16_t> queues = port_redirection(*plan, entries);
      unsigned wrong = 0;
      for (unsigned i = 0; i < kTuples; ++i) {
        uint32_t tuple[3] = {static_cast<uint32_t>(random()), static_cast<uint32_t>(random()),
                             static_cast<uint32_t>(random())};
        const unsigned port = tuple[2] & 0xffff;
        const uint32_t hash = rte_softrss(tuple, 3, key.data());
        wrong += queues[hash & (entries - 1)] != plan->shares[port / nat::kWindowPorts];
      }
      EXPECT_EQ(wrong, 0u) << entries << " entries, " << workers << " workers";
    }
  }
}

TEST(Steering, HashIsThePortReversed) {
  std::vector<uint8_t> key = port_steering_key(52);
  for (uint32_t port = 0; port < 65536; ++port) {
    uint32_t tuple[3] = {0x28010a0a, 0x1e01010a, 6600u << 16 | port};
    uint32_t reversed = 0;
    for (unsigned bit = 0; bit < 16; ++bit) reversed |= (port >> bit & 1) << (15 - bit);
    ASSERT_EQ(rte_softrss(tuple, 3, key.data()), reversed);
  }
}

TEST(Steering, EveryWorkerHasAlmostTheSameShareAndBlocksLieInOne) {
  for (const unsigned workers : {2u, 3u, 5u, 16u}) {
    const auto plan = plan_steering(workers, 512, 128, std::nullopt);
    ASSERT_TRUE(plan);
    std::vector<unsigned> windows(workers);
    for (unsigned unit = 0; unit < nat::kUnitsPerAddress; ++unit) {
      ++windows[plan->shares[unit]];
      EXPECT_EQ(plan->shares[unit], plan->shares[unit / 32 * 32]);  // 512 ports are 32 windows
    }
    const auto [least, most] = std::ranges::minmax(windows);
    EXPECT_LE(most - least, nat::kUnitsPerAddress / plan->slices);
  }
}

TEST(Steering, TooManyWorkersForSoLargeBlocksAreRefused) {
  EXPECT_TRUE(plan_steering(8, 8192, 0, std::nullopt));
  EXPECT_FALSE(plan_steering(9, 8192, 0, std::nullopt));
  EXPECT_FALSE(plan_steering(64, 512, 32, std::nullopt));
}

TEST(Steering, LowPortsAreSplitIntoPowersOfTwo) {
  const auto plan = plan_steering(3, 512, 0, config::PortRange{512, 1023});
  ASSERT_TRUE(plan);
  std::vector<unsigned> ports(kWorkersMax + 1);
  for (unsigned unit = 32; unit < 64; ++unit) ports[plan->shares[unit]] += nat::kWindowPorts;
  EXPECT_EQ(ports[0], 128u);
  EXPECT_EQ(ports[1], 128u);
  EXPECT_EQ(ports[2], 128u);
  EXPECT_EQ(ports[kWorkersMax], 128u);  // nobody's
}

// A device that keeps what it is told: net_null. It takes no flow rules, unless a FlowCard answers
// for it.
class NullDevice : public testing::Test {
 protected:
  // Whether the device has been told to spread what no rule is for by destination port.
  bool has_port_key(const Port& port) const {
    std::vector<uint8_t> key(40);
    rte_eth_rss_conf rss{key.data(), static_cast<uint8_t>(key.size()), 0};
    EXPECT_EQ(rte_eth_dev_rss_hash_conf_get(port.id(), &rss), 0);
    EXPECT_TRUE(key == port_steering_key(40) || key == flow_steering_key(40));
    return key == port_steering_key(40);
  }
  static bool says(const Port& port, const char* text) {
    return port.describe().find(text) != std::string::npos;
  }
  void SetUp() override {
    ASSERT_EQ(rte_eal_hotplug_add("vdev", "net_null7", ""), 0);
    pool_ = rte_pktmbuf_pool_create("null-packets", 8191, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, -1);
    ASSERT_NE(pool_, nullptr);
    config_.name = "out";
    config_.device = "net_null7";
    config_.address = *Ipv4Interface::parse("30.2.1.10/24");
    config_.rx_descriptors = config_.tx_descriptors = 64;
    config_.queues = 64;
  }
  void TearDown() override {
    rte_eal_hotplug_remove("vdev", "net_null7");
    rte_mempool_free(pool_);
  }
  rte_mempool* pool_ = nullptr;
  PortConfig config_;
  const Endpoint tunnel_{Ipv4Address::from_octets(30, 2, 1, 10), Be16::from_host(8000)};
};

TEST_F(NullDevice, HasTheKeyAndTheTableOfThePublicPort) {
  const unsigned entries = Port::redirection_entries(config_);
  ASSERT_GE(entries, 64u);
  const auto plan = plan_steering(4, 512, entries, std::nullopt);
  ASSERT_TRUE(plan);
  const Port port(config_, pool_, Port::Steering::by_port, *plan);
  EXPECT_EQ(port.queues(), 4u);
  EXPECT_EQ(port.steering(), Port::Steering::by_port);
  EXPECT_NE(port.describe().find("replies to their worker by destination port"),
            std::string::npos);

  std::vector<uint8_t> key(40);
  rte_eth_rss_conf rss{key.data(), static_cast<uint8_t>(key.size()), 0};
  ASSERT_EQ(rte_eth_dev_rss_hash_conf_get(port.id(), &rss), 0);
  EXPECT_EQ(key, port_steering_key(40));
  rte_eth_rss_reta_entry64 table[kRedirectionMax / RTE_ETH_RETA_GROUP_SIZE] = {};
  for (auto& group : table) group.mask = UINT64_MAX;
  ASSERT_EQ(rte_eth_dev_rss_reta_query(port.id(), table, static_cast<uint16_t>(entries)), 0);
  const std::vector<uint16_t> wanted = port_redirection(*plan, entries);
  for (unsigned i = 0; i < entries; ++i) {
    EXPECT_EQ(table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE], wanted[i]);
  }
}

// What a device reports back is what counts: where it is not what it was told, nobody relies on it.
TEST_F(NullDevice, ThatHasMisunderstoodIsNotReliedOn) {
  const unsigned entries = Port::redirection_entries(config_);
  const auto plan = plan_steering(4, 512, entries, std::nullopt);
  ASSERT_TRUE(plan);
  const auto steering_with = [&](auto change) {
    rte_eal_hotplug_remove("vdev", "net_null7");  // the last port has closed it
    EXPECT_EQ(rte_eal_hotplug_add("vdev", "net_null7", ""), 0);
    adit::test::RssCard card;
    change(card);
    const Port port(config_, pool_, Port::Steering::by_port, *plan);
    EXPECT_EQ(says(port, "4 queues, filled as the device chooses: workers hand over"),
              port.steering() == Port::Steering::none);
    return port.steering();
  };
  using adit::test::RssCard;
  EXPECT_EQ(steering_with([](RssCard&) {}), Port::Steering::by_port);
  for (const int entry : {0, 63, static_cast<int>(entries) - 1}) {
    EXPECT_EQ(steering_with([&](RssCard& card) { card.wrong_entry = entry; }),
              Port::Steering::none) << entry;
  }
  for (const int byte : {0, 13, 39}) {
    EXPECT_EQ(steering_with([&](RssCard& card) { card.wrong_key_byte = byte; }),
              Port::Steering::none) << byte;
  }
  for (const uint64_t types : {RTE_ETH_RSS_NONFRAG_IPV4_UDP, RTE_ETH_RSS_NONFRAG_IPV4_TCP}) {
    EXPECT_EQ(steering_with([&](RssCard& card) { card.types_missing = types; }),
              Port::Steering::none) << types;
  }
  EXPECT_EQ(steering_with([](RssCard& card) { card.keeps_table_dark = true; }),
            Port::Steering::none);
}

TEST_F(NullDevice, OnePortForBothSidesGetsARuleWithAHash) {
  adit::test::FlowCard card;
  config_.vlan = 100;
  const auto plan = plan_steering(3, 512, Port::redirection_entries(config_), std::nullopt);
  {
    const Port port(config_, pool_, Port::Steering::by_rules, *plan, tunnel_);
    EXPECT_EQ(port.steering(), Port::Steering::by_rules);
    EXPECT_TRUE(has_port_key(port));
    EXPECT_EQ(card.rules(), hash_rules(tunnel_, 100, 3, 40));
    EXPECT_TRUE(says(port,
                     "; replies to their worker by destination port; a tunnel's packets to "
                     "one worker by a flow rule and the device's hash"));
  }
  EXPECT_TRUE(card.rules().empty()) << "rules outlive their port";
}

TEST_F(NullDevice, OneHashForAllMakesRulesBySourcePort) {
  adit::test::FlowCard card;
  card.takes_hash = false;
  const auto plan = plan_steering(3, 512, Port::redirection_entries(config_), std::nullopt);
  {
    const Port port(config_, pool_, Port::Steering::by_rules, *plan, tunnel_);
    EXPECT_EQ(port.steering(), Port::Steering::by_rules);
    EXPECT_TRUE(has_port_key(port));
    EXPECT_EQ(card.rules(), source_port_rules(tunnel_, 0, 3));
    EXPECT_TRUE(
        says(port, "by 16 flow rules for their source port (no rule with a hash: one hash)"));
  }
  EXPECT_TRUE(card.rules().empty()) << "rules outlive their port";
}

TEST_F(NullDevice, RulesThatFindNoRoomAreTakenBack) {
  adit::test::FlowCard card;
  card.takes_hash = false;
  card.room = 15;
  const auto plan = plan_steering(3, 512, Port::redirection_entries(config_), std::nullopt);
  const Port port(config_, pool_, Port::Steering::by_rules, *plan, tunnel_);
  EXPECT_TRUE(card.rules().empty());
  EXPECT_EQ(port.steering(), Port::Steering::by_flow);
  EXPECT_FALSE(has_port_key(port));
  EXPECT_TRUE(says(port,
                   "; a tunnel's packets to one worker by the device's hash; replies are "
                   "handed over (no flow rules: no room)"));
}

// The device's own answer, and no card's.
TEST_F(NullDevice, OnePortWithoutRulesIsSpreadAsAnUplink) {
  const auto plan = plan_steering(4, 512, Port::redirection_entries(config_), std::nullopt);
  const Port port(config_, pool_, Port::Steering::by_rules, *plan, tunnel_);
  EXPECT_EQ(port.steering(), Port::Steering::by_flow);
  EXPECT_FALSE(has_port_key(port));
  EXPECT_TRUE(says(port, "replies are handed over (no flow rules: Function not implemented)"));
}

TEST_F(NullDevice, UplinkBesideAPublicPortAsksForNoRules) {
  adit::test::FlowCard card;
  const auto plan = plan_steering(4, 512, Port::redirection_entries(config_), std::nullopt);
  const Port port(config_, pool_, Port::Steering::by_flow, *plan, tunnel_);
  EXPECT_EQ(port.steering(), Port::Steering::by_flow);
  EXPECT_FALSE(has_port_key(port));
  EXPECT_EQ(card.asked, 0u);
}

TEST_F(NullDevice, WithFewerQueuesThanWorkersTheLogSaysWhoReceives) {
  config_.queues = 2;
  const auto plan = plan_steering(4, 512, 0, std::nullopt);
  const Port port(config_, pool_, Port::Steering::by_port, *plan);
  EXPECT_EQ(port.queues(), 2u);
  EXPECT_EQ(port.steering(), Port::Steering::none);
  EXPECT_NE(port.describe().find("2 of 4 workers receive and send, and hand over"),
            std::string::npos);
}

}  // namespace
}  // namespace adit::gateway
