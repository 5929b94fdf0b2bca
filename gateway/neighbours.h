// Who on the link has which address: a worker's view. The control thread does the asking (arp.h);
// while it does, one packet a neighbour waits here.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lib/net/address.h"

struct rte_hash;
struct rte_mbuf;

namespace adit::gateway {

struct Neighbour {
  Ipv4Address address;
  MacAddress mac;
  uint8_t port = 0;
  bool used = false;
  bool resolved = false;
  rte_mbuf* waiting = nullptr;  // at most one, while not resolved
};

class Neighbours {
 public:
  // Throws std::runtime_error without memory for `entries`. `name` is unique in the process.
  Neighbours(const char* name, unsigned entries);
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // The entry of an address on a port, or nullptr.
  Neighbour* find(unsigned port, Ipv4Address address);
  // A new, unresolved entry; nullptr if the table is full.
  Neighbour* add(unsigned port, Ipv4Address address);
  // Forgets the entry; its waiting packet must have been taken out.
  void remove(Neighbour& neighbour);

  template <typename Visit>
  void for_each(Visit visit) {
    for (Neighbour& n : entries_) {
      if (n.used) visit(n);
    }
  }

 private:
  struct Key {
    Ipv4Address address;
    uint8_t port = 0;
    uint8_t zero[3] = {};
  };
  rte_hash* index_ = nullptr;  // Key -> position in entries_
  std::vector<Neighbour> entries_;
};

}  // namespace adit::gateway
