// Static port forwards.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;

const Endpoint kWeb = at(Ipv4Address::from_octets(192, 168, 1, 11), 8080);  // of subscriber 2
const Endpoint kWebOutside = at(kGateway, 80);
const Endpoint kGame = at(kWeb.address, 5000);
const Endpoint kGameOutside = at(kGateway, 5000);  // of the range that is given out
const Endpoint kOnLan = at(Ipv4Address::from_octets(10, 20, 0, 5), 8080);
const Endpoint kOnLanOutside = at(kGateway, 81);

class Forwarding : public Lab {
 protected:
  explicit Forwarding(RigOptions options = {}) : Lab(with_forwards(std::move(options))) {}

  void extend_open(ToWorker& open) override {
    if (open.slot != 2) return;
    open.first_forward = 1;  // the first is somebody's who never comes
    open.forward_count = 3;
    open.prefix_count = 1;
    open.prefixes[0] = *Ipv4Prefix::parse("10.20.0.0/16");
  }
  std::vector<Row> hairpin();

 private:
  static RigOptions with_forwards(RigOptions options) {
    options.forwards = {{nat::Protocol::tcp, at(kGateway, 79), kWeb},
                        {nat::Protocol::tcp, kWebOutside, kWeb},
                        {nat::Protocol::udp, kGameOutside, kGame},
                        {nat::Protocol::tcp, kOnLanOutside, kOnLan}};
    return options;
  }
};

TEST_F(Forwarding, Ours_g_AnybodyReachesTheInternalEndpoint) {
  far(2);
  const auto syn = [](const Endpoint& from, const Endpoint& to, uint8_t flags, uint8_t ttl) {
    return tcp_packet(from, to, {}, {.flags = flags}, {.ttl = ttl});
  };
  for (const Endpoint& client : {kService, kElsewhere}) {
    for (const auto& [outside, server] :
         {std::pair{kWebOutside, kWeb}, std::pair{kOnLanOutside, kOnLan}}) {
      play({{"SYN", 1, internet(syn(client, outside, kTcpSyn, 64)),
             {inside(syn(client, server, kTcpSyn, 63), 2)}},
            {"SYN+ACK", 1, inside(syn(server, client, kTcpSyn | kTcpAck, 64), 2),
             {internet(syn(outside, client, kTcpSyn | kTcpAck, 63))}},
            {"ACK", 1, internet(syn(client, outside, kTcpAck, 64)),
             {inside(syn(client, server, kTcpAck, 63), 2)}}});
    }
    play({{"UDP", 1, internet(request(Kind::udp, client, kGameOutside)),
           {inside(request(Kind::udp, client, kGame, kForwarded), 2)}},
          {"and back", 1, inside(reply(Kind::udp, kGame, client), 2),
           {internet(reply(Kind::udp, kGameOutside, client, kForwarded))}}});
  }
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(Forwarding, Ours_g_WhatTheEndpointSendsFirstLeavesFromTheForward) {
  for (const Endpoint& remote : {kService, kElsewhere}) {
    EXPECT_EQ(map(Kind::udp, kGame, remote, 2), kGameOutside);
    EXPECT_EQ(map(Kind::tcp, kWeb, remote, 2), kWebOutside);
  }
  // Of that protocol, that endpoint and that subscriber alone.
  EXPECT_NE(map(Kind::tcp, kGame, kService, 2), kGameOutside);
  EXPECT_NE(map(Kind::udp, at(kGame.address, 5001), kService, 2), kGameOutside);
}

TEST_F(Forwarding, Ours_g_AForwardDoesNotEnd) {
  EXPECT_EQ(map(Kind::udp, kGame, kService, 2), kGameOutside);
  constexpr uint64_t kWeek_s = 7 * 86400;
  set_time(kWeek_s);
  sweep_all();
  play({{"in", kWeek_s, internet(request(Kind::udp, kElsewhere, kGameOutside)),
         {inside(request(Kind::udp, kElsewhere, kGame, kForwarded), 2)}},
        {"out", kWeek_s, inside(reply(Kind::udp, kGame, kElsewhere), 2),
         {internet(reply(Kind::udp, kGameOutside, kElsewhere, kForwarded))}}});
}

TEST_F(Forwarding, Ours_g_IcmpErrorsFindIt) {
  far(1);
  far(2);
  const Bytes sent = request(Kind::udp, kGameOutside, kService, kForwarded);
  const Bytes delivered = request(Kind::udp, kService, kGame, kForwarded);
  play({{"an error about what it sent", 1,
         internet(icmp_packet(kSomeRouter, kGateway, 3, 1, 0, sent)),
         {inside(icmp_packet(kSomeRouter, kGame.address, 3, 1, 0,
                             request(Kind::udp, kGame, kService, kForwarded), kForwarded), 2)}},
        {"an error about what it got", 1,
         inside(icmp_packet(kGame.address, kServer, 3, 3, 0, delivered), 2),
         {internet(icmp_packet(kGateway, kServer, 3, 3, 0,
                               request(Kind::udp, kService, kGameOutside, kForwarded),
                               kForwarded))}}});
}

std::vector<Row> Forwarding::hairpin() {
  far(2);
  const Endpoint external = map(Kind::udp, kApplication);
  return {{"another client", 1, inside(request(Kind::udp, kApplication, kGameOutside)),
           {inside(request(Kind::udp, external, kGame, kForwarded), 2)}},
          {"its answer", 1, inside(reply(Kind::udp, kGame, external), 2),
           {inside(reply(Kind::udp, kGameOutside, kApplication, kForwarded))}}};
}
TEST_F(Forwarding, Ours_g_OtherClientsReachIt) { play(from_anybody(hairpin())); }
TEST_F(Forwarding, R4787_9a_HairpinsComeFromTheForwardAndFromTheMapping) { play(hairpin()); }

TEST_F(Forwarding, Ours_g_WithoutItsTunnelItLeadsNowhere) {
  const auto expect_nothing = [&](uint64_t at_s) {
    play({{"UDP", at_s, internet(request(Kind::udp, kService, kGameOutside)), {}, Fate::no_mapping},
          {"SYN", at_s, internet(tcp_packet(kService, kWebOutside, {}, {.flags = kTcpSyn})), {},
           Fate::unsolicited_syn}});
  };
  expect_nothing(1);
  play({"another client with its inner endpoint's port", 1,
        internet(request(Kind::udp, kService, at(kGateway, 79))), {}, Fate::no_mapping});
  EXPECT_EQ(map(Kind::udp, kGame, kService, 2), kGameOutside);
  close(2);
  expect_nothing(1);
  EXPECT_EQ(map(Kind::udp, kGame, kService, 2), kGameOutside);  // it comes back
}

// 16 ports are given out but for the forward's one.
class ForwardingTight : public Forwarding {
 protected:
  ForwardingTight()
      : Forwarding({.nat = {.first_port = 4992,
                            .last_port = 5007,
                            .first_block_ports = 16,
                            .profiles = {{.limits = {.blocks = 1}}}}}) {}
};

TEST_F(ForwardingTight, Ours_g_TheNatNeverHandsItsPortOut) {
  for (const Kind kind : kKinds) {
    for (unsigned i = 0; i < 15; ++i) {
      EXPECT_NE(map(kind, at(kInner, 1000 + i)), kGameOutside);
    }
    const Bytes quote = request(kind, at(kInner, 1015), kService, kForwarded);
    play({"no port is left", 1, inside(request(kind, at(kInner, 1015), kService)),
          {inside(icmp_packet(kRouter, kInner, 3, 13, 0, quote, kErrorHeader))},
          Fate::port_limit});
  }
  far(2);
  play({"the forward goes on", 1, internet(request(Kind::udp, kService, kGameOutside)),
        {inside(request(Kind::udp, kService, kGame, kForwarded), 2)}});
  close(1);  // whose block the forward's port stands in
  play({"still", 1, internet(request(Kind::udp, kService, kGameOutside)),
        {inside(request(Kind::udp, kService, kGame, kForwarded), 2)}});
}

class ForwardingFiltered : public Forwarding {
 protected:
  ForwardingFiltered()
      : Forwarding({.nat = {.profiles = {{.filtering = kStrict}}}}) {}
};

TEST_F(ForwardingFiltered, Ours_g_FilteringAdmitsAnybodyToAForward) {
  const Endpoint external = map(Kind::udp, at(kGame.address, 5001), kService, 2);
  play({{"to the forward", 1, internet(request(Kind::udp, kElsewhere, kGameOutside)),
         {inside(request(Kind::udp, kElsewhere, kGame, kForwarded), 2)}},
        {"to another port", 1, internet(request(Kind::udp, kElsewhere, external)), {},
         Fate::filtered}});
  for (unsigned i = 0; i < 2 * kRigSessionsPerTunnel; ++i) {
    EXPECT_EQ(map(Kind::udp, kGame, at(kElsewhere.address, 100 + i), 2), kGameOutside);
  }
}

// What an operator sees.
TEST_F(Forwarding, Ours_g_ForwardsAreListedAmongTheMappings) {
  const Endpoint external = map(Kind::udp, at(kGame.address, 5001), kService, 2);
  ToWorker list;
  list.kind = ToWorker::list_mappings;
  list.slot = 2;
  tell(list);
  std::vector<std::pair<Endpoint, bool>> listed;
  for (const ToControl& item : handed_out()) {
    if (item.kind == ToControl::mapping) listed.emplace_back(item.external, item.is_forward);
  }
  EXPECT_EQ(listed, (std::vector<std::pair<Endpoint, bool>>{{kWebOutside, true},
                                                            {kGameOutside, true},
                                                            {kOnLanOutside, true},
                                                            {external, false}}));
}

}  // namespace
}  // namespace adit::gateway::test
