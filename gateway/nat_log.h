// What an operator must be able to tell later: who had which external ports when, and who met a
// limit (RFC 6888 REQ-11 to REQ-14). One line a block and not one a mapping, and no line names a
// remote.
//
//   block 30.1.1.10:1024-1087 granted to pc
//   block 30.1.1.10:1024-1087 returned by pc
//   pc met its mapping_limit, packets refused since last told: 17
//
// The worker finds these out and hands them over as items (messages.h); it also sees to it that a
// limit is told once a window. The time stands in front, as in every line of the log.
//
// Owner: the control thread.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gateway/config.h"
#include "gateway/messages.h"

namespace adit::gateway {

class NatLog {
 public:
  enum class Level : uint8_t { info, warning };
  using Write = std::function<void(Level level, const std::string& line)>;

  // `names[i]` is subscriber i's.
  NatLog(std::vector<std::string> names, Write write);

  // A block_granted, block_returned or limit_met item.
  void on_item(const ToControl& item);

 private:
  const std::string& name_of(uint32_t subscriber) const;

  const std::vector<std::string> names_;
  const Write write_;
  // Whose the granted blocks are: the worker forgets it when a tunnel ends, and its blocks return
  // later. As many entries as there are blocks, at most.
  std::map<Endpoint, uint32_t> owners_;
};

// To the file that the configuration names, else to the log. Throws when the file cannot be opened.
NatLog::Write nat_log_writer(const NatLogConfig& config);

}  // namespace adit::gateway
