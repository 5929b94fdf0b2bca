#include "lib/config/formats.h"

#include <algorithm>
#include <charconv>

namespace adit::config {
namespace {

struct Unit {
  std::string_view suffix;
  uint64_t ns;
};

// Largest first: a duration names its units in this order.
constexpr Unit kUnits[] = {
    {"d", 86'400'000'000'000}, {"h", 3'600'000'000'000}, {"m", 60'000'000'000},
    {"s", 1'000'000'000},      {"ms", 1'000'000},
};

// sizeof(sockaddr_un::sun_path) - 1 on Linux.
constexpr size_t kSocketPathBytesMax = 107;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Takes the digits at the front of `text`.
std::optional<uint64_t> take_number(std::string_view& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

// Takes the letters at the front of `text`.
std::string_view take_word(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(), is_letter);
  const auto word = text.substr(0, static_cast<size_t>(end - text.begin()));
  text.remove_prefix(word.size());
  return word;
}

std::optional<uint64_t> multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true" || text == "yes") return true;
  if (text == "false" || text == "no") return false;
  return std::nullopt;
}

std::string bytes_text(uint64_t bytes) {
  constexpr uint64_t kMega = 1 << 20;
  return bytes % kMega == 0 ? std::to_string(bytes / kMega) + "M" : std::to_string(bytes);
}

// A format whose parse function says everything.
template <typename T>
Format<T> plain_format(std::string expected, std::optional<T> (*parse)(std::string_view)) {
  return {std::move(expected), parse};
}

}  // namespace

std::optional<uint64_t> parse_unsigned(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  }
  uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value, base);
  if (error != std::errc{} || end != last) return std::nullopt;
  return value;
}

std::optional<uint64_t> parse_duration_ns(std::string_view text) {
  if (const auto seconds = parse_unsigned(text)) return multiply(*seconds, 1'000'000'000);
  if (text.empty()) return std::nullopt;
  uint64_t total_ns = 0;
  const Unit* next = std::begin(kUnits);
  while (!text.empty()) {
    const auto count = take_number(text);
    const auto suffix = take_word(text);
    const Unit* unit =
        std::find_if(next, std::end(kUnits), [&](const Unit& u) { return u.suffix == suffix; });
    if (!count || unit == std::end(kUnits)) return std::nullopt;
    const auto part_ns = multiply(*count, unit->ns);
    if (!part_ns || __builtin_add_overflow(total_ns, *part_ns, &total_ns)) return std::nullopt;
    next = unit + 1;
  }
  return total_ns;
}

std::string duration_text(uint64_t duration_ns) {
  std::string out;
  for (const Unit& unit : kUnits) {
    if (duration_ns < unit.ns) continue;
    out += std::to_string(duration_ns / unit.ns).append(unit.suffix);
    duration_ns %= unit.ns;
  }
  return out.empty() ? "0s" : out;
}

std::optional<uint64_t> parse_bytes(std::string_view text) {
  const auto count = take_number(text);
  if (!count) return std::nullopt;
  if (text.empty()) return count;
  const size_t power = std::string_view("KMG").find(text.front());
  text.remove_prefix(1);
  if (power == std::string_view::npos || (!text.empty() && text != "iB")) return std::nullopt;
  return multiply(*count, uint64_t{1} << (10 * (power + 1)));
}

std::optional<Ipv4Range> parse_range(std::string_view text) {
  if (const auto prefix = Ipv4Prefix::parse(text)) {
    const uint32_t first = prefix->address.host();
    return Ipv4Range{prefix->address, Ipv4Address::from_host(first | ~prefix->mask_host())};
  }
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto first = Ipv4Address::parse(text.substr(0, dash));
  const auto last = Ipv4Address::parse(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return Ipv4Range{*first, *last};
}

std::optional<PortRange> parse_port_range(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = parse_unsigned(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_unsigned(text.substr(dash + 1));
  if (!first || !last || *first < 1 || *last > 65535 || *last < *first) return std::nullopt;
  return PortRange{static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
}

Format<std::string> text() {
  return {"some text", [](std::string_view text) -> std::optional<std::string> {
            if (text.empty()) return std::nullopt;
            return std::string(text);
          }};
}

Format<std::string> name() {
  return {"a name of 1 to 64 letters, digits, '.', '_' or '-'",
          [](std::string_view text) -> std::optional<std::string> {
            const bool is_name = std::all_of(text.begin(), text.end(), [](char c) {
              return is_digit(c) || is_letter(c) || c == '.' || c == '_' || c == '-';
            });
            if (!is_name || text.empty() || text.size() > 64) return std::nullopt;
            return std::string(text);
          }};
}

Format<bool> boolean() {
  return plain_format("true or false", parse_boolean);
}

Format<uint64_t> duration_ns(uint64_t min_ns, uint64_t max_ns) {
  return {"a duration from " + duration_text(min_ns) + " to " + duration_text(max_ns) +
              ", such as \"90s\" or \"2h4m\"",
          [min_ns, max_ns](std::string_view text) -> std::optional<uint64_t> {
            const auto value = parse_duration_ns(text);
            if (!value || *value < min_ns || *value > max_ns) return std::nullopt;
            return value;
          }};
}

Format<uint64_t> bytes(uint64_t min, uint64_t max) {
  return {"a size from " + bytes_text(min) + " to " + bytes_text(max) + ", such as \"512M\"",
          [min, max](std::string_view text) -> std::optional<uint64_t> {
            const auto value = parse_bytes(text);
            if (!value || *value < min || *value > max) return std::nullopt;
            return value;
          }};
}

Format<Ipv4Address> address() {
  return plain_format("an IPv4 address such as 192.0.2.1", Ipv4Address::parse);
}

Format<Ipv4Prefix> prefix() {
  return plain_format("an IPv4 prefix such as 192.0.2.0/24, with no bits set beyond its length",
                      Ipv4Prefix::parse);
}

Format<Ipv4Prefix> route() {
  Format<Ipv4Prefix> format = prefix();
  format.expected = "\"default\" or " + format.expected;
  format.parse = [](std::string_view text) {
    return text == "default" ? std::optional(Ipv4Prefix{}) : Ipv4Prefix::parse(text);
  };
  return format;
}

Format<Ipv4Interface> interface() {
  return {"an IPv4 address with its prefix length, such as 192.0.2.1/24",
          [](std::string_view text) -> std::optional<Ipv4Interface> {
            // A bare address would silently be a /32, which is hardly ever meant.
            if (text.find('/') == std::string_view::npos) return std::nullopt;
            return Ipv4Interface::parse(text);
          }};
}

Format<Endpoint> endpoint() {
  return plain_format("an IPv4 address and a port such as 192.0.2.1:9100", Endpoint::parse);
}

Format<Ipv4Range> range() {
  return plain_format("an IPv4 address, prefix or range, such as 192.0.2.1-192.0.2.9", parse_range);
}

Format<PortRange> port_range() {
  return plain_format("a port or a range of ports from 1 to 65535, such as 1024-65535",
                      parse_port_range);
}

Format<KeyBytes> key() {
  return plain_format("a key of 44 base64 characters", decode_key);
}

Format<std::string> socket_path() {
  return {"an absolute path of at most " + std::to_string(kSocketPathBytesMax) + " bytes",
          [](std::string_view text) -> std::optional<std::string> {
            if (!text.starts_with("/") || text.size() > kSocketPathBytesMax) return std::nullopt;
            return std::string(text);
          }};
}

Format<Protection> protection() {
  std::vector<std::pair<std::string, Protection>> table;
  for (const Protection p :
       {Protection::aes_256_gcm, Protection::chacha20_poly1305, Protection::plain}) {
    table.emplace_back(tunnel::protection_name(p), p);
  }
  return one_of(std::move(table));
}

Format<LogLevel> log_level() {
  std::vector<std::pair<std::string, LogLevel>> table;
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    table.emplace_back(name_of(level), level);
  }
  return one_of(std::move(table));
}

}  // namespace adit::config
