// The one outer socket. It is not connected: a gateway is told by its source address, so that an
// ICMP error or a change of gateway never takes the socket, and its NAT binding, away.
//
// Packets move in batches: one system call for many. Where the kernel can, equally long datagrams
// one after another travel through it as one (UDP_SEGMENT, UDP_GRO), on the wire they are the
// same. What it refuses goes one by one (segment_use.h).
#pragma once

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "client-lite/file_descriptor.h"
#include "client-lite/host_rights.h"
#include "client-lite/segment_use.h"
#include "lib/net/address.h"

namespace adit::client {

inline constexpr unsigned kSendBatch = 64;     // datagrams
inline constexpr unsigned kReceiveBatch = 32;  // arrivals

// Room for what arrives at once: a datagram, or many equally long ones from the same source.
struct ArrivalBuffer {
  // Not a multiple of the page: otherwise the same few sets of the cache hold all that matters.
  static constexpr size_t kBytes = 65536 + 37 * 64;
  alignas(64) std::array<uint8_t, kBytes> bytes;
};

struct Arrival {
  std::span<uint8_t> bytes;  // empty if it was too long for its buffer
  size_t datagram_bytes = 0;  // of each datagram in it, but the last
  Endpoint source;
};

class UdpSocket {
 public:
  // `port` 0: the kernel chooses. False: `refusal` says why.
  bool open(uint16_t port, HostRights& rights, std::string& refusal);

  // From now on each datagram goes to and comes from the kernel by itself.
  void forgo_segments();
  // Another socket with another source port, and so another binding in every NAT on the way. False:
  // there is none to be had, and the old one stays.
  bool rebind(HostRights& rights);
  // The same socket for another thread: what one learns of the kernel, the other learns by itself.
  // It takes no descriptor more, and is closed when nobody has it any longer.
  UdpSocket share() const { return *this; }

  int fd() const { return socket_ ? socket_->get() : -1; }
  uint16_t local_port() const;

  // What the kernel can do, as far as is known.
  bool sends_segments() const { return segments_.is_possible(); }
  bool receives_segments() const { return receives_segments_; }

  // Fills `arrivals` from `buffers`, one each; returns how many came, 0 when none waits.
  unsigned receive(std::span<ArrivalBuffer, kReceiveBatch> buffers,
                   std::span<Arrival, kReceiveBatch> arrivals);
  // Sends up to kSendBatch datagrams; returns how many the kernel took. The rest are lost, as any
  // datagram may be.
  unsigned send(std::span<const std::span<const uint8_t>> datagrams, const Endpoint& destination);
  // Sends one datagram, from the same port, that must not be cut on its way (DF).
  enum class Whole : uint8_t {
    sent,
    too_large,  // for the link, or any link
    lost,       // for another reason of the kernel's, which says nothing of its size
  };
  Whole send_whole(std::span<const uint8_t> datagram, const Endpoint& destination,
                   HostRights& rights);

 private:
  struct Messages;
  Whole send_whole_alone(std::span<const uint8_t> datagram, const Endpoint& destination) const;
  bool share_port(int other) const;
  void gather(std::span<const std::span<const uint8_t>> datagrams, sockaddr_in& address,
              Messages& out) const;

  std::shared_ptr<const FileDescriptor> socket_;
  SegmentUse segments_;
  bool receives_segments_ = false;
};

// Gives `take(datagram, source)` each datagram of these arrivals.
template <typename Take>
void for_each_datagram(std::span<const Arrival> arrivals, const Take& take) {
  for (const Arrival& arrival : arrivals) {
    std::span<uint8_t> left = arrival.bytes;
    do {
      const auto datagram = left.first(std::min(left.size(), arrival.datagram_bytes));
      take(datagram, arrival.source);
      left = left.subspan(datagram.size());
    } while (!left.empty());
  }
}

}  // namespace adit::client
