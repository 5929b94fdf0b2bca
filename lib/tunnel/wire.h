// The tunnel's messages as they stand on the wire, after the outer UDP header. The first byte is
// the type. Types 1 to 4 are WireGuard's; of types 1 and 2, two bytes that WireGuard leaves zero
// negotiate: byte 1 the protection of the session, byte 2 the client's lanes. Type 5 is the bare
// tunnel.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <span>

#include "lib/net/be.h"

namespace adit::tunnel {

enum class MessageType : uint8_t {
  initiation = 1,
  response = 2,
  cookie_reply = 3,
  encrypted = 4,
  plain = 5,
};

// What guards a session's data packets, for the session's whole life. The values are bits, so
// that a set of them is one byte.
enum class Protection : uint8_t {
  chacha20_poly1305 = 1,  // stock WireGuard
  aes_256_gcm = 2,
  plain = 4,  // data bare (type 5); control packets still sealed with ChaCha20-Poly1305 (type 4)
};

// A set of protections, as byte 1 of message 1 carries it. Empty means stock WireGuard, which
// can do chacha20_poly1305 only and takes part in no negotiation.
struct ProtectionSet {
  uint8_t bits = 0;
  constexpr bool contains(Protection p) const { return (bits & static_cast<uint8_t>(p)) != 0; }
  constexpr ProtectionSet with(Protection p) const {
    return {static_cast<uint8_t>(bits | static_cast<uint8_t>(p))};
  }
  friend constexpr bool operator==(ProtectionSet, ProtectionSet) = default;
};
constexpr ProtectionSet set_of(std::span<const Protection> protections) {
  ProtectionSet set;
  for (const Protection protection : protections) set = set.with(protection);
  return set;
}

// As configurations and status name it.
constexpr const char* protection_name(Protection p) {
  switch (p) {
    case Protection::chacha20_poly1305:
      return "chacha20-poly1305";
    case Protection::aes_256_gcm:
      return "aes-256-gcm";
    case Protection::plain:
      return "plain";
  }
  return "unknown";
}

// A client may have several tunnels at once, from a source port each: its lanes. A handshake is for
// one of them, and says how many there are: message 1 how many are wanted, message 2 how many are
// granted. Lane 0 is the tunnel proper; a client with one lane is an ordinary one.
inline constexpr unsigned kLanesMax = 16;
struct LaneChoice {
  uint8_t lanes = 1;  // 1-kLanesMax
  uint8_t lane = 0;   // which of them, below `lanes`
  friend constexpr bool operator==(LaneChoice, LaneChoice) = default;
};
// As byte 2 carries it: `lanes` - 1 above, the lane below. Zero is an ordinary client.
constexpr uint8_t lane_byte(LaneChoice choice) {
  assert(choice.lane < choice.lanes && choice.lanes <= kLanesMax);
  return static_cast<uint8_t>((choice.lanes - 1) << 4 | choice.lane);
}
// nullopt if the byte names a lane beyond those that there are.
constexpr std::optional<LaneChoice> lane_choice_of(uint8_t byte) {
  const LaneChoice choice{static_cast<uint8_t>((byte >> 4) + 1), static_cast<uint8_t>(byte & 15)};
  return choice.lane < choice.lanes ? std::optional(choice) : std::nullopt;
}

inline constexpr unsigned kTagBytes = 16;  // of both AEADs (RFC 8439, SP 800-38D)
inline constexpr unsigned kMacBytes = 16;

struct InitiationMessage {
  uint8_t type;
  uint8_t offered;  // ProtectionSet
  uint8_t lanes;    // LaneChoice: how many are wanted
  uint8_t reserved;
  Le32 sender_index;
  uint8_t ephemeral[32];
  uint8_t sealed_static[32 + kTagBytes];
  uint8_t sealed_timestamp[12 + kTagBytes];
  uint8_t mac1[kMacBytes];
  uint8_t mac2[kMacBytes];
};
static_assert(sizeof(InitiationMessage) == 148 && alignof(InitiationMessage) == 1);

struct ResponseMessage {
  uint8_t type;
  uint8_t chosen;  // one Protection, or 0 towards a stock peer
  uint8_t lanes;   // LaneChoice: how many are granted
  uint8_t reserved;
  Le32 sender_index;
  Le32 receiver_index;
  uint8_t ephemeral[32];
  uint8_t sealed_nothing[kTagBytes];
  uint8_t mac1[kMacBytes];
  uint8_t mac2[kMacBytes];
};
static_assert(sizeof(ResponseMessage) == 92 && alignof(ResponseMessage) == 1);

struct CookieReplyMessage {
  uint8_t type;
  uint8_t reserved[3];
  Le32 receiver_index;
  uint8_t nonce[24];
  uint8_t sealed_cookie[16 + kTagBytes];
};
static_assert(sizeof(CookieReplyMessage) == 64 && alignof(CookieReplyMessage) == 1);

// In front of the sealed inner packet; the tag follows it.
struct EncryptedHeader {
  uint8_t type;
  uint8_t reserved[3];
  Le32 receiver_index;
  Le64 counter;
};
static_assert(sizeof(EncryptedHeader) == 16 && alignof(EncryptedHeader) == 1);

// In front of the bare inner packet.
struct PlainHeader {
  uint8_t type;
  uint8_t session_tag[3];
  Le32 receiver_index;
};
static_assert(sizeof(PlainHeader) == 8 && alignof(PlainHeader) == 1);

// What a type 4 packet adds to the inner packet, beyond padding.
inline constexpr unsigned kEncryptedOverheadBytes = sizeof(EncryptedHeader) + kTagBytes;

// Inside type 4, a first byte with high nibble 4 is an inner IPv4 packet; nothing at all is a
// heartbeat; and ProbePacket is our own. A stock peer drops it as neither IPv4 nor IPv6.
// A probe is answered at once with the same stamp, so that its sender learns the round trip. Two
// kinds tell how long a NAT keeps an idle binding: a mark may come from any source port, is answered
// there, and is remembered by the gateway without moving the tunnel; kProbeToMark is answered not
// where it came from but at the mark.
struct ProbePacket {
  uint8_t kind;         // one of those below
  uint8_t reserved;     // 0
  Be16 mtu_bytes;       // request: the tunnel's MTU at its sender's end, 0 where it says nothing
  uint8_t reserved2[4];  // 0
  Be64 stamp;           // opaque to the one who answers
};
static_assert(sizeof(ProbePacket) == 16 && alignof(ProbePacket) == 1);
inline constexpr uint8_t kProbeRequest = 0x01;
inline constexpr uint8_t kProbeReply = 0x02;
inline constexpr uint8_t kProbeMark = 0x03;
inline constexpr uint8_t kProbeToMark = 0x04;

}  // namespace adit::tunnel
