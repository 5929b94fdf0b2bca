// Fragments of IPv4 packets (RFC 791 §3.2): cutting a packet that is too large, reading where a
// fragment lies in its datagram, and keeping book of which parts of a datagram have come.
//
// Pure: bytes in, bytes out. Nothing is allocated.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "lib/net/parse.h"

namespace adit {

// Where a fragment's payload lies in its datagram's, in units of 8 bytes: [begin, end). Only the
// last fragment may end inside a unit; the unit is its own all the same.
struct FragmentRange {
  uint16_t begin = 0;
  uint16_t end = 0;
  bool is_last = false;
};

enum class FragmentError : uint8_t {
  none,
  malformed,  // no payload, an inner end off the 8-byte grid, or beyond 65,535 bytes
  in_header,  // begins inside the TCP header, which every first fragment holds (RFC 3128)
};
// `packet` is what parse_ipv4() described as a fragment in `parsed`.
FragmentError read_fragment(const uint8_t* packet, const ParsedIpv4& parsed, FragmentRange& out);

// Which parts of one datagram have come. Refuses what overlaps: the bytes that came first stand,
// so that no later fragment rewrites what a filter has seen (RFC 1858).
class FragmentCoverage {
 public:
  enum class Refusal : uint8_t {
    none,
    overlap,
    beyond_end,  // the fragments disagree about where the datagram ends
    scattered,   // more separate runs than there is room for
  };
  Refusal add(const FragmentRange& range);
  bool is_complete() const {
    return last_end_ != 0 && runs_ == 1 && run_[0].begin == 0 && run_[0].end == last_end_;
  }

 private:
  // Fragments in order, or in reverse, make one run; every second one lost makes many.
  static constexpr unsigned kRunsMax = 16;
  struct Run {
    uint16_t begin;
    uint16_t end;
  };
  std::array<Run, kRunsMax> run_{};  // ascending, apart from one another
  uint8_t runs_ = 0;
  uint16_t last_end_ = 0;  // where the datagram ends; 0: not known yet
};

// Cuts `packet`, accepted by parse_ipv4() and without DF, into fragments of at most `mtu_bytes`
// (at least 68, RFC 791). It may be a fragment itself. Options are in the first fragment; those
// with the copied flag are in the others too.
class Fragmentation {
 public:
  Fragmentation(std::span<const uint8_t> packet, unsigned mtu_bytes);
  // How many next() has still to write.
  unsigned left() const;
  // Writes the next fragment, in order, to `out`, which holds mtu_bytes; returns its length.
  unsigned next(std::span<uint8_t> out);

 private:
  const Ipv4Header& header() const { return *reinterpret_cast<const Ipv4Header*>(packet_.data()); }

  std::span<const uint8_t> packet_;  // header and payload
  unsigned header_bytes_;
  unsigned payload_bytes_;
  unsigned at_ = 0;  // payload bytes written
  std::array<uint8_t, 60> later_header_{};
  unsigned later_header_bytes_;
  unsigned first_payload_max_;
  unsigned later_payload_max_;
};

}  // namespace adit
