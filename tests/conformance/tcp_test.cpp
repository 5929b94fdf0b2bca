// RFC 5382 and RFC 7857 §2: connections, their states and their timers.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;

const Bytes kHello = payload_bytes(33);
constexpr uint8_t kSynAck = kTcpSyn | kTcpAck;
constexpr uint8_t kFinAck = kTcpFin | kTcpAck;

constexpr uint64_t kTransitoryS = 240;
constexpr uint64_t kEstablishedS = 7440;

enum class Way : bool { out, in };

struct Segment {
  Way way;
  uint8_t flags;
  const Endpoint& remote = kService;
};

// Every connection is made twice, from two internal ports: one of the mappings is asked on its last
// second, which refreshes it, and the other a second later.
class Tcp : public Lab {
 protected:
  Tcp() = default;
  explicit Tcp(const nat::Timeouts& timeouts)
      : Lab({.nat = {.profiles = {{.timeouts = timeouts}}}}) {}

  // A segment that must pass, byte for byte. The first one out tells the external endpoint.
  void pass(uint64_t at_s, const Segment& segment) {
    set_time(at_s);
    pass_one(at_s, segment, kApplication, external_);
    pass_one(at_s, segment, kTwin, twin_external_);
  }
  void pass(uint64_t at_s, const std::vector<Segment>& segments) {
    for (const Segment& segment : segments) pass(at_s, segment);
  }
  // The mappings live `seconds` from `since_s` on, and not one longer.
  void expect_life(uint64_t since_s, uint64_t seconds) {
    set_time(since_s + seconds);
    pass_one(since_s + seconds, {Way::in, kTcpAck}, kApplication, external_);
    play({"a second later", since_s + seconds + 1,
          internet(tcp_packet(kService, twin_external_, kHello)), {}, Fate::no_mapping});
  }

  Endpoint external_;  // of kApplication
  Endpoint twin_external_;

 private:
  void pass_one(uint64_t at_s, const Segment& segment, const Endpoint& internal,
                Endpoint& external) {
    const adit::test::TcpOptions tcp{.flags = segment.flags};
    const Bytes text = (segment.flags & kTcpSyn) != 0 ? Bytes{} : kHello;
    if (external.is_zero()) {
      external = left_from(inside(tcp_packet(internal, segment.remote, text, tcp)));
      return;
    }
    if (segment.way == Way::out) {
      play({"a segment out", at_s, inside(tcp_packet(internal, segment.remote, text, tcp)),
            {internet(tcp_packet(external, segment.remote, text, tcp, kForwarded))}});
    } else {
      play({"a segment in", at_s, internet(tcp_packet(segment.remote, external, text, tcp)),
            {inside(tcp_packet(segment.remote, internal, text, tcp, kForwarded))}});
    }
  }

  static inline const Endpoint kTwin = at(kInner, 1026);
};

const std::vector<Segment> kOpen = {
    {Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::out, kTcpAck}};

// ---- Every valid sequence ----

struct Sequence {
  const char* description;
  std::vector<Segment> segments;
  uint64_t life_s;  // afterwards
};

class Sequences : public Tcp, public testing::WithParamInterface<Sequence> {};

TEST_P(Sequences, R5382_2_R7857_2_1_Pass) { pass(10, GetParam().segments); }

TEST_P(Sequences, R5382_5_R7857_2_1_SetTheTimer) {
  pass(10, GetParam().segments);
  expect_life(10, GetParam().life_s);
}

INSTANTIATE_TEST_SUITE_P(
    Rows, Sequences,
    testing::Values(
        Sequence{"a SYN alone", {{Way::out, kTcpSyn}}, kTransitoryS},
        Sequence{"a SYN repeated", {{Way::out, kTcpSyn}, {Way::out, kTcpSyn}}, kTransitoryS},
        Sequence{"opened", kOpen, kEstablishedS},
        Sequence{"met in its middle and answered",
                 {{Way::out, kTcpAck}, {Way::in, kTcpAck}},
                 kEstablishedS},
        Sequence{"met in its middle, unanswered", {{Way::out, kTcpAck}}, kTransitoryS},
        Sequence{"refused", {{Way::out, kTcpSyn}, {Way::in, kTcpRst | kTcpAck}}, kTransitoryS},
        Sequence{"half closed from inside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::out, kFinAck}, {Way::in, kTcpAck},
                  {Way::in, kTcpAck}},
                 kEstablishedS},
        Sequence{"half closed from outside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::in, kFinAck}, {Way::out, kTcpAck},
                  {Way::out, kTcpAck}},
                 kEstablishedS},
        Sequence{"closed from inside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::out, kFinAck}, {Way::in, kFinAck},
                  {Way::out, kTcpAck}},
                 kTransitoryS},
        Sequence{"closed from outside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::in, kFinAck}, {Way::out, kFinAck},
                  {Way::in, kTcpAck}},
                 kTransitoryS},
        Sequence{"closed and opened again",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::in, kFinAck}, {Way::out, kFinAck},
                  {Way::out, kTcpSyn}, {Way::in, kSynAck}},
                 kEstablishedS},
        Sequence{"reset from inside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::out, kTcpRst}},
                 kTransitoryS},
        Sequence{"reset from outside",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::in, kTcpRst}},
                 kTransitoryS},
        Sequence{"reset, but it goes on",
                 {{Way::out, kTcpSyn}, {Way::in, kSynAck}, {Way::in, kTcpRst}, {Way::out, kTcpAck}},
                 kEstablishedS}),
    [](const auto& row) { return row_name(row.param.description); });

const std::vector<Segment> kOpenFromBothSides = {
    {Way::out, kTcpSyn}, {Way::in, kTcpSyn},  {Way::out, kSynAck},
    {Way::in, kSynAck},  {Way::out, kTcpAck}, {Way::in, kTcpAck}};

TEST_F(Tcp, R5382_2a_SimultaneousOpenPasses) { pass(0, kOpenFromBothSides); }

TEST_F(Tcp, R5382_2a_SimultaneousOpenIsAnOpenConnection) {
  pass(0, kOpenFromBothSides);
  expect_life(0, kEstablishedS);
}

// The mapping exists; somebody else uses it to connect.
TEST_F(Tcp, R5382_2_RemoteMayOpenToo) {
  pass(0, {{Way::out, kTcpSyn}, {Way::in, kTcpRst | kTcpAck}});
  pass(5, {{Way::in, kTcpSyn, kElsewhere}, {Way::out, kSynAck, kElsewhere},
           {Way::in, kTcpAck, kElsewhere}, {Way::out, kTcpAck, kElsewhere}});
}

TEST_F(Tcp, R5382_5_ConnectionThatARemoteOpenedMayIdleToo) {
  ours_only("real time");
  pass(0, {{Way::out, kTcpSyn}, {Way::in, kTcpRst | kTcpAck}});
  pass(5, {{Way::in, kTcpSyn, kElsewhere}, {Way::out, kSynAck, kElsewhere},
           {Way::in, kTcpAck, kElsewhere}, {Way::out, kTcpAck, kElsewhere}});
  pass(5 + kEstablishedS, {Way::out, kTcpAck, kElsewhere});
}

// ---- Timers ----

TEST_F(Tcp, R5382_5_TrafficKeepsAConnection) {
  pass(0, kOpen);
  pass(7000, {Way::in, kTcpAck});
  pass(14000, {Way::out, kTcpAck});
  expect_life(14000, kEstablishedS);
}

class LongTimers : public Tcp {
 protected:
  LongTimers() : Tcp({.tcp_established_s = 9000, .tcp_opening_s = 75, .tcp_closing_s = 300}) {}
};

TEST_F(LongTimers, R5382_5a_EstablishedAsConfigured) {
  pass(0, kOpen);
  expect_life(0, 9000);
}
TEST_F(LongTimers, R5382_5a_R7857_2_2_OpeningAsConfigured) {
  pass(0, {Way::out, kTcpSyn});
  expect_life(0, 75);
}
TEST_F(LongTimers, R5382_5a_R7857_2_2_OpeningFromOutsideAsConfigured) {
  pass(0, {{Way::out, kTcpSyn}, {Way::in, kTcpRst | kTcpAck}});
  pass(0, {Way::in, kTcpSyn});
  expect_life(0, 75);
}
TEST_F(LongTimers, R5382_5a_R7857_2_2_ClosingAsConfigured) {
  pass(0, kOpen);
  pass(1, {{Way::out, kFinAck}, {Way::in, kFinAck}});
  expect_life(1, 300);
}
TEST_F(LongTimers, R5382_5a_R7857_2_2_ResetHeldAsConfiguredForClosing) {
  pass(0, {{Way::out, kTcpSyn}, {Way::in, kTcpRst | kTcpAck}});
  expect_life(0, 300);
}

TEST_F(Tcp, R7857_2_2_OpeningLastsFourMinutes) {
  pass(0, {Way::out, kTcpSyn});
  expect_life(0, 240);
}
TEST_F(Tcp, R7857_2_2_ClosingLastsFourMinutes) {
  pass(0, kOpen);
  pass(1, {{Way::in, kFinAck}, {Way::out, kFinAck}});
  expect_life(1, 240);
}

// ---- Resets and strangers ----

TEST_F(Tcp, R7857_2_3_ResetPassesAndWhatFollowsTooEitherWay) {
  for (const Way way : {Way::in, Way::out}) {
    pass(0, kOpen);
    pass(1, {{way, kTcpRst}, {Way::in, kTcpAck}, {Way::out, kTcpAck}});
  }
}

TEST_F(Tcp, R7857_2_3_ResetPassesAndItsMappingIsHeld) {
  pass(0, kOpen);
  pass(100, {Way::in, kTcpRst});
  expect_life(100, kTransitoryS);
}

TEST_F(Tcp, R7857_2_1_StrangersFinOrResetChangesNothing) {
  pass(0, kOpen);
  pass(10, {{Way::in, kTcpRst, kElsewhere}, {Way::in, kFinAck, kElsewhere},
            {Way::in, kTcpSyn, kElsewhere}});
  expect_life(0, kEstablishedS);  // refreshed by none of them
}

TEST_F(Tcp, R7857_7_ResetInReplyToAStrangerRefreshesNothing) {
  pass(0, kOpen);
  pass(1000, {{Way::in, kTcpSyn, kElsewhere}, {Way::out, kTcpRst | kTcpAck, kElsewhere}});
  expect_life(0, kEstablishedS);
}

TEST_F(Tcp, R7857_2_1_SecondConnectionKeepsTheMappingWhenTheFirstCloses) {
  pass(0, kOpen);
  pass(10, {{Way::out, kTcpSyn, kElsewhere}, {Way::in, kSynAck, kElsewhere},
            {Way::out, kTcpAck, kElsewhere}});
  pass(20, {{Way::out, kFinAck}, {Way::in, kFinAck}, {Way::out, kTcpAck}});
  pass(20 + kEstablishedS, {Way::in, kTcpAck, kElsewhere});
}

// ---- ICMP about TCP ----

TEST_F(Tcp, R5382_9_UnreachableIsTranslatedBothWaysHoweverShortItsQuote) {
  pass(0, kOpen);
  const Bytes sent_out = tcp_packet(external_, kService, kHello, {}, kForwarded);
  const Bytes sent_by_host = tcp_packet(kApplication, kService, kHello, {}, kForwarded);
  const Bytes delivered = tcp_packet(kService, kApplication, kHello, {}, kForwarded);
  const Bytes as_sent = tcp_packet(kService, external_, kHello, {}, kForwarded);
  for (const size_t quoted : {sent_out.size(), size_t{20 + 20}, size_t{20 + 16}, size_t{20 + 8}}) {
    const auto cut = [&](const Bytes& packet) {
      return Bytes(packet.begin(), packet.begin() + static_cast<long>(quoted));
    };
    play({{"from outside",
           1,
           internet(icmp_packet(kSomeRouter, kGateway, 3, 4, 1300, cut(sent_out))),
           {inside(icmp_packet(kSomeRouter, kInner, 3, 4, 1300, cut(sent_by_host), kForwarded))}},
          {"from inside",
           1,
           inside(icmp_packet(kInner, kServer, 3, 2, 0, cut(delivered))),
           {internet(icmp_packet(kGateway, kServer, 3, 2, 0, cut(as_sent), kForwarded))}}});
  }
}

class ErrorsAboutTcp : public Tcp {
 protected:
  void play_errors(uint64_t at_s) {
    const Bytes sent_out = tcp_packet(external_, kService, kHello, {}, kForwarded);
    const Bytes sent_by_host = tcp_packet(kApplication, kService, kHello, {}, kForwarded);
    for (uint8_t code = 0; code <= 15; ++code) {
      play({"an error", at_s, internet(icmp_packet(kSomeRouter, kGateway, 3, code, 0, sent_out)),
            {inside(icmp_packet(kSomeRouter, kInner, 3, code, 0, sent_by_host, kForwarded))}});
    }
  }
};

TEST_F(ErrorsAboutTcp, R5382_10_R4787_12_R5508_6_EndNoConnection) {
  pass(0, kOpen);
  play_errors(1);
  pass(1, {{Way::in, kTcpAck}, {Way::out, kTcpAck}});
}

TEST_F(ErrorsAboutTcp, R5382_10_R4787_12_R5508_6_ChangeNoTimer) {
  pass(0, kOpen);
  play_errors(100);
  expect_life(0, kEstablishedS);
}

}  // namespace
}  // namespace adit::gateway::test
