// What threads share, under ThreadSanitizer: the rings between workers, and what a worker tells the
// control thread of a tunnel without a message. What the pipeline does with it, other tests say;
// here it is that one thread sees what another has written before, and never half of it.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>
#include <vector>

#include "gateway/hand_off.h"
#include "gateway/tunnel_table.h"

namespace adit::gateway {
namespace {

constexpr unsigned kPackets = 200'000;

// Stands for a packet buffer: what the first owner writes, the next one reads and writes.
struct Buffer {
  uint64_t number = 0;
  unsigned owner = 0;
};

rte_mbuf* as_mbuf(Buffer* buffer) { return reinterpret_cast<rte_mbuf*>(buffer); }
Buffer* as_buffer(rte_mbuf* mbuf) { return reinterpret_cast<Buffer*>(mbuf); }

// Each of three workers hands every other one packets, and takes over what they hand it.
TEST(Threads, HandedPacketsArriveInOrderWithWhatWasWrittenInThem) {
  constexpr unsigned kWorkers = 3;
  HandOff hand_off("threads-", kWorkers);
  std::vector<std::unique_ptr<Buffer[]>> buffers;
  for (unsigned i = 0; i < kWorkers * kWorkers; ++i) {
    buffers.push_back(std::make_unique<Buffer[]>(kPackets));
  }
  std::array<unsigned, kWorkers> wrong{};
  const auto work = [&](unsigned me) {
    std::array<unsigned, kWorkers> sent{};
    std::array<unsigned, kWorkers> seen{};
    for (bool more = true; more;) {
      more = false;
      for (unsigned other = 0; other < kWorkers; ++other) {
        if (other == me) continue;
        std::array<HandedPacket, 32> packets;
        unsigned count = 0;
        while (count < packets.size() && sent[other] + count < kPackets) {
          Buffer& buffer = buffers[me * kWorkers + other][sent[other] + count];
          buffer = {.number = sent[other] + count, .owner = other};
          packets[count++].mbuf = as_mbuf(&buffer);
        }
        // What the ring had no room for is written once more, and handed over then.
        sent[other] += hand_off.push(me, other, {packets.data(), count});
        const unsigned got = hand_off.pop(other, me, packets);
        for (unsigned i = 0; i < got; ++i) {
          Buffer& buffer = *as_buffer(packets[i].mbuf);
          wrong[me] += buffer.owner != me || buffer.number != seen[other]++;
          buffer.owner = kWorkers;
        }
        more |= sent[other] < kPackets || seen[other] < kPackets;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned me = 0; me < kWorkers; ++me) threads.emplace_back(work, me);
  }
  for (const unsigned count : wrong) EXPECT_EQ(count, 0u);
}

// The control thread believes a report only of the tunnel that it means.
TEST(Threads, ReportIsOfTheTunnelThatItNames) {
  TunnelReport report;
  std::jthread worker([&report] {
    for (uint32_t epoch = 1; epoch <= 20'000; ++epoch) {
      report.begin(epoch);
      for (uint64_t i = 1; i <= 5; ++i) {
        report.heard_ns.store(uint64_t{epoch} << 32 | i, std::memory_order_relaxed);
      }
    }
  });
  for (uint32_t epoch = 0; epoch < 20'000;) {
    epoch = report.epoch.load(std::memory_order_acquire);
    const uint64_t heard = report.heard_ns.load(std::memory_order_relaxed);
    // Nothing, or of this tunnel, or of one that has come since.
    ASSERT_TRUE(heard == 0 || heard >> 32 >= epoch) << epoch;
  }
}

// Counters are read while they are written: a value a moment old, never half of two.
TEST(Threads, TrafficAddsUp) {
  TunnelTraffic traffic;
  std::jthread worker([&traffic] {
    for (unsigned i = 0; i < kPackets; ++i) bump(traffic.rx_bytes, 0x1'0000'0001);
  });
  for (uint64_t seen = 0; seen < uint64_t{kPackets} * 0x1'0000'0001;) {
    const uint64_t now = traffic.rx_bytes.load(std::memory_order_relaxed);
    ASSERT_GE(now, seen);
    ASSERT_EQ(now % 0x1'0000'0001, 0u);
    seen = now;
  }
}

}  // namespace
}  // namespace adit::gateway
