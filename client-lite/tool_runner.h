// Runs other programs (resolvectl, resolvconf) for a process that may not: a child made at the
// start, which keeps the rights that it was started with and does nothing but this. It ends with
// its parent.
//
// Owner: HostNetwork.
#pragma once

#include <string>
#include <vector>

#include "client-lite/file_descriptor.h"

namespace adit::client {

class ToolRunner {
 public:
  // Makes the child. Before threads, and before any descriptor that it should not have. Without it
  // run() does the work itself. False: errno says why.
  bool open();

  // Runs a program, found in PATH, with `input` on its standard input; whether it ended well. Kills
  // it if it takes longer than half a second.
  bool run(const std::vector<std::string>& words, const std::string& input) const;

 private:
  FileDescriptor child_;
};

}  // namespace adit::client
