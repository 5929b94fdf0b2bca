#include "client-lite/privileges.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

struct Capabilities {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
};

}  // namespace

bool has_net_admin() {
  Capabilities own;
  if (syscall(SYS_capget, &own.header, own.sets) != 0) return false;
  return (own.sets[0].effective & kNetAdmin) != 0;
}

bool drop_privileges(uint32_t kept, std::string& refusal) {
  Capabilities own;
  bool done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
              syscall(SYS_capget, &own.header, own.sets) == 0;
  // Only who has CAP_SETPCAP can narrow the bounding set; who has it not gains nothing from it,
  // since no_new_privs keeps any program from giving rights.
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (capability < 32 && (kept >> capability & 1) != 0) continue;
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  kept &= own.sets[0].permitted;
  own.sets[0] = {kept, kept, 0};
  own.sets[1] = {};
  done = done && syscall(SYS_capset, &own.header, own.sets) == 0;
  if (!done) refusal = std::string("privileges cannot be given up: ") + std::strerror(errno);
  return done;
}

}  // namespace adit::client
