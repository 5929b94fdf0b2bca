#include "client-lite/control_socket.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

constexpr size_t kRequestBytesMax = 64;
constexpr time_t kAnswerWaitS = 2;

bool to_address(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  path.copy(address.sun_path, path.size());
  return true;
}

}  // namespace

ControlSocket::~ControlSocket() {
  if (listener_.is_open()) unlink(path_.c_str());
}

bool ControlSocket::open(const std::string& path, int epoll, uint64_t tag,
                         std::string& refusal) {
  epoll_ = epoll;
  tag_ = tag;
  path_ = path;
  sockaddr_un address;
  FileDescriptor listener(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  bool ready = listener.is_open() && to_address(path, address);
  if (ready) {
    // One left by a killed run: the undo journal's lock says that nobody uses it.
    unlink(path.c_str());
    const mode_t before = umask(0177);
    ready = bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
            listen(listener.get(), kConnectionsMax) == 0;
    umask(before);
  }
  if (!ready || !watch(listener.get())) {
    refusal = path + ": " + std::strerror(errno);
    return false;
  }
  listener_ = std::move(listener);
  return true;
}

bool ControlSocket::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag_;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void ControlSocket::accept_one() {
  FileDescriptor connection(
      accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!connection.is_open() || !watch(connection.get())) return;
  connections_[next_] = std::move(connection);
  next_ = (next_ + 1) % kConnectionsMax;
}

void ControlSocket::on_readable(const Answer& answer) {
  accept_one();
  for (FileDescriptor& connection : connections_) {
    if (!connection.is_open()) continue;
    char request[kRequestBytesMax];
    const ssize_t got = recv(connection.get(), request, sizeof request, 0);
    if (got < 0 && errno == EAGAIN) continue;
    if (got > 0) {
      const std::string_view line(request, static_cast<size_t>(got));
      const std::string text = answer(std::string(line.substr(0, line.find('\n'))));
      // A few kilobytes: they fit the socket's buffer, or the asker does without the rest.
      send(connection.get(), text.data(), text.size(), MSG_NOSIGNAL);
    }
    connection.reset();
  }
}

std::optional<std::string> ask_control_socket(const std::string& path,
                                              const std::string& request) {
  sockaddr_un address;
  const FileDescriptor connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval wait{kAnswerWaitS, 0};
  setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  const std::string line = request + "\n";
  if (!connection.is_open() || !to_address(path, address) ||
      connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      send(connection.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) {
    return std::nullopt;
  }
  std::string answer;
  char part[4096];
  ssize_t got;
  while ((got = recv(connection.get(), part, sizeof part, 0)) > 0) {
    answer.append(part, static_cast<size_t>(got));
  }
  if (got < 0 || answer.empty()) return std::nullopt;
  return answer;
}

}  // namespace adit::client
