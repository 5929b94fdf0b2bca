// A gateway's name to its address, by this host's own files; each case without threads in a child
// of its own.
#include "client-lite/resolver.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <seccomp.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace adit::client {
namespace {

constexpr auto kLoopback = Ipv4Address::from_octets(127, 0, 0, 1);

std::optional<NameAnswer> answer_of(Resolver& resolver) {
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
  EXPECT_EQ(last->addresses, std::vector{kLoopback});
  EXPECT_FALSE(resolver.take());
  EXPECT_FALSE(resolver.is_asking());
}

TEST(Resolver, HasEachOfANamesAddressesOnceInTheirOrderAndEightAtMost) {
  std::array<sockaddr_in, 12> found{};
  std::array<addrinfo, 12> list{};
  // 9, 9, 8, 8, 7, 7 and so on.
  for (size_t i = 0; i < list.size(); ++i) {
    found[i].sin_addr.s_addr = Be32::from_host(9 - static_cast<uint32_t>(i / 2)).raw();
    list[i].ai_addr = reinterpret_cast<sockaddr*>(&found[i]);
    if (i > 0) list[i - 1].ai_next = &list[i];
  }
  std::vector<Ipv4Address> expected;
  for (uint32_t i = 9; i >= 4; --i) expected.push_back({Be32::from_host(i)});
  EXPECT_EQ(addresses_of(&list[0]), expected);
  EXPECT_TRUE(addresses_of(nullptr).empty());

  for (size_t i = 0; i < list.size(); ++i) {
    found[i].sin_addr.s_addr = Be32::from_host(static_cast<uint32_t>(i)).raw();
  }
  const std::vector<Ipv4Address> some = addresses_of(&list[0]);
  ASSERT_EQ(some.size(), 8u);
  EXPECT_EQ(some.back(), Ipv4Address{Be32::from_host(7)});
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
  if (!answer || !answer->addresses.empty() || answer->failure.empty()) _exit(1);
  resolver.ask("127.0.0.1");  // which needs none
  const auto literal = answer_of(resolver);
  _exit(literal && literal->addresses == std::vector{kLoopback} ? 0 : 2);
}

TEST(ResolverDeathTest, WithoutAThreadANameHasNoAnswerAndTheClientGoesOn) {
  EXPECT_EXIT(ask_without_threads(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace adit::client
