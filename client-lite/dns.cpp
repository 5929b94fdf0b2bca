#include "client-lite/dns.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "client-lite/file_descriptor.h"

extern char** environ;

namespace adit::client {
namespace {

// A resolver that takes longer is not waited for: packets are.
constexpr int kProgramWaitMs = 500;

bool is_in_path(const char* program) {
  const char* path = getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string file = std::string(rest.substr(0, colon)) + "/" + program;
    if (access(file.c_str(), X_OK) == 0) return true;
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return false;
}

// Waits for a child to end; kills it when it does not. Whether it ended well.
bool wait_for(pid_t child) {
  const FileDescriptor ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd wait{ended.get(), POLLIN, 0};
  if (!ended.is_open() || poll(&wait, 1, kProgramWaitMs) != 1) kill(child, SIGKILL);
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Runs a program with `input` on its standard input.
bool run(std::vector<std::string> words, const std::string& input) {
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
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 && wait_for(child);
}

}  // namespace

const char* name_of(DnsTool tool) {
  return tool == DnsTool::resolvectl ? "resolvectl" : "resolvconf";
}

std::optional<DnsTool> dns_tool_named(std::string_view name) {
  for (const DnsTool tool : {DnsTool::resolvectl, DnsTool::resolvconf}) {
    if (name == name_of(tool)) return tool;
  }
  return std::nullopt;
}

std::optional<DnsTool> find_dns_tool() {
  // systemd ships resolvectl even where systemd-resolved does not run.
  struct stat found;
  const bool resolved_runs = stat("/run/systemd/resolve", &found) == 0;
  if (resolved_runs && is_in_path("resolvectl")) return DnsTool::resolvectl;
  if (is_in_path("resolvconf")) return DnsTool::resolvconf;
  return std::nullopt;
}

bool set_dns(DnsTool tool, const std::string& device, std::span<const Ipv4Address> servers,
             bool for_all) {
  if (tool == DnsTool::resolvconf) {
    std::string lines;
    for (const Ipv4Address& server : servers) lines += "nameserver " + server.to_string() + "\n";
    return run({"resolvconf", "-a", device}, lines);
  }
  std::vector<std::string> words = {"resolvectl", "dns", device};
  for (const Ipv4Address& server : servers) words.push_back(server.to_string());
  // "~." sends every name to this device's servers (resolvectl(1)).
  return run(words, "") && (!for_all || run({"resolvectl", "domain", device, "~."}, ""));
}

bool unset_dns(DnsTool tool, const std::string& device) {
  if (tool == DnsTool::resolvconf) return run({"resolvconf", "-d", device}, "");
  return run({"resolvectl", "revert", device}, "");
}

}  // namespace adit::client
