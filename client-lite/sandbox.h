// The system calls that a running client makes, as a filter of the kernel's (seccomp): whatever
// else somebody who has got into this process might want is refused with EPERM, and what no honest
// mistake would call (starting a program, looking into others, changing what is mounted) ends it.
#pragma once

#include <string>

namespace adit::client {

// For this thread and all that it makes from now on; there is no way back. False: `refusal` says
// why.
bool enter_sandbox(std::string& refusal);

}  // namespace adit::client
