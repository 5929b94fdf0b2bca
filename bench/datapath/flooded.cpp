#include "bench/datapath/flooded.h"

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <stdexcept>

#include "bench/report.h"
#include "bench/swarm/flood.h"
#include "gateway/channel.h"
#include "gateway/worker.h"
#include "tests/support/packets.h"

namespace adit::bench {

using gateway::kBurstMax;
using gateway::kRepliesAtATime;
using gateway::Reply;
using gateway::ToControl;

namespace {

constexpr uint16_t kInnerBytes = 64;
constexpr double kMoreCyclesGoal = 0.05;
constexpr MacAddress kNobody{{2, 0, 0, 0, 0, 9}};

// The forged handshakes of a round, and what the control thread does with them: it refuses them, or
// answers each by a cookie, which is the most that one can cause.
class Forged {
 public:
  explicit Forged(World& world)
      : world_(world),
        flood_({}, [random = std::minstd_rand()](std::span<uint8_t> out) mutable {
          for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
        }, 1),
        handshakes_("flooded-handshakes", 4096),
        cookies_("flooded-cookies", 4096) {}

  void fill(unsigned count, bool answers) {
    arrivals.clear();
    passed_on = answered_ = 0;
    for (unsigned i = 0; i < count; ++i) {
      const Flood::Datagram datagram = flood_.next();
      rte_mbuf* const packet = world_.buffer(frame_of(datagram));
      arrivals.push_back(packet);
      if (!answers) continue;
      const Reply cookie{datagram.from,
                         world_.buffer(test::Bytes(sizeof(tunnel::CookieReplyMessage)))};
      if (!cookies_.push(cookie)) throw std::runtime_error("no room for cookies");
    }
  }
  // What a worker does behind a burst. The control thread's cookies come many at a time, and all
  // have come when the last burst is done.
  void pass_on(gateway::Pipeline& pipeline, uint64_t now_ns, bool is_last) {
    auto& outbox = pipeline.control_outbox();
    for (unsigned i = 0; i < outbox.count; ++i) passed_on += handshakes_.push(outbox.items[i]);
    outbox.count = 0;
    Reply cookies[kRepliesAtATime];
    while (answered_ + (is_last ? 1 : kRepliesAtATime) <= passed_on) {
      const unsigned count = cookies_.pop(cookies);
      if (count == 0) return;  // they are refused
      pipeline.take(std::span(cookies).first(count), now_ns);
      answered_ += count;
    }
  }
  void free_passed_on() {
    for (ToControl item; handshakes_.pop({&item, 1}) == 1;) rte_pktmbuf_free(item.packet);
  }

  std::vector<rte_mbuf*> arrivals;
  uint64_t passed_on = 0;

 private:
  test::Bytes frame_of(const Flood::Datagram& datagram) const {
    const gateway::PipelineSettings& settings = world_.settings();
    const EthernetHeader ethernet{settings.ports[settings.uplink].mac, kNobody,
                                  Be16::from_host(kEtherTypeIpv4)};
    const auto* link = reinterpret_cast<const uint8_t*>(&ethernet);
    test::Bytes frame(link, link + sizeof ethernet);
    const test::Bytes packet =
        test::udp_packet(datagram.from, settings.tunnel_endpoint, datagram.bytes);
    frame.insert(frame.end(), packet.begin(), packet.end());
    return frame;
  }

  World& world_;
  Flood flood_;
  gateway::Channel<ToControl> handshakes_;
  gateway::Channel<Reply> cookies_;
  uint64_t answered_ = 0;
};

// Cycles a data packet of a round with `count` of them.
double run_round(World& world, Forged& forged, unsigned count, bool answers) {
  world.draw_flows();
  world.fill(nat::Direction::outbound, {&kInnerBytes, 1});
  forged.fill(count, answers);
  // Spread evenly among the others.
  std::vector<rte_mbuf*> arrivals;
  for (unsigned i = 0; i < World::kPackets; ++i) {
    const uint64_t due = uint64_t{i} * count / World::kPackets;
    if (due != uint64_t{i + 1} * count / World::kPackets) {
      arrivals.push_back(forged.arrivals[due]);
    }
    arrivals.push_back(world.buffers()[i]);
  }
  const uint64_t cycles = world.run_outbound(
      arrivals, [&](gateway::Pipeline& pipeline, uint64_t now_ns, bool is_last) {
        forged.pass_on(pipeline, now_ns, is_last);
      });
  forged.free_passed_on();
  if (forged.passed_on != count) throw std::runtime_error("a handshake was not passed on");
  return static_cast<double>(cycles) / World::kPackets;
}

}  // namespace

nlohmann::json measure_flooded(World& world, unsigned rounds, double forged_a_second) {
  Forged forged(world);
  run_round(world, forged, 0, false);
  // A round's share, on a worker that does nothing but this.
  const double round_s = run_round(world, forged, 0, false) * World::kPackets / tsc_hz();
  const auto count = static_cast<unsigned>(std::max(1.0, round_s * forged_a_second + 0.5));
  std::vector<double> calm;
  std::vector<double> refused;
  std::vector<double> answered;
  for (unsigned round = 0; round < rounds; ++round) {
    calm.push_back(run_round(world, forged, 0, false));
    refused.push_back(run_round(world, forged, count, false));
    answered.push_back(run_round(world, forged, count, true));
  }
  const double before = summarize(calm).median;
  fmt::print("{} flows, {:.0f} forged handshakes a second among {:.1f} million packets: {:.1f} "
             "cycles a packet without them\n",
             world.flows(), count / round_s, World::kPackets / round_s / 1e6, before);
  nlohmann::json row = {{"bench", "flooded"},
                        {"flows", world.flows()},
                        {"forged_a_second", count / round_s},
                        {"cycles_median", before}};
  const auto add = [&](const char* what, const std::vector<double>& cycles) {
    const double during = summarize(cycles).median;
    const double each = (during - before) * World::kPackets / count;
    const double rise = during / before - 1;
    fmt::print("  all {:<24} {:.1f}, {:+.1f} % (goal {:+.0f} %: {}), {:.0f} cycles for each\n", what,
               during, rise * 100, kMoreCyclesGoal * 100,
               rise <= kMoreCyclesGoal ? "met" : "missed", each);
    row[what] = {{"cycles_median", during}, {"rise", rise}, {"each", each}};
  };
  add("refused", refused);
  add("answered", answered);
  std::fflush(stdout);
  return row;
}

// ---- What it needs of the world ----

rte_mbuf* World::buffer(std::span<const uint8_t> bytes) {
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(pool_);
  if (mbuf == nullptr) throw std::runtime_error("no packet buffers");
  std::ranges::copy(bytes, reset(mbuf, static_cast<unsigned>(bytes.size())));
  return mbuf;
}

uint64_t World::run_outbound(
    std::span<rte_mbuf*> arrivals,
    const std::function<void(gateway::Pipeline&, uint64_t now_ns, bool is_last)>& after_burst) {
  gateway::Pipeline& pipeline = *parts_[0].pipeline;
  gateway::TxQueue& answers = pipeline.tx(settings_.uplink);
  std::vector<rte_mbuf*> answered;
  sent_.clear();
  const uint64_t start = rte_rdtsc_precise();
  for (size_t i = 0; i < arrivals.size(); i += kBurstMax) {
    const size_t count = std::min<size_t>(kBurstMax, arrivals.size() - i);
    pipeline.run(settings_.uplink, arrivals.subspan(i, count), now_ns_);
    counters_.handed_out += pipeline.control_outbox().count;
    const bool is_last = i + count == arrivals.size();
    if (pipeline.control_outbox().count != 0 || is_last) after_burst(pipeline, now_ns_, is_last);
    take_sent(pipeline, settings_.public_port);
    answered.insert(answered.end(), answers.packets.begin(),
                    answers.packets.begin() + answers.count);
    answers.count = 0;
  }
  const uint64_t cycles = rte_rdtsc_precise() - start;
  counters_.transmitted += sent_.size() + answered.size();
  rte_pktmbuf_free_bulk(answered.data(), static_cast<unsigned>(answered.size()));
  if (sent_.size() != kPackets || counters_.held() != 0) {
    throw std::runtime_error("packets were lost");
  }
  return cycles;
}

}  // namespace adit::bench
