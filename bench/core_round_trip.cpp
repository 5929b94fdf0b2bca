// How long a cache line takes from one core to another and back: what two programs that hand
// packets to each other cannot do without, and what differs most between two moments of a virtual
// machine.
//
//   core_round_trip 0 1     prints nanoseconds, the median of many
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kRounds = 500;  // a sample
constexpr unsigned kSamples = 101;
constexpr std::chrono::seconds kLongest{2};  // where something else has the cores: fewer samples
constexpr unsigned kStop = ~0u;

bool pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int here = argc == 3 ? std::atoi(argv[1]) : 0;
  const int there = argc == 3 ? std::atoi(argv[2]) : 0;
  if (argc != 3 || here == there || !pin(here)) {
    std::fprintf(stderr, "usage: core_round_trip CORE CORE\n");
    return 2;
  }
  alignas(64) std::atomic<unsigned> asked{0};
  alignas(64) std::atomic<unsigned> answered{0};
  std::thread other([&] {
    pin(there);
    for (unsigned seen = 0; seen != kStop;) {
      const unsigned now = asked.load(std::memory_order_acquire);
      if (now == seen) continue;
      seen = now;
      answered.store(seen, std::memory_order_release);
    }
  });
  using Clock = std::chrono::steady_clock;
  const auto ends = Clock::now() + kLongest;
  std::vector<double> ns;
  for (unsigned i = 0; ns.empty() || (ns.size() < kSamples && Clock::now() < ends);) {
    const auto began = Clock::now();
    for (unsigned round = 0; round < kRounds; ++round) {
      asked.store(++i, std::memory_order_release);
      while (answered.load(std::memory_order_acquire) != i) {
      }
    }
    const std::chrono::duration<double, std::nano> took = Clock::now() - began;
    ns.push_back(took.count() / kRounds);
  }
  asked.store(kStop, std::memory_order_release);
  other.join();
  const auto middle = ns.begin() + static_cast<std::ptrdiff_t>(ns.size() / 2);
  std::ranges::nth_element(ns, middle);
  std::printf("%.1f\n", *middle);
  return 0;
}
