// wall-clock: preloaded into a program, it moves clocks for that one alone.
//
//   LD_PRELOAD=libwall-clock.so ADIT_WALL_CLOCK=FILE program
//
// FILE holds two numbers, 8 bytes each as the machine has them; what is written there counts from
// that moment on. The first is seconds to add to the wall clock, as when somebody sets it; the
// second nanoseconds to add to the clock that goes on in sleep, as when the machine has slept. The
// others go on as they are.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

struct Offsets {
  int64_t wall_s;
  int64_t asleep_ns;
};

// Mapped once, before the program gives up its rights.
const volatile Offsets* map_offsets() {
  static const Offsets kNone{};
  const char* path = getenv("ADIT_WALL_CLOCK");
  const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return &kNone;
  void* mapped = mmap(nullptr, sizeof(Offsets), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  return mapped == MAP_FAILED ? &kNone : static_cast<const Offsets*>(mapped);
}

const volatile Offsets* const offsets = map_offsets();

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long failed = syscall(SYS_clock_gettime, clock, now);
  if (failed != 0 || offsets == nullptr) return static_cast<int>(failed);
  if (clock == CLOCK_REALTIME) now->tv_sec += offsets->wall_s;
  if (clock == CLOCK_BOOTTIME) {
    const int64_t ns = now->tv_nsec + offsets->asleep_ns;
    now->tv_sec += ns / kSecondNs;
    now->tv_nsec = ns % kSecondNs;
  }
  return static_cast<int>(failed);
}

extern "C" time_t time(time_t* out) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}
