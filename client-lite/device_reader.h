// Reads packets from the TUN device, and makes of each large one those that it stands for.
//
//     admit() ─► put() for each packet of the size that goes on
//
// Owner: Client, and each LaneSender. Nothing here allocates.
#pragma once

#include <optional>

#include "client-lite/counters.h"
#include "client-lite/packet_path.h"
#include "client-lite/segmenter.h"
#include "client-lite/tun.h"
#include "client-lite/udp_socket.h"

namespace adit::client {

class DeviceReader {
 public:
  // Reads until a batch was full or nothing waits; a large packet may be more than a batch.
  //   buffer()       the PacketBuffer for the next packet
  //   admit(inner)   optional<Admitted>: nothing if the packet is dropped, and counted
  //   put(admitted)  takes what stands in buffer(); true if this filled a batch
  // False: the device was taken away.
  template <typename Buffer, typename Admit, typename Put>
  bool read(Tun& device, Counters& counters, const Buffer& buffer, const Admit& admit,
            const Put& put) {
    bool full = false;
    for (unsigned reads = 0; reads < kSendBatch && !full; ++reads) {
      Tun::Reading reading;
      const Tun::Outcome outcome = device.read(buffer().inner(), reading);
      if (outcome != Tun::Outcome::packet) return outcome != Tun::Outcome::gone;
      std::optional<Admitted> packet = admit(std::span<const uint8_t>(reading.packet));
      if (!packet) continue;
      const Offload& offload = reading.offload;
      if (offload.kind == Offload::whole) {
        if (packet->bytes <= kInnerBytesMax &&
            (!offload.checksum_missing || fill_checksum(reading.packet, offload))) {
          full = put(*packet);
          continue;
        }
      } else if (segmenter_.begin(reading.packet, packet->parsed, offload) &&
                 segmenter_.packet_bytes_max() <= kInnerBytesMax) {
        while (const size_t bytes = segmenter_.next(buffer().inner())) {
          packet->bytes = static_cast<uint16_t>(bytes);
          full = put(*packet) || full;
        }
        continue;
      }
      ++counters.tx_malformed;
    }
    return true;
  }

 private:
  Segmenter segmenter_;
};

}  // namespace adit::client
