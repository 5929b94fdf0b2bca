#include "tests/conformance/lab.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <ostream>

#include "lib/net/parse.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

const Bytes kHello = payload_bytes(33);
constexpr uint64_t kYearNs = 365 * 86400 * tunnel::kSecondNs;
constexpr size_t kPrintedBytesMax = 96;
// The clock stands still for netfilter: rows within so long of the beginning are sent at once.
constexpr uint64_t kAtOnceMaxS = 20;

bool is_against_netfilter() {
  const char* const other = std::getenv("ADIT_AGAINST");
  return other != nullptr && std::string(other) == "netfilter";
}

// Writes a word that an Internet checksum covers.
void replace_word(Bytes& packet, size_t at, const Bytes& from, size_t checksum_at) {
  const auto word = [](const Bytes& bytes, size_t offset) {
    return bytes[offset] * 256u + bytes[offset + 1];
  };
  unsigned sum = (word(packet, checksum_at) ^ 0xffff) + (word(packet, at) ^ 0xffff) +
                 word(from, at);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ((sum & 0xffff) + (sum >> 16)) ^ 0xffff;
  packet[checksum_at] = static_cast<uint8_t>(sum >> 8);
  packet[checksum_at + 1] = static_cast<uint8_t>(sum);
}

}  // namespace

void take_source(const Hop& wanted, Hop& hop) {
  constexpr size_t kIpBytes = 20;  // rows have no options
  constexpr size_t kIpChecksum = 10;
  constexpr size_t kSource = 12;
  const Bytes& from = wanted.packet;
  Bytes& packet = hop.packet;
  if (from.size() != packet.size() || packet.size() < kIpBytes + 8) return;
  size_t port = kIpBytes;  // or a query's id
  size_t checksum = kIpBytes + 6;
  const uint8_t protocol = packet[9];
  if (protocol == kIpTcp) checksum = kIpBytes + 16;
  if (protocol == kIpIcmp) {
    port = kIpBytes + 4;
    checksum = kIpBytes + 2;
  }
  const bool has_ports = protocol == kIpUdp || protocol == kIpTcp || protocol == kIpIcmp;
  const bool has_checksum = has_ports && (packet[checksum] | packet[checksum + 1]) != 0;
  for (const size_t at : {kSource, kSource + 2}) {
    replace_word(packet, at, from, kIpChecksum);
    if (has_checksum && protocol != kIpIcmp) replace_word(packet, at, from, checksum);
    std::copy_n(from.begin() + static_cast<long>(at), 2, packet.begin() + static_cast<long>(at));
  }
  if (!has_ports) return;
  if (has_checksum) replace_word(packet, port, from, checksum);
  std::copy_n(from.begin() + static_cast<long>(port), 2, packet.begin() + static_cast<long>(port));
}

std::vector<Row> from_anybody(std::vector<Row> rows) {
  for (Row& row : rows) row.source = Source::ignored;
  return rows;
}

void PrintTo(const Hop& hop, std::ostream* out) {
  *out << (hop.place == kInternet ? "to the Internet: " : "into tunnel ");
  if (hop.place != kInternet) *out << hop.place << ": ";
  *out << hop.packet.size() << " bytes" << std::hex << std::setfill('0');
  for (size_t i = 0; i < std::min(hop.packet.size(), kPrintedBytesMax); ++i) {
    *out << (i % 4 == 0 ? " " : "") << std::setw(2) << unsigned{hop.packet[i]};
  }
  *out << std::dec;
}

nat::Protocol protocol_of(Kind kind) { return static_cast<nat::Protocol>(kind); }

std::string kind_name(const testing::TestParamInfo<Kind>& info) {
  return info.param == Kind::udp ? "Udp" : info.param == Kind::tcp ? "Tcp" : "Icmp";
}

Bytes request(Kind kind, const Endpoint& from, const Endpoint& to, const Ipv4Options& ip) {
  if (kind == Kind::udp) return udp_packet(from, to, kHello, ip);
  if (kind == Kind::tcp) return tcp_packet(from, to, kHello, {}, ip);
  return icmp_query(from.address, to.address, kIcmpEchoRequest, from.port.host(), 1, kHello, ip);
}

Bytes reply(Kind kind, const Endpoint& from, const Endpoint& to, const Ipv4Options& ip) {
  if (kind == Kind::udp) return udp_packet(from, to, kHello, ip);
  if (kind == Kind::tcp) return tcp_packet(from, to, kHello, {}, ip);
  return icmp_query(from.address, to.address, kIcmpEchoReply, to.port.host(), 1, kHello, ip);
}

Lab::Lab(unsigned public_mtu_bytes)
    : Rig({.mtu_bytes = static_cast<uint16_t>(public_mtu_bytes)}) {
  if (is_against_netfilter()) netfilter_ = std::make_unique<Netfilter>(public_mtu_bytes);
}

Lab::Lab(const RigOptions& options) : Rig(options) {
  if (is_against_netfilter()) not_applicable("settings of the gateway");
}

void Lab::not_applicable(const char* reason) {
  RecordProperty("not_applicable", reason);
  GTEST_SKIP() << reason;
}

void Lab::ours_only(const char* reason) {
  if (is_ours()) return;
  not_applicable(reason);
  // Ends the test, however deep in it this was called.
  throw testing::AssertionException(testing::TestPartResult(
      testing::TestPartResult::kSkip, __FILE__, __LINE__, reason));
}

void Lab::TearDown() {
  if (netfilter_ != nullptr && !netfilter_->was_used() && !IsSkipped()) {
    not_applicable("gives it nothing that it could take");
  }
  Rig::TearDown();
}

void Lab::set_time(uint64_t since_start_s) {
  if (since_start_s > kAtOnceMaxS) ours_only("real time");
  now_ns_ = kStartNs + since_start_s * tunnel::kSecondNs;
}

Ipv4Address Lab::inner(uint32_t slot) {
  return Ipv4Address::from_octets(192, 168, 1, static_cast<uint8_t>(9 + slot));
}

// The first session that open_tunnel() makes ends after three minutes; tests here take hours.
FarEnd& Lab::far(uint32_t slot) {
  if (const auto known = far_ends_.find(slot); known != far_ends_.end()) return known->second;
  if (is_ours()) {
    EXPECT_TRUE(come_out().empty()) << "a tunnel opened while packets were on their way";
  }
  const FarEnd first = open_tunnel(slot, Protection::plain);
  tunnel::Session lasting = make_session(slot, Protection::plain, 2);
  lasting.established_ns += kYearNs;
  install(slot, lasting);
  FarEnd far(lasting, 1440);
  far.outer = first.outer;
  receive_from(far, far.seal({}));
  sent_frames(0);
  return far_ends_.emplace(slot, std::move(far)).first->second;
}

void Lab::close(uint32_t slot) {
  ours_only("tunnels");
  ToWorker message;
  message.kind = ToWorker::close_tunnel;
  message.slot = slot;
  tell(message);
  far_ends_.erase(slot);
}

void Lab::give_in(const Hop& in) {
  if (!is_ours()) return netfilter_->give_in(in);
  if (in.place == kInternet) return receive(public_port(), in.packet);
  FarEnd& from = far(in.place);
  receive_from(from, from.plain(in.packet));
}

std::vector<Hop> Lab::come_out() {
  if (!is_ours()) return netfilter_->come_out();
  std::vector<Hop> out;
  for (unsigned port = 0; port < settings_.ports.size(); ++port) {
    for (Bytes& packet : sent(port)) {
      ParsedIpv4 parsed;
      EXPECT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
      Ipv4Header ip;
      std::memcpy(&ip, packet.data(), sizeof ip);
      Hop hop = internet(std::move(packet));
      const Bytes payload(hop.packet.begin() + parsed.payload_offset(), hop.packet.end());
      for (auto& [slot, far] : far_ends_) {
        if (Endpoint{ip.source, parsed.source_port} != kTunnelEndpoint ||
            Endpoint{ip.destination, parsed.destination_port} != far.outer) {
          continue;
        }
        if (auto opened = far.open(payload)) hop = inside(std::move(*opened), slot);
        break;
      }
      out.push_back(std::move(hop));
    }
  }
  return out;
}

void Lab::play(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    SCOPED_TRACE(row.description);
    set_time(row.at_s);
    if (row.in.place != kInternet) far(row.in.place);
    const std::array<Count, kFates> before = counters_.fates;
    give_in(row.in);
    std::vector<Hop> out = come_out();
    if (row.source == Source::ignored) {
      for (size_t i = 0; i < std::min(out.size(), row.out.size()); ++i) {
        take_source(row.out[i], out[i]);
      }
    }
    EXPECT_EQ(out, row.out);
    if (!is_ours()) continue;
    for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
      const bool wanted = row.drop == static_cast<Fate>(fate);
      EXPECT_EQ(counters_.fates[fate] - before[fate], wanted ? 1u : 0u)
          << fate_name(static_cast<Fate>(fate));
    }
  }
}

Endpoint Lab::left_from(const Hop& in) {
  far(in.place);
  give_in(in);
  const std::vector<Hop> out = come_out();
  if (out.size() != 1 || out[0].place != kInternet) {
    ADD_FAILURE() << "a packet made " << out.size() << " packets";
    return {};
  }
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(out[0].packet, HeaderChecksum::verify, parsed), ParseError::none);
  Ipv4Header ip;
  std::memcpy(&ip, out[0].packet.data(), sizeof ip);
  Ipv4Header ip_in;
  std::memcpy(&ip_in, in.packet.data(), sizeof ip_in);
  EXPECT_NE(ip.source, ip_in.source) << "it left untranslated";
  last_out_ = out[0];
  return {ip.source, parsed.source_port};
}

Endpoint Lab::map(Kind kind, const Endpoint& internal, const Endpoint& to, uint32_t slot) {
  const Endpoint external = left_from(inside(request(kind, internal, to), slot));
  EXPECT_EQ(last_out_, internet(request(kind, external, to, kForwarded)));
  return external;
}

void Lab::sweep_all() {
  if (!is_ours()) return;
  const uint64_t rounds = 2 * granted_entries() + 2;
  for (uint64_t i = 0; i < rounds && granted_entries() > 0; i += 48)
    sweep();
}

}  // namespace adit::gateway::test
