// A tunnel beside the one in use, so that a move from one gateway to another loses no packet: first
// to the gateway that is moved to, until packets can go there; then, when the two have changed
// places, to the one that was moved from, while packets may still be under way in it.
//
//     handshaking ──► addressing ──► changes places: is left ──kLingerNs──► goodbye
//          └── kMakeNs ────┴──► given up; the tunnel in use has noticed nothing
//
// Whatever comes in it is delivered in either case: the gateway sends here as soon as it likes.
//
// Owner: Client (client_return.cpp).
#pragma once

#include <algorithm>
#include <cstdint>

#include "client-lite/lane_offer.h"
#include "client-lite/packet_path.h"
#include "lib/dhcp/client.h"
#include "lib/net/address.h"
#include "lib/tunnel/peer.h"

namespace adit::client {

struct SecondTunnel {
  // As long as any gateway has to answer, its address included.
  static constexpr uint64_t kMakeNs = 15'000'000'000;
  // More than the longest round trip that path_watch.h waits for.
  static constexpr uint64_t kLingerNs = 3'000'000'000;

  Endpoint gateway;
  tunnel::Peer peer;
  PacketPath path;
  dhcp::Client dhcp;
  uint64_t ends_ns;
  LaneOffer offer;
  bool is_left = false;
  // Where both gateways have one key they are one gateway, by two ways: its lease is in use.
  bool has_own_lease = true;

  uint64_t next_deadline_ns() const {
    const uint64_t next_ns = std::min(ends_ns, path.next_expiry_ns());
    if (is_left) return next_ns;
    return std::min({next_ns, peer.next_deadline_ns(), dhcp.next_deadline_ns(),
                     offer.next_deadline_ns()});
  }
};

}  // namespace adit::client
