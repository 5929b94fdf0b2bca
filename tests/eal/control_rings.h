// A worker's rings with a control thread that a test has of its own, as WorkerParts has them.
#pragma once

#include <string>

#include "gateway/control.h"

namespace adit::gateway::test {

inline constexpr unsigned kRigReplies = 256;

struct ControlRings {
  explicit ControlRings(unsigned worker)
      : to_worker(name("test-to-worker", worker).c_str(), 1024),
        replies(name("test-replies", worker).c_str(), kRigReplies),
        to_control(name("test-to-control", worker).c_str(), 256),
        handshakes(name("test-handshakes", worker).c_str(), 256) {}

  Control::Link link() { return {&to_worker, &replies, &to_control, &handshakes}; }

  Channel<ToWorker> to_worker;
  Channel<Reply> replies;
  Channel<ToControl> to_control;
  Channel<ToControl> handshakes;

 private:
  static std::string name(const char* what, unsigned worker) {
    return what + std::to_string(worker);
  }
};

}  // namespace adit::gateway::test
