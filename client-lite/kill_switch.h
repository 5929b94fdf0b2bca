// The kill switch: what is to go through the tunnel goes nowhere else. For each prefix of the
// configuration there is a second route, which refuses; it loses against the tunnel's own while
// that is there, and takes effect whenever it is not: before the tunnel is up, while a gateway is
// changed, and after the client was killed. These routes belong to no device, so the undo journal
// has them.
//
// Owner: HostNetwork installs them; this says which.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/net/address.h"

namespace adit::client {

// Above any that people use: lower wins among equal destinations.
inline constexpr uint32_t kRefusalMetric = 0x7fff'ad00;

struct Refusal {
  Ipv4Prefix prefix;
  // Of IPv6 only the halves of everything are ever refused: "::/1" and "8000::/1".
  bool is_ipv6 = false;
  uint8_t ipv6_first_byte = 0;
  uint8_t ipv6_length_bits = 0;

  std::string to_string() const;
  static std::optional<Refusal> parse(const std::string& text);
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

// What these routes leave to be refused elsewhere. The default route is taken as its halves, as the
// tunnel takes it, and means IPv6 too, which the tunnel does not carry.
std::vector<Refusal> refusals_of(std::span<const Ipv4Prefix> routes);

}  // namespace adit::client
