// The files under conf/ are documentation that must stay true: each loads (with nothing but its
// key files put in place), and the references show every key that the loaders know.
#include <gtest/gtest.h>

#include "client-lite/config.h"
#include "gateway/config.h"
#include "lib/config/document.h"
#include "tests/unit/config/temp_dir.h"

namespace adit {
namespace {

using config::TempDir;

constexpr char kConf[] = ADIT_SOURCE_DIR "/conf/";

// A copy of the file in `dir`, with its keys in `dir` too.
std::string with_keys(const TempDir& dir, const std::string& name) {
  std::string text = config::read_text(kConf + name);
  EXPECT_FALSE(text.empty()) << name;
  const std::string from = "/etc/adit/";
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;) {
    text.replace(at, from.size(), dir.path() + "/");
  }
  for (const char* key : {"gateway.key", "client.key", "pc.psk", "client.psk"}) {
    dir.write_key(key, 7);
  }
  return dir.write(name, text);
}

// Every key of the tree, as Report::known_keys writes them.
void collect(const config::Node& node, const std::string& path, std::set<std::string>& keys) {
  for (size_t i = 0; i < node.children.size(); ++i) {
    const bool is_list = node.kind == config::Node::Kind::kList;
    const std::string child = is_list ? path + "[]" : config::join_path(path, node.keys[i].text);
    if (!is_list) keys.insert(child);
    collect(node.children[i], child, keys);
  }
}

std::set<std::string> keys_in(const std::string& file) {
  std::vector<config::Error> errors;
  const auto document = config::read_document(file, errors);
  std::set<std::string> keys;
  if (document) collect(document->root, "", keys);
  return keys;
}

TEST(GatewayReference, LoadsAndShowsEveryKeyThatTheLoaderKnows) {
  const TempDir dir;
  std::vector<config::Error> errors;
  std::set<std::string> known;
  const auto config = gateway::load(with_keys(dir, "gateway.yaml"), errors, &known);
  ASSERT_TRUE(config) << dir.lines(errors);
  // The parts of lists are known only once an item was read, so see that they were.
  for (const char* key : {"ports[].idle", "pools[].dns", "pools[].nat.timeouts.udp",
                          "subscribers[].limits.mappings"}) {
    EXPECT_TRUE(known.contains(key)) << key;
  }
  EXPECT_EQ(keys_in(dir.file("gateway.yaml")), known);
}

TEST(GatewayReference, ShowsTheDefaultsThatItSaysItShows) {
  const TempDir dir;
  std::vector<config::Error> errors;
  const auto shown = gateway::load(with_keys(dir, "gateway.yaml"), errors);
  ASSERT_TRUE(shown) << dir.lines(errors);
  const gateway::Config fresh;
  EXPECT_EQ(shown->eal.memory_mb, fresh.eal.memory_mb);
  EXPECT_EQ(shown->eal.hugepages, fresh.eal.hugepages);
  const gateway::PortConfig port;
  EXPECT_EQ(shown->ports[0].mtu, port.mtu);
  EXPECT_EQ(shown->ports[0].rx_descriptors, port.rx_descriptors);
  EXPECT_EQ(shown->ports[0].tx_descriptors, port.tx_descriptors);
  EXPECT_EQ(shown->ports[0].idle, port.idle);
  EXPECT_EQ(shown->tunnel.udp_port, fresh.tunnel.udp_port);
  EXPECT_EQ(shown->tunnel.mtu, fresh.tunnel.mtu);
  EXPECT_EQ(shown->tunnel.heartbeat_ns, fresh.tunnel.heartbeat_ns);
  EXPECT_EQ(shown->tunnel.dead_after_ns, fresh.tunnel.dead_after_ns);
  EXPECT_EQ(shown->tunnel.protections, fresh.tunnel.protections);
  EXPECT_EQ(shown->tunnel.max_tunnels, fresh.tunnel.max_tunnels);
  EXPECT_EQ(shown->tunnel.expanded_keys, fresh.tunnel.expanded_keys);
  EXPECT_EQ(shown->tunnel.tunnel_to_tunnel, fresh.tunnel.tunnel_to_tunnel);
  EXPECT_EQ(shown->tunnel.handshakes_per_second, fresh.tunnel.handshakes_per_second);
  EXPECT_EQ(shown->tunnel.handshakes_burst, fresh.tunnel.handshakes_burst);
  EXPECT_EQ(shown->pools[0].lease_s, gateway::PoolConfig{}.lease_s);
  EXPECT_EQ(shown->nat.ports, fresh.nat.ports);
  EXPECT_EQ(shown->nat.first_block_ports, fresh.nat.first_block_ports);
  EXPECT_EQ(shown->nat.allocation, fresh.nat.allocation);
  EXPECT_EQ(shown->nat.deterministic_ports, fresh.nat.deterministic_ports);
  EXPECT_EQ(shown->nat.port_parity, fresh.nat.port_parity);
  EXPECT_EQ(shown->nat.low_ports, fresh.nat.low_ports);
  EXPECT_EQ(shown->nat.limits.blocks, fresh.nat.limits.blocks);
  EXPECT_EQ(shown->nat.timeouts.udp_ns, fresh.nat.timeouts.udp_ns);
  EXPECT_EQ(shown->nat.timeouts.tcp_established_ns, fresh.nat.timeouts.tcp_established_ns);
  EXPECT_EQ(shown->nat.timeouts.tcp_opening_ns, fresh.nat.timeouts.tcp_opening_ns);
  EXPECT_EQ(shown->nat.timeouts.tcp_closing_ns, fresh.nat.timeouts.tcp_closing_ns);
  EXPECT_EQ(shown->nat.timeouts.dns_ns, fresh.nat.timeouts.dns_ns);
  EXPECT_EQ(shown->nat.timeouts.icmp_ns, fresh.nat.timeouts.icmp_ns);
  EXPECT_EQ(shown->nat.timeouts.port_rest_ns, fresh.nat.timeouts.port_rest_ns);
  EXPECT_EQ(shown->nat.mss_clamp, fresh.nat.mss_clamp);
  EXPECT_EQ(shown->nat.hairpin, fresh.nat.hairpin);
  EXPECT_EQ(shown->nat.answer_unsolicited_syn, fresh.nat.answer_unsolicited_syn);
  EXPECT_EQ(shown->nat.inbound_refresh, fresh.nat.inbound_refresh);
  EXPECT_EQ(shown->nat.inner_networks_outside, fresh.nat.inner_networks_outside);
  EXPECT_EQ(shown->nat.filtering.udp, fresh.nat.filtering.udp);
  EXPECT_EQ(shown->nat.filtering.tcp, fresh.nat.filtering.tcp);
  EXPECT_EQ(shown->nat.filtering.icmp, fresh.nat.filtering.icmp);
  EXPECT_EQ(shown->nat.sessions, fresh.nat.sessions);
  EXPECT_EQ(shown->nat.sessions_per_subscriber, fresh.nat.sessions_per_subscriber);
  EXPECT_EQ(shown->nat.icmp_errors.to_clients, fresh.nat.icmp_errors.to_clients);
  EXPECT_EQ(shown->nat.icmp_errors.to_internet, fresh.nat.icmp_errors.to_internet);
  EXPECT_EQ(shown->nat.icmp_errors.per_second, fresh.nat.icmp_errors.per_second);
  EXPECT_EQ(shown->nat.icmp_errors.per_subscriber_per_second,
            fresh.nat.icmp_errors.per_subscriber_per_second);
  EXPECT_EQ(shown->nat.port_control.enabled, fresh.nat.port_control.enabled);
  EXPECT_EQ(shown->nat.port_control.lifetime_min_ns, fresh.nat.port_control.lifetime_min_ns);
  EXPECT_EQ(shown->nat.port_control.lifetime_max_ns, fresh.nat.port_control.lifetime_max_ns);
  EXPECT_EQ(shown->nat.log.blocks, fresh.nat.log.blocks);
  EXPECT_EQ(shown->nat.log.limits, fresh.nat.log.limits);
  EXPECT_EQ(shown->nat.log.window_ns, fresh.nat.log.window_ns);
  EXPECT_EQ(shown->nat.limits.mappings, fresh.nat.limits.mappings);
  EXPECT_EQ(shown->nat.limits.new_mappings_per_second, fresh.nat.limits.new_mappings_per_second);
  EXPECT_EQ(shown->nat.limits.new_mappings_burst, fresh.nat.limits.new_mappings_burst);
  EXPECT_EQ(shown->control_socket, fresh.control_socket);
  EXPECT_EQ(shown->control_threads, fresh.control_threads);
  EXPECT_EQ(shown->log_level, fresh.log_level);
}

TEST(ClientReference, LoadsAndShowsEveryKeyThatTheLoaderKnows) {
  const TempDir dir;
  std::vector<config::Error> errors;
  std::set<std::string> known;
  const auto shown = client::load(with_keys(dir, "client.yaml"), errors, &known);
  ASSERT_TRUE(shown) << dir.lines(errors);
  EXPECT_TRUE(known.contains("gateways[].endpoint"));
  EXPECT_EQ(keys_in(dir.file("client.yaml")), known);
  const client::Config fresh;
  EXPECT_EQ(shown->device, fresh.device);
  EXPECT_EQ(shown->address, fresh.address);
  EXPECT_EQ(shown->accept_routes, fresh.accept_routes);
  EXPECT_EQ(shown->dns, fresh.dns);
  EXPECT_EQ(shown->protections, fresh.protections);
  EXPECT_EQ(shown->listen_port, fresh.listen_port);
  EXPECT_EQ(shown->kill_switch, fresh.kill_switch);
  EXPECT_EQ(shown->offloads, fresh.offloads);
  EXPECT_EQ(shown->sandbox, fresh.sandbox);
  EXPECT_EQ(shown->state_directory, fresh.state_directory);
  EXPECT_EQ(shown->control_socket, client::default_control_socket(fresh.device));
  EXPECT_EQ(shown->log_level, fresh.log_level);
}

TEST(MinimalFiles, LoadWithTheWorkedExamplesAddresses) {
  const TempDir dir;
  std::vector<config::Error> errors;
  const auto gateway = gateway::load(with_keys(dir, "gateway-minimal.yaml"), errors);
  const auto client = client::load(with_keys(dir, "client-minimal.yaml"), errors);
  ASSERT_TRUE(gateway && client) << dir.lines(errors);
  EXPECT_TRUE(gateway->is_one_port());
  EXPECT_EQ(gateway->tunnel_endpoint().to_string(), "30.1.1.10:8000");
  EXPECT_EQ(gateway->pools[0].range.first.to_string(), "192.168.1.10");
  EXPECT_EQ(client->gateways[0].host, "30.1.1.10");
}

}  // namespace
}  // namespace adit
