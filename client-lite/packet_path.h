// What happens to a packet between the TUN device and the UDP socket, without either: bytes and
// `now_ns` in, bytes and a verdict out. All of docs/protocol.md's rules about data packets live
// here, so that they are tested with sessions in memory.
//
//   outbound: admit() looks at a packet from the TUN device, wrap() puts it in a type 4 or type 5
//             datagram in place, using the room in front of it and behind it;
//   inbound:  receive() takes a datagram apart in place and says what it was.
//
// Owner: Client, on its one thread; with lanes each thread has one for each lane, and those of a
// lane share its sessions' send counters. Nothing here allocates but install().
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "client-lite/counters.h"
#include "lib/net/address.h"
#include "lib/net/parse.h"
#include "lib/tunnel/seal.h"
#include "lib/tunnel/session.h"

namespace adit::client {

// The largest inner packet: a jumbo frame's. The TUN device's MTU never goes beyond.
inline constexpr size_t kInnerBytesMax = 9216;
// What the tunnel puts around an inner packet: IPv4 and UDP headers, type 4's header and tag. An
// outer path of 1500 bytes gives an inner MTU of 1440. A plain session could take 24 more, but
// the next session may not be plain.
inline constexpr unsigned kOuterOverheadBytes =
    sizeof(Ipv4Header) + sizeof(UdpHeader) + tunnel::kEncryptedOverheadBytes;
// An inner packet stands at this offset of its buffer: room for either header.
inline constexpr size_t kHeadroomBytes = sizeof(tunnel::EncryptedHeader);

// Rule 12: a heartbeat that comes while plain packets flow may ask where we are. They flow when
// one was sent so lately, and the answer is given no more often than the gateway asks.
inline constexpr uint64_t kPlainFlowsNs = 10'000'000'000;
inline constexpr uint64_t kAnswerIntervalNs = 1'000'000'000;

// Room for one packet, wrapped or not.
struct PacketBuffer {
  static constexpr size_t kBytes = kHeadroomBytes + kInnerBytesMax + 16 + tunnel::kTagBytes;
  alignas(16) std::array<uint8_t, kBytes> bytes;

  std::span<uint8_t> inner() { return std::span(bytes).subspan(kHeadroomBytes, kInnerBytesMax); }
};

// A session's next send counter, where several threads send in it.
using SharedCounter = std::shared_ptr<std::atomic<uint64_t>>;
inline SharedCounter make_counter() {
  return std::make_shared<std::atomic<uint64_t>>(0);
}

// What admit() found out about a packet from the TUN device.
struct Admitted {
  uint16_t bytes = 0;        // the inner packet's own length
  bool always_sealed = false;  // DHCP: type 4 in a plain session too (rule 5)
  ParsedIpv4 parsed = {};
  uint8_t lane = 0;  // that it takes
};

// What a datagram from the gateway was.
struct Received {
  enum Kind : uint8_t {
    dropped,        // counted
    response,       // handshake message 2: for the Peer
    cookie_reply,   // handshake message 3: for the Peer
    packet,         // `inner` belongs on the TUN device
    dhcp,           // `inner` is an IPv4 packet to UDP port 68, sealed
    heartbeat,      // empty type 4
    probe_request,  // `stamp` is to be sent back
    probe_reply,    // `stamp` is one of ours, if the gateway is honest
  };
  Kind kind = dropped;
  bool heard = false;  // an authentic type 4: the gateway lives (rule 9)
  std::span<uint8_t> inner;
  ParsedIpv4 parsed;  // of `inner`, where it is a packet
  uint64_t stamp = 0;
};

class PacketPath {
 public:
  explicit PacketPath(Counters& counters) : counters_(counters) {}

  // Where the gateway is: datagrams from anywhere else are dropped.
  void set_gateway(const Endpoint& gateway) { gateway_ = gateway; }
  // Our own inner address, or nothing while there is none.
  void set_address(std::optional<Ipv4Address> address) { address_ = address; }
  // Prefixes of a network behind this device, delivered as our own address is.
  void set_lan(std::vector<Ipv4Prefix> lan) { lan_ = std::move(lan); }
  // Whether packets to UDP port 68 are taken out for our DHCP client.
  void set_takes_dhcp(bool takes) { takes_dhcp_ = takes; }
  // The tunnel's MTU: padding does not go beyond it.
  void set_mtu(uint16_t mtu_bytes) { mtu_bytes_ = mtu_bytes; }

  // Each takes the other's sessions and settings. Both count in the same counters.
  void swap(PacketPath& other);

  // `counter` is given where this is not the session's only sender.
  void install(const tunnel::Session& session, SharedCounter counter = {});
  void expire(uint64_t now_ns);
  void clear();

  // The session in use, if it exists, and its counter, where that is shared.
  const tunnel::Session& session() const { return current(); }
  const SharedCounter& shared_counter() const { return shared_counter_; }
  // When the next of the sessions ends that are there, and expire() has something to do.
  uint64_t next_expiry_ns() const;

  // Whether wrap() can send now.
  bool usable(uint64_t now_ns) const;
  bool is_plain() const {
    return current().exists() && current().protection == tunnel::Protection::plain;
  }
  // Of the session in use; nothing without one.
  std::optional<tunnel::Protection> protection() const {
    if (!current().exists()) return std::nullopt;
    return current().protection;
  }
  uint64_t send_counter() {
    return shared_counter_ ? shared_counter_->load(std::memory_order_relaxed)
                           : sessions_.send_counter(tunnel::SessionSet::kCurrent);
  }

  // Looks at a packet read from the TUN device. Nothing: dropped and counted.
  std::optional<Admitted> admit(std::span<const uint8_t> inner);

  struct Wrapped {
    std::span<const uint8_t> datagram;  // empty: dropped and counted
    bool sealed = false;                // type 4
  };
  // Wraps the packet that stands in `buffer.inner()`. Needs usable().
  Wrapped wrap(PacketBuffer& buffer, const Admitted& packet);
  // Wraps a control message (nothing, a probe, a DHCP packet): always type 4.
  Wrapped wrap_control(PacketBuffer& buffer, size_t inner_bytes);
  // A probe that makes an outer packet of so many bytes, whatever the tunnel's MTU: its length is
  // what matters. It tells the other end `told_mtu`, the tunnel's; 0: nothing.
  Wrapped wrap_padded_probe(PacketBuffer& buffer, size_t outer_bytes, uint64_t stamp,
                            Be16 told_mtu);

  // Takes a datagram apart; `datagram` is decrypted in place.
  Received receive(std::span<uint8_t> datagram, const Endpoint& source, uint64_t now_ns);

 private:
  // The expanded keys of one session, found by its local index.
  struct Keys {
    uint32_t local_index;
    tunnel::Aead send;
    tunnel::Aead receive;
  };

  const tunnel::Session& current() const { return sessions_.at(tunnel::SessionSet::kCurrent); }
  std::optional<uint64_t> take_counter();
  Keys* keys_of(uint32_t local_index);
  void drop_unused_keys();
  Wrapped seal(PacketBuffer& buffer, size_t inner_bytes, size_t mtu_bytes);
  Received receive_sealed(std::span<uint8_t> datagram, uint64_t now_ns);
  Received receive_plain(std::span<uint8_t> datagram, uint64_t now_ns);
  Received deliver(std::span<uint8_t> inner, bool sealed);
  bool is_ours(Ipv4Address destination) const;

  Counters& counters_;
  Endpoint gateway_;
  std::optional<Ipv4Address> address_;
  std::vector<Ipv4Prefix> lan_;
  bool takes_dhcp_ = false;
  uint16_t mtu_bytes_ = 1420;
  tunnel::SessionSet sessions_;
  SharedCounter shared_counter_;  // of the session in use, where it has one
  std::array<std::optional<Keys>, tunnel::SessionSet::kPlaces + 1> keys_;
};

}  // namespace adit::client
