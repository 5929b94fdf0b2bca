// Who may send to a mapping, in the three modes of RFC 4787 §5.
#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;

constexpr auto kIndependent = nat::Filtering::endpoint_independent;
constexpr auto kAddress = nat::Filtering::address_dependent;
constexpr auto kAddressAndPort = nat::Filtering::address_and_port_dependent;

const Bytes kHello = payload_bytes(33);
const TcpOptions kSyn{.flags = kTcpSyn};
const Endpoint kSamePlace{kServer, Be16::from_host(6601)};  // other port, same address
const Endpoint kStranger{Ipv4Address::from_octets(50, 1, 1, 1), Be16::from_host(6600)};
const Endpoint kSecond{Ipv4Address::from_octets(192, 168, 1, 11), Be16::from_host(7)};

class FilterRig : public Rig {
 protected:
  explicit FilterRig(const RigOptions& options) : Rig(options) {}

  bool passes(const Bytes& packet) {
    receive(0, packet);
    return sent(0).size() == 1;
  }
  bool udp_passes(const Endpoint& from, const Endpoint& external) {
    return passes(udp_packet(from, external, kHello));
  }
  bool tcp_passes(const Endpoint& from, const Endpoint& external) {
    return passes(tcp_packet(from, external, kHello));
  }
  // Time passes; the tunnel gets a session of now.
  FarEnd after(uint64_t seconds, uint8_t generation) {
    now_ns_ += seconds * tunnel::kSecondNs;
    const tunnel::Session session = make_session(1, Protection::plain, generation);
    install(1, session);
    FarEnd far(session, 1440);
    far.outer.port = Be16::from_host(20001);
    receive_from(far, far.seal({}));
    sent_frames(0);
    return far;
  }
};

class FilterIndependent : public FilterRig {
 protected:
  FilterIndependent() : FilterRig({}) {}
};

TEST_F(FilterIndependent, R4787_8_R6888_7_AdmitsAnybodyByDefaultAndKeepsNoSessions) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  EXPECT_TRUE(udp_passes(kSamePlace, external));
  EXPECT_TRUE(udp_passes(kStranger, external));
  const Endpoint tcp = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  EXPECT_TRUE(tcp_passes(kStranger, tcp));
  EXPECT_EQ(filter_, nullptr);
}

RigOptions filtering(nat::Filtering udp, nat::Filtering tcp, nat::Filtering icmp) {
  return {.nat = {.profiles = {{.filtering = {udp, tcp, icmp}}}}};
}

class FilterAddress : public FilterRig {
 protected:
  FilterAddress() : FilterRig(filtering(kAddress, kAddress, kAddress)) {}
};

TEST_F(FilterAddress, R4787_8_R4787_8a_AdmitsEveryPortOfAnAddressThatWasSentTo) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  EXPECT_TRUE(udp_passes(kService, external));
  EXPECT_TRUE(udp_passes(kSamePlace, external));
  EXPECT_FALSE(udp_passes(kStranger, external));
  EXPECT_EQ(drops(Fate::filtered), 1u);
  EXPECT_EQ(sessions_live(), 1u);

  EXPECT_EQ(external_of(far, udp_packet(kApplication, kStranger, kHello)), external)
      << "mapping stays endpoint-independent (REQ-1)";
  EXPECT_TRUE(udp_passes(kStranger, external));
}

TEST_F(FilterAddress, R5382_3_R5382_3a_FiltersTcpAsUdp) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  EXPECT_TRUE(tcp_passes(kService, external));
  EXPECT_TRUE(tcp_passes(kSamePlace, external));
  EXPECT_FALSE(tcp_passes(kStranger, external));
  EXPECT_EQ(drops(Fate::filtered), 1u);
}

TEST_F(FilterAddress, Rfc5508RepliesComeFromWhoWasAskedOnly) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint echo = external_of(far, icmp_query(kInner, kServer, 8, 0x77, 1, kHello));
  EXPECT_TRUE(passes(icmp_query(kServer, kGateway, 0, echo.port.host(), 1, kHello)));
  EXPECT_FALSE(passes(icmp_query(kStranger.address, kGateway, 0, echo.port.host(), 1, kHello)));
  EXPECT_EQ(drops(Fate::filtered), 1u);
}

TEST_F(FilterAddress, R4787_12a_ErrorsAreNotFilteredAndOpenNothing) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  const Bytes about = udp_packet(external, kService, kHello);
  EXPECT_TRUE(passes(icmp_packet(kStranger.address, kGateway, 3, 1, 0, about)));
  EXPECT_FALSE(udp_passes(kStranger, external));
  // Nor does an error that the inner host sends.
  const Bytes received = udp_packet(kStranger, kApplication, kHello);
  receive_from(far, far.plain(icmp_packet(kInner, kStranger.address, 3, 3, 0, received)));
  EXPECT_EQ(sent(0).size(), 1u);
  EXPECT_FALSE(udp_passes(kStranger, external));
  EXPECT_EQ(sessions_live(), 1u);
}

class FilterAddressAndPort : public FilterRig {
 protected:
  FilterAddressAndPort()
      : FilterRig(filtering(kAddressAndPort, kAddressAndPort, kAddressAndPort)) {}
};

TEST_F(FilterAddressAndPort, R4787_8_R4787_8a_AdmitsTheEndpointsThatWereSentTo) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  EXPECT_TRUE(udp_passes(kService, external));
  EXPECT_FALSE(udp_passes(kSamePlace, external));
  EXPECT_FALSE(udp_passes(kStranger, external));
  EXPECT_EQ(drops(Fate::filtered), 2u);
  EXPECT_EQ(external_of(far, udp_packet(kApplication, kSamePlace, kHello)), external);
  EXPECT_TRUE(udp_passes(kSamePlace, external));
}

TEST_F(FilterAddressAndPort, Rfc5508QueriesHaveNoRemotePortAndPass) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint echo = external_of(far, icmp_query(kInner, kServer, 8, 0x77, 1, kHello));
  EXPECT_TRUE(passes(icmp_query(kServer, kGateway, 0, echo.port.host(), 1, kHello)));
}

TEST_F(FilterAddressAndPort, R4787_9a_HairpinnedPacketsAreFilteredByTheirExternalSource) {
  FarEnd one = open_tunnel(1, Protection::plain);
  FarEnd two = open_tunnel(2, Protection::plain);
  const Endpoint first = external_of(one, udp_packet(kApplication, kService, kHello));
  const Endpoint second = external_of(two, udp_packet(kSecond, kService, kHello));
  receive_from(two, two.plain(udp_packet(kSecond, first, kHello)));
  expect_only_drop(Fate::filtered);
  receive_from(one, one.plain(udp_packet(kApplication, second, kHello)));
  EXPECT_EQ(two.open(sent_to_tunnel(two.outer)), udp_packet(first, kSecond, kHello, {.ttl = 63}))
      << "second has sent to first, if in vain";
  receive_from(two, two.plain(udp_packet(kSecond, first, kHello)));
  EXPECT_TRUE(one.open(sent_to_tunnel(one.outer)));
}

TEST_F(FilterAddressAndPort, R5382_4_RefusedSynIsHeldAndForgottenWhenTheInnerHostConnects) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  const Bytes syn = tcp_packet(kStranger, external, {}, kSyn);
  receive(0, syn);
  expect_only_drop(Fate::unsolicited_syn);
  now_ns_ += 6 * tunnel::kSecondNs;
  sweep();
  EXPECT_EQ(sent_one(0), icmp_packet(kGateway, kStranger.address, 3, 3, 0, syn, kErrorHeader));

  receive(0, syn);
  external_of(far, tcp_packet(kApplication, kStranger, {}, kSyn));
  now_ns_ += 6 * tunnel::kSecondNs;
  sweep();
  EXPECT_TRUE(sent_frames(0).empty());
  EXPECT_TRUE(passes(syn)) << "the peer's next attempt completes the simultaneous open";
}

TEST_F(FilterAddressAndPort, SessionEndsWhenIdleThoughItsMappingIsInUse) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  far = after(200, 2);
  external_of(far, udp_packet(kApplication, kStranger, kHello));
  now_ns_ += 101 * tunnel::kSecondNs;
  EXPECT_FALSE(udp_passes(kService, external));
  EXPECT_EQ(drops(Fate::filtered), 1u);
  far = after(1, 3);
  external_of(far, udp_packet(kApplication, kStranger, kHello));
  for (int i = 0; i < 10; ++i) sweep();
  EXPECT_EQ(sessions_live(), 1u) << "the idle one has made room";
}

TEST_F(FilterAddressAndPort, R4787_6a_InboundTrafficRefreshesTheSession) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  far = after(200, 2);
  EXPECT_TRUE(udp_passes(kService, external));
  far = after(200, 3);
  EXPECT_TRUE(udp_passes(kService, external));
}

TEST_F(FilterAddressAndPort, NextMappingAtTheSameEndpointInheritsNothing) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  far = after(300, 2);  // the mapping has ended on its opening timer
  ASSERT_EQ(external_of(far, tcp_packet(kApplication, kStranger, {}, kSyn)), external);
  EXPECT_FALSE(tcp_passes(kService, external));
  EXPECT_EQ(drops(Fate::filtered), 1u);
  EXPECT_EQ(external_of(far, tcp_packet(kApplication, kService, {}, kSyn)), external);
  EXPECT_TRUE(tcp_passes(kService, external));
}

TEST_F(FilterAddressAndPort, SessionsEndWithTheirMapping) {
  FarEnd far = open_tunnel(1, Protection::plain);
  external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  EXPECT_EQ(sessions_live(), 1u);
  ToWorker close;
  close.kind = ToWorker::close_tunnel;
  close.slot = 1;
  tell(close);
  for (int i = 0; i < 10; ++i) sweep();
  EXPECT_EQ(sessions_live(), 0u);
}

TEST_F(FilterAddressAndPort, R6888_5_SubscriberAtItsLimitIsToldAndGoesOnWithWhatItHas) {
  FarEnd far = open_tunnel(1, Protection::plain);
  Endpoint remote = kService;
  for (uint16_t i = 0; i < kRigSessionsPerTunnel; ++i) {
    remote.port = Be16::from_host(static_cast<uint16_t>(100 + i));
    external_of(far, udp_packet(kApplication, remote, kHello));
  }
  receive_from(far, far.plain(udp_packet(kApplication, kStranger, kHello)));
  EXPECT_EQ(drops(Fate::session_limit), 1u);
  EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
            icmp_packet(kRouter, kInner, 3, 13, 0,
                        udp_packet(kApplication, kStranger, kHello, {.ttl = 63}), kErrorHeader));
  const Endpoint external = external_of(far, udp_packet(kApplication, remote, kHello));
  EXPECT_TRUE(udp_passes(remote, external));
}

TEST_F(FilterAddressAndPort, R5508_8_FullTableIsANamedDropAndLiveSessionsGoOn) {
  Endpoint remote = kService;
  Endpoint external;
  unsigned opened = 0;
  // Tunnels of one worker, whose table it is.
  for (uint32_t slot = 1; drops(Fate::session_table_full) == 0; slot += settings_.workers) {
    ASSERT_LT(slot, 10u) << "the table never filled";
    FarEnd far = open_tunnel(slot, Protection::plain);
    const Endpoint inner{Ipv4Address::from_host(kInner.host() - 1 + slot), kApplication.port};
    for (uint16_t i = 0; i < kRigSessionsPerTunnel; ++i) {
      const Endpoint to{kServer, Be16::from_host(static_cast<uint16_t>(100 + i))};
      receive_from(far, far.plain(udp_packet(inner, to, kHello)));
      const Bytes out = sent_one(0);
      if (drops(Fate::session_table_full) > 0) break;
      ++opened;
      remote = to;
      ASSERT_GE(out.size(), 22u);
      external = {kGateway, Be16::from_host(static_cast<uint16_t>(out[20] << 8 | out[21]))};
    }
  }
  EXPECT_EQ(opened, kRigSessions);
  EXPECT_TRUE(udp_passes(remote, external));
}

class FilterUdpOnly : public FilterRig {
 protected:
  FilterUdpOnly()
      : FilterRig({.nat = {.profiles = {{.inbound_refresh = false,
                                         .filtering = {kAddressAndPort, kIndependent,
                                                       kIndependent}}}}}) {}
};

TEST_F(FilterUdpOnly, R4787_8a_R5382_3a_R7857_6_ModeIsChosenPerProtocol) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint udp = external_of(far, udp_packet(kApplication, kService, kHello));
  const Endpoint tcp = external_of(far, tcp_packet(kApplication, kService, {}, kSyn));
  EXPECT_FALSE(udp_passes(kStranger, udp));
  EXPECT_TRUE(tcp_passes(kStranger, tcp));
  EXPECT_EQ(sessions_live(), 1u);
}

TEST_F(FilterUdpOnly, R4787_6a_R7857_7_InboundTrafficRefreshesNothingWhereSwitchedOff) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  far = after(200, 2);
  EXPECT_TRUE(udp_passes(kService, external));
  far = after(101, 3);
  EXPECT_FALSE(udp_passes(kService, external));
  EXPECT_EQ(drops(Fate::no_mapping), 1u);
}

TEST_F(FilterUdpOnly, R4787_6_OutboundTrafficAlwaysRefreshes) {
  FarEnd far = open_tunnel(1, Protection::plain);
  const Endpoint external = external_of(far, udp_packet(kApplication, kService, kHello));
  far = after(200, 2);
  EXPECT_EQ(external_of(far, udp_packet(kApplication, kService, kHello)), external);
  far = after(200, 3);
  EXPECT_TRUE(udp_passes(kService, external));
}

}  // namespace
}  // namespace adit::gateway::test
