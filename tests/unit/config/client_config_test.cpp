#include "client-lite/config.h"

#include <gtest/gtest.h>

#include "tests/unit/config/temp_dir.h"

namespace adit::client {
namespace {

using config::TempDir;

class ClientConfig : public testing::Test {
 protected:
  ClientConfig() {
    dir_.write_key("c.key", 1);
    smallest_ = "gateways: [{endpoint: '30.1.1.10:8000', public_key: " + TempDir::key_text(2) +
                "}]\nprivate_key_file: c.key\n";
  }

  std::optional<Config> load_text(const std::string& text) {
    errors_.clear();
    return load(dir_.write("c.yaml", text), errors_);
  }
  std::string errors_of(const std::string& text) {
    EXPECT_FALSE(load_text(text));
    return dir_.lines(errors_);
  }

  TempDir dir_;
  std::string smallest_;
  std::vector<config::Error> errors_;
};

TEST_F(ClientConfig, FillsInEveryDefault) {
  const auto config = load_text(smallest_);
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->gateways[0].host, "30.1.1.10");
  EXPECT_EQ(config->gateways[0].port, 8000);
  EXPECT_EQ(config->gateways[0].public_key[0], 2);
  EXPECT_EQ(config->private_key[0], 1);
  EXPECT_FALSE(config->preshared_key);
  EXPECT_FALSE(config->address);
  EXPECT_TRUE(config->accept_routes);
  EXPECT_EQ(config->protections, std::vector{Protection::aes_256_gcm});
  EXPECT_EQ(config->control_socket, "/run/adit/adit0.sock");
}

TEST_F(ClientConfig, ReadsEveryKey) {
  dir_.write_key("c.psk", 3);
  const auto config = load_text(
      "gateways:\n"
      "  - {endpoint: gw.example.net, public_key: " +
      TempDir::key_text(2) +
      "}\n"
      "  - {endpoint: 'b.example.net:9000', public_key: " +
      TempDir::key_text(4) +
      "}\n"
      "private_key_file: " +
      dir_.file("c.key") +
      "\n"
      "preshared_key_file: c.psk\n"
      "device: tun7\n"
      "address: 192.168.1.10/24\n"
      "mtu: 1400\n"
      "routes: [40.1.1.0/24, default]\n"
      "accept_routes: no\n"
      "kill_switch: yes\n"
      "dns: none\n"
      "protections: [plain, aes-256-gcm]\n"
      "heartbeat: 10s\n"
      "listen_port: 5000\n"
      "fwmark: 0x51\n"
      "offloads: no\n"
      "state_directory: /tmp/state\n"
      "sandbox: no\n"
      "log: {level: debug}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->gateways[0].host, "gw.example.net");
  EXPECT_EQ(config->gateways[0].port, 8000);
  EXPECT_EQ(config->gateways[1].port, 9000);
  EXPECT_EQ(config->preshared_key->at(31), 3);
  EXPECT_EQ(config->address->to_string(), "192.168.1.10/24");
  EXPECT_EQ(config->mtu, 1400);
  EXPECT_EQ(config->routes[1], Ipv4Prefix{});
  EXPECT_FALSE(config->accept_routes);
  EXPECT_TRUE(config->kill_switch);
  EXPECT_EQ(config->dns, Dns::kNone);
  EXPECT_EQ(config->protections, (std::vector{Protection::plain, Protection::aes_256_gcm}));
  EXPECT_EQ(config->heartbeat_ns, 10'000'000'000u);
  EXPECT_EQ(config->listen_port, 5000);
  EXPECT_EQ(config->fwmark, 0x51u);
  EXPECT_FALSE(config->offloads);
  EXPECT_EQ(config->state_directory, "/tmp/state");
  EXPECT_FALSE(config->sandbox);
  EXPECT_EQ(config->control_socket, "/run/adit/tun7.sock");
  EXPECT_EQ(config->log_level, config::LogLevel::kDebug);
}

TEST_F(ClientConfig, NamesEveryRequiredKeyOfAnEmptyFile) {
  EXPECT_EQ(errors_of(""),
            "c.yaml:1:1: gateways: needs at least one gateway\n"
            "c.yaml:1:1: private_key_file: required key is missing\n");
}

TEST_F(ClientConfig, ReportsEveryMistakeOfOneRun) {
  dir_.write_key("c.key", 1, 0660);
  EXPECT_EQ(
      errors_of("gateways:\n"
                "  - endpoint: 30.1.1.300:8000\n"
                "    key: x\n"
                "private_key_file: c.key\n"
                "device: a-name-that-is-too-long\n"
                "address: 192.168.1.10\n"
                "mtu: 67\n"
                "routes: [40.1.1.1/24]\n"
                "dns: maybe\n"
                "protections: []\n"
                "control_socket: adit.sock\n"
                "listenport: 5000\n"
                "log: {level: loud}\n"),
      "c.yaml:2:5: gateways[0].public_key: required key is missing\n"
      "c.yaml:2:15: gateways[0].endpoint: expected an IPv4 address or a DNS name, and a port "
      "(8000 when left out), such as 30.1.1.10:8000, got \"30.1.1.300:8000\"\n"
      "c.yaml:3:5: gateways[0].key: unknown key\n"
      "c.yaml:4:19: private_key_file: key file \"c.key\" has mode 0660, open to group or "
      "others: chmod 600 it\n"
      "c.yaml:5:9: device: expected a device name of 1 to 15 characters without space, '/', "
      "':' or '%', got \"a-name-that-is-too-long\"\n"
      "c.yaml:6:10: address: expected \"dhcp\" or an IPv4 address with its prefix length, such "
      "as 192.0.2.1/24, got \"192.168.1.10\"\n"
      "c.yaml:7:6: mtu: expected a whole number from 68 to 9000, got \"67\"\n"
      "c.yaml:8:10: routes[0]: expected \"default\" or an IPv4 prefix such as 192.0.2.0/24, "
      "with no bits set beyond its length, got \"40.1.1.1/24\"\n"
      "c.yaml:9:6: dns: expected one of auto, none, got \"maybe\"\n"
      "c.yaml:10:14: protections: the list is empty; expected at least one of aes-256-gcm, "
      "chacha20-poly1305, plain\n"
      "c.yaml:11:17: control_socket: expected an absolute path of at most 107 bytes, got "
      "\"adit.sock\"\n"
      "c.yaml:12:1: listenport: unknown key; did you mean \"listen_port\"?\n"
      "c.yaml:13:14: log.level: expected one of debug, info, warning, error, got \"loud\"\n");
}

TEST_F(ClientConfig, GatewaysAreChosenInOrderOrByDistance) {
  const auto usual = load_text(smallest_);
  ASSERT_TRUE(usual) << dir_.lines(errors_);
  EXPECT_EQ(usual->gateway_choice, GatewayChoice::kInOrder);
  EXPECT_EQ(usual->return_after_ns, 600'000'000'000u);
  const auto other = load_text(
      smallest_ + "gateway_choice: nearest\nreturn_after: never\nreturn_check: 5s\n");
  ASSERT_TRUE(other) << dir_.lines(errors_);
  EXPECT_EQ(other->gateway_choice, GatewayChoice::kNearest);
  EXPECT_FALSE(other->return_after_ns);
  EXPECT_EQ(other->return_check_ns, 5'000'000'000u);
}

TEST_F(ClientConfig, AHeartbeatIsFixedOrAdaptiveWithinBounds) {
  const auto fixed = load_text(smallest_);
  ASSERT_TRUE(fixed) << dir_.lines(errors_);
  EXPECT_FALSE(fixed->adaptive_heartbeat);
  EXPECT_FALSE(fixed->heartbeat_ns);
  const auto adaptive =
      load_text(smallest_ + "heartbeat: adaptive\nheartbeat_min: 5s\nheartbeat_max: 2m\n");
  ASSERT_TRUE(adaptive) << dir_.lines(errors_);
  EXPECT_TRUE(adaptive->adaptive_heartbeat);
  EXPECT_FALSE(adaptive->heartbeat_ns);
  EXPECT_EQ(adaptive->heartbeat_min_ns, 5'000'000'000u);
  EXPECT_EQ(adaptive->heartbeat_max_ns, 120'000'000'000u);
  EXPECT_EQ(errors_of(smallest_ + "heartbeat_max: 5s\n"),
            "c.yaml:3:16: heartbeat_max: expected no less than heartbeat_min, which is 10s\n");
}

TEST_F(ClientConfig, AKillSwitchNeedsRoutesToHold) {
  EXPECT_EQ(errors_of(smallest_ + "kill_switch: true\n"),
            "c.yaml:3:14: kill_switch: holds what `routes` names, and that is nothing\n");
  EXPECT_TRUE(load_text(smallest_ + "kill_switch: true\nroutes: [default]\n"));
}

TEST_F(ClientConfig, WhoAnswersNeedsAPortAndAnAddress) {
  EXPECT_EQ(errors_of(smallest_ + "answer: true\n"),
            "c.yaml:3:9: answer: needs a listen_port at which to be found\n"
            "c.yaml:3:9: answer: needs a fixed address: the other end gives none\n");
  EXPECT_EQ(errors_of("gateways: [{endpoint: 30.1.1.10, stock_wireguard: true, public_key: " +
                      TempDir::key_text(2) + "}]\nprivate_key_file: " + dir_.file("c.key") +
                      "\nanswer: true\nlisten_port: 8000\naddress: 192.168.1.1/24\n"
                      "protections: [chacha20-poly1305]\n"),
            "c.yaml:3:9: answer: is for another adit-client, not for stock_wireguard\n");
  const auto config =
      load_text(smallest_ + "answer: true\nlisten_port: 8000\naddress: 192.168.1.1/24\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_TRUE(config->answer);
}

TEST_F(ClientConfig, HasOneLaneOrUpToSixteen) {
  const auto usual = load_text(smallest_);
  ASSERT_TRUE(usual) << dir_.lines(errors_);
  EXPECT_EQ(usual->lanes, 1u);
  const auto many = load_text(smallest_ + "lanes: 16\n");
  ASSERT_TRUE(many) << dir_.lines(errors_);
  EXPECT_EQ(many->lanes, 16u);
  EXPECT_EQ(errors_of(smallest_ + "lanes: 17\n"),
            "c.yaml:3:8: lanes: expected a whole number from 1 to 16, got \"17\"\n");
  EXPECT_EQ(errors_of(smallest_ + "answer: true\nlisten_port: 8000\naddress: 192.168.1.1/24\n"
                                  "lanes: 2\n"),
            "c.yaml:3:9: answer: is for an end with one lane\n");
}

TEST_F(ClientConfig, RefusesWhatWouldLeadTheTunnelIntoItself) {
  EXPECT_EQ(errors_of(smallest_ + "address: 30.1.1.77/24\nroutes: [40.1.1.0/24, 30.1.1.10/32]\n"),
            "c.yaml:3:10: address: the gateway's own address 30.1.1.10 lies in this network\n"
            "c.yaml:4:23: routes[1]: is the gateway's own address, which cannot be in the "
            "tunnel\n");
  EXPECT_TRUE(load_text(smallest_ + "address: 30.1.2.77/24\nroutes: [30.1.1.0/24]\n"));
}

TEST(GatewayEndpoint, IsAnAddressOrANameAndPerhapsAPort) {
  EXPECT_EQ(parse_gateway("30.1.1.10:8000")->host, "30.1.1.10");
  EXPECT_EQ(parse_gateway("30.1.1.10")->port, 8000);
  EXPECT_EQ(parse_gateway("gw-1.example.net:443")->port, 443);
  EXPECT_TRUE(parse_gateway("localhost"));
  for (const char* text : {"", ":8000", "gw:", "gw:0", "gw:65536", "gw:80:80", "30.1.1",
                           "30.1.1.256", "a b", "[::1]:8000", "::1", "1"}) {
    EXPECT_FALSE(parse_gateway(text)) << text;
  }
}

TEST(DeviceName, IsWhatLinuxTakes) {
  for (const char* name : {"adit0", "a", "tun-7.100", "fifteen-letters"}) {
    EXPECT_TRUE(is_device_name(name)) << name;
  }
  for (const char* name : {"", ".", "..", "sixteen-letters!", "a/b", "a b", "a:1", "tun%d"}) {
    EXPECT_FALSE(is_device_name(name)) << name;
  }
}

TEST(Route, IsAPrefixOrDefault) {
  EXPECT_EQ(parse_route("default"), Ipv4Prefix{});
  EXPECT_EQ(parse_route("40.1.1.10")->to_string(), "40.1.1.10/32");
  EXPECT_FALSE(parse_route("40.1.1.10/24"));
  EXPECT_FALSE(parse_route(""));
}

}  // namespace
}  // namespace adit::client
