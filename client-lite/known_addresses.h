// The gateways' addresses, as their names were answered last. A name server may be where only the
// tunnel leads, or dead: then what it said last has to do, and an answer that comes too late for
// one attempt is what the next one goes by.
// Values only.
//
// Owner: Client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "lib/net/address.h"

namespace adit::client {

class KnownAddresses {
 public:
  // How long an answer is waited for, with an address to go on with (a name server that is dead
  // takes 5 s to be given up) and without one.
  static constexpr uint64_t kPatienceNs = 8'000'000'000;
  static constexpr uint64_t kFirstPatienceNs = 15'000'000'000;
  // Enough for a second name server when the first is dead.
  static constexpr uint64_t kAskAgainNs = 6'000'000'000;

  explicit KnownAddresses(size_t gateways) : addresses_(gateways) {}

  // This gateway's name is asked for, and no other's any longer. When to go on without an answer.
  uint64_t ask(size_t gateway, uint64_t now_ns) {
    asked_ = gateway;
    return now_ns + (addresses_[gateway] ? kPatienceNs : kFirstPatienceNs);
  }
  // The host's network has changed in some way while the answer was waited for: whether to ask
  // again, for the question may have gone nowhere. Not each time, or none would ever be answered.
  bool may_ask_again(uint64_t now_ns) {
    if (now_ns < may_ask_again_ns_) return false;
    may_ask_again_ns_ = now_ns + kAskAgainNs;
    return true;
  }
  // That name's answer has come, however late.
  void on_answer(Ipv4Address address) { addresses_[asked_] = address; }
  // Somebody else has asked for it.
  void set(size_t gateway, Ipv4Address address) { addresses_[gateway] = address; }

  // Nothing: its name was never answered.
  std::optional<Ipv4Address> of(size_t gateway) const { return addresses_[gateway]; }

 private:
  std::vector<std::optional<Ipv4Address>> addresses_;
  size_t asked_ = 0;
  uint64_t may_ask_again_ns_ = 0;
};

}  // namespace adit::client
