// The only reader of untrusted lengths. Before parse_ipv4() nothing trusts a length in a packet;
// after it nobody reads one again.
#pragma once

#include <cstdint>
#include <span>

#include "lib/net/headers.h"

namespace adit {

// Why a packet is not one we go on with.
enum class ParseError : uint8_t {
  none,
  truncated,      // fewer bytes than a header or a length field needs
  bad_version,    // not IPv4
  bad_length,     // header length below 20 or above the total; total above the bytes at hand
  bad_checksum,   // IPv4 header checksum
  bad_transport,  // UDP or TCP lengths that contradict the IPv4 length, or a port 0
};

// Where things stand in an IPv4 packet that parse_ipv4() accepted. Offsets are from its first
// byte. For a fragment other than the first, the transport fields are zero.
struct ParsedIpv4 {
  uint16_t header_bytes = 0;     // IPv4 header with options, 20-60
  uint16_t total_bytes = 0;      // the packet; bytes beyond are link padding
  uint16_t transport_bytes = 0;  // of UDP: its header; of TCP: header with options; ICMP: 8
  uint8_t protocol = 0;
  bool is_fragment = false;       // any fragment, the first included
  bool is_first_fragment = true;  // offset 0: also true of a packet that is whole
  // Ports of UDP and TCP; of ICMP queries the identifier stands in both.
  Be16 source_port;
  Be16 destination_port;

  constexpr uint16_t payload_offset() const {
    return static_cast<uint16_t>(header_bytes + transport_bytes);
  }
};

enum class HeaderChecksum : bool { trusted, verify };

// Reads `bytes` as an IPv4 packet with at most link padding behind it. Checks version, lengths,
// the header checksum unless the port's hardware vouches for it, and for UDP, TCP and ICMP that
// their own headers lie inside the packet. Transport checksums are not read: a translator updates
// them incrementally, and a wrong one stays wrong.
ParseError parse_ipv4(std::span<const uint8_t> bytes, HeaderChecksum checksum, ParsedIpv4& out);

}  // namespace adit
