// Writes packets from the gateway to the TUN device, put together where they can be.
//
//     add() ... add() ─► flush()
//
// Owner: Client, and each LaneThread. Nothing here allocates.
#pragma once

#include "client-lite/counters.h"
#include "client-lite/tun.h"
#include "lib/net/coalescer.h"

namespace adit::client {

class DeviceWriter {
 public:
  DeviceWriter(Tun& device, Counters& counters) : device_(device), counters_(counters) {}

  // When the device is open: what it takes in large packets.
  void learn_kinds() { coalescer_.set_kinds(device_.has_tcp_offload(), device_.has_udp_offload()); }
  // `packet` as Coalescer::add() has it; flushes when there is no room for another.
  void add(std::span<uint8_t> packet, const ParsedIpv4& parsed) {
    coalescer_.add(packet, parsed);
    if (coalescer_.full()) flush();
  }
  void flush() {
    coalescer_.flush([this](const Offload& offload, std::span<const iovec> parts, unsigned packets,
                            size_t bytes) {
      if (device_.write(offload, parts)) {
        counters_.rx_packets += packets;
        counters_.rx_bytes += bytes;
      } else {
        counters_.rx_device_error += packets;
      }
    });
  }

 private:
  Tun& device_;
  Counters& counters_;
  Coalescer coalescer_;
};

}  // namespace adit::client
