#include "lib/tunnel/keys.h"

#include "lib/tunnel/crypto.h"

namespace adit::tunnel {

namespace {

// RFC 4648 §4.
constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr size_t kKeyTextBytes = 44;

std::optional<uint32_t> sextet(char letter) {
  const size_t value = kAlphabet.find(letter);
  if (value == std::string_view::npos) return std::nullopt;
  return static_cast<uint32_t>(value);
}

}  // namespace

PrivateKey generate_private_key(const RandomSource& random) {
  PrivateKey key;
  random(key.bytes);
  key.bytes[0] &= 0xf8;  // RFC 7748 §5, decodeScalar25519
  key.bytes[31] = static_cast<uint8_t>((key.bytes[31] & 0x7f) | 0x40);
  return key;
}

PublicKey public_key_of(const PrivateKey& key) {
  return {x25519_public(key.bytes)};
}

std::string to_base64(std::span<const uint8_t, 32> bytes) {
  std::string text;
  text.reserve(kKeyTextBytes);
  // 32 bytes are ten groups of three and one of two; the missing byte reads as zero.
  for (size_t i = 0; i < 32; i += 3) {
    const uint32_t last = i + 2 < 32 ? bytes[i + 2] : 0u;
    const uint32_t group = uint32_t{bytes[i]} << 16 | uint32_t{bytes[i + 1]} << 8 | last;
    for (int shift = 18; shift >= 0; shift -= 6) text += kAlphabet[group >> shift & 63];
  }
  text.back() = '=';
  return text;
}

std::optional<std::array<uint8_t, 32>> from_base64(std::string_view text) {
  if (text.size() != kKeyTextBytes || text.back() != '=') return std::nullopt;
  std::array<uint8_t, 33> bytes{};
  for (size_t i = 0; i < kKeyTextBytes; i += 4) {
    uint32_t group = 0;
    for (size_t j = i; j < i + 4; ++j) {
      const auto value = j == kKeyTextBytes - 1 ? std::optional<uint32_t>(0) : sextet(text[j]);
      if (!value) return std::nullopt;
      group = group << 6 | *value;
    }
    const size_t at = i / 4 * 3;
    bytes[at] = static_cast<uint8_t>(group >> 16);
    bytes[at + 1] = static_cast<uint8_t>(group >> 8);
    bytes[at + 2] = static_cast<uint8_t>(group);
  }
  // The last letter carries two bits more than the key: they must be zero, or two texts would
  // name one key.
  if (bytes[32] != 0) return std::nullopt;
  std::array<uint8_t, 32> key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = bytes[i];
  wipe(bytes);
  return key;
}

}  // namespace adit::tunnel
