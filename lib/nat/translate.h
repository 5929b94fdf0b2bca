// Rewriting packets: addresses, ports, checksums, MSS, and the packets quoted in ICMP errors.
// Every function takes bytes that lib/net/parse.h accepted, writes in place, updates checksums
// incrementally (RFC 1624) and never changes a packet's length. Checksums are updated before the
// fields they cover are overwritten.
#pragma once

#include <cstdint>
#include <span>

#include "lib/nat/mapping.h"
#include "lib/net/headers.h"
#include "lib/net/parse.h"

namespace adit::nat {

// Source := mapping.external, for UDP, TCP and ICMP queries (identifier). The packet is the
// mapping's (its source is mapping.internal).
void translate_outbound(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping);
// Destination := mapping.internal.
void translate_inbound(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping);

// Rewrites the source (outbound) or destination (inbound) address and leaves ports and identifiers
// as they are. Any protocol, any fragment; a transport checksum that covers addresses follows.
void translate_address(uint8_t* packet, const ParsedIpv4& parsed, const Mapping& mapping,
                       Direction direction);

// TTL one less, header checksum updated. False and nothing changed if it would reach zero
// (RFC 1812 §5.3.1).
bool decrement_ttl(uint8_t* packet);

// Whether the packet is no fragment and may never become one (RFC 6864 §2).
bool is_atomic(const uint8_t* packet);
// Gives it another identification, header checksum updated.
void set_id(uint8_t* packet, Be16 id);

// Lowers the MSS option of a SYN to `mss_max` and updates the TCP checksum; never raises it. Walks
// options within the header that parse vouched for; malformed options end the walk. Returns
// whether it changed anything.
bool clamp_mss(uint8_t* packet, const ParsedIpv4& parsed, uint16_t mss_max);

// The packet an ICMP error quotes: at least its IP header and, unless it is a later fragment, the
// 8 bytes in which ports or identifier stand (RFC 5508 §4; RFC 1812 quotes more, we read no more).
struct QuotedPacket {
  uint16_t offset = 0;  // of the quoted IP header from the outer packet's first byte
  uint16_t header_bytes = 0;
  uint8_t protocol = 0;
  Ipv4Address source;
  Ipv4Address destination;
  Be16 source_port;  // identifier, for ICMP queries
  Be16 destination_port;
};
// `packet` is an ICMP error with a valid ICMP checksum (RFC 5508 REQ-3: else it is dropped; see
// icmp_checksum_ok). False if the quoted packet is cut too short, has a bad header checksum
// (REQ-3a), is a later fragment, or is itself an ICMP error.
bool parse_quoted(std::span<const uint8_t> packet, const ParsedIpv4& parsed, QuotedPacket& out);
bool icmp_checksum_ok(std::span<const uint8_t> packet, const ParsedIpv4& parsed);

// An error from outside about a packet that we sent (quoted source = mapping.external): quoted
// source := internal, outer destination := internal address. The quoted transport checksum is
// updated where the quote holds it. ICMP checksum follows.
void translate_error_inbound(std::span<uint8_t> packet, const ParsedIpv4& parsed,
                             const QuotedPacket& quoted, const Mapping& mapping);
// An error from inside about a packet that we delivered (quoted destination = mapping.internal):
// quoted destination := external. Outer source := `outer_source` (the mapping's external address).
void translate_error_outbound(std::span<uint8_t> packet, const ParsedIpv4& parsed,
                              const QuotedPacket& quoted, const Mapping& mapping,
                              Ipv4Address outer_source);

// Builds an ICMP error about `about` (an IPv4 packet, whole or its beginning) into `out`:
// IPv4 header, ICMP header, quote. The quote is as much of `about` as keeps the whole within 576
// bytes (RFC 1812 §4.3.2.3). `rest` is the ICMP header's last four bytes (next-hop MTU, or 0).
// Returns bytes written; `out` must hold 576. TTL 64, DF clear.
size_t build_icmp_error(std::span<const uint8_t> about, uint8_t type, uint8_t code, uint32_t rest,
                        Ipv4Address source, Ipv4Address destination, std::span<uint8_t> out);
// RFC 1812 §4.3.2.7: whether an ICMP error may be sent about this packet at all (not about ICMP
// errors, later fragments, or packets from or to addresses that are no single host).
bool may_send_icmp_error(std::span<const uint8_t> packet, const ParsedIpv4& parsed);

// Turns an ICMP echo request into its reply in place: addresses swapped, type 0, TTL 64.
void make_echo_reply(std::span<uint8_t> packet, const ParsedIpv4& parsed);

}  // namespace adit::nat
