// What ought to come out: a translator written to be read, std::map and checksums from scratch,
// sharing no code with the packet path. A measurement whose bytes differ from it is not printed.
#pragma once

#include <rte_mbuf.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "bench/datapath/world.h"
#include "tests/support/packets.h"

namespace adit::bench {

class Reference {
 public:
  explicit Reference(const World& world) : world_(world) {}

  // Holds the packets that stand in `sent`, those of the world's drawn flows in order, against
  // what they ought to be. Empty, or what is wrong with the first that differs.
  std::string check(nat::Direction direction, std::span<const uint16_t> inner_bytes,
                    std::span<rte_mbuf* const> sent);

 private:
  std::string check_outbound(const Flow& flow, unsigned inner_bytes, const test::Bytes& sent);
  std::string check_inbound(const Flow& flow, unsigned inner_bytes, test::Bytes sent);
  test::Bytes wrapped(const Flow& flow, const test::Bytes& payload, uint16_t id) const;
  std::string learn(const Flow& flow, const test::Bytes& sent);

  const World& world_;
  std::map<std::pair<uint32_t, Endpoint>, Endpoint> external_;  // of a tunnel's internal endpoint
  std::map<Endpoint, std::pair<uint32_t, Endpoint>> internal_;
};

}  // namespace adit::bench
