// Sends a port's tunnel datagrams and TCP segments by way of the kernel, where the port is a
// virtual interface of the kernel's (net_af_xdp on a veth). The driver hands the kernel one frame
// at a time, and each makes its whole way, through whatever the interface leads to, before the next
// begins. Here what a burst has of them goes with one system call, and equally long datagrams of
// one client, or consecutive segments of one connection, as one large packet, which the kernel cuts
// where the interface cannot pass it on (virtio_net_hdr). On a wire they are, bit for bit, the
// frames that were given; only IPv4 ids that stand still, which mean nothing (RFC 6864), then count
// up. Checksums of what was put together are left to the interface; of TCP they have been looked at
// before, for a wrong one must stay wrong. (Where there are several workers, one's ids of tunnel
// datagrams are not consecutive and the kernel's would be: then each goes by itself, still many
// with one call.)
//
//     burst ─► tunnel datagrams ──────────┬─► send() ─► the kernel's transmit path
//           ├► TCP segments ─► coalescer ─┘
//           └► everything else  ─► the driver
//
// Owner: Port, one for each queue; used by the worker whose queue it is. Nothing here allocates but
// open().
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "gateway/packet.h"
#include "lib/net/coalescer.h"
#include "lib/net/virtio.h"

namespace adit::gateway {

// Whether a kernel of this release ("6.1.0-18-amd64") cuts datagrams: Linux 6.2 and later.
bool cuts_datagrams(std::string_view release);

class KernelSender {
 public:
  static constexpr unsigned kFramesMax = 4 * kBurstMax;

  // Of the frames given to send(); together they are all of them.
  struct Outcome {
    unsigned sent = 0;
    unsigned lost = 0;  // the kernel had no room
    unsigned left = 0;  // not for this way
  };

  // On the interface of this index in the thread's network namespace. Null, and `refusal` says why,
  // without CAP_NET_RAW or where the kernel does not cut datagrams.
  static std::unique_ptr<KernelSender> open(unsigned interface, std::string& refusal);
  ~KernelSender();
  KernelSender(const KernelSender&) = delete;
  KernelSender& operator=(const KernelSender&) = delete;

  // Takes those of at most kFramesMax `frames` that have RTE_MBUF_F_TX_UDP_CKSUM, with the
  // pseudo-header's sum for a checksum, and whole TCP packets without a VLAN tag; sends each
  // client's and each connection's in order, and frees them. The others stay, in order, at the
  // front of `frames`.
  Outcome send(std::span<rte_mbuf*> frames);

 private:
  explicit KernelSender(int socket);
  void gather(std::span<rte_mbuf* const> frames);
  void gather_segments();
  VirtioHeader& begin_message(const VirtioHeader& header);
  void end_message(unsigned frames);
  unsigned transmit();

  const int socket_;
  Coalescer segments_;
  // What one system call sends: messages, each of a header and the parts of one packet.
  unsigned messages_count_ = 0;
  std::array<VirtioHeader, kFramesMax> headers_;
  std::array<mmsghdr, kFramesMax> messages_;
  std::array<uint16_t, kFramesMax> message_frames_;
  std::array<iovec, 2 * kFramesMax> parts_;
  iovec* parts_end_ = nullptr;
  std::array<rte_mbuf*, kFramesMax> datagrams_;
  std::array<rte_mbuf*, kFramesMax> taken_;  // these, and the segments
};

}  // namespace adit::gateway
