// Runs another program and waits for its end.
//
// Owner: DnsTeller.
#pragma once

#include <string>
#include <vector>

namespace adit::client {

struct ToolCommand {
  std::vector<std::string> words;  // a program, found in PATH, and its arguments
  std::string input;               // on its standard input
};

// Whether it ended well. It is killed, with what it has started, if it takes longer than two
// seconds, which is not well.
bool run_tool(ToolCommand command);

}  // namespace adit::client
