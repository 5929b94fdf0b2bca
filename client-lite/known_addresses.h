// The gateways' addresses, as their names were answered last. A name server may be where only the
// tunnel leads, or dead: then what it said last has to do, and an answer that comes too late for
// one attempt is what the next one goes by.
// Of a name's several addresses one is in turn, and stays so while it works, in whatever order the
// name is answered. Where an attempt fails, the next address has its turn, and the first again
// after the last.
// Values only.
//
// Owner: Client.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
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

  explicit KnownAddresses(size_t gateways) : names_(gateways) {}

  // This gateway's name is asked for, and no other's any longer. When to go on without an answer.
  uint64_t ask(size_t gateway, uint64_t now_ns) {
    asked_ = gateway;
    return now_ns + (of(gateway) ? kPatienceNs : kFirstPatienceNs);
  }
  // The host's network has changed in some way while the answer was waited for: whether to ask
  // again, for the question may have gone nowhere. Not each time, or none would ever be answered.
  bool may_ask_again(uint64_t now_ns) {
    if (now_ns < may_ask_again_ns_) return false;
    may_ask_again_ns_ = now_ns + kAskAgainNs;
    return true;
  }
  // That name's answer has come, however late.
  void on_answer(std::span<const Ipv4Address> addresses) { set(asked_, addresses); }
  // Somebody else has asked for it. What is in turn stays so if the name still has it; new
  // addresses follow, and then those that had a turn or wait for theirs.
  void set(size_t gateway, std::span<const Ipv4Address> answered) {
    std::vector<Ipv4Address>& known = names_[gateway].addresses;
    std::erase_if(known, [&](Ipv4Address address) { return !is_among(answered, address); });
    const size_t in_turn = known.empty() ? 0 : 1;
    std::vector<Ipv4Address> fresh;
    for (const Ipv4Address address : answered) {
      if (!is_among(known, address)) fresh.push_back(address);
    }
    known.insert(known.begin() + static_cast<ptrdiff_t>(in_turn), fresh.begin(), fresh.end());
  }
  // This address of it is known to answer: it is in turn.
  void prefer(size_t gateway, Ipv4Address address) {
    std::vector<Ipv4Address>& known = names_[gateway].addresses;
    const auto found = std::ranges::find(known, address);
    if (found != known.end()) std::rotate(known.begin(), found, found + 1);
    on_up(gateway);
  }
  // The one in turn works: when one fails again, each has its turn.
  void on_up(size_t gateway) { names_[gateway].failures = 0; }
  // An attempt there was given up. Returns whether one that has not had its turn since is left.
  bool on_failed(size_t gateway, Ipv4Address address) {
    Name& name = names_[gateway];
    const auto found = std::ranges::find(name.addresses, address);
    if (found == name.addresses.end()) return false;
    std::rotate(found, found + 1, name.addresses.end());
    return ++name.failures % name.addresses.size() != 0;
  }

  // The one in turn. Nothing: its name was never answered.
  std::optional<Ipv4Address> of(size_t gateway) const {
    const std::vector<Ipv4Address>& known = names_[gateway].addresses;
    return known.empty() ? std::nullopt : std::optional(known.front());
  }
  size_t count(size_t gateway) const { return names_[gateway].addresses.size(); }

 private:
  struct Name {
    std::vector<Ipv4Address> addresses;  // that in turn, then the others in the order of theirs
    size_t failures = 0;
  };

  static bool is_among(std::span<const Ipv4Address> addresses, Ipv4Address address) {
    return std::ranges::find(addresses, address) != addresses.end();
  }

  std::vector<Name> names_;
  size_t asked_ = 0;
  uint64_t may_ask_again_ns_ = 0;
};

}  // namespace adit::client
