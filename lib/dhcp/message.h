// A DHCPv4 message (RFC 2131) as a value, and its codec. The gateway's server and the client speak
// it inside the tunnel; packet.h puts it into an IPv4 packet.
//
// parse() is strict about structure and says nothing about sense: every length is checked, a
// malformed option refuses the whole message, and what an address or a time means is the state
// machines' business. Options it does not know are skipped.
//
// The heartbeat interval travels in option 43 (vendor-specific, RFC 2132 §8.4) as our sub-option 1:
//
//     43 | 4 | 1 | 2 | interval in seconds, 16 bits, big-endian
//
// Option 43 means what the sender's vendor says it means, so the client names ours in option 60
// ("adit"); a server sends our option 43 to such a client only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "lib/dhcp/fixed_list.h"
#include "lib/net/address.h"

namespace adit::dhcp {

inline constexpr uint16_t kServerPort = 67;  // RFC 2131 §4.1
inline constexpr uint16_t kClientPort = 68;  // RFC 2131 §4.1
// The longest message taken: what fits a packet of 1500 bytes under IPv4 and UDP headers.
inline constexpr size_t kMessageBytesMax = 1472;
inline constexpr uint8_t kHardwareIpsecTunnel = 31;     // RFC 3456: a tunnel's own htype
inline constexpr uint32_t kLeaseInfinite = 0xffffffff;  // RFC 2131 §3.3
// The client takes no lease to be shorter than this, so that its renewals are no load; the server
// gives none that is shorter, so that the two agree.
inline constexpr uint32_t kLeaseSecondsMin = 60;
inline constexpr std::string_view kVendorClass = "adit";

using ClientKey = std::array<uint8_t, 32>;  // a tunnel's public key: who its client is

enum class Op : uint8_t { request = 1, reply = 2 };

// RFC 2132 §9.6.
enum class MessageType : uint8_t {
  discover = 1,
  offer = 2,
  request = 3,
  decline = 4,
  ack = 5,
  nak = 6,
  release = 7,
  inform = 8,
};

enum Option : uint8_t {
  kOptionPad = 0,                 // RFC 2132 §3.1
  kOptionSubnetMask = 1,          // RFC 2132 §3.3
  kOptionRouter = 3,              // RFC 2132 §3.5
  kOptionDns = 6,                 // RFC 2132 §3.8
  kOptionMtu = 26,                // RFC 2132 §5.1
  kOptionVendorSpecific = 43,     // RFC 2132 §8.4
  kOptionRequestedAddress = 50,   // RFC 2132 §9.1
  kOptionLeaseTime = 51,          // RFC 2132 §9.2
  kOptionOverload = 52,           // RFC 2132 §9.3
  kOptionMessageType = 53,        // RFC 2132 §9.6
  kOptionServerId = 54,           // RFC 2132 §9.7
  kOptionParameterRequests = 55,  // RFC 2132 §9.8
  kOptionText = 56,               // RFC 2132 §9.9
  kOptionMaxMessage = 57,         // RFC 2132 §9.10
  kOptionRenewalTime = 58,        // RFC 2132 §9.11, T1
  kOptionRebindingTime = 59,      // RFC 2132 §9.12, T2
  kOptionVendorClass = 60,        // RFC 2132 §9.13
  kOptionClientId = 61,           // RFC 2132 §9.14
  kOptionRapidCommit = 80,        // RFC 4039 §4
  kOptionClasslessRoutes = 121,   // RFC 3442
  kOptionEnd = 255,               // RFC 2132 §3.2
};

// One classless route; `via` zero means that the destination is on the link (RFC 3442).
struct Route {
  Ipv4Prefix destination;
  Ipv4Address via;

  friend constexpr bool operator==(const Route&, const Route&) = default;
};

using DnsList = FixedList<Ipv4Address, 4>;
using RouteList = FixedList<Route, 32>;
using Text = FixedList<char, 255>;
using ClientId = FixedList<uint8_t, 255>;

struct Message {
  Op op = Op::request;
  uint8_t htype = kHardwareIpsecTunnel;
  uint8_t hlen = 0;   // a tunnel has no hardware address (as RFC 4390 for InfiniBand); at most 16
  uint32_t xid = 0;   // chosen by the client, copied by the server
  uint16_t secs = 0;  // since the client began
  bool broadcast = false;
  Ipv4Address ciaddr;  // the client's, once it is bound
  Ipv4Address yiaddr;  // "your address": what the server gives
  Ipv4Address siaddr;
  Ipv4Address giaddr;  // the relay's
  std::array<uint8_t, 16> chaddr{};

  // The options, in the order of their codes; an absent list is an empty one.
  std::optional<Ipv4Address> subnet_mask;
  std::optional<Ipv4Address> router;  // the first and most preferred one
  DnsList dns;                        // in order of preference; parse() keeps the first four
  std::optional<uint16_t> mtu_bytes;
  std::optional<uint16_t> heartbeat_s;
  std::optional<Ipv4Address> requested_address;
  std::optional<uint32_t> lease_s;
  MessageType type = MessageType::discover;
  std::optional<Ipv4Address> server_id;
  FixedList<uint8_t, 64> parameter_requests;  // in order of preference; parse() keeps the first 64
  Text text;  // parse() puts '?' for what is not printable ASCII: it ends on someone's terminal
  std::optional<uint16_t> max_message_bytes;  // of the IPv4 datagram, 576 or more
  std::optional<uint32_t> t1_s;
  std::optional<uint32_t> t2_s;
  FixedList<char, 32> vendor_class;  // parse() keeps the first 32
  ClientId client_id;
  bool rapid_commit = false;
  RouteList routes;  // parse() refuses more than 32: half of somebody's routes is a wrong routing

  bool speaks_our_vendor_options() const {
    return std::string_view(vendor_class.data(), vendor_class.size()) == kVendorClass;
  }
  bool requests(uint8_t option) const {
    return std::ranges::find(parameter_requests, option) != parameter_requests.end();
  }
  friend bool operator==(const Message&, const Message&) = default;
};

// Option 61 for a key: type 0, "not a hardware address" (RFC 2132 §9.14), and the key's bytes.
ClientId client_id_of(const ClientKey& key);

// Reads a UDP payload. Joins the pieces of a split or repeated option (RFC 3396), reads options
// that overflow into the file and sname fields (option 52). nullopt for anything malformed.
std::optional<Message> parse(std::span<const uint8_t> udp_payload);

// Writes `message`; an option longer than 255 bytes is split (RFC 3396). Returns the bytes
// written, or 0 when `out` has no room: kMessageBytesMax is always enough.
size_t serialize(const Message& message, std::span<uint8_t> out);

}  // namespace adit::dhcp
