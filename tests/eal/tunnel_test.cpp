// The rules of the tunnel as the packet path keeps them: sessions, replay, roaming, plain packets.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::payload_bytes;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
const Bytes kGood = udp_packet(kApplication, kService, kHello);
const Endpoint kElsewhere{Ipv4Address::from_octets(20, 1, 1, 99), Be16::from_host(7)};

class TunnelPath : public Rig {};

TEST_F(TunnelPath, ReplayedPacketIsDropped) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes packet = far.seal(kGood);
  receive_from(far, packet);
  EXPECT_EQ(sent(0).size(), 1u);
  receive_from(far, packet);
  expect_only_drop(Fate::replayed);
}

TEST_F(TunnelPath, ForgedPacketIsDroppedAndItsCounterStaysFree) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes packet = far.seal(kGood);
  Bytes forged = packet;
  forged.back() ^= 1;
  receive_from(far, forged);
  expect_only_drop(Fate::not_authentic);
  receive_from(far, packet);
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(TunnelPath, RoamsOnlyOnAnAuthenticPacketWithTheHighestCounter) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, kGood);
  const Bytes late = far.seal(kGood);
  receive_from(kElsewhere, far.seal(kGood));
  EXPECT_EQ(sent(0).size(), 1u);
  EXPECT_EQ(counters_.roamed, 1u);
  receive_from(far, late);  // an older packet overtaken on the way: data, but no way back
  EXPECT_EQ(sent(0).size(), 1u);
  EXPECT_EQ(counters_.roamed, 1u);
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(far.open(sent_to_tunnel(kElsewhere))) << "the mapping survived the move";
}

TEST_F(TunnelPath, PlainPacketFromElsewhereIsDroppedAndHintedAtOnceASecond) {
  FarEnd far = open_tunnel(1, Protection::plain);
  for (int i = 0; i < 5; ++i) receive_from(kElsewhere, far.plain(kGood));
  EXPECT_EQ(drops(Fate::wrong_address), 5u);
  EXPECT_EQ(far.open(sent_to_tunnel(kElsewhere)), Bytes{}) << "one empty type 4 packet";
  now_ns_ += tunnel::kSecondNs;
  receive_from(kElsewhere, far.plain(kGood));
  EXPECT_EQ(far.open(sent_to_tunnel(kElsewhere)), Bytes{});
  EXPECT_EQ(counters_.roamed, 0u);
  receive_from(kElsewhere, far.seal({}));  // the client's answer moves it
  EXPECT_EQ(counters_.roamed, 1u);
  receive_from(kElsewhere, far.plain(kGood));
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(TunnelPath, PlainPacketCountsAsNothingHeard) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const uint64_t heard_ns = tunnels_->report(1).heard_ns.load();
  now_ns_ += 5 * tunnel::kSecondNs;
  receive_from(far, far.plain(kGood));
  EXPECT_EQ(tunnels_->report(1).heard_ns.load(), heard_ns);
  receive_from(far, far.seal({}));
  EXPECT_EQ(tunnels_->report(1).heard_ns.load(), now_ns_);
}

TEST_F(TunnelPath, PlainPacketIsCarriedInANewSessionButDoesNotConfirmIt) {
  FarEnd old = open_tunnel(1, Protection::plain);
  const Endpoint external{external_of(old, kGood)};
  const tunnel::Session session = make_session(1, Protection::plain, 2);
  install(1, session);
  sent_frames(0);
  FarEnd renewed(session, 1440);
  renewed.outer = old.outer;
  receive_from(renewed, renewed.plain(kGood));
  EXPECT_EQ(sent(0).size(), 1u);
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(old.open(sent_to_tunnel(old.outer))) << "still sends in the old session";
  receive_from(renewed, renewed.seal({}));
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(renewed.open(sent_to_tunnel(old.outer)));
}

// The first packet confirms the session and so moves it; those behind it must find it.
TEST_F(TunnelPath, FirstBurstOfASessionArrivesWhole) {
  for (const Protection protection : {Protection::aes_256_gcm, Protection::plain}) {
    const FarEnd old = open_tunnel(1, protection);
    const tunnel::Session session = make_session(1, protection, 2);
    install(1, session);
    sent_frames(0);
    FarEnd renewed(session, 1440);
    renewed.outer = old.outer;
    std::vector<Bytes> payloads = {renewed.seal({})};
    for (int i = 0; i < 3; ++i) {
      payloads.push_back(protection == Protection::plain ? renewed.plain(kGood)
                                                         : renewed.seal(kGood));
    }
    receive_together(renewed, payloads);
    EXPECT_EQ(sent(0).size(), 3u) << tunnel::protection_name(protection);
  }
  EXPECT_EQ(counters_.drops_total(), 0u);
}

TEST_F(TunnelPath, RekeyLosesNothingInFlight) {
  FarEnd old = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(old, kGood);
  const Bytes in_flight = old.seal(kGood);
  const tunnel::Session session = make_session(1, Protection::aes_256_gcm, 2);
  install(1, session);
  sent_frames(0);
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(old.open(sent_to_tunnel(old.outer))) << "unconfirmed: the old session still sends";
  FarEnd renewed(session, 1440);
  renewed.outer = old.outer;
  receive_from(renewed, renewed.seal(kGood));
  EXPECT_EQ(sent(0).size(), 1u);
  receive_from(old, in_flight);
  EXPECT_EQ(sent(0).size(), 1u) << "what was in flight still arrives";
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(renewed.open(sent_to_tunnel(old.outer))) << "confirmed: the new session sends";
}

TEST_F(TunnelPath, SessionEndsAfter180Seconds) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, kGood);
  now_ns_ += tunnel::kRejectAfterNs;
  receive_from(far, far.seal(kGood));
  expect_only_drop(Fate::session_expired);
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_EQ(drops(Fate::no_session), 1u);
}

TEST_F(TunnelPath, PlainSessionEndsAsWell) {
  FarEnd far = open_tunnel(1, Protection::plain);
  now_ns_ += tunnel::kRejectAfterNs;
  receive_from(far, far.plain(kGood));
  expect_only_drop(Fate::session_expired);
}

TEST_F(TunnelPath, BytesBehindTheDatagramAreNoPartOfIt) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Bytes datagram = udp_packet(far.outer, kTunnelEndpoint, far.seal(kGood));
  const Bytes segment(datagram.begin() + 20, datagram.end());
  Bytes padded = segment;
  padded.resize(segment.size() + 5, 0xee);
  receive(0, adit::test::ipv4_packet(far.outer.address, kGateway, kIpUdp, padded));
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(TunnelPath, ProbeIsAnsweredWithItsStamp) {
  FarEnd far = open_tunnel(1, Protection::plain);
  Bytes probe(16, 0);
  probe[0] = tunnel::kProbeRequest;
  for (uint8_t i = 8; i < 16; ++i) probe[i] = i;
  receive_from(far, far.seal(probe));
  probe[0] = tunnel::kProbeReply;
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)), probe);
}

Bytes probe_of(uint8_t kind, uint8_t stamp) {
  Bytes probe(16, 0);
  probe[0] = kind;
  probe[15] = stamp;
  return probe;
}

TEST_F(TunnelPath, AMarkIsAnsweredWhereItCameFromAndMovesNothing) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, kGood);
  const uint64_t sent_ns = tunnels_->report(1).sent_ns.load();
  now_ns_ += tunnel::kSecondNs;
  receive_from(kElsewhere, far.seal(probe_of(tunnel::kProbeMark, 1)));
  EXPECT_EQ(far.open(sent_to_tunnel(kElsewhere)), probe_of(tunnel::kProbeReply, 1));
  EXPECT_EQ(counters_.roamed, 0u);
  EXPECT_EQ(tunnels_->report(1).sent_ns.load(), sent_ns) << "the client itself heard nothing";
  receive(0, udp_packet(kService, external, kHello));
  EXPECT_TRUE(far.open(sent_to_tunnel(far.outer)));
}

// Opened together with the packet in front of it, in the same burst, by which the tunnel moves.
TEST_F(TunnelPath, AMarkBehindTheFirstPacketFromElsewhereIsAnsweredWhereItCameFrom) {
  for (const Protection protection : {Protection::aes_256_gcm, Protection::plain}) {
    const uint64_t roamed = counters_.roamed;
    FarEnd far = open_tunnel(1, protection);
    const Bytes mark = far.seal(probe_of(tunnel::kProbeMark, 1));
    receive_packets(0, {udp_packet(kElsewhere, kTunnelEndpoint, far.seal({})),
                        udp_packet(far.outer, kTunnelEndpoint, mark)});
    EXPECT_EQ(counters_.roamed, roamed + 1);
    EXPECT_EQ(far.open(sent_to_tunnel(far.outer)), probe_of(tunnel::kProbeReply, 1));
  }
}

TEST_F(TunnelPath, AProbeToTheMarkIsAnsweredThereByAsManyBytes) {
  for (const Protection protection : {Protection::aes_256_gcm, Protection::plain}) {
    FarEnd far = open_tunnel(1, protection);
    receive_from(kElsewhere, far.seal(probe_of(tunnel::kProbeMark, 1)));
    sent_to_tunnel(kElsewhere);
    const Bytes request = far.seal(probe_of(tunnel::kProbeToMark, 2));
    receive_from(far, request);
    const Bytes answer = sent_to_tunnel(kElsewhere);
    EXPECT_EQ(answer.size(), request.size());
    EXPECT_EQ(far.open(answer), probe_of(tunnel::kProbeReply, 2));
    EXPECT_EQ(counters_.roamed, 0u);
  }
}

TEST_F(TunnelPath, AProbeToTheMarkOfATunnelWithoutOneIsDropped) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(probe_of(tunnel::kProbeToMark, 1)));
  expect_only_drop(Fate::unknown_inner);
  // And a tunnel's mark ends with the tunnel.
  receive_from(kElsewhere, far.seal(probe_of(tunnel::kProbeMark, 1)));
  sent_to_tunnel(kElsewhere);
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  tell(close);
  FarEnd next = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(next, next.seal(probe_of(tunnel::kProbeToMark, 1)));
  EXPECT_EQ(drops(Fate::unknown_inner), 2u);
}

// DF is set: what is too big is refused, at the express way and at the stages.
TEST_F(TunnelPath, AClientWhosePathTakesLessSaysSoInAProbe) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, kGood);
  const auto fits = [&](size_t packet_bytes) {
    const uint64_t refused = drops(Fate::too_big);
    receive(0, udp_packet(kService, external, payload_bytes(packet_bytes - 28)));
    sent(0);
    return drops(Fate::too_big) == refused;
  };
  const auto tell = [&](uint16_t mtu_bytes) {
    Bytes probe(16, 0);
    probe[0] = tunnel::kProbeRequest;
    probe[2] = static_cast<uint8_t>(mtu_bytes >> 8);
    probe[3] = static_cast<uint8_t>(mtu_bytes);
    receive_from(far, far.seal(probe));
    sent_to_tunnel(far.outer);
  };
  EXPECT_TRUE(fits(1440));
  tell(1200);
  EXPECT_TRUE(fits(1200));
  EXPECT_FALSE(fits(1201));
  tell(0);  // says nothing
  EXPECT_FALSE(fits(1201));
  tell(100);  // no less than every host takes
  EXPECT_TRUE(fits(576));
  EXPECT_FALSE(fits(577));
  tell(65535);  // no more than is configured
  EXPECT_TRUE(fits(1440));
  EXPECT_FALSE(fits(1441));
}

TEST_F(TunnelPath, HeartbeatIsConsumedAndOneIsSentOnRequest) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  EXPECT_EQ(counters_.heartbeats_received, 1u);
  ToWorker heartbeat;
  heartbeat.kind = ToWorker::heartbeat;
  heartbeat.slot = 1;
  tell(heartbeat);
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)), Bytes{});
  EXPECT_EQ(counters_.heartbeats_sent, 1u);
}

// 192.168.1.10:68 or 0.0.0.0:68 -> 255.255.255.255:67
Bytes dhcp(Ipv4Address source) {
  return udp_packet({source, Be16::from_host(68)},
                    {Ipv4Address::from_host(0xffffffff), Be16::from_host(67)}, kHello);
}

TEST_F(TunnelPath, DhcpGoesToTheControlThreadEvenWithoutASourceAddress) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.seal(dhcp({})));
  const std::vector<ToControl> items = handed_out();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, ToControl::dhcp);
  EXPECT_EQ(items[0].slot, 1u);
  EXPECT_EQ(items[0].epoch, 1u);
}

TEST_F(TunnelPath, DhcpInAPlainPacketIsDropped) {
  FarEnd far = open_tunnel(1, Protection::plain);
  receive_from(far, far.plain(dhcp(kInner)));
  expect_only_drop(Fate::dhcp_in_plain);
}

TEST_F(TunnelPath, DhcpReplyIsSealedEvenInAPlainSession) {
  FarEnd far = open_tunnel(1, Protection::plain);
  ToWorker message;
  message.kind = ToWorker::send_inner;
  message.slot = message.epoch = 1;
  const Bytes reply = udp_packet({kRouter, Be16::from_host(67)}, {kInner, Be16::from_host(68)},
                                 kHello);
  give(message, reply);
  const Bytes payload = sent_to_tunnel(far.outer);
  EXPECT_EQ(payload.at(0), 4);
  EXPECT_EQ(far.open(payload), reply);
}

TEST_F(TunnelPath, AnswerForATunnelThatIsGoneIsDropped) {
  open_tunnel(1, Protection::plain);
  ToWorker message;
  message.kind = ToWorker::send_inner;
  message.slot = 1;
  message.epoch = 99;
  give(message, kGood);
  expect_only_drop(Fate::stale_tunnel);
}

TEST_F(TunnelPath, InitiationGoesToTheControlThreadAndOtherHandshakeMessagesNowhere) {
  Bytes initiation(148, 0);
  initiation[0] = 1;
  receive_from(kClientOuter, initiation);
  const std::vector<ToControl> items = handed_out();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, ToControl::handshake);
  EXPECT_EQ(items[0].from, kClientOuter);
}

struct DropRow {
  const char* description;
  Fate reason;
  Bytes payload;  // of UDP, to the tunnel endpoint
};

class TunnelDrop : public Rig, public testing::WithParamInterface<DropRow> {};

TEST_P(TunnelDrop, UnderItsOwnName) {
  open_tunnel(1, Protection::aes_256_gcm);
  open_tunnel(2, Protection::plain);
  receive_from(kClientOuter, GetParam().payload);
  expect_only_drop(GetParam().reason);
  EXPECT_TRUE(handed_out().empty());
}

Bytes tunnel_payload(uint8_t type, uint32_t index, size_t size, uint8_t tag = 0) {
  Bytes payload(size, tag);
  payload[0] = type;
  if (size >= 8) {
    for (unsigned i = 0; i < 4; ++i) payload[4 + i] = static_cast<uint8_t>(index >> 8 * i);
  }
  return payload;
}
constexpr uint32_t kOne = 1 | 1 << 4;  // slot 1 or 2 of 16, generation 1
constexpr uint32_t kTwo = 2 | 1 << 4;

INSTANTIATE_TEST_SUITE_P(
    Rows, TunnelDrop,
    testing::Values(
        DropRow{"empty", Fate::tunnel_truncated, {}},
        DropRow{"seven bytes", Fate::tunnel_truncated, tunnel_payload(4, kOne, 7)},
        DropRow{"type 4 without room for a tag", Fate::tunnel_truncated,
                tunnel_payload(4, kOne, 31)},
        DropRow{"type 5 without room for an IPv4 header", Fate::tunnel_truncated,
                tunnel_payload(5, kTwo, 27)},
        DropRow{"an initiation of a wrong length", Fate::tunnel_truncated,
                tunnel_payload(1, 0, 147)},
        DropRow{"a longer initiation", Fate::tunnel_truncated, tunnel_payload(1, 0, 149)},
        DropRow{"a response", Fate::unexpected_message, tunnel_payload(2, 0, 92)},
        DropRow{"a cookie reply", Fate::unexpected_message, tunnel_payload(3, 0, 64)},
        DropRow{"type 0", Fate::unknown_type, tunnel_payload(0, kOne, 64)},
        DropRow{"type 6", Fate::unknown_type, tunnel_payload(6, kOne, 64)},
        DropRow{"type 255", Fate::unknown_type, tunnel_payload(255, kOne, 64)},
        DropRow{"a slot without a tunnel", Fate::unknown_index, tunnel_payload(4, 3 | 16, 64)},
        DropRow{"index 0", Fate::unknown_index, tunnel_payload(4, 0, 64)},
        DropRow{"another generation", Fate::unknown_index, tunnel_payload(4, 1 | 32, 64)},
        DropRow{"not sealed by anyone we know", Fate::not_authentic,
                tunnel_payload(4, kOne, 64, 9)},
        DropRow{"plain in an encrypted session", Fate::wrong_protection,
                tunnel_payload(5, kOne, 64)},
        DropRow{"plain with a wrong tag", Fate::bad_tag, tunnel_payload(5, kTwo, 64, 9)}),
    [](const auto& row) { return row_name(row.param.description); });

}  // namespace
}  // namespace adit::gateway::test
