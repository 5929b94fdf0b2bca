// IPv4 addresses, prefixes and UDP endpoints as values.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/net/be.h"

namespace adit {

// An IPv4 address; 4 bytes in network order, alignment 1.
struct Ipv4Address {
  Be32 value;

  static constexpr Ipv4Address from_host(uint32_t host) { return {Be32::from_host(host)}; }
  static constexpr Ipv4Address from_octets(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    return from_host(uint32_t{a} << 24 | uint32_t{b} << 16 | uint32_t{c} << 8 | d);
  }
  // Dotted quad only, each part 0-255 without leading zeros; nullopt for anything else.
  static std::optional<Ipv4Address> parse(std::string_view text);

  constexpr uint32_t host() const { return value.host(); }
  constexpr bool is_zero() const { return value.raw() == 0; }
  constexpr bool is_broadcast() const { return value.raw() == 0xffffffffu; }
  constexpr bool is_multicast() const { return (host() >> 28) == 0xe; }
  constexpr bool is_loopback() const { return (host() >> 24) == 127; }
  std::string to_string() const;

  friend constexpr bool operator==(const Ipv4Address&, const Ipv4Address&) = default;
  friend constexpr std::strong_ordering operator<=>(const Ipv4Address&,
                                                    const Ipv4Address&) = default;
};
static_assert(sizeof(Ipv4Address) == 4);

// An address range given by its leading bits; `address` keeps only those bits.
struct Ipv4Prefix {
  Ipv4Address address;
  uint8_t length_bits = 0;  // 0-32

  // "a.b.c.d/len"; a bare address is a /32. nullopt when malformed or when host bits are set.
  static std::optional<Ipv4Prefix> parse(std::string_view text);

  constexpr uint32_t mask_host() const {
    return length_bits == 0 ? 0 : ~uint32_t{0} << (32 - length_bits);
  }
  constexpr Ipv4Address mask() const { return Ipv4Address::from_host(mask_host()); }
  constexpr bool contains(Ipv4Address a) const {
    return ((a.host() ^ address.host()) & mask_host()) == 0;
  }
  constexpr bool overlaps(const Ipv4Prefix& other) const {
    return contains(other.address) || other.contains(address);
  }
  std::string to_string() const;

  friend constexpr bool operator==(const Ipv4Prefix&, const Ipv4Prefix&) = default;
};

// An address of an interface together with its subnet: "192.168.1.10/24".
struct Ipv4Interface {
  Ipv4Address address;
  uint8_t length_bits = 32;

  static std::optional<Ipv4Interface> parse(std::string_view text);
  constexpr Ipv4Prefix prefix() const {
    Ipv4Prefix p{address, length_bits};
    p.address = Ipv4Address::from_host(address.host() & p.mask_host());
    return p;
  }
  std::string to_string() const;

  friend constexpr bool operator==(const Ipv4Interface&, const Ipv4Interface&) = default;
};

// An IPv4 address and a UDP or TCP port; 6 bytes, alignment 1, usable as a hash key.
struct Endpoint {
  Ipv4Address address;
  Be16 port;

  // "a.b.c.d:port", port 1-65535.
  static std::optional<Endpoint> parse(std::string_view text);
  constexpr bool is_zero() const { return address.is_zero() && port.raw() == 0; }
  std::string to_string() const;

  friend constexpr bool operator==(const Endpoint&, const Endpoint&) = default;
  friend constexpr std::strong_ordering operator<=>(const Endpoint&, const Endpoint&) = default;
};
static_assert(sizeof(Endpoint) == 6 && alignof(Endpoint) == 1);
static_assert(std::has_unique_object_representations_v<Endpoint>);

// A 48-bit Ethernet address.
struct MacAddress {
  std::array<uint8_t, 6> bytes{};

  constexpr bool is_group() const { return (bytes[0] & 1) != 0; }
  std::string to_string() const;
  friend constexpr bool operator==(const MacAddress&, const MacAddress&) = default;
};
inline constexpr MacAddress kBroadcastMac{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

}  // namespace adit
