// A gateway's name to its address, by this host's own files; each case without threads in a child
// of its own.
#include "client-lite/resolver.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <seccomp.h>
#include <unistd.h>

#include <cerrno>

namespace adit::client {
namespace {

constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

std::optional<Resolver::Answer> answer_of(Resolver& resolver) {
  pollfd wait{resolver.fd(), POLLIN, 0};
  poll(&wait, 1, 10'000);
  return resolver.take();
}

TEST(Resolver, AnswersOnceWhatWasAskedLast) {
  Resolver resolver;
  ASSERT_TRUE(resolver.open());
  resolver.ask("30.1.1.10");
  resolver.ask("localhost");
  const auto answer = answer_of(resolver);
  // The first question may have rung before it was abandoned.
  const auto last = answer ? answer : answer_of(resolver);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->address, kLoopback);
  EXPECT_FALSE(resolver.take());
  EXPECT_FALSE(resolver.is_asking());
}

[[noreturn]] void ask_without_threads() {
  Resolver resolver;
  if (!resolver.open()) _exit(100);
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  for (const char* call : {"clone", "clone3"}) {
    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAGAIN), seccomp_syscall_resolve_name(call), 0);
  }
  if (seccomp_load(filter) != 0) _exit(100);
  resolver.ask("localhost");
  const auto answer = answer_of(resolver);
  if (!answer || answer->address || answer->failure.empty()) _exit(1);
  resolver.ask("127.0.0.1");  // which needs none
  const auto literal = answer_of(resolver);
  _exit(literal && literal->address == kLoopback ? 0 : 2);
}

TEST(ResolverDeathTest, WithoutAThreadANameHasNoAnswerAndTheClientGoesOn) {
  EXPECT_EXIT(ask_without_threads(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace adit::client
