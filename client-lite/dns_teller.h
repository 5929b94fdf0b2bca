// Runs the programs that tell the host's resolver (dns.h) for a client that may run none: a child,
// `adit-tools`, made at the start, which keeps of the rights that it was started with those that
// such scripts need, and does nothing but this.
//
// Owner: HostDns.
#pragma once

#include <optional>

#include "client-lite/dns.h"
#include "client-lite/helper_process.h"

namespace adit::client {

class DnsTeller {
 public:
  // Makes the child. Before threads. `sandbox` false: it keeps every right. False: errno says why.
  bool open(bool sandbox);

  // Begins a request. One at a time: the last one's result was taken. False: the child is not
  // there.
  bool start(const DnsRequest& request);
  // Readable when it is done, or the child is gone; -1 without one.
  int fd() const { return child_.fd(); }
  // Whether every program ended well; nothing: it is still at it.
  std::optional<bool> take_result();

  // Has it done and waits for its end, and before for that of one begun. Without the child it does
  // the work itself.
  bool run(const DnsRequest& request);

 private:
  std::optional<bool> receive(int flags);

  HelperProcess child_;
  bool is_busy_ = false;
};

}  // namespace adit::client
