// Unsolicited SYNs from outside, each held in silence for six seconds before it is answered
// (RFC 5382 REQ-4): if the inner host opens the same connection from its side meanwhile, it was
// the first half of a simultaneous open, and an answer would have killed it.
//
// What is held is a copy of the packet's beginning, enough for an ICMP error to quote; the packet
// itself is dropped and counted as it comes. All wait equally long, so a ring in order of arrival
// knows who is next.
//
// Writer and reader: the worker.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/net/address.h"

struct rte_hash;

namespace adit::gateway {

class HeldSyns {
 public:
  static constexpr uint64_t kHoldNs = 6'000'000'000;  // RFC 5382 REQ-4
  static constexpr unsigned kKeptBytes = 128;  // the longest IPv4 and TCP headers together are 120

  struct Connection {
    Endpoint external;  // ours, which the SYN was for
    Endpoint remote;
  };
  enum class Result : uint8_t {
    held,
    held_already,  // a retransmission: the first one's answer serves both
    table_full,
  };

  // Throws std::runtime_error without memory. `name` is unique in the process; `entries` is a
  // power of two.
  HeldSyns(const char* name, unsigned entries);
  ~HeldSyns();
  HeldSyns(const HeldSyns&) = delete;
  HeldSyns& operator=(const HeldSyns&) = delete;

  Result hold(const Connection& connection, std::span<const uint8_t> packet, uint64_t now_ns);
  // The inner host has opened the connection itself: the SYN will not be answered.
  void forget(const Connection& connection);
  bool empty() const { return first_ == end_; }

  // Takes out the longest held one whose time is over; empty if there is none. Valid until the
  // next call of hold().
  std::span<const uint8_t> take_due(uint64_t now_ns);

 private:
  struct Entry {
    Connection connection;
    uint64_t since_ns = 0;
    uint16_t bytes = 0;  // 0: forgotten
    std::array<uint8_t, kKeptBytes> packet{};
  };
  Entry& at(uint32_t number) { return entries_[number & (entries_.size() - 1)]; }

  rte_hash* index_ = nullptr;  // Connection -> number
  std::vector<Entry> entries_;
  // Numbers in order of arrival; the held ones are [first_, end_). They may wrap.
  uint32_t first_ = 0;
  uint32_t end_ = 0;
};

}  // namespace adit::gateway
