#include <cstring>

#include "lib/net/parse.h"
#include "tests/eal/rig.h"

namespace adit::gateway::test {

FarEnd::FarEnd(const tunnel::Session& ours, unsigned mtu_bytes)
    : session_(ours),
      mtu_bytes_(mtu_bytes),
      send_(ours.protection, ours.receive_key),
      receive_(ours.protection, ours.send_key) {}

Bytes FarEnd::seal(const Bytes& inner) { return seal_at(inner, counter++); }

Bytes FarEnd::seal_at(const Bytes& inner, uint64_t at) {
  const size_t padded = tunnel::padded_bytes(inner.size(), mtu_bytes_);
  Bytes packet(padded + tunnel::kEncryptedOverheadBytes);
  if (!inner.empty()) {
    std::memcpy(packet.data() + sizeof(tunnel::EncryptedHeader), inner.data(), inner.size());
  }
  send_.seal(packet, padded, session_.local_index, at);
  return packet;
}

Bytes FarEnd::plain(const Bytes& inner) const {
  tunnel::PlainHeader header{};
  header.type = static_cast<uint8_t>(tunnel::MessageType::plain);
  std::memcpy(header.session_tag, session_.receive_tag.data(), 3);
  header.receiver_index = Le32::from_host(session_.local_index);
  Bytes packet(sizeof header + inner.size());
  std::memcpy(packet.data(), &header, sizeof header);
  std::memcpy(packet.data() + sizeof header, inner.data(), inner.size());
  return packet;
}

std::optional<Bytes> FarEnd::open(Bytes payload) {
  if (payload.size() < sizeof(tunnel::PlainHeader)) return std::nullopt;
  tunnel::PlainHeader header;
  std::memcpy(&header, payload.data(), sizeof header);
  if (header.receiver_index.host() != session_.remote_index) return std::nullopt;
  if (header.type == static_cast<uint8_t>(tunnel::MessageType::plain)) {
    if (std::memcmp(header.session_tag, session_.send_tag.data(), 3) != 0) return std::nullopt;
    return Bytes(payload.begin() + sizeof header, payload.end());
  }
  const auto text = receive_.open(payload);
  if (!text) return std::nullopt;
  const auto begin = payload.begin() + sizeof(tunnel::EncryptedHeader);
  Bytes inner(begin, begin + static_cast<long>(*text));
  ParsedIpv4 parsed;
  if (parse_ipv4(inner, HeaderChecksum::verify, parsed) == ParseError::none) {
    inner.resize(parsed.total_bytes);  // without the padding
  }
  return inner;
}

}  // namespace adit::gateway::test
