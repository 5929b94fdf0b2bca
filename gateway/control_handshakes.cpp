// The control thread's part in handshakes, which anybody may send: what is cheap to refuse is
// refused at once, however much of it comes, and what is left waits its turn for the dear part,
// which gets a bounded share of each tick.
//
//   worker's ring ─ mac1 ─ under load: mac2, or a cookie; the source's limit ─ waiting_
//   waiting_ ─ the source's limit ─ (Diffie-Hellman, who is it?) ─ replay, limits, slot, index ─
//   (Diffie-Hellman, the response) ─ session and response to the worker
//
// What stands in brackets is done in handshake_threads.h, here or elsewhere.
#include <rte_mbuf.h>

#include <cstring>

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
std::span<const uint8_t> bytes_of(const tunnel::InitiationMessage& message) {
  return {reinterpret_cast<const uint8_t*>(&message), sizeof message};
}

const tunnel::InitiationMessage& initiation_of(std::span<const uint8_t> message) {
  return *reinterpret_cast<const tunnel::InitiationMessage*>(message.data());
}

}  // namespace

// Counts it; always false.
bool Control::refuse(HandshakeReject reason) {
  ++counters_.handshakes_rejected[static_cast<size_t>(reason)];
  return false;
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

// Whether its packet has gone elsewhere: it has become a cookie.
bool Control::look_at(const ToControl& item, uint64_t now_ns) {
  using Verdict = tunnel::CookieChecker::Verdict;
  const std::span<const uint8_t> message = bytes_of(item.packet);
  if (message.size() != sizeof(tunnel::InitiationMessage)) {
    return refuse(HandshakeReject::malformed);
  }
  const bool is_loaded_now = is_loaded(now_ns);
  const Verdict verdict = cookies_.check(message, item.from, now_ns, random_);
  if (verdict == Verdict::bad_mac1) return refuse(HandshakeReject::bad_mac);
  const bool is_proven = verdict == Verdict::mac1_and_mac2;
  if (is_loaded_now && !is_proven) {
    reply_with_cookie(item.packet, item.from, now_ns);
    return true;
  }
  if (is_loaded_now && !sources_.may(item.from, now_ns)) {
    ++counters_.handshakes_limited;
    return false;
  }
  if (waiting_.size() == kWaitingHandshakesMax) {
    ++counters_.handshakes_crowded_out;
    return false;
  }
  waiting_.push_back({initiation_of(message), item.from, asker_, is_loaded_now, now_ns});
  return false;
}

// Takes over the initiation's buffer, which becomes the reply's: nothing is allocated, nor copied
// but the cookie, however many are forged.
void Control::reply_with_cookie(rte_mbuf* initiation, const Endpoint& from, uint64_t now_ns) {
  const std::span<const uint8_t> message = bytes_of(initiation);
  const tunnel::CookieReplyMessage cookie = cookies_.make_reply(
      message, initiation_of(message).sender_index.host(), from, now_ns, random_);
  std::memcpy(rte_pktmbuf_mtod(initiation, void*), &cookie, sizeof cookie);
  rte_pktmbuf_trim(initiation, static_cast<uint16_t>(message.size() - sizeof cookie));
  ++counters_.cookies_sent;
  links_[asker_].written.push_back({from, initiation});
}

// Many at a time, for the worker takes them so for less.
void Control::send_replies() {
  for (Link& link : links_) {
    const unsigned sent = link.replies->push_burst(link.written);
    counters_.packets_given += sent;
    for (const Reply& reply : std::span(link.written).subspan(sent)) {
      ++counters_.worker_ring_full;
      rte_pktmbuf_free(reply.packet);
    }
    link.written.clear();
  }
}

// ---- What is dear ----

// For a bounded time; true: more are waiting, and can be begun.
bool Control::answer_handshakes(uint64_t now_ns) {
  const uint64_t ends_ns = boottime_ns() + kAnswersPerTickNs;
  handshakes_.hush();
  do {
    while (HandshakeJob* const job = handshakes_.take()) go_on(job, now_ns);
  } while (boottime_ns() < ends_ns && begin_handshake(now_ns));
  return !waiting_.empty() && handshakes_.has_room();
}

// False: none waits, or too many are under way.
bool Control::begin_handshake(uint64_t now_ns) {
  if (waiting_.empty() || !handshakes_.has_room()) return false;
  const WaitingHandshake& waiting = waiting_.front();
  if (now_ns - waiting.came_ns >= tunnel::kRekeyTimeoutNs) {
    ++counters_.handshakes_crowded_out;  // its client waits for the answer to another
  } else if (waiting.is_limited && !sources_.may(waiting.from, now_ns)) {
    ++counters_.handshakes_limited;
  } else {
    HandshakeJob* const job = handshakes_.begin();
    job->initiation = waiting.initiation;
    job->from = waiting.from;
    job->worker = waiting.worker;
    job->is_limited = waiting.is_limited;
    handshakes_.give(job);
  }
  waiting_.pop_front();
  return true;
}

// One that has come back, opened or answered.
void Control::go_on(HandshakeJob* job, uint64_t now_ns) {
  asker_ = job->worker;
  const bool was_opened = job->stage == HandshakeJob::opening;
  const bool is_good = was_opened ? decide(*job, now_ns) : send_answer(*job, now_ns);
  if (was_opened && is_good) return handshakes_.give(job);
  if (!is_good && job->is_limited) sources_.charge(job->from, now_ns);
  handshakes_.end(job);
}

// Whether it is to be answered. Then its lane has a tunnel from now on, whose first session
// is being made.
bool Control::decide(HandshakeJob& job, uint64_t now_ns) {
  if (job.reject == HandshakeReject::unknown_peer) {
    // It knows our public key, so it may know that we are here: without a sign it could not tell
    // a key that was never entered from a port that is blocked.
    rte_mbuf* const packet = packet_of(bytes_of(job.initiation));
    if (packet != nullptr) reply_with_cookie(packet, job.from, now_ns);
  }
  if (job.reject != HandshakeReject::none) return refuse(job.reject);
  Subscriber* const lane = lane_of(job, now_ns);
  if (lane == nullptr) return refuse(HandshakeReject::no_lane);
  if (!prepare_peer(*lane)) return false;
  tell_peer(*lane);

  HandshakeReject reject = HandshakeReject::none;
  const auto answer = lane->peer->begin_answer(now_ns, job.opened, reject);
  if (!answer) {
    // A refused first handshake leaves nothing behind.
    if (lane->epoch == 0) {
      give_back(lane->slot);
      lane->slot = 0;
      lane->peer.reset();
    }
    return refuse(reject);
  }
  lane->last_stamp = lane->peer->last_received_stamp();
  if (lane->epoch == 0) open_tunnel(*lane, now_ns);
  job.stage = HandshakeJob::answering;
  job.answer = *answer;
  job.established_ns = now_ns;
  return true;
}

// Whether there was one, for a tunnel that has not ended meanwhile.
bool Control::send_answer(const HandshakeJob& job, uint64_t now_ns) {
  Subscriber* const lane = open_lane_of(job);
  if (lane == nullptr) return refuse(HandshakeReject::unexpected);
  if (!job.session) {
    lane->peer->abandon_answer(job.answer);
    return refuse(HandshakeReject::not_authentic);
  }
  tell_peer(*lane);
  HandshakeReject reject = HandshakeReject::none;
  const tunnel::Actions actions =
      lane->peer->end_answer(now_ns, *job.session, job.response, reject);
  if (reject != HandshakeReject::none) return refuse(reject);
  ++counters_.handshakes_accepted;
  act(*lane, actions, job.from);
  return true;
}

}  // namespace adit::gateway
