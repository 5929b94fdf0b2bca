#include "tests/conformance/model_steps.h"

#include <bit>
#include <ostream>
#include <random>

namespace adit::gateway::test {
namespace {

constexpr unsigned kLowInternalPorts = 6;  // of these: below 1024
const Endpoint kRemotes[] = {kService, kElsewhere, at(kServer, 53),
                             at(Ipv4Address::from_octets(60, 2, 2, 2), 443)};

Crowd random_crowd(std::mt19937_64& random) {
  constexpr uint16_t kPorts[] = {32, 128, 512};
  constexpr uint8_t kBlocks[] = {1, 2, 4};
  constexpr uint32_t kMappings[] = {30, 60, 200};
  constexpr uint32_t kBursts[] = {10, 60};
  constexpr uint32_t kOpening[] = {60, 240};
  constexpr uint32_t kDns[] = {0, 10};
  constexpr unsigned kWorkers[] = {1, 1, 2, 3};
  constexpr uint16_t kLowPorts[] = {0, 16, 32};
  // Of 32 ports that leaves four ranges for six subscribers.
  constexpr uint16_t kDeterministic[] = {0, 0, 0, 16};
  const auto one_of = [&](const auto& values) { return values[random() % std::size(values)]; };
  Crowd crowd{.ports = one_of(kPorts), .deterministic_ports = one_of(kDeterministic),
              .low_ports = one_of(kLowPorts), .blocks = one_of(kBlocks),
              .port_parity = random() % 2 == 0, .mappings = one_of(kMappings),
              .burst = one_of(kBursts), .tcp_opening_s = one_of(kOpening), .dns_s = one_of(kDns)};
  if (crowd.deterministic_ports == 0) crowd.workers = one_of(kWorkers);
  return crowd;
}

Step::Verb random_verb(unsigned dice) {
  return dice < 370   ? Step::out
         : dice < 700 ? Step::in
         : dice < 740 ? Step::in_at
         : dice < 820 ? Step::hairpin
         : dice < 840 ? Step::hairpin_at
         : dice < 880 ? Step::error_in
         : dice < 915 ? Step::error_out
         : dice < 940 ? Step::error_round
         : dice < 955 ? Step::ttl_one_out
         : dice < 970 ? Step::ttl_one_in
         : dice < 989 ? Step::spoofed
         : dice < 999 ? Step::wait
                      : Step::reopen;
}

}  // namespace

Endpoint Step::internal_of(uint8_t slot, uint16_t port) {
  const unsigned first = port < kLowInternalPorts ? 500 : 3000;
  return at(Ipv4Address::from_octets(192, 168, 1, static_cast<uint8_t>(9 + slot)), first + port);
}

const Endpoint& Step::remote_endpoint() const { return kRemotes[remote]; }

const char* name_of(unsigned verb) {
  constexpr const char* kNames[] = {"out",         "in",         "in at",     "hairpin",
                                    "hairpin at",  "error in",   "error out", "error round",
                                    "TTL one out", "TTL one in", "spoofed",   "wait",
                                    "reopen"};
  static_assert(std::size(kNames) == Step::verbs);
  return kNames[verb];
}

std::ostream& operator<<(std::ostream& out, const Step& step) {
  constexpr const char* kKindNames[] = {"udp", "tcp", "icmp"};
  out << name_of(step.verb);
  if (step.verb == Step::wait) return out << ' ' << step.seconds << " s";
  out << " tunnel " << unsigned{step.slot};
  if (step.verb == Step::reopen) return out;
  out << ' ' << kKindNames[static_cast<unsigned>(step.kind)] << " port " << step.port;
  if (step.verb == Step::hairpin || step.verb == Step::error_round) {
    out << " peer " << unsigned{step.peer} << " its port " << step.peer_port;
  } else if (step.verb == Step::hairpin_at) {
    out << " its port " << step.peer_port;
  } else {
    out << " remote " << unsigned{step.remote};
  }
  if (step.kind == Kind::tcp) out << " flags " << unsigned{step.tcp_flags};
  if (step.may_fragment) out << " without DF";
  return out;
}

// The tunnel's port is in the range.
nat::Settings Crowd::settings() const {
  nat::Settings settings;
  settings.pool = {kGateway, Ipv4Address::from_octets(30, 1, 1, 77)};
  settings.first_port = 7984;
  // A share for each worker, which with blocks of up to 128 ports is whole slices of so many.
  const unsigned shared_ports = workers > 1 ? ports * 8u : ports;
  settings.last_port = static_cast<uint16_t>(settings.first_port + shared_ports - 1);
  settings.first_block_ports = 16;
  settings.deterministic_ports = deterministic_ports;
  nat::Profile& profile = settings.profiles[0];
  profile.limits = {.mappings = mappings, .new_mappings_per_second = 4,
                    .new_mappings_burst = burst, .blocks = blocks};
  profile.timeouts.tcp_opening_s = tcp_opening_s;
  profile.timeouts.dns_s = dns_s;
  profile.port_parity = port_parity;
  settings.first_low_port = 512;
  settings.low_ports = static_cast<uint16_t>(low_ports * std::bit_ceil(workers));
  return settings;
}

std::ostream& operator<<(std::ostream& out, const Crowd& crowd) {
  out << "2 x " << crowd.ports << " ports, ";
  if (crowd.deterministic_ports > 0) {
    out << "ranges of " << crowd.deterministic_ports;
  } else {
    out << "at most " << unsigned{crowd.blocks} << " blocks";
  }
  out << " and " << crowd.mappings << " mappings each, " << crowd.burst << " at a time, "
      << crowd.low_ports << " low ports, " << crowd.workers << " workers, TCP opens within "
      << crowd.tcp_opening_s << " s";
  if (crowd.dns_s > 0) out << ", DNS within " << crowd.dns_s << " s";
  if (crowd.port_parity) out << ", parity kept";
  return out;
}

Episode random_episode(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  Episode episode{.crowd = random_crowd(random), .steps = std::vector<Step>(count)};
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  const auto slot = [&] { return static_cast<uint8_t>(1 + below(kModelSlots)); };
  // Some endpoints are used all the time, some seldom.
  const auto port = [&] { return static_cast<uint16_t>(below(1 + below(kModelPorts))); };
  constexpr uint8_t kFlags[] = {kTcpSyn, kTcpSyn | kTcpAck, kTcpAck, kTcpAck, kTcpAck,
                                kTcpFin | kTcpAck, kTcpRst};
  constexpr uint16_t kLongWaits[] = {59, 60, 61, 119, 120, 121, 240, 241, 300, 301, 3000, 7441};
  for (Step& step : episode.steps) {
    step.kind = kKinds[below(3)];
    step.slot = slot();
    step.port = port();
    step.peer = slot();
    step.peer_port = port();
    step.remote = static_cast<uint8_t>(below(std::size(kRemotes)));
    step.tcp_flags = kFlags[below(std::size(kFlags))];
    step.verb = random_verb(below(1000));
    step.may_fragment = below(4) == 0;
    step.seconds = below(20) == 0 ? kLongWaits[below(std::size(kLongWaits))] : 1 + below(6);
  }
  return episode;
}

std::ostream& operator<<(std::ostream& out, const Episode& episode) {
  out << "  with " << episode.crowd << '\n';
  for (const Step& step : episode.steps) out << "  " << step << '\n';
  return out;
}

}  // namespace adit::gateway::test
