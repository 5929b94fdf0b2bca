// The far end of a PacketPath, made of lib/tunnel alone: it shakes hands in memory, then seals,
// bares and opens packets as a gateway does.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "lib/tunnel/noise.h"
#include "lib/tunnel/seal.h"

namespace adit::client::test {

using Bytes = std::vector<uint8_t>;

// Both ends' sessions of one handshake.
struct SessionPair {
  tunnel::Session client;
  tunnel::Session gateway;
};

inline SessionPair shake_hands(tunnel::Protection protection, uint32_t client_index,
                               uint64_t now_ns) {
  std::mt19937 engine(client_index);
  const tunnel::RandomSource random = [&engine](std::span<uint8_t> out) {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(engine());
  };
  const auto client = tunnel::make_identity(tunnel::generate_private_key(random));
  const auto gateway = tunnel::make_identity(tunnel::generate_private_key(random));
  const auto gateway_seen = tunnel::make_remote_identity(client, gateway.public_key, {});
  const auto client_seen = tunnel::make_remote_identity(gateway, client.public_key, {});
  tunnel::InitiationMessage initiation{};
  tunnel::ResponseMessage response{};
  const auto state = tunnel::create_initiation(
      client, *gateway_seen, client_index, tunnel::ProtectionSet{}.with(protection),
      tunnel::Tai64n{1}, random, initiation);
  const auto opened = tunnel::open_initiation(gateway, initiation);
  const auto answered = tunnel::create_response(*opened, *client_seen, client_index ^ 0xffff,
                                                protection, now_ns, random, response);
  const auto finished =
      tunnel::open_response(client, *gateway_seen, *state, response, now_ns);
  return {finished.value(), answered.value()};
}

class FakeGateway {
 public:
  explicit FakeGateway(const tunnel::Session& session)
      : session_(session),
        send_(session.protection, session.send_key),
        receive_(session.protection, session.receive_key) {}

  Bytes sealed(std::span<const uint8_t> inner) {
    Bytes packet(inner.size() + tunnel::kEncryptedOverheadBytes);
    if (!inner.empty()) {
      std::memcpy(packet.data() + sizeof(tunnel::EncryptedHeader), inner.data(), inner.size());
    }
    packet.resize(send_.seal(packet, inner.size(), session_.remote_index, counter_++));
    return packet;
  }
  Bytes plain(std::span<const uint8_t> inner) const {
    tunnel::PlainHeader header{};
    header.type = 5;
    std::memcpy(header.session_tag, session_.send_tag.data(), 3);
    header.receiver_index = Le32::from_host(session_.remote_index);
    Bytes packet(sizeof header + inner.size());
    std::memcpy(packet.data(), &header, sizeof header);
    std::copy(inner.begin(), inner.end(), packet.begin() + sizeof header);
    return packet;
  }
  // The inner bytes of a type 4 packet, padding included.
  std::optional<Bytes> open(std::span<const uint8_t> datagram) {
    Bytes packet(datagram.begin(), datagram.end());
    const auto bytes = receive_.open(packet);
    if (!bytes) return std::nullopt;
    const auto begin = packet.begin() + sizeof(tunnel::EncryptedHeader);
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(*bytes));
  }
  const tunnel::Session& session() const { return session_; }

 private:
  tunnel::Session session_;
  tunnel::Aead send_;
  tunnel::Aead receive_;
  uint64_t counter_ = 0;
};

}  // namespace adit::client::test
