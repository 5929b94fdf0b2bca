#include "client-lite/tool_runner.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "client-lite/file_descriptor.h"

extern char** environ;

namespace adit::client {
namespace {

// A program that takes longer hangs.
constexpr std::chrono::seconds kProgramWait{2};
constexpr useconds_t kLookIntervalUs = 2000;

// Waits for a child to end; kills it when it does not, with all that it has started. Whether it
// ended well.
bool wait_for(pid_t child) {
  int status = 0;
  const auto ends = std::chrono::steady_clock::now() + kProgramWait;
  while (std::chrono::steady_clock::now() < ends) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended != 0) return ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    usleep(kLookIntervalUs);
  }
  kill(-child, SIGKILL);
  waitpid(child, &status, 0);
  return false;
}

}  // namespace

bool run_tool(ToolCommand command) {
  const std::string& input = command.input;
  const FileDescriptor standard_input(memfd_create("adit-dns", MFD_CLOEXEC));
  if (!standard_input.is_open() ||
      pwrite(standard_input.get(), input.data(), input.size(), 0) !=
          static_cast<ssize_t>(input.size())) {
    return false;
  }
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, standard_input.get(), STDIN_FILENO);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  // This program blocks the signals that it reads from a descriptor; its children must not.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t ignored;  // by this program, which gets EPIPE instead
  sigemptyset(&ignored);
  sigaddset(&ignored, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                            POSIX_SPAWN_SETPGROUP);

  std::vector<char*> arguments;
  for (std::string& word : command.words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 && wait_for(child);
}

}  // namespace adit::client
