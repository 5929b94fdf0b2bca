// The TCP connection that a mapping tracks: rows of segments, the state they end in, the timer.
#include "lib/nat/tcp_state.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/net/headers.h"

namespace adit::nat {
namespace {

using enum TcpState;

constexpr Endpoint kPeer{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(80)};
constexpr Endpoint kStranger{Ipv4Address::from_octets(66, 6, 6, 6), Be16::from_host(666)};

struct Segment {
  Direction direction;
  uint8_t flags;
  Endpoint remote = kPeer;
};

constexpr Segment out(unsigned flags, Endpoint remote = kPeer) {
  return {Direction::outbound, static_cast<uint8_t>(flags), remote};
}
constexpr Segment in(unsigned flags, Endpoint remote = kPeer) {
  return {Direction::inbound, static_cast<uint8_t>(flags), remote};
}

constexpr unsigned kSyn = kTcpSyn, kSynAck = kTcpSyn | kTcpAck, kAck = kTcpAck,
                   kFin = kTcpFin | kTcpAck, kRst = kTcpRst;

struct Row {
  const char* description;
  std::vector<Segment> segments;
  TcpState state;
  bool established_timer;
};

bool track(Mapping& mapping, const Segment& segment) {
  return segment.direction == Direction::outbound
             ? track_tcp_outbound(mapping, segment.remote, segment.flags)
             : track_tcp_inbound(mapping, segment.remote, segment.flags);
}

const std::vector<Segment> kOpen{out(kSyn), in(kSynAck), out(kAck)};

std::vector<Segment> after_open(std::vector<Segment> more) {
  std::vector<Segment> all = kOpen;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

const std::vector<Row> kRows{
    {"nothing yet", {}, closed, false},
    {"SYN unanswered", {out(kSyn)}, init, false},
    {"SYN sent again", {out(kSyn), out(kSyn), out(kSyn)}, init, false},
    {"three-way handshake", kOpen, established, true},
    {"simultaneous open (RFC 5382 REQ-2a)", {out(kSyn), in(kSyn), out(kSynAck)}, established, true},
    {"connection refused", {out(kSyn), in(kRst | kTcpAck)}, transitory, false},
    {"refused, then tried again", {out(kSyn), in(kRst), out(kSyn), in(kSynAck)}, established, true},
    {"data both ways", after_open({out(kAck), in(kAck)}), established, true},
    {"half-closed from inside is not cut", after_open({out(kFin), in(kAck)}), internal_fin, true},
    {"half-closed from outside is not cut", after_open({in(kFin), out(kAck)}), external_fin, true},
    {"data after a half-close", after_open({in(kFin), out(kAck), out(kAck)}), external_fin, true},
    {"FIN sent again closes nothing", after_open({out(kFin), out(kFin)}), internal_fin, true},
    {"closed from inside", after_open({out(kFin), in(kFin), out(kAck)}), both_fin, false},
    {"closed from outside", after_open({in(kFin), out(kFin), in(kAck)}), both_fin, false},
    {"last ACK after both FIN reopens nothing",
     after_open({in(kFin), out(kFin), in(kAck), out(kAck)}), both_fin, false},
    {"reopened from inside after both FIN", after_open({out(kFin), in(kFin), out(kSyn)}), init,
     false},
    {"and answered", after_open({out(kFin), in(kFin), out(kSyn), in(kSynAck)}), established, true},
    {"reopened from outside after both FIN", after_open({out(kFin), in(kFin), in(kSyn)}),
     external_init, false},
    {"and answered by the host", after_open({out(kFin), in(kFin), in(kSyn), out(kSynAck)}),
     established, true},
    {"RST from the tracked remote", after_open({in(kRst)}), transitory, false},
    {"RST from inside", after_open({out(kRst)}), transitory, false},
    {"RST sent again stays", after_open({in(kRst), in(kRst), out(kRst)}), transitory, false},
    {"RST, then data: it was forged", after_open({in(kRst), out(kAck)}), established, true},
    {"RST, then a new SYN", after_open({in(kRst), out(kSyn)}), init, false},
    {"RST of a half-closed one", after_open({in(kFin), out(kRst)}), transitory, false},
    {"forged RST and SYN, then the host goes on", after_open({in(kRst), in(kSyn), out(kAck)}),
     established, true},
    {"SYN within a connection is no news", after_open({in(kSyn), out(kSyn)}), established, true},
    {"first SYN from outside (static forward)", {in(kSyn)}, external_init, false},
    {"and answered", {in(kSyn), out(kSynAck), in(kAck)}, established, true},
    {"met in its middle, unanswered", {out(kAck)}, closed, false},
    {"met in its middle, answered", {out(kAck), in(kAck)}, established, true},
    {"met in its middle, reset", {out(kAck), in(kRst)}, closed, false},
    {"stranger's SYN", after_open({in(kSyn, kStranger)}), established, true},
    {"stranger's FIN", after_open({in(kFin, kStranger)}), established, true},
    {"stranger's RST", after_open({in(kRst, kStranger)}), established, true},
    {"stranger's RST from the peer's address, other port",
     after_open({in(kRst, {kPeer.address, Be16::from_host(81)})}), established, true},
    {"stranger's segments into a handshake",
     {out(kSyn), in(kSyn, kStranger), in(kSynAck, kStranger), in(kRst, kStranger)},
     init,
     false},
    {"stranger refused by the host",
     {out(kSyn), in(kSyn, kStranger), out(kRst, kStranger)},
     init,
     false},
    {"second remote in use: established timer", {out(kSyn), out(kSyn, kStranger)}, init, true},
    {"second remote in use, first closes", after_open({out(kSyn, kStranger), out(kFin), in(kFin)}),
     both_fin, true},
    {"second remote in use, first resets", after_open({out(kAck, kStranger), in(kRst)}), transitory,
     true},
    {"next connection to another remote is tracked instead",
     after_open({out(kFin), in(kFin), out(kSyn, kStranger)}), init, false},
    {"and its close is seen",
     after_open({out(kFin), in(kFin), out(kSyn, kStranger), in(kSynAck, kStranger),
                 out(kFin, kStranger), in(kFin, kStranger)}),
     both_fin, false},
    {"host accepts a stranger after its connection closed",
     after_open({out(kFin), in(kFin), in(kSyn, kStranger), out(kSynAck, kStranger)}), established,
     true},
};

TEST(TcpState, FollowsEachRow) {
  for (const Row& row : kRows) {
    Mapping mapping;
    for (const Segment& segment : row.segments) track(mapping, segment);
    EXPECT_EQ(static_cast<int>(mapping.tcp_state), static_cast<int>(row.state)) << row.description;
    EXPECT_EQ(mapping.tcp_many_remotes || phase_of(mapping.tcp_state) == TcpPhase::established,
              row.established_timer)
        << row.description;
  }
}

// Whatever a stranger sends, in whatever state: nothing in the mapping changes, and it is not
// kept alive.
TEST(TcpState, IsUntouchedByAStrangersSegmentInEveryState) {
  for (const Row& row : kRows) {
    if (row.segments.empty()) continue;  // no remote is tracked yet
    Mapping mapping;
    for (const Segment& segment : row.segments) track(mapping, segment);
    const Endpoint other{Ipv4Address::from_octets(7, 7, 7, 7), Be16::from_host(7)};
    for (unsigned flags = 0; flags < 64; ++flags) {
      const TcpState before = mapping.tcp_state;
      const bool many_before = mapping.tcp_many_remotes;
      const Endpoint remote_before = mapping.tcp_remote;
      EXPECT_FALSE(track(mapping, in(flags, other))) << row.description;
      ASSERT_EQ(mapping.tcp_state, before) << row.description << " flags " << flags;
      ASSERT_EQ(mapping.tcp_many_remotes, many_before) << row.description;
      ASSERT_EQ(mapping.tcp_remote, remote_before) << row.description;
    }
    EXPECT_FALSE(track(mapping, out(kRst, other))) << row.description;
  }
}

TEST(TcpState, ReadsResetBeforeSynBeforeFin) {
  EXPECT_EQ(next_tcp_state(established, Direction::inbound, kTcpRst | kTcpSyn | kTcpFin),
            transitory);
  EXPECT_EQ(next_tcp_state(closed, Direction::outbound, kTcpSyn | kTcpFin), init);
}

}  // namespace
}  // namespace adit::nat
