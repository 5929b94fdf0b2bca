// The host's network as it changes, told by rtnetlink: links, and addresses, routes and policy
// rules of IPv4, and of IPv6 the kill switch's routes. What changed is not read out of the messages: they may be many, and some lost.
// They only say that it is time to look again.
//
// Also told: that the machine slept. A timer that the kernel cancels whenever the wall clock is
// set, which it does on waking up too, makes a sleeping loop look; the distance between the clock
// that goes on in sleep and the one that does not says whether it was sleep.
//
// Owner: Client.
#pragma once

#include <cstdint>

#include "client-lite/file_descriptor.h"

namespace adit::client {

// Sleep as the distance between two clocks.
class SleepMeter {
 public:
  static constexpr uint64_t kSleepNsMin = 1'000'000'000;

  // `boot_ns` goes on in sleep, `awake_ns` does not. True if they have grown apart since last time;
  // of the first time nothing is known.
  bool slept(uint64_t boot_ns, uint64_t awake_ns) {
    const uint64_t asleep_ns = boot_ns - awake_ns;
    const bool grown = has_looked_ && asleep_ns > asleep_ns_ + kSleepNsMin;
    asleep_ns_ = asleep_ns;
    has_looked_ = true;
    return grown;
  }

 private:
  bool has_looked_ = false;
  uint64_t asleep_ns_ = 0;
};

class NetworkWatch {
 public:
  // False: errno says why.
  bool open();

  int netlink_fd() const { return netlink_.get(); }
  struct Changes {
    bool host = false;         // of something else than our TUN device
    bool device = false;       // of our TUN device, its addresses or routes, by us or others
    bool device_gone = false;  // it was deleted, or moved to another namespace
  };
  // Reads all that waits. `own_interface` is our TUN device.
  Changes read_changes(uint32_t own_interface);

  // Readable when the wall clock was set or the machine woke up: then rearm().
  int clock_fd() const { return clock_.get(); }
  void rearm();

 private:
  FileDescriptor netlink_;
  FileDescriptor clock_;
};

}  // namespace adit::client
