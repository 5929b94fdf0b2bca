#include "client-lite/tool_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client-lite/file_descriptor.h"

extern char** environ;

namespace adit::client {
namespace {

// A program that takes longer hangs. The client's end may wait for two of them.
constexpr int kProgramWaitMs = 2000;

// Waits for a child to end; kills it when it does not. Whether it ended well.
bool wait_for(pid_t child) {
  const FileDescriptor ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd wait{ended.get(), POLLIN, 0};
  if (!ended.is_open() || poll(&wait, 1, kProgramWaitMs) != 1) kill(child, SIGKILL);
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
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
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);

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
