// Cuts a large TCP or UDP packet that the kernel left uncut into the packets that it stands for,
// as a network card does: headers copied, lengths, IPv4 ids, sequence numbers and checksums made
// right. Bytes in, bytes out.
//
// Owner: Client. Nothing here allocates.
#pragma once

#include <cstdint>
#include <span>

#include "lib/net/offload.h"
#include "lib/net/parse.h"

namespace adit::client {

class Segmenter {
 public:
  // `packet`, accepted by parse_ipv4() as `parsed`, must stay as it is until the last next().
  // False: it is not what `offload` says it is.
  bool begin(std::span<const uint8_t> packet, const ParsedIpv4& parsed, const Offload& offload);
  // Writes the next packet; returns its length, or 0 when all are written. `room` must hold
  // packet_bytes_max().
  size_t next(std::span<uint8_t> room);
  size_t packet_bytes_max() const { return headers_bytes_ + segment_bytes_; }

 private:
  std::span<const uint8_t> packet_;
  Offload::Kind kind_ = Offload::whole;
  size_t ip_bytes_ = 0;       // of the IPv4 header
  size_t headers_bytes_ = 0;  // all in front of the payload
  size_t segment_bytes_ = 0;
  size_t at_ = 0;      // payload bytes written
  uint16_t index_ = 0;  // packets written
};

// Computes the checksum that is missing in a packet that is whole. False: there is no such place.
bool fill_checksum(std::span<uint8_t> packet, const Offload& offload);

}  // namespace adit::client
