// The system calls that a running client and its children make, as filters of the kernel's
// (seccomp): what somebody who has got into such a process might want beyond is refused with EPERM,
// and in the client and its child for rights, what no honest mistake would call (starting a
// program, looking into others, changing what is mounted) ends the process.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace adit::client {

enum class Sandbox : uint8_t {
  client,   // packets, names, state files, threads
  rights,   // host_rights.h: messages, rtnetlink, sockets' options
  scripts,  // dns_teller.h and the programs that it runs: all but what such programs never do
};

// From now on nothing is written but in these directories, and no program started, whatever the
// user may do; both for this thread and all that it makes. Not on kernels before 5.13, or without
// Landlock: false then, and `refusal` says why. After drop_privileges().
bool confine_files(std::span<const std::string> writable_directories, std::string& refusal);

// For this thread and all that it makes from now on; there is no way back. False: `refusal` says
// why.
bool enter_sandbox(Sandbox sandbox, std::string& refusal);

// The names of the calls that Sandbox::client allows with any arguments, on all architectures.
std::span<const char* const> calls_of_client();

}  // namespace adit::client
