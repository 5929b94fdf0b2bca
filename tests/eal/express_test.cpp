// The express way against the stages: the same random bursts, once with it and once without, must
// come out as the same bytes in the same order, with the same counters. Most of these packets are
// ordinary; each of the others is unusual in one way that the express way has to notice.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr uint32_t kTunnels = 6;
constexpr unsigned kBursts = 1500;
constexpr Protection kProtections[] = {Protection::plain, Protection::aes_256_gcm,
                                       Protection::chacha20_poly1305};

// All that can be seen of a run.
struct Record {
  std::vector<Bytes> frames;  // of both ports, burst by burst
  std::array<Count, kFates> fates{};
  std::vector<uint64_t> events;
  std::vector<uint64_t> reports;
  uint64_t handed_over = 0;
  uint64_t ordinary = 0;  // packets that crossed
};

enum class Damage : bool { none, some };

class Player : public Rig {
 public:
  Player(const RigOptions& options, uint32_t seed, Damage damage = Damage::some)
      : Rig(options), random_(seed), damage_(damage) {}
  void TestBody() override {}
  void extend_open(ToWorker& open) override {
    open.forward_count = parts_[0].forwards != nullptr && open.slot == 1 ? 1 : 0;
  }

  Record play() {
    for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
      far_.push_back(open_tunnel(slot, kProtections[slot % 3]));
      sessions_.push_back(make_session(slot, kProtections[slot % 3]));
    }
    for (unsigned i = 0; i < kBursts; ++i) {
      if (any(20) == 0) something_happens();
      const bool outbound = any(2) == 0;
      play_burst(outbound);
    }
    finish();
    return std::move(record_);
  }

 private:
  uint32_t any(size_t below) {
    return std::uniform_int_distribution(0u, static_cast<uint32_t>(below) - 1)(random_);
  }
  Endpoint remote() {
    return {Ipv4Address::from_octets(40, 1, 1, static_cast<uint8_t>(10 + any(3))),
            Be16::from_host(static_cast<uint16_t>(any(30) == 0 ? 53 : 6600 + any(3)))};
  }

  // Time passes, a session is renewed, a client moves, a packet comes twice. Not within a burst of
  // others: the express way opens a burst's packets before the stages see theirs, so that which of
  // two with the same counter is the repetition may differ.
  void something_happens() {
    const uint32_t slot = 1 + any(kTunnels);
    switch (any(6)) {
      case 0:
        report_traffic();
        now_ns_ += (1 + any(400)) * tunnel::kSecondNs;
        for (uint32_t each = 1; each <= kTunnels; ++each) renew(each);
        break;
      case 1:
        report_traffic();
        now_ns_ += any(3) * tunnel::kSecondNs;
        break;
      case 2:
        renew(slot);
        break;
      case 3: {  // it speaks from elsewhere
        FarEnd& far = far_[slot - 1];
        far.outer.port = Be16::from_host(static_cast<uint16_t>(30000 + any(1000)));
        receive_from(far, far.seal({}));
        break;
      }
      case 4: {  // somebody repeats a packet
        const Bytes payload = far_[slot - 1].seal(inner_packet(slot));
        receive_from(far_[slot - 1], payload);
        receive_from(far_[slot - 1], payload);
        break;
      }
      case 5:
        for (unsigned i = 0; i < 100; ++i) sweep();
        break;
    }
    take_frames();
  }

  // The express way reports what has come and gone when its hand comes by: here, before time passes.
  void report_traffic() {
    for (unsigned i = 0; i < tunnels_->slots(); ++i) sweep();
  }

  void renew(uint32_t slot) {
    tunnel::Session session = make_session(slot, kProtections[slot % 3], ++generation_);
    install(slot, session);
    const Endpoint outer = far_[slot - 1].outer;
    far_[slot - 1] = FarEnd(session, 1440);
    far_[slot - 1].outer = outer;
    if (any(4) != 0) receive_from(far_[slot - 1], far_[slot - 1].seal({}));
  }

  Bytes inner_packet(uint32_t slot) {
    Ipv4Options ip{.ttl = static_cast<uint8_t>(any(40) == 0 ? 1 + any(2) : 64)};
    if (any(8) == 0) ip.fragment = 0;
    if (any(60) == 0) ip.fragment = kIpMoreFragments;
    if (any(60) == 0) ip.options = Bytes(4, 1);
    Endpoint from{Ipv4Address::from_host(kInner.host() - 1 + slot),
                  Be16::from_host(static_cast<uint16_t>(2000 + any(20)))};
    Endpoint to = remote();
    switch (any(80)) {
      case 0: from.address = Ipv4Address::from_octets(192, 168, 1, 200); break;  // spoofed
      case 1: to.address = kRouter; break;
      case 2: to.address = external_address(); break;  // hairpin
      case 3: to.port = Be16::from_host(static_cast<uint16_t>(67 + any(2))); break;
      case 4: to.address = Ipv4Address::from_octets(224, 0, 0, 1); break;
      case 5: to.address = Ipv4Address::from_octets(192, 168, 1, 77); break;
      case 6: from.port = Be16::from_host(3000); break;  // one more mapping
      case 7: from.port = Be16::from_host(600); break;   // a low port
      default: break;
    }
    return packet_between(from, to, ip);
  }

  Bytes packet_between(const Endpoint& from, const Endpoint& to, const Ipv4Options& ip) {
    const Bytes payload = payload_bytes(any(50) == 0 ? 1300 + any(180) : 4 * any(40));
    const uint32_t kind = any(10);
    if (kind == 0) {
      return icmp_query(from.address, to.address, kIcmpEchoRequest, from.port.host(), 1, payload,
                        ip);
    }
    if (kind <= 5) {
      const auto checksum = any(10) == 0 ? adit::test::UdpChecksum::absent
                                         : adit::test::UdpChecksum::present;
      return udp_packet(from, to, payload, ip, checksum);
    }
    constexpr uint8_t kFlags[] = {kTcpAck, kTcpAck, kTcpAck, kTcpAck, kTcpSyn,
                                  kTcpSyn | kTcpAck, kTcpFin | kTcpAck, kTcpRst};
    return tcp_packet(from, to, payload, {.flags = kFlags[any(8)]}, ip);
  }

  // What is no packet: a heartbeat, a probe of every kind, or neither.
  Bytes control_text() {
    Bytes text(any(8) == 0 ? any(20) : 16, 0);
    if (any(4) == 0 || text.size() < 16) return any(2) == 0 ? Bytes{} : text;
    text[0] = static_cast<uint8_t>(any(4) != 0 ? tunnel::kProbeRequest : any(6));
    text[15] = static_cast<uint8_t>(any(256));
    const unsigned mtu_bytes = any(4) == 0 ? 1000 + 4 * any(100) : any(2) * 1440;
    text[2] = static_cast<uint8_t>(mtu_bytes >> 8);
    text[3] = static_cast<uint8_t>(mtu_bytes);
    return text;
  }

  Bytes outbound_packet() {
    const uint32_t slot = 1 + any(kTunnels);
    FarEnd& far = far_[slot - 1];
    Bytes inner = inner_packet(slot);
    spoil(inner);
    Endpoint outer = far.outer;
    const bool plain = kProtections[slot % 3] == Protection::plain;
    // Of a sealed one the tunnel would move, within a burst: see something_happens().
    if (plain && any(50) == 0) outer.port = Be16::from_host(9);
    Bytes payload = plain ? far.plain(inner) : far.seal(inner);
    if (outer == far.outer && any(30) == 0) {
      payload = far.seal(any(4) == 0 ? inner : control_text());
    }
    spoil(payload);
    Ipv4Options ip{};
    if (any(100) == 0) ip.options = Bytes(8, 1);
    Bytes packet = udp_packet(outer, kTunnelEndpoint, payload, ip);
    spoil(packet);
    // But for its source port: the tunnel would move.
    if (packet.size() > 21) std::memcpy(&packet[20], &outer.port, sizeof outer.port);
    return packet;
  }

  Bytes inbound_packet() {
    Ipv4Options ip{.ttl = static_cast<uint8_t>(any(40) == 0 ? 1 + any(2) : 64)};
    if (any(8) == 0) ip.fragment = 0;
    Endpoint to{external_address(), Be16::from_host(static_cast<uint16_t>(1024 + any(60000)))};
    if (!externals_.empty() && any(20) != 0) to = externals_[any(externals_.size())];
    Bytes packet = packet_between(remote(), to, ip);
    spoil(packet);
    return packet;
  }

  // One byte wrong, or the end cut off, or something behind it.
  void spoil(Bytes& packet) {
    constexpr uint8_t kBits[] = {1, 2, 4, 8, 16, 32, 64, 128};
    if (packet.empty() || damage_ == Damage::none) return;
    switch (any(120)) {
      case 0: packet[any(std::min<size_t>(packet.size(), 60))] ^= kBits[any(8)]; break;
      case 1: packet.resize(any(packet.size())); break;
      case 2: packet.resize(packet.size() + 1 + any(20)); break;
      default: break;
    }
  }

  void play_burst(bool outbound) {
    std::vector<Bytes> packets(1 + any(any(4) == 0 ? 64 : 8));
    for (Bytes& packet : packets) packet = outbound ? outbound_packet() : inbound_packet();
    receive_packets(outbound ? 0 : public_port(), packets);
    take_frames();
  }

  void take_frames() {
    handed_out();
    for (unsigned port = 0; port < settings_.ports.size(); ++port) {
      for (Bytes& frame : sent_frames(port)) {
        if (port == public_port()) learn(frame);
        record_.frames.push_back(std::move(frame));
      }
    }
  }

  // From where a packet left: somebody may answer there.
  void learn(const Bytes& frame) {
    const size_t ip_at = settings_.ports[0].vlan != 0 ? 18 : 14;
    Endpoint from;
    std::memcpy(&from.address, frame.data() + ip_at + 12, 4);
    std::memcpy(&from.port, frame.data() + ip_at + 20, 2);
    if (from.address != external_address() || from == kTunnelEndpoint) return;
    if (externals_.size() < 200) externals_.push_back(from);
    externals_[any(externals_.size())] = from;
  }

  // It says that what it sent, it sent just before.
  static uint64_t whole_seconds(uint64_t ns) {
    return (ns + tunnel::kSecondNs / 2) / tunnel::kSecondNs;
  }

  void finish() {
    report_traffic();
    record_.fates = counters_.fates;
    record_.ordinary = counters_.outbound_packets + counters_.inbound_packets;
    // But for the misses of the cache of expanded keys: where two sessions share a place in it, how
    // many there are depends on which packets are opened together.
    counters_.key_expansions = 0;
    // And for what workers hand over: to whom a reply's port belongs the express way looks first,
    // the stages when they have found nothing wrong with it (HandsOverWhatTheStagesHandOver).
    EXPECT_EQ(counters_.taken_over, counters_.handed_over);
    record_.handed_over = counters_.handed_over;
    counters_.handed_over = counters_.taken_over = 0;
#define X(name) record_.events.push_back(counters_.name);
    ADIT_EVENTS(X)
#undef X
    for (uint32_t slot = 1; slot <= kTunnels; ++slot) {
      TunnelReport& report = tunnels_->report(slot);
      const TunnelTraffic& traffic = tunnels_->open(slot).traffic;
      record_.reports.insert(record_.reports.end(),
                             {traffic.rx_packets, traffic.rx_bytes, traffic.tx_packets,
                              traffic.tx_bytes, report.heard_ns, report.heard_packet_ns,
                              whole_seconds(report.sent_ns), whole_seconds(report.sent_packet_ns),
                              report.remote});
    }
    TearDown();
  }

  std::mt19937 random_;
  const Damage damage_;
  std::vector<FarEnd> far_;
  std::vector<tunnel::Session> sessions_;
  std::vector<Endpoint> externals_;
  uint8_t generation_ = 1;
  Record record_;
};

struct Setting {
  const char* name;
  RigOptions options;
};

nat::Settings short_dns() {
  nat::Settings settings;
  settings.profiles[0].timeouts.dns_s = 10;
  return settings;
}

nat::Settings filtered() {
  nat::Settings settings;
  settings.profiles[0].filtering = {nat::Filtering::address_and_port_dependent,
                                    nat::Filtering::address_dependent,
                                    {}};
  return settings;
}

// Each takes some of the ports and addresses that these bursts use off the ordinary way.
nat::Settings odd_and_low() {
  nat::Settings settings;
  settings.profiles[0].port_parity = true;
  settings.first_low_port = 512;
  settings.low_ports = 512;
  return settings;
}
nat::Settings one_range_each() {
  nat::Settings settings;
  settings.deterministic_ports = 64;
  return settings;
}
Endpoint at_port(Ipv4Address address, uint16_t port) {
  return {address, Be16::from_host(port)};
}
const Ipv4Prefix kOneServer = {Ipv4Address::from_octets(40, 1, 1, 11), 32};

std::string setting_name(const testing::TestParamInfo<Setting>& info) { return info.param.name; }

std::string hex(const std::vector<Bytes>& frames, long at) {
  if (at >= static_cast<long>(frames.size())) return "none";
  std::string text;
  for (const uint8_t byte : frames[static_cast<size_t>(at)]) text += fmt::format("{:02x}", byte);
  return text;
}

class Express : public testing::TestWithParam<Setting> {};

TEST_P(Express, SendsWhatTheStagesSend) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    RigOptions options = GetParam().options;
    options.express = false;
    const Record stages = Player(options, seed).play();
    options.express = true;
    const Record express = Player(options, seed).play();
    EXPECT_GT(stages.ordinary, 5000u) << "hardly a packet crossed";
    for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
      EXPECT_EQ(express.fates[fate], stages.fates[fate]) << fate_name(static_cast<Fate>(fate));
    }
    // The first that differs says most: what follows it depends on it.
    const auto [one, other] = std::ranges::mismatch(express.frames, stages.frames);
    const auto at = one - express.frames.begin();
    ASSERT_TRUE(one == express.frames.end() && other == stages.frames.end())
        << "frame " << at << " of " << stages.frames.size() << "\nexpress: "
        << hex(express.frames, at) << "\nstages:  " << hex(stages.frames, at);
    EXPECT_EQ(express.events, stages.events);
    EXPECT_EQ(express.reports, stages.reports);
  }
}

TEST_P(Express, HandsOverWhatTheStagesHandOver) {
  RigOptions options = GetParam().options;
  options.workers = 3;
  options.express = false;
  const Record stages = Player(options, 1, Damage::none).play();
  options.express = true;
  const Record express = Player(options, 1, Damage::none).play();
  EXPECT_EQ(express.handed_over, stages.handed_over);
  EXPECT_GT(stages.handed_over, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Express,
    testing::Values(
        Setting{"OnePort", {}}, Setting{"TwoPorts", {.two_ports = true}},
        Setting{"Vlan", {.two_ports = true, .vlan = 7}},
        Setting{"TunnelToTunnel", {.tunnel_to_tunnel = true}},
        Setting{"SmallMtu", {.two_ports = true, .mtu_bytes = 700}},
        Setting{"Filtered", {.nat = filtered()}},
        Setting{"ChecksumsByDevice",
                {.two_ports = true, .checksum_ip_by_port = true, .checksum_udp_by_port = true}},
        Setting{"IpChecksumByDevice", {.vlan = 7, .checksum_ip_by_port = true}},
        Setting{"UdpChecksumByDevice", {.checksum_udp_by_port = true}},
        Setting{"FilteredWithChecksumsByDevice",
                {.nat = filtered(), .checksum_ip_by_port = true, .checksum_udp_by_port = true}},
        Setting{"InboundRefreshesNothing", {.nat = {.profiles = {{.inbound_refresh = false}}}}},
        Setting{"ShortDns", {.nat = short_dns()}},
        Setting{"ParityAndLowPorts", {.nat = odd_and_low()}},
        Setting{"Deterministic", {.nat = one_range_each()}},
        Setting{"Exempt", {.exempt = {kOneServer}}},
        Setting{"Forwarded", {.forwards = {{nat::Protocol::udp, at_port(kGateway, 5000),
                                            at_port(kInner, 2003)}}}}),
    setting_name);

}  // namespace
}  // namespace adit::gateway::test
