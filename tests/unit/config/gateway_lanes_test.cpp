// How many lanes a subscriber may have: what the file says, and what its other parts leave of it.
#include <gtest/gtest.h>

#include "gateway/config.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::gateway {
namespace {

using config::TempDir;

class GatewayLanes : public testing::Test {
 protected:
  GatewayLanes() { dir_.write_key("gw.key", 1); }

  static std::string text_of(const std::string& tunnel, const std::string& nat,
                             const std::string& subscribers) {
    return "ports: [{name: wan, device: net_tap0, address: 30.1.1.10/24}]\n"
           "tunnel: {private_key_file: gw.key" + tunnel + "}\n"
           "pools: [{name: clients, network: 192.168.1.0/24}]\n"
           "nat: {external: [30.1.2.0/28]" + nat + "}\n"
           "subscribers:\n" + subscribers;
  }
  static std::string subscriber(const std::string& name, uint8_t fill,
                                const std::string& more = "") {
    return "  - {name: " + name + ", public_key: " + TempDir::key_text(fill) + more + "}\n";
  }
  Config load_good(const std::string& text) {
    errors_.clear();
    auto config = load(dir_.write("gw.yaml", text), errors_);
    EXPECT_TRUE(config) << dir_.lines(errors_);
    return config.value_or(Config{});
  }
  std::string errors_of(const std::string& text) {
    errors_.clear();
    EXPECT_FALSE(load(dir_.write("gw.yaml", text), errors_));
    return dir_.lines(errors_);
  }
  static std::string said_of_lanes(const Config& config) {
    std::string lines = describe_check(config);
    const size_t begin = lines.find("lanes:");
    const size_t end = lines.rfind("\n", lines.find("pool clients:"));
    return begin == std::string::npos ? "" : lines.substr(begin, end + 1 - begin);
  }

  TempDir dir_;
  std::vector<config::Error> errors_;
};

TEST_F(GatewayLanes, AreOneUnlessTheFileSaysMore) {
  const Config config = load_good(text_of("", "", subscriber("a", 2)));
  EXPECT_EQ(config.tunnel.lanes_max, 1);
  EXPECT_EQ(config.lanes_of(config.subscribers.at(0)), 1u);
  EXPECT_EQ(said_of_lanes(config), "");
}

TEST_F(GatewayLanes, AreTheTunnelsOrTheSubscribersOwn) {
  const Config config =
      load_good(text_of(", lanes_max: 4", "",
                        subscriber("a", 2) + subscriber("b", 3, ", lanes: 16") +
                            subscriber("c", 4, ", lanes: 1")));
  EXPECT_EQ(config.lanes_of(config.subscribers.at(0)), 4u);
  EXPECT_EQ(config.lanes_of(config.subscribers.at(1)), 16u);
  EXPECT_EQ(config.lanes_of(config.subscribers.at(2)), 1u);
  EXPECT_EQ(said_of_lanes(config),
            "lanes: up to 4 for a subscriber\n"
            "lanes: up to 16 for b\n"
            "lanes: up to 1 for c\n");
}

TEST_F(GatewayLanes, AreOneWhereSomethingIsOneTunnels) {
  const Config config = load_good(text_of(
      ", lanes_max: 4", "",
      subscriber("a", 2, ", address: 192.168.1.5, external_address: 30.1.3.1") +
          subscriber("b", 3,
                     ", address: 192.168.1.6, forwards: [{protocol: tcp, external: "
                     "'30.1.2.1:443', to: 8443}]") +
          subscriber("c", 4, ", routed: [30.1.4.0/29]")));
  EXPECT_EQ(config.lanes_of(config.subscribers.at(0)), 1u);
  EXPECT_EQ(config.lanes_of(config.subscribers.at(1)), 1u);
  EXPECT_EQ(config.lanes_of(config.subscribers.at(2)), 4u);
  EXPECT_EQ(said_of_lanes(config),
            "lanes: up to 4 for a subscriber\n"
            "lanes: one for a, since it has an external_address\n"
            "lanes: one for b, since it has forwards\n");
}

TEST_F(GatewayLanes, AreOneWhereAllSharePortsOfAnotherKind) {
  const Config ranges =
      load_good(text_of(", lanes_max: 2", ", allocation: deterministic", subscriber("a", 2)));
  EXPECT_EQ(ranges.lanes_of(ranges.subscribers.at(0)), 1u);
  EXPECT_EQ(said_of_lanes(ranges), "lanes: one for all, since nat.allocation is deterministic\n");
  const Config low =
      load_good(text_of("", ", low_ports: 512-1023", subscriber("a", 2, ", lanes: 2")));
  EXPECT_EQ(low.lanes_of(low.subscribers.at(0)), 1u);
  EXPECT_EQ(said_of_lanes(low), "lanes: one for a, since nat.low_ports are shared out by worker\n");
}

TEST_F(GatewayLanes, AreRefusedBeyondSixteenAndBeyondTheTunnelsThatThereMayBe) {
  EXPECT_EQ(errors_of(text_of(", lanes_max: 17", "", subscriber("a", 2, ", lanes: 0"))),
            "gw.yaml:2:47: tunnel.lanes_max: expected a whole number from 1 to 16, got \"17\"\n"
            "gw.yaml:6:80: subscribers[0].lanes: expected a whole number from 1 to 16, got "
            "\"0\"\n");
  const std::string two = subscriber("a", 2) + subscriber("b", 3, ", lanes: 1");
  load_good(text_of(", max_tunnels: 5, lanes_max: 4", "", two));
  EXPECT_EQ(errors_of(text_of(", max_tunnels: 4, lanes_max: 4", "", two)),
            "gw.yaml:2:49: tunnel.max_tunnels: 4 is less than the 5 lanes of the 2 subscribers\n");
}

}  // namespace
}  // namespace adit::gateway
