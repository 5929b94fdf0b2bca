// wg-quick files as configurations of ours.
#include "client-lite/wg_import.h"

#include <gtest/gtest.h>

#include "client-lite/config.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::client {
namespace {

using config::TempDir;

std::string lines_of(const std::vector<config::Error>& errors) {
  std::string out;
  for (const config::Error& error : errors) out += error.to_string() + "\n";
  return out;
}

std::string smallest() {
  return "[Interface]\nPrivateKey = " + TempDir::key_text(1) +
         "\nAddress = 10.0.0.2\n[Peer]\nPublicKey = " + TempDir::key_text(2) +
         "\nEndpoint = vpn.example.net:51820\n";
}

TEST(WgImportTest, WhatItWritesLoadsAndSaysTheSame) {
  const std::string text = "# a comment\r\n[Interface]\r\nPrivateKey=" + TempDir::key_text(1) +
                           " # mine\nADDRESS = fd00::2/64, 10.0.0.2/24\nMTU = 1400\n"
                           "ListenPort = 5000\nFwMark = 0x51\nTable = auto\n\n[peer]\n"
                           "PublicKey = " + TempDir::key_text(2) +
                           "\nPresharedKey = " + TempDir::key_text(3) +
                           "\nAllowedIPs = 10.0.0.7/24, 40.1.1.10,::/0\nAllowedIPs = 0.0.0.0/0\n"
                           "Endpoint = vpn.example.net:51820\nPersistentKeepalive = 25\n";
  std::vector<config::Error> errors;
  const auto import = import_wg(text, "wg7.conf", "wg7", errors);
  ASSERT_TRUE(import) << lines_of(errors);
  EXPECT_EQ(import->private_key[0], 1);
  EXPECT_EQ(import->preshared_key->at(0), 3);
  EXPECT_EQ(lines_of(import->left_out),
            "wg7.conf:4:1: Interface.ADDRESS: fd00::2/64 left out: the tunnel carries IPv4\n"
            "wg7.conf:13:1: Peer.AllowedIPs: ::/0 left out: the tunnel carries IPv4\n");

  const TempDir dir;
  dir.write_key("wg7.key", 1);
  dir.write_key("wg7.psk", 3);
  const auto config = load(dir.write("wg7.yaml", import->yaml), errors);
  ASSERT_TRUE(config) << dir.lines(errors) << import->yaml;
  EXPECT_EQ(config->gateways[0].host, "vpn.example.net");
  EXPECT_EQ(config->gateways[0].port, 51820);
  EXPECT_EQ(config->gateways[0].public_key[0], 2);
  EXPECT_TRUE(config->gateways[0].stock_wireguard);
  EXPECT_EQ(config->private_key[0], 1);
  EXPECT_EQ(config->preshared_key->at(0), 3);
  EXPECT_EQ(config->device, "wg7");
  EXPECT_EQ(config->address->to_string(), "10.0.0.2/24");
  EXPECT_EQ(config->mtu, 1400);
  EXPECT_EQ(config->listen_port, 5000);
  EXPECT_EQ(config->fwmark, 0x51u);
  EXPECT_EQ(config->heartbeat_ns, 25'000'000'000u);
  ASSERT_EQ(config->routes.size(), 3u);
  EXPECT_EQ(config->routes[0].to_string(), "10.0.0.0/24");
  EXPECT_EQ(config->routes[1].to_string(), "40.1.1.10/32");
  EXPECT_EQ(config->routes[2], Ipv4Prefix{});
}

// What it becomes, as the client reads it. `left_out` is what is told of it.
std::optional<Config> imported(const std::string& text, std::string& left_out) {
  std::vector<config::Error> errors;
  const auto import = import_wg(text, "a.conf", "a", errors);
  EXPECT_TRUE(import) << lines_of(errors);
  if (!import) return std::nullopt;
  left_out = lines_of(import->left_out);
  const TempDir dir;
  dir.write_key("a.key", 1);
  const auto config = load(dir.write("a.yaml", import->yaml), errors);
  EXPECT_TRUE(config) << dir.lines(errors) << import->yaml;
  return config;
}

std::string with_interface_lines(const std::string& lines) {
  std::string text = smallest();
  return text.insert(text.find("[Peer]"), lines);
}

TEST(WgImportTest, OfWhatIsGivenTwiceTheLastCounts) {
  std::string left_out;
  const auto config = imported(
      with_interface_lines("MTU = 1400\nListenPort = 5000\nFwMark = 0x51\nMTU = 1300\n"
                           "ListenPort = 5001\nFwMark = 0x52\n") +
          "PersistentKeepalive = 25\nPersistentKeepalive = 20\n",
      left_out);
  ASSERT_TRUE(config);
  EXPECT_EQ(left_out, "");
  EXPECT_EQ(config->mtu, 1300);
  EXPECT_EQ(config->listen_port, 5001);
  EXPECT_EQ(config->fwmark, 0x52u);
  EXPECT_EQ(config->heartbeat_ns, 20'000'000'000u);

  const auto without = imported(with_interface_lines("FwMark = 0x51\nFwMark = off\n") +
                                    "PersistentKeepalive = 25\nPersistentKeepalive = 0\n",
                                left_out);
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->fwmark);
  EXPECT_FALSE(without->heartbeat_ns);
}

TEST(WgImportTest, EachRouteIsThereOnce) {
  std::string left_out;
  const auto config = imported(
      smallest() + "AllowedIPs = 0.0.0.0/0, 10.7.0.7/24\nAllowedIPs = 10.7.0.0/24, 1.2.3.4/0\n",
      left_out);
  ASSERT_TRUE(config);
  EXPECT_EQ(left_out, "");
  EXPECT_EQ(config->routes, (std::vector{Ipv4Prefix{}, *Ipv4Prefix::parse("10.7.0.0/24")}));
}

TEST(WgImportTest, AKeepaliveThatIsLongerThanOursBecomesOurLongest) {
  std::string left_out;
  for (const char* seconds : {"3601", "65535"}) {
    const auto config =
        imported(smallest() + "PersistentKeepalive = " + seconds + "\n", left_out);
    ASSERT_TRUE(config);
    EXPECT_EQ(config->heartbeat_ns, 3'600'000'000'000u);
    EXPECT_EQ(left_out,
              "a.conf:7:1: Peer.PersistentKeepalive: becomes 3600, the longest that the client "
              "takes\n");
  }
  const auto longest = imported(smallest() + "PersistentKeepalive = 3600\n", left_out);
  ASSERT_TRUE(longest);
  EXPECT_EQ(longest->heartbeat_ns, 3'600'000'000'000u);
  EXPECT_EQ(left_out, "");

  std::vector<config::Error> errors;
  EXPECT_FALSE(import_wg(smallest() + "PersistentKeepalive = 65536\n", "a.conf", "a", errors));
  EXPECT_EQ(lines_of(errors),
            "a.conf:7:1: Peer.PersistentKeepalive: expected a whole number from 1 to 65535\n");
}

TEST(WgImportTest, AByteOrderMarkAndLinesThatEndAsElsewhereAreNothingToTheirText) {
  std::string text = "\xEF\xBB\xBF";
  for (const char c : smallest() + "# the end\n\nAllowedIPs = 10.7.0.0/24\n") {
    text += c == '\n' ? "\r\n" : std::string(1, c);
  }
  std::string left_out;
  const auto config = imported(text, left_out);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->gateways[0].host, "vpn.example.net");
  EXPECT_EQ(config->routes, std::vector{*Ipv4Prefix::parse("10.7.0.0/24")});
  // Only at the beginning.
  std::vector<config::Error> errors;
  EXPECT_FALSE(import_wg(smallest() + "\xEF\xBB\xBF[Peer]\n", "a.conf", "a", errors));
}

TEST(WgImportTest, TheSmallestFileIsEnough) {
  std::vector<config::Error> errors;
  const auto import = import_wg(smallest(), "a.conf", "a", errors);
  ASSERT_TRUE(import) << lines_of(errors);
  EXPECT_FALSE(import->preshared_key);
  EXPECT_EQ(lines_of(import->left_out), "");
  const TempDir dir;
  dir.write_key("a.key", 1);
  EXPECT_TRUE(load(dir.write("a.yaml", import->yaml), errors)) << dir.lines(errors);
}

TEST(WgImportTest, TellsEveryMistakeByItsLineAndNoSecret) {
  std::vector<config::Error> errors;
  const auto import = import_wg(
      "Address = 10.0.0.2/24\n"
      "[Interface]\n"
      "PrivateKey = sesame\n"
      "Adress = 10.0.0.2/24\n"
      "MTU = 100\n"
      "nonsense\n"
      "[Pear]\n"
      "PublicKey = x\n"
      "[Peer]\n"
      "Endpoint = [2001:db8::1]:51820\n"
      "AllowedIPs = 10.0.0.0/33\n"
      "[Peer]\n",
      "bad.conf", "bad", errors);
  EXPECT_FALSE(import);
  EXPECT_EQ(lines_of(errors),
            "bad.conf:1:1: Address: stands before any section\n"
            "bad.conf:3:1: Interface.PrivateKey: expected a key of 44 base64 characters\n"
            "bad.conf:4:1: Interface.Adress: unknown key\n"
            "bad.conf:5:1: Interface.MTU: expected a whole number from 576 to 9000\n"
            "bad.conf:6:1: (file): expected KEY = VALUE or [SECTION]\n"
            "bad.conf:7:1: (file): unknown section [Pear]\n"
            "bad.conf:10:1: Peer.Endpoint: expected an IPv4 address or a DNS name, and a port\n"
            "bad.conf:11:1: Peer.AllowedIPs: expected IPv4 prefixes such as 192.0.2.0/24\n"
            "bad.conf:12:1: (file): a second peer: a client has one gateway at a time; import a "
            "file for each\n"
            "bad.conf:12:1: Interface.Address: required key is missing\n"
            "bad.conf:12:1: Peer.PublicKey: required key is missing\n");
}

TEST(WgImportTest, TableOffTakesNoRoute) {
  std::vector<config::Error> errors;
  std::string text = smallest() + "AllowedIPs = 0.0.0.0/0, 10.0.0.0/24\n";
  text.insert(text.find("[Peer]"), "Table = off\n");
  const auto import = import_wg(text, "a.conf", "a", errors);
  ASSERT_TRUE(import) << lines_of(errors);
  EXPECT_EQ(lines_of(import->left_out), "");
  const TempDir dir;
  dir.write_key("a.key", 1);
  const auto config = load(dir.write("a.yaml", import->yaml), errors);
  ASSERT_TRUE(config) << dir.lines(errors) << import->yaml;
  EXPECT_TRUE(config->routes.empty());
}

TEST(WgImportTest, WhatTheClientDoesNotDoIsToldAndLeftOut) {
  std::vector<config::Error> errors;
  std::string text = smallest();
  text.insert(text.find("[Peer]"),
              "DNS = 9.9.9.9\nTable = 1234\nPostUp = rm -r /\nSaveConfig = true\n");
  const auto import = import_wg(text, "a.conf", "a", errors);
  ASSERT_TRUE(import) << lines_of(errors);
  ASSERT_EQ(import->left_out.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(import->left_out[i].line, static_cast<int>(4 + i));
  EXPECT_EQ(import->yaml.find("9.9.9.9"), std::string::npos);
}

}  // namespace
}  // namespace adit::client
