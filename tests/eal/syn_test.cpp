// SYNs that nobody asked for, and connections opened from both sides at once.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
const TcpOptions kSyn{.flags = kTcpSyn};
const TcpOptions kSynAck{.flags = kTcpSyn | kTcpAck};
const Endpoint kClosed{kGateway, Be16::from_host(5555)};
const Endpoint kOther{Ipv4Address::from_octets(50, 1, 1, 1), Be16::from_host(80)};
constexpr uint64_t kMillisecondNs = 1'000'000;

class Syn : public Rig {
 protected:
  explicit Syn(const RigOptions& options = {}) : Rig(options) {}

  void wait(uint64_t duration_ns) {
    now_ns_ += duration_ns;
    sweep();
  }
  // A TCP mapping that has ended, so that a SYN finds none, whose own endpoint gets it back.
  Endpoint ended_mapping(FarEnd& far) {
    const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
    now_ns_ += 300 * tunnel::kSecondNs;
    return external;
  }
};

TEST_F(Syn, R5382_4_IsMetWithSilenceForSixSecondsThenPortUnreachable) {
  const Bytes syn = tcp_packet(kService, kClosed, {}, kSyn);
  receive(0, syn);
  expect_only_drop(Fate::unsolicited_syn);
  wait(6 * tunnel::kSecondNs - kMillisecondNs);
  EXPECT_TRUE(sent_frames(0).empty());
  wait(kMillisecondNs);
  EXPECT_EQ(sent_one(0), icmp_packet(kGateway, kServer, 3, 3, 0, syn, kErrorHeader));
  wait(20 * tunnel::kSecondNs);
  EXPECT_TRUE(sent_frames(0).empty()) << "answered once";
}

TEST_F(Syn, R5382_4_RetransmissionsGetOneAnswer) {
  const Bytes syn = tcp_packet(kService, kClosed, {}, kSyn);
  for (const unsigned pause_s : {0, 1, 2}) {
    wait(pause_s * tunnel::kSecondNs);
    receive(0, syn);
  }
  EXPECT_EQ(drops(Fate::unsolicited_syn), 3u);
  wait(20 * tunnel::kSecondNs);
  EXPECT_EQ(sent(0).size(), 1u);
}

TEST_F(Syn, R5382_4_IsForgottenWhenAnOutboundSynFollows) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = ended_mapping(far);
  renew(far, 1, Protection::aes_256_gcm);
  receive(0, tcp_packet(kService, external, {}, kSyn));
  EXPECT_EQ(drops(Fate::unsolicited_syn), 1u);
  wait(5 * tunnel::kSecondNs);
  ASSERT_EQ(external_of(far, tcp_packet(kApplication, kService, {}, kSyn)), external);
  wait(20 * tunnel::kSecondNs);
  EXPECT_TRUE(sent_frames(0).empty());

  // The peer's SYN+ACK answers ours, as RFC 9293 §3.5 has it.
  receive(0, tcp_packet(kService, external, {}, kSynAck));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            tcp_packet(kService, kApplication, {}, kSynAck, {.ttl = 63}));
}

TEST_F(Syn, R5382_4_IsNotForgottenForASynToAnotherRemoteOrASegmentThatIsNone) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = ended_mapping(far);
  renew(far, 1, Protection::aes_256_gcm);
  const Bytes syn = tcp_packet(kService, external, {}, kSyn);
  receive(0, syn);
  external_of(far, tcp_packet(kApplication, kOther, {}, kSyn));
  external_of(far, tcp_packet(kApplication, kService, kHello));
  wait(6 * tunnel::kSecondNs);
  EXPECT_EQ(sent_one(0), icmp_packet(kGateway, kServer, 3, 3, 0, syn, kErrorHeader));
}

TEST_F(Syn, R5382_4_AnswerQuotesWhatIsKeptOfALongSyn) {
  const Bytes syn = tcp_packet(kService, kClosed, payload_bytes(500), kSyn);
  receive(0, syn);
  wait(6 * tunnel::kSecondNs);
  const Bytes quoted(syn.begin(), syn.begin() + HeldSyns::kKeptBytes);
  EXPECT_EQ(sent_one(0), icmp_packet(kGateway, kServer, 3, 3, 0, quoted, kErrorHeader));
}

TEST_F(Syn, R5382_4_AnswersAreRateLimitedAsAnyError) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive(0, tcp_packet(kService, kClosed, {}, kSyn));
  now_ns_ += 6 * tunnel::kSecondNs;
  for (unsigned i = 0; i < settings_.icmp_errors.per_second; ++i) {
    receive_from(far, far.seal(udp_packet(kApplication, kService, kHello, {.ttl = 1})));
  }
  sent_frames(0);
  wait(0);
  EXPECT_TRUE(sent_frames(0).empty());
  EXPECT_EQ(counters_.icmp_errors_suppressed, 1u);
}

TEST_F(Syn, R5382_4_FullTableDropsUnderItsNameAndRecovers) {
  Endpoint remote = kService;
  for (unsigned i = 0; i < kRigHeldSyns + 1; ++i) {
    remote.port = Be16::from_host(static_cast<uint16_t>(1000 + i));
    receive(0, tcp_packet(remote, kClosed, {}, kSyn));
  }
  EXPECT_EQ(drops(Fate::unsolicited_syn), uint64_t{kRigHeldSyns});
  EXPECT_EQ(drops(Fate::syn_table_full), 1u);
  wait(6 * tunnel::kSecondNs);
  EXPECT_EQ(sent(0).size(), size_t{kRigHeldSyns});
  receive(0, tcp_packet(remote, kClosed, {}, kSyn));
  EXPECT_EQ(drops(Fate::syn_table_full), 1u);
  EXPECT_EQ(drops(Fate::unsolicited_syn), uint64_t{kRigHeldSyns} + 1);
}

TEST_F(Syn, OtherSegmentsWithoutMappingAreDroppedAtOnce) {
  for (const int flags : {int{kTcpAck}, int{kTcpRst}, kTcpSyn | kTcpAck, kTcpSyn | kTcpRst}) {
    const TcpOptions tcp{.flags = static_cast<uint8_t>(flags)};
    receive(0, tcp_packet(kService, kClosed, {}, tcp));
  }
  EXPECT_EQ(drops(Fate::no_mapping), 4u);
  EXPECT_TRUE(held_syns_->empty());
}

TEST_F(Syn, Rfc1812SourceThatIsNoSingleHostIsNotAnswered) {
  const Endpoint class_e{Ipv4Address::from_octets(240, 1, 1, 1), Be16::from_host(80)};
  receive(0, tcp_packet(class_e, kClosed, {}, kSyn));
  expect_only_drop(Fate::no_mapping);
  EXPECT_TRUE(held_syns_->empty());
}

TEST_F(Syn, FromInsideToAClosedExternalEndpointIsAnsweredInside) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  receive_from(far, far.seal(tcp_packet(kApplication, kClosed, {}, kSyn)));
  expect_only_drop(Fate::unsolicited_syn);
  wait(6 * tunnel::kSecondNs);
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(kGateway, kInner, 3, 3, 0,
                        tcp_packet(kApplication, kClosed, {}, kSyn, {.ttl = 63}), kErrorHeader));
}

class SilentSyn : public Syn {
 protected:
  SilentSyn() : Syn({.answer_unsolicited_syn = false}) {}
};

TEST_F(SilentSyn, R5382_4a_PolicyMaySilenceTheAnswer) {
  receive(0, tcp_packet(kService, kClosed, {}, kSyn));
  expect_only_drop(Fate::no_mapping);
  wait(20 * tunnel::kSecondNs);
  EXPECT_TRUE(sent_frames(0).empty());
}

TEST_F(Syn, R5382_2a_SimultaneousOpenConnects) {
  FarEnd far = open_tunnel(1, Protection::aes_256_gcm);
  const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  receive(0, tcp_packet(kService, external, {}, kSyn));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            tcp_packet(kService, kApplication, {}, kSyn, {.ttl = 63}));
  receive_from(far, far.seal(tcp_packet(kApplication, kService, {}, kSynAck)));
  EXPECT_EQ(sent_one(0), tcp_packet(external, kService, {}, kSynAck, {.ttl = 63}));
  receive(0, tcp_packet(kService, external, {}, kSynAck));
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            tcp_packet(kService, kApplication, {}, kSynAck, {.ttl = 63}));
  // It is established: it may be idle for longer than an opening connection.
  const auto later_s = static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs) + 7000;
  EXPECT_NE(nat_->find_inbound(external.address, nat::Protocol::tcp, external.port, later_s),
            nullptr);
}

}  // namespace
}  // namespace adit::gateway::test
