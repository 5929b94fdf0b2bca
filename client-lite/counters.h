// Everything that the client counts. One list gives the field, the name that `status` prints and
// the meaning; a packet that is not delivered adds to exactly one of the drops.
#pragma once

#include "lib/net/count.h"

namespace adit::client {

// X(name, meaning). Bytes are of inner packets, as the TUN device counts them.
#define ADIT_CLIENT_COUNTERS(X)                                                     \
  X(tx_packets, "inner packets sent to the gateway")                                \
  X(tx_bytes, "bytes of them")                                                      \
  X(rx_packets, "inner packets written to the TUN device")                          \
  X(rx_bytes, "bytes of them")                                                      \
  X(tx_control, "heartbeats, probes and DHCP packets sent")                         \
  X(rx_heartbeats, "empty packets from the gateway")                                \
  X(rx_probe_requests, "probes of the gateway, answered")                           \
  X(rx_probe_replies, "answers to our probes")                                      \
  X(rx_dhcp, "DHCP packets from the gateway")                                       \
  X(rx_handshake, "handshake messages received")                                    \
  X(handshakes_sent, "handshake initiations sent")                                  \
  X(sessions, "handshakes completed")                                               \
  X(gateway_changes, "times that a gateway was given up")                           \
  X(gateway_returns, "times that the preferred one was gone back to")               \
  X(path_changes, "times that the host's way to the gateway changed")               \
  X(rebinds, "times that another source port was taken")

#define ADIT_CLIENT_DROPS(X)                                                        \
  X(tx_not_ipv4, "from the TUN device, not IPv4")                                   \
  X(tx_malformed, "from the TUN device, lengths contradict each other")             \
  X(tx_outer_loop, "a tunnel packet of ours: the gateway's route led into the tunnel") \
  X(tx_no_session, "no session, and the waiting queue was full or given up")        \
  X(tx_fragment_alone, "a fragment whose first, which says its lane, did not come")  \
  X(tx_counter_exhausted, "the session's counter is used up")                       \
  X(tx_send_error, "the UDP socket refused it")                                     \
  X(rx_wrong_source, "not from the gateway's address and port")                     \
  X(rx_bad_length, "too short or too long for its type")                            \
  X(rx_unknown_type, "no message type that a gateway sends")                        \
  X(rx_unknown_index, "no session of ours")                                         \
  X(rx_expired_session, "a session past its life")                                  \
  X(rx_replayed, "a counter that was seen or is too old")                           \
  X(rx_not_authentic, "the seal does not open")                                     \
  X(rx_wrong_protection, "plain packet in a session that is not plain")             \
  X(rx_bad_tag, "plain packet with a wrong session tag")                            \
  X(rx_plain_dhcp, "DHCP in a plain packet")                                        \
  X(rx_inner_unknown, "neither IPv4 nor a message of ours inside")                  \
  X(rx_inner_malformed, "the inner packet is not sound")                            \
  X(rx_misdirected, "the inner destination is not ours")                            \
  X(rx_device_error, "the TUN device refused it")                                   \
  X(handshake_malformed, "handshake message of a wrong form")                       \
  X(handshake_bad_mac, "handshake message with a wrong mac1")                       \
  X(handshake_not_authentic, "handshake message that does not open")                \
  X(handshake_no_protection, "the gateway chose what we did not offer")             \
  X(handshake_no_lane, "the gateway granted lanes that we did not want")            \
  X(handshake_unexpected, "handshake message that nobody waits for")

// One thread counts, and any may read.
struct Counters {
#define ADIT_FIELD(name, meaning) Count name;
  ADIT_CLIENT_COUNTERS(ADIT_FIELD)
  ADIT_CLIENT_DROPS(ADIT_FIELD)
#undef ADIT_FIELD

  // Another thread's, to make one sum of them.
  void add(const Counters& other) {
#define ADIT_ADD(name, meaning) name += other.name;
    ADIT_CLIENT_COUNTERS(ADIT_ADD)
    ADIT_CLIENT_DROPS(ADIT_ADD)
#undef ADIT_ADD
  }
};

}  // namespace adit::client
