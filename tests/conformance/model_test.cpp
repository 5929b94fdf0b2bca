// Random packets both ways through the real packet path and through ModelNat: every output equal,
// byte for byte. A failing list of steps is shrunk to a short one and printed.
//
//   ADIT_SEED=7 ADIT_PACKETS=10000000 conformance --gtest_filter='Model.*'
//
// A million by default, which takes seconds; .ci/run asks for ten.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <set>
#include <sstream>

#include "tests/conformance/model_nat.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr uint64_t kPacketsDefault = 1'000'000;
constexpr size_t kEpisodeSteps = 20'000;  // each episode has a gateway of its own
constexpr uint32_t kSlots = 6;
constexpr unsigned kInternalPorts = 64;
constexpr unsigned kLowInternalPorts = 6;  // of these: below 1024
constexpr unsigned kIcmpErrorsPerSecond = 20;  // the rig's
const Bytes kText = payload_bytes(21);
const Endpoint kRemotes[] = {kService, kElsewhere, at(kServer, 53),
                             at(Ipv4Address::from_octets(60, 2, 2, 2), 443)};

// Names things, not numbers that a run made: so a shortened list still makes sense.
struct Step {
  enum Verb : uint8_t {
    out,          // from (slot, port) to remote
    in,           // from remote to where (slot, port) last left from
    in_at,        // from remote to some port of the pool
    error_in,     // somebody's ICMP error about a packet of (slot, port)
    error_out,    // the inner host's ICMP error about a packet it got
    ttl_one_out,
    ttl_one_in,
    spoofed,
    wait,
    reopen,       // the tunnel ends and another takes its slot
    verbs
  } verb = out;
  Kind kind = Kind::udp;
  uint8_t slot = 1;
  uint8_t remote = 0;
  uint8_t tcp_flags = 0;
  uint16_t port = 0;
  uint16_t seconds = 0;
  bool may_fragment = false;  // all such packets have one id when they come to the gateway

  Endpoint internal() const {
    const unsigned first = port < kLowInternalPorts ? 500 : 3000;
    return at(Ipv4Address::from_octets(192, 168, 1, static_cast<uint8_t>(9 + slot)), first + port);
  }
};

std::ostream& operator<<(std::ostream& out, const Step& step) {
  constexpr const char* kVerbs[] = {"out",         "in",         "in at",   "error in", "error out",
                                    "TTL one out", "TTL one in", "spoofed", "wait",     "reopen"};
  constexpr const char* kKindNames[] = {"udp", "tcp", "icmp"};
  out << kVerbs[step.verb];
  if (step.verb == Step::wait) return out << ' ' << step.seconds << " s";
  out << " tunnel " << unsigned{step.slot};
  if (step.verb == Step::reopen) return out;
  out << ' ' << kKindNames[static_cast<unsigned>(step.kind)] << " port " << step.port << " remote "
      << unsigned{step.remote};
  if (step.kind == Kind::tcp) out << " flags " << unsigned{step.tcp_flags};
  if (step.may_fragment) out << " without DF";
  return out;
}

Bytes packet_of(const Step& step, Step::Verb way, const Endpoint& from, const Endpoint& to,
                const Ipv4Options& ip = {}) {
  if (step.kind == Kind::udp) return udp_packet(from, to, kText, ip);
  if (step.kind == Kind::tcp) return tcp_packet(from, to, kText, {.flags = step.tcp_flags}, ip);
  const bool is_out = way == Step::out;
  return icmp_query(from.address, to.address, is_out ? kIcmpEchoRequest : kIcmpEchoReply,
                    (is_out ? from : to).port.host(), 7, kText, ip);
}

// Few ports and low limits, by the seed, so that every limit is met. The tunnel's port is in the
// range.
nat::Settings crowded(uint64_t seed) {
  constexpr uint16_t kPorts[] = {32, 128, 512};
  constexpr uint8_t kBlocks[] = {1, 2, 4};
  constexpr uint32_t kMappings[] = {30, 60, 200};
  constexpr uint32_t kOpening[] = {60, 240};
  constexpr uint32_t kDns[] = {0, 10};
  constexpr uint16_t kLowPorts[] = {0, 16, 32};
  std::mt19937_64 random(seed);
  const auto one_of = [&](const auto& values) { return values[random() % std::size(values)]; };
  nat::Settings settings;
  settings.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77)};
  settings.first_port = 7984;
  settings.last_port = static_cast<uint16_t>(settings.first_port + one_of(kPorts) - 1);
  settings.first_block_ports = 16;
  settings.limits = {{.mappings = one_of(kMappings), .new_mappings_per_second = 4,
                      .new_mappings_burst = 60, .blocks = one_of(kBlocks)}};
  settings.timeouts.tcp_opening_s = one_of(kOpening);
  settings.timeouts.dns_s = one_of(kDns);
  settings.port_parity = random() % 2 == 0;
  settings.first_low_port = 512;
  settings.low_ports = one_of(kLowPorts);
  return settings;
}

class ModelRun : public Lab {
 public:
  explicit ModelRun(uint64_t seed) : Lab({.nat = crowded(seed)}), model_(nat_settings_) {}
  ~ModelRun() override { TearDown(); }
  void TestBody() override {}

  // Nothing, or at which step what went wrong.
  std::optional<std::string> run(const std::vector<Step>& steps) {
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::string wrong = take(steps[i]);
      if (wrong.empty()) continue;
      failed_at = i;
      return wrong;
    }
    return std::nullopt;
  }

  size_t failed_at = 0;
  std::array<uint64_t, Step::verbs> passed{};  // how many packets of each verb got through
  std::map<Fate, uint64_t> dropped;

 private:
  uint32_t now_s() const { return static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs); }

  std::string take(const Step& step) {
    if (step.verb == Step::wait) {
      now_ns_ += step.seconds * tunnel::kSecondNs;
      sweep_all();
      model_.forget_what_is_over(now_s());
      return "";
    }
    if (step.verb == Step::reopen) {
      if (is_open_[step.slot]) {
        close(step.slot);
        model_.close(step.slot, now_s());
      }
      is_open_[step.slot] = false;
      std::erase_if(left_from_, [&](const auto& e) { return std::get<1>(e.first) == step.slot; });
      return "";
    }
    if (!is_open_[step.slot]) {
      far(step.slot);
      model_.open(step.slot, now_s());
      is_open_[step.slot] = true;
    }
    fates_before_ = counters_.fates;
    switch (step.verb) {
      case Step::out:
        return send_out(step);
      case Step::in:
      case Step::ttl_one_in:
      case Step::in_at:
        return send_in(step);
      case Step::error_in:
        return send_error_in(step);
      case Step::error_out:
        return send_error_out(step);
      case Step::ttl_one_out: {
        const Bytes packet =
            packet_of(step, Step::out, step.internal(), kRemotes[step.remote], {.ttl = 1});
        give_in(inside(packet, step.slot));
        return compare(step, told(step.slot, kIcmpTimeExceeded, 0, packet), Fate::ttl_exceeded);
      }
      default: {
        Endpoint somebody = step.internal();
        somebody.address = inner(kSlots + 3);
        give_in(inside(packet_of(step, Step::out, somebody, kRemotes[step.remote]), step.slot));
        return compare(step, {}, Fate::spoofed_source);
      }
    }
  }

  std::string send_out(const Step& step) {
    const Endpoint internal = step.internal();
    const Endpoint& remote = kRemotes[step.remote];
    const Use use{step.kind, remote, step.tcp_flags, now_s()};
    Endpoint external;
    const ModelNat::Verdict verdict = model_.outbound(step.slot, internal, use, external);
    give_in(inside(packet_of(step, Step::out, internal, remote, as_sent(step)), step.slot));
    if (verdict == ModelNat::Verdict::make_new) return learn(step, use);
    if (verdict != ModelNat::Verdict::forward) {
      return compare(step, refusal(step), verdict == ModelNat::Verdict::rate_limited
                                              ? Fate::rate_limited
                                              : Fate::mapping_limit);
    }
    const std::vector<Hop> out = come_out();
    Ipv4Options ip = as_forwarded(step);
    const std::string broken = learn_id(step, external, out, ip);
    if (!broken.empty()) return broken;
    return compare(step, {internet(packet_of(step, Step::out, external, remote, ip))}, Fate::next,
                   out);
  }

  static Ipv4Options as_sent(const Step& step) {
    return {.fragment = step.may_fragment ? uint16_t{0} : kIpDontFragment};
  }
  static Ipv4Options as_forwarded(const Step& step) {
    Ipv4Options ip = as_sent(step);
    ip.ttl = kForwarded.ttl;
    return ip;
  }
  // RFC 7857 §10: a packet that may be fragmented leaves with an id that its addresses and
  // protocol have not had lately; which, the gateway chooses. Empty, or the rule that it broke.
  std::string learn_id(const Step& step, const Endpoint& external, const std::vector<Hop>& out,
                       Ipv4Options& ip) {
    if (!step.may_fragment || out.empty() || out[0].packet.size() < 20) return "";
    const auto id = static_cast<uint16_t>(out[0].packet[4] << 8 | out[0].packet[5]);
    const bool is_new =
        ids_[{step.kind, external.address.host(), kRemotes[step.remote].address.host()}]
            .insert(id)
            .second;
    ip.id = id;
    return is_new ? "" : "an id that its addresses and protocol had before";
  }

  std::string learn(const Step& step, const Use& use) {
    for (const Fate reason : {Fate::port_limit, Fate::pool_exhausted, Fate::low_ports_full}) {
      if (counters_.drops(reason) == fates_before_[static_cast<unsigned>(reason)]) continue;
      const std::string broken = model_.learn_refusal(step.slot, step.internal(), use.kind, reason);
      return broken.empty() ? compare(step, refusal(step), reason) : broken;
    }
    const std::vector<Hop> out = come_out();
    if (out.size() != 1 || out[0].place != kInternet || out[0].packet.size() < 28) {
      std::string dropped_by;
      for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
        if (counters_.fates[fate] == fates_before_[fate]) continue;
        dropped_by += std::string(" ") + fate_name(static_cast<Fate>(fate));
      }
      return "a new mapping was due, and its packet did not leave:" + dropped_by;
    }
    const Bytes& packet = out[0].packet;
    const size_t port_at = step.kind == Kind::icmp ? 24 : 20;
    const Endpoint external =
        at(Ipv4Address::from_octets(packet[12], packet[13], packet[14], packet[15]),
           packet[port_at] * 256u + packet[port_at + 1]);
    Ipv4Options ip = as_forwarded(step);
    const std::string shared = learn_id(step, external, out, ip);
    if (!shared.empty()) return shared;
    if (out[0] != internet(packet_of(step, Step::out, external, use.remote, ip))) {
      return "a new mapping's packet is not what it should be: " + testing::PrintToString(out[0]);
    }
    const std::string broken = model_.learn(step.slot, step.internal(), external, use);
    if (!broken.empty()) return "the new mapping has " + broken;
    left_from_[{step.kind, step.slot, step.port}] = external;
    ++passed[step.verb];
    return "";
  }

  std::string send_in(const Step& wanted) {
    Step step = wanted;
    const Endpoint& remote = kRemotes[step.remote];
    const unsigned range = nat_settings_.last_port - nat_settings_.first_port + 1u;
    Endpoint external = at(nat_settings_.pool[step.port % 2],
                           nat_settings_.first_port + step.port * 13u % range);
    if (step.port % 8 == 7 && nat_settings_.low_ports > 0) {
      external.port = Be16::from_host(static_cast<uint16_t>(512 + step.port % 16));
    }
    if (step.verb != Step::in_at) {
      const auto known = left_from_.find({step.kind, step.slot, step.port});
      if (known == left_from_.end()) return "";
      external = known->second;
    }
    // The tunnel's own port is not the translator's, and a SYN to nobody has a rule of its own.
    if (external == kTunnelEndpoint && step.kind == Kind::udp) return "";
    const bool is_owned = model_.owner_of(step.kind, external, now_s()).has_value();
    if (!is_owned) step.tcp_flags = kTcpAck;

    const bool is_last_hop = step.verb == Step::ttl_one_in;
    const Bytes packet = packet_of(step, Step::in, remote, external,
                                   {.ttl = is_last_hop ? uint8_t{1} : uint8_t{64}});
    give_in(internet(packet));
    if (!is_owned) return compare(step, {}, Fate::no_mapping);
    if (is_last_hop) {
      if (!may_tell()) return compare(step, {}, Fate::ttl_exceeded);
      return compare(step,
                     {internet(icmp_packet(external.address, remote.address, kIcmpTimeExceeded, 0,
                                           0, packet, kErrorHeader))},
                     Fate::ttl_exceeded);
    }
    const auto owner =
        model_.inbound(external, {step.kind, remote, step.tcp_flags, now_s()});
    return compare(step, {inside(packet_of(step, Step::in, remote, owner->internal, kForwarded),
                                 owner->slot)});
  }

  std::string send_error_in(const Step& step) {
    const auto known = left_from_.find({step.kind, step.slot, step.port});
    if (known == left_from_.end()) return "";
    const Endpoint external = known->second;
    const auto quote = [&](const Endpoint& from) {
      return packet_of(step, Step::out, from, kRemotes[step.remote], kForwarded);
    };
    give_in(internet(icmp_packet(kSomeRouter, external.address, 3, 1, 0, quote(external))));
    const auto owner = model_.owner_of(step.kind, external, now_s());
    if (!owner) return compare(step, {}, Fate::icmp_no_mapping);
    return compare(step, {inside(icmp_packet(kSomeRouter, owner->internal.address, 3, 1, 0,
                                             quote(owner->internal), kForwarded),
                                 owner->slot)});
  }

  std::string send_error_out(const Step& step) {
    const Ipv4Address remote = kRemotes[step.remote].address;
    const auto quote = [&](const Endpoint& to) {
      return packet_of(step, Step::in, kRemotes[step.remote], to, kForwarded);
    };
    const Endpoint internal = step.internal();
    give_in(inside(icmp_packet(internal.address, remote, 3, 3, 0, quote(internal)), step.slot));
    const auto external = model_.external_of(step.kind, step.slot, internal, now_s());
    if (!external) return compare(step, {}, Fate::icmp_no_mapping);
    return compare(step, {internet(icmp_packet(external->address, remote, 3, 3, 0,
                                               quote(*external), kForwarded))});
  }

  // RFC 1812 §4.3.2.8: so many errors of the gateway's own a second, and no more.
  bool may_tell() {
    if (told_at_s_ != now_s()) told_ = 0;
    told_at_s_ = now_s();
    if (told_ == kIcmpErrorsPerSecond) return false;
    ++told_;
    return true;
  }
  std::vector<Hop> told(uint32_t slot, uint8_t type, uint8_t code, const Bytes& about) {
    if (!may_tell()) return {};
    return {inside(icmp_packet(kRouter, inner(slot), type, code, 0, about, kErrorHeader), slot)};
  }
  std::vector<Hop> refusal(const Step& step) {
    return told(step.slot, kIcmpUnreachable, kIcmpAdminProhibited,
                packet_of(step, Step::out, step.internal(), kRemotes[step.remote],
                          as_forwarded(step)));
  }

  std::string compare(const Step& step, const std::vector<Hop>& expected,
                      Fate drop = Fate::next) {
    return compare(step, expected, drop, come_out());
  }
  std::string compare(const Step& step, const std::vector<Hop>& expected, Fate drop,
                      const std::vector<Hop>& out) {
    if (out != expected) {
      return "came out: " + testing::PrintToString(out) +
             "\nexpected: " + testing::PrintToString(expected);
    }
    for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
      const auto name = static_cast<Fate>(fate);
      if (counters_.fates[fate] - fates_before_[fate] != (name == drop ? 1u : 0u)) {
        return std::string("drops by ") + fate_name(name) + " are not as expected";
      }
    }
    ++(drop == Fate::next ? passed[step.verb] : dropped[drop]);
    return "";
  }

  ModelNat model_;
  std::array<bool, kSlots + 1> is_open_{};
  std::map<std::tuple<Kind, uint32_t, uint16_t>, Endpoint> left_from_;
  std::map<std::tuple<Kind, uint32_t, uint32_t>, std::set<uint16_t>> ids_;  // of one episode
  std::array<uint64_t, kFates> fates_before_{};
  uint32_t told_at_s_ = 0;
  unsigned told_ = 0;
};

std::vector<Step> random_steps(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  constexpr uint8_t kFlags[] = {kTcpSyn, kTcpSyn | kTcpAck, kTcpAck, kTcpAck, kTcpAck,
                                kTcpFin | kTcpAck, kTcpRst};
  constexpr uint16_t kLongWaits[] = {59, 60, 61, 119, 120, 121, 240, 241, 300, 301, 3000, 7441};
  std::vector<Step> steps(count);
  for (Step& step : steps) {
    step.kind = kKinds[below(3)];
    step.slot = static_cast<uint8_t>(1 + below(kSlots));
    // Some endpoints are used all the time, some seldom.
    step.port = static_cast<uint16_t>(below(1 + below(kInternalPorts)));
    step.remote = static_cast<uint8_t>(below(std::size(kRemotes)));
    step.tcp_flags = kFlags[below(std::size(kFlags))];
    const unsigned dice = below(1000);
    step.verb = dice < 420   ? Step::out
                : dice < 800 ? Step::in
                : dice < 850 ? Step::in_at
                : dice < 890 ? Step::error_in
                : dice < 930 ? Step::error_out
                : dice < 945 ? Step::ttl_one_out
                : dice < 960 ? Step::ttl_one_in
                : dice < 989 ? Step::spoofed
                : dice < 999 ? Step::wait
                             : Step::reopen;
    step.may_fragment = below(4) == 0;
    step.seconds = static_cast<uint16_t>(below(20) == 0 ? kLongWaits[below(std::size(kLongWaits))]
                                                        : 1 + below(6));
  }
  return steps;
}

// Delta debugging: leaves out ever smaller pieces as long as it still fails.
std::vector<Step> shrink(std::vector<Step> steps, uint64_t seed) {
  const auto fails = [seed](std::vector<Step>& candidate) {
    ModelRun run(seed);
    if (!run.run(candidate)) return false;
    candidate.resize(run.failed_at + 1);
    return true;
  };
  if (!fails(steps)) return steps;
  unsigned runs_left = 3000;
  for (size_t piece = steps.size() / 2; piece > 0 && runs_left > 0;) {
    bool got_shorter = false;
    for (size_t begin = 0; begin < steps.size() && runs_left > 0; --runs_left) {
      std::vector<Step> candidate(steps.begin(), steps.begin() + static_cast<long>(begin));
      const size_t end = std::min(begin + piece, steps.size());
      candidate.insert(candidate.end(), steps.begin() + static_cast<long>(end), steps.end());
      if (fails(candidate)) {
        steps = std::move(candidate);
        got_shorter = true;
      } else {
        begin += piece;
      }
    }
    if (!got_shorter || piece > steps.size()) piece = std::min(piece / 2, steps.size());
  }
  return steps;
}

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(Model, R4787_11_RandomPacketsBothWaysAgreeWithAPlainMap) {
  const uint64_t seed = from_environment(
      "ADIT_SEED",
      static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()));
  const uint64_t packets = from_environment("ADIT_PACKETS", kPacketsDefault);
  std::cout << "ADIT_SEED=" << seed << " ADIT_PACKETS=" << packets << std::endl;

  uint64_t passed = 0;
  uint64_t sent = 0;
  std::map<Fate, uint64_t> dropped;
  for (uint64_t episode = 0; sent < packets; ++episode) {
    const std::vector<Step> steps = random_steps(seed + episode, kEpisodeSteps);
    std::optional<std::string> wrong;
    {
      ModelRun run(seed + episode);
      wrong = run.run(steps);
      for (const uint64_t count : run.passed) passed += count;
      for (const auto& [fate, count] : run.dropped) dropped[fate] += count;
    }
    if (wrong) {
      const std::vector<Step> few = shrink(steps, seed + episode);
      ModelRun run(seed + episode);
      std::ostringstream list;
      for (const Step& step : few) list << "  " << step << '\n';
      FAIL() << "seed " << seed + episode << ", shrunk to " << few.size() << " steps:\n"
             << list.str() << run.run(few).value_or("(the short list passes; the long one: " +
                                                    *wrong + ')');
    }
    sent = passed;
    for (const auto& [fate, count] : dropped) sent += count;
  }
  std::cout << passed << " packets passed";
  for (const auto& [fate, count] : dropped) std::cout << ", " << count << ' ' << fate_name(fate);
  std::cout << std::endl;

  if (packets < kPacketsDefault) return;
  // A model test that meets no limit tests little.
  for (const Fate fate : {Fate::no_mapping, Fate::icmp_no_mapping, Fate::mapping_limit,
                          Fate::rate_limited, Fate::port_limit, Fate::pool_exhausted,
                          Fate::ttl_exceeded}) {
    EXPECT_GT(dropped[fate], 0u) << fate_name(fate);
  }
}

}  // namespace
}  // namespace adit::gateway::test
