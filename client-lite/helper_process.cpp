#include "client-lite/helper_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "client-lite/log.h"
#include "client-lite/privileges.h"

namespace adit::client {
namespace {

constexpr int kChildsEnd = 3;
// On kernels that cannot close a range. A parent that has just begun has a handful open.
constexpr int kDescriptorsMax = 256;
// A child that hears of its end needs far less than one.
constexpr useconds_t kBuryIntervalUs = 1000;
constexpr unsigned kBuryTries = 1000;

void close_all_above(int last) {
  if (close_range(static_cast<unsigned>(last) + 1, ~0U, 0) == 0) return;
  for (int fd = last + 1; fd < kDescriptorsMax; ++fd) close(fd);
}

}  // namespace

bool HelperProcess::open(const char* name, const std::function<void(int socket)>& serve) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    ours.reset();
    prctl(PR_SET_NAME, name, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (theirs.get() != kChildsEnd && dup3(theirs.get(), kChildsEnd, O_CLOEXEC) < 0) _exit(1);
    close_all_above(kChildsEnd);
    serve(kChildsEnd);
    _exit(0);
  }
  child_ = child;
  socket_ = std::move(ours);
  return true;
}

// A kernel without seccomp is no reason to be without a tunnel.
bool HelperProcess::give_up_all_but(uint32_t rights, Sandbox sandbox, const char* name) {
  const Log log(config::LogLevel::kWarning);
  std::string refusal;
  if (!drop_privileges(rights, refusal)) {
    log.error("%s: %s", name, refusal.c_str());
    return false;
  }
  if (!enter_sandbox(sandbox, refusal)) log.warning("%s: %s", name, refusal.c_str());
  return true;
}

HelperProcess::~HelperProcess() {
  if (socket_.is_open()) bury();
}

void HelperProcess::bury() {
  socket_.reset();
  for (unsigned i = 0; i < kBuryTries && waitpid(child_, nullptr, WNOHANG) == 0; ++i) {
    usleep(kBuryIntervalUs);
  }
}

}  // namespace adit::client
