// A DHCP server with two small pools, and the messages that clients send it.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "lib/dhcp/server.h"
#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {

inline constexpr uint64_t kSecond = 1'000'000'000;

inline PoolConfig small_pool() {
  PoolConfig pool;
  pool.name = "home";
  pool.network = prefix("192.168.1.0/24");
  pool.router = address("192.168.1.1");
  pool.first = address("192.168.1.10");
  pool.last = address("192.168.1.13");
  pool.excluded = {address("192.168.1.11"), address("192.168.1.200")};
  pool.lease_s = 600;
  pool.dns = {address("9.9.9.9")};
  pool.routes = {{prefix("40.1.1.10/32"), address("192.168.1.1")}};
  pool.mtu_bytes = 1420;
  pool.heartbeat_s = 25;
  return pool;
}

inline PoolConfig other_pool() {
  PoolConfig pool;
  pool.name = "office";
  pool.network = prefix("10.9.0.0/16");
  pool.router = address("10.9.0.1");
  pool.first = address("10.9.0.1");  // the router's own: the server leaves it out
  pool.last = address("10.9.0.3");
  pool.lease_s = 1000;
  return pool;
}

inline Message make_query(MessageType type) {
  Message query;
  query.type = type;
  query.xid = 0x1234;
  query.broadcast = true;
  query.vendor_class.assign(kVendorClass);
  return query;
}

inline Message make_discover(std::optional<Ipv4Address> wanted = std::nullopt,
                             bool rapid_commit = true) {
  Message query = make_query(MessageType::discover);
  query.requested_address = wanted;
  query.rapid_commit = rapid_commit;
  return query;
}

inline Message make_selecting(Ipv4Address wanted, Ipv4Address server = address("192.168.1.1")) {
  Message query = make_query(MessageType::request);
  query.requested_address = wanted;
  query.server_id = server;
  return query;
}

inline Message make_reboot(Ipv4Address wanted) {
  Message query = make_query(MessageType::request);
  query.requested_address = wanted;
  return query;
}

inline Message make_renewal(Ipv4Address own) {
  Message query = make_query(MessageType::request);
  query.broadcast = false;
  query.ciaddr = own;
  return query;
}

inline Message make_release(Ipv4Address own) {
  Message query = make_query(MessageType::release);
  query.ciaddr = own;
  query.server_id = address("192.168.1.1");
  return query;
}

inline std::optional<MessageType> type_of(const Outcome& outcome) {
  if (!outcome.reply) return std::nullopt;
  return outcome.reply->message.type;
}

inline std::string text_of(const Outcome& outcome) {
  const Text& text = outcome.reply->message.text;
  return {text.begin(), text.end()};
}

class DhcpServer : public testing::Test {
 protected:
  Outcome send(uint32_t client, const Message& query, const Assignment& assignment = {}) {
    return server.on_message(now_ns, key_of(client), assignment, query);
  }
  // A lease by Rapid Commit; what the pool gave.
  std::optional<Ipv4Address> lease(uint32_t client, const Assignment& assignment = {}) {
    return send(client, make_discover(), assignment).leased;
  }
  std::vector<Ipv4Address> expire() {
    std::vector<ExpiredLease> expired(64);
    expired.resize(server.tick(now_ns, expired));
    std::vector<Ipv4Address> out;
    for (const ExpiredLease& lease : expired) out.push_back(lease.address);
    return out;
  }

  uint64_t now_ns = 1000 * kSecond;
  Server server{{small_pool(), other_pool()}};
};

}  // namespace adit::dhcp
