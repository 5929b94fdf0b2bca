#include "client-lite/dns_teller.h"

#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <type_traits>

#include "client-lite/privileges.h"

namespace adit::client {
namespace {

// A request has two programs at the most, each of which has two seconds.
constexpr timeval kAnswerWait{5, 0};

// What the client says: a request, or once what its device is.
struct Message {
  DnsRequest request;
  uint32_t confined_to = 0;
};
static_assert(std::is_trivially_copyable_v<Message>);

bool run_here(const DnsRequest& request) {
  const std::vector<ToolCommand> commands = commands_of(request);
  return std::all_of(commands.begin(), commands.end(), run_tool);
}

// The child.
class Server {
 public:
  bool answer(const Message& message) {
    if (message.confined_to != 0) {
      if (device_ == 0) device_ = message.confined_to;
      return true;
    }
    return message.request.is_sound() && allows(message.request) && run_here(message.request);
  }

 private:
  // A device may be renamed: what it was called before is taken back, too.
  bool allows(const DnsRequest& request) {
    if (device_ == 0) return true;
    if (told_.contains(request.device)) return true;
    if (request.server_count == 0 || if_nametoindex(request.device.data()) != device_) return false;
    told_.insert(request.device);
    return true;
  }

  uint32_t device_ = 0;
  std::set<std::array<char, IF_NAMESIZE>> told_;
};

void serve(int parent) {
  Server server;
  Message message;
  for (;;) {
    const ssize_t got = recv(parent, &message, sizeof message, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof message)) return;
    const char done = server.answer(message) ? 1 : 0;
    if (send(parent, &done, sizeof done, MSG_NOSIGNAL) != sizeof done) return;
  }
}

}  // namespace

bool DnsTeller::open(bool sandbox) {
  constexpr const char* kName = "adit-tools";
  const bool is_open = child_.open(kName, [sandbox](int parent) {
    if (sandbox && !HelperProcess::give_up_all_but(kScriptRights, Sandbox::scripts, kName)) return;
    serve(parent);
  });
  if (is_open) setsockopt(child_.fd(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerWait, sizeof kAnswerWait);
  return is_open;
}

void DnsTeller::confine(uint32_t interface_index) {
  const Message message{{}, interface_index};
  if (child_.fd() < 0 || send(child_.fd(), &message, sizeof message, MSG_NOSIGNAL) < 0) return;
  receive(0);
}

bool DnsTeller::start(const DnsRequest& request) {
  const Message message{request, 0};
  is_busy_ = child_.fd() >= 0 &&
             send(child_.fd(), &message, sizeof message, MSG_NOSIGNAL) == sizeof message;
  return is_busy_;
}

std::optional<bool> DnsTeller::take_result() { return receive(MSG_DONTWAIT); }

bool DnsTeller::run(const DnsRequest& request) {
  if (!child_.was_opened()) return request.is_sound() && run_here(request);
  if (is_busy_) receive(0);
  return start(request) && receive(0) == true;
}

std::optional<bool> DnsTeller::receive(int flags) {
  char done = 0;
  ssize_t got;
  do {
    got = recv(child_.fd(), &done, sizeof done, flags);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN && (flags & MSG_DONTWAIT) != 0) return std::nullopt;
  // It is gone, or was stopped.
  if (got != 1) child_.bury();
  is_busy_ = false;
  return got == 1 && done == 1;
}

}  // namespace adit::client
