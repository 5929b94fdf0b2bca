// Deterministic ranges (RFC 7422) of tunnels that are moved: a range goes along with its tunnel, is
// that one's for as long as it is open, and is back at home for its subscriber's next one.
#include <algorithm>
#include <cstring>

#include "lib/nat/deterministic.h"
#include "lib/pcp/message.h"
#include "tests/eal/move_rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

constexpr uint16_t kRangePorts = 64;
constexpr uint64_t kSecondNs = tunnel::kSecondNs;

class MoveRange : public Moving {
 protected:
  explicit MoveRange(const nat::Profile& profile = {})
      : Moving({.port_control = {.enabled = true},
                .nat = {.deterministic_ports = kRangePorts, .profiles = {profile}}}) {}

  // As the control thread does it: a tunnel opens at its range's worker. Which subscriber's it is
  // may be told beforehand.
  void extend_open(ToWorker& open) override {
    std::optional<uint32_t>& subscriber = subscribers_[open.slot];
    for (uint32_t i = open.slot / kWorkers * 100; !subscriber; ++i) {
      if (worker_of(i) == tunnels_->home(open.slot)) subscriber = i;
    }
    open.subscriber = *subscriber;
    if (open.slot == kAgain) open.address = inner_address(1);
  }
  // The subscriber of slot 1 comes back in another slot, with the inner address that it had.
  static constexpr uint32_t kAgain = 4;
  FarEnd open_again(Protection protection = Protection::plain) {
    subscribers_[kAgain] = subscribers_[1];
    return open_tunnel(kAgain, protection);
  }
  nat::DeterministicRanges ranges() const {
    return {1, nat_settings_.first_port, nat_settings_.last_port, kRangePorts};
  }
  unsigned worker_of(uint32_t subscriber) const {
    return settings_.shares[ranges().range_of(subscriber)->first_port / nat::kWindowPorts];
  }
  // Whose the configuration says that it is.
  bool is_in_range(uint32_t slot, const Endpoint& external) const {
    return ranges().ordinal_of(0, external.port.host()) == subscribers_[slot];
  }
  std::vector<Endpoint> open_mappings(FarEnd& far, uint32_t slot, unsigned count,
                                      unsigned first = 2000) {
    std::vector<Endpoint> externals;
    for (unsigned i = 0; i < count; ++i) {
      externals.push_back(external_of(far, outbound(slot, first + i)));
      EXPECT_TRUE(is_in_range(slot, externals.back()));
    }
    return externals;
  }
  // A slot that nobody has is moved, as tunnels are.
  std::optional<MoveRefusal> moved_without_tunnel(uint32_t slot, unsigned worker) {
    move_free_slot(slot, worker);
    return answer_to_move(slot);
  }
  void age(unsigned seconds) {
    for (unsigned i = 0; i < seconds; ++i) {
      now_ns_ += kSecondNs;
      for (unsigned j = 0; j < 3; ++j) sweep();
    }
  }
  void expect_all_returned() {
    age(125);
    EXPECT_EQ(nat_counts().blocks_granted, 0u);
    EXPECT_EQ(nat_counts().mappings_live + nat_counts().mappings_resting, 0u);
    EXPECT_EQ(granted_entries(), 0u);
  }

 private:
  std::array<std::optional<uint32_t>, 16> subscribers_;  // by slot
};

TEST_F(MoveRange, KeepsEveryMappingAndMakesNewOnesInTheSameRange) {
  for (const uint32_t slot : {1u, 2u}) {
    FarEnd far = open_tunnel(slot, slot == 1 ? Protection::plain : Protection::aes_256_gcm);
    const unsigned home = tunnels_->home(slot);
    const unsigned to = (home + 1) % kWorkers;
    roam(far, to);
    constexpr unsigned kMappings = 30;
    std::vector<Endpoint> externals = open_mappings(far, slot, kMappings);
    ASSERT_EQ(moved(slot, to), MoveRefusal::none);
    EXPECT_EQ(blocks_of(home), 0u);
    EXPECT_EQ(blocks_of(to), 1u);
    EXPECT_EQ(live_at(to), kMappings);

    for (const Endpoint& further : open_mappings(far, slot, 10, 2000 + kMappings)) {
      externals.push_back(further);
    }
    const uint64_t handed = counters_.handed_over;
    for (unsigned i = 0; i < externals.size(); ++i) {
      EXPECT_EQ(external_of(far, outbound(slot, 2000 + i)), externals[i]);
    }
    EXPECT_EQ(counters_.handed_over, handed);
    for (unsigned i = 0; i < externals.size(); ++i) {
      expect_reply(far, slot, 2000 + i, externals[i]);
    }
    EXPECT_EQ(counters_.handed_over, handed + externals.size()) << "replies come by way of home";
    EXPECT_EQ(counters_.drops_total(), 0u);
    close(slot);
    expect_all_returned();
  }
}

TEST_F(MoveRange, GoesRoundAndHome) {
  FarEnd far = open_tunnel(1, Protection::plain);
  std::vector<std::pair<unsigned, Endpoint>> known;
  for (unsigned round = 0; round < 7; ++round) {
    const unsigned to = (tunnels_->home(1) + round) % kWorkers;
    if (round != 0) {
      ASSERT_EQ(moved(1, to), MoveRefusal::none);
    }
    for (unsigned i = 0; i < 6; ++i) {
      const unsigned port = 2000 + 100 * round + i;
      known.emplace_back(port, open_mappings(far, 1, 1, port).front());
    }
    for (const auto& [port, external] : known) {
      EXPECT_EQ(external_of(far, outbound(1, port)), external);
      expect_reply(far, 1, port, external);
    }
    EXPECT_EQ(live_at(to), known.size());
    EXPECT_EQ(nat_counts().mappings_live, known.size());
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
  close(1);
  expect_all_returned();
}

TEST_F(MoveRange, HasNoMorePortsAfterAMoveThanBefore) {
  FarEnd far = open_tunnel(1, Protection::plain);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  std::vector<Endpoint> externals;
  for (unsigned port = 2000; drops(Fate::port_limit) == 0; ++port) {
    ASSERT_LT(port, 2000 + kRangePorts + 1u);
    receive_from(far, far.plain(outbound(1, port)));
    for (const Bytes& packet : sent(1)) {
      ParsedIpv4 parsed;
      ASSERT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
      externals.push_back({kPublic, parsed.source_port});
      EXPECT_TRUE(is_in_range(1, externals.back()));
    }
    sent_frames(0);
  }
  EXPECT_GT(externals.size(), kRangePorts / 2u);
  std::ranges::sort(externals, {}, [](const Endpoint& it) { return it.port.host(); });
  EXPECT_EQ(std::ranges::adjacent_find(externals), externals.end());
}

// Before its first mapping, and when all have aged away.
TEST_F(MoveRange, EmptyRangeIsWhereItsTunnelIs) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const unsigned home = tunnels_->home(1);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  EXPECT_EQ(blocks_of(2), 1u);
  age(10);
  EXPECT_EQ(blocks_of(2), 1u);
  const Endpoint external = open_mappings(far, 1, 1).front();
  expect_reply(far, 1, 2000, external);

  age(300 + 120 + 10);
  EXPECT_EQ(nat_counts().mappings_live + nat_counts().mappings_resting, 0u);
  EXPECT_EQ(blocks_of(2), 1u) << "it would be missed here";
  EXPECT_EQ(blocks_of(home), 0u);
  renew(far, 1, Protection::plain);
  ASSERT_EQ(moved(1, 0), MoveRefusal::none);
  const Endpoint next = open_mappings(far, 1, 1, 3000).front();
  expect_reply(far, 1, 3000, next);

  // At home it returns as any, and is there again when it is wanted.
  ASSERT_EQ(moved(1, home), MoveRefusal::none);
  age(300 + 120 + 10);
  EXPECT_EQ(nat_counts().blocks_granted, 0u);
  renew(far, 1, Protection::plain);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  expect_reply(far, 1, 4000, open_mappings(far, 1, 1, 4000).front());
  EXPECT_EQ(counters_.drops_total(), 0u);
}

// ---- Its subscriber's next tunnel ----

TEST_F(MoveRange, OfAClosedTunnelIsHomeBeforeTheNextSweep) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const std::vector<Endpoint> externals = open_mappings(far, 1, 20);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  close(1);
  EXPECT_EQ(blocks_of(2), 0u);
  EXPECT_EQ(blocks_of(1), 1u);
  receive(1, udp_packet(kService, externals[0], payload_bytes(24)));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);

  // Its ports rest there, each for its own endpoint.
  FarEnd next = open_again();
  for (unsigned i = 0; i < externals.size(); ++i) {
    EXPECT_EQ(external_of(next, outbound(1, 2000 + i)), externals[i]);
  }
  EXPECT_EQ(nat_counts().mappings_revived, externals.size());
  EXPECT_EQ(live_at(1), externals.size());
  ASSERT_EQ(moved(kAgain, 0), MoveRefusal::none);
  expect_reply(next, 1, 2000, externals[0]);
  EXPECT_EQ(counters_.drops_total(), 1u);
  close(kAgain);
  expect_all_returned();
}

// The worker that has the range is behind: packets of the next tunnel are refused until it has
// come home, by name and in silence.
TEST_F(MoveRange, NextTunnelHasNoPortsUntilItsRangeIsHome) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = open_mappings(far, 1, 1).front();
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  FarEnd next = open_again();
  roam(next, 1);
  go_by_steps();
  close(1);
  EXPECT_EQ(moved(kAgain, 0), MoveRefusal::range_away);
  receive_from(next, next.plain(outbound(1, 2000)));
  EXPECT_EQ(drops(Fate::range_away), 1u);
  EXPECT_TRUE(sent_frames(0).empty()) << "the client need not hear of what is over in a moment";
  EXPECT_TRUE(sent_frames(1).empty());
  EXPECT_TRUE(take_over(1, 2, 1)) << "the range";
  EXPECT_EQ(external_of(next, outbound(1, 2000)), external);
  EXPECT_EQ(counters_.drops_total(), 1u);
  go_on();
  EXPECT_EQ(moved(kAgain, 0), MoveRefusal::none);
  expect_reply(next, 1, 2000, external);
}

TEST_F(MoveRange, HostThatAsksForAPortMeanwhileIsToldThatThereIsNone) {
  FarEnd far = open_tunnel(1, Protection::plain);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  FarEnd next = open_again();
  const auto ask = [&] {
    struct {
      pcp::RequestHeader header;
      pcp::MapBody map;
    } request{};
    request.header.version = 2;
    request.header.opcode = 1;  // MAP
    request.header.lifetime_s = Be32::from_host(3600);
    request.header.client = pcp::MappedAddress::of(kInner);
    request.map.protocol = kIpUdp;
    request.map.internal_port = Be16::from_host(2000);
    request.map.external = pcp::MappedAddress::of({});
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&request);
    receive_from(next, next.plain(udp_packet(internal(1, 40000), {kRouter, Be16::from_host(5351)},
                                             std::span(bytes, sizeof request))));
    const std::optional<Bytes> answer = next.open(sent_to_tunnel(next.outer));
    pcp::ResponseHeader header{};
    if (answer) std::memcpy(&header, answer->data() + 28, sizeof header);
    return static_cast<pcp::Result>(header.result);
  };
  EXPECT_EQ(ask(), pcp::Result::no_resources);
  close(1);
  EXPECT_EQ(ask(), pcp::Result::success);
}

// A reply is on its way to the worker that has just sent the range home: it goes back, behind it.
TEST_F(MoveRange, PacketForARangeThatGoesHomeGoesBackBehindIt) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = open_mappings(far, 1, 1).front();
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  go_by_steps();
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  close(1);
  EXPECT_TRUE(take_over(2, 1, kBurstMax)) << "the packet";
  EXPECT_EQ(drops(Fate::no_mapping), 0u);
  EXPECT_TRUE(take_over(1, 2, 1)) << "the range";
  EXPECT_TRUE(take_over(1, 2, 1));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
  go_on();
}

TEST_F(MoveRange, SlotGoesHomeBehindItsRange) {
  FarEnd far = open_tunnel(1, Protection::plain);
  open_mappings(far, 1, 1);
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  close(1);
  ASSERT_EQ(moved_without_tunnel(1, 1), MoveRefusal::none);
  EXPECT_EQ(owner_of(1), 1u);
  EXPECT_EQ(counters_.tunnels_adopted, 1u) << "there was no tunnel in it";

  FarEnd next = open_tunnel(1, Protection::aes_256_gcm);
  roam(next, 0);
  const Endpoint external = open_mappings(next, 1, 1).front();
  expect_reply(next, 1, 2000, external);
  EXPECT_EQ(live_at(1), 1u);
  EXPECT_EQ(moved(1, 0), MoveRefusal::none);
  expect_reply(next, 1, 2000, external);
  EXPECT_EQ(counters_.drops_total(), 0u);
}

class MoveFilteredRange : public MoveRange {
 protected:
  static nat::Profile filtered() {
    nat::Profile profile;
    profile.filtering.fill(nat::Filtering::address_and_port_dependent);
    return profile;
  }
  MoveFilteredRange() : MoveRange(filtered()) {}
};

// With its sessions, and the slot goes home without any.
TEST_F(MoveFilteredRange, SessionsGoWithTheTunnelAndNotWithItsSlot) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = open_mappings(far, 1, 1).front();
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  expect_reply(far, 1, 2000, external);
  receive(1, udp_packet({kServer, Be16::from_host(9)}, external, payload_bytes(24)));
  EXPECT_EQ(drops(Fate::filtered), 1u);
  close(1);
  const unsigned sessions = sessions_live();
  ASSERT_EQ(moved_without_tunnel(1, 1), MoveRefusal::none);
  EXPECT_EQ(sessions_live(), sessions);
  FarEnd next = open_tunnel(1, Protection::plain);
  receive_from(next, next.plain(outbound(1, 2000)));
  expect_reply(next, 1, 2000, external);
  EXPECT_EQ(counters_.drops_total(), 1u);
}

// The message that closed the tunnel was lost, and the subscriber has another one by now.
TEST_F(MoveRange, SlotThatGoesHomeEndsATunnelThatWasNeverClosed) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = open_mappings(far, 1, 1).front();
  ASSERT_EQ(moved(1, 2), MoveRefusal::none);
  FarEnd next = open_again();
  receive_from(next, next.plain(outbound(1, 2000)));
  EXPECT_EQ(drops(Fate::range_away), 1u);
  ASSERT_EQ(moved_without_tunnel(1, 1), MoveRefusal::none);
  EXPECT_FALSE(tunnels_->at(1).active);
  EXPECT_EQ(blocks_of(1), 1u);
  receive(1, udp_packet(kService, external, payload_bytes(24)));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
  expect_reply(next, 1, 2000, open_mappings(next, 1, 1).front());
}

// Two tunnels of one subscriber, where the first was never closed: the range is the latter's, and
// the first may not take it along.
TEST_F(MoveRange, TunnelWhoseSuccessorHasItsRangeStays) {
  FarEnd far = open_tunnel(1, Protection::plain);
  open_mappings(far, 1, 1);
  FarEnd next = open_again();
  const Endpoint external = open_mappings(next, 1, 1).front();
  EXPECT_EQ(moved(1, 2), MoveRefusal::range_away);
  expect_reply(next, 1, 2000, external);
  ASSERT_EQ(moved(kAgain, 2), MoveRefusal::none);
  receive_from(far, far.plain(outbound(1, 2000)));
  EXPECT_EQ(drops(Fate::range_away), 1u);
  expect_reply(next, 1, 2000, external);
  EXPECT_EQ(external_of(next, outbound(1, 2000)), external);
}

}  // namespace
}  // namespace adit::gateway::test
