// A child of this process, made by fork(): it does one thing for its parent, with rights that the
// parent gives up. They talk by a socket that keeps messages apart; when the parent is gone, the
// child ends.
//
// Owner: HostRights and DnsTeller, one each.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "client-lite/file_descriptor.h"
#include "client-lite/sandbox.h"

namespace adit::client {

class HelperProcess {
 public:
  HelperProcess() = default;
  ~HelperProcess();
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  // `serve` has the child's end of the socket and returns when there is nobody at the other. The
  // child has no other descriptor but the standard ones, and this name; other processes of its user
  // cannot look into it. Before there are threads, and with the standard descriptors open. False:
  // errno says why.
  bool open(const char* name, const std::function<void(int socket)>& serve);
  bool was_opened() const { return child_ != 0; }

  // For `serve`, first of all: keeps of its rights these, and of the system calls the filter's. False:
  // it keeps others, and must not go on. The log says what cannot be had.
  static bool give_up_all_but(uint32_t rights, Sandbox sandbox, const char* name);

  // Of the parent's end, which can be read when there is an answer, or the child is gone. -1
  // without a child, and when it is gone.
  int fd() const { return socket_.get(); }
  // It has ended, or is to when it can: takes its exit status, which nobody else will. Waits a
  // second at most, for it may have been stopped.
  void bury();

 private:
  FileDescriptor socket_;
  pid_t child_ = 0;
};

}  // namespace adit::client
