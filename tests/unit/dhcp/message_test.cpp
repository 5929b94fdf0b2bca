#include "lib/dhcp/message.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {
namespace {

Octets serialized(const Message& message) {
  Octets out(kMessageBytesMax);
  out.resize(serialize(message, out));
  return out;
}

// A reply whose options field is type ACK, `options` and the end option.
Octets with_options(Octets options) {
  options.insert(options.begin(), {53, 1, 5});
  options.push_back(255);
  return make_octets(kAckFirst44, options);
}

Octets option(uint8_t code, size_t length, uint8_t fill) {
  Octets out = {code, static_cast<uint8_t>(length)};
  out.insert(out.end(), length, fill);
  return out;
}

TEST(DhcpMessage, ReadsTheDiscoverThatScapyMade) {
  const auto message = parse(make_octets(kDiscoverFirst44, kDiscoverOptions));
  ASSERT_TRUE(message);
  EXPECT_EQ(*message, golden_discover());
  EXPECT_TRUE(message->speaks_our_vendor_options());
}

TEST(DhcpMessage, ReadsTheAckThatScapyMade) {
  const auto message = parse(make_octets(kAckFirst44, kAckOptions));
  ASSERT_TRUE(message);
  EXPECT_EQ(*message, golden_ack());
}

TEST(DhcpMessage, WritesTheVeryBytesThatScapyMade) {
  EXPECT_EQ(serialized(golden_discover()), make_octets(kDiscoverFirst44, kDiscoverOptions));
  EXPECT_EQ(serialized(golden_ack()), make_octets(kAckFirst44, kAckOptions));
}

TEST(DhcpMessage, SurvivesTheRoundTripWithEveryFieldFull) {
  Message message = golden_ack();
  message.hlen = 6;
  message.secs = 65535;
  message.ciaddr = address("1.2.3.4");
  message.siaddr = address("5.6.7.8");
  message.giaddr = address("9.10.11.12");
  message.chaddr.fill(0xab);
  while (message.dns.push_back(address("8.8.8.8"))) continue;
  while (message.text.push_back('x')) continue;
  while (message.client_id.push_back(7)) continue;
  while (message.vendor_class.push_back('v')) continue;
  while (message.parameter_requests.push_back(121)) continue;
  while (message.routes.push_back({prefix("255.254.253.252/31"), address("1.1.1.1")})) continue;
  message.requested_address = address("2.2.2.2");
  message.max_message_bytes = 576;
  const Octets bytes = serialized(message);
  ASSERT_FALSE(bytes.empty());
  const auto read = parse(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, message);
}

TEST(DhcpMessage, SplitsRoutesBeyond255BytesAsRfc3396Asks) {
  Message message = golden_ack();
  message.routes = {};
  while (message.routes.push_back({prefix("40.1.1.10/32"), address("192.168.1.1")})) continue;
  const Octets bytes = serialized(message);
  // 32 routes of 9 bytes: a piece of 255 and one of 33.
  const Octets first = {121, 255, 32, 40};
  const Octets second = {121, 33};
  const auto found = std::search(bytes.begin(), bytes.end(), first.begin(), first.end());
  ASSERT_NE(found, bytes.end());
  EXPECT_TRUE(std::equal(second.begin(), second.end(), found + 257));
  EXPECT_EQ(parse(bytes)->routes, message.routes);
}

TEST(DhcpMessage, WritesNothingWhereThereIsNoRoom) {
  const size_t whole = serialized(golden_ack()).size();
  for (size_t room = 0; room < whole; ++room) {
    Octets out(room);
    EXPECT_EQ(serialize(golden_ack(), out), 0u) << room;
  }
  Octets out(whole);
  EXPECT_EQ(serialize(golden_ack(), out), whole);
}

TEST(DhcpMessage, RefusesEveryTruncation) {
  // Each from a heap block of just its size, so that the sanitizer sees a read beyond it.
  for (const Octets& whole :
       {make_octets(kDiscoverFirst44, kDiscoverOptions), make_octets(kAckFirst44, kAckOptions)}) {
    for (size_t length = 0; length < whole.size(); ++length) {
      const auto cut = std::make_unique<uint8_t[]>(length);
      std::copy_n(whole.begin(), length, cut.get());
      EXPECT_FALSE(parse({cut.get(), length})) << length;
    }
  }
}

TEST(DhcpMessage, RefusesWhatIsLongerThanAPacket) {
  Octets bytes = with_options({});
  bytes.resize(kMessageBytesMax);
  EXPECT_TRUE(parse(bytes));
  bytes.resize(kMessageBytesMax + 1);
  EXPECT_FALSE(parse(bytes));
}

TEST(DhcpMessage, RefusesAWrongFixedPart) {
  const Octets right = with_options({});
  ASSERT_TRUE(parse(right));
  struct Row {
    const char* what;
    size_t offset;
    uint8_t value;
  };
  for (const Row& row : {Row{"op 0", 0, 0}, Row{"op 3", 0, 3}, Row{"hlen 17", 2, 17},
                         Row{"cookie", 236, 0}, Row{"cookie's end", 239, 0}}) {
    Octets wrong = right;
    wrong[row.offset] = row.value;
    EXPECT_FALSE(parse(wrong)) << row.what;
  }
}

TEST(DhcpMessage, RefusesABadMessageType) {
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {255}))) << "BOOTP without a type";
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 0, 255})));
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 9, 255}))) << "FORCERENEW";
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 0, 255})));
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 5, 53, 1, 5, 255}))) << "twice";
}

TEST(DhcpMessage, RefusesAnOptionOfWrongLength) {
  struct Row {
    uint8_t code;
    std::vector<size_t> right;
    std::vector<size_t> wrong;
  };
  const Row rows[] = {
      {1, {4}, {0, 3, 5, 8}},      {3, {4, 8}, {0, 3, 5}},  {6, {4, 16, 20}, {0, 2, 7}},
      {26, {2}, {0, 1, 3, 4}},     {50, {4}, {0, 3, 5, 8}}, {51, {4}, {0, 3, 5, 8}},
      {54, {4}, {0, 3, 5, 8}},     {55, {1, 64, 255}, {0}}, {56, {1, 255}, {0}},
      {57, {2}, {0, 1, 3}},        {58, {4}, {0, 3, 5}},    {59, {4}, {0, 3, 5}},
      {60, {1, 255}, {0}},         {61, {2, 255}, {0, 1}},  {80, {0}, {1, 4}},
      {121, {5}, {1, 2, 4, 6, 9}},
  };
  for (const Row& row : rows) {
    for (const size_t length : row.right) {
      EXPECT_TRUE(parse(with_options(option(row.code, length, 0)))) << int{row.code} << length;
    }
    for (const size_t length : row.wrong) {
      EXPECT_FALSE(parse(with_options(option(row.code, length, 0)))) << int{row.code} << length;
    }
  }
}

TEST(DhcpMessage, RefusesAnOptionThatOverrunsTheMessage) {
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 5, 99, 2, 0})));
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 5, 99})));
  EXPECT_FALSE(parse(make_octets(kAckFirst44, {53, 1, 5}))) << "no end option";
}

TEST(DhcpMessage, SkipsPaddingAndUnknownOptions) {
  const auto message =
      parse(make_octets(kAckFirst44, {0, 0, 12, 2, 'p', 'c', 53, 1, 5, 0, 224, 0, 255, 53, 1, 1}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type, MessageType::ack) << "what follows the end option does not count";
}

TEST(DhcpMessage, JoinsTheClientIdFromItsPieces) {
  const auto message = parse(with_options({61, 2, 0, 1, 6, 4, 9, 9, 9, 9, 61, 3, 2, 3, 4}));
  ASSERT_TRUE(message);
  const Octets id(message->client_id.begin(), message->client_id.end());
  EXPECT_EQ(id, (Octets{0, 1, 2, 3, 4}));
}

TEST(DhcpMessage, JoinsARouteThatIsSplitInItsMiddle) {
  const auto message = parse(with_options({121, 4, 24, 10, 1, 2, 121, 2, 192, 168, 121, 2, 1, 1}));
  ASSERT_TRUE(message);
  ASSERT_EQ(message->routes.size(), 1u);
  EXPECT_EQ(message->routes[0], (Route{prefix("10.1.2.0/24"), address("192.168.1.1")}));
}

TEST(DhcpMessage, RefusesAFixedLengthOptionGivenTwice) {
  EXPECT_FALSE(parse(with_options({51, 4, 0, 0, 0, 9, 51, 4, 0, 0, 0, 9})));
}

TEST(DhcpMessage, RefusesAClientIdLongerThanItCanEcho) {
  Octets options = option(61, 255, 1);
  options.insert(options.end(), {61, 1, 1});
  EXPECT_FALSE(parse(with_options(options)));
}

TEST(DhcpMessage, ReadsOptionsFromFileAndSnameWhenOverloaded) {
  Octets bytes = with_options({52, 1, 3, 6, 4, 1, 1, 1, 1});
  const Octets in_file = {6, 4, 2, 2, 2, 2, 255};
  const Octets in_sname = {6, 4, 3, 3, 3, 3, 255};
  std::copy(in_file.begin(), in_file.end(), bytes.begin() + 108);
  std::copy(in_sname.begin(), in_sname.end(), bytes.begin() + 44);
  const auto dns_at = [&](uint8_t overload) {
    bytes[240 + 5] = overload;
    const auto message = parse(bytes);
    std::vector<std::string> out;
    if (!message) return out;
    for (const Ipv4Address dns : message->dns) out.push_back(dns.to_string());
    return out;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(dns_at(3), (Texts{"1.1.1.1", "2.2.2.2", "3.3.3.3"})) << "RFC 3396: file, then sname";
  EXPECT_EQ(dns_at(1), (Texts{"1.1.1.1", "2.2.2.2"}));
  EXPECT_EQ(dns_at(2), (Texts{"1.1.1.1", "3.3.3.3"}));
}

TEST(DhcpMessage, RefusesABadOverload) {
  EXPECT_FALSE(parse(with_options({52, 1, 0})));
  EXPECT_FALSE(parse(with_options({52, 1, 4})));
  EXPECT_FALSE(parse(with_options({52, 2, 1, 1})));
  EXPECT_FALSE(parse(with_options({52, 1, 1, 52, 1, 1})));
  EXPECT_FALSE(parse(with_options({52, 1, 1}))) << "an overloaded field without an end option";
  Octets nested = with_options({52, 1, 1});
  const Octets in_file = {52, 1, 2, 255};
  std::copy(in_file.begin(), in_file.end(), nested.begin() + 108);
  EXPECT_FALSE(parse(nested)) << "overload inside an overloaded field";
}

TEST(DhcpMessage, KeepsTheFirstFourDnsServers) {
  Octets options = {6, 24};
  for (uint8_t i = 1; i <= 6; ++i) options.insert(options.end(), {10, 0, 0, i});
  const auto message = parse(with_options(options));
  ASSERT_TRUE(message);
  ASSERT_EQ(message->dns.size(), 4u);
  EXPECT_EQ(message->dns[3], address("10.0.0.4"));
}

TEST(DhcpMessage, TakesThirtyTwoRoutesAndRefusesMore) {
  Octets options = {121, 32 * 6};
  for (uint8_t i = 0; i < 32; ++i) options.insert(options.end(), {8, i, 1, 1, 1, 1});
  const auto message = parse(with_options(options));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->routes.size(), 32u);
  options[1] = 33 * 6;
  options.insert(options.end(), {8, 99, 1, 1, 1, 1});
  EXPECT_FALSE(parse(with_options(options)));
}

TEST(DhcpMessage, ClearsRouteBitsBeyondThePrefix) {
  const auto message = parse(with_options({121, 7, 12, 172, 0xff, 1, 1, 1, 1}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->routes[0].destination, prefix("172.240.0.0/12"));
  EXPECT_FALSE(parse(with_options({121, 9, 33, 1, 2, 3, 4, 1, 1, 1, 1}))) << "a prefix of 33";
}

TEST(DhcpMessage, IgnoresAnotherVendorsOption43) {
  for (const Octets& options : {Octets{43, 1, 1}, Octets{43, 3, 1, 200, 0}, Octets{43, 3, 1, 1, 9},
                                Octets{43, 0}, Octets{43, 5, 'c', 'i', 's', 'c', 'o'}}) {
    const auto message = parse(with_options(options));
    ASSERT_TRUE(message);
    EXPECT_FALSE(message->heartbeat_s);
  }
  EXPECT_EQ(parse(with_options({43, 7, 9, 1, 0, 1, 2, 1, 2}))->heartbeat_s, 258);
}

TEST(DhcpMessage, MakesTheServersTextPrintable) {
  const auto message = parse(with_options({56, 8, 'n', 'o', 0x1b, '[', 0xc3, '\n', 0, 0}));
  ASSERT_TRUE(message);
  EXPECT_EQ(std::string(message->text.begin(), message->text.end()), "no?[??");
}

TEST(DhcpMessage, IgnoresAMaximumMessageSizeBelow576) {
  EXPECT_FALSE(parse(with_options({57, 2, 2, 63}))->max_message_bytes);
  EXPECT_EQ(parse(with_options({57, 2, 2, 64}))->max_message_bytes, 576);
}

// Mutates good messages half a million times. With the sanitizers on, a read out of bounds ends
// the test; without, what parses must at least survive its own round trip.
TEST(DhcpMessage, NeverReadsOutOfBoundsWhateverTheBytes) {
  std::mt19937 random(20260611);
  const Octets seeds[] = {make_octets(kDiscoverFirst44, kDiscoverOptions),
                          make_octets(kAckFirst44, kAckOptions),
                          with_options({52, 1, 3, 61, 3, 0, 1, 2})};
  unsigned accepted = 0;
  for (unsigned round = 0; round < 500'000; ++round) {
    Octets bytes = seeds[random() % 3];
    for (auto changes = random() % 6; changes > 0; --changes) {
      // Mostly in the options, and mostly small values: lengths and codes.
      const size_t from = random() % 4 == 0 ? 0 : 240;
      bytes[from + random() % (bytes.size() - from)] =
          static_cast<uint8_t>(random() % 2 == 0 ? random() : random() % 8);
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    const auto block = std::make_unique<uint8_t[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), block.get());
    const auto message = parse({block.get(), bytes.size()});
    if (!message) continue;
    ++accepted;
    if (round % 16 == 0) {
      EXPECT_EQ(parse(serialized(*message)), message);
    }
  }
  EXPECT_GT(accepted, 50'000u);
  EXPECT_LT(accepted, 450'000u);
}

}  // namespace
}  // namespace adit::dhcp
