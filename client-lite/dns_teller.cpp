#include "client-lite/dns_teller.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <type_traits>

#include "client-lite/privileges.h"
#include "client-lite/sandbox.h"

namespace adit::client {
namespace {

bool run_here(const DnsRequest& request) {
  if (!request.is_sound()) return false;
  const std::vector<ToolCommand> commands = commands_of(request);
  return std::all_of(commands.begin(), commands.end(), run_tool);
}

// The child.
void serve(int parent) {
  static_assert(std::is_trivially_copyable_v<DnsRequest>);
  DnsRequest request;
  for (;;) {
    const ssize_t got = recv(parent, &request, sizeof request, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof request)) return;
    const char done = run_here(request) ? 1 : 0;
    if (send(parent, &done, sizeof done, MSG_NOSIGNAL) != sizeof done) return;
  }
}

}  // namespace

bool DnsTeller::open(bool sandbox) {
  return child_.open("adit-tools", [sandbox](int parent) {
    std::string refusal;
    if (sandbox && !drop_privileges(kScriptRights, refusal)) return;
    // A kernel without seccomp is no reason to be without names.
    if (sandbox) enter_sandbox(Sandbox::scripts, refusal);
    serve(parent);
  });
}

bool DnsTeller::start(const DnsRequest& request) {
  is_busy_ = child_.fd() >= 0 &&
             send(child_.fd(), &request, sizeof request, MSG_NOSIGNAL) == sizeof request;
  return is_busy_;
}

std::optional<bool> DnsTeller::take_result() { return receive(MSG_DONTWAIT); }

bool DnsTeller::run(const DnsRequest& request) {
  if (!child_.was_opened()) return run_here(request);
  if (is_busy_) receive(0);
  return start(request) && receive(0) == true;
}

std::optional<bool> DnsTeller::receive(int flags) {
  char done = 0;
  ssize_t got;
  do {
    got = recv(child_.fd(), &done, sizeof done, flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::nullopt;
  if (got != 1) child_.bury();  // it is gone
  is_busy_ = false;
  return got == 1 && done == 1;
}

}  // namespace adit::client
