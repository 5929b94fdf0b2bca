// A client with lanes where the system does not give it all the threads that it wants; each case in
// a child of its own.
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "client-lite/clock.h"
#include "client-lite/lanes.h"

namespace adit::client {
namespace {

Config config_of() {
  Config config;
  config.lanes = 4;
  config.sandbox = false;
  return config;
}

struct World {
  const Config config = config_of();
  const Log log{config::LogLevel::kInfo};
  const tunnel::RandomSource random{fill_random};
  const tunnel::Identity own = tunnel::make_identity(tunnel::generate_private_key(random));
  const StateFiles files{"", "lanes-start-test"};
  SentStamps stamps{files, log};
  Counters counters;
  HostRights rights;
  Lanes lanes{config, log, own, random, stamps, counters, rights};

  // Leaves with the number of lanes that there are, when the threads have heard of news and ended.
  [[noreturn]] void start_and_leave() {
    lanes.start();
    lanes.set_device(std::nullopt, 1400);
    lanes.stop();
    _exit(static_cast<int>(lanes.count()));
  }
};

[[noreturn]] void start() {
  std::make_unique<World>()->start_and_leave();
}

[[noreturn]] void start_without_threads() {
  const auto world = std::make_unique<World>();
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  for (const char* call : {"clone", "clone3"}) {
    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAGAIN), seccomp_syscall_resolve_name(call), 0);
  }
  if (seccomp_load(filter) != 0) _exit(100);
  world->start_and_leave();
}

// With room for what two threads are woken by.
[[noreturn]] void start_with_few_descriptors() {
  const auto world = std::make_unique<World>();
  const int next = dup(0);
  close(next);
  const rlimit few{static_cast<rlim_t>(next) + 2, static_cast<rlim_t>(next) + 2};
  if (setrlimit(RLIMIT_NOFILE, &few) != 0) _exit(100);
  world->start_and_leave();
}

TEST(LanesStartDeathTest, EachHasAThread) {
  EXPECT_EXIT(start(), testing::ExitedWithCode(4), "");
}

TEST(LanesStartDeathTest, WithoutThreadsThereIsOneLane) {
  EXPECT_EXIT(start_without_threads(), testing::ExitedWithCode(1),
              "no thread for lane 1: Resource temporarily unavailable: going on with 1 of 4");
}

TEST(LanesStartDeathTest, ThoseThatHaveAThreadAreUsed) {
  EXPECT_EXIT(start_with_few_descriptors(), testing::ExitedWithCode(3),
              "no thread for lane 3: Too many open files: going on with 3 of 4");
}

}  // namespace
}  // namespace adit::client
