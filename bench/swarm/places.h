// Where swarm's clients are, as the gateway sees them: a client that moves has another address and
// another port.
#pragma once

#include <cstdint>
#include <optional>

#include "lib/net/address.h"

namespace adit::bench {

inline constexpr unsigned kClientBits = 20;
inline constexpr uint32_t kClientsMax = 1u << kClientBits;

namespace detail {
inline constexpr uint32_t kFirstClientAddress = 0x14000001;  // 20.0.0.1
inline constexpr uint16_t kFirstClientPort = 51'820;
inline constexpr uint32_t kClientPorts = 8192;
inline constexpr uint32_t kClientAddresses = 4;  // in turn, each kClientsMax further
}  // namespace detail

// Of a client that has moved so often; no two places of 8,192 are the same.
constexpr Endpoint place_of(uint32_t client, uint32_t moves) {
  using namespace detail;
  const uint32_t away = moves % kClientAddresses << kClientBits;
  return {Ipv4Address::from_host(kFirstClientAddress + away + client),
          Be16::from_host(static_cast<uint16_t>(kFirstClientPort + moves % kClientPorts))};
}

// Whose address it is; nullopt: no client's.
constexpr std::optional<uint32_t> client_at(Ipv4Address address) {
  using namespace detail;
  const uint32_t offset = address.host() - kFirstClientAddress;
  if (offset >= kClientAddresses << kClientBits) return std::nullopt;
  return offset % kClientsMax;
}

// The last client's last address is its own, and below the flood's (flood.h).
static_assert(client_at(place_of(kClientsMax - 1, 3).address) == kClientsMax - 1);
static_assert(client_at(place_of(5, 8191).address) == 5 && place_of(5, 8191) != place_of(5, 0));
static_assert(place_of(kClientsMax - 1, 3).address < Ipv4Address::from_octets(20, 128, 0, 0));

}  // namespace adit::bench
