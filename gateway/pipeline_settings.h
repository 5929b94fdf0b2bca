// What the packet path is told once and for all: its ports, and what the configuration says of
// packets. Set before the worker starts, never changed.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/net/address.h"

namespace adit::gateway {

inline constexpr unsigned kPortsMax = 4;

// What the packet path knows of a port. Set before the worker starts, never changed.
struct PortView {
  Ipv4Interface address;
  Ipv4Address next_hop;  // zero: none
  MacAddress mac;
  uint16_t mtu_bytes = 1500;
  uint16_t vlan = 0;                  // 0: untagged
  bool is_uplink = false;             // tunnels come in here
  bool is_public = false;             // translated packets go out here
  bool checksum_ip_by_port = false;   // the device writes the IPv4 header checksum
  bool checksum_udp_by_port = false;  // the device writes the UDP checksum
};

// What we may say of our own accord, and how often (RFC 1812 §4.3.2.8, RFC 5508 REQ-9).
struct IcmpErrorSettings {
  bool to_clients = true;
  bool to_internet = true;
  uint32_t per_second = 1000;  // all tunnels together
  uint32_t per_tunnel_per_second = 50;  // that one tunnel may cause, so that it cannot use up all
};

struct PortControlSettings {
  bool enabled = false;
  uint32_t lifetime_min_s = 120;
  uint32_t lifetime_max_s = 86'400;
};

struct PipelineSettings {
  std::vector<PortView> ports;
  uint8_t uplink = 0;
  uint8_t public_port = 0;
  Endpoint tunnel_endpoint;           // our own outer address and port
  std::vector<Ipv4Prefix> inner_networks;
  std::vector<Ipv4Address> inner_routers;  // our own addresses in them
  bool tunnel_to_tunnel = false;  // may any clients reach each other by inner addresses?
  bool inner_networks_outside = false;  // are addresses of those networks in use outside as well?
  std::vector<Ipv4Prefix> exempt;       // networks outside that see inner addresses
  bool mss_clamp = true;
  bool express = true;  // off: every packet through the stages, to hold one against the other
  bool controls_wait = true;  // heartbeats, for others; off where workers sleep
  IcmpErrorSettings icmp_errors;
  PortControlSettings port_control;
  bool tell_blocks = false;   // to the control thread, which logs them
  uint32_t limit_window_s = 0;  // a limit met is told once in so long; 0: never
  uint64_t ipv4_id_key = 0;  // random: see lib/nat/ipv4_ids.h
  unsigned workers = 1;
  unsigned worker = 0;          // which of them this one's is
  std::vector<uint8_t> shares;  // whose each window of ports is, as the translator has it
};

}  // namespace adit::gateway
