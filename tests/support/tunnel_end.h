// One end of the tunnel with everything its owner must give a Peer: sessions, sealing, cookies. No
// socket and no clock: tests wire two of them together (tests/unit/tunnel/link.h) or one to a
// socket (wg_probe.cpp). What it does with a packet or an action is what the client's and the
// gateway's own code must do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/tunnel/peer.h"
#include "lib/tunnel/seal.h"

namespace adit::tunnel::test {

using Bytes = std::vector<uint8_t>;

class End {
 public:
  End(const Identity& local, const RemoteIdentity& remote, const PeerConfig& config,
      const RandomSource& random)
      : local_(local),
        random_(random),
        peer(local, remote, config, random),
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
      const auto reply =
          checker_.make_reply(packet, message.sender_index.host(), source, now_ns, random_);
      const auto* bytes = reinterpret_cast<const uint8_t*>(&reply);
      return transmit({bytes, bytes + sizeof(reply)});
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

}  // namespace adit::tunnel::test
