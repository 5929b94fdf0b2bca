// A trial: packets at their times, and what became of them.
#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "bench/swarm/swarm.h"

namespace adit::bench {

namespace {

// How long after the last packet one may still arrive.
inline constexpr double kDrainSeconds = 0.1;
// Of the flood, which is to come to its rate although the gateway's control thread, which looks at
// it, may have our core for milliseconds. Half of what the gateway keeps for that thread.
inline constexpr double kFloodRushMax = 2048;

// The kernel adds some 50 microseconds.
void nap() {
  const timespec pause{0, 20'000};
  nanosleep(&pause, nullptr);
}

}  // namespace

// Sends a packet of each of these flows, at most kBurst.
void Swarm::send(Direction direction, std::span<const uint32_t> flows) {
  std::array<uint32_t, kBurst> room;
  if (direction == kOutbound && absent_ != 0) flows = present(flows, room);
  if (flows.empty()) return;
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
  if (is_plain(client.number())) {
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
  std::string line = fmt::format("{:.0f} s: {} sent, {} received, {} refused, {} wrong", seconds,
                                 trial_.total(&Counts::sent), trial_.total(&Counts::received),
                                 trial_.total(&Counts::refused), trial_.wrong);
  if (trial_.roamed != 0) line += fmt::format(", {} clients roamed", trial_.roamed);
  if (trial_.left != 0) {
    line += fmt::format(", {} left and {} of them are back", trial_.left, trial_.returned);
  }
  log_(line);
}

// A burst of a direction, of which so many packets are due; one at least.
void Swarm::send_due(Direction direction, Pace& pace, double due) {
  uint32_t& at = turn_[direction];
  const auto turn = order_.begin() + at;
  const unsigned count = std::min(
      {kSendBurst, static_cast<unsigned>(due), static_cast<unsigned>(order_.end() - turn)});
  send(direction, {turn, count});
  pace.offer(count);
  at = (at + count) % flows();
  // What the next burst will be copied from.
  for (unsigned i = 0; i < std::min(kSendBurst, flows() - at); ++i) {
    const uint8_t* line = send_frames_[direction][order_[at + i]].bytes.data();
    rte_prefetch0(line);
    rte_prefetch0(line + 64);
  }
}

TrialResult Swarm::run(const TrialOptions& options) {
  set_sizes(options.inner_bytes);
  const auto hz = static_cast<double>(rte_get_tsc_hz());
  const double directions = options.directions[0] + options.directions[1];
  const double packets_a_cycle = options.rate_pps / directions / hz;
  std::array<Pace, kDirections> paces{Pace(packets_a_cycle), Pace(packets_a_cycle)};
  Pace flood_pace(options.flood_pps / hz, kFloodRushMax);
  Pace roam_pace(options.roams_per_s / hz);
  Pace leave_pace(options.leaves_per_s / hz);
  uint64_t idle_cycles = 0;
  trial_ = {};
  if (options.storm) clients_wanted_ = options_.clients;
  connecting_max_ = options.connecting != 0 ? options.connecting : options_.connecting_max;
  const uint32_t up_before = clients_up_;
  const uint64_t began = rte_rdtsc();
  trial_began_tsc_ = began;
  const uint64_t ends = began + static_cast<uint64_t>(options.seconds * hz);
  uint64_t second_ends = began + static_cast<uint64_t>(hz);
  uint64_t now = began;
  while (now < ends && !(options.until_connected && clients_up_ == clients_wanted_)) {
    bool is_busy = poll();
    const double flood_due = flood_pace.due(now - began, trial_.flood_skipped);
    if (flood_due >= 1) {
      const unsigned count = std::min(kSendBurst, static_cast<unsigned>(flood_due));
      send_flood(count);
      flood_pace.offer(count);
      is_busy = true;
    }
    if (roam_pace.is_due(now - began)) roam();
    if (leave_pace.is_due(now - began)) leave();
    for (unsigned d = 0; d < kDirections; ++d) {
      if (!options.directions[d]) continue;
      double due = kSendBurst;
      if (options.rate_pps > 0) due = paces[d].due(now - began, trial_.counts[d].skipped);
      if (due < options.burst) continue;
      send_due(static_cast<Direction>(d), paces[d], due);
      is_busy = true;
    }
    if (!is_busy && options.rests) nap();
    const uint64_t after = rte_rdtsc();
    if (!is_busy) idle_cycles += after - now;
    now = after;
    if (now >= second_ends && now < ends) {
      second_ends += static_cast<uint64_t>(hz);
      report_progress(static_cast<double>(now - began) / hz);
    }
  }
  trial_.seconds = static_cast<double>(now - began) / hz;
  wait_for_absent();
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
