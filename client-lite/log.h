// The client's log: one line an event on standard error, where systemd and a terminal both find
// it. Never called for a single packet: packets have counters. And never waited for: where nobody
// reads, lines are lost, and counted.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "lib/config/values.h"

namespace adit::client {

class Log {
 public:
  explicit Log(config::LogLevel level) : level_(level) {}

  [[gnu::format(printf, 2, 3)]] void error(const char* format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    write(config::LogLevel::kError, "error", format, arguments);
    va_end(arguments);
  }
  [[gnu::format(printf, 2, 3)]] void warning(const char* format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    write(config::LogLevel::kWarning, "warning", format, arguments);
    va_end(arguments);
  }
  [[gnu::format(printf, 2, 3)]] void info(const char* format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    write(config::LogLevel::kInfo, "info", format, arguments);
    va_end(arguments);
  }
  [[gnu::format(printf, 2, 3)]] void debug(const char* format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    write(config::LogLevel::kDebug, "debug", format, arguments);
    va_end(arguments);
  }

  // Lines of their own, each with its end, whatever the level.
  void text(std::string_view lines) const {
    while (!lines.empty()) {
      const std::string_view line = lines.substr(0, lines.find('\n') + 1);
      if (has_room()) std::fwrite(line.data(), 1, line.size(), stderr);
      lines.remove_prefix(std::max<size_t>(line.size(), 1));
    }
  }

 private:
  [[gnu::format(printf, 4, 0)]] void write(config::LogLevel level, const char* name,
                                           const char* format, va_list arguments) const {
    if (level < level_) return;
    // One call a line, so that lines of two programs on one terminal do not mix.
    char line[512];
    std::vsnprintf(line, sizeof line, format, arguments);
    if (!has_room()) return;
    if (lost_ != 0) {
      std::fprintf(stderr, "adit-client: warning: %u lines of the log are lost\n", lost_);
      lost_ = 0;
    }
    std::fprintf(stderr, "adit-client: %s: %s\n", name, line);
  }
  // For a page, on a pipe.
  bool has_room() const {
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (poll(&room, 1, 0) != 0) return true;
    ++lost_;
    return false;
  }

  config::LogLevel level_;
  mutable unsigned lost_ = 0;
};

}  // namespace adit::client
