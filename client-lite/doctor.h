// `adit-client doctor`: looks at everything that has to be right for a tunnel, and says of each
// whether it is and what to do about it. It changes nothing but the last time stamp sent.
//
//     ok    clock      2026-11-24 12:00:00 UTC
//     FAIL  gateway    30.1.1.10:8000 does not know our key
//                      → ask its operator to add this public key: ...
//
// Owner: main.
#pragma once

#include <string>

#include "client-lite/config.h"

namespace adit::client {

// Prints a verdict a line; whether nothing has failed.
bool examine(const Config& config);

}  // namespace adit::client
