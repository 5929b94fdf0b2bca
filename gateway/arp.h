// The Address Resolution Protocol (RFC 826) on the gateway's ports: answers for its own, its pool's
// and its subscribers' addresses, asks for neighbours that a worker wants, and asks again before it
// believes an old answer.
//
// Owner: the control thread. Sans-I/O: packets and time in, actions out through a Sink.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "lib/net/headers.h"

namespace adit::gateway {

class Arp {
 public:
  struct PortAddresses {
    MacAddress mac;
    Ipv4Interface address;
    std::vector<Ipv4Prefix> also;  // the translator's and subscribers' own; disjoint
  };
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void send_arp(unsigned port, const MacAddress& to, const ArpPacket& packet) = 0;
    virtual void neighbour_found(unsigned port, Ipv4Address address, const MacAddress& mac) = 0;
    virtual void neighbour_lost(unsigned port, Ipv4Address address) = 0;
  };

  // At most `entries_max` neighbours are followed; `sink` outlives this.
  Arp(std::vector<PortAddresses> ports, size_t entries_max, Sink& sink);

  // Tells the links who we are, so that neighbours with an older answer learn the new one.
  void announce();
  // `packet` is what stood behind the Ethernet header.
  void on_packet(unsigned port, std::span<const uint8_t> packet, uint64_t now_ns);
  void resolve(unsigned port, Ipv4Address address, uint64_t now_ns);
  // Resolves a neighbour and never forgets it: the next hop.
  void keep(unsigned port, Ipv4Address address, uint64_t now_ns);
  void tick(uint64_t now_ns);

  struct Entry {
    MacAddress mac;
    bool resolved = false;
    bool is_kept = false;
    unsigned confirmations = 0;  // in a row, each half a minute
    unsigned requests = 0;   // sent since the last answer
    uint64_t due_ns = 0;     // when to ask next, or to give up
  };
  using Key = std::pair<unsigned, Ipv4Address>;
  const std::map<Key, Entry>& entries() const { return entries_; }

 private:
  bool is_ours(unsigned port, Ipv4Address address) const;
  void ask(const Key& key, Entry& entry, uint64_t now_ns);

  std::vector<PortAddresses> ports_;
  size_t entries_max_;
  Sink& sink_;
  std::map<Key, Entry> entries_;
  size_t unresolved_ = 0;  // of those that are not kept
  uint64_t next_due_ns_ = 0;
};

}  // namespace adit::gateway
