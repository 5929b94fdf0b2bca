#include "gateway/settings.h"

#include <algorithm>

namespace adit::gateway {
namespace {

uint32_t seconds(uint64_t ns) { return static_cast<uint32_t>(ns / kSecond_ns); }

// One lane's part of what a subscriber may hold. Ports come in blocks, of which it may have one.
LimitsConfig limits_of_lane(const LimitsConfig& all, unsigned lanes, const NatConfig& nat) {
  LimitsConfig limits{.mappings = lane_share(all.mappings, lanes),
                      .new_mappings_per_second = lane_share(all.new_mappings_per_second, lanes),
                      .new_mappings_burst = lane_share(all.new_mappings_burst, lanes),
                      .blocks = all.blocks};
  const uint32_t ports = nat.ports_in(all.blocks) / lanes;
  while (limits.blocks > 1 && nat.ports_in(limits.blocks) > ports) --limits.blocks;
  return limits;
}

nat::Profile profile_of(const NatPolicyConfig& policy, const LimitsConfig& limits) {
  nat::Profile profile;
  profile.limits = {limits.mappings, limits.new_mappings_per_second, limits.new_mappings_burst,
                    static_cast<uint8_t>(limits.blocks)};
  const NatTimeouts& timeouts = policy.timeouts;
  profile.timeouts.udp_s = seconds(timeouts.udp_ns);
  profile.timeouts.tcp_established_s = seconds(timeouts.tcp_established_ns);
  profile.timeouts.tcp_opening_s = seconds(timeouts.tcp_opening_ns);
  profile.timeouts.tcp_closing_s = seconds(timeouts.tcp_closing_ns);
  profile.timeouts.icmp_s = seconds(timeouts.icmp_ns);
  profile.timeouts.dns_s = seconds(timeouts.dns_ns.value_or(0));
  profile.timeouts.port_rest_s = seconds(timeouts.port_rest_ns);
  profile.port_parity = policy.port_parity;
  profile.inbound_refresh = policy.inbound_refresh;
  profile.hairpin = policy.hairpin;
  const FilteringConfig& filtering = policy.filtering;
  profile.filtering = {filtering.udp, filtering.tcp, filtering.icmp};  // in nat::Protocol's order
  return profile;
}

void reserve_ports(const Config& config, nat::Settings& settings) {
  for (const ReservedPorts& reserved : config.nat.reserved) {
    for (const Ipv4Address address : settings.pool) {
      if (reserved.address && *reserved.address != address) continue;
      for (uint32_t port = reserved.ports.first; port <= reserved.ports.last; ++port) {
        settings.reserved.push_back({address, static_cast<uint16_t>(port)});
      }
    }
  }
  for (const SubscriberConfig& subscriber : config.subscribers) {
    for (const ForwardConfig& forward : subscriber.forwards) {
      settings.reserved.push_back({forward.external.address, forward.external.port.host()});
    }
  }
}

}  // namespace

nat::Settings nat_settings(const Config& config, std::vector<uint16_t>& profiles) {
  nat::Settings settings;
  for (const config::Ipv4Range& range : config.nat.external) {
    for (uint64_t a = range.first.host(); a <= range.last.host(); ++a) {
      settings.pool.push_back(Ipv4Address::from_host(static_cast<uint32_t>(a)));
    }
  }
  reserve_ports(config, settings);
  settings.first_port = config.nat.ports.first;
  settings.last_port = config.nat.ports.last;
  settings.first_block_ports = static_cast<uint16_t>(config.nat.first_block_ports);
  if (config.nat.allocation == Allocation::deterministic) {
    settings.deterministic_ports = static_cast<uint16_t>(config.nat.deterministic_ports);
  }
  if (config.nat.low_ports) {
    settings.first_low_port = config.nat.low_ports->first;
    settings.low_ports = static_cast<uint16_t>(config.nat.low_ports->count());
  }
  settings.profiles.clear();
  for (const SubscriberConfig& subscriber : config.subscribers) {
    std::vector<nat::Profile> by_lanes;
    for (unsigned lanes = 1; lanes <= config.lanes_of(subscriber); ++lanes) {
      by_lanes.push_back(profile_of(config.pools[subscriber.pool].nat,
                                    limits_of_lane(subscriber.limits, lanes, config.nat)));
    }
    auto found = std::ranges::search(settings.profiles, by_lanes).begin();
    if (found == settings.profiles.end()) {
      found = settings.profiles.insert(found, by_lanes.begin(), by_lanes.end());
    }
    profiles.push_back(static_cast<uint16_t>(found - settings.profiles.begin()));
  }
  if (settings.profiles.empty()) settings.profiles.push_back({});
  return settings;
}

Filter::Settings filter_settings(const NatConfig& nat) {
  return {.sessions = nat.sessions, .sessions_per_tunnel = nat.sessions_per_subscriber};
}

PipelineSettings pipeline_settings(const Config& config,
                                   const std::vector<PortView>& ports, uint64_t random) {
  PipelineSettings settings;
  settings.ports = ports;
  for (size_t i = 0; i < ports.size(); ++i) {
    settings.ports[i].is_uplink = i == config.uplink;
    settings.ports[i].is_public = i == config.public_port;
  }
  settings.uplink = static_cast<uint8_t>(config.uplink);
  settings.public_port = static_cast<uint8_t>(config.public_port);
  settings.tunnel_endpoint = config.tunnel_endpoint();
  for (const PoolConfig& pool : config.pools) {
    settings.inner_networks.push_back(pool.network);
    settings.inner_routers.push_back(pool.router);
  }
  settings.tunnel_to_tunnel = config.joins_tunnels();
  settings.inner_networks_outside = config.nat.inner_networks_outside;
  settings.exempt = config.nat.exempt;
  settings.mss_clamp = config.nat.mss_clamp;
  const PortControlConfig& control = config.nat.port_control;
  settings.port_control = {control.enabled, seconds(control.lifetime_min_ns),
                           seconds(control.lifetime_max_ns)};
  settings.tell_blocks = config.nat.log.blocks;
  if (config.nat.log.limits) settings.limit_window_s = seconds(config.nat.log.window_ns);
  settings.ipv4_id_key = random;
  const IcmpErrorsConfig& errors = config.nat.icmp_errors;
  settings.icmp_errors = {errors.to_clients, errors.to_internet, errors.per_second,
                          errors.per_subscriber_per_second};
  return settings;
}

std::vector<Forwards::Forward> all_forwards(const Config& config) {
  std::vector<Forwards::Forward> forwards;
  for (const SubscriberConfig& subscriber : config.subscribers) {
    for (const ForwardConfig& from : subscriber.forwards) {
      Forwards::Forward forward{.external = from.external, .internal = from.to};
      nat::protocol_of(from.protocol, forward.protocol);
      forwards.push_back(forward);
    }
  }
  return forwards;
}

}  // namespace adit::gateway
