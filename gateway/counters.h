// Where every packet goes, counted. One list names each reason for a drop; enum, name and counter
// all come from it, so none can be forgotten.
#pragma once

#include <array>
#include <cstdint>

#include "lib/net/count.h"

namespace adit::gateway {

// X(name): a packet refused for this reason is freed and counted under it.
#define ADIT_DROP_REASONS(X)                                                              \
  /* the link and the outer or public IPv4 header */                                      \
  X(frame_truncated) X(multi_segment) X(wrong_vlan) X(not_our_mac) X(not_ip)              \
  X(ip_truncated) X(ip_bad_version) X(ip_bad_length) X(ip_bad_checksum)                   \
  X(ip_bad_transport) X(not_our_address) X(outer_fragment) X(outer_too_big)               \
  X(bad_source) X(local_unhandled)                                                        \
  /* the tunnel header */                                                                 \
  X(tunnel_truncated) X(unknown_type) X(unexpected_message) X(unknown_index)              \
  X(session_expired) X(wrong_protection) X(bad_tag) X(wrong_address)                      \
  X(replayed) X(not_authentic) X(unknown_inner)                    \
  /* the inner packet */                                                                  \
  X(inner_truncated) X(inner_bad_version) X(inner_bad_length) X(inner_bad_checksum)       \
  X(inner_bad_transport) X(spoofed_source) X(dhcp_in_plain) X(rogue_dhcp)                 \
  X(bad_destination) X(tunnel_to_itself)                                                  \
  X(port_control_malformed)                                                               \
  X(to_router) X(tunnel_to_tunnel) X(hairpin)                                             \
  /* forwarding */                                                                        \
  X(ttl_exceeded) X(too_big)                                                              \
  X(fragment_tiny) X(fragment_malformed) X(fragment_overlap) X(fragment_table_full)       \
  X(fragment_hold_full) X(fragment_timeout) X(local_fragment)                             \
  X(icmp_bad_checksum) X(icmp_bad_quote) X(icmp_no_mapping) X(icmp_unsupported)           \
  /* translation */                                                                       \
  X(portless_clash) X(portless_limit) X(portless_table_full)                              \
  X(no_mapping) X(rate_limited) X(mapping_limit) X(port_limit) X(pool_exhausted)          \
  X(low_ports_full) X(range_away)                                                         \
  X(unsolicited_syn) X(syn_table_full) X(filtered) X(session_limit)                       \
  X(session_table_full)                                                                   \
  X(no_tunnel) X(no_session) X(send_counter_exhausted)                                    \
  /* the way out, and limits of our own */                                                \
  X(neighbour_unresolved) X(neighbour_table_full) X(control_ring_full) X(tx_full)         \
  X(handshake_ring_full) X(hand_off_full) X(move_hold_full)                               \
  X(no_buffer) X(stale_tunnel)

// What became of a packet at a stage. Anything from `frame_truncated` on is a drop.
enum class Fate : uint8_t {
  next,   // goes on to the next stage
  taken,  // somebody else owns the buffer now: a transmit queue, the control thread, ...
#define X(name) name,
  ADIT_DROP_REASONS(X)
#undef X
  count
};
inline constexpr unsigned kFates = static_cast<unsigned>(Fate::count);
inline constexpr unsigned kFirstDrop = static_cast<unsigned>(Fate::frame_truncated);
constexpr bool is_drop(Fate fate) { return static_cast<unsigned>(fate) >= kFirstDrop; }
const char* fate_name(Fate fate);

// X(name): events that are not drops.
#define ADIT_EVENTS(X)                                                                       \
  /* the conservation law's terms, in packet buffers */                                      \
  X(received) X(handed_in) X(generated) X(transmitted) X(handed_out) X(consumed)             \
  X(taken_over) X(handed_over)                                                               \
  /* what they were */                                                                       \
  X(outbound_packets) X(outbound_bytes) X(inbound_packets) X(inbound_bytes)                  \
  X(heartbeats_received) X(heartbeats_sent) X(probes_answered) X(echoes_answered)            \
  X(port_controls_answered)                                                                  \
  X(icmp_errors_sent) X(icmp_errors_suppressed) X(icmp_errors_translated) X(mss_clamped)     \
  X(packets_fragmented) X(hairpinned)                                                        \
  X(block_events) X(limit_events) X(events_lost)                                             \
  X(tunnels_adopted)                                                                         \
  X(roamed) X(sessions_confirmed) X(key_expansions)                                          \
  X(loops) X(busy_loops) X(busy_cycles) X(sleeps)

// One worker's counters. Writer: that worker. Readers: the control thread and that of the metrics,
// which may see a value a moment old.
struct Counters {
  std::array<Count, kFates> fates{};  // only the drops are counted
#define X(name) Count name;
  ADIT_EVENTS(X)
#undef X

  Counters& operator+=(const Counters& other);
  uint64_t drops(Fate reason) const { return fates[static_cast<unsigned>(reason)]; }
  uint64_t drops_total() const;
  // received + handed in + taken over + generated - transmitted - handed out - handed over -
  // consumed - drops: what is still held. Handed in and out is between worker and control thread,
  // taken and handed over between workers. Zero or the number of packets waiting for a neighbour;
  // anything else is a bug.
  int64_t held() const;
};

}  // namespace adit::gateway
