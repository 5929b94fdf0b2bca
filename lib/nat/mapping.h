// A mapping: the binding of an internal endpoint, seen inside one tunnel, to an external endpoint
// (RFC 4787 §2). Its identity is its external endpoint: the mapping table is one array indexed by
// (pool address, protocol, external port), so that an inbound packet finds its mapping with one
// memory access and no hash.
#pragma once

#include <cstdint>
#include <span>

#include "lib/net/address.h"
#include "lib/net/checksum.h"

namespace adit::nat {

// The protocols that have ports, or an identifier used like one (ICMP queries, RFC 5508 §3.1).
enum class Protocol : uint8_t { udp = 0, tcp = 1, icmp = 2 };
inline constexpr unsigned kProtocols = 3;
// False for a protocol that is none of the three.
bool protocol_of(uint8_t ip_protocol, Protocol& out);

// Seen from the subscriber: outbound leaves the tunnel, inbound enters it.
enum class Direction : bool { outbound, inbound };

enum class MappingState : uint8_t {
  free,      // never used, or rested long enough
  live,      // translates
  resting,   // released; keeps its internal endpoint until its rest is over (RFC 6888 REQ-8)
  reserved,  // never given out: outside the configured range, or the tunnel's own port
};

// RFC 7857 §2.1, in the words of its figure; tcp_state.h has the table.
enum class TcpState : uint8_t {
  closed,
  init,           // a SYN went out
  external_init,  // a SYN came in: to a static forward, or after an earlier connection's end
  established,
  external_fin,  // FIN seen from the external side
  internal_fin,
  both_fin,
  transitory,  // RST seen: held for the closing time
};

inline constexpr uint32_t kNoTunnel = ~uint32_t{0};  // Mapping::tunnel_slot of one at rest

// One entry of the table. Writer and reader: the worker that owns the port's block.
struct alignas(64) Mapping {
  // What an outbound or inbound translation needs, first.
  uint32_t tunnel_slot = 0;  // the back-reference: which tunnel the reply goes into
  Endpoint internal;         // behind the tunnel
  Endpoint external;         // this entry's own place, stored so that nobody computes it
  MappingState state = MappingState::free;
  TcpState tcp_state = TcpState::closed;
  // Outbound: what rewriting source address (l3) and address and port (l4) does to checksums.
  // Inbound uses the inverses. An ICMP checksum covers no address: port_delta is for it.
  uint16_t l3_delta = 0;
  uint16_t l4_delta = 0;
  uint16_t profile = 0;      // its subscriber's: how long it lives, whom it admits
  uint32_t last_seen_s = 0;  // coarse clock; when it was released, for a resting one
  uint32_t created_s = 0;
  Endpoint tcp_remote;            // the one remote whose TCP state is tracked
  bool tcp_many_remotes : 1 = false;  // a second remote is in use: keep the established timer
  bool is_open : 1 = false;       // while it is held, anybody may send to it, whatever the filter
  bool is_forward : 1 = false;    // from the configuration: never idle, and admits anybody
  uint8_t protocol = 0;           // nat::Protocol
  uint8_t tag = 0;                // as in the window's line; never 0 while the entry is in use
  bool is_dns_only = false;  // has sent to no port but 53 in this life: may have a shorter timer
  uint16_t home_window = 0;  // in its block: where it is counted as spilled if it is not there
  uint16_t port_delta = 0;   // ICMP: rewriting the identifier alone
  uint16_t pool_index = 0;   // of external.address
  // Asked for by its host, with this nonce: does not end before that time. 0: not asked for.
  uint32_t held_until_s = 0;
  uint32_t session = 0;  // whoever filters: where it keeps what it last asked of this mapping
  uint64_t nonce = 0;    // folded, Nat::folded()

  bool is_live() const { return state == MappingState::live; }
};
static_assert(sizeof(Mapping) == 64);

// Sets both endpoints and the three deltas that follow from them.
void bind_endpoints(Mapping& mapping, const Endpoint& internal, const Endpoint& external);

}  // namespace adit::nat
