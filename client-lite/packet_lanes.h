// Which lane a packet of the TUN device takes (docs/protocol.md, "Lanes"). An internal endpoint has
// one lane always, so that it has one mapping, and what speaks of another endpoint than its source
// goes by that one's: a fragment without ports, an ICMP error, a request of the Port Control
// Protocol. DHCP goes by lane 0, which is the tunnel proper.
//
// Values only.
//
// Owner: each LaneSender, on its thread, since all fragments of a datagram come in one queue.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "client-lite/packet_path.h"

namespace adit::client {

class PacketLanes {
 public:
  // For so long what remains of a datagram may come after its first fragment: RFC 791's 15 s.
  static constexpr uint64_t kFragmentNs = 15'000'000'000;

  // How many lanes there are, and the gateway's network inside, where its PCP server is.
  void set(unsigned lanes, const Ipv4Prefix& network) {
    lanes_ = lanes;
    network_ = network;
  }
  // The lane of `inner`, which was admitted as `packet`. Nothing: a fragment whose first has not
  // come.
  std::optional<uint8_t> choose(std::span<const uint8_t> inner, const Admitted& packet,
                                uint64_t now_ns);

 private:
  static constexpr unsigned kDatagramsMax = 256;
  // What the fragments of a datagram have in common (RFC 791), and the first's lane.
  struct Datagram {
    Ipv4Address source;
    Ipv4Address destination;
    Be16 id;
    uint8_t protocol = 0;
    uint8_t lane = 0;
    uint64_t ends_ns = 0;

    bool is_same(const Datagram& other) const {
      return source == other.source && destination == other.destination && id == other.id &&
             protocol == other.protocol;
    }
  };

  uint8_t lane_by_endpoint(std::span<const uint8_t> inner, const ParsedIpv4& parsed) const;
  Datagram& place_of(const Datagram& datagram);

  unsigned lanes_ = 1;
  Ipv4Prefix network_;
  // By a hash: a datagram that comes to another's place takes it over.
  std::array<Datagram, kDatagramsMax> datagrams_{};
};

}  // namespace adit::client
