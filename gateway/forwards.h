// Static port forwards: external endpoints that the configuration gives to internal ones. Each has
// a mapping like any other, but that it stands here and not in the translator's table, where its
// port is reserved; that it is live for as long as its subscriber has a tunnel; and that it admits
// anybody. What its internal endpoint sends leaves from it (RFC 4787 REQ-1).
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gateway/tunnel_table.h"
#include "lib/nat/mapping.h"

struct rte_hash;

namespace adit::gateway {

class Forwards {
 public:
  struct Forward {
    nat::Protocol protocol = nat::Protocol::udp;
    Endpoint external;
    Endpoint internal;
  };
  // A subscriber's forwards stand together; a Tunnel knows which they are. Throws
  // std::runtime_error without memory. `name` is unique in the process.
  Forwards(const char* name, std::span<const Forward> forwards);
  ~Forwards();
  Forwards(const Forwards&) = delete;
  Forwards& operator=(const Forwards&) = delete;

  // A tunnel's forwards: `count` of them from `first` on.
  struct Range {
    uint32_t slot = 0;
    uint32_t first = 0;
    uint16_t count = 0;
    uint16_t profile = 0;  // of its subscriber
  };
  // They begin or end to lead anywhere.
  void open(const Range& range);
  void close(const Range& range);

  nat::Mapping* find_outbound(const Tunnel& tunnel, nat::Protocol protocol,
                              const Endpoint& internal);
  // nullptr as well while its subscriber has no tunnel.
  nat::Mapping* find_inbound(nat::Protocol protocol, const Endpoint& external);
  std::span<const nat::Mapping> of(const Tunnel& tunnel) const;

 private:
  // Both directions stand in one table.
  struct Key {
    uint32_t tunnel_slot = 0;  // outbound only
    Endpoint endpoint;         // internal outbound, external inbound
    uint8_t protocol = 0;
    uint8_t is_inbound = 0;
  };
  nat::Mapping* find(const Key& key);
  void end(nat::Mapping& mapping);
  static Key outbound_key(const nat::Mapping& mapping);

  rte_hash* index_ = nullptr;  // Key -> position in mappings_
  std::vector<nat::Mapping> mappings_;
};

}  // namespace adit::gateway
