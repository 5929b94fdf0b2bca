#include "client-lite/lane_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "client-lite/clock.h"

namespace adit::client {
namespace {

// For poll(): not too early, and -1 if never.
int milliseconds_until(uint64_t then_ns) {
  if (then_ns == UINT64_MAX) return -1;
  const uint64_t left_ns = then_ns - std::min(then_ns, now_ns());
  return static_cast<int>(left_ns / 1'000'000 + 1);
}

}  // namespace

LaneThread::LaneThread(unsigned lane, LaneBoard& board, const Config& config, int mail)
    : lane_(lane),
      board_(board),
      mail_(mail),
      sender_(board, counters_, config, lane) {}

bool LaneThread::open(const Tun& device, std::string& refusal) {
  if (!device.open_queue(queue_, refusal)) return false;
  writer_.learn_kinds();
  return true;
}

bool LaneThread::start(std::string& refusal) {
  wake_ = FileDescriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake_.is_open()) {
    refusal = std::strerror(errno);
    return false;
  }
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {  // no memory, a limit, or a filter of system calls
    refusal = error.code().message();
    return false;
  }
  board_.add_bell(wake_.get());
  return true;
}

void LaneThread::stop() {
  if (!thread_.joinable()) return;
  is_ending_.store(true, std::memory_order_relaxed);
  ring(wake_.get());
  thread_.join();
}

void LaneThread::run() {
  prctl(PR_SET_NAME, ("adit-lane" + std::to_string(lane_)).c_str());
  enum { kWake, kQueue, kSocket, kLeftSocket };
  std::array<pollfd, 4> watched{pollfd{wake_.get(), POLLIN, 0}, pollfd{queue_.fd(), POLLIN, 0},
                                pollfd{-1, POLLIN, 0}, pollfd{-1, POLLIN, 0}};
  while (!is_ending_.load(std::memory_order_relaxed)) {
    poll(watched.data(), watched.size(), milliseconds_until(sender_.next_expiry_ns()));
    const uint64_t turn_ns = now_ns();
    if (watched[kWake].revents != 0) silence(wake_.get());
    sender_.refresh(turn_ns);
    sender_.expire(turn_ns);
    watched[kSocket].fd = sender_.socket(lane_).fd();
    watched[kLeftSocket].fd = sender_.left_socket().fd();
    if (watched[kLeftSocket].fd >= 0) receive_left(turn_ns);
    if (watched[kSocket].revents != 0) receive(turn_ns);
    // Who took the device away, the main thread hears too.
    if (watched[kQueue].revents != 0 && !sender_.send_from(queue_, turn_ns)) {
      watched[kQueue].fd = -1;
    }
  }
}

void LaneThread::receive(uint64_t now_ns) {
  std::array<Arrival, kReceiveBatch> arrivals;
  const unsigned count = sender_.socket(lane_).receive(inbound_, arrivals);
  // The first packets of a session come after it was published, but may do so within this turn.
  sender_.refresh(now_ns);
  for_each_datagram(
      std::span(arrivals).first(count),
      [&](std::span<uint8_t> datagram, const Endpoint& source) { take(datagram, source, now_ns); });
  writer_.flush();
}

// Only packets matter: the tunnel is the gateway's no longer.
void LaneThread::receive_left(uint64_t now_ns) {
  std::array<Arrival, kReceiveBatch> arrivals;
  const unsigned count = sender_.left_socket().receive(inbound_, arrivals);
  for_each_datagram(std::span(arrivals).first(count),
                    [&](std::span<uint8_t> datagram, const Endpoint& source) {
                      const auto received = sender_.left_path().receive(datagram, source, now_ns);
                      if (received.kind != Received::packet) return;
                      board_.report(lane_).rx_bytes.fetch_add(received.inner.size(),
                                                              std::memory_order_relaxed);
                      writer_.add(received.inner, received.parsed);
                    });
  writer_.flush();
}

void LaneThread::take(std::span<uint8_t> datagram, const Endpoint& source, uint64_t now_ns) {
  const Received received = sender_.path(lane_).receive(datagram, source, now_ns);
  LaneReport& report = board_.report(lane_);
  if (received.heard) {
    report.heard_ns.store(now_ns, std::memory_order_relaxed);
    if (received.kind == Received::packet) {
      report.heard_packet_ns.store(now_ns, std::memory_order_relaxed);
    }
  }
  switch (received.kind) {
    case Received::response:
    case Received::cookie_reply:
      return post(datagram);
    case Received::packet:
      report.rx_bytes.fetch_add(received.inner.size(), std::memory_order_relaxed);
      return writer_.add(received.inner, received.parsed);
    case Received::heartbeat:
      return answer_heartbeat(now_ns);
    case Received::probe_request:
      sender_.send_probe(lane_, tunnel::kProbeReply, received.stamp, now_ns);
      return;
    case Received::dropped:
    case Received::dhcp:         // never here: lane 0 takes it
    case Received::probe_reply:  // it was heard, which is all that was asked
      return;
  }
}

// What finds no room is sent again by its sender.
void LaneThread::post(std::span<const uint8_t> message) {
  LaneMail mail{.lane = static_cast<uint8_t>(lane_), .bytes = static_cast<uint8_t>(message.size())};
  std::memcpy(mail.message.data(), message.data(), message.size());
  if (send(mail_, &mail, sizeof mail, MSG_DONTWAIT) < 0) ++counters_.handshake_unexpected;
}

// Rule 12: while plain packets flow, an empty packet may ask where we are.
void LaneThread::answer_heartbeat(uint64_t now_ns) {
  const uint64_t sent_ns = board_.report(lane_).sent_ns.load(std::memory_order_relaxed);
  if (!sender_.path(lane_).is_plain() || now_ns >= sent_ns + kPlainFlowsNs ||
      now_ns < last_answer_ns_ + kAnswerIntervalNs) {
    return;
  }
  last_answer_ns_ = now_ns;
  sender_.send_heartbeat(lane_, now_ns);
}

}  // namespace adit::client
