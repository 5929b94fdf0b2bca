// Mappings of protocols without ports: ESP, GRE, SCTP, any number that is not UDP, TCP or ICMP.
// There is nothing but addresses to tell them apart, so a mapping is for one remote: (protocol,
// remote, external address) belongs to one internal address, and a second that wants the same is
// refused. Such packets are translated by address alone; SCTP's checksum does not cover addresses
// (RFC 9260 §6.8), and the few protocols whose checksum does are updated (translate_address).
//
// One worker keeps the mappings of (protocol, external address), whoever's tunnel they are, so that
// a clash is seen: it knows of the tunnels only what it is told here, and whether they are still
// open.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <vector>

#include "gateway/tunnel_table.h"
#include "lib/nat/mapping.h"
#include "lib/net/parse.h"

struct rte_hash;

namespace adit::gateway {

class PortlessMappings {
 public:
  // A subscriber's share of the table.
  static constexpr unsigned kPerTunnelMax = 64;

  enum class Refusal : uint8_t { none, clash, tunnel_limit, table_full };

  // Throws std::runtime_error without memory. `name` is unique in the process. A mapping ends when
  // it was not used for as long as its subscriber's of UDP may be.
  PortlessMappings(const char* name, unsigned entries, const nat::Nat& nat,
                   const TunnelTable& tunnels);
  ~PortlessMappings();
  PortlessMappings(const PortlessMappings&) = delete;
  PortlessMappings& operator=(const PortlessMappings&) = delete;

  struct Owner {
    uint32_t slot = 0;
    uint32_t epoch = 0;
    uint16_t profile = 0;  // of its subscriber
    uint8_t lanes = 1;     // how many tunnels have their part of its share
  };
  // The mapping of a packet from `internal` to `remote`, made if there is none; nullptr with the
  // reason if it may not be. Counts as used.
  const nat::Mapping* outbound(const Owner& owner, uint8_t protocol, Ipv4Address internal,
                               Ipv4Address remote, Ipv4Address external, uint32_t now_s,
                               Refusal& refusal);
  // The mapping of a packet from `remote` to `external`, or nullptr. An ICMP error only looks
  // (RFC 5508 REQ-6).
  enum class Use : bool { look, refresh };
  const nat::Mapping* inbound(uint8_t protocol, Ipv4Address remote, Ipv4Address external,
                              uint32_t now_s, Use use);
  // Of one of these mappings: which use of the slot its tunnel is.
  static uint32_t epoch_of(const nat::Mapping& mapping) {
    return reinterpret_cast<const Entry&>(mapping).epoch;
  }
  // Looks at a few more entries and ends those that are idle or whose tunnel has gone.
  void sweep(uint32_t now_s);
  unsigned live() const { return live_; }

 private:
  struct Entry {
    nat::Mapping mapping;  // ports are zero; the first, for epoch_of()
    Ipv4Address remote;
    uint32_t epoch = 0;  // of the tunnel
    uint8_t protocol = 0;
    bool used = false;
  };
  // Both directions stand in one table.
  struct Key {
    uint32_t tunnel_slot = 0;  // outbound only
    Ipv4Address ours;          // internal outbound, external inbound
    Ipv4Address remote;
    uint8_t protocol = 0;
    uint8_t is_inbound = 0;
    uint8_t zero[2] = {};
  };
  static Key outbound_key(const Entry& entry);
  static Key inbound_key(const Entry& entry);

  Entry* find(const Key& key);
  bool is_over(const Entry& entry, uint32_t now_s) const;
  Entry* occupy(const Entry& wanted);
  void remove(Entry& entry);

  rte_hash* index_ = nullptr;     // Key -> position in entries_
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;    // positions
  std::vector<uint16_t> counts_;  // by slot: how many a tunnel has, or its slot's last one had
  const nat::Nat& nat_;
  const TunnelTable& tunnels_;
  unsigned live_ = 0;
  size_t hand_ = 0;
};

}  // namespace adit::gateway
