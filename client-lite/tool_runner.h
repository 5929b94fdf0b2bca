// Runs other programs (resolvectl, resolvconf) for a process that may not: a child made at the
// start, which keeps the rights that it was started with and does nothing but this. It ends with
// its parent.
//
// Owner: HostDns.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client-lite/file_descriptor.h"

namespace adit::client {

struct ToolCommand {
  std::vector<std::string> words;  // a program, found in PATH, and its arguments
  std::string input;               // on its standard input
};

class ToolRunner {
 public:
  // Makes the child. Before threads, and before any descriptor that it should not have. False:
  // errno says why.
  bool open();

  // Starts a program. One at a time: the last one's result was taken. False: the child is not
  // there, or the command is longer than 4 KiB.
  bool start(const ToolCommand& command);
  // Readable when the program has ended, or the child; -1 without one.
  int fd() const { return child_.get(); }
  // Whether it ended well; nothing: it is still at it. It is killed if it takes longer than two
  // seconds, which is not well.
  std::optional<bool> take_result();

  // Runs a program and waits for its end, and before for that of one started. Without the child
  // it does the work itself.
  bool run(const ToolCommand& command);

 private:
  std::optional<bool> receive(int flags);

  FileDescriptor child_;
  bool has_opened_ = false;  // this process may start no program any more
  bool is_running_ = false;
};

}  // namespace adit::client
