// What tunnels cost that carry nothing: the ciphers of their heartbeats, what grows old, what ends.
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "bench/datapath/world.h"

namespace adit::bench {

using gateway::kBurstMax;

uint64_t World::heartbeats(unsigned burst, uint64_t gap_ns) {
  draw_flows();
  for (unsigned i = 0; i < kPackets; ++i) {
    const uint32_t slot = flow(drawn_[i]).slot;
    write_heartbeat(buffers_[i], slot, session(slot));
  }
  sent_.clear();
  gateway::Pipeline& pipeline = *parts_[0].pipeline;
  const uint64_t start = rte_rdtsc_precise();
  for (unsigned i = 0; i < kPackets; i += burst) {
    now_ns_ += gap_ns;
    pipeline.run_waiting(now_ns_);
    pipeline.run(kUplinkPort, {&buffers_[i], burst}, now_ns_);
    take_sent(pipeline, kUplinkPort);
  }
  pipeline.run_waiting(now_ns_, 0);
  take_sent(pipeline, kUplinkPort);
  const uint64_t cycles = rte_rdtsc_precise() - start;
  counters_.transmitted += sent_.size();
  if (sent_.size() != kPackets) throw std::runtime_error("a heartbeat had no answer");
  return cycles;
}

uint64_t World::heartbeat_ciphers(unsigned burst) {
  draw_flows();
  std::array<gateway::CryptoJob, kBurstMax> jobs;
  for (unsigned i = 0; i < jobs.size(); ++i) {
    const uint32_t slot = flow(drawn_[i]).slot;
    const tunnel::Session& its = session(slot);
    write_heartbeat(buffers_[i], slot, its);
    constexpr unsigned kHeaders = sizeof(EthernetHeader) + sizeof(Ipv4Header) + sizeof(UdpHeader);
    jobs[i] = {.session = &its,
               .packet = rte_pktmbuf_mtod_offset(buffers_[i], uint8_t*, kHeaders),
               .text_bytes = sizeof(tunnel::ProbePacket)};
  }
  const uint64_t start = rte_rdtsc_precise();
  for (unsigned i = 0; i < kPackets; i += burst) {
    const std::span now(&jobs[i % kBurstMax], burst);
    crypto().open(now);
    for (gateway::CryptoJob& job : now) ++job.counter;
    crypto().seal(now);
  }
  return rte_rdtsc_precise() - start;
}

// Each mapping is used once in `used_every_s`, one as far from the next in time as may be: an odd
// step goes through all flows of a power of two, and through nearly all of others.
void World::use_mappings(unsigned used_every_s) {
  constexpr uint64_t kStep = 0x9e3779b1;
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  for (uint32_t i = 0; i < options_.flows / used_every_s + 1; ++i) {
    const Endpoint& external = externals_[next_used_++ * kStep % options_.flows];
    parts_[0].nat->entry(external.address, nat::Protocol::udp, external.port)->last_seen_s = now_s;
  }
}

uint64_t World::age(unsigned seconds, unsigned used_every_s) {
  constexpr unsigned kSweepsASecond = 1000;
  uint64_t cycles = 0;
  for (unsigned second = 0; second < seconds; ++second) {
    use_mappings(used_every_s);
    const uint64_t start = rte_rdtsc_precise();
    for (unsigned i = 0; i < kSweepsASecond; ++i) {
      now_ns_ += tunnel::kSecondNs / kSweepsASecond;
      for (const Parts& parts : parts_) parts.pipeline->sweep(now_ns_);
    }
    cycles += rte_rdtsc_precise() - start;
  }
  return cycles;
}

uint64_t World::expire_mappings() {
  now_ns_ += (nat_settings_.profiles[0].timeouts.udp_s + 1) * tunnel::kSecondNs;
  const auto now_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs);
  const uint64_t start = rte_rdtsc_precise();
  for (const Parts& parts : parts_) {
    for (uint64_t left = parts.nat->granted_entries(); left > 0;) {
      const auto step = static_cast<unsigned>(std::min<uint64_t>(left, 1024));
      parts.nat->sweep(now_s, step);
      left -= step;
    }
  }
  const uint64_t cycles = rte_rdtsc_precise() - start;
  for (const Parts& parts : parts_) {
    if (parts.nat->counts().mappings_live != 0) {
      throw std::runtime_error("mappings outlived their time");
    }
  }
  return cycles;
}

}  // namespace adit::bench
