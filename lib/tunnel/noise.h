// The handshake: WireGuard's Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, with the bytes of messages 1
// and 2 that negotiate mixed into the transcript when they are not zero. Pure functions over
// messages; lib/tunnel/peer.h decides when to call them, lib/tunnel/cookie.h owns mac1, mac2 and
// cookies.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "lib/tunnel/keys.h"
#include "lib/tunnel/session.h"
#include "lib/tunnel/wire.h"

namespace adit::tunnel {

// TAI64N, 12 bytes big-endian: compares bytewise.
using Tai64n = std::array<uint8_t, 12>;
// The stamp of a wall clock (Unix time), coarse by 16.7 ms as WireGuard's are.
Tai64n tai64n_from_unix(uint64_t seconds, uint32_t nanoseconds);

// Our own end. Immutable after make_identity(), so threads may share it.
struct Identity {
  PrivateKey private_key;
  PublicKey public_key;
};
Identity make_identity(const PrivateKey& key);

// The other end, with the one Diffie-Hellman that never changes computed ahead.
struct RemoteIdentity {
  PublicKey public_key;
  PresharedKey preshared_key;
  std::array<uint8_t, 32> static_static{};  // DH(our private, their public)
};
// nullopt if the public key is of low order.
std::optional<RemoteIdentity> make_remote_identity(const Identity& local,
                                                   const PublicKey& public_key,
                                                   const PresharedKey& preshared_key);

// What an initiator remembers between message 1 and message 2.
struct InitiatorState {
  std::array<uint8_t, 32> chaining_key{};
  std::array<uint8_t, 32> hash{};
  PrivateKey ephemeral;
  uint32_t local_index = 0;
  ProtectionSet offered;
  LaneChoice wanted;
};

// What message 1 says of its sender, who has not proved it yet.
struct NamedInitiation {
  std::array<uint8_t, 32> chaining_key{};
  std::array<uint8_t, 32> hash{};
  PublicKey remote_public_key;
};

// What a responder knows after opening message 1, before it has decided to answer.
struct OpenedInitiation {
  std::array<uint8_t, 32> chaining_key{};
  std::array<uint8_t, 32> hash{};
  PublicKey remote_public_key;
  PublicKey remote_ephemeral;
  Tai64n timestamp{};
  uint32_t remote_index = 0;
  ProtectionSet offered;  // empty = stock WireGuard
  LaneChoice wanted;      // one lane where the client says nothing of lanes
};

// Writes message 1 with mac1 and mac2 zero (see cookie.h) and the state to open its answer.
// nullopt if the remote key is of low order.
std::optional<InitiatorState> create_initiation(const Identity& local, const RemoteIdentity& remote,
                                                uint32_t local_index, ProtectionSet offered,
                                                const Tai64n& timestamp, const RandomSource& random,
                                                InitiationMessage& out, LaneChoice wanted = {});

// Opens message 1 in two steps, so that who has a peer's RemoteIdentity at hand saves a
// Diffie-Hellman: first who it says it is from, then whether that is so. nullopt if it does not
// authenticate. Replay (timestamp) and whether the peer is known are the caller's to check.
std::optional<NamedInitiation> open_name(const Identity& local, const InitiationMessage& message);
// `remote` is the one that was named.
std::optional<OpenedInitiation> open_initiation(const NamedInitiation& named,
                                                const RemoteIdentity& remote,
                                                const InitiationMessage& message);
// Both steps.
std::optional<OpenedInitiation> open_initiation(const Identity& local,
                                                const InitiationMessage& message);

// Writes message 2 and makes the responder's session. `chosen` must be in the offer (or
// chacha20_poly1305 for an empty one), `lanes_granted` be no more than were wanted and have the
// handshake's lane among them: asserted. nullopt on a low-order ephemeral.
std::optional<Session> create_response(const OpenedInitiation& opened, const RemoteIdentity& remote,
                                       uint32_t local_index, Protection chosen, uint64_t now_ns,
                                       const RandomSource& random, ResponseMessage& out,
                                       unsigned lanes_granted = 1);

// What byte 1 of a response says to the one who made this offer: the protection of the session,
// or nullopt if it was not offered. Zero is a stock peer's, which can do chacha20_poly1305 only.
std::optional<Protection> accept_choice(uint8_t chosen, ProtectionSet offered);
// What byte 2 of a response says to the one who wanted this: how many lanes are granted. nullopt if
// they are more than were wanted, or the response is for another lane or one that is not granted.
std::optional<unsigned> accept_lanes(uint8_t lanes, LaneChoice wanted);

// Opens message 2 and makes the initiator's session. nullopt if it does not authenticate, chooses a
// protection that was not offered, or says of lanes what accept_lanes() refuses.
std::optional<Session> open_response(const Identity& local, const RemoteIdentity& remote,
                                     const InitiatorState& state, const ResponseMessage& message,
                                     uint64_t now_ns);

}  // namespace adit::tunnel
