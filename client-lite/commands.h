// What adit-client does besides running: each command takes a moment and ends.
//
// Owner: main.
#pragma once

#include <optional>

#include "client-lite/config.h"
#include "client-lite/options.h"

namespace adit::client {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitMistake = 2;

// The configuration that a file or the flags say. Every mistake has been told when there is none.
std::optional<Config> read_config(const Options& options);

// Any command but `run`; returns the exit status.
int run_small_command(const Options& options);

}  // namespace adit::client
