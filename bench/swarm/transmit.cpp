// A trial: packets at their times, and what became of them.
#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <algorithm>
#include <cstring>

#include "bench/swarm/swarm.h"

namespace adit::bench {

using tunnel::Protection;

namespace {

inline constexpr unsigned kSendBurst = 32;
// After a pause of ours, so many packets of a direction are sent as fast as it goes; those beyond
// are left out, for a longer rush would be a test of the queues in between, and not of the rate.
inline constexpr double kRushMax = 256;
// How long after the last packet one may still arrive.
inline constexpr double kDrainSeconds = 0.1;

// How many packets are due, at a steady rate.
class Pace {
 public:
  explicit Pace(double packets_a_cycle) : packets_a_cycle_(packets_a_cycle) {}
  double due(uint64_t cycles, uint64_t& skipped) {
    const double due = static_cast<double>(cycles) * packets_a_cycle_ - offered_;
    if (due <= kRushMax) return due;
    skipped += static_cast<uint64_t>(due - kRushMax);
    offered_ += due - kRushMax;
    return kRushMax;
  }
  void offer(unsigned count) { offered_ += count; }

 private:
  double packets_a_cycle_;
  double offered_ = 0;
};

}  // namespace

// Sends a packet of each of these flows, at most kBurst.
void Swarm::send(Direction direction, std::span<const uint32_t> flows) {
  rte_mbuf* packets[kBurst];
  const auto count = static_cast<uint16_t>(flows.size());
  TrialResult::Counts& counts = trial_.counts[direction];
  if (rte_pktmbuf_alloc_bulk(pool_, packets, count) != 0) {
    counts.skipped += count;
    return;
  }
  const uint64_t tsc = rte_rdtsc();
  for (unsigned i = 0; i < count; ++i) {
    auto* const frame = rte_pktmbuf_mtod(packets[i], uint8_t*);
    const unsigned bytes = write(direction, flows[i], tsc, frame);
    packets[i]->data_len = static_cast<uint16_t>(bytes);
    packets[i]->pkt_len = bytes;
  }
  const unsigned side = direction == kOutbound ? kClientsSide : kServersSide;
  const uint16_t sent = rte_eth_tx_burst(sides_[side].port, 0, packets, count);
  counts.sent += sent;
  counts.refused += count - sent;
  if (sent < count) rte_pktmbuf_free_bulk(packets + sent, count - sent);
}

// So many handshakes that nobody means, at most kBurst.
void Swarm::send_flood(unsigned count) {
  rte_mbuf* packets[kBurst];
  if (rte_pktmbuf_alloc_bulk(pool_, packets, count) != 0) {
    trial_.flood_skipped += count;
    return;
  }
  for (unsigned i = 0; i < count; ++i) {
    const Flood::Datagram datagram = flood_.next();
    auto* const frame = rte_pktmbuf_mtod(packets[i], uint8_t*);
    std::ranges::copy(datagram.bytes, frame + kUdpPayloadAt);
    const unsigned bytes = wrap_datagram(frame, sides_[kClientsSide].link, datagram.from,
                                         options_.tunnel,
                                         static_cast<unsigned>(datagram.bytes.size()));
    packets[i]->data_len = static_cast<uint16_t>(bytes);
    packets[i]->pkt_len = bytes;
  }
  const uint16_t sent =
      rte_eth_tx_burst(sides_[kClientsSide].port, 0, packets, static_cast<uint16_t>(count));
  trial_.flood_sent += sent;
  trial_.flood_skipped += count - sent;
  if (sent < count) rte_pktmbuf_free_bulk(packets + sent, count - sent);
}

unsigned Swarm::write(Direction direction, uint32_t flow, uint64_t tsc, uint8_t* frame) {
  const Frame& from = send_frames_[direction][flow];
  const Stamp stamp{flow, next_sequence_[direction][flow]++, tsc};
  std::memcpy(frame, from.bytes.data(), from.bytes.size());
  const unsigned payload_bytes = flows_[flow].inner_bytes - kInnerHeaderBytes;
  write_payload(frame + from.header_bytes, payload_bytes, stamp);
  if (options_.yardstick || direction == kInbound) return from.frame_bytes;
  Client& client = clients_[flows_[flow].client];
  if (options_.protection == Protection::plain) {
    client.note_sent_plain();
    return from.frame_bytes;
  }
  const unsigned text_bytes = from.frame_bytes - kUdpPayloadAt - tunnel::kEncryptedOverheadBytes;
  uint8_t* const end = frame + from.header_bytes + payload_bytes;
  std::memset(end, 0, text_bytes - flows_[flow].inner_bytes);
  crypto_.seal(client.session(), client.next_counter(), frame + kUdpPayloadAt, text_bytes);
  set_udp_checksum(frame);
  return from.frame_bytes;
}

void Swarm::set_sizes(const std::vector<uint16_t>& inner_bytes) {
  if (inner_bytes == sizes_) return;
  // What is still on its way has the old ones.
  const uint64_t quiet_cycles = rte_get_tsc_hz() / 4;
  for (uint64_t since = rte_rdtsc(); rte_rdtsc() - since < quiet_cycles;) {
    if (poll()) since = rte_rdtsc();
  }
  sizes_ = inner_bytes;
  for (Flow& flow : flows_) flow.inner_bytes = sizes_[flow.number % sizes_.size()];
  rebuild_all();
}

void Swarm::report_progress(double seconds) const {
  using Counts = TrialResult::Counts;
  log_(fmt::format("{:.0f} s: {} sent, {} received, {} refused, {} wrong", seconds,
                   trial_.total(&Counts::sent), trial_.total(&Counts::received),
                   trial_.total(&Counts::refused), trial_.wrong));
}

TrialResult Swarm::run(const TrialOptions& options) {
  set_sizes(options.inner_bytes);
  const auto hz = static_cast<double>(rte_get_tsc_hz());
  const double directions = options.directions[0] + options.directions[1];
  const double packets_a_cycle = options.rate_pps / directions / hz;
  std::array<Pace, kDirections> paces{Pace(packets_a_cycle), Pace(packets_a_cycle)};
  Pace flood_pace(options.flood_pps / hz);
  uint64_t idle_cycles = 0;
  trial_ = {};
  if (options.storm) clients_wanted_ = options_.clients;
  const uint32_t up_before = clients_up_;
  const uint64_t began = rte_rdtsc();
  trial_began_tsc_ = began;
  const uint64_t ends = began + static_cast<uint64_t>(options.seconds * hz);
  uint64_t second_ends = began + static_cast<uint64_t>(hz);
  uint64_t now = began;
  while (now < ends) {
    bool is_busy = poll();
    const double flood_due = flood_pace.due(now - began, trial_.flood_skipped);
    if (flood_due >= 1) {
      const unsigned count = std::min(kSendBurst, static_cast<unsigned>(flood_due));
      send_flood(count);
      flood_pace.offer(count);
    }
    for (unsigned d = 0; d < kDirections; ++d) {
      if (!options.directions[d]) continue;
      double due = kSendBurst;
      if (options.rate_pps > 0) due = paces[d].due(now - began, trial_.counts[d].skipped);
      if (due < 1) continue;
      is_busy = true;
      const auto turn = order_.begin() + turn_[d];
      const unsigned count = std::min(
          {kSendBurst, static_cast<unsigned>(due), static_cast<unsigned>(order_.end() - turn)});
      send(static_cast<Direction>(d), {turn, count});
      paces[d].offer(count);
      turn_[d] = (turn_[d] + count) % flows();
      // What the next burst will be copied from.
      for (unsigned i = 0; i < std::min(kSendBurst, flows() - turn_[d]); ++i) {
        const uint8_t* line = send_frames_[d][order_[turn_[d] + i]].bytes.data();
        rte_prefetch0(line);
        rte_prefetch0(line + 64);
      }
    }
    const uint64_t after = rte_rdtsc();
    if (!is_busy) idle_cycles += after - now;
    now = after;
    if (now >= second_ends && now < ends) {
      second_ends += static_cast<uint64_t>(hz);
      report_progress(static_cast<double>(now - began) / hz);
    }
  }
  trial_.seconds = static_cast<double>(now - began) / hz;
  trial_.connected = clients_up_ - up_before;
  if (trial_.connected > 0) {
    trial_.connecting_seconds = static_cast<double>(came_up_tsc_ - began) / hz;
  }
  trial_.idle_share = static_cast<double>(idle_cycles) / static_cast<double>(now - began);

  uint64_t last_tsc = rte_rdtsc();
  while (trial_.lost() > trial_.total(&TrialResult::Counts::refused) + trial_.wrong &&
         static_cast<double>(rte_rdtsc() - last_tsc) < kDrainSeconds * hz) {
    if (poll()) last_tsc = rte_rdtsc();
  }
  trial_began_tsc_ = ~uint64_t{0};
  return trial_;
}

}  // namespace adit::bench
