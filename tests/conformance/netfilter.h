// Linux netfilter in the gateway's place: an independent translator that the same rows are sent to.
//
//   subscribers 192.168.1.10.. ── TUN "inside" ── the kernel ── TUN "outside" ── the Internet
//                               192.168.1.1     masquerade      30.1.1.10
//
// Time is the machine's own, and settings are what a router with `masquerade` has; there are no
// tunnels. So not every test can be sent: see Lab::ours_only().
#pragma once

#include <vector>

#include "tests/conformance/hop.h"

namespace adit::gateway::test {

class Netfilter {
 public:
  // Moves this thread into a network namespace of its own, which ends with the devices in it when
  // the thread moves on to another or ends. As root; throws std::runtime_error.
  explicit Netfilter(unsigned outside_mtu_bytes);
  ~Netfilter();
  Netfilter(const Netfilter&) = delete;
  Netfilter& operator=(const Netfilter&) = delete;

  void give_in(const Hop& in);
  // All that came out since the last call, once it is quiet.
  std::vector<Hop> come_out();

  bool was_used() const { return was_used_; }

 private:

  int inside_ = -1;
  int outside_ = -1;
  bool was_used_ = false;
};

}  // namespace adit::gateway::test
