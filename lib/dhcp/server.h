// The DHCP server at the gateway's end of every tunnel (RFC 2131 §4.3, RFC 4039 for Rapid Commit).
// A client is its tunnel's public key, which the handshake proved; option 61 is echoed as the
// client wrote it (RFC 6842) and otherwise not looked at. Which pool a client draws from, and
// whether its address is fixed, the caller says with each message.
//
// Sans-I/O: the caller unwraps a packet (packet.h), passes the message in, applies what the
// Outcome says to the tunnel and sends its reply. The control thread owns it, alone: it allocates
// when an address is leased for the first time.
//
// Where we say more than RFC 2131 does:
// - A DISCOVER that finds no free address is answered with a NAK and a text, not with silence:
//   this server is the only one its client can reach, and an operator at the client must read
//   why there is no address. RFC 2131 gives a client in SELECTING no rule for a NAK, so one that
//   is not ours ignores it.
// - A REQUEST in INIT-REBOOT, RENEWING or REBINDING that we have no record of is answered, where
//   §4.3.2 demands silence for the sake of other servers: there are none, the tunnel has proved who
//   asks, and after a restart its client shall not wait for its lease to run out.
// - The lease time is the pool's; what a client asks for in option 51 is not considered.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/dhcp/lease_table.h"
#include "lib/dhcp/message.h"
#include "lib/dhcp/packet.h"

namespace adit::dhcp {

// What one pool gives out. The configuration has validated it: first <= last, pools do not
// overlap, at most 4 DNS servers and 32 routes.
struct PoolConfig {
  std::string name;
  Ipv4Prefix network;
  Ipv4Address router;  // the gateway's own address in the network, never given out; the server's id
  Ipv4Address first;   // the range is inclusive
  Ipv4Address last;
  std::vector<Ipv4Address> excluded;  // subscribers' fixed addresses, and others never given out
  uint32_t lease_s = 3600;            // raised to kLeaseSecondsMin; kLeaseInfinite is infinite
  std::vector<Ipv4Address> dns;
  std::vector<Route> routes;
  std::optional<uint16_t> mtu_bytes;
  std::optional<uint16_t> heartbeat_s;
};

// What the configuration says of the subscriber whose tunnel a message came through.
struct Assignment {
  uint32_t pool = 0;                 // index into the pools the server was made with
  std::optional<Ipv4Address> fixed;  // its own address, no other's; absent for one from the range
};

// What a message led to. Apply `released` before `leased`.
struct Outcome {
  std::optional<Datagram> reply;
  std::optional<Ipv4Address> released;  // the client holds this address no longer
  std::optional<Ipv4Address> leased;    // the client holds this one; set at each renewal, too
  bool exhausted = false;               // refused: the pool has no free address
};

// A lease whose time is over: the tunnel holds the address no longer.
struct ExpiredLease {
  ClientKey key;
  Ipv4Address address;
};

struct HeldLease {
  Ipv4Address address;
  uint32_t pool;
  uint64_t expires_ns;  // UINT64_MAX: never
};

struct ServerCounters {
  uint64_t discover = 0;
  uint64_t offer = 0;
  uint64_t request = 0;
  uint64_t ack = 0;
  uint64_t nak = 0;
  uint64_t release = 0;
  uint64_t decline = 0;
  uint64_t inform = 0;
  uint64_t exhausted = 0;
  uint64_t expired = 0;
  uint64_t malformed = 0;  // messages no client in a tunnel should send
};

// How a pool's addresses are used. Fixed addresses outside the range count in the last four only.
struct PoolUse {
  size_t capacity = 0;
  size_t offered = 0;
  size_t bound = 0;
  size_t released = 0;
  size_t quarantined = 0;
};

class Server {
 public:
  explicit Server(std::vector<PoolConfig> pools);

  // One message that came through the tunnel of `key`.
  Outcome on_message(uint64_t now_ns, const ClientKey& key, const Assignment& assignment,
                     const Message& query);

  // The tunnel of `key` is gone. Returns the address that this frees.
  std::optional<Ipv4Address> release(const ClientKey& key);

  // Ends what has run out: at most out.size() leases, offers and quarantines a call, the rest the
  // next time. Returns how many expired leases it wrote to `out`; offers and quarantines are
  // nobody's address, and end silently.
  size_t tick(uint64_t now_ns, std::span<ExpiredLease> out);

  // The lease that `key` holds now.
  std::optional<HeldLease> lookup(const ClientKey& key) const;

  // A packet to the server's port that unwrap() refused.
  void count_malformed() { ++counters_.malformed; }
  const ServerCounters& counters() const { return counters_; }
  PoolUse use(uint32_t pool) const;
  const std::vector<PoolConfig>& pools() const { return pools_; }

 private:
  // A message being answered, and the answer as it comes about.
  struct Exchange {
    uint64_t now_ns;
    const ClientKey& key;
    const Assignment& assignment;
    const PoolConfig& pool;
    const Message& query;
    Outcome outcome;
  };

  void on_discover(Exchange& exchange);
  void on_request(Exchange& exchange);
  void on_selecting(Exchange& exchange);
  void on_verify(Exchange& exchange, Ipv4Address address);
  void on_decline(Exchange& exchange);
  void on_release(Exchange& exchange);
  void on_inform(Exchange& exchange);

  Lease* find_matching(Exchange& exchange);
  Lease* hold(Exchange& exchange, std::optional<Ipv4Address> wanted);
  void offer(Exchange& exchange, Lease& lease);
  void acknowledge(Exchange& exchange, Lease& lease);
  void refuse(Exchange& exchange, std::string_view text);
  void refuse_for_want_of_address(Exchange& exchange);

  std::vector<PoolConfig> pools_;
  LeaseTable leases_;
  ServerCounters counters_;
  uint32_t tick_pool_ = 0;  // where the next tick begins, so that no pool starves another
};

}  // namespace adit::dhcp
