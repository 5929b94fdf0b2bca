// What threads share, under ThreadSanitizer: the rings between workers and with the control thread,
// and what a worker tells that one without a message. What the pipeline does with it, other tests say;
// here it is that one thread sees what another has written before, and never half of it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "gateway/channel.h"
#include "gateway/hand_off.h"
#include "gateway/messages.h"
#include "gateway/samples.h"
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

// The control thread looks at what a worker samples while it goes on: each sample is whole, none is
// seen twice, and those that it has missed are the oldest.
TEST(Threads, SamplesAreReadWhileTheyAreTaken) {
  const auto samples = std::make_unique<PacketSamples>();
  std::jthread worker([&samples] {
    for (uint32_t i = 1; i <= kPackets; ++i) {
      samples->add({i, static_cast<uint8_t>(i), i % 2 == 0});
    }
  });
  uint32_t seen = 0;
  for (uint32_t last = 0; last < kPackets;) {
    samples->read(seen, [&last](const Sample& sample) {
      EXPECT_GT(sample.slot, last);
      EXPECT_EQ(sample.received_by, static_cast<uint8_t>(sample.slot));
      EXPECT_EQ(sample.is_outbound, sample.slot % 2 == 0);
      last = sample.slot;
    });
  }
  EXPECT_EQ(seen, kPackets);
}

// A handshake's buffer goes to the control thread and comes back as a cookie: who has it is the
// only one to touch it.
TEST(Threads, RepliesComeBackInTheBuffersOfWhatTheyAnswer) {
  Channel<ToControl> handshakes("threads-handshakes", 256);
  Channel<Reply> replies("threads-replies", 256);
  constexpr unsigned kInHand = 64;
  std::array<Buffer, kInHand> buffers;
  std::jthread control([&] {
    std::vector<Reply> written;
    for (unsigned taken = 0; taken < kPackets;) {
      handshakes.drain(kInHand, [&](const ToControl& item) {
        as_buffer(item.packet)->owner = 1;
        written.push_back({item.from, item.packet});
        ++taken;
      });
      if (written.empty()) std::this_thread::yield();
      EXPECT_EQ(replies.push_burst(written), written.size());
      written.clear();
    }
  });
  std::vector<Buffer*> free;
  for (Buffer& buffer : buffers) free.push_back(&buffer);
  uint64_t sent = 0;
  for (unsigned back = 0; back < kPackets;) {
    for (; !free.empty() && sent < kPackets; free.pop_back()) {
      *free.back() = {.number = sent, .owner = 0};
      ToControl item;
      item.from.address = Ipv4Address::from_host(static_cast<uint32_t>(sent++));
      item.packet = as_mbuf(free.back());
      ASSERT_TRUE(handshakes.push(item));
    }
    std::array<Reply, 32> got;
    const unsigned count = replies.pop(got);
    if (count == 0) std::this_thread::yield();
    for (const Reply& reply : std::span(got).first(count)) {
      Buffer* const buffer = as_buffer(reply.packet);
      ASSERT_EQ(buffer->owner, 1u);
      ASSERT_EQ(buffer->number, back++);
      ASSERT_EQ(reply.to.address.host(), buffer->number);
      free.push_back(buffer);
    }
  }
}

// Counters are read while they are written, as the status document does it: a value a moment old,
// never half of two.
TEST(Threads, CountersAreReadWhileAWorkerCounts) {
  Counters counters;
  std::jthread worker([&counters] {
    for (unsigned i = 0; i < kPackets; ++i) {
      ++counters.received;
      counters.outbound_bytes += 0x1'0000'0001;
      ++counters.fates[static_cast<unsigned>(Fate::tx_full)];
    }
  });
  for (Counters seen; seen.drops_total() < kPackets;) {
    Counters now;
    now += counters;
    ASSERT_GE(now.received, seen.received);
    ASSERT_EQ(now.outbound_bytes % 0x1'0000'0001, 0u);
    seen = now;
  }
}

TEST(Threads, TrafficAddsUp) {
  TunnelTraffic traffic;
  std::jthread worker([&traffic] {
    for (unsigned i = 0; i < kPackets; ++i) traffic.rx_bytes += 0x1'0000'0001;
  });
  for (uint64_t seen = 0; seen < uint64_t{kPackets} * 0x1'0000'0001;) {
    const uint64_t now = traffic.rx_bytes;
    ASSERT_GE(now, seen);
    ASSERT_EQ(now % 0x1'0000'0001, 0u);
    seen = now;
  }
}

// A worker closes tunnels without a thought for who reads what they have carried.
TEST(Threads, TunnelClosesWhileItsTrafficIsRead) {
  constexpr uint32_t kSlot = 1;
  constexpr unsigned kCarried = 5;
  TunnelTable tunnels(2, 1);
  std::atomic<bool> is_done = false;
  std::jthread worker([&] {
    for (unsigned i = 0; i < 20'000; ++i) {
      for (unsigned k = 0; k < kCarried; ++k) ++tunnels.open(kSlot).traffic.tx_packets;
      tunnels.clear(kSlot);
    }
    is_done = true;
  });
  while (!is_done) ASSERT_LE(tunnels.open(kSlot).traffic.tx_packets, kCarried);
}

}  // namespace
}  // namespace adit::gateway
