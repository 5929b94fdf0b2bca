// scripts/bench datapath: what a packet costs between a receive burst and a transmit burst, in TSC
// cycles, without a device. Every case first shows that its bytes are right.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/datapath/flooded.h"
#include "bench/datapath/followed.h"
#include "bench/datapath/reference.h"
#include "bench/datapath/world.h"
#include "bench/datapath/yardstick.h"
#include "bench/report.h"
#include "gateway/eal.h"
#ifdef ADIT_PASS_CLOCK
#include "gateway/pass_clock.h"
#endif

namespace adit::bench {
namespace {

using nat::Direction;
using nat::Filtering;

const std::map<std::string, Protection> kProtections = {
    {"plain", Protection::plain},
    {"aes-256-gcm", Protection::aes_256_gcm},
    {"chacha20-poly1305", Protection::chacha20_poly1305}};
const std::map<std::string, Filtering> kFilterings = {
    {"endpoint-independent", Filtering::endpoint_independent},
    {"address-dependent", Filtering::address_dependent},
    {"address-and-port-dependent", Filtering::address_and_port_dependent}};

const std::map<std::string, Direction> kDirections = {{"outbound", Direction::outbound},
                                                      {"inbound", Direction::inbound}};

template <typename Value>
std::string name_in(const std::map<std::string, Value>& names, Value value) {
  for (const auto& [name, named] : names) {
    if (named == value) return name;
  }
  return "?";
}

// RFC 6985's simple IMIX, in inner bytes: 7 small, 4 medium, 1 large.
const std::vector<uint16_t> kImix = {64, 576, 64, 64, 576, 64, 1420, 64, 576, 64, 576, 64};

// The cost that a plain packet of 64 bytes may have at most.
struct Goal {
  uint32_t flows;
  double outbound;
  double inbound;
};
constexpr Goal kGoals[] = {{1'000, 50, 45}, {64'512, 75, 65}, {1'032'192, 130, 120},
                           {16'515'072, 200, 180}};

struct Options {
  std::vector<uint32_t> flows;
  uint32_t flows_per_tunnel = 16;
  uint16_t block_ports = 64;
  std::vector<std::string> protections;
  std::vector<std::string> filterings;
  std::vector<std::string> sizes;
  unsigned rounds = 25;
  std::vector<std::string> directions;
  bool software_checksums = false;
  bool stages = false;
  bool mapping_rate = false;
  bool ageing = false;
  double flood = 0;  // forged handshakes a second
  unsigned workers = 1;
  bool unsteered = false;
};

std::vector<uint16_t> sizes_of(const std::string& name) {
  if (name == "imix") return kImix;
  return {static_cast<uint16_t>(std::stoul(name))};
}

std::optional<double> goal_of(const World& world, Direction direction, const std::string& size) {
  const WorldOptions& options = world.options();
  if (options.protection != Protection::plain || size != "64" || !options.checksum_by_port ||
      options.filtering != Filtering::endpoint_independent || options.flows_per_tunnel != 16 ||
      !options.express || options.workers != 1) {
    return std::nullopt;
  }
  for (const Goal& goal : kGoals) {
    if (goal.flows == world.flows()) {
      return direction == Direction::outbound ? goal.outbound : goal.inbound;
    }
  }
  return std::nullopt;
}

class Measurement {
 public:
  Measurement(World& world, unsigned rounds) : world_(world), rounds_(rounds), reference_(world) {
    const WorldOptions& options = world.options();
    if (options.protection == Protection::plain && options.checksum_by_port &&
        options.workers == 1) {
      yardstick_.emplace(world);
    }
  }

  nlohmann::json measure(Direction direction, const std::string& size_name) {
    const std::vector<uint16_t> sizes = sizes_of(size_name);
    check(direction, sizes);
    std::vector<double> cycles;
    std::vector<double> bare;
    start_passes();
    const uint64_t handed_before = world_.counters().handed_over;
    for (unsigned round = 0; round < rounds_; ++round) {
      world_.draw_flows();
      world_.fill(direction, sizes);
      cycles.push_back(a_packet(world_.run(direction)));
      if (!yardstick_ && (!is_encrypted() || world_.options().workers > 1)) continue;
      world_.draw_flows();
      world_.fill(direction, sizes);
      bare.push_back(a_packet(yardstick_ ? yardstick_->run(direction)
                                         : run_cipher(world_, direction)));
    }
    const Summary summary = summarize(cycles);
    const bool outbound = direction == Direction::outbound;
    nlohmann::json row = {
        {"bench", "datapath"},
        {"direction", outbound ? "outbound" : "inbound"},
        {"protection", name_in(kProtections, world_.options().protection)},
        {"inner_bytes", size_name == "imix" ? nlohmann::json("imix") : nlohmann::json(sizes[0])},
        {"flows", world_.flows()},
        {"tunnels", world_.tunnels()},
        {"filtering", name_in(kFilterings, world_.options().filtering)},
        {"checksums", world_.options().checksum_by_port ? "device" : "software"},
        {"way", world_.options().express ? "express" : "stages"},
        {"workers", world_.options().workers},
        {"steered", world_.options().steered},
        {"handed_over_share",
         static_cast<double>(world_.counters().handed_over - handed_before) / World::kPackets /
             rounds_},
        {"cycles_min", summary.min},
        {"cycles_median", summary.median},
        {"cycles_max", summary.max},
        {"yardstick_median", nullptr},
        {"mpps", tsc_hz() / summary.median / 1e6}};
    if (!bare.empty()) row["yardstick_median"] = summarize(bare).median;
    add_passes(row);
    print(row, goal_of(world_, direction, size_name));
    return row;
  }

 private:
  // The mean of each pass, where the clocks are compiled in.
#ifdef ADIT_PASS_CLOCK
  static void start_passes() { std::ranges::fill(gateway::pass_cycles, 0); }
  void add_passes(nlohmann::json& row) const {
    constexpr const char* kNames[] = {"board", "open", "depart"};
    for (size_t i = 0; i < 3; ++i) {
      row["passes"][kNames[i]] =
          static_cast<double>(gateway::pass_cycles[i]) / World::kPackets / rounds_;
    }
  }
#else
  static void start_passes() {}
  void add_passes(nlohmann::json&) const {}
#endif

  bool is_encrypted() const { return world_.options().protection != Protection::plain; }

  static double a_packet(uint64_t cycles) {
    return static_cast<double>(cycles) / World::kPackets;
  }

  // Bytes before figures: the pipeline's, and the yardstick's too.
  void check(Direction direction, std::span<const uint16_t> sizes) {
    world_.draw_flows();
    world_.fill(direction, sizes);
    world_.run(direction);
    std::string wrong = reference_.check(direction, sizes, world_.sent());
    if (wrong.empty() && yardstick_) {
      world_.fill(direction, sizes);
      yardstick_->run(direction);
      wrong = reference_.check(direction, sizes, yardstick_->sent());
      if (!wrong.empty()) wrong = "yardstick: " + wrong;
    }
    if (!wrong.empty()) throw std::runtime_error("no figures, for the bytes are wrong: " + wrong);
  }

  static void print(const nlohmann::json& row, std::optional<double> goal) {
    std::string size = row["inner_bytes"].is_string() ? "imix" : row["inner_bytes"].dump();
    std::string line = fmt::format(
        "{:<9} {:<18} {:>5} {:>10} {:>8} {:>7.1f} {:>7.1f} {:>7.1f} {:>7.2f}",
        row["direction"].get<std::string>(), row["protection"].get<std::string>(), size,
        row["flows"].get<uint32_t>(), row["tunnels"].get<uint32_t>(),
        row["cycles_min"].get<double>(), row["cycles_median"].get<double>(),
        row["cycles_max"].get<double>(), row["mpps"].get<double>());
    if (row["yardstick_median"].is_null()) {
      line += fmt::format(" {:>9} {:>6}", "-", "-");
    } else {
      const auto bare = row["yardstick_median"].get<double>();
      line += fmt::format(" {:>9.1f} {:>6.2f}", bare, row["cycles_median"].get<double>() / bare);
    }
    if (goal && !row.contains("passes")) {  // whose clocks cost something
      const bool is_met = row["cycles_median"].get<double>() <= *goal;
      line += fmt::format("  {:>3.0f} {}", *goal, is_met ? "met" : "missed");
    }
    if (row["filtering"] != "endpoint-independent") {
      line += fmt::format("  {}", row["filtering"].get<std::string>());
    }
    if (row.contains("passes")) {
      const nlohmann::json& passes = row["passes"];
      line += fmt::format("  board {:.1f}, open {:.1f}, depart {:.1f}",
                          passes["board"].get<double>(), passes["open"].get<double>(),
                          passes["depart"].get<double>());
    }
    if (row["workers"] != 1) {
      line += fmt::format("  {} workers, {:.1f} % handed over", row["workers"].get<unsigned>(),
                          row["handed_over_share"].get<double>() * 100);
    }
    if (row["checksums"] == "software") line += "  checksums in software";
    if (row["way"] == "stages") line += "  through the stages";
    fmt::print("{}\n", line);
    std::fflush(stdout);
  }

  World& world_;
  unsigned rounds_;
  Reference reference_;
  std::optional<Yardstick> yardstick_;
};

nlohmann::json mapping_row(World& world, const char* what, uint64_t cycles) {
  const double each = static_cast<double>(cycles) / world.flows();
  fmt::print("mapping {:<8} {:>30} {:>33.1f} cycles each, {:.2f} million/s\n", what,
             fmt::format("{} of them", world.flows()), each, tsc_hz() / each / 1e6);
  std::fflush(stdout);
  return {{"bench", fmt::format("mapping_{}", what)}, {"flows", world.flows()},
          {"cycles_median", each},                    {"mpps", tsc_hz() / each / 1e6}};
}

// What a worker's part of the tunnels' heartbeats takes of a core, at the default interval, where
// so many come at a time, one behind the other in even steps. A worker that polls and has nothing
// else to do finds one: a million tunnels send one in 24 microseconds.
nlohmann::json heartbeat_row(World& world, unsigned rounds, unsigned burst) {
  const auto median_of = [rounds](const auto& measure) {
    measure();
    std::vector<uint64_t> cycles(rounds);
    for (uint64_t& of_round : cycles) of_round = measure();
    std::ranges::nth_element(cycles, cycles.begin() + rounds / 2);
    return static_cast<double>(cycles[rounds / 2]) / World::kPackets;
  };
  constexpr unsigned kAtOnce = gateway::WaitingControls::kAtOnce;  // that wait for each other
  const uint64_t interval_ns = gateway::TunnelConfig{}.heartbeat_ns;
  const double interval_s = static_cast<double>(interval_ns) / tunnel::kSecondNs;
  const uint64_t gap_ns = interval_ns * burst / world.tunnels();
  const double each = median_of([&] { return world.heartbeats(burst, gap_ns); });
  const double ciphers = median_of([&] { return world.heartbeat_ciphers(std::max(burst, kAtOnce)); });
  const double share = each * world.tunnels() / interval_s / tsc_hz();
  fmt::print(
      "heartbeats of {} tunnels, one in {:.0f} s, {} at a time: {:.0f} cycles each with its "
      "answer, of which the two ciphers are {:.0f}, {:.2f} % of a core\n",
      world.tunnels(), interval_s, burst, each, ciphers, share * 100);
  std::fflush(stdout);
  return {{"bench", "heartbeat"},  {"tunnels", world.tunnels()}, {"burst", burst},
          {"cycles_median", each}, {"cipher_cycles", ciphers},   {"core_share", share}};
}

// What ageing takes of a core while nothing else happens, but that each mapping is used in half of
// its time: over as long as a mapping that is not used lives.
nlohmann::json sweep_row(World& world) {
  const uint32_t timeout_s = nat::Timeouts{}.udp_s;
  world.age(timeout_s + 10, timeout_s / 2);
  const auto cycles = static_cast<double>(world.age(timeout_s, timeout_s / 2));
  const double share = cycles / timeout_s / tsc_hz();
  fmt::print("ageing of {} tunnels and {} mappings: {:.2f} % of a core\n", world.tunnels(),
             world.flows(), share * 100);
  std::fflush(stdout);
  return {{"bench", "sweep"}, {"flows", world.flows()}, {"tunnels", world.tunnels()},
          {"core_share", share}};
}

nlohmann::json run(const Options& options) {
  nlohmann::json rows = nlohmann::json::array();
  fmt::print("{}, TSC {:.2f} GHz; {} packets a round, {} rounds; cycles a packet\n", cpu_name(),
             tsc_hz() / 1e9, World::kPackets, options.rounds);
  constexpr uint32_t kMappings = nat::kProtocols << 16;  // of a pool address
  fmt::print("memory: {} bytes a possible tunnel, {} more an open one, {} more its expanded keys; "
             "{:.1f} bytes a possible mapping\n",
             gateway::kTunnelBytes, sizeof(gateway::OpenTunnel), gateway::Crypto::memory_bytes(1),
             static_cast<double>(nat::Table::memory_bytes(1)) / kMappings);
  fmt::print("{:<9} {:<18} {:>5} {:>10} {:>8} {:>7} {:>7} {:>7} {:>7} {:>9} {:>6}  {}\n",
             "direction", "protection", "bytes", "flows", "tunnels", "min", "median", "max", "Mpps",
             "bare work", "ratio", "goal");
  for (const std::string& protection : options.protections) {
    for (const std::string& filtering : options.filterings) {
      for (const uint32_t flows : options.flows) {
        World world({.flows = flows,
                     .flows_per_tunnel = options.flows_per_tunnel,
                     .block_ports = options.block_ports,
                     .protection = kProtections.at(protection),
                     .filtering = kFilterings.at(filtering),
                     .checksum_by_port = !options.software_checksums,
                     .express = !options.stages,
                     .workers = options.workers,
                     .steered = !options.unsteered});
        const uint64_t making = world.make_mappings();
        const uint64_t resident = resident_bytes();
        if (options.mapping_rate) rows.push_back(mapping_row(world, "created", making));
        {
          Measurement measurement(world, options.rounds);
          for (const std::string& size : options.sizes) {
            for (const std::string& direction : options.directions) {
              rows.push_back(measurement.measure(kDirections.at(direction), size));
              rows.back()["resident_bytes"] = resident;
            }
          }
        }
        if (options.flood > 0) {
          rows.push_back(measure_flooded(world, options.rounds, options.flood));
        }
        if (options.ageing) {
          for (const unsigned burst : {1u, 8u, gateway::kBurstMax}) {
            rows.push_back(heartbeat_row(world, options.rounds, burst));
          }
          rows.push_back(followed_row(world));
          rows.push_back(sweep_row(world));
        }
        if (options.mapping_rate) {
          rows.push_back(mapping_row(world, "expired", world.expire_mappings()));
        }
      }
    }
  }
  return rows;
}

}  // namespace
}  // namespace adit::bench

int main(int argc, char** argv) {
  using namespace adit::bench;
  CLI::App app{"Measures the gateway's packet path in TSC cycles a packet"};
  Options options{.flows = {1'000},
                  .protections = {"plain"},
                  .filterings = {"endpoint-independent"},
                  .sizes = {"64"},
                  .directions = {"outbound", "inbound"}};
  std::string json;
  bool huge = false;
  app.add_option("--flows", options.flows, "How many flows, several cases");
  app.add_option("--flows-per-tunnel", options.flows_per_tunnel)->check(CLI::Range(1, 64));
  app.add_option("--block-ports", options.block_ports, "Of a tunnel's first block of ports")
      ->check(CLI::IsMember({16, 32, 64, 128}));
  app.add_option("--protection", options.protections)->check(CLI::IsMember(kProtections));
  app.add_option("--filtering", options.filterings)->check(CLI::IsMember(kFilterings));
  app.add_option("--inner-bytes", options.sizes, "Sizes of the inner packet, or imix");
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--direction", options.directions)->check(CLI::IsMember(kDirections));
  app.add_flag("--stages", options.stages, "No express way: every packet through the stages");
  app.add_flag("--software-checksums", options.software_checksums,
               "No device writes outer checksums or vouches for received ones");
  app.add_option("--workers", options.workers, "So many, in turns on one core")
      ->check(CLI::Range(1u, adit::gateway::kWorkersMax));
  app.add_flag("--unsteered", options.unsteered,
               "Packets come to any worker, not to their owner");
  app.add_flag("--mapping-rate", options.mapping_rate, "What making and expiring mappings costs");
  app.add_option("--flood", options.flood,
                 "So many forged handshakes a second among the packets: what that adds to them")
      ->check(CLI::Range(1.0, 1e7));
  app.add_flag("--ageing", options.ageing, "What heartbeats and ageing take of a core");
  app.add_option("--json", json, "Write the rows to this file");
  app.add_flag("--hugepages", huge, "Packet buffers in hugepages, as a gateway has them");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::string> eal = {"datapath", "--lcores", "0@1", "-m", "128", "--no-pci",
                                  "--no-telemetry", "--log-level", "*:warning"};
  if (huge) {
    eal.push_back("--in-memory");
  } else {
    eal.insert(eal.end(), {"--no-huge", "--no-shconf"});
  }
  try {
    const adit::gateway::Eal environment(eal);
    const nlohmann::json rows = run(options);
    if (!json.empty()) write_json(json, rows);
  } catch (const std::exception& error) {
    fmt::print(stderr, "datapath: {}\n", error.what());
    return 1;
  }
  return 0;
}
