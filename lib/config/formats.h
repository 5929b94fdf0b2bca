// How a scalar is written: what an operator is told to expect, and the function that reads it.
// A format is a value; a getter of Section takes one, so that a key's line in a loader names the
// key, the field and everything that its text must satisfy:
//
//   section.read("vlan", port.vlan, integer<uint16_t>(1, 4094));
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/config/key_file.h"
#include "lib/config/values.h"
#include "lib/net/address.h"

namespace adit::config {

template <typename T>
struct Format {
  std::string expected;  // completes "expected ..."
  std::function<std::optional<T>(std::string_view)> parse;
};

// Decimal, or hexadecimal after 0x; nullopt when malformed or above 2^64 - 1.
std::optional<uint64_t> parse_unsigned(std::string_view text);
// "90s", "2h4m", "500ms", "1d", or plain seconds: units d h m s ms, each at most once, descending.
std::optional<uint64_t> parse_duration_ns(std::string_view text);
// "2h4m": what parse_duration_ns() reads back as the same.
std::string duration_text(uint64_t duration_ns);
// "512M", "512MiB", "4096": powers of 1024, K M G.
std::optional<uint64_t> parse_bytes(std::string_view text);
// "a-b", "a/len" or "a".
std::optional<Ipv4Range> parse_range(std::string_view text);
// "first-last" or "port", from 1.
std::optional<PortRange> parse_port_range(std::string_view text);

template <typename T>
Format<T> integer(T min, T max) {
  return {"a whole number from " + std::to_string(min) + " to " + std::to_string(max),
          [min, max](std::string_view text) -> std::optional<T> {
            const auto value = parse_unsigned(text);
            if (!value || *value < min || *value > max) return std::nullopt;
            return static_cast<T>(*value);
          }};
}

template <typename T>
Format<T> power_of_two(T min, T max) {
  return {"a power of two from " + std::to_string(min) + " to " + std::to_string(max),
          [min, max](std::string_view text) -> std::optional<T> {
            const auto value = parse_unsigned(text);
            if (!value || *value < min || *value > max) return std::nullopt;
            if ((*value & (*value - 1)) != 0) return std::nullopt;
            return static_cast<T>(*value);
          }};
}

// One word of a table.
template <typename T>
Format<T> one_of(std::vector<std::pair<std::string, T>> table) {
  std::string expected = "one of";
  for (size_t i = 0; i < table.size(); ++i) expected += (i == 0 ? " " : ", ") + table[i].first;
  return {expected, [table = std::move(table)](std::string_view text) -> std::optional<T> {
            for (const auto& [word, value] : table) {
              if (word == text) return value;
            }
            return std::nullopt;
          }};
}

// A value, or a word that stands for none: "auto", "dhcp".
template <typename T>
Format<std::optional<T>> or_word(const std::string& word, const Format<T>& format) {
  return {"\"" + word + "\" or " + format.expected,
          [word, parse = format.parse](std::string_view text) -> std::optional<std::optional<T>> {
            if (text == word) return std::optional<T>{};
            const std::optional<T> value = parse(text);
            if (!value) return std::nullopt;
            return value;
          }};
}

Format<std::string> text();  // anything but nothing
Format<std::string> name();  // 1-64 letters, digits, '.', '_', '-'
Format<bool> boolean();
Format<uint64_t> duration_ns(uint64_t min_ns, uint64_t max_ns);
Format<uint64_t> bytes(uint64_t min, uint64_t max);
Format<Ipv4Address> address();
Format<Ipv4Prefix> prefix();
Format<Ipv4Prefix> route();  // a prefix, or "default" for 0.0.0.0/0
Format<Ipv4Interface> interface();
Format<Endpoint> endpoint();
Format<Ipv4Range> range();
Format<PortRange> port_range();
Format<KeyBytes> key();
Format<std::string> socket_path();  // absolute, and short enough for sockaddr_un
Format<Protection> protection();
Format<LogLevel> log_level();

}  // namespace adit::config
