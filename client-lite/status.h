// What `adit-client status` shows: a snapshot as plain values, and its two renderings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client-lite/counters.h"

namespace adit::client {

// One of several lanes.
struct LaneStatus {
  bool is_up = false;
  uint16_t local_port = 0;  // of its UDP socket; 0: none yet
  uint64_t tx_bytes = 0;    // of inner packets
  uint64_t rx_bytes = 0;
  std::optional<uint64_t> last_handshake_ago_ns;
  std::optional<uint64_t> last_heard_ago_ns;
};

struct Status {
  std::string device;
  std::string state;          // waiting, choosing, resolving, handshaking, addressing, up
  std::string gateway;        // as configured: name and port
  std::string endpoint;       // its address and port; empty while unknown
  uint16_t local_port = 0;    // of our UDP socket
  std::string protection;     // of the session; empty without one
  std::string address;        // inner, with its prefix length; empty without one
  std::string router;
  uint16_t mtu_bytes = 0;
  std::vector<std::string> dns;
  std::vector<std::string> routes;
  uint64_t uptime_ns = 0;
  uint64_t heartbeat_ns = 0;  // the interval
  std::string heartbeat_learning;  // learning, learnt or unsupported; empty: it is not adaptive
  std::optional<uint64_t> heartbeat_too_long_ns;  // an interval that let a NAT forget us
  std::optional<uint64_t> last_heard_ago_ns;
  std::optional<uint64_t> last_handshake_ago_ns;
  std::optional<uint64_t> lease_left_ns;
  std::optional<uint64_t> round_trip_ns;
  std::optional<uint64_t> round_trip_variation_ns;
  std::string last_error;     // why there is no tunnel, or what is amiss with it
  std::vector<LaneStatus> lanes;  // as granted, in order; empty where no more than one is wanted
  Counters counters;
};

// One object, one line. Times in seconds but for *_ms; what is not known is null.
std::string to_json(const Status& status);
// For people: what is zero or unknown is left out.
std::string to_text(const Status& status);

// `text` as a JSON string with its quotes. Bytes that are not ASCII are escaped one by one, so
// that the result is valid whatever came in.
std::string json_string(std::string_view text);

}  // namespace adit::client
