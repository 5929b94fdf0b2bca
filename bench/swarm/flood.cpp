#include "bench/swarm/flood.h"

#include <cstring>

namespace adit::bench {

namespace {

inline constexpr unsigned kMessages = 256;  // of a kind, prepared
inline constexpr Ipv4Prefix kSources{Ipv4Address::from_octets(20, 128, 0, 0), 9};
const Endpoint kProvenSource{Ipv4Address::from_octets(20, 128, 0, 1), Be16::from_host(40'000)};

std::span<uint8_t> bytes_of(tunnel::InitiationMessage& message) {
  return {reinterpret_cast<uint8_t*>(&message), sizeof message};
}

}  // namespace

Flood::Flood(const tunnel::PublicKey& gateway, const tunnel::RandomSource& random, uint64_t seed)
    : jar_(gateway), sources_(static_cast<uint32_t>(seed)) {
  for (unsigned kind = 0; kind < kKinds; ++kind) {
    if (kind == kReplayed) continue;
    // The proven source has one only, stamped last: the cookie that comes is an answer to it.
    messages_[kind].resize(kind == kProven ? 1 : kMessages);
    for (tunnel::InitiationMessage& message : messages_[kind]) {
      random(bytes_of(message));
      message.type = static_cast<uint8_t>(tunnel::MessageType::initiation);
      message.offered = 0;
      message.lanes = message.reserved = 0;
      std::array<uint8_t, tunnel::kMacBytes> made_up;
      std::memcpy(made_up.data(), message.mac2, made_up.size());
      if (kind == kBadMac) continue;
      jar_.stamp(bytes_of(message), 0);
      if (kind == kMadeUp) std::memcpy(message.mac2, made_up.data(), made_up.size());
    }
  }
}

void Flood::record(std::span<const uint8_t> message) {
  if (message.size() != sizeof(tunnel::InitiationMessage) ||
      messages_[kReplayed].size() == kMessages) {
    return;
  }
  std::memcpy(&messages_[kReplayed].emplace_back(), message.data(), message.size());
}

Flood::Datagram Flood::next() {
  const uint64_t turn = turn_++;
  const auto kind = static_cast<Kind>(turn % kKinds);
  const auto& messages = messages_[messages_[kind].empty() ? kNoCookie : kind];
  const tunnel::InitiationMessage& message = messages[turn / kKinds % messages.size()];
  return {kind == kProven ? kProvenSource : random_source(),
          {reinterpret_cast<const uint8_t*>(&message), sizeof message}};
}

Endpoint Flood::random_source() {
  const uint32_t host = kSources.address.host() | (sources_() & ~kSources.mask_host());
  return {Ipv4Address::from_host(host), Be16::from_host(static_cast<uint16_t>(sources_() | 1))};
}

bool Flood::has(Ipv4Address address) {
  return kSources.contains(address);
}

bool Flood::take_answer(const Endpoint& to, std::span<const uint8_t> datagram, uint64_t now_ns) {
  tunnel::CookieReplyMessage reply;
  if (datagram.size() != sizeof reply) return false;
  std::memcpy(&reply, datagram.data(), sizeof reply);
  if (reply.type != static_cast<uint8_t>(tunnel::MessageType::cookie_reply)) return false;
  if (to == kProvenSource && jar_.on_reply(reply, now_ns)) {
    jar_.stamp(bytes_of(messages_[kProven].front()), now_ns);
  }
  return true;
}

}  // namespace adit::bench
