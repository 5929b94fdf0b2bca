#include "lib/config/values.h"

namespace adit::config {

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "?";
}

std::string Ipv4Range::to_string() const {
  return first == last ? first.to_string() : first.to_string() + "-" + last.to_string();
}

std::string PortRange::to_string() const {
  const std::string text = std::to_string(first);
  return first == last ? text : text + "-" + std::to_string(last);
}

}  // namespace adit::config
