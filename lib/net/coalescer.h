// Puts consecutive TCP segments of one flow together into one large packet, and likewise equally
// long UDP datagrams, so that the kernel takes in many with one system call and looks at one
// header. Only where cutting the large packet again gives the same packets, byte for byte (IPv4
// ids aside where they mean nothing, RFC 6864): same flow, tos, ttl, DF, acknowledgement, window
// and options; consecutive sequence numbers and ids; flags ACK and PSH alone; checksums right.
// Whatever differs in anything is passed on as it came, a wrong checksum included.
//
// Order is kept within a flow, and of every packet that belongs to none (ICMP, fragments) towards
// all. Nothing is held longer than until flush().
//
//     add() ... add() ─► writes() ─► flush()
//
// Owner: DeviceWriter, and in the gateway KernelSender. Packets are neither copied nor moved: a
// large one is a list of parts.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>

#include "lib/net/offload.h"
#include "lib/net/parse.h"

namespace adit {

class Coalescer {
 public:
  static constexpr unsigned kPacketsMax = 128;
  static constexpr unsigned kSlotBits = 6;

  // Which kinds the device takes in large packets.
  void set_kinds(bool tcp, bool udp) {
    tcp_ = tcp;
    udp_ = udp;
  }

  bool empty() const { return packets_ == 0; }
  bool full() const { return packets_ == kPacketsMax; }
  // `packet`, whole and accepted by parse_ipv4() as `parsed`, must stay where it is until it is
  // flushed; its headers may be rewritten. Not when full().
  void add(std::span<uint8_t> packet, const ParsedIpv4& parsed);

  // Gives everything to `write(Offload, std::span<const iovec> parts, packets, bytes)`, in order.
  // `packets` and `bytes` are of the packets as they came.
  template <typename Write>
  void flush(Write&& write) {
    for (unsigned i = 0; i < runs_count_; ++i) {
      const Offload offload = finish(runs_[i]);
      write(offload, std::span<const iovec>(parts_).first(runs_[i].packets), runs_[i].packets,
            runs_[i].bytes);
    }
    packets_ = 0;
    runs_count_ = 0;
    forget_flows();
  }

 private:
  static constexpr uint8_t kNone = 0xff;
  static constexpr unsigned kSlots = 1u << kSlotBits;

  // Packets that become one.
  struct Run {
    std::span<uint8_t> first;      // the first packet, whole
    uint16_t headers_bytes;        // of each packet
    uint16_t segment_bytes;        // payload of each packet, but the last
    uint16_t packets;
    uint8_t first_index;           // in next_, which has the others
    uint8_t last_index;
    uint8_t protocol;
    bool first_is_sound;           // its checksum has been looked at, and is right
    bool ids_stand_still;          // all have the same IPv4 id
    bool push;                     // the last has PSH
    uint32_t bytes;                // of all the packets, headers of each included
    uint32_t large_bytes;          // of the large packet
  };

  bool can_begin(std::span<const uint8_t> packet, const ParsedIpv4& parsed) const;
  bool extends(Run& run, std::span<const uint8_t> packet, const ParsedIpv4& parsed) const;
  void append(Run& run, std::span<uint8_t> packet);
  Offload finish(const Run& run);
  void forget_flows() { slots_.fill(kNone); }

  bool tcp_ = false;
  bool udp_ = false;
  unsigned packets_ = 0;
  unsigned runs_count_ = 0;
  std::array<Run, kPacketsMax> runs_;
  std::array<std::span<uint8_t>, kPacketsMax> payloads_;  // by the order in which packets came
  std::array<uint8_t, kPacketsMax> next_;                 // of the same run
  std::array<iovec, kPacketsMax> parts_;
  // By a hash of the flow: the run that its next packet may extend. A flow that comes to another's
  // slot takes it over.
  std::array<uint8_t, kSlots> slots_ = filled();
  static constexpr std::array<uint8_t, kSlots> filled() {
    std::array<uint8_t, kSlots> slots{};
    slots.fill(kNone);
    return slots;
  }
};

}  // namespace adit
