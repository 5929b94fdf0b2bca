// The checks of what the file gives a subscriber outside: routed prefixes, an address of its own,
// and forwarded ports. Nobody else may have any of it.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gateway/config_places.h"
#include "lib/net/headers.h"

namespace adit::gateway {
namespace {

using config::Ipv4Range;
using config::Section;

// An address or prefix that the file gives to a subscriber, and where it says so.
struct Claim {
  Ipv4Range range;
  std::string text;
  size_t subscriber;
  const char* key;
  std::optional<size_t> item;  // of the key's list
  bool is_outside;             // else of a LAN

  void fail(ConfigPlaces& places, const std::string& what) const {
    Section& section = places.subscribers[subscriber];
    const std::string message = text + " " + what;
    item ? section.fail_item(key, *item, message) : section.fail(key, message);
  }
};

std::vector<Claim> claims_of(const Config& config, const ConfigPlaces& places) {
  std::vector<Claim> claims;
  for (size_t s = 0; s < config.subscribers.size(); ++s) {
    const SubscriberConfig& subscriber = config.subscribers[s];
    const auto add = [&](const char* key, const std::vector<Ipv4Prefix>& prefixes, bool outside) {
      if (!places.subscribers[s].good(key)) return;
      for (size_t i = 0; i < prefixes.size(); ++i) {
        claims.push_back({range_of(prefixes[i]), prefixes[i].to_string(), s, key, i, outside});
      }
    };
    add("prefixes", subscriber.prefixes, false);
    add("routed", subscriber.routed, true);
    if (subscriber.external_address && places.subscribers[s].good("external_address")) {
      const Ipv4Address address = *subscriber.external_address;
      claims.push_back(
          {{address, address}, address.to_string(), s, "external_address", std::nullopt, true});
    }
  }
  return claims;
}

// What is wrong with such a claim by itself, beside the gateway's own addresses and networks.
std::string conflict_of(const Ipv4Range& range, const Config& config, ConfigPlaces& places) {
  if (!is_host_range(range)) return "holds addresses that no host may have";
  for (size_t i = 0; i < config.ports.size(); ++i) {
    const PortConfig& port = config.ports[i];
    if (places.ports[i].good("address") && range.contains(port.address.address)) {
      return "holds the address of port \"" + port.name + "\"";
    }
    if (port.next_hop && range.contains(*port.next_hop)) {
      return "holds the next hop of port \"" + port.name + "\"";
    }
  }
  for (const Ipv4Range& external : config.nat.external) {
    if (!range.overlaps(external)) continue;
    return "overlaps " + external.to_string() + ", which the NAT shares out (nat.external)";
  }
  for (size_t i = 0; i < config.pools.size(); ++i) {
    const PoolConfig& pool = config.pools[i];
    if (!places.pools[i].good("network") || !range.overlaps(range_of(pool.network))) continue;
    return "overlaps " + pool.network.to_string() + " of pool \"" + pool.name + "\"";
  }
  return "";
}

// In sorted order an overlap shows against the claim that reaches furthest so far. LANs among
// themselves are compared elsewhere, since they may overlap.
void check_overlaps(std::vector<Claim> claims, ConfigPlaces& places) {
  std::stable_sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) {
    return a.range.first != b.range.first ? a.range.first < b.range.first
                                          : a.range.last > b.range.last;
  });
  const Claim* furthest[2] = {};  // of LANs, and of addresses outside
  for (const Claim& claim : claims) {
    for (const bool is_outside : {true, false}) {
      const Claim* const other = furthest[is_outside];
      if ((!is_outside && !claim.is_outside) || other == nullptr ||
          !other->range.overlaps(claim.range)) {
        continue;
      }
      claim.fail(places, "overlaps " + other->text + " at " +
                             places.subscribers[other->subscriber].place(other->key));
      break;
    }
    const Claim*& mine = furthest[claim.is_outside];
    if (mine == nullptr || mine->range.last < claim.range.last) mine = &claim;
  }
}

// By protocol and endpoint: who has it already.
using Endpoints = std::map<std::pair<uint8_t, Endpoint>, std::string>;

void check_forward_external(const ForwardConfig& forward, Section& section, const Config& config,
                            Endpoints& known) {
  const Endpoint& external = forward.external;
  const auto holds = [&](const Ipv4Range& range) { return range.contains(external.address); };
  if (std::ranges::none_of(config.nat.external, holds)) {
    return section.fail("external", external.address.to_string() +
                                        " is no external address of the NAT (nat.external)");
  }
  if (forward.protocol == kIpUdp && external == config.tunnel_endpoint()) {
    return section.fail("external", external.to_string() + " is the tunnel's own endpoint");
  }
  const auto [other, is_new] =
      known.try_emplace({forward.protocol, external}, section.place("external"));
  if (!is_new) {
    section.fail("external", external.to_string() + " is already forwarded at " + other->second);
  }
}

void check_forward_target(const ForwardConfig& forward, Section& section,
                          const SubscriberConfig& subscriber, Endpoints& known) {
  const Ipv4Address address = forward.to.address;
  if (address.is_zero()) {
    return section.fail("to", "needs an address: the subscriber has no fixed one");
  }
  const auto holds = [&](const Ipv4Prefix& prefix) { return prefix.contains(address); };
  if (address != subscriber.address && std::ranges::none_of(subscriber.prefixes, holds)) {
    return section.fail("to", address.to_string() +
                                  " is neither the subscriber's fixed address nor in its prefixes");
  }
  if (address == subscriber.address && subscriber.external_address) {
    return section.fail("to", address.to_string() + " is one to one with " +
                                  subscriber.external_address->to_string());
  }
  // What it sends could leave from one of two.
  const auto [other, is_new] =
      known.try_emplace({forward.protocol, forward.to}, section.place("to"));
  if (!is_new) {
    section.fail("to", forward.to.to_string() + " is already forwarded to at " + other->second);
  }
}

void check_forwards(const Config& config, ConfigPlaces& places) {
  if (!places.nat.sound("external") || !places.tunnel.sound("port")) return;
  Endpoints externals;
  for (size_t s = 0; s < config.subscribers.size(); ++s) {
    const SubscriberConfig& subscriber = config.subscribers[s];
    const Section& of_subscriber = places.subscribers[s];
    Endpoints targets;
    for (size_t f = 0; f < subscriber.forwards.size(); ++f) {
      Section& section = places.forwards[s][f];
      if (!section.good("protocol")) continue;
      if (section.good("external")) {
        check_forward_external(subscriber.forwards[f], section, config, externals);
      }
      if (section.good("to") && of_subscriber.sound("address") && of_subscriber.sound("prefixes")) {
        check_forward_target(subscriber.forwards[f], section, subscriber, targets);
      }
    }
  }
}

}  // namespace

void check_reach(const Config& config, ConfigPlaces& places) {
  std::vector<Claim> claims = claims_of(config, places);
  const bool any_outside = std::ranges::any_of(claims, &Claim::is_outside);
  for (size_t s = 0; s < config.subscribers.size(); ++s) {
    const SubscriberConfig& subscriber = config.subscribers[s];
    Section& section = places.subscribers[s];
    if (section.good("external_address") && section.sound("address") && !subscriber.address) {
      section.fail("external_address", "needs a fixed address to be the same as");
    }
    const size_t prefixes = subscriber.prefixes.size() + subscriber.routed.size();
    if (section.good("routed") && section.sound("prefixes") && prefixes > kSubscriberPrefixesMax) {
      section.fail("routed", std::to_string(prefixes) + " entries, with those of prefixes, are " +
                                 "more than the " + std::to_string(kSubscriberPrefixesMax) +
                                 " that are supported");
    }
  }
  check_forwards(config, places);
  if (!any_outside) return;
  std::erase_if(claims, [&](const Claim& claim) {
    if (!claim.is_outside) return false;
    const std::string conflict = conflict_of(claim.range, config, places);
    if (!conflict.empty()) claim.fail(places, conflict);
    return !conflict.empty();
  });
  check_overlaps(std::move(claims), places);
}

}  // namespace adit::gateway
