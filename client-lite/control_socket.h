// The Unix socket that `adit-client status` and `down` ask. A request is one line, the answer is
// everything until the end of the stream:
//
//     status        the text for people
//     status json   the JSON object
//     end           "ending"; the socket's file is gone when all is undone
//
// The socket has a path, so it is reached from any network namespace; only its owner may connect.
// A few connections at a time, each for one request: whoever stays silent is put out by the next.
//
// Owner: Client. ask_control_socket() is the other end.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "client-lite/file_descriptor.h"

namespace adit::client {

class ControlSocket {
 public:
  ControlSocket() = default;
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ~ControlSocket();

  // `epoll` gets the descriptors, each with `tag` as its word. False: `refusal` says why.
  bool open(const std::string& path, int epoll, uint64_t tag, std::string& refusal);

  // Something is readable. `answer` makes the answer to a request.
  using Answer = std::function<std::string(const std::string& request)>;
  void on_readable(const Answer& answer);

 private:
  static constexpr unsigned kConnectionsMax = 4;

  void accept_one();
  bool watch(int fd);

  FileDescriptor listener_;
  std::array<FileDescriptor, kConnectionsMax> connections_;
  unsigned next_ = 0;
  std::string path_;
  int epoll_ = -1;
  uint64_t tag_ = 0;
};

// What the client at `path` answers to `request`; nullopt when none is there.
std::optional<std::string> ask_control_socket(const std::string& path,
                                              const std::string& request);

}  // namespace adit::client
