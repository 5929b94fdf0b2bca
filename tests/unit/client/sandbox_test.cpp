// The filter of system calls, each case in a child of its own.
#include "client-lite/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "client-lite/privileges.h"

namespace adit::client {
namespace {

constexpr int kEntered = 10;

// Enters, then leaves with what `call` returns.
void inside(const std::function<int()>& call, Sandbox sandbox = Sandbox::client) {
  std::string refusal;
  if (!enter_sandbox(sandbox, refusal)) _exit(1);
  _exit(kEntered + call());
}

int refused(int result) { return result == -1 && errno == EPERM ? 1 : 2; }

const auto kRefused = testing::ExitedWithCode(kEntered + 1);
const auto kWorks = testing::ExitedWithCode(kEntered);
const auto kKilled = testing::KilledBySignal(SIGSYS);

TEST(SandboxDeathTest, WhatNoMistakeWouldCallEndsTheProcess) {
  EXPECT_EXIT(inside([] { return execl("/bin/true", "true", nullptr); }), kKilled, "");
  EXPECT_EXIT(inside([] { return static_cast<int>(ptrace(PTRACE_TRACEME, 0, 0, 0)); }), kKilled,
              "");
  EXPECT_EXIT(inside([] { return mount("a", "/", "tmpfs", 0, ""); }), kKilled, "");
  EXPECT_EXIT(inside([] { return unshare(CLONE_NEWNS); }), kKilled, "");
}

TEST(SandboxDeathTest, WhatItDoesNotNeedIsRefused) {
  EXPECT_EXIT(inside([] { return refused(chmod("/", 0755)); }), kRefused, "");
  EXPECT_EXIT(inside([] { return refused(setuid(0)); }), kRefused, "");
  EXPECT_EXIT(inside([] { return refused(fork()); }), kRefused, "");
  EXPECT_EXIT(inside([] { return refused(kill(getppid(), 0)); }), kRefused, "");
  EXPECT_EXIT(inside([] { return refused(socket(AF_PACKET, SOCK_RAW, 0)); }), kRefused, "");
}

// What a C library for 32 bits calls for wider numbers or times has a name of its own, beside which
// stands that of the call which is the only one elsewhere.
TEST(Sandbox, WhatItNeedsHasItsOtherNamesOn32Bits) {
  const auto names = calls_of_client();
  const std::set<std::string> allowed(names.begin(), names.end());
  for (const std::string& name : allowed) {
    const std::string stem = name.ends_with("64") ? name.substr(0, name.size() - 2) : name;
    for (const std::string& other :
         {name + "64", name + "32", name + "_time64", stem + "_time64", "_new" + name}) {
      const bool exists = seccomp_syscall_resolve_name_arch(SCMP_ARCH_ARM, other.c_str()) >= 0;
      EXPECT_TRUE(!exists || allowed.contains(other)) << other;
    }
  }
  for (const char* name : {"send", "recv", "mmap2", "_llseek", "ugetrlimit", "sigreturn"}) {
    EXPECT_TRUE(allowed.contains(name)) << name;
  }
}

TEST(SandboxDeathTest, WhatItNeedsWorks) {
  EXPECT_EXIT(inside([] { return socket(AF_INET, SOCK_DGRAM, 0) < 0; }), kWorks, "");
  EXPECT_EXIT(inside([] {
                int ran = 1;
                std::thread([&ran] { ran = 0; }).join();
                return ran;
              }),
              kWorks, "");
  EXPECT_EXIT(inside([] {
                addrinfo* found = nullptr;
                return getaddrinfo("localhost", nullptr, nullptr, &found);
              }),
              kWorks, "");
}

TEST(SandboxDeathTest, TheChildWithTheRightsMakesNoDescriptorAndReadsNoFile) {
  const auto inside_rights = [](const std::function<int()>& call) {
    inside(call, Sandbox::rights);
  };
  EXPECT_EXIT(inside_rights([] { return refused(open("/etc/passwd", O_RDONLY)); }), kRefused, "");
  EXPECT_EXIT(inside_rights([] { return refused(socket(AF_INET, SOCK_DGRAM, 0)); }), kRefused, "");
  EXPECT_EXIT(inside_rights([] { return refused(fork()); }), kRefused, "");
  EXPECT_EXIT(inside_rights([] { return execl("/bin/true", "true", nullptr); }), kKilled, "");
  EXPECT_EXIT(inside_rights([] { return unshare(CLONE_NEWNET); }), kKilled, "");
}

TEST(SandboxDeathTest, FilesAreWrittenInTheClientsOwnDirectoriesOnly) {
  const std::string own = testing::TempDir() + "own";
  const std::string other = testing::TempDir() + "other";
  mkdir(own.c_str(), 0700);
  mkdir(other.c_str(), 0700);
  const auto can_write = [](const std::string& path) {
    return open(path.c_str(), O_WRONLY | O_CREAT, 0600) >= 0;
  };
  const auto confined = [&] {
    std::string refusal;
    if (!drop_privileges(kNoRights, refusal) || !confine_files(std::array{own}, refusal)) {
      fprintf(stderr, "%s\n", refusal.c_str());
      _exit(1);
    }
    if (!can_write(own + "/file") || rename((own + "/file").c_str(), (own + "/it").c_str()) != 0 ||
        unlink((own + "/it").c_str()) != 0) {
      _exit(2);
    }
    if (can_write(other + "/file") || can_write("/etc/passwd") || errno != EACCES) _exit(3);
    if (open("/etc/passwd", O_RDONLY) < 0) _exit(4);
    execl("/bin/true", "true", nullptr);
    _exit(kEntered);
  };
  EXPECT_EXIT(confined(), kWorks, "");
}

TEST(SandboxDeathTest, ScriptsStartProgramsAndMountNothing) {
  const auto inside_scripts = [](const std::function<int()>& call) {
    inside(call, Sandbox::scripts);
  };
  EXPECT_EXIT(inside_scripts([] { return system("exit 0"); }), kWorks, "");
  EXPECT_EXIT(inside_scripts([] { return refused(mount("a", "/", "tmpfs", 0, "")); }), kRefused,
              "");
  EXPECT_EXIT(inside_scripts([] { return refused(unshare(CLONE_NEWNS)); }), kRefused, "");
}

}  // namespace
}  // namespace adit::client
