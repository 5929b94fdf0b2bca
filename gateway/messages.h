// What the control thread and a worker say to each other, through rings of fixed size. All values
// are trivially copyable. A message may carry a packet buffer; who takes the message out of the ring
// owns it.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "gateway/tunnel_table.h"
#include "lib/net/address.h"
#include "lib/tunnel/session.h"

struct rte_mbuf;

namespace adit::gateway {

// Control thread -> worker. The worker first does what the message says, then sends its packet,
// so that a packet never overtakes the state it depends on.
struct ToWorker {
  enum Kind : uint8_t {
    open_tunnel,      // slot, epoch, subscriber, lane, mtu, addresses, prefixes, forwards, profile
    set_address,      // slot, address (zero: none)
    install_session,  // slot, session; packet: the response, sent to `remote`
    drop_sessions,    // slot
    close_tunnel,     // slot
    heartbeat,        // slot: send an empty type 4 packet
    set_neighbour,    // port, address, mac
    lose_neighbour,   // port, address: nobody answered
    send_frame,       // port, mac; packet: an ARP packet, sent to `mac`
    send_inner,       // slot, epoch; packet: an inner IPv4 packet, always sealed (rule 5)
    list_mappings,    // slot: answered by `mapping` items and a `mappings_end`
    move_tunnel,      // slot, epoch, move_number; port: the worker it should be moved to
    move_free_slot,   // the same of a slot that is nobody's: epoch 0
    // The same of another worker's tunnel, where its addresses matter to all of them.
    open_elsewhere,
    set_address_elsewhere,  // slot, previous_address, address
    close_elsewhere,        // as open_elsewhere
  };
  Kind kind = open_tunnel;
  uint8_t port = 0;
  uint8_t prefix_count = 0;
  uint8_t routed_count = 0;  // of the prefixes, the last ones
  uint16_t mtu_bytes = 0;
  bool tunnel_to_tunnel = false;
  uint8_t lane = 0;   // which of its subscriber's it is; only lane 0 has routes and forwards
  uint8_t lanes = 1;  // how many those are
  uint16_t profile = 0;  // index into nat::Settings::profiles
  uint16_t forward_count = 0;
  uint32_t first_forward = 0;   // in Forwards
  uint32_t slot = 0;
  uint32_t epoch = 0;
  uint32_t move_number = 0;     // answered in the tunnel's report
  uint32_t subscriber = kNoSubscriber;  // whose tunnel it is: position in the configuration
  uint32_t proper_slot = 0;  // of its subscriber's lane 0
  Endpoint remote;
  MacAddress mac;
  Ipv4Address address;
  Ipv4Address previous_address;
  Ipv4Address external_address;  // its alone
  Ipv4Address paired_address;    // external, the same for all its subscriber's lanes; zero: any
  Ipv4Address router;
  std::array<Ipv4Prefix, kInnerPrefixesMax> prefixes{};
  tunnel::Session session;
  rte_mbuf* packet = nullptr;
};
static_assert(std::is_trivially_copyable_v<ToWorker> && sizeof(ToWorker) % 4 == 0);

// Control thread -> worker: a cookie, sent from the tunnel endpoint to who wanted a handshake. It
// depends on nothing that other messages say, and a flood of forged handshakes makes more of them
// than there are of all others: so they have a ring of their own, and are small.
struct Reply {
  Endpoint to;
  rte_mbuf* packet = nullptr;  // UDP payload
};
static_assert(std::is_trivially_copyable_v<Reply> && sizeof(Reply) == 16);

// Worker -> control thread: slow packets and requests.
struct ToControl {
  enum Kind : uint8_t {
    handshake,  // packet: UDP payload; from
    dhcp,       // packet: inner IPv4 packet to UDP port 67; slot, epoch
    arp,        // packet: the ARP packet behind the Ethernet header; port
    resolve,    // port, address: a neighbour is wanted
    mapping,    // slot, from: the internal endpoint, external, protocol, is_forward
    mappings_end,
    block_granted,   // subscriber, external: its first endpoint, count: of its ports
    block_returned,  // external, count
    limit_met,       // subscriber, reason, count: of packets since it was last told
  };
  Kind kind = handshake;
  uint8_t port = 0;
  uint8_t protocol = 0;  // nat::Protocol
  bool is_forward = false;
  uint8_t reason = 0;    // Fate
  Endpoint from;
  Endpoint external;
  uint32_t slot = 0;
  uint32_t epoch = 0;
  uint32_t subscriber = kNoSubscriber;
  uint32_t count = 0;
  Ipv4Address address;
  rte_mbuf* packet = nullptr;
};
static_assert(std::is_trivially_copyable_v<ToControl> && sizeof(ToControl) % 4 == 0);

// How many mappings a list_mappings is answered with at most.
inline constexpr unsigned kListedMappingsMax = 64;

}  // namespace adit::gateway
