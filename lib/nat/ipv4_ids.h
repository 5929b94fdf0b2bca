// Identifications for translated packets that may be, or are, fragments. Two subscribers' packets
// may meet behind the translator with the same source, destination, protocol and id, and a
// receiver would then put a datagram together from pieces of both. So the translator numbers such
// packets as if it had sent them itself (RFC 6864 §5.3.1, RFC 7857 §10). An atomic packet (DF set
// and no fragment) keeps its id, which nobody may look at.
//
// One counter for many triples of addresses and protocol, chosen by a keyed hash: an id comes
// again to a triple after 65,536 packets at the soonest that share its counter, not after as many
// of all. Each triple counts from a place of its own, so that nobody learns from his ids how many
// packets others get.
//
// Writer and reader: the worker. Nothing is allocated.
#pragma once

#include <array>
#include <cstdint>

#include "lib/nat/endpoint_hash.h"

namespace adit::nat {

class Ipv4Ids {
 public:
  // `share`: of 2^share_bits that number the same triples, each with ids of its own.
  explicit Ipv4Ids(uint64_t key, unsigned share = 0, unsigned share_bits = 0)
      : key_(key), share_(share), share_bits_(share_bits) {}

  Be16 next(Ipv4Address source, Ipv4Address destination, Protocol protocol) {
    const uint64_t hash =
        hash_endpoint(key_ ^ source.value.raw(), protocol, {destination, Be16{}});
    const uint16_t count = counters_[static_cast<size_t>(hash % counters_.size())]++;
    const unsigned number = ((count + unsigned(hash >> 48)) << share_bits_) | share_;
    return Be16::from_host(static_cast<uint16_t>(number));
  }

 private:
  const uint64_t key_;  // random, the same for all who share
  const unsigned share_;
  const unsigned share_bits_;
  std::array<uint16_t, 4096> counters_{};
};

}  // namespace adit::nat
