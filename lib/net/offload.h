// What Linux leaves to a network card, and hence to us behind a TUN device, and takes from us:
// cutting a large packet into segments, and computing a checksum. In our own words; virtio.h has
// the kernel's.
#pragma once

#include <cstddef>
#include <cstdint>

namespace adit {

// The largest packet there is in IPv4. More than any MTU: it leaves us as several.
inline constexpr size_t kLargeBytesMax = 65535;

struct Offload {
  enum Kind : uint8_t { whole, tcp, udp };
  Kind kind = whole;
  uint16_t segment_bytes = 0;  // tcp and udp: of payload in each segment, but the last
  // The checksum at `checksum_offset` from `checksum_start` holds the pseudo-header's sum only, and
  // is still to be computed over all from checksum_start to the end.
  bool checksum_missing = false;
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;
};

}  // namespace adit
