// The time stamp of the last handshake that was sent, by whichever lane: no later one may be below
// it, and it is on disk before it is on the wire. Should the machine die in between, the next run
// skips it instead of repeating it.
//
// Owner: Client.
#pragma once

#include <algorithm>

#include "client-lite/log.h"
#include "client-lite/state_files.h"
#include "lib/tunnel/noise.h"

namespace adit::client {

class SentStamps {
 public:
  SentStamps(const StateFiles& files, const Log& log) : files_(files), log_(log) {
    if (const auto stamp = files.read_stamp()) last_ = *stamp;
  }

  const tunnel::Tai64n& last() const { return last_; }
  // Of a message that is about to be sent.
  void keep(const tunnel::Tai64n& stamp) {
    last_ = std::max(last_, stamp);
    const bool written = files_.write_stamp(last_);
    if (!written && !write_failed_) {
      log_.warning(
          "cannot keep the last time stamp in %s: should this machine's clock go back, "
          "the gateway will not listen until it has caught up",
          files_.directory().c_str());
    }
    write_failed_ = !written;
  }

 private:
  const StateFiles& files_;
  const Log& log_;
  tunnel::Tai64n last_{};
  bool write_failed_ = false;
};

}  // namespace adit::client
