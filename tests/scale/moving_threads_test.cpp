// A tunnel that goes from worker to worker, each a thread of its own, under ThreadSanitizer: whoever
// has it touches its slot, mappings, blocks and windows as if they had never been anybody else's,
// and each worker knows by a view of its own who that is. Said and answered through the rings
// between workers, as gateway/move.cpp does it. The control thread looks on.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gateway/hand_off.h"
#include "gateway/ownership.h"
#include "gateway/tunnel_table.h"
#include "lib/nat/nat.h"

namespace adit::gateway {
namespace {

constexpr unsigned kSharers = 3;
constexpr unsigned kMoves = 6000;
constexpr unsigned kEndpoints = 200;
constexpr uint32_t kBegin_s = 1'000'000;
constexpr uint32_t kSlot = kSharers;  // the first one's

constexpr uint32_t kOrdinal = 128;  // whose range is in the first one's windows, from port 9216 on

// With blocks granted at random, or with deterministic ranges.
nat::Settings settings_of(unsigned share, bool has_ranges) {
  nat::Settings settings;
  if (has_ranges) settings.deterministic_ports = 64;
  settings.pool = {Ipv4Address::from_octets(30, 1, 1, 10)};
  settings.profiles[0].limits.new_mappings_per_second = 1'000'000;
  settings.sharers = kSharers;
  settings.share = static_cast<uint8_t>(share);
  for (unsigned unit = 0; unit < nat::kUnitsPerAddress; ++unit) {
    settings.shares.push_back(static_cast<uint8_t>(unit / 32 % kSharers));
  }
  return settings;
}

class MovingThreads : public testing::TestWithParam<bool> {
 protected:
  MovingThreads() : memory_(std::make_unique<std::byte[]>(memory_bytes() + 64)) {
    const auto start = reinterpret_cast<uintptr_t>(memory_.get());
    const std::span<std::byte> aligned(reinterpret_cast<std::byte*>((start + 63) / 64 * 64),
                                       memory_bytes());
    for (unsigned share = 0; share < kSharers; ++share) {
      nats_[share] = std::make_unique<nat::Nat>(
          settings_of(share, GetParam()), aligned,
          [random = std::mt19937_64(share)]() mutable { return random(); });
      owners_[share] = std::make_unique<TunnelOwners>(tunnels_, kSharers);
    }
    for (const auto& owners : owners_) EXPECT_EQ(owners->of(kSlot), 0u);
  }
  static size_t memory_bytes() { return nat::Nat::memory_bytes(settings_of(0, GetParam())); }
  void say(unsigned from, unsigned to, HandedPacket::Kind kind, uint32_t slot) {
    HandedPacket message;
    message.kind = kind;
    message.slot = slot;
    while (hand_off_.push(from, to, {&message, 1}) == 0) std::this_thread::yield();
  }
  void work(unsigned me);
  bool hear(unsigned me);
  void use(unsigned me, std::mt19937& random);
  void sweep(unsigned me);
  void send_home(unsigned me);
  void look_on();

  std::unique_ptr<std::byte[]> memory_;
  std::array<std::unique_ptr<nat::Nat>, kSharers> nats_;
  TunnelTable tunnels_{16, kSharers};
  std::array<std::unique_ptr<TunnelOwners>, kSharers> owners_;
  HandOff hand_off_{"moving-threads-", kSharers};
  std::atomic<uint32_t> now_s_{kBegin_s};
  std::atomic<unsigned> done_{0};
  // The owner's, who is the one that has heard "moved" last.
  nat::Subscriber& subscriber_ = tunnels_.at(kSlot).subscriber;
  std::array<Endpoint, kEndpoints> externals_{};
  unsigned moves_ = 0;
  unsigned wrong_ = 0;
};

void MovingThreads::use(unsigned me, std::mt19937& random) {
  nat::Nat& nat = *nats_[me];
  Tunnel& tunnel = tunnels_.at(kSlot);
  wrong_ += owners_[me]->of(kSlot) != me || tunnel.epoch++ != moves_;
  ++tunnel.open->traffic.rx_packets;
  tunnels_.line(kSlot).rx_packets = tunnel.epoch;
  const uint32_t now_s = now_s_.load(std::memory_order_relaxed);
  if (!subscriber_.attached) {
    if (GetParam() && me != 0) return;  // a tunnel opens where its range is at home
    nat.attach(subscriber_, kSlot, 0, now_s, kOrdinal);
    externals_ = {};
  }
  for (unsigned i = 0; i < 20; ++i) {
    const auto which = static_cast<unsigned>(random() % kEndpoints);
    const Endpoint internal{Ipv4Address::from_octets(192, 168, 1, 10),
                            Be16::from_host(static_cast<uint16_t>(2000 + which))};
    nat::Mapping* mapping = nat.find_outbound(subscriber_, nat::Protocol::udp, internal, now_s);
    nat::Refusal refusal = nat::Refusal::none;
    if (mapping == nullptr) {
      mapping = nat.create_outbound(subscriber_, nat::Protocol::udp, internal, now_s, refusal);
      if (mapping == nullptr) continue;
    } else {
      wrong_ += mapping->external != externals_[which];
    }
    externals_[which] = mapping->external;
    nat.on_outbound(*mapping, {internal.address, Be16::from_host(9)}, 0, now_s);
  }
  if (random() % 16 != 0) return;
  nat.detach(subscriber_, now_s);
  send_home(me);
}

void MovingThreads::sweep(unsigned me) {
  nat::Nat& nat = *nats_[me];
  nat.sweep(now_s_.load(std::memory_order_relaxed), 500);
  send_home(me);
}

void MovingThreads::send_home(unsigned me) {
  nat::Nat& nat = *nats_[me];
  const auto block = nat.homesick();
  if (!block) return;
  nat.send_home(*block);
  say(me, block->unit / 32 % kSharers, HandedPacket::block_home, block->unit);
}

// True: the tunnel is ours now.
bool MovingThreads::hear(unsigned me) {
  bool is_owner = false;
  for (unsigned other = 0; other < kSharers; ++other) {
    HandedPacket message;
    if (other == me || hand_off_.pop(other, me, {&message, 1}) == 0) continue;
    if (message.kind == HandedPacket::block_home) {
      nats_[me]->take_back(message.slot);
    } else {
      nats_[me]->adopt(subscriber_);
      owners_[me]->set(kSlot, me);
      is_owner = true;
    }
  }
  return is_owner;
}

void MovingThreads::work(unsigned me) {
  std::mt19937 random(me);
  bool is_owner = me == 0;
  while (done_.load(std::memory_order_acquire) == 0) {
    is_owner |= hear(me);
    sweep(me);
    if (!is_owner) {
      std::this_thread::yield();
      continue;
    }
    use(me, random);
    now_s_.fetch_add(static_cast<uint32_t>(random() % 4), std::memory_order_relaxed);
    if (++moves_ > kMoves) {
      done_.store(1, std::memory_order_release);
      return;
    }
    while (!nats_[me]->has_range(subscriber_)) {  // its last tunnel's is on its way home
      hear(me);
      std::this_thread::yield();
    }
    nats_[me]->leave(subscriber_);
    is_owner = false;
    const auto step = static_cast<unsigned>(1 + random() % (kSharers - 1));
    const unsigned to = (me + step) % kSharers;
    owners_[me]->set(kSlot, to);
    tunnels_.report(kSlot).move_answered.store(moves_, std::memory_order_release);
    say(me, to, HandedPacket::moved, kSlot);
  }
}

// What it has carried by then is never less than what it has been moved. Mappings are counted by
// whoever has it.
void MovingThreads::look_on() {
  nat::Nat::Counts seen;
  for (uint32_t answered = 0; answered < kMoves;) {
    const uint32_t now = tunnels_.report(kSlot).move_answered.load(std::memory_order_acquire);
    ASSERT_GE(now, answered);
    ASSERT_GE(tunnels_.open(kSlot).traffic.rx_packets, now);
    answered = now;
    nat::Nat::Counts sum;
    for (const auto& nat : nats_) sum += nat->counts();
    ASSERT_GE(sum.mappings_created, seen.mappings_created);
    ASSERT_GE(sum.mappings_expired, seen.mappings_expired);
    seen = sum;
    std::this_thread::yield();
  }
}

TEST_P(MovingThreads, TunnelIsOneThreadsAtATime) {
  {
    std::vector<std::jthread> threads;
    for (unsigned me = 0; me < kSharers; ++me) threads.emplace_back([this, me] { work(me); });
    look_on();
  }
  EXPECT_EQ(wrong_, 0u) << "a mapping has changed, or who has it";
  nat::Nat::Counts sum;
  for (const auto& nat : nats_) sum += nat->counts();
  EXPECT_EQ(sum.mappings_live, subscriber_.live_mappings);
  // A range's few ports are their endpoints' again and again.
  const uint64_t revived = GetParam() ? uint64_t{sum.mappings_revived} : 0;
  EXPECT_GT(uint64_t{sum.mappings_created} + revived, uint64_t{kEndpoints});
  EXPECT_GT(sum.mappings_expired + sum.mappings_detached, 0u);
}

INSTANTIATE_TEST_SUITE_P(, MovingThreads, testing::Bool(), [](const auto& allocation) {
  return allocation.param ? "DeterministicRanges" : "RandomBlocks";
});

}  // namespace
}  // namespace adit::gateway
