// Deterministic allocation as a file says it: who has which ports, without a gateway.
#include <gtest/gtest.h>

#include "gateway/config.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::gateway {
namespace {

using config::TempDir;

class GatewayPorts : public testing::Test {
 protected:
  GatewayPorts() { dir_.write_key("gw.key", 1); }

  // As many subscribers, s0 and so on.
  std::optional<Config> load_with(unsigned subscribers, const std::string& nat) {
    std::string text =
        "ports: [{name: w, device: net_tap0, address: 30.1.1.10/24}]\n"
        "tunnel: {private_key_file: gw.key}\n"
        "pools: [{name: p, network: 192.168.1.0/24}]\n"
        "nat: {" + nat + "}\n" + (subscribers > 0 ? "subscribers:\n" : "");
    for (unsigned i = 0; i < subscribers; ++i) {
      text += "  - {name: s" + std::to_string(i) + ", public_key: " +
              TempDir::key_text(static_cast<uint8_t>(2 + i)) + "}\n";
    }
    errors_.clear();
    return load(dir_.write("gw.yaml", text), errors_);
  }

  TempDir dir_;
  std::vector<config::Error> errors_;
};

// Two ranges an address.
constexpr char kFourRanges[] =
    "allocation: deterministic, deterministic: {ports_per_subscriber: 256}, ports: 1000-1600, "
    "external: [40.0.0.9, 40.0.0.1], reserved: ['40.0.0.9:tcp:1030', 1300]";

TEST_F(GatewayPorts, AreSaidBothWaysWhereTheyAreDeterministic) {
  const auto config = load_with(3, kFourRanges);
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(ports_of(*config, "s0").text, "s0 has 40.0.0.1 ports 1024-1279 of UDP, TCP and ICMP");
  EXPECT_EQ(ports_of(*config, "s1").text, "s1 has 40.0.0.1 ports 1280-1535 of UDP, TCP and ICMP");
  EXPECT_EQ(ports_of(*config, "s2").text, "s2 has 40.0.0.9 ports 1024-1279 of UDP, TCP and ICMP");
  EXPECT_TRUE(ports_of(*config, "s2").is_known);
  const struct {
    const char* endpoint;
    const char* answer;
  } rows[] = {
      {"40.0.0.1:1024", "s0 has 40.0.0.1 ports 1024-1279"},
      {"40.0.0.1:1279", "s0 has 40.0.0.1 ports 1024-1279"},
      {"40.0.0.1:1280", "s1 has 40.0.0.1 ports 1280-1535"},
      {"40.0.0.9:1100", "s2 has 40.0.0.9 ports 1024-1279"},
      {"40.0.0.9:1535", "nobody has 40.0.0.9:1535: 40.0.0.9 ports 1280-1535 await a subscriber"},
      {"40.0.0.1:1023", "nobody has 40.0.0.1:1023: it is in no range"},
      {"40.0.0.9:1536", "nobody has 40.0.0.9:1536: it is in no range"},
      {"40.0.0.2:1100", "nobody has 40.0.0.2:1100: it is in no range"},
      {"40.0.0.9:1030", "nobody has 40.0.0.9:1030: it is reserved"},
      {"40.0.0.1:1030", "s0 has 40.0.0.1 ports 1024-1279"},
      {"40.0.0.1:1300", "nobody has 40.0.0.1:1300: it is reserved"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(who_has(*config, row.endpoint).text, row.answer);
    EXPECT_TRUE(who_has(*config, row.endpoint).is_known) << row.endpoint;
  }
}

TEST_F(GatewayPorts, StayWhereSubscribersAreAddedAtTheEnd) {
  const auto before = load_with(3, kFourRanges);
  const auto after = load_with(4, kFourRanges);
  ASSERT_TRUE(before && after) << dir_.lines(errors_);
  for (const char* name : {"s0", "s1", "s2"}) {
    EXPECT_EQ(ports_of(*before, name).text, ports_of(*after, name).text);
  }
}

TEST_F(GatewayPorts, SayWhyTheyAreNotKnown) {
  const auto random = load_with(1, "hairpin: true");
  ASSERT_TRUE(random) << dir_.lines(errors_);
  const char* const kWhy =
      "not known from the configuration: nat.allocation is random, so ports are given as they are "
      "wanted; aditctl mappings says who has them now";
  EXPECT_EQ(ports_of(*random, "s0").text, kWhy);
  EXPECT_FALSE(ports_of(*random, "s0").is_known);
  EXPECT_EQ(who_has(*random, "30.1.1.10:2000").text, kWhy);
  EXPECT_FALSE(who_has(*random, "30.1.1.10:2000").is_known);
  EXPECT_EQ(ports_of(*random, "s9").text, "no subscriber has the name \"s9\"");
  EXPECT_FALSE(ports_of(*random, "s9").is_known);
  EXPECT_EQ(who_has(*random, "30.1.1.10").text,
            "expected an IPv4 address and a port such as 192.0.2.1:9100, got \"30.1.1.10\"");
  EXPECT_FALSE(who_has(*random, "30.1.1.10").is_known);
}

TEST_F(GatewayPorts, AreRefusedToMoreSubscribersThanThereAreRanges) {
  EXPECT_FALSE(load_with(5, kFourRanges));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:19: nat.allocation: 5 subscribers are more than the 4 ranges of 256 ports "
            "that there are\n");
  EXPECT_FALSE(load_with(1, "allocation: deterministic, ports: 1025-2047, external: [40.0.0.1]"));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:19: nat.allocation: 1 subscribers are more than the 0 ranges of 1024 ports "
            "that there are\n");
  EXPECT_FALSE(load_with(1, "allocation: deterministic, low_ports: 512-1023"));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:45: nat.low_ports: are shared as they are wanted, which is not "
            "deterministic\n");
  EXPECT_FALSE(load_with(1, "deterministic: {ports_per_subscriber: 1000}, allocation: chance"));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:45: nat.deterministic.ports_per_subscriber: expected a power of two from 16 "
            "to 8192, got \"1000\"\n"
            "gw.yaml:4:64: nat.allocation: expected one of random, deterministic, got "
            "\"chance\"\n");
}

TEST_F(GatewayPorts, AreCountedByCheck) {
  const auto config = load_with(3, kFourRanges);
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_NE(describe_check(*config).find(
                "nat: 2 external addresses (40.0.0.1, 40.0.0.9), ports 1000-1600, reserved "
                "40.0.0.9:tcp:1030, 1300; 1202 ports\n"
                "nat: 256 ports for each subscriber, always the same; 4 subscribers fit, there are "
                "3\n"),
            std::string::npos)
      << describe_check(*config);
}

}  // namespace
}  // namespace adit::gateway
