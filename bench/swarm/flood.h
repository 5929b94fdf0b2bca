// Handshakes that nobody means, for a gateway to refuse: message 1 with content made up, which
// costs its sender next to nothing. Five kinds take turns, each of which has to be noticed by
// another test at the gateway.
//
// Owner: Swarm, on its one thread.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "lib/net/address.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/keys.h"
#include "lib/tunnel/wire.h"

namespace adit::bench {

class Flood {
 public:
  Flood(const tunnel::PublicKey& gateway, const tunnel::RandomSource& random, uint64_t seed);

  struct Datagram {
    Endpoint from;
    std::span<const uint8_t> bytes;
  };
  Datagram next();
  // A client's own message, whole and true, to be sent again and again.
  void record(std::span<const uint8_t> message);
  // What the gateway sent to one of our sources. False: it is no cookie.
  bool take_answer(const Endpoint& to, std::span<const uint8_t> datagram, uint64_t now_ns);
  // Is it one of our sources?
  static bool has(Ipv4Address address);

 private:
  enum Kind : uint8_t {
    kBadMac,    // mac1 is wrong
    kNoCookie,  // mac1 is right
    kMadeUp,    // and mac2 is made up
    kReplayed,  // somebody's own, from elsewhere
    kProven,    // mac1 and mac2 are right, for the one source that does take cookies
    kKinds,
  };

  Endpoint random_source();

  tunnel::CookieJar jar_;
  std::array<std::vector<tunnel::InitiationMessage>, kKinds> messages_;
  uint64_t turn_ = 0;
  std::minstd_rand sources_;
};

}  // namespace adit::bench
