// The window's tag comparison in both its forms, and the hash that chooses home and tag.
#include "lib/nat/window.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "lib/nat/endpoint_hash.h"

namespace adit::nat {
namespace {

TEST(MatchingTags, FindsExactlyTheEqualBytesInBothForms) {
  std::mt19937_64 random(7);
  // Few values, so that matches are many; bytes that differ in one bit or by one borrow from a
  // neighbour are the ones that inexact comparisons get wrong.
  const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff};
  for (int round = 0; round < 20'000; ++round) {
    uint8_t tags[kWindowPorts];
    for (uint8_t& tag : tags) tag = values[random() % std::size(values)];
    for (const uint8_t wanted : values) {
      unsigned expected = 0;
      for (unsigned i = 0; i < kWindowPorts; ++i) expected |= unsigned{tags[i] == wanted} << i;
      ASSERT_EQ(matching_tags(tags, wanted), expected);
      ASSERT_EQ(matching_tags_portable(tags, wanted), expected);
    }
  }
}

// Endpoints as they come: one host's ports in a row, a subnet's hosts in a row.
std::vector<Endpoint> endpoints_in_a_row(unsigned hosts, unsigned ports) {
  std::vector<Endpoint> out;
  for (unsigned host = 0; host < hosts; ++host) {
    for (unsigned port = 0; port < ports; ++port) {
      out.push_back({Ipv4Address::from_host(0xc0a80101 + host),
                     Be16::from_host(static_cast<uint16_t>(32768 + port))});
    }
  }
  return out;
}

// Pearson's statistic for `counts` against a uniform distribution.
double chi_square(std::span<const unsigned> counts, size_t total) {
  const double expected = static_cast<double>(total) / static_cast<double>(counts.size());
  double sum = 0;
  for (const unsigned count : counts) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

TEST(EndpointHash, SpreadsNeighbouringEndpointsEvenlyOverEveryBlock) {
  std::mt19937_64 random(11);
  for (const auto& endpoints : {endpoints_in_a_row(1, 16384), endpoints_in_a_row(254, 64)}) {
    for (int round = 0; round < 8; ++round) {
      const uint64_t key = random();
      for (unsigned block = 0; block < 4; ++block) {
        std::array<unsigned, 1024> homes{};
        for (const Endpoint& endpoint : endpoints) {
          ++homes[home_offset(hash_endpoint(key, Protocol::udp, endpoint), block, 1024)];
        }
        // 1023 degrees of freedom: mean 1023, deviation 45. Six of them is never chance.
        EXPECT_LT(chi_square(homes, endpoints.size()), 1023 + 6 * 45) << "block " << block;
      }
    }
  }
}

TEST(EndpointHash, GivesEveryTagButTheTwoThatMeanSomethingElse) {
  std::array<unsigned, 256> tags{};
  const auto endpoints = endpoints_in_a_row(16, 4096);
  for (const Endpoint& endpoint : endpoints) {
    ++tags[endpoint_tag(hash_endpoint(0x0123456789abcdef, Protocol::tcp, endpoint))];
  }
  EXPECT_EQ(tags[kFreeTag], 0u);
  EXPECT_EQ(tags[kReservedTag], 0u);
  // Tags come from 4096 values: some of the 254 get 16 of them, some 17.
  EXPECT_LT(chi_square(std::span(tags).subspan(1, 254), endpoints.size()), 253 + 65 + 6 * 23);
}

TEST(EndpointHash, DependsOnKeyAndProtocolAndIsNotLinear) {
  const Endpoint a{Ipv4Address::from_octets(192, 168, 1, 10), Be16::from_host(1025)};
  const Endpoint b{Ipv4Address::from_octets(192, 168, 1, 10), Be16::from_host(1027)};
  EXPECT_NE(hash_endpoint(1, Protocol::udp, a), hash_endpoint(2, Protocol::udp, a));
  EXPECT_NE(hash_endpoint(1, Protocol::udp, a), hash_endpoint(1, Protocol::tcp, a));
  // With a linear hash the difference of two endpoints' hashes would be the same under every key,
  // and whoever has found one collision would have found it for all.
  std::mt19937_64 random(3);
  const uint64_t difference =
      hash_endpoint(0, Protocol::udp, a) ^ hash_endpoint(0, Protocol::udp, b);
  for (int round = 0; round < 1000; ++round) {
    const uint64_t key = random();
    const uint64_t other =
        hash_endpoint(key, Protocol::udp, a) ^ hash_endpoint(key, Protocol::udp, b);
    ASSERT_NE(other, difference);
  }
}

}  // namespace
}  // namespace adit::nat
