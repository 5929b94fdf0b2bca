#include "client-lite/kill_switch.h"

#include <algorithm>

namespace adit::client {
namespace {

constexpr Refusal kIpv6Halves[] = {{{}, true, 0x00, 1}, {{}, true, 0x80, 1}};

}  // namespace

std::string Refusal::to_string() const {
  if (!is_ipv6) return prefix.to_string();
  return ipv6_first_byte == 0 ? "::/1" : "8000::/1";
}

std::optional<Refusal> Refusal::parse(const std::string& text) {
  for (const Refusal& half : kIpv6Halves) {
    if (text == half.to_string()) return half;
  }
  const auto prefix = Ipv4Prefix::parse(text);
  if (!prefix) return std::nullopt;
  return Refusal{*prefix, false, 0, 0};
}

std::vector<Refusal> refusals_of(std::span<const Ipv4Prefix> routes) {
  std::vector<Refusal> refusals;
  const auto add = [&refusals](const Refusal& refusal) {
    if (std::find(refusals.begin(), refusals.end(), refusal) == refusals.end()) {
      refusals.push_back(refusal);
    }
  };
  for (const Ipv4Prefix& route : routes) {
    if (route.length_bits != 0) {
      add({route, false, 0, 0});
      continue;
    }
    add({{Ipv4Address::from_octets(0, 0, 0, 0), 1}, false, 0, 0});
    add({{Ipv4Address::from_octets(128, 0, 0, 0), 1}, false, 0, 0});
    for (const Refusal& half : kIpv6Halves) add(half);
  }
  return refusals;
}

}  // namespace adit::client
