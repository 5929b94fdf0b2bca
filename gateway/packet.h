// A packet on its way through the pipeline, and what the stages have found out about it.
#pragma once

#include <rte_mbuf.h>

#include <cstdint>

#include "gateway/tunnel_table.h"
#include "lib/nat/mapping.h"
#include "lib/nat/translate.h"
#include "lib/net/parse.h"

namespace adit::gateway {

inline constexpr unsigned kBurstMax = 64;  // packets that a worker receives at once

struct Packet {
  rte_mbuf* mbuf = nullptr;  // its first byte is the header that the next stage reads
  Tunnel* tunnel = nullptr;
  nat::Mapping* mapping = nullptr;
  const nat::Mapping* portless = nullptr;  // instead, for a protocol without ports
  Endpoint from;             // outer source of a tunnel packet
  uint8_t port = 0;          // received on
  tunnel::SessionSet::Place place = tunnel::SessionSet::kNone;
  bool plain = false;        // came as type 5
  bool is_icmp_error = false;
  bool has_met = false;  // a fragment, where it belongs (take_over.cpp)
  bool hairpin = false;  // from inside to an external address of ours: goes out and comes back
  enum class Way : uint8_t { mapped, as_is, one_to_one };
  Way way = Way::mapped;  // outbound: how its source is translated (unmapped.cpp)
  Tunnel* to = nullptr;   // hairpinned to a subscriber's own address: its tunnel
  nat::Protocol protocol = nat::Protocol::udp;
  ParsedIpv4 parsed;         // of the IPv4 packet at the first byte
  nat::QuotedPacket quoted;  // of an ICMP error

  uint8_t* bytes() const { return rte_pktmbuf_mtod(mbuf, uint8_t*); }
  std::span<uint8_t> span() const { return {bytes(), rte_pktmbuf_data_len(mbuf)}; }
  Ipv4Header& ip() const { return *reinterpret_cast<Ipv4Header*>(bytes()); }
  template <typename Header>
  Header& transport() const {
    return *reinterpret_cast<Header*>(bytes() + parsed.header_bytes);
  }
  bool has_dont_fragment() const { return (ip().fragment.host() & kIpDontFragment) != 0; }
  Endpoint source() const { return {ip().source, parsed.source_port}; }
  Endpoint destination() const { return {ip().destination, parsed.destination_port}; }
  // Cuts `count` bytes off the front: a header that has been dealt with.
  void strip(unsigned count) const { rte_pktmbuf_adj(mbuf, static_cast<uint16_t>(count)); }
  // Cuts padding behind the IPv4 packet.
  void trim() const {
    if (const unsigned extra = rte_pktmbuf_data_len(mbuf) - parsed.total_bytes; extra > 0) {
      rte_pktmbuf_trim(mbuf, static_cast<uint16_t>(extra));
    }
  }
};

}  // namespace adit::gateway
