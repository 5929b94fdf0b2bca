// The translator's coarse clock: whole seconds, which may wrap. Each worker has its own, and two of
// them may differ by a tick: who takes over what another one has noted may find it noted ahead of
// its own time.
#pragma once

#include <cstdint>

namespace adit::nat {

// Seconds from `since_s` to `now_s`; 0 if it is still to come.
constexpr uint32_t elapsed_s(uint32_t since_s, uint32_t now_s) {
  const uint32_t elapsed = now_s - since_s;
  return static_cast<int32_t>(elapsed) < 0 ? 0 : elapsed;
}

}  // namespace adit::nat
