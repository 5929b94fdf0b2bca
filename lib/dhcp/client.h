// The DHCP client at the far end of a tunnel: the state machine of RFC 2131 §4.4, figure 5, with
// Rapid Commit (RFC 4039), so that an address costs one round trip.
//
//     INIT ──► SELECTING ──offer──► REQUESTING ──ack──► BOUND ──T1──► RENEWING ──T2──► REBINDING
//                  └──────ack, Rapid Commit──────────────▲ ◄──────────ack────┴───────────┘
//     INIT-REBOOT ──► REBOOTING ──ack────────────────────┘        (nak, or the lease's end: INIT)
//
// Sans-I/O: each call takes the time and returns at most one datagram to send and what happened;
// the caller wraps and sends it (packet.h), and calls tick() at next_deadline_ns(). Whoever owns
// the tunnel owns the client, and uses it from one thread.
//
// Where the tunnel makes it differ from a client on a LAN:
// - Retransmission starts at 1 s, not at 4 s, and ends at 16 s, not at 64 s (RFC 2131 §4.1): one
//   point-to-point hop, and only one server to spare. Renewals repeat after half of the time that
//   is left, as §4.4.5 asks, but down to 10 s, not to 60 s.
// - No ARP probe before use and so no DECLINE: nobody else is on the link.
// - A NAK in SELECTING is a refusal: our server says so when its pool is exhausted.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "lib/dhcp/message.h"
#include "lib/dhcp/packet.h"

namespace adit::dhcp {

// What the server granted, after the client's own sense checks.
struct ClientLease {
  Ipv4Interface address;  // /32 when the mask is absent or is none
  Ipv4Address server;
  // For display: where option 121 is present it replaces the router (RFC 3442), and which
  // destinations enter the tunnel is the client's configuration.
  std::optional<Ipv4Address> router;
  DnsList dns;
  RouteList routes;
  std::optional<uint16_t> mtu_bytes;    // 576 or more, else absent
  std::optional<uint16_t> heartbeat_s;  // 1 or more, else absent
  uint32_t lease_s = 0;                 // at least kLeaseSecondsMin, or kLeaseInfinite
  uint64_t t1_ns = 0;                   // these three are points in time; UINT64_MAX: never
  uint64_t t2_ns = 0;
  uint64_t expires_ns = 0;
};

class Client {
 public:
  enum class State : uint8_t {
    stopped,     // before start() and after release()
    init,        // waits before it asks again, after a refusal
    selecting,   // sent DISCOVER
    requesting,  // sent REQUEST for an offer
    rebooting,   // sent REQUEST for the address it had before
    bound,
    renewing,   // past T1: asks its server
    rebinding,  // past T2: asks any server
  };

  enum class Event : uint8_t {
    none,
    configured,  // lease() holds: apply it; the same address again after a renewal
    lost,        // the lease is over: take the address off; the client asks for a new one
    refused,     // the server will not give an address: `text` says why; asked again later
  };

  struct Step {
    std::optional<Datagram> send;
    Event event = Event::none;
    Text text;  // the server's reason, with lost and refused; may be empty
  };

  // `key` is the client's own public key; `random` gives 64 uniformly distributed bits a call.
  Client(const ClientKey& key, std::function<uint64_t()> random)
      : client_id_(client_id_of(key)), random_(std::move(random)) {}

  // Begins, or begins anew in a new tunnel. With the address held before, asks to have that again.
  // A lease that it still holds is given up without an event: the next event tells what to do
  // with the address on the interface.
  Step start(uint64_t now_ns, std::optional<Ipv4Address> previous_address = std::nullopt);
  Step on_message(uint64_t now_ns, const Message& message);
  Step tick(uint64_t now_ns);
  // Gives the address back and stops; nothing to send when there is none.
  Step release(uint64_t now_ns);

  // When to call tick() next; UINT64_MAX: not before another call.
  uint64_t next_deadline_ns() const { return deadline_ns_; }
  State state() const { return state_; }
  const std::optional<ClientLease>& lease() const { return lease_; }

 private:
  Step begin_selecting(uint64_t now_ns, Event event = Event::none);
  Step begin_requesting(uint64_t now_ns, const Message& offer);
  Step begin_extending(uint64_t now_ns, State state);
  Step accept(uint64_t now_ns, const Message& ack);
  Step on_nak(uint64_t now_ns, const Message& nak);
  Step retransmit(uint64_t now_ns);
  Step lose(uint64_t now_ns);

  void enter(State state, uint64_t now_ns);
  Message make_message(MessageType type, uint64_t now_ns) const;
  Datagram make_query(uint64_t now_ns) const;
  uint64_t backoff_ns(unsigned tries);
  uint64_t with_jitter_ns(uint64_t interval_ns);

  ClientId client_id_;
  std::function<uint64_t()> random_;
  State state_ = State::stopped;
  uint64_t deadline_ns_ = UINT64_MAX;
  uint64_t exchange_began_ns_ = 0;
  uint64_t sent_ns_ = 0;  // the latest query: a lease counts from here (RFC 2131 §4.4.1)
  uint32_t xid_ = 0;
  unsigned tries_ = 0;     // queries sent in this state
  unsigned refusals_ = 0;  // NAKs since the last lease
  // The address asked for: offered, held before, or a wish in DISCOVER.
  std::optional<Ipv4Address> wanted_;
  Ipv4Address offering_server_;
  std::optional<ClientLease> lease_;
};

}  // namespace adit::dhcp
