// Puts together the fragments of tunnel packets addressed to ourselves, by DPDK's rte_ip_frag: a
// client behind a path whose MTU is smaller than it thinks. Only what the fragment table
// (fragments.h) has found to be a tunnel's comes here.
//
// Packet buffers inside are part of `held` in the conservation law; every one that does not come
// out again is counted as a drop, or as consumed when its bytes live on in the whole packet.
//
// Writer and reader: the worker.
#pragma once

#include <cstdint>
#include <memory>

#include "gateway/counters.h"

struct rte_ip_frag_death_row;
struct rte_ip_frag_tbl;
struct rte_mbuf;

namespace adit::gateway {

class Reassembly {
 public:
  static constexpr uint64_t kTimeoutNs = 2'000'000'000;

  // At most `datagrams` at once, of RTE_LIBRTE_IP_FRAG_MAX_FRAG (8) fragments each. Throws
  // std::runtime_error without memory.
  explicit Reassembly(unsigned datagrams);
  ~Reassembly();
  Reassembly(const Reassembly&) = delete;
  Reassembly& operator=(const Reassembly&) = delete;

  // Takes over `mbuf`, which begins at its IPv4 header of `header_bytes`. Returns the whole packet
  // in one buffer, its header checksum not written, when this was the last piece; else nullptr.
  rte_mbuf* add(rte_mbuf* mbuf, unsigned header_bytes, uint64_t now_ns, Counters& counters);
  // Frees and counts what is over.
  void expire(uint64_t now_ns, Counters& counters);
  // Frees and counts everything.
  void clear(Counters& counters);

 private:
  void bury(Fate reason, Counters& counters);

  rte_ip_frag_tbl* table_ = nullptr;
  std::unique_ptr<rte_ip_frag_death_row> dead_;
};

}  // namespace adit::gateway
