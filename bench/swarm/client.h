// One of swarm's clients, without device or clock: its handshakes, its lease, its heartbeats, and
// its sessions for whoever moves data. All of the protocol is lib/'s: Peer, SessionSet,
// dhcp::Client.
//
// Owner: Swarm, on its one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "gateway/crypto.h"
#include "lib/dhcp/client.h"
#include "lib/tunnel/peer.h"
#include "lib/tunnel/session.h"

namespace adit::bench {

class Client;

// What all clients have in common; outlives them.
struct ClientWorld {
  uint64_t seed = 1;
  tunnel::PublicKey gateway;
  std::vector<tunnel::Protection> protections;  // each client has one, they take turns
  tunnel::Protection protection_of(uint32_t client) const {
    return protections[client % protections.size()];
  }
  uint8_t number_bits = 0;  // of a session's index, so that it says whose it is
  tunnel::RandomSource random;
  gateway::Crypto* crypto = nullptr;
  // A datagram for the gateway.
  std::function<void(const Client&, std::span<const uint8_t>)> transmit;
  // A session or an address has come or gone: what is sent looks different now.
  std::function<void(const Client&)> changed;
};

// Clients' keys follow from a seed, so that the gateway's configuration can be written before.
tunnel::PrivateKey client_key(uint64_t seed, uint32_t number);

class Client {
 public:
  Client(const ClientWorld& world, uint32_t number);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  uint32_t number() const { return number_; }
  bool is_connecting() const { return is_started_ && !is_up(); }
  bool is_up() const { return session().exists() && address().has_value(); }
  std::optional<Ipv4Address> address() const;
  uint16_t mtu_bytes() const { return mtu_bytes_; }
  const tunnel::Session& session() const { return sessions_.at(tunnel::SessionSet::kCurrent); }
  // By the index that the gateway sends to. `is_former`: of a life that has ended by leave().
  struct Found {
    const tunnel::Session* session = nullptr;
    bool is_former = false;
  };
  Found find_session(uint32_t local_index) const;

  void connect(uint64_t now_ns);
  // Ends without a word, as if its machine had been switched off; connect() begins anew.
  void leave();
  // Its gateway has ended, and knows of no tunnel when it comes back: neither does the client,
  // which asks for the same address when connect() begins anew.
  void lose_gateway();
  // A heartbeat now: where it is says its datagram.
  void announce(uint64_t now_ns) { send_sealed({}, now_ns); }
  // Does what is due; some times a second.
  void tick(uint64_t now_ns);

  // What came in a datagram from the gateway. Sealed ones are opened in place.
  struct Received {
    enum Kind : uint8_t { wrong, control, packet } kind = wrong;
    std::span<const uint8_t> inner;  // of a packet: with its padding
    bool is_former = false;          // sent to the life before, so nothing follows from it
  };
  // Types 1 to 4; type 5 is the data path's own.
  Received receive(std::span<uint8_t> datagram, uint64_t now_ns);

  // For the data path: what it has sent since the last tick.
  void note_sent_plain() { sent_plain_ = true; }
  uint64_t next_counter() {
    sent_sealed_ = true;
    return sessions_.send_counter(tunnel::SessionSet::kCurrent)++;
  }

  uint64_t sessions_made() const { return sessions_made_; }
  uint64_t deaths() const { return deaths_; }

 private:
  tunnel::Peer make_peer() const;
  dhcp::Client make_dhcp() const;
  void act(const tunnel::Actions& actions, uint64_t now_ns);
  void act(const dhcp::Client::Step& step, uint64_t now_ns);
  void send_sealed(std::span<const uint8_t> inner, uint64_t now_ns);
  Received receive_sealed(std::span<uint8_t> datagram, uint64_t now_ns);
  Received receive_inner(std::span<uint8_t> inner, uint64_t now_ns);

  const ClientWorld& world_;
  uint32_t number_;
  tunnel::Identity identity_;
  tunnel::Peer peer_;
  tunnel::SessionSet sessions_;
  tunnel::SessionSet former_sessions_;  // of the life before, to know what was in flight
  dhcp::Client dhcp_;
  uint16_t mtu_bytes_ = 1420;
  std::optional<Ipv4Address> last_address_;  // to be asked for again
  bool is_started_ = false;
  bool wants_lease_ = false;  // as soon as the session's first heartbeat is out
  bool sent_plain_ = false;
  bool sent_sealed_ = false;
  uint64_t sessions_made_ = 0;
  uint64_t deaths_ = 0;
};

}  // namespace adit::bench
