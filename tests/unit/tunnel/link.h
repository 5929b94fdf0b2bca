// A client and a gateway on a simulated clock and a link that loses and delays: two Peers, each
// with the SessionSet and the sealing that its owner would give it. What an end does with a packet
// or an action here is what the client's and the gateway's own code must do.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "lib/tunnel/peer.h"
#include "lib/tunnel/seal.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel::test {

using Bytes = std::vector<uint8_t>;
inline constexpr uint64_t kMillisecondNs = 1'000'000;

// One end of the tunnel with all that its owner keeps.
class End {
 public:
  End(const Identity& local, const RemoteIdentity& remote, const PeerConfig& config,
      const RandomSource& random)
      : local_(local), random_(random), peer(local, remote, config, random),
        checker_(local.public_key) {}

  // Set by the link: where packets go.
  std::function<void(Bytes)> transmit;

  void carry_out(uint64_t now_ns, const Actions& actions) {
    for (const Action& action : actions) {
      switch (action.kind) {
        case Action::send_message:
          transmit({action.message_span().begin(), action.message_span().end()});
          break;
        case Action::install_session:
          sessions.install(action.session);
          ++sessions_installed;
          break;
        case Action::send_heartbeat:
          ++heartbeats_sent;
          send_encrypted(now_ns, {});
          break;
        case Action::drop_sessions:
          sessions.clear();
          break;
        case Action::dead:
          ++deaths;
          break;
      }
    }
  }

  // Sends an inner packet as the session's protection says; false if there is no session.
  bool send(uint64_t now_ns, const Bytes& inner) {
    sessions.expire(now_ns);
    const Session& session = sessions.at(SessionSet::kCurrent);
    if (!session.exists()) {
      peer.on_packet_waiting(now_ns);
      return false;
    }
    if (session.protection != Protection::plain) return send_encrypted(now_ns, inner);
    Bytes packet(sizeof(PlainHeader) + inner.size());
    PlainHeader header{5, {}, Le32::from_host(session.remote_index)};
    std::copy(session.send_tag.begin(), session.send_tag.end(), header.session_tag);
    std::memcpy(packet.data(), &header, sizeof(header));
    std::copy(inner.begin(), inner.end(), packet.begin() + sizeof(header));
    peer.on_plain_sent(now_ns);
    transmit(std::move(packet));
    return true;
  }

  bool send_encrypted(uint64_t now_ns, const Bytes& inner) {
    sessions.expire(now_ns);
    const Session session = sessions.at(SessionSet::kCurrent);
    if (!session.exists()) return false;
    const uint64_t counter = sessions.send_counter(SessionSet::kCurrent)++;
    Bytes packet(inner.size() + kEncryptedOverheadBytes);
    std::copy(inner.begin(), inner.end(), packet.begin() + sizeof(EncryptedHeader));
    Aead(session.protection, session.send_key)
        .seal(packet, inner.size(), session.remote_index, counter);
    peer.on_sent(now_ns, !inner.empty());
    peer.on_send_counter(counter);
    transmit(std::move(packet));
    return true;
  }

  void receive(uint64_t now_ns, Bytes packet) {
    if (packet.empty()) return;
    switch (static_cast<MessageType>(packet[0])) {
      case MessageType::initiation:
        return receive_initiation(now_ns, packet);
      case MessageType::response: {
        ResponseMessage message;
        if (packet.size() != sizeof(message)) return;
        std::memcpy(&message, packet.data(), sizeof(message));
        return carry_out(now_ns, peer.on_response(now_ns, message, last_reject));
      }
      case MessageType::cookie_reply: {
        CookieReplyMessage message;
        if (packet.size() != sizeof(message)) return;
        std::memcpy(&message, packet.data(), sizeof(message));
        return carry_out(now_ns, peer.on_cookie_reply(now_ns, message, last_reject));
      }
      case MessageType::encrypted:
        return receive_encrypted(now_ns, packet);
      case MessageType::plain:
        return receive_plain(now_ns, packet);
    }
  }

  SessionSet sessions;
  std::vector<Bytes> received;  // inner packets
  HandshakeReject last_reject = HandshakeReject::none;
  bool under_load = false;
  unsigned heartbeats_sent = 0;
  unsigned heartbeats_received = 0;
  unsigned sessions_installed = 0;
  unsigned cookies_given = 0;
  unsigned deaths = 0;
  unsigned refused = 0;  // packets that no session took

 private:
  void receive_initiation(uint64_t now_ns, const Bytes& packet) {
    const Endpoint source{Ipv4Address::from_octets(20, 1, 1, 10), Be16::from_host(20001)};
    InitiationMessage message;
    if (packet.size() != sizeof(message)) return;
    std::memcpy(&message, packet.data(), sizeof(message));
    const auto verdict = checker_.check(packet, source, now_ns, random_);
    if (verdict == CookieChecker::Verdict::bad_mac1) {
      last_reject = HandshakeReject::bad_mac;
      return;
    }
    if (under_load && verdict != CookieChecker::Verdict::mac1_and_mac2) {
      ++cookies_given;
      const auto reply = checker_.make_reply(packet, message.sender_index.host(), source, now_ns,
                                             random_);
      const auto bytes = bytes_in(reply);
      return transmit({bytes.begin(), bytes.end()});
    }
    const auto opened = open_initiation(local_, message);
    if (!opened) {
      last_reject = HandshakeReject::not_authentic;
      return;
    }
    carry_out(now_ns, peer.on_initiation(now_ns, *opened, last_reject));
  }

  void receive_encrypted(uint64_t now_ns, Bytes& packet) {
    EncryptedHeader header;
    if (packet.size() < kEncryptedOverheadBytes) return;
    std::memcpy(&header, packet.data(), sizeof(header));
    sessions.expire(now_ns);
    const auto place = sessions.find(header.receiver_index.host());
    if (place == SessionSet::kNone || !sessions.replay(place).would_accept(header.counter.host())) {
      ++refused;
      return;
    }
    const Session session = sessions.at(place);
    const auto text_bytes = Aead(session.protection, session.receive_key).open(packet);
    if (!text_bytes) {
      ++refused;
      return;
    }
    sessions.replay(place).accept(header.counter.host());
    sessions.confirm(place);
    peer.on_heard(now_ns, *text_bytes != 0);
    if (*text_bytes == 0) {
      ++heartbeats_received;
      return;
    }
    received.emplace_back(packet.begin() + sizeof(header), packet.end() - kTagBytes);
  }

  void receive_plain(uint64_t now_ns, const Bytes& packet) {
    PlainHeader header;
    if (packet.size() < sizeof(header)) return;
    std::memcpy(&header, packet.data(), sizeof(header));
    sessions.expire(now_ns);
    const auto place = sessions.find(header.receiver_index.host());
    if (place == SessionSet::kNone || sessions.at(place).protection != Protection::plain ||
        !std::equal(sessions.at(place).receive_tag.begin(), sessions.at(place).receive_tag.end(),
                    header.session_tag)) {
      ++refused;
      return;
    }
    received.emplace_back(packet.begin() + sizeof(header), packet.end());
  }

  const Identity& local_;
  const RandomSource& random_;

 public:
  Peer peer;

 private:
  CookieChecker checker_;
};

// The network between the two, and the clock of both.
class Link {
 public:
  explicit Link(const PeerConfig& client_config, const PeerConfig& gateway_config,
                uint64_t seed = 1)
      : ends_(PresharedKey{{9}}, seed), gateway_config_(gateway_config), engine_(seed) {
    client = std::make_unique<End>(ends_.client, ends_.gateway_seen_by_client, client_config,
                                   ends_.random);
    client->transmit = [this](Bytes packet) { put(true, std::move(packet)); };
    restart_gateway();
  }

  // A gateway that remembers nothing.
  void restart_gateway() {
    gateway = std::make_unique<End>(ends_.gateway, ends_.client_seen_by_gateway, gateway_config_,
                                    ends_.random);
    gateway->transmit = [this](Bytes packet) { put(false, std::move(packet)); };
  }

  Tai64n stamp() const {
    return tai64n_from_unix(1'700'000'000 + now_ns / kSecondNs,
                            static_cast<uint32_t>(now_ns % kSecondNs));
  }
  void connect() { client->carry_out(now_ns, client->peer.connect(now_ns, stamp())); }

  // Runs packets and timers in their order until `until_ns`; then the clock stands there.
  void run_until(uint64_t until_ns) {
    for (;;) {
      const uint64_t packet_ns = in_flight_.empty() ? ~uint64_t{0} : in_flight_.begin()->first;
      const uint64_t timer_ns = std::max(
          now_ns, std::min(client->peer.next_deadline_ns(), gateway->peer.next_deadline_ns()));
      if (std::min(packet_ns, timer_ns) > until_ns) break;
      if (packet_ns <= timer_ns) {
        now_ns = packet_ns;
        auto [to_gateway, packet] = std::move(in_flight_.begin()->second);
        in_flight_.erase(in_flight_.begin());
        (to_gateway ? gateway : client)->receive(now_ns, std::move(packet));
      } else {
        now_ns = timer_ns;
        client->carry_out(now_ns, client->peer.tick(now_ns, stamp()));
        gateway->carry_out(now_ns, gateway->peer.tick(now_ns, stamp()));
      }
    }
    now_ns = until_ns;
  }
  void run_for(uint64_t duration_ns) { run_until(now_ns + duration_ns); }

  // Decides for each packet whether it is lost. Default: none is.
  std::function<bool(bool to_gateway, const Bytes& packet)> loses;
  // Sees every packet that is sent.
  std::function<void(bool to_gateway, const Bytes& packet)> tap;

  bool chance(unsigned percent) { return engine_() % 100 < percent; }
  TwoEnds& ends() { return ends_; }

  uint64_t now_ns = 1'000 * kSecondNs;
  uint64_t delay_min_ns = 10 * kMillisecondNs;
  uint64_t delay_max_ns = 50 * kMillisecondNs;  // packets overtake each other
  std::unique_ptr<End> client;
  std::unique_ptr<End> gateway;

 private:
  void put(bool to_gateway, Bytes packet) {
    if (tap) tap(to_gateway, packet);
    if (loses && loses(to_gateway, packet)) return;
    const uint64_t delay_ns = delay_min_ns + engine_() % (delay_max_ns - delay_min_ns + 1);
    in_flight_.emplace(now_ns + delay_ns, std::pair(to_gateway, std::move(packet)));
  }

  TwoEnds ends_;
  PeerConfig gateway_config_;
  std::mt19937_64 engine_;
  std::multimap<uint64_t, std::pair<bool, Bytes>> in_flight_;
};

constexpr ProtectionSet set_of(std::initializer_list<Protection> protections) {
  ProtectionSet set;
  for (const Protection protection : protections) set = set.with(protection);
  return set;
}

inline PeerConfig client_config(ProtectionSet offered) {
  PeerConfig config;
  config.initiates = true;
  config.allowed = offered;
  config.heartbeat_ns = 10 * kSecondNs;
  config.dead_after_ns = 35 * kSecondNs;
  return config;
}
inline PeerConfig gateway_config(ProtectionSet allowed) {
  PeerConfig config = client_config(allowed);
  config.initiates = false;
  config.preference = {Protection::aes_256_gcm, Protection::chacha20_poly1305, Protection::plain};
  config.slot = 0x155;
  config.slot_bits = 12;
  return config;
}

}  // namespace adit::tunnel::test
