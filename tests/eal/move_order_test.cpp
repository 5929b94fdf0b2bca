// Tunnels are moved while packets come in both ways and workers take turns as chance has it. Every
// packet comes out, once, with the bytes it should have, and no flow's packets change places. Where
// remotes are filtered those that a flow has sent to get in, new ones at any time, and no stranger.
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "lib/net/parse.h"
#include "tests/eal/move_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::Bytes;
using adit::test::udp_packet;

struct Chance {
  unsigned seed = 0;
  bool is_filtered = false;
};

class MoveOrder : public Moving, public testing::WithParamInterface<Chance> {
 protected:
  MoveOrder() : Moving(options()) {}
  static RigOptions options() {
    if (!GetParam().is_filtered) return {};
    constexpr auto kMode = nat::Filtering::address_and_port_dependent;
    return {.filter = {.sessions = 2048, .sessions_per_tunnel = 1024},
            .nat = {.profiles = {nat::Profile{.filtering = {kMode}}}}};
  }

  static constexpr unsigned kTunnels = 4;
  static constexpr unsigned kFlows = 3;  // of each tunnel
  static constexpr unsigned kFirstPort = 2000;
  static constexpr unsigned kSteps = 6000;
  static constexpr unsigned kRemotes = 200;

  struct Flow {
    Endpoint external;
    uint32_t sent = 0;  // outbound: packets that came in, and that have come out
    uint32_t seen = 0;
    std::vector<Endpoint> replied;  // the same inbound, each from whom
    uint32_t heard = 0;
  };
  struct End {
    std::optional<FarEnd> far;
    bool is_plain = false;
    std::array<Flow, kFlows> flows;
  };

  unsigned random(unsigned below) { return static_cast<unsigned>(random_() % below); }
  static Bytes numbered(uint32_t number) {
    Bytes payload = adit::test::payload_bytes(24, static_cast<uint8_t>(number));
    std::memcpy(payload.data(), &number, sizeof number);
    return payload;
  }
  void open_all();
  void step();
  void send_some(uint32_t slot);
  void reply_some(uint32_t slot);
  void stranger_tries();
  void ask_for_move();
  // Whom a flow sends its packet of this number to: somebody new now and then.
  static Endpoint remote_of(uint32_t number) {
    const uint32_t which = number % 3 == 0 ? number / 3 % kRemotes : number % 7;
    return {kServer, Be16::from_host(static_cast<uint16_t>(6600 + which))};
  }
  void look();
  void look_outbound(const Bytes& packet);
  void look_inbound(const Bytes& packet);

  std::mt19937_64 random_{GetParam().seed};
  std::array<End, kTunnels + 1> ends_;  // by slot
  std::map<Endpoint, std::pair<uint32_t, unsigned>> by_external_;
  std::optional<uint32_t> asked_;  // the slot of the tunnel that is being moved
  unsigned moved_ = 0;
  uint64_t strangers_ = 0;
};

void MoveOrder::open_all() {
  for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
    End& end = ends_[slot];
    end.is_plain = slot % 2 == 1;
    end.far = open_tunnel(slot, end.is_plain ? Protection::plain : Protection::aes_256_gcm);
    roam(*end.far, random(kWorkers));
    for (unsigned flow = 0; flow < kFlows; ++flow) {
      const Bytes first =
          udp_packet(internal(slot, kFirstPort + flow), remote_of(0), numbered(0));
      end.flows[flow].external = external_of(*end.far, first);
      end.flows[flow].sent = end.flows[flow].seen = 1;
      by_external_[end.flows[flow].external] = {slot, flow};
    }
  }
}

void MoveOrder::send_some(uint32_t slot) {
  End& end = ends_[slot];
  std::vector<Bytes> payloads;
  for (unsigned i = 0; i <= random(6); ++i) {
    const unsigned flow = random(kFlows);
    const uint32_t number = end.flows[flow].sent++;
    const Bytes inner = udp_packet(internal(slot, kFirstPort + flow), remote_of(number),
                                   numbered(number));
    payloads.push_back(end.is_plain ? end.far->plain(inner) : end.far->seal(inner));
  }
  receive_together(*end.far, payloads);
}

void MoveOrder::reply_some(uint32_t slot) {
  std::vector<Bytes> packets;
  for (unsigned i = 0; i <= random(6); ++i) {
    Flow& flow = ends_[slot].flows[random(kFlows)];
    const Endpoint from = remote_of(random(flow.seen));
    packets.push_back(
        udp_packet(from, flow.external, numbered(static_cast<uint32_t>(flow.replied.size()))));
    flow.replied.push_back(from);
  }
  receive_packets(1, packets);
}

void MoveOrder::stranger_tries() {
  if (!GetParam().is_filtered) return;
  const Endpoint from{kServer, Be16::from_host(static_cast<uint16_t>(100 + random(1000)))};
  receive(1, udp_packet(from, ends_[1 + random(kTunnels)].flows[random(kFlows)].external,
                        numbered(0)));
  ++strangers_;
}

// One at a time, as the control thread does it; some workers may still be busy with the last.
void MoveOrder::ask_for_move() {
  if (asked_) {
    const auto answer = answer_to_move(*asked_);
    if (!answer) return;
    moved_ += *answer == MoveRefusal::none;
    asked_.reset();
  }
  const uint32_t slot = 1 + random(kTunnels);
  move(slot, (owner_of(slot) + 1 + random(kWorkers - 1)) % kWorkers);
  asked_ = slot;
}

void MoveOrder::look_outbound(const Bytes& packet) {
  ParsedIpv4 parsed;
  ASSERT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
  Ipv4Header ip;
  std::memcpy(&ip, packet.data(), sizeof ip);
  const auto found = by_external_.find({ip.source, parsed.source_port});
  ASSERT_NE(found, by_external_.end()) << "another mapping than before";
  const auto [slot, number] = found->second;
  Flow& flow = ends_[slot].flows[number];
  ASSERT_EQ(packet, udp_packet(flow.external, remote_of(flow.seen), numbered(flow.seen),
                               {.ttl = 63}))
      << "slot " << slot << " flow " << number << " packet " << flow.seen;
  ++flow.seen;
}

void MoveOrder::look_inbound(const Bytes& packet) {
  for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
    const auto inner = ends_[slot].far->open(Bytes(packet.begin() + 28, packet.end()));
    if (!inner) continue;
    ParsedIpv4 parsed;
    ASSERT_EQ(parse_ipv4(*inner, HeaderChecksum::verify, parsed), ParseError::none);
    const unsigned number = parsed.destination_port.host() - kFirstPort;
    ASSERT_LT(number, kFlows);
    Flow& flow = ends_[slot].flows[number];
    ASSERT_LT(flow.heard, flow.replied.size());
    ASSERT_EQ(*inner, udp_packet(flow.replied[flow.heard], internal(slot, kFirstPort + number),
                                 numbered(flow.heard), {.ttl = 63}))
        << "slot " << slot << " flow " << number << " packet " << flow.heard;
    ++flow.heard;
    return;
  }
  FAIL() << "nobody's";
}

void MoveOrder::look() {
  for (const Bytes& packet : sent(1)) look_outbound(packet);
  for (const Bytes& packet : sent(0)) look_inbound(packet);
}

void MoveOrder::step() {
  const unsigned what = random(100);
  if (what < 14) return send_some(1 + random(kTunnels));
  if (what < 28) return reply_some(1 + random(kTunnels));
  if (what < 70) {
    const unsigned to = random(kWorkers);
    take_over(to, (to + 1 + random(kWorkers - 1)) % kWorkers, 1 + random(20));
    return;
  }
  if (what < 92) {
    advance_moves(random(kWorkers));
    return;
  }
  if (what < 96) return ask_for_move();
  if (what == 96) return stranger_tries();
  now_ns_ += random(what == 98 ? 3'000'000 : 200'000);  // some moves are given up
  if (random(100) == 0) now_ns_ += random(1'000'000'000);
  if (what == 99) sweep();
}

TEST_P(MoveOrder, NothingIsLostOrOvertaken) {
  open_all();
  go_by_steps();
  for (unsigned i = 0; i < kSteps && !HasFatalFailure(); ++i) {
    step();
    look();
  }
  go_on();
  now_ns_ += kMoveNsMax + 1;  // a worker that was busy with another tunnel has not answered
  sweep();
  look();
  if (HasFatalFailure()) return;
  uint64_t mappings = 0;
  for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
    uint32_t sessions = 0;
    for (const Flow& flow : ends_[slot].flows) {
      EXPECT_EQ(flow.seen, flow.sent);
      EXPECT_EQ(flow.heard, flow.replied.size());
      ++mappings;
      std::set<Endpoint> remotes;
      for (uint32_t number = 0; number < flow.sent; ++number) remotes.insert(remote_of(number));
      sessions += static_cast<uint32_t>(remotes.size());
    }
    if (GetParam().is_filtered) {
      EXPECT_EQ(tunnels_->at(slot).filter_sessions, sessions) << "slot " << slot;
    }
  }
  EXPECT_EQ(nat_counts().mappings_live, mappings);
  EXPECT_EQ(nat_counts().mappings_created, mappings);
  EXPECT_EQ(drops(Fate::filtered), strangers_);
  EXPECT_EQ(counters_.drops_total(), strangers_);
  EXPECT_GT(moved_, 0u);
}

std::vector<Chance> chances(bool is_filtered) {
  std::vector<Chance> out;
  for (unsigned seed = 1; seed <= 40; ++seed) out.push_back({seed, is_filtered});
  return out;
}
std::string chance_name(const testing::TestParamInfo<Chance>& info) {
  return std::to_string(info.param.seed);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MoveOrder, testing::ValuesIn(chances(false)), chance_name);
INSTANTIATE_TEST_SUITE_P(FilteredSeeds, MoveOrder, testing::ValuesIn(chances(true)), chance_name);

}  // namespace
}  // namespace adit::gateway::test
