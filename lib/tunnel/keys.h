// Long-term keys, in WireGuard's formats.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace adit::tunnel {

// Fills bytes with cryptographic randomness. Injected, so that lib/ makes no system call and a
// test can replay a handshake.
using RandomSource = std::function<void(std::span<uint8_t>)>;

struct PrivateKey {
  std::array<uint8_t, 32> bytes{};
  friend bool operator==(const PrivateKey&, const PrivateKey&) = default;
};
struct PublicKey {
  std::array<uint8_t, 32> bytes{};
  friend auto operator<=>(const PublicKey&, const PublicKey&) = default;
};
struct PresharedKey {  // all zero = none, as in WireGuard
  std::array<uint8_t, 32> bytes{};
  friend bool operator==(const PresharedKey&, const PresharedKey&) = default;
};

PrivateKey generate_private_key(const RandomSource& random);  // clamped (RFC 7748 §5)
PublicKey public_key_of(const PrivateKey& key);

// Base64 of 32 bytes: 44 characters with one '='.
std::string to_base64(std::span<const uint8_t, 32> bytes);
// nullopt unless `text` is exactly such a string with zero trailing bits.
std::optional<std::array<uint8_t, 32>> from_base64(std::string_view text);

}  // namespace adit::tunnel
