// Makes a short episode of one that fails: as few steps as still fail, as plain as they may be, in
// as small a crowd.
#pragma once

#include <chrono>

#include "tests/conformance/model_steps.h"

namespace adit::gateway::test {

struct Shrunk {
  Episode episode;
  bool is_done = false;  // false: the time ran out first
};
// `episode` must fail.
Shrunk shrink(const Episode& episode, std::chrono::seconds limit);

}  // namespace adit::gateway::test
