// rte_ip_frag_table_del_expired_entries() was marked experimental until DPDK 23.11, which kept it
// as it was.
#define ALLOW_EXPERIMENTAL_API

#include "gateway/reassembly.h"

#include <rte_ip_frag.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <stdexcept>

namespace adit::gateway {
namespace {

inline constexpr unsigned kBucketEntries = 16;

}  // namespace

Reassembly::Reassembly(unsigned datagrams) : dead_(std::make_unique<rte_ip_frag_death_row>()) {
  const unsigned buckets = std::max(1u, 2 * datagrams / kBucketEntries);
  // The table compares times and nothing else: nanoseconds do for its "cycles".
  table_ = rte_ip_frag_table_create(buckets, kBucketEntries, datagrams, kTimeoutNs, -1);
  if (table_ == nullptr) throw std::runtime_error("cannot create the reassembly table");
}

Reassembly::~Reassembly() { rte_ip_frag_table_destroy(table_); }

rte_mbuf* Reassembly::add(rte_mbuf* mbuf, unsigned header_bytes, uint64_t now_ns,
                          Counters& counters) {
  expire(now_ns, counters);  // so that what the next call buries is refused, not late
  mbuf->l2_len = 0;
  mbuf->l3_len = header_bytes & 0x1ff;  // a field of 9 bits
  rte_mbuf* whole = rte_ipv4_frag_reassemble_packet(
      table_, dead_.get(), mbuf, now_ns, rte_pktmbuf_mtod(mbuf, rte_ipv4_hdr*));
  bury(Fate::outer_fragment, counters);
  if (whole == nullptr) return nullptr;
  const unsigned segments = whole->nb_segs;
  if (rte_pktmbuf_linearize(whole) != 0) {
    counters.fates[static_cast<unsigned>(Fate::outer_too_big)] += segments;
    rte_pktmbuf_free(whole);
    return nullptr;
  }
  counters.consumed += segments - 1;
  return whole;
}

void Reassembly::expire(uint64_t now_ns, Counters& counters) {
  do {  // as long as the death row has been too short
    rte_ip_frag_table_del_expired_entries(table_, dead_.get(), now_ns);
    if (dead_->cnt == 0) return;
    bury(Fate::fragment_timeout, counters);
  } while (true);
}

void Reassembly::clear(Counters& counters) { expire(UINT64_MAX, counters); }

void Reassembly::bury(Fate reason, Counters& counters) {
  for (uint32_t i = 0; i < dead_->cnt; ++i) {
    counters.fates[static_cast<unsigned>(reason)] += dead_->row[i]->nb_segs;
    rte_pktmbuf_free(dead_->row[i]);
  }
  dead_->cnt = 0;
}

}  // namespace adit::gateway
