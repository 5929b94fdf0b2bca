#include "client-lite/status.h"

#include <cinttypes>
#include <cstdio>

namespace adit::client {
namespace {

// Writes `"key":value` pairs with commas between them.
class JsonObject {
 public:
  void text(std::string_view key, std::string_view value) {
    raw(key, value.empty() ? "null" : json_string(value));
  }
  void number(std::string_view key, uint64_t value) { raw(key, std::to_string(value)); }
  void list(std::string_view key, const std::vector<std::string>& values) {
    std::string items;
    for (const std::string& value : values) {
      if (!items.empty()) items += ",";
      items += json_string(value);
    }
    raw(key, "[" + items + "]");
  }
  // `unit_ns` long units, with three decimals.
  void time(std::string_view key, const std::optional<uint64_t>& value_ns, uint64_t unit_ns) {
    if (!value_ns) return raw(key, "null");
    char decimal[48];
    std::snprintf(decimal, sizeof decimal, "%" PRIu64 ".%03" PRIu64, *value_ns / unit_ns,
                  *value_ns % unit_ns / (unit_ns / 1000));
    raw(key, decimal);
  }
  void raw(std::string_view key, std::string_view value) {
    if (!members_.empty()) members_ += ",";
    members_ += json_string(key);
    members_ += ":";
    members_ += value;
  }
  std::string close() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMillisecondNs = 1'000'000;

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) {
    if (!all.empty()) all += ", ";
    all += word;
  }
  return all;
}

std::string seconds(uint64_t time_ns) { return std::to_string(time_ns / kSecondNs) + " s"; }

std::string milliseconds(uint64_t time_ns) {
  char text[48];
  std::snprintf(text, sizeof text, "%.2f ms", static_cast<double>(time_ns) / 1e6);
  return text;
}

std::string heartbeat(const Status& status) {
  std::string text = "every " + seconds(status.heartbeat_ns);
  if (status.heartbeat_learning == "unsupported") return text + ", the gateway cannot tell more";
  if (!status.heartbeat_learning.empty()) text += ", " + status.heartbeat_learning;
  if (status.heartbeat_too_long_ns) {
    text += "; a NAT forgets at " + seconds(*status.heartbeat_too_long_ns);
  }
  return text;
}

std::string lanes_json(const std::vector<LaneStatus>& lanes) {
  std::string items;
  for (const LaneStatus& lane : lanes) {
    JsonObject item;
    item.raw("up", lane.is_up ? "true" : "false");
    item.number("local_port", lane.local_port);
    item.time("last_handshake_s", lane.last_handshake_ago_ns, kSecondNs);
    item.time("last_heard_s", lane.last_heard_ago_ns, kSecondNs);
    item.number("tx_bytes", lane.tx_bytes);
    item.number("rx_bytes", lane.rx_bytes);
    if (!items.empty()) items += ",";
    items += item.close();
  }
  return "[" + items + "]";
}

std::string lane_text(const LaneStatus& lane) {
  std::string text = lane.is_up ? "up" : "down";
  if (lane.local_port != 0) text += ", UDP port " + std::to_string(lane.local_port);
  if (lane.last_handshake_ago_ns) {
    text += ", handshake " + seconds(*lane.last_handshake_ago_ns) + " ago";
  }
  return text + ", " + std::to_string(lane.tx_bytes) + " bytes sent, " +
         std::to_string(lane.rx_bytes) + " received";
}

// "  name  value" lines of one section.
class Lines {
 public:
  void add(std::string_view name, std::string_view value) {
    if (value.empty()) return;
    text_ += "  ";
    text_ += name;
    text_.append(name.size() < kColumn ? kColumn - name.size() : 1, ' ');
    text_ += value;
    text_ += "\n";
  }
  void add_count(std::string_view name, uint64_t count) {
    if (count != 0) add(name, std::to_string(count));
  }
  const std::string& text() const { return text_; }

 private:
  static constexpr size_t kColumn = 26;
  std::string text_;
};

}  // namespace

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string to_json(const Status& status) {
  JsonObject object;
  object.text("version", ADIT_VERSION);
  object.text("device", status.device);
  object.text("state", status.state);
  object.text("gateway", status.gateway);
  object.text("endpoint", status.endpoint);
  object.number("local_port", status.local_port);
  object.text("protection", status.protection);
  object.text("address", status.address);
  object.text("router", status.router);
  object.number("mtu", status.mtu_bytes);
  object.list("dns", status.dns);
  object.list("routes", status.routes);
  object.time("uptime_s", status.uptime_ns, kSecondNs);
  object.time("heartbeat_s", status.heartbeat_ns, kSecondNs);
  object.text("heartbeat_learning", status.heartbeat_learning);
  object.time("heartbeat_too_long_s", status.heartbeat_too_long_ns, kSecondNs);
  object.time("last_heard_s", status.last_heard_ago_ns, kSecondNs);
  object.time("last_handshake_s", status.last_handshake_ago_ns, kSecondNs);
  object.time("lease_left_s", status.lease_left_ns, kSecondNs);
  object.time("round_trip_ms", status.round_trip_ns, kMillisecondNs);
  object.time("round_trip_variation_ms", status.round_trip_variation_ns, kMillisecondNs);
  object.raw("lanes", lanes_json(status.lanes));
  object.text("last_error", status.last_error);
  JsonObject counters;
#define ADIT_MEMBER(name, meaning) counters.number(#name, status.counters.name);
  ADIT_CLIENT_COUNTERS(ADIT_MEMBER)
#undef ADIT_MEMBER
  object.raw("counters", counters.close());
  JsonObject drops;
#define ADIT_MEMBER(name, meaning) drops.number(#name, status.counters.name);
  ADIT_CLIENT_DROPS(ADIT_MEMBER)
#undef ADIT_MEMBER
  object.raw("drops", drops.close());
  return object.close() + "\n";
}

std::string to_text(const Status& status) {
  Lines lines;
  std::string gateway = status.gateway;
  if (!status.endpoint.empty() && status.endpoint != gateway) {
    gateway += " (" + status.endpoint + ")";
  }
  lines.add("state", status.state);
  lines.add("last error", status.last_error);
  lines.add("gateway", gateway);
  lines.add("protection", status.protection);
  lines.add("address", status.address);
  lines.add("router", status.router);
  lines.add("routes", joined(status.routes));
  lines.add("DNS", joined(status.dns));
  if (status.mtu_bytes != 0) lines.add("MTU", std::to_string(status.mtu_bytes) + " bytes");
  if (status.last_heard_ago_ns) {
    lines.add("last heard", seconds(*status.last_heard_ago_ns) + " ago");
  }
  if (status.last_handshake_ago_ns) {
    lines.add("last handshake", seconds(*status.last_handshake_ago_ns) + " ago");
  }
  if (status.lease_left_ns) lines.add("lease", seconds(*status.lease_left_ns) + " left");
  if (status.round_trip_ns) {
    lines.add("round trip", milliseconds(*status.round_trip_ns) + " ± " +
                                milliseconds(status.round_trip_variation_ns.value_or(0)));
  }
  lines.add("heartbeat", heartbeat(status));
  lines.add("up for", seconds(status.uptime_ns));
  lines.add("UDP port", std::to_string(status.local_port));
  for (size_t i = 0; i < status.lanes.size(); ++i) {
    lines.add("lane " + std::to_string(i), lane_text(status.lanes[i]));
  }

  Lines counters;
#define ADIT_LINE(name, meaning) counters.add_count(#name, status.counters.name);
  ADIT_CLIENT_COUNTERS(ADIT_LINE)
  Lines drops;
#undef ADIT_LINE
#define ADIT_LINE(name, meaning) drops.add_count(#name, status.counters.name);
  ADIT_CLIENT_DROPS(ADIT_LINE)
#undef ADIT_LINE
  std::string text = status.device + "\n" + lines.text();
  if (!counters.text().empty()) text += "counters\n" + counters.text();
  if (!drops.text().empty()) text += "dropped\n" + drops.text();
  return text;
}

}  // namespace adit::client
