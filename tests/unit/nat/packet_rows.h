// What the rewriting tests share: the worked example's endpoints, a mapping between them, and
// hexadecimal comparison, so that a wrong byte shows where it stands.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "lib/nat/mapping.h"
#include "lib/net/parse.h"
#include "tests/support/packets.h"

namespace adit::nat {

inline constexpr Ipv4Address kInternalAddress = Ipv4Address::from_octets(192, 168, 1, 10);
inline constexpr Ipv4Address kExternalAddress = Ipv4Address::from_octets(30, 1, 1, 10);
inline constexpr Ipv4Address kRemoteAddress = Ipv4Address::from_octets(40, 1, 1, 10);
inline constexpr Ipv4Address kRouterAddress = Ipv4Address::from_octets(50, 9, 8, 7);
inline constexpr Endpoint kInternal{kInternalAddress, Be16::from_host(1025)};
inline constexpr Endpoint kExternal{kExternalAddress, Be16::from_host(40007)};
inline constexpr Endpoint kRemote{kRemoteAddress, Be16::from_host(6600)};

inline Mapping mapping_between(const Endpoint& internal, const Endpoint& external) {
  Mapping mapping;
  bind_endpoints(mapping, internal, external);
  mapping.state = MappingState::live;
  return mapping;
}

// Fails the test if `packet` is one that the gateway would not have gone on with.
inline ParsedIpv4 parsed_or_fail(const test::Bytes& packet) {
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
  return parsed;
}

inline std::string hex(const test::Bytes& bytes) {
  std::string out;
  char text[8];
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::snprintf(text, sizeof text, "%02x%s", bytes[i], i % 16 == 15 ? "\n" : " ");
    out += text;
  }
  return out;
}

}  // namespace adit::nat
