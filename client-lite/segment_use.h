// Whether datagrams are given to the kernel in one message, which it cuts (UDP_SEGMENT). What it
// answers where it cannot: EIO where it never will, since the way computes no checksums; EINVAL or
// EMSGSIZE where the link is too narrow for the segments, which would have to be fragmented. That
// may be over any moment.
//
// Owner: UdpSocket.
#pragma once

#include <algorithm>
#include <cerrno>

namespace adit::client {

class SegmentUse {
 public:
  // How many datagrams go one by one before segments are tried again on a link that was too narrow
  // for them. A try in vain costs what the kernel had taken in of that message; what is missed when
  // the link is wide again is over in a twentieth of a second at a gigabit a second.
  static constexpr unsigned kSinglesAfterRefusal = 4096;

  // The kernel has it, as far as is known.
  void set_possible(bool possible) { is_possible_ = possible; }
  bool is_possible() const { return is_possible_; }
  bool is_due() const { return is_possible_ && singles_ == 0; }

  // A message of several datagrams was refused. True if they may be taken one by one.
  bool on_refused(int error) {
    if (error != EIO && error != EINVAL && error != EMSGSIZE) return false;
    is_possible_ = error != EIO;
    singles_ = kSinglesAfterRefusal;
    return true;
  }
  void on_sent(unsigned datagrams) { singles_ -= std::min(singles_, datagrams); }

 private:
  bool is_possible_ = false;
  unsigned singles_ = 0;  // that are to go one by one
};

}  // namespace adit::client
