#include "lib/net/address.h"

#include <charconv>
#include <cstdio>

namespace adit {
namespace {

// A decimal number of 1-5 digits with no leading zero, at most `max`.
std::optional<uint32_t> parse_number(std::string_view text, uint32_t max) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

// Splits "address/length"; the length is 32 when absent.
std::optional<Ipv4Interface> parse_with_length(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = Ipv4Address::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == std::string_view::npos) return Ipv4Interface{*address, 32};
  const auto length = parse_number(text.substr(slash + 1), 32);
  if (!length) return std::nullopt;
  return Ipv4Interface{*address, static_cast<uint8_t>(*length)};
}

}  // namespace

std::optional<Ipv4Address> Ipv4Address::parse(std::string_view text) {
  uint32_t host = 0;
  for (int part = 0; part < 4; ++part) {
    const size_t dot = text.find('.');
    if ((dot == std::string_view::npos) != (part == 3)) return std::nullopt;
    const auto octet = parse_number(text.substr(0, dot), 255);
    if (!octet) return std::nullopt;
    host = host << 8 | *octet;
    if (part < 3) text.remove_prefix(dot + 1);
  }
  return from_host(host);
}

std::string Ipv4Address::to_string() const {
  const uint32_t h = host();
  char text[16];
  std::snprintf(text, sizeof text, "%u.%u.%u.%u", h >> 24, h >> 16 & 255, h >> 8 & 255, h & 255);
  return text;
}

std::optional<Ipv4Prefix> Ipv4Prefix::parse(std::string_view text) {
  const auto parsed = parse_with_length(text);
  if (!parsed) return std::nullopt;
  const Ipv4Prefix prefix = parsed->prefix();
  if (prefix.address != parsed->address) return std::nullopt;
  return prefix;
}

std::string Ipv4Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length_bits);
}

std::optional<Ipv4Interface> Ipv4Interface::parse(std::string_view text) {
  return parse_with_length(text);
}

std::string Ipv4Interface::to_string() const {
  return address.to_string() + "/" + std::to_string(length_bits);
}

std::optional<Endpoint> Endpoint::parse(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto address = Ipv4Address::parse(text.substr(0, colon));
  const auto port = parse_number(text.substr(colon + 1), 65535);
  if (!address || !port || *port == 0) return std::nullopt;
  return Endpoint{*address, Be16::from_host(static_cast<uint16_t>(*port))};
}

std::string Endpoint::to_string() const {
  return address.to_string() + ":" + std::to_string(port.host());
}

std::string MacAddress::to_string() const {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                bytes[3], bytes[4], bytes[5]);
  return text;
}

}  // namespace adit
