#include "tests/conformance/model_nat.h"

#include <algorithm>
#include <bit>

namespace adit::gateway::test {

ModelNat::InternalKey ModelNat::internal_key(Kind kind, uint32_t slot, const Endpoint& internal) {
  return {kind, slot, internal.address.host(), internal.port.host()};
}

ModelNat::ExternalKey ModelNat::external_key(Kind kind, const Endpoint& external) {
  return {kind, external.address.host(), external.port.host()};
}

// ---- Time ----

uint32_t ModelNat::timeout_s(Kind kind, const Mapping& mapping) const {
  const nat::Timeouts& timeouts = profile_.timeouts;
  if (kind == Kind::udp) {
    const bool is_short = timeouts.dns_s != 0 && !mapping.has_left_dns;
    return is_short ? timeouts.dns_s : timeouts.udp_s;
  }
  if (kind == Kind::icmp) return timeouts.icmp_s;
  const bool may_idle = mapping.has_many_remotes || mapping.phase == Phase::open ||
                        mapping.phase == Phase::fin_inside || mapping.phase == Phase::fin_outside;
  if (may_idle) return timeouts.tcp_established_s;
  const bool is_ending = mapping.phase == Phase::closed || mapping.phase == Phase::reset;
  return is_ending ? timeouts.tcp_closing_s : timeouts.tcp_opening_s;
}

uint32_t ModelNat::last_second(Kind kind, const Mapping& mapping) const {
  const uint32_t idle_s = mapping.last_use_s + timeout_s(kind, mapping);
  if (!mapping.tunnel_closed_s) return idle_s;
  return std::min(idle_s, *mapping.tunnel_closed_s - 1);
}

bool ModelNat::is_live(Kind kind, const Mapping& mapping, uint32_t now_s) const {
  return now_s <= last_second(kind, mapping);
}

// A mapping is released in the second after its last, and rests from then on.
void ModelNat::forget_what_is_over(uint32_t now_s) {
  std::erase_if(mappings_, [&](const auto& entry) {
    const auto& [key, mapping] = entry;
    const Kind kind = std::get<Kind>(key);
    const uint32_t rests_until = last_second(kind, mapping) + 1 + profile_.timeouts.port_rest_s;
    if (now_s <= rests_until) return false;
    by_external_.erase(external_key(kind, mapping.external));
    return true;
  });
  std::erase_if(of_closed_tunnels_, [&](const auto& entry) { return now_s > entry.second; });
}

// ---- Tunnels ----

void ModelNat::open(uint32_t slot, uint32_t now_s) {
  buckets_[slot] = {profile_.limits.new_mappings_burst, now_s};
}

// Where allocation is deterministic, the subscriber comes back to its ports and may have those at
// rest that were its own; but low ports are shared.
void ModelNat::close(uint32_t slot, uint32_t now_s) {
  const auto stays = [&](const Mapping& mapping) {
    return settings_.deterministic_ports > 0 && !is_low(mapping.external);
  };
  for (auto& [key, mapping] : mappings_) {
    const bool closes_now = mapping.slot == slot && !mapping.tunnel_closed_s;
    if (closes_now && stays(mapping)) mapping.tunnel_closed_s = now_s;
  }
  std::erase_if(mappings_, [&](const auto& entry) {
    const auto& [key, mapping] = entry;
    if (mapping.slot != slot || stays(mapping)) return false;
    const Kind kind = std::get<Kind>(key);
    const uint32_t released_s = std::min(now_s, last_second(kind, mapping) + 1);
    const ExternalKey external = external_key(kind, mapping.external);
    of_closed_tunnels_[external] = released_s + profile_.timeouts.port_rest_s;
    by_external_.erase(external);
    return true;
  });
}

// ---- TCP ----

ModelNat::Phase ModelNat::next(Phase phase, bool is_out, uint8_t flags) {
  const bool is_over =
      phase == Phase::nothing || phase == Phase::closed || phase == Phase::reset;
  if ((flags & kTcpRst) != 0) {
    return phase == Phase::nothing || phase == Phase::closed ? phase : Phase::reset;
  }
  if ((flags & kTcpSyn) != 0) {
    if (is_over) return is_out ? Phase::opening : Phase::opening_from_outside;
    const bool answers_inside = phase == Phase::opening && !is_out;
    const bool answers_outside = phase == Phase::opening_from_outside && is_out;
    return answers_inside || answers_outside ? Phase::open : phase;
  }
  if ((flags & kTcpFin) != 0) {
    if (phase == Phase::open || phase == Phase::reset) {
      return is_out ? Phase::fin_inside : Phase::fin_outside;
    }
    const bool is_second = (phase == Phase::fin_inside && !is_out) ||
                           (phase == Phase::fin_outside && is_out);
    return is_second ? Phase::closed : phase;
  }
  const bool shows_life = (phase == Phase::nothing && !is_out) ||
                          (phase == Phase::opening_from_outside && is_out) ||
                          phase == Phase::reset;
  return shows_life ? Phase::open : phase;
}

void ModelNat::use_out(Mapping& mapping, const Use& use) {
  if (use.kind != Kind::tcp) {
    if (use.remote.port.host() != 53) mapping.has_left_dns = true;
    mapping.last_use_s = use.now_s;
    return;
  }
  const bool is_syn = (use.tcp_flags & kTcpSyn) != 0;
  const bool is_reset = (use.tcp_flags & kTcpRst) != 0;
  const bool is_over = mapping.phase == Phase::nothing || mapping.phase == Phase::closed ||
                       mapping.phase == Phase::reset;
  if (mapping.tracked == use.remote) {
    mapping.phase = next(mapping.phase, true, use.tcp_flags);
  } else if (is_reset) {
    return;  // it refuses a stranger
  } else if (mapping.tracked.is_zero() || (is_syn && is_over && !mapping.has_many_remotes)) {
    const bool answers_a_syn = is_syn && (use.tcp_flags & kTcpAck) != 0;
    mapping.tracked = use.remote;
    mapping.phase = next(answers_a_syn ? Phase::opening_from_outside : Phase::nothing, true,
                         use.tcp_flags);
  } else {
    mapping.has_many_remotes = true;
  }
  mapping.last_use_s = use.now_s;
}

void ModelNat::use_in(Mapping& mapping, const Use& use) {
  if (use.kind == Kind::tcp) {
    const bool is_plain_syn = (use.tcp_flags & (kTcpSyn | kTcpRst)) == kTcpSyn;
    if (mapping.tracked.is_zero() && is_plain_syn) mapping.tracked = use.remote;
    if (mapping.tracked != use.remote) return;  // a stranger changes nothing
    mapping.phase = next(mapping.phase, false, use.tcp_flags);
  }
  mapping.last_use_s = use.now_s;
}

// ---- Packets ----

bool ModelNat::take_token(uint32_t slot, uint32_t now_s) {
  const nat::Limits& limits = profile_.limits;
  Bucket& bucket = buckets_[slot];
  const uint64_t filled =
      bucket.tokens + uint64_t{now_s - bucket.filled_s} * limits.new_mappings_per_second;
  bucket = {static_cast<uint32_t>(std::min<uint64_t>(filled, limits.new_mappings_burst)), now_s};
  if (bucket.tokens == 0) return false;
  --bucket.tokens;
  return true;
}

ModelNat::Verdict ModelNat::outbound(uint32_t slot, const Endpoint& internal, const Use& use,
                                     Endpoint& external) {
  if (settings_.deterministic_ports > 0 && !range_of(slot)) return Verdict::no_range;
  const auto known = mappings_.find(internal_key(use.kind, slot, internal));
  if (known == mappings_.end() || !is_live(use.kind, known->second, use.now_s)) {
    const auto live = std::ranges::count_if(mappings_, [&](const auto& entry) {
      return entry.second.slot == slot &&
             is_live(std::get<Kind>(entry.first), entry.second, use.now_s);
    });
    if (live >= profile_.limits.mappings) return Verdict::mapping_limit;
    if (!take_token(slot, use.now_s)) return Verdict::rate_limited;
    if (known == mappings_.end()) return Verdict::make_new;
    // Its own port is at rest: it gets that one back, and starts anew.
    const Endpoint kept = known->second.external;
    known->second = {.slot = slot, .internal = internal, .external = kept,
                     .last_use_s = use.now_s};
  }
  use_out(known->second, use);
  external = known->second.external;
  return Verdict::forward;
}

// RFC 7422: the first subscriber has the first whole range of the first address, and so on. Where
// the range of `slot` begins; nullopt: there are not so many.
std::optional<Endpoint> ModelNat::range_of(uint32_t slot) const {
  uint32_t next_slot = 1;
  for (const Ipv4Address address : settings_.pool) {
    for (unsigned first = 0; first <= 65535; first += settings_.deterministic_ports) {
      const unsigned last = first + settings_.deterministic_ports - 1;
      if (first < settings_.first_port || last > settings_.last_port) continue;
      if (next_slot++ == slot) return at(address, first);
    }
  }
  return std::nullopt;
}

bool ModelNat::is_in_range(const Endpoint& external, const Endpoint& range) const {
  const unsigned first = range.port.host();
  const unsigned port = external.port.host();
  return external.address == range.address && port >= first &&
         port < first + settings_.deterministic_ports;
}

bool ModelNat::wants_low_port(Kind kind, const Endpoint& internal) const {
  return settings_.low_ports > 0 && kind != Kind::icmp && internal.port.host() < 1024;
}

bool ModelNat::is_low(const Endpoint& external) const {
  const unsigned port = external.port.host();
  return port >= settings_.first_low_port &&
         port < settings_.first_low_port + unsigned{settings_.low_ports};
}

std::string ModelNat::learn(uint32_t slot, const Endpoint& internal, const Endpoint& external,
                            const Use& use) {
  const unsigned port = external.port.host();
  const bool low = wants_low_port(use.kind, internal);
  const bool in_range = port >= settings_.first_port && port <= settings_.last_port;
  if (low ? !is_low(external) : !in_range) return "a port out of range";
  if (profile_.port_parity && use.kind != Kind::icmp && (port - internal.port.host()) % 2 != 0) {
    return "a port of the wrong parity";
  }
  if (std::ranges::find(settings_.pool, external.address) == settings_.pool.end()) {
    return "an address that is not the pool's";
  }
  const unsigned share = tunnels_.home(slot);
  // With ranges a tunnel goes to the worker of its range, which the tests here do not do.
  if (!settings_.shares.empty() && settings_.deterministic_ports == 0 &&
      settings_.shares[port / nat::kWindowPorts] != share) {
    return "a port of another worker's share";
  }
  if (settings_.deterministic_ports > 0) {
    const Endpoint range = *range_of(slot);
    if (external.address != range.address) return "an address that is not its range's";
    if (!low && !is_in_range(external, range)) return "a port that is not in its range";
  }
  for (const nat::ReservedPort& reserved : settings_.reserved) {
    if (reserved.address == external.address && reserved.port == port) return "a reserved port";
  }
  const ExternalKey key = external_key(use.kind, external);
  if (by_external_.contains(key)) return "a port that another endpoint has, or that rests";
  if (of_closed_tunnels_.contains(key)) return "a port that rests after its tunnel's end";
  for (const auto& [other_key, other] : mappings_) {
    const bool same_address = other.external.address == external.address;
    if (other.slot == slot && !same_address) return "a second address for one subscriber";
    const bool same_window = other.external.port.host() / 16 == port / 16;
    if (other.slot != slot && same_address && same_window && !low) {
      return "a port of another's block";
    }
  }
  Mapping made{.slot = slot, .internal = internal, .external = external,
               .last_use_s = use.now_s};
  use_out(made, use);
  mappings_[internal_key(use.kind, slot, internal)] = made;
  by_external_[key] = internal_key(use.kind, slot, internal);
  return "";
}

// Which endpoints a block still has room for is the gateway's own affair; that it is not refused
// while there is plenty is ours.
std::string ModelNat::learn_refusal(uint32_t slot, const Endpoint& internal, Kind kind,
                                    Fate reason) const {
  const bool has_parity = profile_.port_parity && kind != Kind::icmp;
  // The least that must be full: a window, of which one port may be reserved, or half of one.
  const int window_ports = has_parity ? 7 : 15;
  const auto held = [&](auto&& wanted) {
    return std::ranges::count_if(mappings_, [&](const auto& entry) {
      return wanted(entry.second, std::get<Kind>(entry.first));
    });
  };
  const auto is_same_sort = [&](const Mapping& other, Kind other_kind) {
    const bool same_parity = (other.internal.port.host() - internal.port.host()) % 2 == 0;
    return other_kind == kind && (!has_parity || same_parity);
  };
  const auto low_of_slot = held([&](const Mapping& other, Kind) {
    return other.slot == slot && is_low(other.external);
  });
  const auto others_of_slot = held([&](const Mapping& other, Kind) {
    return other.slot == slot && !is_low(other.external);
  });
  if (reason == Fate::pool_exhausted) {
    const bool has_address = low_of_slot + others_of_slot > 0;
    return has_address ? "the pool cannot be what is full: it has an address" : "";
  }
  if (reason == Fate::port_limit && wants_low_port(kind, internal)) {
    const unsigned parts = std::bit_ceil(unsigned{settings_.sharers});
    return low_of_slot == settings_.low_ports / parts / 8 ? "" : "refused a low port before its share";
  }
  if (reason == Fate::port_limit) {
    const bool has_no_block = others_of_slot == 0 && low_of_slot > 0;
    if (has_no_block && settings_.deterministic_ports == 0) return "";  // its address has none
    const auto of_sort = held([&](const Mapping& other, Kind other_kind) {
      return other.slot == slot && !is_low(other.external) && is_same_sort(other, other_kind);
    });
    return of_sort >= window_ports ? "" : "refused for want of ports, with a window free";
  }
  if (reason == Fate::low_ports_full && wants_low_port(kind, internal)) {
    const auto of_sort = held([&](const Mapping& other, Kind other_kind) {
      return is_low(other.external) && is_same_sort(other, other_kind);
    });
    const auto at_rest = std::ranges::count_if(of_closed_tunnels_, [&](const auto& entry) {
      return std::get<Kind>(entry.first) == kind && std::get<2>(entry.first) < 1024;
    });
    return of_sort + at_rest >= window_ports ? "" : "refused a low port with a window free";
  }
  return "no mapping, and no reason that fits";
}

std::optional<ModelNat::Owner> ModelNat::owner_of(Kind kind, const Endpoint& external,
                                                  uint32_t now_s) const {
  const auto key = by_external_.find(external_key(kind, external));
  if (key == by_external_.end()) return std::nullopt;
  const Mapping& mapping = mappings_.at(key->second);
  if (!is_live(kind, mapping, now_s)) return std::nullopt;
  return Owner{mapping.slot, mapping.internal};
}

std::optional<ModelNat::Owner> ModelNat::inbound(const Endpoint& external, const Use& use) {
  const std::optional<Owner> owner = owner_of(use.kind, external, use.now_s);
  if (owner) use_in(mappings_.at(by_external_.at(external_key(use.kind, external))), use);
  return owner;
}

std::optional<Endpoint> ModelNat::external_of(Kind kind, uint32_t slot, const Endpoint& internal,
                                              uint32_t now_s) const {
  const auto known = mappings_.find(internal_key(kind, slot, internal));
  if (known == mappings_.end() || !is_live(kind, known->second, now_s)) return std::nullopt;
  return known->second.external;
}

}  // namespace adit::gateway::test
