// UDP packets as fast as they go, one way, and how many of them arrive.
//
//   udp_blast send ADDRESS PORT SECONDS     sends for so long
//   udp_blast receive PORT SECONDS          counts what `send` sends
//   udp_blast ask ADDRESS PORT SECONDS      sends one datagram, which opens the way through NATs,
//                                           and counts what comes back
//   udp_blast answer PORT SECONDS           awaits that datagram, and sends to where it came from
//
// The counting ends print "packets N seconds S", the sending ends "sent N". A packet is 64 bytes
// with its IP header. SECONDS must be the same at both ends.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr size_t kPayloadBytes = 64 - 20 - 8;
constexpr unsigned kBurst = 64;
constexpr int kReceiveBufferBytes = 16 << 20;
constexpr Seconds kPatience{10.0};    // for the first packet
constexpr Seconds kSilence{0.3};      // after which the last packet has come
constexpr timeval kWait{0, 100'000};  // of one receive call
constexpr unsigned kWaitsBetweenQuestions = 2;

// A burst of datagrams, to be sent or to be filled.
class Burst {
 public:
  Burst() {
    for (unsigned i = 0; i < kBurst; ++i) {
      parts_[i] = {payloads_[i].data(), kPayloadBytes};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  // Both return how many datagrams went or came, 0 when none could.
  unsigned send(int fd) { return counted(sendmmsg(fd, messages_.data(), kBurst, 0)); }
  unsigned receive(int fd) {
    return counted(recvmmsg(fd, messages_.data(), kBurst, MSG_WAITFORONE, nullptr));
  }

 private:
  static unsigned counted(int result) { return result < 0 ? 0 : static_cast<unsigned>(result); }

  std::array<std::array<char, kPayloadBytes>, kBurst> payloads_{};
  std::array<iovec, kBurst> parts_{};
  std::array<mmsghdr, kBurst> messages_{};
};

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

sockaddr_in endpoint(const char* address, const char* port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(static_cast<uint16_t>(std::stoul(port)));
  if (inet_pton(AF_INET, address, &result.sin_addr) != 1) {
    throw std::runtime_error(std::string(address) + ": not an IPv4 address");
  }
  return result;
}

int make_socket() {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) fail("socket");
  // Forced, because the usual limit is less than what comes while this process does not run.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes, sizeof(int)) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kWait, sizeof(kWait)) != 0) {
    fail("setsockopt");
  }
  return fd;
}

int connected_socket(const sockaddr_in& to) {
  const int fd = make_socket();
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) fail("connect");
  return fd;
}

int bound_socket(const char* port) {
  const int fd = make_socket();
  const sockaddr_in here = endpoint("0.0.0.0", port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof(here)) != 0) fail("bind");
  std::puts("ready");
  std::fflush(stdout);
  return fd;
}

void send_for(int fd, Seconds duration) {
  Burst burst;
  uint64_t sent = 0;
  for (const auto end = Clock::now() + duration; Clock::now() < end;) sent += burst.send(fd);
  std::printf("sent %lu\n", sent);
}

// Counts until the sender's time is over and nothing more comes. The rate is over the sender's
// time at least: a burst at the start and silence afterwards is not a high rate. `ask` is called
// now and then until the first packet comes.
template <typename Ask>
void count_for(int fd, Seconds duration, Ask ask) {
  Burst burst;
  const auto start = Clock::now();
  uint64_t packets = 0;
  Clock::time_point first, last;
  for (unsigned waits = 0;; ++waits) {
    if (packets == 0 && waits % kWaitsBetweenQuestions == 0) ask();
    const unsigned came = burst.receive(fd);
    const auto now = Clock::now();
    if (came > 0) {
      if (packets == 0) first = now;
      last = now;
      packets += came;
    } else if (packets == 0) {
      if (now - start > kPatience) throw std::runtime_error("no packet came");
    } else if (now - first > duration && now - last > kSilence) {
      break;
    }
  }
  std::printf("packets %lu seconds %.6f\n", packets,
              std::max(Seconds(last - first), duration).count());
}

sockaddr_in await_question(int fd) {
  sockaddr_in from{};
  socklen_t length = sizeof(from);
  char byte;
  for (const auto end = Clock::now() + kPatience; Clock::now() < end;) {
    if (recvfrom(fd, &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &length) >= 0) return from;
  }
  throw std::runtime_error("no question came");
}

int run(int count, char** words) {
  const std::string mode = count > 1 ? words[1] : "";
  if (count == 5 && (mode == "send" || mode == "ask")) {
    const int fd = connected_socket(endpoint(words[2], words[3]));
    const Seconds duration{std::stod(words[4])};
    if (mode == "send") {
      send_for(fd, duration);
    } else {
      // A failure to send is one question less, and the next one follows soon.
      count_for(fd, duration, [fd] { [[maybe_unused]] auto _ = ::send(fd, "?", 1, 0); });
    }
    return 0;
  }
  if (count == 4 && (mode == "receive" || mode == "answer")) {
    const int fd = bound_socket(words[2]);
    const Seconds duration{std::stod(words[3])};
    if (mode == "receive") {
      count_for(fd, duration, [] {});
    } else {
      const sockaddr_in to = await_question(fd);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) fail("connect");
      send_for(fd, duration);
    }
    return 0;
  }
  std::fputs(
      "usage: udp_blast send|ask ADDRESS PORT SECONDS\n"
      "       udp_blast receive|answer PORT SECONDS\n",
      stderr);
  return 2;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "udp_blast: %s\n", error.what());
    return 1;
  }
}
