#include "client-lite/path_mtu.h"

#include <algorithm>

namespace adit::client {

void PathMtu::start(uint64_t now_ns, uint16_t largest_bytes) {
  largest_ = std::max(largest_bytes, kLeastBytes);
  bytes_ = std::min(bytes_, largest_);
  carried_ = kLeastBytes;
  refused_ = static_cast<uint16_t>(std::min<unsigned>(largest_ + 1u, UINT16_MAX));
  probe_for(largest_, now_ns);
}

void PathMtu::stop() { *this = PathMtu{}; }

void PathMtu::probe_for(uint16_t bytes, uint64_t now_ns) {
  candidate_ = bytes;
  confirming_ = false;
  tries_ = 0;
  due_ns_ = now_ns;
}

std::optional<PathMtu::Probe> PathMtu::tick(uint64_t now_ns, uint64_t wait_ns, uint64_t stamp) {
  if (now_ns < due_ns_) return std::nullopt;
  if (candidate_ == 0 && has_traffic_) {
    probe_for(bytes_, now_ns);
    confirming_ = true;
  } else if (candidate_ == 0) {  // time to see whether a larger one is carried by now
    refused_ = static_cast<uint16_t>(std::min<unsigned>(largest_ + 1u, UINT16_MAX));
    probe_for(largest_, now_ns);
  }
  if (tries_ == kTriesMax) {
    on_too_large(now_ns);
    if (candidate_ == 0) return std::nullopt;
  }
  if (tries_++ == 0) stamp_ = stamp;
  due_ns_ = now_ns + wait_ns;
  return Probe{candidate_, stamp_};
}

bool PathMtu::on_reply(uint64_t stamp, uint64_t now_ns) {
  if (candidate_ == 0 || stamp != stamp_ || stamp == 0) return false;
  stamp_ = 0;
  confirmed_ns_ = now_ns;
  carried_ = std::max(carried_, candidate_);
  if (!confirming_) bytes_ = carried_;
  go_on(now_ns);
  return true;
}

void PathMtu::on_refused(uint64_t now_ns) {
  if (candidate_ != 0) on_too_large(now_ns);
}

void PathMtu::on_traffic(uint64_t now_ns) {
  if (candidate_ != 0 || has_traffic_ || largest_ == 0) return;
  has_traffic_ = true;
  due_ns_ = std::min(due_ns_, std::max(now_ns, confirmed_ns_ + kConfirmNs));
}

void PathMtu::on_too_large(uint64_t now_ns) {
  refused_ = candidate_;
  if (bytes_ >= refused_) {
    // What was in use is not carried, or not known to be: the base is assumed until it is tried.
    carried_ = kLeastBytes;
    bytes_ = std::min(kBaseBytes, static_cast<uint16_t>(refused_ - 1));
  }
  go_on(now_ns);
}

// The next size to try, or the end of the search.
void PathMtu::go_on(uint64_t now_ns) {
  const bool was_search = !confirming_;
  confirming_ = false;
  has_traffic_ = false;
  if (carried_ + kNearBytes >= refused_) {
    bytes_ = carried_;
    candidate_ = 0;
    confirmed_ns_ = now_ns;
    if (was_search) raise_ns_ = bytes_ < largest_ ? now_ns + kRaiseNs : kNever;
    due_ns_ = raise_ns_;
    return;
  }
  if (carried_ < kBaseBytes && kBaseBytes < refused_) return probe_for(kBaseBytes, now_ns);
  probe_for(static_cast<uint16_t>(carried_ + (refused_ - carried_) / 2), now_ns);
}

}  // namespace adit::client
