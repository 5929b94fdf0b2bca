// The Port Control Protocol's messages (RFC 6887): what a host asks of the translator, and what it
// is told. Bytes in, a value out, and back; nothing here knows a socket, a clock or a mapping.
//
// IPv4 only: addresses are the IPv4-mapped ones (::ffff:a.b.c.d), and any other reads as zero.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "lib/net/address.h"
#include "lib/net/be.h"

namespace adit::pcp {

inline constexpr uint16_t kServerPort = 5351;  // RFC 6887 §19.1
inline constexpr uint8_t kVersion = 2;
inline constexpr size_t kMessageBytesMax = 1100;  // RFC 6887 §7
inline constexpr uint8_t kIsResponse = 0x80;      // the R bit, over the opcode

enum class Opcode : uint8_t { announce = 0, map = 1, peer = 2 };

// RFC 6887 §7.4.
enum class Result : uint8_t {
  success = 0,
  unsupported_version = 1,
  not_authorized = 2,
  malformed_request = 3,
  unsupported_opcode = 4,
  unsupported_option = 5,
  malformed_option = 6,
  network_failure = 7,
  no_resources = 8,
  unsupported_protocol = 9,
  user_exceeded_quota = 10,
  cannot_provide_external = 11,
  address_mismatch = 12,
  excessive_remote_peers = 13,
};

// RFC 6887 §7.3; those below 128 must be understood or refused.
enum class OptionCode : uint8_t { third_party = 1, prefer_failure = 2, filter = 3 };
inline constexpr uint8_t kFirstOptionalOption = 128;

using Nonce = std::array<uint8_t, 12>;

struct MappedAddress {
  std::array<uint8_t, 16> bytes{};

  static MappedAddress of(Ipv4Address address);
  Ipv4Address ipv4() const;  // zero when it is none
};

struct RequestHeader {
  uint8_t version;
  uint8_t opcode;
  Be16 reserved;
  Be32 lifetime_s;
  MappedAddress client;
};
static_assert(sizeof(RequestHeader) == 24);

struct ResponseHeader {
  uint8_t version;
  uint8_t opcode;
  uint8_t reserved;
  uint8_t result;
  Be32 lifetime_s;
  Be32 epoch_s;
  std::array<uint8_t, 12> reserved_too;
};
static_assert(sizeof(ResponseHeader) == sizeof(RequestHeader));

// In a request the external endpoint is what the client would like, in a response what it has.
struct MapBody {
  Nonce nonce;
  uint8_t protocol;  // IP's; 0: all
  std::array<uint8_t, 3> reserved;
  Be16 internal_port;
  Be16 external_port;
  MappedAddress external;
};
static_assert(sizeof(MapBody) == 36);

struct PeerBody {
  MapBody map;
  Be16 remote_port;
  Be16 reserved;
  MappedAddress remote;
};
static_assert(sizeof(PeerBody) == 56);

struct OptionHeader {
  uint8_t code;
  uint8_t reserved;
  Be16 bytes;  // of what follows, without the padding to whole words
};
static_assert(sizeof(OptionHeader) == 4);

struct Request {
  Opcode opcode = Opcode::announce;
  uint32_t lifetime_s = 0;
  Ipv4Address client;  // who it says it is
  Nonce nonce{};
  uint8_t protocol = 0;
  Be16 internal_port;
  Endpoint wanted;  // external; zero parts: any
  Endpoint remote;  // PEER
  bool prefer_failure = false;  // no other external endpoint than the wanted one
};

// Reads what came in a UDP datagram. nullopt: not to be answered (RFC 6887 §8.2). Else whether it
// is well formed; `out` is set if so.
std::optional<Result> read_request(std::span<const uint8_t> message, Request& out);

struct Answer {
  Result result = Result::success;
  uint32_t lifetime_s = 0;
  uint32_t epoch_s = 0;
  Endpoint external;  // of a MAP or PEER that succeeded
};
// Writes the answer to `message`, which read_request() wanted answered; returns its length. `out`
// has room for kMessageBytesMax bytes. A refusal repeats the request (RFC 6887 §8.2).
size_t write_response(std::span<const uint8_t> message, const Request& request,
                      const Answer& answer, std::span<uint8_t> out);

}  // namespace adit::pcp
