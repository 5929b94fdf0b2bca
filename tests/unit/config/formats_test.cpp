#include "lib/config/formats.h"

#include <gtest/gtest.h>

namespace adit::config {
namespace {

constexpr uint64_t kMilli = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMilli;

TEST(Duration, IsSecondsOrUnitsInDescendingOrder) {
  EXPECT_EQ(parse_duration_ns("0"), 0u);
  EXPECT_EQ(parse_duration_ns("120"), 120 * kSecond);
  EXPECT_EQ(parse_duration_ns("120s"), 120 * kSecond);
  EXPECT_EQ(parse_duration_ns("2h4m"), 7440 * kSecond);
  EXPECT_EQ(parse_duration_ns("1d1h1m1s1ms"), 90'061 * kSecond + kMilli);
  EXPECT_EQ(parse_duration_ns("90m"), 5400 * kSecond);
  EXPECT_EQ(parse_duration_ns("500ms"), 500 * kMilli);
}

TEST(Duration, RefusesEverythingElse) {
  for (const char* text : {"", "s", "-1s", "1.5s", "1 s", "4m2h", "1s1s", "1w", "10us", "1h30",
                           "2hh", "99999999999999999999s", "18446744073709551615s", "1s ", "1S"}) {
    EXPECT_FALSE(parse_duration_ns(text)) << text;
  }
}

TEST(Duration, ReadsBackWhatItPrints) {
  for (const uint64_t ns : {uint64_t{0}, kMilli, kSecond, 75 * kSecond, 7440 * kSecond,
                            90'061 * kSecond + 5 * kMilli}) {
    EXPECT_EQ(parse_duration_ns(duration_text(ns)), ns) << duration_text(ns);
  }
  EXPECT_EQ(duration_text(7440 * kSecond), "2h4m");
  EXPECT_EQ(duration_text(0), "0s");
}

TEST(Bytes, TakePowersOf1024) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("512M"), 512u << 20);
  EXPECT_EQ(parse_bytes("512MiB"), 512u << 20);
  EXPECT_EQ(parse_bytes("1K"), 1024u);
  EXPECT_EQ(parse_bytes("2G"), 2ull << 30);
  for (const char* text : {"", "M", "512MB", "512m", "1.5G", "1T", "-1", "1 M", "99999999999G"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(Integer, HoldsItsRangeAndSaysIt) {
  const auto format = integer<uint16_t>(1, 4094);
  EXPECT_EQ(format.expected, "a whole number from 1 to 4094");
  EXPECT_EQ(format.parse("1"), 1);
  EXPECT_EQ(format.parse("4094"), 4094);
  EXPECT_EQ(format.parse("0x10"), 16);
  for (const char* text : {"0", "4095", "65537", "-1", "+1", "1.0", "", "one", "0x", "1e3", " 1"}) {
    EXPECT_FALSE(format.parse(text)) << text;
  }
}

TEST(PowerOfTwo, RefusesWhatLiesBetween) {
  const auto format = power_of_two<uint32_t>(16, 1024);
  EXPECT_EQ(format.parse("16"), 16u);
  EXPECT_EQ(format.parse("1024"), 1024u);
  for (const char* text : {"8", "0", "65", "2048"}) EXPECT_FALSE(format.parse(text)) << text;
}

TEST(Range, IsAnAddressAPrefixOrTwoAddresses) {
  EXPECT_EQ(parse_range("192.0.2.7")->to_string(), "192.0.2.7");
  EXPECT_EQ(parse_range("192.0.2.0/30")->to_string(), "192.0.2.0-192.0.2.3");
  EXPECT_EQ(parse_range("192.0.2.1-192.0.2.9")->count(), 9u);
  EXPECT_EQ(parse_range("0.0.0.0/0")->count(), uint64_t{1} << 32);
  for (const char* text : {"", "192.0.2.9-192.0.2.1", "192.0.2.1/30", "192.0.2.1-9", "a-b"}) {
    EXPECT_FALSE(parse_range(text)) << text;
  }
}

TEST(PortRange, IsAPortOrTwo) {
  EXPECT_EQ(parse_port_range("1024-65535"), (PortRange{1024, 65535}));
  EXPECT_EQ(parse_port_range("80"), (PortRange{80, 80}));
  EXPECT_EQ(parse_port_range("1024-65535")->count(), 64512u);
  for (const char* text : {"", "0", "0-5", "5-4", "1-65536", "1-", "-1"}) {
    EXPECT_FALSE(parse_port_range(text)) << text;
  }
}

TEST(Words, AreBooleansProtectionsAndLevels) {
  EXPECT_EQ(boolean().parse("yes"), true);
  EXPECT_EQ(boolean().parse("false"), false);
  EXPECT_FALSE(boolean().parse("True!"));
  EXPECT_EQ(protection().expected, "one of aes-256-gcm, chacha20-poly1305, plain");
  EXPECT_EQ(protection().parse("plain"), Protection::plain);
  EXPECT_FALSE(protection().parse("aes"));
  EXPECT_EQ(log_level().parse("warning"), LogLevel::kWarning);
  EXPECT_FALSE(log_level().parse("warn"));
}

TEST(Addresses, AreReadByTheirOwnParsers) {
  EXPECT_EQ(route().parse("default"), Ipv4Prefix{});
  EXPECT_EQ(route().parse("10.0.0.0/8")->to_string(), "10.0.0.0/8");
  EXPECT_FALSE(prefix().parse("10.0.0.1/8"));
  EXPECT_FALSE(interface().parse("10.0.0.1")) << "a length must be given";
  EXPECT_EQ(interface().parse("10.0.0.1/8")->to_string(), "10.0.0.1/8");
  EXPECT_EQ(endpoint().parse("127.0.0.1:9100")->to_string(), "127.0.0.1:9100");
  const auto fixed_or_auto = or_word("auto", address());
  EXPECT_EQ(fixed_or_auto.expected, "\"auto\" or an IPv4 address such as 192.0.2.1");
  ASSERT_TRUE(fixed_or_auto.parse("auto"));
  EXPECT_FALSE(*fixed_or_auto.parse("auto"));
  EXPECT_EQ((*fixed_or_auto.parse("10.0.0.1"))->to_string(), "10.0.0.1");
  EXPECT_FALSE(fixed_or_auto.parse("automatic"));
}

TEST(Names, AreShortAndPlain) {
  EXPECT_TRUE(name().parse("branch-2.lan_0"));
  EXPECT_TRUE(name().parse(std::string(64, 'a')));
  EXPECT_FALSE(name().parse(std::string(65, 'a')));
  EXPECT_FALSE(name().parse("two words"));
  EXPECT_TRUE(socket_path().parse("/" + std::string(106, 's')));
  EXPECT_FALSE(socket_path().parse("/" + std::string(107, 's')));
  EXPECT_FALSE(socket_path().parse("adit.sock"));
}

}  // namespace
}  // namespace adit::config
