#include "client-lite/tool_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

extern char** environ;

namespace adit::client {
namespace {

// A program that takes longer hangs. The client's end may wait for two of them.
constexpr int kProgramWaitMs = 2000;
// A few words and a few name servers fit many times over.
constexpr size_t kRequestBytesMax = 4096;

// Waits for a child to end; kills it when it does not. Whether it ended well.
bool wait_for(pid_t child) {
  const FileDescriptor ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd wait{ended.get(), POLLIN, 0};
  if (!ended.is_open() || poll(&wait, 1, kProgramWaitMs) != 1) kill(child, SIGKILL);
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool run_here(ToolCommand command) {
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

// A request is the words and the input, each with a zero behind it, the input last.
std::string request_of(const ToolCommand& command) {
  std::string request;
  for (const std::string& word : command.words) request.append(word).push_back('\0');
  return request.append(command.input) + '\0';
}

bool answer(std::string_view request) {
  ToolCommand command;
  while (!request.empty()) {
    const size_t end = request.find('\0');
    command.words.emplace_back(request.substr(0, end));
    request.remove_prefix(end + 1);
  }
  if (command.words.size() < 2) return false;
  command.input = command.words.back();
  command.words.pop_back();
  return run_here(command);
}

// The child, until its parent is gone.
[[noreturn]] void serve(int parent) {
  prctl(PR_SET_NAME, "adit-tools", 0, 0, 0);
  std::array<char, kRequestBytesMax> request;
  for (;;) {
    const ssize_t got = recv(parent, request.data(), request.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || request[static_cast<size_t>(got) - 1] != '\0') _exit(0);
    const char done = answer({request.data(), static_cast<size_t>(got)}) ? 1 : 0;
    send(parent, &done, sizeof done, MSG_NOSIGNAL);
  }
}

}  // namespace

bool ToolRunner::open() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    ours.reset();
    serve(theirs.get());
  }
  child_ = std::move(ours);
  has_opened_ = true;
  return true;
}

bool ToolRunner::start(const ToolCommand& command) {
  const std::string request = request_of(command);
  is_running_ = child_.is_open() && request.size() <= kRequestBytesMax &&
                send(child_.get(), request.data(), request.size(), MSG_NOSIGNAL) > 0;
  return is_running_;
}

std::optional<bool> ToolRunner::take_result() { return receive(MSG_DONTWAIT); }

bool ToolRunner::run(const ToolCommand& command) {
  if (!has_opened_) return run_here(command);
  if (is_running_) receive(0);
  return start(command) && receive(0) == true;
}

std::optional<bool> ToolRunner::receive(int flags) {
  char done = 0;
  ssize_t got;
  do {
    got = recv(child_.get(), &done, sizeof done, flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::nullopt;
  if (got != 1) child_.reset();  // it is gone
  is_running_ = false;
  return got == 1 && done == 1;
}

}  // namespace adit::client
