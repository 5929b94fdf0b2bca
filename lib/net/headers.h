// Packet headers as they stand on the wire: one struct a header, alignment 1, lengths asserted.
// Lay one over bytes only after lib/net/parse.h has vouched for their length.
#pragma once

#include <cstdint>
#include <type_traits>

#include "lib/net/address.h"
#include "lib/net/be.h"

namespace adit {

inline constexpr uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr uint16_t kEtherTypeArp = 0x0806;
inline constexpr uint16_t kEtherTypeVlan = 0x8100;  // IEEE 802.1Q

struct EthernetHeader {
  MacAddress destination;
  MacAddress source;
  Be16 ether_type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

// Stands after EthernetHeader when its ether_type is kEtherTypeVlan.
struct VlanTag {
  Be16 control;     // priority (3 bits), drop eligible (1), VLAN id (12)
  Be16 ether_type;  // of what follows
};
static_assert(sizeof(VlanTag) == 4 && alignof(VlanTag) == 1);

// RFC 826, for Ethernet and IPv4 only.
struct ArpPacket {
  Be16 hardware_type;  // 1 = Ethernet
  Be16 protocol_type;  // kEtherTypeIpv4
  uint8_t hardware_bytes;
  uint8_t protocol_bytes;
  Be16 operation;
  MacAddress sender_mac;
  Ipv4Address sender_address;
  MacAddress target_mac;
  Ipv4Address target_address;
};
static_assert(sizeof(ArpPacket) == 28 && alignof(ArpPacket) == 1);
inline constexpr uint16_t kArpRequest = 1;
inline constexpr uint16_t kArpReply = 2;

enum IpProtocol : uint8_t {
  kIpIcmp = 1,
  kIpTcp = 6,
  kIpUdp = 17,
  kIpGre = 47,
  kIpEsp = 50,
  kIpSctp = 132,
};

// RFC 791.
struct Ipv4Header {
  uint8_t version_ihl;
  uint8_t tos;
  Be16 total_bytes;
  Be16 id;
  Be16 fragment;  // flags (3 bits), offset in units of 8 bytes (13)
  uint8_t ttl;
  uint8_t protocol;
  Be16 checksum;
  Ipv4Address source;
  Ipv4Address destination;

  constexpr unsigned header_bytes() const { return (version_ihl & 15u) * 4u; }
};
static_assert(sizeof(Ipv4Header) == 20 && alignof(Ipv4Header) == 1);
inline constexpr uint16_t kIpDontFragment = 0x4000;
inline constexpr uint16_t kIpMoreFragments = 0x2000;
inline constexpr uint16_t kIpFragmentOffsetMask = 0x1fff;

// RFC 768.
struct UdpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be16 length_bytes;  // header included
  Be16 checksum;      // 0 = none
};
static_assert(sizeof(UdpHeader) == 8 && alignof(UdpHeader) == 1);

// RFC 9293.
struct TcpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be32 sequence;
  Be32 acknowledgement;
  uint8_t data_offset;  // high 4 bits: header length in 4-byte words
  uint8_t flags;
  Be16 window;
  Be16 checksum;
  Be16 urgent;

  constexpr unsigned header_bytes() const { return (data_offset >> 4) * 4u; }
};
static_assert(sizeof(TcpHeader) == 20 && alignof(TcpHeader) == 1);
enum TcpFlag : uint8_t {
  kTcpFin = 0x01,
  kTcpSyn = 0x02,
  kTcpRst = 0x04,
  kTcpPsh = 0x08,
  kTcpAck = 0x10,
  kTcpUrg = 0x20,
  kTcpEce = 0x40,  // RFC 3168
  kTcpCwr = 0x80,
};

// RFC 792: the eight bytes every ICMP message begins with.
struct IcmpHeader {
  uint8_t type;
  uint8_t code;
  Be16 checksum;
  Be16 id;        // queries: identifier; errors: unused (RFC 4884: its low byte is a length)
  Be16 sequence;  // queries: sequence; fragmentation needed: next-hop MTU in bytes (RFC 1191)
};
static_assert(sizeof(IcmpHeader) == 8 && alignof(IcmpHeader) == 1);
enum IcmpType : uint8_t {
  kIcmpEchoReply = 0,
  kIcmpUnreachable = 3,
  kIcmpSourceQuench = 4,
  kIcmpRedirect = 5,
  kIcmpEchoRequest = 8,
  kIcmpTimeExceeded = 11,
  kIcmpParameterProblem = 12,
};
enum IcmpUnreachableCode : uint8_t {
  kIcmpHostUnreachable = 1,
  kIcmpPortUnreachable = 3,
  kIcmpFragmentationNeeded = 4,
  kIcmpAdminProhibited = 13,
};

// True for the ICMP messages that quote the packet that caused them (RFC 5508 §4).
constexpr bool is_icmp_error(uint8_t type) {
  return type == kIcmpUnreachable || type == kIcmpSourceQuench || type == kIcmpRedirect ||
         type == kIcmpTimeExceeded || type == kIcmpParameterProblem;
}

}  // namespace adit
