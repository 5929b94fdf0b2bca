// One mistake in a configuration, at its place in the file. The loaders gather every mistake of a
// run in a vector, so that an operator mends them all at once instead of one a start.
#pragma once

#include <string>

namespace adit::config {

struct Error {
  std::string file;
  int line = 1;      // 1-based, as editors count
  int column = 1;    // 1-based
  std::string path;  // the key, such as "subscribers[2].public_key"
  std::string message;

  // "file:line:column: path: message", the form that editors and terminals make a link of.
  std::string to_string() const {
    return file + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + path + ": " +
           message;
  }
};

}  // namespace adit::config
