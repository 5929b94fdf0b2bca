// What stands in front of a packet that crosses the border to Linux whole though no link would take
// it: on a TUN device with IFF_VNET_HDR, on a packet socket with PACKET_VNET_HDR. Source: struct
// virtio_net_hdr of <linux/virtio_net.h>, which is no C++ and may be older than the kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/net/offload.h"

namespace adit {

// Integers are the machine's own; offsets in bytes from the packet's beginning.
struct VirtioHeader {
  uint8_t flags;
  uint8_t segment_type;
  uint16_t headers_bytes;    // in front of the first segment's payload
  uint16_t segment_bytes;    // of payload
  uint16_t checksum_start;   // the checksum is of everything from here on
  uint16_t checksum_offset;  // and stands here, from checksum_start
};
static_assert(sizeof(VirtioHeader) == 10);

// flags
inline constexpr uint8_t kVirtioNeedsChecksum = 1;
// segment_type
inline constexpr uint8_t kVirtioTcp4 = 1;
inline constexpr uint8_t kVirtioUdp = 5;  // datagrams of equal length, but for the last; Linux 6.2
inline constexpr uint8_t kVirtioEcn = 0x80;

// What says `offload` of an IPv4 packet behind a link header of `link_bytes`. `first_bytes` is what
// the first of its segments has, from the IPv4 header on; of no consequence where it is whole.
inline VirtioHeader virtio_header(const Offload& offload, size_t first_bytes, size_t link_bytes) {
  VirtioHeader header{};
  if (offload.checksum_missing) {
    header.flags = kVirtioNeedsChecksum;
    header.checksum_start = static_cast<uint16_t>(link_bytes + offload.checksum_start);
    header.checksum_offset = offload.checksum_offset;
  }
  if (offload.kind != Offload::whole) {
    header.segment_type = offload.kind == Offload::tcp ? kVirtioTcp4 : kVirtioUdp;
    header.segment_bytes = offload.segment_bytes;
    header.headers_bytes = static_cast<uint16_t>(link_bytes + first_bytes - offload.segment_bytes);
  }
  return header;
}

}  // namespace adit
