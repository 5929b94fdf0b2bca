#include "bench/datapath/followed.h"

#include <fmt/format.h>
#include <rte_cycles.h>

#include <cstdio>
#include <stdexcept>
#include <vector>

#include "bench/report.h"
#include "gateway/config.h"
#include "gateway/tunnel_hand.h"
#include "lib/tunnel/peer.h"

namespace adit::bench {

namespace {

using gateway::TunnelHand;
using gateway::TunnelReport;

constexpr unsigned kMovesASecond = 1000;
constexpr unsigned kSeconds = 25;

// What Control has of tunnels, as far as heartbeats go; Control::follow() does the same.
class Followed {
 public:
  explicit Followed(World& world)
      : world_(world),
        table_(world.tunnel_table()),
        hand_(table_.slots(), {gateway::TunnelConfig{}.heartbeat_ns,
                               gateway::TunnelConfig{}.dead_after_ns}),
        peer_of_(table_.slots()) {
    peers_.reserve(world.tunnels());
    for (uint32_t n = 0; n < world.tunnels(); ++n) {
      const uint32_t slot = world.flow(n * world.options().flows_per_tunnel).slot;
      slots_.push_back(slot);
      peer_of_[slot] = n;
      open(slot);
    }
    move();  // of nobody has it heard
  }

  // A millisecond, in which so many tunnels send a heartbeat and are answered; the hand's cycles.
  uint64_t move(unsigned heartbeats = 0) {
    now_ns_ += tunnel::kSecondNs / kMovesASecond;
    for (unsigned i = 0; i < heartbeats; ++i) {
      // In turn, but far from each other in memory; an odd step goes through a power of two.
      constexpr uint64_t kStep = 0x9e3779b1;
      TunnelReport& report = table_.report(slots_[next_++ * kStep % slots_.size()]);
      report.heard_ns.store(now_ns_, std::memory_order_relaxed);
      report.sent_ns.store(now_ns_, std::memory_order_relaxed);
    }
    const uint64_t start = rte_rdtsc_precise();
    hand_.move(now_ns_, table_, [this](uint32_t slot) { follow(slot); });
    return rte_rdtsc_precise() - start;
  }

  uint64_t looks() const { return looks_; }

 private:
  // A peer whose session is made and confirmed, all but the cryptography.
  void open(uint32_t slot) {
    const gateway::TunnelConfig defaults;
    tunnel::PeerConfig config;
    config.heartbeat_ns = defaults.heartbeat_ns;
    config.dead_after_ns = defaults.dead_after_ns;
    config.slot = slot;
    config.slot_bits = static_cast<uint8_t>(table_.slot_bits());
    const tunnel::Protection protections[] = {tunnel::Protection::chacha20_poly1305};
    config.accept(protections);
    tunnel::Peer& peer = peers_.emplace_back(identity_, remote_, config, random_bytes_);
    tunnel::OpenedInitiation opened;
    opened.timestamp = tunnel::tai64n_from_unix(1, 0);
    tunnel::HandshakeReject reject = tunnel::HandshakeReject::none;
    const auto answer = peer.begin_answer(now_ns_, opened, reject);
    if (!answer) throw std::runtime_error("a peer did not take its handshake");
    tunnel::Session session;
    session.local_index = answer->local_index;
    session.established_ns = now_ns_;
    peer.end_answer(now_ns_, session, {}, reject);
    peer.on_heard(now_ns_, false);
    const TunnelReport& report = table_.report(slot);
    hand_.open(slot);
    hand_.at(slot).tell(peer, report);
    hand_.at(slot).wait_for(peer);
  }

  void follow(uint32_t slot) {
    ++looks_;
    tunnel::Peer& peer = peers_[peer_of_[slot]];
    TunnelHand::Watched& watched = hand_.at(slot);
    watched.tell(peer, table_.report(slot));
    if (peer.next_deadline_ns() <= now_ns_) peer.tick(now_ns_, {});
    watched.wait_for(peer);
  }

  World& world_;
  gateway::TunnelTable& table_;
  TunnelHand hand_;
  tunnel::RandomSource random_bytes_ = [](std::span<uint8_t> out) { std::ranges::fill(out, 7); };
  tunnel::Identity identity_;
  tunnel::RemoteIdentity remote_;
  std::vector<tunnel::Peer> peers_;  // by tunnel
  std::vector<uint32_t> slots_;      // by tunnel
  std::vector<uint32_t> peer_of_;    // by slot
  uint64_t next_ = 0;                // to send a heartbeat, of all that ever will
  uint64_t now_ns_ = 1'000 * tunnel::kSecondNs;
  uint64_t looks_ = 0;
};

}  // namespace

nlohmann::json followed_row(World& world) {
  Followed followed(world);
  const double interval_s =
      static_cast<double>(gateway::TunnelConfig{}.heartbeat_ns) / tunnel::kSecondNs;
  const double heartbeats_a_move = world.tunnels() / interval_s / kMovesASecond;
  double due = 0;
  uint64_t cycles = 0;
  uint64_t looks_before = 0;
  // Twice their interval, so that each has sent one, and again; the second time counts.
  for (unsigned i = 0; i < 2 * kSeconds * kMovesASecond; ++i) {
    due += heartbeats_a_move;
    const auto count = static_cast<unsigned>(due);
    due -= count;
    if (i == kSeconds * kMovesASecond) {
      cycles = 0;
      looks_before = followed.looks();
    }
    cycles += followed.move(count);
  }
  const uint64_t looks = followed.looks() - looks_before;
  const double share = static_cast<double>(cycles) / kSeconds / tsc_hz();
  fmt::print(
      "the control thread's hand over {} tunnels, {} looks at one in {} s: {:.2f} % of a "
      "core\n",
      world.tunnels(), looks, kSeconds, share * 100);
  std::fflush(stdout);
  return {{"bench", "followed"},
          {"tunnels", world.tunnels()},
          {"looks", looks},
          {"core_share", share}};
}

}  // namespace adit::bench
