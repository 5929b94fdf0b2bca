#include "client-lite/clock.h"

#include <sys/random.h>
#include <time.h>

#include <cerrno>
#include <cstdlib>

namespace adit::client {
namespace {

uint64_t read_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

uint64_t now_ns() { return read_ns(CLOCK_BOOTTIME); }

uint64_t awake_ns() { return read_ns(CLOCK_MONOTONIC); }

tunnel::Tai64n tai64n_now() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  // TAI64 counts from 2^62 at 1970; TAI was ten seconds ahead of UTC then.
  const uint64_t seconds = (uint64_t{1} << 62) + 10 + static_cast<uint64_t>(time.tv_sec);
  const auto nanoseconds = static_cast<uint32_t>(time.tv_nsec);
  tunnel::Tai64n stamp;
  for (unsigned i = 0; i < 8; ++i) stamp[i] = static_cast<uint8_t>(seconds >> (56 - 8 * i));
  for (unsigned i = 0; i < 4; ++i) stamp[8 + i] = static_cast<uint8_t>(nanoseconds >> (24 - 8 * i));
  return stamp;
}

void fill_random(std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) abort();
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

uint64_t random_u64() {
  uint64_t value = 0;
  fill_random({reinterpret_cast<uint8_t*>(&value), sizeof value});
  return value;
}

}  // namespace adit::client
