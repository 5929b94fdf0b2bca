// The one outer socket. It is not connected: a gateway is told by its source address, so that an
// ICMP error or a change of gateway never takes the socket, and its NAT binding, away.
//
// Packets move in batches: one system call for up to kBatch of them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "client-lite/file_descriptor.h"
#include "client-lite/packet_path.h"
#include "lib/net/address.h"

namespace adit::client {

inline constexpr unsigned kBatch = 32;

// A datagram as it came. Empty if it was too long for its buffer.
struct Arrival {
  std::span<uint8_t> bytes;
  Endpoint source;
};

class UdpSocket {
 public:
  // `port` 0: the kernel chooses. False: `refusal` says why.
  bool open(uint16_t port, std::optional<uint32_t> fwmark, std::string& refusal);

  int fd() const { return socket_.get(); }
  uint16_t local_port() const;

  // Fills `arrivals` from `buffers`, one each; returns how many came, 0 when none waits.
  unsigned receive(std::span<PacketBuffer, kBatch> buffers, std::span<Arrival, kBatch> arrivals);
  // Sends up to kBatch datagrams; returns how many the kernel took. The rest are lost, as any
  // datagram may be.
  unsigned send(std::span<const std::span<const uint8_t>> datagrams, const Endpoint& destination);

 private:
  FileDescriptor socket_;
};

}  // namespace adit::client
