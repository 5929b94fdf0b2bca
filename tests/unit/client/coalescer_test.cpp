// The coalescer against a plain reference: what comes out is cut again, each packet built from
// scratch, and must be what went in, byte for byte.
#include "lib/net/coalescer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tests/support/packets.h"

namespace adit::client {
namespace {

using adit::test::Bytes;
using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::plain_checksum;
using adit::test::tcp_packet;
using adit::test::TcpOptions;
using adit::test::udp_packet;
using adit::test::UdpChecksum;

const Endpoint kServer{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(443)};
Endpoint own(uint16_t port) {
  return {Ipv4Address::from_octets(192, 168, 1, 10), Be16::from_host(port)};
}

struct Written {
  Offload offload;
  Bytes packet;
  unsigned packets;
  size_t bytes;
};

uint16_t word(const Bytes& packet, size_t at) {
  return static_cast<uint16_t>(packet[at] << 8 | packet[at + 1]);
}

// The packets that a large one stands for. Checks what the kernel would believe about it.
std::vector<Bytes> cut(const Written& written) {
  const Bytes& packet = written.packet;
  const Offload& offload = written.offload;
  if (offload.kind == Offload::whole) {
    EXPECT_FALSE(offload.checksum_missing);
    return {packet};
  }
  const bool is_tcp = offload.kind == Offload::tcp;
  const auto& header = *reinterpret_cast<const Ipv4Header*>(packet.data());
  const auto& transport = *reinterpret_cast<const TcpHeader*>(packet.data() + 20);
  EXPECT_EQ(word(packet, 2), packet.size());
  EXPECT_EQ(plain_checksum(std::span(packet).first(20)), 0);
  EXPECT_TRUE(offload.checksum_missing);
  EXPECT_EQ(offload.checksum_start, 20);
  EXPECT_EQ(offload.checksum_offset, is_tcp ? 16 : 6);
  const auto transport_bytes = static_cast<uint32_t>(packet.size() - 20);
  EXPECT_EQ(word(packet, 20u + offload.checksum_offset),
            static_cast<uint16_t>(~plain_checksum(std::span(packet).subspan(12, 8),
                                                  packet[9] + transport_bytes)));
  const size_t headers = 20 + (is_tcp ? transport.header_bytes() : 8);
  EXPECT_TRUE(is_tcp || word(packet, 24) == transport_bytes);

  Ipv4Options ip{header.tos, header.ttl, header.id.host(), header.fragment.host(), {}};
  TcpOptions tcp;
  const Endpoint from{header.source, transport.source_port};
  const Endpoint to{header.destination, transport.destination_port};
  std::vector<Bytes> out;
  for (size_t at = headers; at < packet.size(); at += offload.segment_bytes) {
    const bool last = at + offload.segment_bytes >= packet.size();
    const auto payload = std::span(packet).subspan(
        at, last ? packet.size() - at : size_t{offload.segment_bytes});
    if (is_tcp) {
      tcp.flags = last ? transport.flags : transport.flags & 0xf7;
      tcp.sequence = static_cast<uint32_t>(transport.sequence.host() + (at - headers));
      tcp.acknowledgement = transport.acknowledgement.host();
      tcp.window = transport.window.host();
      tcp.options = Bytes(packet.begin() + 40, packet.begin() + static_cast<long>(headers));
      out.push_back(tcp_packet(from, to, payload, tcp, ip));
    } else {
      out.push_back(udp_packet(from, to, payload, ip));
    }
    ++ip.id;
  }
  return out;
}

class Rig {
 public:
  Rig() { coalescer->set_kinds(true, true); }

  void add(const Bytes& packet) {
    ParsedIpv4 parsed;
    kept.push_back(packet);
    ASSERT_EQ(parse_ipv4(kept.back(), HeaderChecksum::verify, parsed), ParseError::none);
    coalescer->add(kept.back(), parsed);
    if (coalescer->full()) flush();
  }
  void flush() {
    coalescer->flush([this](const Offload& offload, std::span<const iovec> parts,
                            unsigned packets, size_t bytes) {
      Written entry{offload, {}, packets, bytes};
      for (const iovec& part : parts) {
        const auto* at = static_cast<const uint8_t*>(part.iov_base);
        entry.packet.insert(entry.packet.end(), at, at + part.iov_len);
      }
      written.push_back(entry);
    });
    EXPECT_TRUE(coalescer->empty());
  }
  std::vector<Written> run(const std::vector<Bytes>& packets) {
    written.clear();
    for (const Bytes& packet : packets) add(packet);
    flush();
    return written;
  }

  std::unique_ptr<Coalescer> coalescer{new Coalescer};
  std::deque<Bytes> kept;
  std::vector<Written> written;
};

// `sizes.size()` segments of one connection.
std::vector<Bytes> segments(const std::vector<size_t>& sizes, uint32_t sequence = 1000,
                            uint16_t port = 1025) {
  std::vector<Bytes> out;
  uint16_t id = 100;
  for (const size_t size : sizes) {
    out.push_back(tcp_packet(kServer, own(port), payload_bytes(size, static_cast<uint8_t>(id)),
                             {.sequence = sequence, .options = payload_bytes(12)}, {.id = id}));
    sequence += static_cast<uint32_t>(size);
    ++id;
  }
  return out;
}

// How many packets each write stands for.
std::vector<unsigned> counts(const std::vector<Written>& written) {
  std::vector<unsigned> out;
  for (const Written& entry : written) out.push_back(entry.packets);
  return out;
}

std::vector<Bytes> cut_all(const std::vector<Written>& written) {
  std::vector<Bytes> out;
  for (const Written& entry : written) {
    const std::vector<Bytes> packets = cut(entry);
    EXPECT_EQ(packets.size(), entry.packets);
    size_t bytes = 0;
    for (const Bytes& packet : packets) bytes += packet.size();
    EXPECT_EQ(bytes, entry.bytes);
    out.insert(out.end(), packets.begin(), packets.end());
  }
  return out;
}

using Counts = std::vector<unsigned>;

TEST(Coalescer, PutsConsecutiveSegmentsTogether) {
  Rig rig;
  for (const uint32_t sequence : {1000u, 0u - 3000u, 0u - 1u}) {  // with and without a wrap
    const auto packets = segments({1400, 1400, 1400, 1400, 777}, sequence);
    const auto written = rig.run(packets);
    EXPECT_EQ(counts(written), Counts{5});
    EXPECT_EQ(cut_all(written), packets);
  }
}

TEST(Coalescer, EndsARunAtAShortOneAndAtAPush) {
  Rig rig;
  auto packets = segments({1001, 1001, 999, 999, 999, 1000});
  EXPECT_EQ(counts(rig.run(packets)), (Counts{3, 2, 1}));
  packets = segments({500, 500, 500, 500});
  packets[1] = tcp_packet(kServer, own(1025), payload_bytes(500, 101),
                          {.flags = kTcpAck | kTcpPsh, .sequence = 1500,
                           .options = payload_bytes(12)}, {.id = 101});
  const auto written = rig.run(packets);
  EXPECT_EQ(counts(written), (Counts{2, 2}));
  EXPECT_EQ(cut_all(written), packets);
}

TEST(Coalescer, StaysWithinTheLargestPacketThereIs) {
  Rig rig;
  const auto packets = segments(std::vector<size_t>(100, 1388));
  const auto written = rig.run(packets);
  EXPECT_EQ(counts(written), (Counts{47, 47, 6}));  // 65,535 less 52 of headers, by 1388
  EXPECT_EQ(cut_all(written), packets);
}

TEST(Coalescer, KeepsFlowsApartAndEachInOrder) {
  Rig rig;
  const auto a = segments({1400, 1400, 1400}, 1, 2000);
  const auto b = segments({1300, 1300, 1300}, 1, 2001);
  const auto written = rig.run({a[0], b[0], a[1], b[1], a[2], b[2]});
  EXPECT_EQ(counts(written), (Counts{3, 3}));
  EXPECT_EQ(cut_all(written), (std::vector<Bytes>{a[0], a[1], a[2], b[0], b[1], b[2]}));
}

TEST(Coalescer, LetsNothingPassAPacketWithoutPorts) {
  Rig rig;
  const auto a = segments({1400, 1400, 1400});
  const Bytes ping = icmp_query(kServer.address, own(1).address, 0, 1, 1, payload_bytes(56));
  const auto written = rig.run({a[0], a[1], ping, a[2]});
  EXPECT_EQ(counts(written), (Counts{2, 1, 1}));
  EXPECT_EQ(cut_all(written), (std::vector<Bytes>{a[0], a[1], ping, a[2]}));
}

TEST(Coalescer, AnEmptySegmentEndsItsFlowsRun) {
  Rig rig;
  auto packets = segments({1400, 1400, 0, 1400, 1400});
  const auto written = rig.run(packets);
  EXPECT_EQ(counts(written), (Counts{2, 1, 2}));
  EXPECT_EQ(cut_all(written), packets);
}

TEST(Coalescer, LeavesAWrongChecksumAlone) {
  for (size_t bad = 0; bad < 4; ++bad) {
    Rig rig;
    auto packets = segments({1400, 1400, 1400, 1400});
    packets[bad].back() ^= 1;
    const auto written = rig.run(packets);
    EXPECT_EQ(cut_all(written), packets);
    for (const Written& entry : written) {
      const bool holds_bad = entry.packets == 1 && entry.packet == packets[bad];
      EXPECT_TRUE(entry.packets > 1 || holds_bad || bad == 1 || bad == 2);
    }
    EXPECT_GE(written.size(), 2u);
  }
}

TEST(Coalescer, PutsTogetherIdsThatStandStillUnderDfOnly) {
  for (const bool dont_fragment : {true, false}) {
    Rig rig;
    std::vector<Bytes> packets;
    for (uint32_t i = 0; i < 3; ++i) {
      const uint16_t fragment = dont_fragment ? kIpDontFragment : 0;
      packets.push_back(tcp_packet(kServer, own(1025), payload_bytes(100),
                                   {.sequence = 1 + i * 100}, {.id = 0, .fragment = fragment}));
    }
    EXPECT_EQ(counts(rig.run(packets)), dont_fragment ? Counts{3} : (Counts{1, 1, 1}));
  }
}

struct Difference {
  const char* name;
  std::function<void(TcpOptions&, Ipv4Options&)> make;
};

TEST(Coalescer, PutsNothingTogetherThatDiffers) {
  const std::vector<Difference> differences = {
      {"sequence gap", [](TcpOptions& tcp, Ipv4Options&) { tcp.sequence += 1; }},
      {"retransmission", [](TcpOptions& tcp, Ipv4Options&) { tcp.sequence -= 500; }},
      {"acknowledgement", [](TcpOptions& tcp, Ipv4Options&) { tcp.acknowledgement += 1; }},
      {"window", [](TcpOptions& tcp, Ipv4Options&) { tcp.window -= 1; }},
      {"option", [](TcpOptions& tcp, Ipv4Options&) { tcp.options[11] ^= 1; }},
      {"more options", [](TcpOptions& tcp, Ipv4Options&) { tcp.options.resize(16); }},
      {"no options", [](TcpOptions& tcp, Ipv4Options&) { tcp.options.clear(); }},
      {"FIN", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpFin; }},
      {"SYN", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpSyn; }},
      {"RST", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpRst; }},
      {"URG", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpUrg; }},
      {"ECE", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpEce; }},
      {"CWR", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags |= kTcpCwr; }},
      {"no ACK", [](TcpOptions& tcp, Ipv4Options&) { tcp.flags = 0; }},
      {"tos", [](TcpOptions&, Ipv4Options& ip) { ip.tos ^= 3; }},
      {"ttl", [](TcpOptions&, Ipv4Options& ip) { ip.ttl -= 1; }},
      {"id", [](TcpOptions&, Ipv4Options& ip) { ip.id += 1; }},
      {"DF", [](TcpOptions&, Ipv4Options& ip) { ip.fragment = 0; }},
      {"fragment", [](TcpOptions&, Ipv4Options& ip) { ip.fragment = kIpMoreFragments; }},
      {"IPv4 options", [](TcpOptions&, Ipv4Options& ip) { ip.options = Bytes(4, 1); }},
  };
  for (const Difference& difference : differences) {
    Rig rig;
    TcpOptions tcp{.sequence = 1000, .options = payload_bytes(12)};
    Ipv4Options ip{.id = 100};
    std::vector<Bytes> packets = {tcp_packet(kServer, own(1025), payload_bytes(504), tcp, ip)};
    tcp.sequence += 504;
    ++ip.id;
    ASSERT_EQ(counts(rig.run({packets[0], tcp_packet(kServer, own(1025), payload_bytes(504, 1),
                                                     tcp, ip)})),
              Counts{2});
    difference.make(tcp, ip);
    packets.push_back(tcp_packet(kServer, own(1025), payload_bytes(504, 1), tcp, ip));
    EXPECT_EQ(counts(rig.run(packets)), (Counts{1, 1})) << difference.name;
    EXPECT_EQ(cut_all(rig.written), packets) << difference.name;
  }
}

TEST(Coalescer, PutsNothingTogetherThatTheDeviceDoesNotTake) {
  Rig rig;
  const auto tcp = segments({100, 100});
  std::vector<Bytes> udp;
  for (const uint16_t id : {uint16_t{1}, uint16_t{2}}) {
    udp.push_back(udp_packet(kServer, own(9), payload_bytes(36), {.id = id}));
  }
  rig.coalescer->set_kinds(true, false);
  EXPECT_EQ(counts(rig.run({tcp[0], udp[0], tcp[1], udp[1]})), (Counts{2, 1, 1}));
  rig.coalescer->set_kinds(false, true);
  EXPECT_EQ(counts(rig.run({tcp[0], udp[0], tcp[1], udp[1]})), (Counts{1, 2, 1}));
}

TEST(Coalescer, PutsEquallyLongUdpDatagramsTogetherSixtyFourAtMost) {
  Rig rig;
  std::vector<Bytes> packets;
  for (uint16_t i = 0; i < 70; ++i) {
    packets.push_back(udp_packet(kServer, own(9), payload_bytes(36, static_cast<uint8_t>(i)),
                                 {.id = static_cast<uint16_t>(0xfff0 + i)}));
  }
  packets.push_back(udp_packet(kServer, own(9), payload_bytes(35), {.id = 0x36}));
  packets.push_back(udp_packet(kServer, own(9), payload_bytes(36), {.id = 0x37}));
  packets.push_back(udp_packet(kServer, own(9), payload_bytes(37), {.id = 0x38}));
  packets.push_back(udp_packet(kServer, own(9), payload_bytes(37), {.id = 0x39},
                               UdpChecksum::absent));
  const auto written = rig.run(packets);
  EXPECT_EQ(counts(written), (Counts{64, 7, 1, 1, 1}));
  EXPECT_EQ(cut_all(written), packets);
}

// Random connections with everything that may happen to them. Per flow the packets must be the
// same, in the same order; and between two packets without ports there must be the same ones.
TEST(Coalescer, RandomTrafficIsTheSameWhenCutAgain) {
  std::mt19937 random(7);
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  struct Flow {
    uint32_t sequence, acknowledgement;
    uint16_t id;
    size_t segment_bytes;
    bool is_tcp;
    Bytes options;
  };
  uint64_t together = 0, alone = 0;
  for (unsigned round = 0; round < 300; ++round) {
    std::vector<Flow> flows(1 + random() % 6);
    for (Flow& flow : flows) {
      flow = {static_cast<uint32_t>(0 - random() % 20000), static_cast<uint32_t>(random()),
              static_cast<uint16_t>(0 - random() % 40), 1 + random() % 1400, !one_in(3),
              payload_bytes(random() % 4 * 4, static_cast<uint8_t>(random()))};
    }
    Rig rig;
    std::vector<Bytes> packets;
    size_t current = 0;
    for (unsigned i = 0; i < 150; ++i) {
      if (one_in(4)) current = random() % flows.size();
      Flow& flow = flows[current];
      size_t size = flow.segment_bytes;
      if (one_in(12)) size = random() % (size + 1);
      if (one_in(30)) flow.segment_bytes = 1 + random() % 1400;
      if (one_in(20)) ++flow.acknowledgement;
      if (one_in(20)) flow.sequence += static_cast<uint32_t>(random() % 3000);
      if (one_in(20)) flow.id = static_cast<uint16_t>(random());
      const Bytes payload = payload_bytes(size, static_cast<uint8_t>(random()));
      const Ipv4Options ip{.id = flow.id++};
      const Endpoint to = own(static_cast<uint16_t>(3000 + current));
      TcpOptions tcp{.flags = kTcpAck, .sequence = flow.sequence,
                     .acknowledgement = flow.acknowledgement, .options = flow.options};
      if (one_in(15)) tcp.flags |= static_cast<uint8_t>(1u << random() % 8);
      Bytes packet = flow.is_tcp ? tcp_packet(kServer, to, payload, tcp, ip)
                                 : udp_packet(kServer, to, payload, ip);
      if (one_in(25)) packet.back() ^= 0x10;
      if (one_in(40)) {
        packet = icmp_query(kServer.address, to.address, 0, 1, static_cast<uint16_t>(i),
                            payload_bytes(30));
      } else {
        flow.sequence += static_cast<uint32_t>(size);
      }
      ParsedIpv4 parsed;
      if (parse_ipv4(packet, HeaderChecksum::verify, parsed) != ParseError::none) continue;
      packets.push_back(packet);
      rig.add(packet);
      if (one_in(60)) rig.flush();
    }
    rig.flush();

    using Place = std::pair<unsigned, uint64_t>;  // how many without ports came before, flow
    const auto sorted = [](const std::vector<Bytes>& list) {
      std::map<Place, std::vector<Bytes>> out;
      unsigned without_ports = 0;
      for (const Bytes& packet : list) {
        const bool has_ports = packet[9] != kIpIcmp;
        if (!has_ports) ++without_ports;
        const uint64_t flow =
            has_ports ? uint64_t{packet[9]} << 32 | word(packet, 22) : uint64_t{0};
        out[{without_ports, flow}].push_back(packet);
      }
      return out;
    };
    ASSERT_EQ(sorted(cut_all(rig.written)), sorted(packets)) << "round " << round;
    for (const Written& entry : rig.written) {
      (entry.packets > 1 ? together : alone) += entry.packets;
    }
  }
  EXPECT_GT(together, 10000u);  // the test has something to look at
  EXPECT_GT(alone, 5000u);
}

}  // namespace
}  // namespace adit::client
