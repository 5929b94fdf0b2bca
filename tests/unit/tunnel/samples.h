// What the tunnel's tests share: bytes from hexadecimal text, a random source that repeats itself,
// and two ends that know each other.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tunnel/keys.h"
#include "lib/tunnel/noise.h"

namespace adit::tunnel::test {

inline std::vector<uint8_t> bytes_of_hex(std::string_view hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    const std::string pair(hex.substr(i, 2));
    bytes.push_back(static_cast<uint8_t>(std::strtoul(pair.c_str(), nullptr, 16)));
  }
  return bytes;
}

template <size_t N>
std::array<uint8_t, N> array_of_hex(std::string_view hex) {
  const auto bytes = bytes_of_hex(hex);
  std::array<uint8_t, N> out{};
  if (bytes.size() != N) std::abort();
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

inline std::string hex_of(std::span<const uint8_t> bytes) {
  std::string hex;
  for (const uint8_t byte : bytes) {
    char pair[3];
    std::snprintf(pair, sizeof(pair), "%02x", byte);
    hex += pair;
  }
  return hex;
}

// The same bytes for the same seed, so that a failing test fails again.
inline RandomSource seeded_random(uint64_t seed) {
  return [engine = std::mt19937_64(seed)](std::span<uint8_t> out) mutable {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(engine());
  };
}

// A client and a gateway that know each other's keys.
struct TwoEnds {
  explicit TwoEnds(const PresharedKey& preshared_key = {}, uint64_t seed = 1)
      : random(seeded_random(seed)),
        client(make_identity(generate_private_key(random))),
        gateway(make_identity(generate_private_key(random))),
        gateway_seen_by_client(*make_remote_identity(client, gateway.public_key, preshared_key)),
        client_seen_by_gateway(*make_remote_identity(gateway, client.public_key, preshared_key)) {}

  RandomSource random;
  Identity client;
  Identity gateway;
  RemoteIdentity gateway_seen_by_client;
  RemoteIdentity client_seen_by_gateway;
};

template <typename Message>
std::span<uint8_t> bytes_in(Message& message) {
  return {reinterpret_cast<uint8_t*>(&message), sizeof(message)};
}
template <typename Message>
std::span<const uint8_t> bytes_in(const Message& message) {
  return {reinterpret_cast<const uint8_t*>(&message), sizeof(message)};
}

}  // namespace adit::tunnel::test
