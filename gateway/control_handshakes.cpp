// The control thread's part in handshakes, which anybody may send: what is cheap to refuse is
// refused at once, however much of it comes, and what is left waits its turn for the dear part,
// which gets a bounded share of each tick.
//
//   worker's ring ─ mac1 ─ under load: mac2, or a cookie; the source's limit ─ waiting_
//   waiting_ ─ a token of the source ─ Diffie-Hellman, who is it? ─ response
#include <rte_mbuf.h>

#include "gateway/clock.h"
#include "gateway/control.h"

namespace adit::gateway {
namespace {

using tunnel::HandshakeReject;

// With so many handshakes waiting, and for so long after, each must carry a cookie (mac2): of those
// that are forged, none gets as far as a Diffie-Hellman.
inline constexpr size_t kLoadedHandshakes = 128;
inline constexpr uint64_t kLoadedNs = tunnel::kSecondNs;
// Looked at in a tick, all workers' together; each takes some 3 microseconds, its cookie included.
inline constexpr unsigned kLookedAtPerTickMax = 512;
// For answers in a tick: so long slow packets and timers may have to wait for them.
inline constexpr uint64_t kAnswersPerTickNs = 2'000'000;
static_assert(kWaitingHandshakesMax > kLoadedHandshakes + kLookedAtPerTickMax);

std::span<const uint8_t> bytes_of(const rte_mbuf* packet) {
  return {rte_pktmbuf_mtod(packet, const uint8_t*), rte_pktmbuf_data_len(packet)};
}

const tunnel::InitiationMessage& initiation_of(std::span<const uint8_t> message) {
  return *reinterpret_cast<const tunnel::InitiationMessage*>(message.data());
}

}  // namespace

void Control::count(HandshakeReject reason) {
  ++counters_.handshakes_rejected[static_cast<size_t>(reason)];
}

// ---- What is cheap ----

// Of one worker; true: it has more.
bool Control::take_handshakes(uint64_t now_ns) {
  const auto most = static_cast<unsigned>(kLookedAtPerTickMax / links_.size());
  return links_[asker_].handshakes->drain(most, [&](const ToControl& item) {
    ++counters_.packets_taken;
    if (!look_at(item, now_ns)) rte_pktmbuf_free(item.packet);
  });
}

bool Control::is_loaded(uint64_t now_ns) {
  if (links_[asker_].handshakes->size() + waiting_.size() >= kLoadedHandshakes) {
    loaded_until_ns_ = now_ns + kLoadedNs;
  }
  return now_ns < loaded_until_ns_;
}

// Whether it may wait to be answered; then waiting_ owns its packet.
bool Control::look_at(const ToControl& item, uint64_t now_ns) {
  using Verdict = tunnel::CookieChecker::Verdict;
  const std::span<const uint8_t> message = bytes_of(item.packet);
  if (message.size() != sizeof(tunnel::InitiationMessage)) {
    count(HandshakeReject::malformed);
    return false;
  }
  const bool is_loaded_now = is_loaded(now_ns);
  const Verdict verdict = cookies_.check(message, item.from, now_ns, random_);
  if (verdict == Verdict::bad_mac1) {
    count(HandshakeReject::bad_mac);
    return false;
  }
  const bool is_proven = verdict == Verdict::mac1_and_mac2;
  if (is_loaded_now && !is_proven) {
    send_cookie(message, item.from, now_ns);
    return false;
  }
  if (is_loaded_now && !sources_.may(item.from, now_ns)) {
    ++counters_.handshakes_limited;
    return false;
  }
  if (waiting_.size() == kWaitingHandshakesMax) {
    ++counters_.handshakes_crowded_out;
    return false;
  }
  waiting_.push_back({item.packet, item.from, asker_, is_loaded_now});
  return true;
}

void Control::send_cookie(std::span<const uint8_t> message, const Endpoint& from,
                          uint64_t now_ns) {
  const tunnel::CookieReplyMessage reply = cookies_.make_reply(
      message, initiation_of(message).sender_index.host(), from, now_ns, random_);
  ToWorker send;
  send.kind = ToWorker::send_udp;
  send.remote = from;
  send.packet = packet_of({reinterpret_cast<const uint8_t*>(&reply), sizeof reply});
  if (send.packet != nullptr) tell(asker_, send);
  ++counters_.cookies_sent;
}

// ---- What is dear ----

// For a bounded time; true: more are waiting.
bool Control::answer_handshakes(uint64_t now_ns) {
  const uint64_t ends_ns = boottime_ns() + kAnswersPerTickNs;
  while (!waiting_.empty() && boottime_ns() < ends_ns) {
    const WaitingHandshake handshake = waiting_.front();
    waiting_.pop_front();
    asker_ = handshake.worker;
    if (handshake.is_limited && !sources_.take(handshake.from, now_ns)) {
      ++counters_.handshakes_limited;
    } else if (answer(bytes_of(handshake.packet), handshake.from, now_ns) && handshake.is_limited) {
      sources_.give_back(handshake.from);
    }
    rte_pktmbuf_free(handshake.packet);
  }
  return !waiting_.empty();
}

// Whether it was accepted.
bool Control::answer(std::span<const uint8_t> message, const Endpoint& from, uint64_t now_ns) {
  const auto refuse = [this](HandshakeReject reason) {
    count(reason);
    return false;
  };
  const auto named = tunnel::open_name(identity_, initiation_of(message));
  if (!named) return refuse(HandshakeReject::not_authentic);
  Subscriber* const subscriber = subscriber_of(named->remote_public_key);
  const auto remote = subscriber != nullptr
                          ? identity_of(*subscriber)
                          : tunnel::make_remote_identity(identity_, named->remote_public_key, {});
  if (!remote) return refuse(HandshakeReject::not_authentic);
  const auto opened = tunnel::open_initiation(*named, *remote, initiation_of(message));
  if (!opened) return refuse(HandshakeReject::not_authentic);
  if (subscriber == nullptr) {
    // It knows our public key, so it may know that we are here: without a sign it could not tell
    // a key that was never entered from a port that is blocked.
    send_cookie(message, from, now_ns);
    return refuse(HandshakeReject::unknown_peer);
  }
  if (!prepare_peer(*subscriber)) return false;

  HandshakeReject reject = HandshakeReject::none;
  const tunnel::Actions actions = subscriber->peer->on_initiation(now_ns, *opened, reject);
  if (reject != HandshakeReject::none) {
    // A refused first handshake leaves nothing behind.
    if (subscriber->epoch == 0) {
      free_slots_[owners_.of(subscriber->slot)].push_back(subscriber->slot);
      subscriber->slot = 0;
      subscriber->peer.reset();
    }
    return refuse(reject);
  }
  ++counters_.handshakes_accepted;
  subscriber->last_stamp = subscriber->peer->last_received_stamp();
  if (subscriber->epoch == 0) open_tunnel(*subscriber, now_ns);
  act(*subscriber, actions, from);
  return true;
}

// Of a subscriber it is kept: its Diffie-Hellman is the same at every handshake. nullopt: its key is
// no point that a handshake can use.
const std::optional<tunnel::RemoteIdentity>& Control::identity_of(Subscriber& subscriber) {
  if (!subscriber.identity) {
    subscriber.identity = tunnel::make_remote_identity(
        identity_, tunnel::PublicKey{subscriber.config->public_key},
        tunnel::PresharedKey{subscriber.config->preshared_key.value_or(KeyBytes{})});
  }
  return subscriber.identity;
}

}  // namespace adit::gateway
