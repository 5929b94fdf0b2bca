// Runs the programs that tell the host's resolver (dns.h) for a client that may run none: a child,
// `adit-tools`, made at the start, which keeps of the rights that it was started with those that
// such scripts need, and does nothing but this. From confine() on it tells of no device but the
// client's, and takes back only what it has told.
//
// Owner: HostDns.
#pragma once

#include <cstdint>
#include <optional>

#include "client-lite/dns.h"
#include "client-lite/helper_process.h"

namespace adit::client {

class DnsTeller {
 public:
  // Makes the child. Before threads. `sandbox` false: it keeps every right. False: errno says why.
  bool open(bool sandbox);

  // `interface_index`: of the client's device. Before the first request, but for those that take
  // back what an earlier run left.
  void confine(uint32_t interface_index);

  // Begins a request. One at a time: the last one's result was taken. False: the child is not
  // there.
  bool start(const DnsRequest& request);
  // Readable when it is done, or the child is gone; -1 without one.
  int fd() const { return child_.fd(); }
  // Whether every program ended well; nothing: it is still at it.
  std::optional<bool> take_result();

  // Has it done and waits for its end, and before for that of one begun: for as long as all its
  // programs may take, and no longer. Without the child it does the work itself.
  bool run(const DnsRequest& request);
  // The child was there, and is no longer.
  bool is_lost() const { return child_.was_opened() && child_.fd() < 0; }

 private:
  std::optional<bool> receive(int flags);

  HelperProcess child_;
  bool is_busy_ = false;
};

}  // namespace adit::client
