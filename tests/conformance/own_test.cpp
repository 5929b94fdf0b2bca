// What we promise beyond the RFCs.
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::ipv4_packet;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);

TEST_F(Lab, Ours_a_ProtocolsWithoutPortsCrossBothWays) {
  const Bytes body = payload_bytes(64);
  for (const uint8_t protocol : {kIpEsp, kIpGre, kIpSctp, IpProtocol{89}, IpProtocol{253}}) {
    play({{"out", 1, inside(ipv4_packet(kInner, kServer, protocol, body)),
           {internet(ipv4_packet(kGateway, kServer, protocol, body, kForwarded))}},
          {"in", 1, internet(ipv4_packet(kServer, kGateway, protocol, body)),
           {inside(ipv4_packet(kServer, kInner, protocol, body, kForwarded))}},
          {"from somebody else", 1,
           internet(ipv4_packet(kElsewhere.address, kGateway, protocol, body)), {},
           Fate::no_mapping}});
  }
}

TEST_F(Lab, Ours_b_WhatLooksLikeATunnelInsideIsTraffic) {
  const Endpoint external = map(Kind::udp, kApplication);
  const Endpoint other_gateway = at(kServer, 8000);
  const Bytes inner_packet = udp_packet(kApplication, kService, kHello);
  for (const Bytes& payload : {far(1).plain(inner_packet), far(1).seal(inner_packet)}) {
    play({{"out", 1, inside(udp_packet(kApplication, other_gateway, payload)),
           {internet(udp_packet(external, other_gateway, payload, kForwarded))}},
          {"and back", 1, internet(udp_packet(other_gateway, external, payload)),
           {inside(udp_packet(other_gateway, kApplication, payload, kForwarded))}}});
  }
}

TEST_F(Lab, Ours_c_SpoofedSourceIsDroppedAndMakesNoState) {
  ours_only("tunnels");
  far(2);
  for (const Ipv4Address source :
       {inner(2), Ipv4Address::from_octets(192, 168, 1, 99), kRouter, kGateway, kServer,
        Ipv4Address::from_octets(127, 0, 0, 1), Ipv4Address::from_octets(0, 0, 0, 0)}) {
    for (const Kind kind : kKinds) {
      play({"not its own", 1, inside(request(kind, at(source, 1025), kService)), {},
            Fate::spoofed_source});
    }
    play({"without ports", 1, inside(ipv4_packet(source, kServer, kIpEsp, kHello)), {},
          Fate::spoofed_source});
  }
  EXPECT_EQ(nat_counts().mappings_created, 0u);
  EXPECT_EQ(portless_live(), 0u);
}

// Every test ends with this; here it is looked at packet by packet.
TEST_F(Lab, Ours_d_NoPacketIsLostCountOf) {
  ours_only("counters");
  const Endpoint external = map(Kind::udp, kApplication);
  Bytes bad = udp_packet(kApplication, kService, kHello);
  bad[10] ^= 1;
  const std::vector<Hop> packets = {
      inside(request(Kind::udp, kApplication, kService)),
      inside(bad),
      inside(request(Kind::tcp, at(kServer, 1), kService)),
      inside(udp_packet(kApplication, kService, kHello, {.ttl = 1})),
      inside(udp_packet(kApplication, at(kInner, 67), kHello)),
      internet(reply(Kind::udp, kService, external)),
      internet(reply(Kind::tcp, kService, external)),
      internet(Bytes(7, 0x45)),
      internet(udp_packet(kService, external, payload_bytes(1420))),
  };
  for (const Hop& in : packets) {
    give_in(in);
    come_out();
    handed_out();
    EXPECT_EQ(counters_.received + counters_.handed_in + counters_.generated,
              counters_.transmitted + counters_.handed_out + counters_.consumed +
                  counters_.drops_total());
  }
  EXPECT_EQ(counters_.drops_total(), 7u);
}

TEST_F(Lab, Ours_e_MssIsClampedToWhatTheTunnelCarries) {
  const auto syn = [](uint8_t flags, uint16_t mss, bool at_odd_offset) {
    adit::test::TcpOptions tcp{.flags = flags};
    const auto high = static_cast<uint8_t>(mss >> 8);
    const auto low = static_cast<uint8_t>(mss);
    tcp.options = at_odd_offset ? Bytes{1, 2, 4, high, low, 1, 1, 1} : Bytes{2, 4, high, low};
    return tcp;
  };
  const Endpoint external = map(Kind::tcp, kApplication);
  for (const bool odd : {false, true}) {
    for (const auto& [offered, passed] :
         {std::pair<uint16_t, uint16_t>{1460, 1400}, {1401, 1400}, {1400, 1400}, {536, 536}}) {
      play({{"SYN", 1,
             inside(tcp_packet(kApplication, kService, {}, syn(kTcpSyn, offered, odd))),
             {internet(
                 tcp_packet(external, kService, {}, syn(kTcpSyn, passed, odd), kForwarded))}},
            {"SYN+ACK", 1,
             internet(tcp_packet(kService, external, {}, syn(kTcpSyn | kTcpAck, offered, odd))),
             {inside(tcp_packet(kService, kApplication, {}, syn(kTcpSyn | kTcpAck, passed, odd),
                                kForwarded))}}});
    }
  }
}

// Hop 1 is the gateway, hop 2 a router outside, hop 3 the server.
TEST_F(Lab, Ours_f_TracerouteShowsEveryHop) {
  const Endpoint external = map(Kind::udp, kApplication);
  const auto probe = [](const Endpoint& from, uint8_t ttl) {
    return udp_packet(from, at(kServer, 33434), kHello, {.ttl = ttl});
  };
  play({{"TTL 1 ends here", 1, inside(probe(kApplication, 1)),
         {inside(icmp_packet(kRouter, kInner, 11, 0, 0, probe(kApplication, 1), kErrorHeader))},
         Fate::ttl_exceeded},
        {"TTL 2 ends one further", 1, inside(probe(kApplication, 2)),
         {internet(probe(external, 1))}},
        {"whose router says so", 1,
         internet(icmp_packet(kSomeRouter, kGateway, 11, 0, 0, probe(external, 1))),
         {inside(icmp_packet(kSomeRouter, kInner, 11, 0, 0, probe(kApplication, 1), kForwarded))}},
        {"TTL 3 arrives", 1, inside(probe(kApplication, 3)), {internet(probe(external, 2))}},
        {"where nobody listens", 1,
         internet(icmp_packet(kServer, kGateway, 3, 3, 0, probe(external, 1))),
         {inside(icmp_packet(kServer, kInner, 3, 3, 0, probe(kApplication, 1), kForwarded))}}});
}

TEST_F(Lab, Ours_h_MappingSurvivesRoaming) {
  ours_only("tunnels");
  const Endpoint external = map(Kind::udp, kApplication);
  FarEnd& client = far(1);
  client.outer = at(Ipv4Address::from_octets(77, 7, 7, 7), 5555);
  receive_from(client, client.seal({}));  // a heartbeat from the new place
  EXPECT_EQ(counters_.roamed, 1u);
  play({"its reply goes where the tunnel is", 1, internet(reply(Kind::udp, kService, external)),
        {inside(reply(Kind::udp, kService, kApplication, kForwarded))}});
  EXPECT_EQ(map(Kind::udp, kApplication, kElsewhere), external);
}

// 32 ports, 20 mappings a subscriber, and a table of 128 for protocols without ports.
class FullTable : public Lab {
 protected:
  FullTable()
      : Lab({.nat = {
                 .first_port = 2048,
                 .last_port = 2079,
                 .first_block_ports = 16,
                 .profiles = {{.limits = {.mappings = 20,
                             .new_mappings_per_second = 1,
                             .new_mappings_burst = 25,
                             .blocks = 1}}}}}) {}
};

TEST_F(FullTable, Ours_i_LiveMappingsStayAndTheDropNamesTheLimit) {
  for (uint32_t slot = 1; slot <= 3; ++slot) far(slot);
  std::map<uint32_t, Endpoint> external;
  for (uint32_t slot = 1; slot <= 2; ++slot) {
    for (unsigned i = 0; i < 16; ++i) {
      external[slot] = map(Kind::udp, at(inner(slot), 3000), kService, slot);
      map(Kind::udp, at(inner(slot), 3000 + i), kService, slot);
    }
  }
  const auto refuse = [&](uint32_t slot, Kind kind, unsigned port, Fate reason) {
    const Bytes quote = request(kind, at(inner(slot), port), kService, kForwarded);
    play({fate_name(reason), 1, inside(request(kind, at(inner(slot), port), kService), slot),
          {inside(icmp_packet(kRouter, inner(slot), 3, 13, 0, quote, kErrorHeader), slot)},
          reason});
    for (const auto& [owner, endpoint] : external) {
      EXPECT_EQ(map(Kind::udp, at(inner(owner), 3000), kElsewhere, owner), endpoint);
      play({"a reply", 1, internet(reply(Kind::udp, kElsewhere, endpoint)),
            {inside(reply(Kind::udp, kElsewhere, at(inner(owner), 3000), kForwarded), owner)}});
    }
  };
  refuse(3, Kind::udp, 3000, Fate::pool_exhausted);
  refuse(1, Kind::udp, 4000, Fate::port_limit);
  for (unsigned i = 0; i < 4; ++i) map(Kind::tcp, at(kInner, 3000 + i));
  refuse(1, Kind::tcp, 4000, Fate::mapping_limit);
  for (unsigned i = 0; i < 10; ++i) refuse(2, Kind::udp, 4000 + i, Fate::port_limit);
  refuse(2, Kind::udp, 4000, Fate::rate_limited);
  EXPECT_EQ(nat_counts().mappings_live, 36u);
  EXPECT_EQ(nat_counts().mappings_expired, 0u);
}

TEST_F(Lab, Ours_i_FullTableOfProtocolsWithoutPortsToo) {
  ours_only("a table of a size that is known");
  const auto remote = [](uint32_t slot, unsigned i) {
    return Ipv4Address::from_octets(50, 1, static_cast<uint8_t>(slot), static_cast<uint8_t>(i));
  };
  const auto packet = [&](uint32_t slot, unsigned i) {
    return ipv4_packet(inner(slot), remote(slot, i), kIpGre, kHello);
  };
  for (uint32_t slot = 1; slot <= 2; ++slot) {
    for (unsigned i = 0; i < PortlessMappings::kPerTunnelMax; ++i) {
      play({"fills it", 1, inside(packet(slot, i), slot),
            {internet(ipv4_packet(kGateway, remote(slot, i), kIpGre, kHello, kForwarded))}});
    }
  }
  play({{"its own share is full", 1, inside(packet(1, 200)),
         {inside(icmp_packet(kRouter, kInner, 3, 13, 0,
                             ipv4_packet(kInner, remote(1, 200), kIpGre, kHello, kForwarded),
                             kErrorHeader))},
         Fate::portless_limit},
        {"the table is full", 1, inside(packet(3, 1), 3), {}, Fate::portless_table_full},
        {"what exists goes on", 1, internet(ipv4_packet(remote(2, 63), kGateway, kIpGre, kHello)),
         {inside(ipv4_packet(remote(2, 63), inner(2), kIpGre, kHello, kForwarded), 2)}}});
}

}  // namespace
}  // namespace adit::gateway::test
