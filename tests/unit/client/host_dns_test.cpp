// The host's resolver and its programs, which here are a stand-in for resolvconf: it writes down
// how it is called, and does what the test says.
#include "client-lite/host_dns.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "client-lite/privileges.h"
#include "tests/unit/client/own_network.h"

namespace adit::client {
namespace {

using test::address_of;
using Clock = std::chrono::steady_clock;

const HostDns::Servers kServers{{address_of("9.9.9.9"), address_of("9.9.9.10")}, false};
const HostDns::Servers kOthers{{address_of("8.8.8.8")}, false};

class HostDnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / ("host-dns-" + std::to_string(getpid()));
    std::filesystem::create_directories(directory_ / "bin");
    path_before_ = getenv("PATH");
    // No resolvectl, wherever this test runs.
    setenv("PATH", (directory_ / "bin").c_str(), 1);
    std::string refusal;
    ASSERT_TRUE(journal_.open(directory_ / "undo", refusal)) << refusal;
  }
  void TearDown() override {
    setenv("PATH", path_before_.c_str(), 1);
    std::filesystem::remove_all(directory_);
  }

  // What the stand-in does when it has written down its call.
  void install_tool(const std::string& then) {
    const std::filesystem::path tool = directory_ / "bin" / "resolvconf";
    std::ofstream(tool) << "#!/bin/sh\n"
                        << "echo \"$@\" >>" << calls_file() << "\n"
                        << then << "\n";
    ASSERT_EQ(chmod(tool.c_str(), 0755), 0);
  }
  std::string calls_file() const { return directory_ / "calls"; }
  std::string calls() const {
    std::ostringstream text;
    text << std::ifstream(calls_file()).rdbuf();
    return text.str();
  }
  // Hears of every program that ends, until this is so.
  template <typename Condition>
  bool comes_to(const Condition& condition) {
    const auto until = Clock::now() + std::chrono::seconds(10);
    while (!condition() && Clock::now() < until) {
      pollfd wait{dns_.fd(), POLLIN, 0};
      if (poll(&wait, 1, 10) > 0) dns_.on_readable();
    }
    return condition();
  }
  bool is_accepted(const HostDns::Servers& servers) {
    return comes_to([&] { return dns_.accepted() == servers.addresses; });
  }
  bool has_problem() {
    return comes_to([&] { return !dns_.problem().empty(); });
  }

  // The one child of this thread.
  static pid_t child() {
    std::ifstream children("/proc/thread-self/children");
    pid_t pid = 0;
    children >> pid;
    return pid;
  }
  static bool has_ended(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string word;
    stat >> word >> word >> word;
    return !stat || word == "Z";  // nobody may be there to bury it
  }

  std::filesystem::path directory_;
  std::string path_before_;
  const Log log_{config::LogLevel::kError};
  UndoJournal journal_;
  HostDns dns_{log_, journal_};
};

TEST_F(HostDnsTest, WhatTheResolverAcceptsIsTakenBackAtTheEnd) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  EXPECT_TRUE(dns_.accepted().empty()) << "it has not been told yet";
  EXPECT_TRUE(is_accepted(kServers));
  EXPECT_EQ(dns_.problem(), "");
  EXPECT_TRUE(journal_.stands("dns resolvconf adit0"));
  dns_.want("adit0", kServers);
  dns_.withdraw();
  EXPECT_EQ(calls(), "-a adit0\n-d adit0\n");
  EXPECT_TRUE(dns_.accepted().empty());
  EXPECT_TRUE(journal_.standing().empty());
}

TEST_F(HostDnsTest, WhatAProgramRefusesIsAProblemUntilItIsTakenAnotherTime) {
  const std::string refusal = directory_ / "refuses";
  std::ofstream(refusal) << "";
  install_tool("[ ! -e " + refusal + " ]");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(has_problem());
  EXPECT_EQ(dns_.problem(), "resolvconf refused the tunnel's DNS servers");
  EXPECT_TRUE(dns_.accepted().empty());
  std::filesystem::remove(refusal);
  dns_.want("adit0", kServers);
  EXPECT_TRUE(is_accepted(kServers));
  EXPECT_EQ(dns_.problem(), "");
  std::ofstream(refusal) << "";
  dns_.want("adit0", kOthers);
  ASSERT_TRUE(has_problem());
  EXPECT_TRUE(dns_.accepted().empty()) << "nobody knows what it has now";
}

TEST_F(HostDnsTest, WithoutAProgramThatIsAProblemUntilThereIsOne) {
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  EXPECT_EQ(dns_.problem(), "the gateway names DNS servers, but this host has neither "
                            "systemd-resolved nor resolvconf: they are not used");
  install_tool("exit 0");
  dns_.want("adit0", kServers);
  EXPECT_TRUE(is_accepted(kServers));
  EXPECT_EQ(dns_.problem(), "");
}

// The packets' thread is the one that wants.
TEST_F(HostDnsTest, AProgramThatTakesItsTimeHoldsNobodyUp) {
  const std::string gate = directory_ / "gate";
  install_tool("while [ ! -e " + gate + " ]; do /bin/sleep 0.01; done");
  ASSERT_TRUE(dns_.open(true));
  const auto began = Clock::now();
  dns_.want("adit0", kServers);
  dns_.want("adit0", kOthers);
  dns_.on_readable();
  EXPECT_LT(Clock::now() - began, std::chrono::milliseconds(200));
  EXPECT_TRUE(dns_.accepted().empty());
  EXPECT_EQ(dns_.problem(), "") << "it is at it";
  std::ofstream(gate) << "";
  EXPECT_TRUE(is_accepted(kOthers)) << "what is wanted now, not what it was told first";
  EXPECT_EQ(calls(), "-a adit0\n-a adit0\n") << "never without any";
}

TEST_F(HostDnsTest, AProgramThatHangsIsKilledAndAProblem) {
  install_tool("exec /bin/sleep 60");
  ASSERT_TRUE(dns_.open(true));
  const auto began = Clock::now();
  dns_.want("adit0", kServers);
  ASSERT_TRUE(has_problem());
  EXPECT_EQ(dns_.problem(), "resolvconf refused the tunnel's DNS servers");
  dns_.withdraw();
  EXPECT_LT(Clock::now() - began, std::chrono::milliseconds(4900)) << "twice two seconds";
  EXPECT_TRUE(journal_.stands("dns resolvconf adit0")) << "the next start tries again";
}

TEST_F(HostDnsTest, WhatAProgramThatHangsHasStartedIsKilledToo) {
  const std::string started = directory_ / "started";
  install_tool("/bin/sleep 60 & echo $! >" + started + "; wait");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(has_problem());
  pid_t sleeper = 0;
  std::ifstream(started) >> sleeper;
  ASSERT_GT(sleeper, 0);
  EXPECT_TRUE(comes_to([&] { return has_ended(sleeper); }));
}

TEST_F(HostDnsTest, WhatIsNotTakenBackStaysJournalled) {
  install_tool("[ $1 = -a ]");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  dns_.withdraw();
  EXPECT_EQ(calls(), "-a adit0\n-d adit0\n");
  EXPECT_TRUE(journal_.stands("dns resolvconf adit0"));
}

TEST_F(HostDnsTest, ServersThatAreNotTakenBackWhileTheTunnelStaysAreAProblemUntilTheyAre) {
  const std::string refusal = directory_ / "refuses";
  install_tool("[ $1 = -a ] || [ ! -e " + refusal + " ]");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  std::ofstream(refusal) << "";
  dns_.want("adit0", {});
  ASSERT_TRUE(has_problem());
  EXPECT_EQ(dns_.problem(), "resolvconf did not take the DNS servers of adit0 back");
  EXPECT_TRUE(journal_.stands("dns resolvconf adit0"));
  std::filesystem::remove(refusal);
  dns_.want("adit0", {});
  EXPECT_TRUE(comes_to([&] { return journal_.standing().empty(); }));
  EXPECT_EQ(dns_.problem(), "");
}

// Of both names, when the former could not be taken back before.
TEST_F(HostDnsTest, WhereNoneAreWantedAllThatWasToldIsTakenBack) {
  const std::string refusal = directory_ / "refuses";
  install_tool("[ $1 = -a ] || [ ! -e " + refusal + " ]");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  std::ofstream(refusal) << "";
  dns_.want("other0", kOthers);
  ASSERT_TRUE(has_problem());
  std::filesystem::remove(refusal);
  dns_.want("other0", {});
  EXPECT_TRUE(comes_to([&] { return journal_.standing().empty(); }));
  EXPECT_EQ(calls(), "-a adit0\n-a other0\n-d adit0\n-d adit0\n-d other0\n");
}

TEST_F(HostDnsTest, ThatTheChildIsGoneIsAProblemAndWhatItToldStaysJournalled) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  ASSERT_EQ(kill(child(), SIGKILL), 0);
  ASSERT_TRUE(has_problem());
  EXPECT_EQ(dns_.problem(),
            "the child that tells the resolver is gone: name servers stay as they are");
  dns_.want("adit0", kServers);
  EXPECT_NE(dns_.problem(), "");
  dns_.withdraw();
  EXPECT_TRUE(journal_.stands("dns resolvconf adit0"));
}

TEST_F(HostDnsTest, AChildThatWasStoppedHoldsTheEndUpForAFewSecondsOnly) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  const pid_t stopped = child();
  ASSERT_EQ(kill(stopped, SIGSTOP), 0);
  const auto began = Clock::now();
  dns_.withdraw();
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(8));
  kill(stopped, SIGKILL);
  waitpid(stopped, nullptr, 0);
}

// Whoever has got into the client cannot have another interface's names asked elsewhere.
TEST_F(HostDnsTest, TheChildTellsOfNoDeviceButTheClients) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  dns_.confine(if_nametoindex("lo"));
  dns_.want("adit0", kServers);
  EXPECT_TRUE(has_problem());
  EXPECT_FALSE(dns_.undo(DnsTool::resolvconf, "eth0")) << "that it has not told";
  EXPECT_EQ(calls(), "");
  dns_.want("lo", kServers);
  EXPECT_TRUE(is_accepted(kServers));
  dns_.withdraw();
  EXPECT_EQ(calls(), "-a lo\n-d lo\n");
}

TEST_F(HostDnsTest, TheEndWaitsForAProgramThatRuns) {
  install_tool("/bin/sleep 0.2; echo done >>" + calls_file());
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  dns_.withdraw();
  EXPECT_EQ(calls(), "-a adit0\ndone\n-d adit0\ndone\n");
}

// It cannot be told that none are wanted any more before it has been told what runs.
TEST_F(HostDnsTest, NoneAreWantedWhileAProgramRuns) {
  const std::string gate = directory_ / "gate";
  install_tool("while [ ! -e " + gate + " ]; do /bin/sleep 0.01; done");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  dns_.want("adit0", {});
  std::ofstream(gate) << "";
  EXPECT_TRUE(comes_to([&] { return journal_.standing().empty(); }));
  EXPECT_EQ(calls(), "-a adit0\n-d adit0\n");
  EXPECT_TRUE(dns_.accepted().empty());
}

TEST_F(HostDnsTest, WhereTheFormerNameOfTheDeviceIsTakenBackTheNewWasTold) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  ASSERT_TRUE(is_accepted(kServers));
  dns_.want("other0", kOthers);
  EXPECT_TRUE(comes_to([&] { return !journal_.stands("dns resolvconf adit0"); }));
  EXPECT_EQ(dns_.accepted(), kOthers.addresses);
  EXPECT_EQ(calls(), "-a adit0\n-a other0\n-d adit0\n");
  EXPECT_TRUE(journal_.stands("dns resolvconf other0"));
}

// Of what root may do, that: files of others, other users, ports. Neither devices nor modules.
TEST_F(HostDnsTest, ProgramsHaveTheRightsThatScriptsNeed) {
  if (geteuid() != 0) GTEST_SKIP() << "root has rights to give up";
  install_tool("while read -r name value; do case $name in CapEff:|CapBnd:|Seccomp:) "
               "echo $name $value >>" + calls_file() + ";; esac; done </proc/self/status");
  char rights[32];
  snprintf(rights, sizeof rights, "%016x", kScriptRights);
  ASSERT_TRUE(dns_.open(true));
  dns_.want("adit0", kServers);
  EXPECT_TRUE(is_accepted(kServers));
  EXPECT_EQ(calls(), std::string("-a adit0\nCapEff: ") + rights + "\nCapBnd: " + rights +
                         "\nSeccomp: 2\n");
}

TEST_F(HostDnsTest, WithoutTheSandboxTheyHaveAllThatThereWas) {
  install_tool("while read -r name value; do [ $name != Seccomp: ] || "
               "echo $value >>" + calls_file() + "; done </proc/self/status");
  ASSERT_TRUE(dns_.open(false));
  dns_.want("adit0", kServers);
  EXPECT_TRUE(is_accepted(kServers));
  EXPECT_EQ(calls(), "-a adit0\n0\n");
}

// Whoever has got into the client may ask for nothing else.
TEST_F(HostDnsTest, WhatIsNoDevicesNameReachesNoProgram) {
  install_tool("exit 0");
  ASSERT_TRUE(dns_.open(true));
  for (const char* name : {"-x", "../eth0", "a b", ""}) {
    dns_.want(name, kServers);
    EXPECT_TRUE(has_problem()) << name;
    dns_.withdraw();
  }
  EXPECT_EQ(calls(), "");
}

TEST_F(HostDnsTest, WithoutAChildProgramsAreWaitedFor) {
  install_tool("exit 0");
  dns_.want("adit0", kServers);
  EXPECT_EQ(dns_.accepted(), kServers.addresses);
  EXPECT_EQ(calls(), "-a adit0\n");
}

}  // namespace
}  // namespace adit::client
