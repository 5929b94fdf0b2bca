#include "lib/tunnel/noise.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string_view>

#include "lib/tunnel/crypto.h"

namespace adit::tunnel {

namespace {

// WireGuard white paper, section 5.4: the protocol's name and version, and ours for what we add.
constexpr std::string_view kConstruction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
constexpr std::string_view kIdentifier = "WireGuard v1 zx2c4 Jason@zx2c4.com";
constexpr std::string_view kGcmLabel = "adit1 aes-256-gcm";
constexpr std::string_view kPlainLabel = "adit1 plain";

ByteSpan bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

template <size_t N>
void copy_to(uint8_t (&out)[N], const std::array<uint8_t, N>& in) {
  std::copy(in.begin(), in.end(), out);
}

template <size_t N>
std::array<uint8_t, N> array_of(const uint8_t (&in)[N]) {
  std::array<uint8_t, N> out;
  std::copy(in, in + N, out.begin());
  return out;
}

// Noise's symmetric state, and the operations on it that the two messages are made of. Both ends
// run the same ones in the same order; whoever differs in a byte fails at the next AEAD.
struct Transcript {
  Bytes32 chaining_key;
  Bytes32 hash;
  Bytes32 key{};  // of the next AEAD

  ~Transcript() {
    wipe(chaining_key);
    wipe(key);
  }

  void mix_hash(ByteSpan bytes) { hash = blake2s({hash, bytes}); }
  void mix_chain(ByteSpan input) { chaining_key = kdf1(chaining_key, input); }
  void mix_key(ByteSpan input) {
    const auto out = kdf2(chaining_key, input);
    chaining_key = out[0];
    key = out[1];
  }
  void mix_preshared_key(const PresharedKey& preshared) {
    const auto out = kdf3(chaining_key, preshared.bytes);
    chaining_key = out[0];
    mix_hash(out[1]);
    key = out[2];
  }
  // Rules 1 and 13 of the tunnel protocol: zero is stock WireGuard and leaves no trace. Byte 2
  // comes with its place, so that neither byte can be moved to where the other stands.
  void mix_negotiated(uint8_t protection, uint8_t lanes) {
    if (protection != 0) mix_hash(ByteSpan(&protection, 1));
    const uint8_t placed[] = {2, lanes};
    if (lanes != 0) mix_hash(placed);
  }
  // Every key of the handshake seals one text, so the nonce is always zero.
  void seal(ByteSpan text, std::span<uint8_t> sealed) {
    chacha20_poly1305_seal(key, Nonce12{}, hash, text, sealed);
    mix_hash(sealed);
  }
  bool open(ByteSpan sealed, std::span<uint8_t> text) {
    if (!chacha20_poly1305_open(key, Nonce12{}, hash, sealed, text)) return false;
    mix_hash(sealed);
    return true;
  }
};

Transcript begin(const PublicKey& responder) {
  static const Bytes32 initial_key = blake2s({bytes_of(kConstruction)});
  static const Bytes32 initial_hash = blake2s({initial_key, bytes_of(kIdentifier)});
  Transcript transcript{initial_key, initial_hash};
  transcript.mix_hash(responder.bytes);
  return transcript;
}

// The keys and tags of both directions. Every label makes keys of its own, so that none serves
// two ciphers (rule 4); the tags of plain packets come from theirs (rule 6).
Session make_session(const Bytes32& chaining_key, Protection protection, bool initiator,
                     uint32_t local_index, uint32_t remote_index, uint64_t now_ns) {
  const std::string_view label = protection == Protection::aes_256_gcm ? kGcmLabel : "";
  auto keys = kdf2(chaining_key, bytes_of(label));
  auto tags = kdf2(chaining_key, bytes_of(kPlainLabel));
  const unsigned send = initiator ? 0 : 1;

  Session session;
  session.local_index = local_index;
  session.remote_index = remote_index;
  session.protection = protection;
  session.initiator = initiator;
  session.send_key = keys[send];
  session.receive_key = keys[1 - send];
  std::copy_n(tags[send].begin(), session.send_tag.size(), session.send_tag.begin());
  std::copy_n(tags[1 - send].begin(), session.receive_tag.size(), session.receive_tag.begin());
  session.established_ns = now_ns;
  for (auto& key : keys) wipe(key);
  for (auto& tag : tags) wipe(tag);
  return session;
}

template <typename Message>
bool has_form(const Message& message, MessageType type) {
  return message.type == static_cast<uint8_t>(type) && message.reserved == 0;
}

}  // namespace

Tai64n tai64n_from_unix(uint64_t seconds, uint32_t nanoseconds) {
  // TAI was ten seconds ahead of UTC when the label was defined; WireGuard counts no more leaps.
  constexpr uint64_t kTaiOfUnixEpoch = 0x400000000000000a;
  // Coarse by 2^24 ns, so that stamps do not tell the clock's finer bits to whoever reads them.
  constexpr uint32_t kWhitenedBits = (1u << 24) - 1;
  const Be64 label = Be64::from_host(kTaiOfUnixEpoch + seconds);
  const Be32 fraction = Be32::from_host(nanoseconds & ~kWhitenedBits);
  Tai64n stamp;
  std::memcpy(stamp.data(), &label, sizeof(label));
  std::memcpy(stamp.data() + sizeof(label), &fraction, sizeof(fraction));
  return stamp;
}

Identity make_identity(const PrivateKey& key) {
  choose_fast_crypto();
  return {key, public_key_of(key)};
}

std::optional<RemoteIdentity> make_remote_identity(const Identity& local,
                                                   const PublicKey& public_key,
                                                   const PresharedKey& preshared_key) {
  const auto shared = x25519(local.private_key.bytes, public_key.bytes);
  if (!shared) return std::nullopt;
  return RemoteIdentity{public_key, preshared_key, *shared};
}

std::optional<InitiatorState> create_initiation(const Identity& local, const RemoteIdentity& remote,
                                                uint32_t local_index, ProtectionSet offered,
                                                const Tai64n& timestamp, const RandomSource& random,
                                                InitiationMessage& out, LaneChoice wanted) {
  out = {};
  out.type = static_cast<uint8_t>(MessageType::initiation);
  out.offered = offered.bits;
  out.lanes = lane_byte(wanted);
  out.sender_index = Le32::from_host(local_index);

  InitiatorState state;
  state.ephemeral = generate_private_key(random);
  state.local_index = local_index;
  state.offered = offered;
  state.wanted = wanted;
  const auto ephemeral_static = x25519(state.ephemeral.bytes, remote.public_key.bytes);
  if (!ephemeral_static) return std::nullopt;
  copy_to(out.ephemeral, public_key_of(state.ephemeral).bytes);

  Transcript transcript = begin(remote.public_key);
  transcript.mix_chain(out.ephemeral);
  transcript.mix_hash(out.ephemeral);
  transcript.mix_key(*ephemeral_static);
  transcript.mix_negotiated(out.offered, out.lanes);
  transcript.seal(local.public_key.bytes, out.sealed_static);
  transcript.mix_key(remote.static_static);
  transcript.seal(timestamp, out.sealed_timestamp);

  state.chaining_key = transcript.chaining_key;
  state.hash = transcript.hash;
  return state;
}

std::optional<NamedInitiation> open_name(const Identity& local, const InitiationMessage& message) {
  if (!has_form(message, MessageType::initiation)) return std::nullopt;
  const auto ephemeral_static = x25519(local.private_key.bytes, array_of(message.ephemeral));
  if (!ephemeral_static) return std::nullopt;
  Transcript transcript = begin(local.public_key);
  transcript.mix_chain(message.ephemeral);
  transcript.mix_hash(message.ephemeral);
  transcript.mix_key(*ephemeral_static);
  transcript.mix_negotiated(message.offered, message.lanes);
  NamedInitiation named;
  if (!transcript.open(message.sealed_static, named.remote_public_key.bytes)) return std::nullopt;
  named.chaining_key = transcript.chaining_key;
  named.hash = transcript.hash;
  return named;
}

std::optional<OpenedInitiation> open_initiation(const NamedInitiation& named,
                                                const RemoteIdentity& remote,
                                                const InitiationMessage& message) {
  assert(remote.public_key == named.remote_public_key);
  const auto wanted = lane_choice_of(message.lanes);
  if (!wanted) return std::nullopt;
  OpenedInitiation opened;
  Transcript transcript{named.chaining_key, named.hash};
  transcript.mix_key(remote.static_static);
  if (!transcript.open(message.sealed_timestamp, opened.timestamp)) return std::nullopt;
  opened.chaining_key = transcript.chaining_key;
  opened.hash = transcript.hash;
  opened.remote_public_key = named.remote_public_key;
  opened.remote_ephemeral.bytes = array_of(message.ephemeral);
  opened.remote_index = message.sender_index.host();
  opened.offered.bits = message.offered;
  opened.wanted = *wanted;
  return opened;
}

std::optional<OpenedInitiation> open_initiation(const Identity& local,
                                                const InitiationMessage& message) {
  const auto named = open_name(local, message);
  if (!named) return std::nullopt;
  const auto remote = make_remote_identity(local, named->remote_public_key, {});
  if (!remote) return std::nullopt;
  return open_initiation(*named, *remote, message);
}

std::optional<Session> create_response(const OpenedInitiation& opened, const RemoteIdentity& remote,
                                       uint32_t local_index, Protection chosen, uint64_t now_ns,
                                       const RandomSource& random, ResponseMessage& out,
                                       unsigned lanes_granted) {
  const bool stock = opened.offered.bits == 0;
  assert(stock ? chosen == Protection::chacha20_poly1305 : opened.offered.contains(chosen));
  assert(lanes_granted <= opened.wanted.lanes);
  out = {};
  out.type = static_cast<uint8_t>(MessageType::response);
  out.chosen = stock ? 0 : static_cast<uint8_t>(chosen);
  out.lanes = lane_byte({static_cast<uint8_t>(lanes_granted), opened.wanted.lane});
  out.sender_index = Le32::from_host(local_index);
  out.receiver_index = Le32::from_host(opened.remote_index);

  PrivateKey ephemeral = generate_private_key(random);
  const auto ephemeral_ephemeral = x25519(ephemeral.bytes, opened.remote_ephemeral.bytes);
  const auto ephemeral_static = x25519(ephemeral.bytes, remote.public_key.bytes);
  copy_to(out.ephemeral, public_key_of(ephemeral).bytes);
  wipe(ephemeral.bytes);
  if (!ephemeral_ephemeral || !ephemeral_static) return std::nullopt;

  Transcript transcript{opened.chaining_key, opened.hash};
  transcript.mix_chain(out.ephemeral);
  transcript.mix_hash(out.ephemeral);
  transcript.mix_chain(*ephemeral_ephemeral);
  transcript.mix_chain(*ephemeral_static);
  transcript.mix_preshared_key(remote.preshared_key);
  transcript.mix_negotiated(out.chosen, out.lanes);
  transcript.seal({}, out.sealed_nothing);
  return make_session(transcript.chaining_key, chosen, false, local_index, opened.remote_index,
                      now_ns);
}

std::optional<Protection> accept_choice(uint8_t chosen, ProtectionSet offered) {
  const bool stock = offered.bits == 0;
  const auto chacha = Protection::chacha20_poly1305;
  if (chosen == 0) {
    return stock || offered.contains(chacha) ? std::optional(chacha) : std::nullopt;
  }
  for (const auto known : {chacha, Protection::aes_256_gcm, Protection::plain}) {
    if (chosen == static_cast<uint8_t>(known) && offered.contains(known)) return known;
  }
  return std::nullopt;
}

std::optional<unsigned> accept_lanes(uint8_t lanes, LaneChoice wanted) {
  const auto granted = lane_choice_of(lanes);
  if (!granted || granted->lane != wanted.lane || granted->lanes > wanted.lanes) {
    return std::nullopt;
  }
  return granted->lanes;
}

std::optional<Session> open_response(const Identity& local, const RemoteIdentity& remote,
                                     const InitiatorState& state, const ResponseMessage& message,
                                     uint64_t now_ns) {
  if (!has_form(message, MessageType::response)) return std::nullopt;
  if (message.receiver_index.host() != state.local_index) return std::nullopt;
  const auto chosen = accept_choice(message.chosen, state.offered);
  if (!chosen || !accept_lanes(message.lanes, state.wanted)) return std::nullopt;

  const Bytes32 remote_ephemeral = array_of(message.ephemeral);
  const auto ephemeral_ephemeral = x25519(state.ephemeral.bytes, remote_ephemeral);
  const auto static_ephemeral = x25519(local.private_key.bytes, remote_ephemeral);
  if (!ephemeral_ephemeral || !static_ephemeral) return std::nullopt;

  Transcript transcript{state.chaining_key, state.hash};
  transcript.mix_chain(message.ephemeral);
  transcript.mix_hash(message.ephemeral);
  transcript.mix_chain(*ephemeral_ephemeral);
  transcript.mix_chain(*static_ephemeral);
  transcript.mix_preshared_key(remote.preshared_key);
  transcript.mix_negotiated(message.chosen, message.lanes);
  if (!transcript.open(message.sealed_nothing, {})) return std::nullopt;
  return make_session(transcript.chaining_key, *chosen, true, state.local_index,
                      message.sender_index.host(), now_ns);
}

}  // namespace adit::tunnel
