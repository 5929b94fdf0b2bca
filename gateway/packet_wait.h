// How a worker with nothing to do sleeps where a packet can wake it: on the sockets by which
// drivers that stand on an interface of the kernel's receive. The drivers do not say which these
// are, so they are looked for among the process's descriptors.
#pragma once

#include <poll.h>

#include <cstdint>
#include <vector>

namespace adit::gateway {

// Of net_af_packet: packet sockets bound to `interface`, in the order of queues.
std::vector<int> packet_sockets(unsigned interface);
// Of net_af_xdp, which opens them as queues are set up: compare before and after.
std::vector<int> xdp_sockets();

class PacketWait {
 public:
  // Without sockets it is a sleep.
  explicit PacketWait(const std::vector<int>& sockets);

  // Returns after `time_ns`, less than a second, or as soon as something can be received. A socket
  // in error (its interface is down) wakes nobody; nor does one whose packet the driver did not
  // take when it woke us the last time (no buffer is free for it), before this wait is over.
  void wait(uint64_t time_ns);
  // Something has been received, or another message taken, since the last wait.
  void was_busy() { was_woken_ = false; }

 private:
  std::vector<pollfd> sockets_;
  bool was_woken_ = false;  // by a packet that has not been received yet
};

}  // namespace adit::gateway
