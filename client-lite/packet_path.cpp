#include "client-lite/packet_path.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace adit::client {
namespace {

using tunnel::EncryptedHeader;
using tunnel::MessageType;
using tunnel::PlainHeader;
using tunnel::ProbePacket;
using tunnel::SessionSet;

// RFC 2131 §4.1.
constexpr uint16_t kDhcpServerPort = 67;
constexpr uint16_t kDhcpClientPort = 68;

bool is_dhcp_port(Be16 port) {
  return port.host() == kDhcpServerPort || port.host() == kDhcpClientPort;
}

bool is_dhcp(const ParsedIpv4& packet) {
  return packet.protocol == kIpUdp && packet.is_first_fragment &&
         (is_dhcp_port(packet.source_port) || is_dhcp_port(packet.destination_port));
}

}  // namespace

void PacketPath::swap(PacketPath& other) {
  assert(&counters_ == &other.counters_);
  std::swap(gateway_, other.gateway_);
  std::swap(address_, other.address_);
  std::swap(lan_, other.lan_);
  std::swap(takes_dhcp_, other.takes_dhcp_);
  std::swap(mtu_bytes_, other.mtu_bytes_);
  std::swap(sessions_, other.sessions_);
  std::swap(shared_counter_, other.shared_counter_);
  std::swap(keys_, other.keys_);
}

void PacketPath::install(const tunnel::Session& session, SharedCounter counter) {
  drop_unused_keys();
  for (std::optional<Keys>& slot : keys_) {
    if (slot) continue;
    slot.emplace(Keys{session.local_index, tunnel::Aead(session.protection, session.send_key),
                      tunnel::Aead(session.protection, session.receive_key)});
    break;
  }
  sessions_.install(session);
  shared_counter_ = std::move(counter);
  drop_unused_keys();
}

void PacketPath::expire(uint64_t now_ns) {
  if (sessions_.expire(now_ns) > 0) drop_unused_keys();
}

uint64_t PacketPath::next_expiry_ns() const {
  uint64_t next_ns = UINT64_MAX;
  for (const auto place : {SessionSet::kCurrent, SessionSet::kPrevious, SessionSet::kNext}) {
    const tunnel::Session& session = sessions_.at(place);
    if (session.exists()) {
      next_ns = std::min(next_ns, session.established_ns + tunnel::kRejectAfterNs);
    }
  }
  return next_ns;
}

void PacketPath::clear() {
  sessions_.clear();
  shared_counter_.reset();
  for (std::optional<Keys>& slot : keys_) slot.reset();
}

bool PacketPath::usable(uint64_t now_ns) const {
  return current().exists() && !current().expired(now_ns);
}

PacketPath::Keys* PacketPath::keys_of(uint32_t local_index) {
  for (std::optional<Keys>& slot : keys_) {
    if (slot && slot->local_index == local_index) return &*slot;
  }
  return nullptr;
}

void PacketPath::drop_unused_keys() {
  for (std::optional<Keys>& slot : keys_) {
    if (slot && sessions_.find(slot->local_index) == SessionSet::kNone) slot.reset();
  }
}

std::optional<Admitted> PacketPath::admit(std::span<const uint8_t> inner) {
  if (inner.empty() || inner[0] >> 4 != 4) {
    ++counters_.tx_not_ipv4;
    return std::nullopt;
  }
  ParsedIpv4 parsed;
  // The checksum is the kernel's own, a moment old.
  if (parse_ipv4(inner, HeaderChecksum::trusted, parsed) != ParseError::none) {
    ++counters_.tx_malformed;
    return std::nullopt;
  }
  if (reinterpret_cast<const Ipv4Header*>(inner.data())->destination == gateway_.address &&
      parsed.protocol == kIpUdp && parsed.destination_port == gateway_.port) [[unlikely]] {
    ++counters_.tx_outer_loop;
    return std::nullopt;
  }
  return Admitted{parsed.total_bytes, is_dhcp(parsed), parsed};
}

PacketPath::Wrapped PacketPath::wrap(PacketBuffer& buffer, const Admitted& packet) {
  Wrapped wrapped;
  if (is_plain() && !packet.always_sealed) {
    const size_t start = kHeadroomBytes - sizeof(PlainHeader);
    PlainHeader header{};
    header.type = static_cast<uint8_t>(MessageType::plain);
    std::copy(current().send_tag.begin(), current().send_tag.end(), header.session_tag);
    header.receiver_index = Le32::from_host(current().remote_index);
    std::memcpy(buffer.bytes.data() + start, &header, sizeof header);
    wrapped.datagram = std::span(buffer.bytes).subspan(start, sizeof header + packet.bytes);
  } else {
    wrapped = seal(buffer, packet.bytes, mtu_bytes_);
  }
  if (!wrapped.datagram.empty()) {
    ++counters_.tx_packets;
    counters_.tx_bytes += packet.bytes;
  }
  return wrapped;
}

PacketPath::Wrapped PacketPath::wrap_control(PacketBuffer& buffer, size_t inner_bytes) {
  const Wrapped wrapped = seal(buffer, inner_bytes, mtu_bytes_);
  if (!wrapped.datagram.empty()) ++counters_.tx_control;
  return wrapped;
}

PacketPath::Wrapped PacketPath::wrap_padded_probe(PacketBuffer& buffer, size_t outer_bytes,
                                                  uint64_t stamp, Be16 told_mtu) {
  tunnel::ProbePacket probe{};
  probe.kind = tunnel::kProbeRequest;
  probe.mtu_bytes = told_mtu;
  probe.stamp = Be64::from_host(stamp);
  const std::span<uint8_t> inner = buffer.inner().first(outer_bytes - kOuterOverheadBytes);
  std::ranges::fill(inner, uint8_t{0});
  std::memcpy(inner.data(), &probe, sizeof probe);
  const Wrapped wrapped = seal(buffer, inner.size(), inner.size());
  if (!wrapped.datagram.empty()) ++counters_.tx_control;
  return wrapped;
}

// For the next packet in the session in use; nothing when they are used up. Threads that come to
// the end together go beyond it by one each, and from there it is far to where counters repeat.
std::optional<uint64_t> PacketPath::take_counter() {
  if (send_counter() >= tunnel::kRejectAfterMessages) return std::nullopt;
  if (shared_counter_) return shared_counter_->fetch_add(1, std::memory_order_relaxed);
  return sessions_.send_counter(SessionSet::kCurrent)++;
}

PacketPath::Wrapped PacketPath::seal(PacketBuffer& buffer, size_t inner_bytes,
                                     size_t mtu_bytes) {
  Keys* keys = keys_of(current().local_index);
  const std::optional<uint64_t> counter = keys == nullptr ? std::nullopt : take_counter();
  if (!counter) {
    ++counters_.tx_counter_exhausted;
    return {};
  }
  const size_t text_bytes = tunnel::padded_bytes(inner_bytes, mtu_bytes);
  // The room behind the packet holds what an earlier one left there.
  std::memset(buffer.bytes.data() + kHeadroomBytes + inner_bytes, 0, text_bytes - inner_bytes);
  const size_t bytes = keys->send.seal(buffer.bytes, text_bytes, current().remote_index, *counter);
  return {std::span(buffer.bytes).first(bytes), true};
}

Received PacketPath::receive(std::span<uint8_t> datagram, const Endpoint& source,
                             uint64_t now_ns) {
  if (source != gateway_) {
    ++counters_.rx_wrong_source;
    return {};
  }
  // The shortest message is a plain header; a whole word of type can then be read.
  if (datagram.size() < sizeof(PlainHeader)) {
    ++counters_.rx_bad_length;
    return {};
  }
  const bool reserved_zero = (datagram[1] | datagram[2] | datagram[3]) == 0;
  switch (static_cast<MessageType>(datagram[0])) {
    case MessageType::encrypted:
      if (reserved_zero) return receive_sealed(datagram, now_ns);
      break;
    case MessageType::plain:
      return receive_plain(datagram, now_ns);
    case MessageType::response:
    case MessageType::cookie_reply: {
      const bool is_response = datagram[0] == static_cast<uint8_t>(MessageType::response);
      const size_t want =
          is_response ? sizeof(tunnel::ResponseMessage) : sizeof(tunnel::CookieReplyMessage);
      if (datagram.size() != want) {
        ++counters_.rx_bad_length;
        return {};
      }
      ++counters_.rx_handshake;
      Received received;
      received.kind = is_response ? Received::response : Received::cookie_reply;
      return received;
    }
    case MessageType::initiation:  // a gateway answers, it never begins
      break;
  }
  ++counters_.rx_unknown_type;
  return {};
}

Received PacketPath::receive_sealed(std::span<uint8_t> datagram, uint64_t now_ns) {
  if (datagram.size() < tunnel::kEncryptedOverheadBytes) {
    ++counters_.rx_bad_length;
    return {};
  }
  const auto* header = reinterpret_cast<const EncryptedHeader*>(datagram.data());
  const uint32_t index = header->receiver_index.host();
  const uint64_t counter = header->counter.host();
  const SessionSet::Place place = index == 0 ? SessionSet::kNone : sessions_.find(index);
  Keys* keys = place == SessionSet::kNone ? nullptr : keys_of(index);
  if (keys == nullptr) {
    ++counters_.rx_unknown_index;
    return {};
  }
  if (sessions_.at(place).expired(now_ns)) {
    ++counters_.rx_expired_session;
    return {};
  }
  if (!sessions_.replay(place).would_accept(counter)) {
    ++counters_.rx_replayed;
    return {};
  }
  const std::optional<size_t> opened = keys->receive.open(datagram);
  if (!opened) {
    ++counters_.rx_not_authentic;
    return {};
  }
  sessions_.replay(place).accept(counter);
  sessions_.confirm(place);

  const std::span<uint8_t> inner = datagram.subspan(sizeof(EncryptedHeader), *opened);
  Received received;
  received.heard = true;
  if (inner.empty()) {
    ++counters_.rx_heartbeats;
    received.kind = Received::heartbeat;
  } else if (inner[0] >> 4 == 4) {
    received = deliver(inner, true);
    received.heard = true;
  } else if (inner.size() >= sizeof(ProbePacket) &&
             (inner[0] == tunnel::kProbeRequest || inner[0] == tunnel::kProbeReply)) {
    const bool is_request = inner[0] == tunnel::kProbeRequest;
    ++(is_request ? counters_.rx_probe_requests : counters_.rx_probe_replies);
    received.kind = is_request ? Received::probe_request : Received::probe_reply;
    received.stamp = reinterpret_cast<const ProbePacket*>(inner.data())->stamp.host();
  } else {
    ++counters_.rx_inner_unknown;
  }
  return received;
}

Received PacketPath::receive_plain(std::span<uint8_t> datagram, uint64_t now_ns) {
  const auto* header = reinterpret_cast<const PlainHeader*>(datagram.data());
  const uint32_t index = header->receiver_index.host();
  const SessionSet::Place place = index == 0 ? SessionSet::kNone : sessions_.find(index);
  if (place == SessionSet::kNone) {
    ++counters_.rx_unknown_index;
    return {};
  }
  const tunnel::Session& session = sessions_.at(place);
  if (session.protection != tunnel::Protection::plain) {
    ++counters_.rx_wrong_protection;
    return {};
  }
  if (session.expired(now_ns)) {
    ++counters_.rx_expired_session;
    return {};
  }
  if (!std::equal(session.receive_tag.begin(), session.receive_tag.end(), header->session_tag)) {
    ++counters_.rx_bad_tag;
    return {};
  }
  return deliver(datagram.subspan(sizeof(PlainHeader)), false);
}

Received PacketPath::deliver(std::span<uint8_t> inner, bool sealed) {
  Received received;
  ParsedIpv4& parsed = received.parsed;
  if (parse_ipv4(inner, HeaderChecksum::verify, parsed) != ParseError::none ||
      parsed.total_bytes > kInnerBytesMax) {
    ++counters_.rx_inner_malformed;
    return {};
  }
  received.inner = inner.first(parsed.total_bytes);
  if (is_dhcp(parsed)) {
    if (!sealed) {
      ++counters_.rx_plain_dhcp;
      return {};
    }
    // Addressed to us, to broadcast or to what we are being offered: all are ours to read.
    if (takes_dhcp_ && !parsed.is_fragment && parsed.destination_port.host() == kDhcpClientPort) {
      ++counters_.rx_dhcp;
      received.kind = Received::dhcp;
      return received;
    }
  }
  // Guards this host against being used as a router by whoever can forge a plain packet.
  if (!is_ours(reinterpret_cast<const Ipv4Header*>(inner.data())->destination)) {
    ++counters_.rx_misdirected;
    return {};
  }
  received.kind = Received::packet;
  return received;
}

bool PacketPath::is_ours(Ipv4Address destination) const {
  if (address_ && destination == *address_) return true;
  return std::any_of(lan_.begin(), lan_.end(),
                     [&](const Ipv4Prefix& prefix) { return prefix.contains(destination); });
}

}  // namespace adit::client
