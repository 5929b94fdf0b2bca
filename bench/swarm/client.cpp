#include "bench/swarm/client.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "lib/dhcp/packet.h"
#include "lib/tunnel/crypto.h"
#include "lib/tunnel/seal.h"

namespace adit::bench {

using tunnel::Action;
using tunnel::MessageType;
using tunnel::SessionSet;

namespace {

tunnel::Tai64n tai64n_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return tunnel::tai64n_from_unix(static_cast<uint64_t>(now.tv_sec),
                                  static_cast<uint32_t>(now.tv_nsec));
}

tunnel::RemoteIdentity remote_identity(const tunnel::Identity& local,
                                       const tunnel::PublicKey& key) {
  const auto remote = tunnel::make_remote_identity(local, key, {});
  if (!remote) throw std::runtime_error("the gateway's public key is of low order");
  return *remote;
}

tunnel::PeerConfig peer_config(const ClientWorld& world, uint32_t number) {
  tunnel::PeerConfig config;
  config.initiates = true;
  config.allowed = config.allowed.with(world.protection_of(number));
  config.heartbeat_ns = 25 * tunnel::kSecondNs;
  config.slot = number;
  config.slot_bits = world.number_bits;
  return config;
}

// At a glance, for every data packet comes by here; dhcp::unwrap() looks closely.
bool is_to_dhcp_client(std::span<const uint8_t> inner) {
  constexpr size_t kPortAt = sizeof(Ipv4Header) + 2;
  return inner.size() > kPortAt + 2 && inner[9] == kIpUdp && inner[kPortAt] == 0 &&
         inner[kPortAt + 1] == dhcp::kClientPort;
}

// And none of the gateway's own, which are always sealed.
bool is_packet(std::span<const uint8_t> inner) {
  return !inner.empty() && inner[0] >> 4 == 4 && !is_to_dhcp_client(inner);
}

uint64_t random64(const tunnel::RandomSource& random) {
  std::array<uint8_t, 8> bytes;
  random(bytes);
  uint64_t value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

tunnel::PrivateKey client_key(uint64_t seed, uint32_t number) {
  return tunnel::generate_private_key([&](std::span<uint8_t> out) {
    const std::array<uint64_t, 2> words = {seed, number};
    const auto* bytes = reinterpret_cast<const uint8_t*>(words.data());
    const tunnel::Bytes32 hash = tunnel::blake2s({{bytes, sizeof words}});
    std::copy_n(hash.begin(), out.size(), out.begin());
  });
}

Client::Client(const ClientWorld& world, uint32_t number)
    : world_(world),
      number_(number),
      identity_(tunnel::make_identity(client_key(world.seed, number))),
      peer_(make_peer()),
      dhcp_(make_dhcp()) {}

tunnel::Peer Client::make_peer() const {
  return {identity_, remote_identity(identity_, world_.gateway), peer_config(world_, number_),
          world_.random};
}

dhcp::Client Client::make_dhcp() const {
  return {identity_.public_key.bytes, [&world = world_] { return random64(world.random); }};
}

std::optional<Ipv4Address> Client::address() const {
  if (!dhcp_.lease()) return std::nullopt;
  return dhcp_.lease()->address.address;
}

void Client::connect(uint64_t now_ns) {
  is_started_ = true;
  act(peer_.connect(now_ns, tai64n_now()), now_ns);
}

void Client::leave() {
  former_sessions_ = sessions_;
  sessions_.clear();
  peer_ = make_peer();
  dhcp_ = make_dhcp();
  is_started_ = wants_lease_ = sent_plain_ = sent_sealed_ = false;
  world_.changed(*this);
}

void Client::lose_gateway() {
  if (!is_started_) return;
  last_address_ = address();
  leave();
}

Client::Found Client::find_session(uint32_t local_index) const {
  for (const auto* sessions : {&sessions_, &former_sessions_}) {
    const SessionSet::Place place = sessions->find(local_index);
    if (place != SessionSet::kNone) return {&sessions->at(place), sessions == &former_sessions_};
  }
  return {};
}

void Client::tick(uint64_t now_ns) {
  if (!is_started_) return;
  if (sessions_.expire(now_ns) != 0) world_.changed(*this);
  if (std::exchange(sent_plain_, false)) peer_.on_plain_sent(now_ns);
  if (std::exchange(sent_sealed_, false)) peer_.on_sent(now_ns, true);
  if (now_ns >= peer_.next_deadline_ns()) act(peer_.tick(now_ns, tai64n_now()), now_ns);
  if (now_ns >= dhcp_.next_deadline_ns()) act(dhcp_.tick(now_ns), now_ns);
}

void Client::act(const tunnel::Actions& actions, uint64_t now_ns) {
  bool is_dead = false;
  for (const Action& action : actions) {
    switch (action.kind) {
      case Action::send_message:
        world_.transmit(*this, action.message_span());
        break;
      case Action::install_session:
        sessions_.install(action.session);
        ++sessions_made_;
        wants_lease_ = !dhcp_.lease();
        world_.changed(*this);
        break;
      case Action::send_heartbeat:
        send_sealed({}, now_ns);
        break;
      case Action::drop_sessions:
        sessions_.clear();
        world_.changed(*this);
        break;
      case Action::dead:
        is_dead = true;
        break;
    }
  }
  // After the heartbeat, which shows the gateway that the session is used.
  if (std::exchange(wants_lease_, false)) act(dhcp_.start(now_ns, last_address_), now_ns);
  if (is_dead) {
    ++deaths_;
    connect(now_ns);
  }
}

void Client::act(const dhcp::Client::Step& step, uint64_t now_ns) {
  if (step.send) {
    std::array<uint8_t, dhcp::kPacketBytesMax> packet;
    const size_t bytes = dhcp::wrap(*step.send, packet);
    send_sealed({packet.data(), bytes}, now_ns);
  }
  if (step.event == dhcp::Client::Event::configured) {
    mtu_bytes_ = dhcp_.lease()->mtu_bytes.value_or(mtu_bytes_);
    world_.changed(*this);
  }
  if (step.event == dhcp::Client::Event::refused) {
    throw std::runtime_error("the gateway refuses an address: " +
                             std::string(step.text.data(), step.text.size()));
  }
}

void Client::send_sealed(std::span<const uint8_t> inner, uint64_t now_ns) {
  if (!session().exists()) return;
  const size_t padded = tunnel::padded_bytes(inner.size(), mtu_bytes_);
  std::array<uint8_t, 2048> datagram{};
  std::ranges::copy(inner, datagram.begin() + sizeof(tunnel::EncryptedHeader));
  const uint64_t counter = sessions_.send_counter(SessionSet::kCurrent)++;
  world_.crypto->seal(session(), counter, datagram.data(), static_cast<unsigned>(padded));
  peer_.on_sent(now_ns, !inner.empty());
  peer_.on_send_counter(counter);
  world_.transmit(*this, {datagram.data(), padded + tunnel::kEncryptedOverheadBytes});
}

Client::Received Client::receive(std::span<uint8_t> datagram, uint64_t now_ns) {
  if (datagram.empty()) return {};
  tunnel::HandshakeReject reject = tunnel::HandshakeReject::none;
  switch (static_cast<MessageType>(datagram[0])) {
    case MessageType::response: {
      tunnel::ResponseMessage message;
      if (datagram.size() != sizeof message) return {};
      std::memcpy(&message, datagram.data(), sizeof message);
      act(peer_.on_response(now_ns, message, reject), now_ns);
      break;
    }
    case MessageType::cookie_reply: {
      tunnel::CookieReplyMessage message;
      if (datagram.size() != sizeof message) return {};
      std::memcpy(&message, datagram.data(), sizeof message);
      act(peer_.on_cookie_reply(now_ns, message, reject), now_ns);
      break;
    }
    case MessageType::encrypted:
      return receive_sealed(datagram, now_ns);
    default:
      return {};
  }
  // An answer to an initiation that was repeated meanwhile is nobody's fault.
  const bool is_right =
      reject == tunnel::HandshakeReject::none || reject == tunnel::HandshakeReject::unexpected;
  return {is_right ? Received::control : Received::wrong, {}};
}

Client::Received Client::receive_sealed(std::span<uint8_t> datagram, uint64_t now_ns) {
  if (datagram.size() < tunnel::kEncryptedOverheadBytes) return {};
  tunnel::EncryptedHeader header;
  std::memcpy(&header, datagram.data(), sizeof header);
  if ((header.reserved[0] | header.reserved[1] | header.reserved[2]) != 0) return {};
  const Found found = find_session(header.receiver_index.host());
  if (found.session == nullptr) return {};
  SessionSet& sessions = found.is_former ? former_sessions_ : sessions_;
  tunnel::ReplayWindow& replay = sessions.replay(sessions.find(header.receiver_index.host()));
  const uint64_t counter = header.counter.host();
  if (!replay.would_accept(counter)) return {};
  const auto text =
      world_.crypto->open(*found.session, datagram.data(), static_cast<unsigned>(datagram.size()));
  if (!text) return {};
  replay.accept(counter);
  const std::span<uint8_t> inner = datagram.subspan(sizeof header, *text);
  if (found.is_former) {
    return {is_packet(inner) ? Received::packet : Received::control, inner, true};
  }
  peer_.on_heard(now_ns, *text != 0);
  return receive_inner(inner, now_ns);
}

Client::Received Client::receive_inner(std::span<uint8_t> inner, uint64_t now_ns) {
  if (is_packet(inner)) return {Received::packet, inner};
  if (inner.empty()) return {Received::control, {}};
  if (inner[0] >> 4 != 4) {
    tunnel::ProbePacket probe;
    if (inner.size() != sizeof probe || inner[0] != tunnel::kProbeRequest) return {};
    inner[0] = tunnel::kProbeReply;
    send_sealed(inner, now_ns);
    return {Received::control, {}};
  }
  const auto datagram = dhcp::unwrap(inner);
  if (!datagram) return {};
  act(dhcp_.on_message(now_ns, datagram->message), now_ns);
  return {Received::control, {}};
}

}  // namespace adit::bench
