// aditctl: asks a running gateway about itself.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

namespace {

using Json = nlohmann::ordered_json;

// Sends one line, returns all that comes back; empty on failure, with the reason on stderr.
std::string ask(const std::string& path, const std::string& request) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fmt::print(stderr, "aditctl: {}: {}\n", path, std::strerror(errno));
    close(fd);
    return {};
  }
  const std::string line = request + "\n";
  std::string answer;
  if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size())) {
    char bytes[4096];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
      answer.append(bytes, static_cast<size_t>(got));
    }
  }
  close(fd);
  if (answer.empty()) fmt::print(stderr, "aditctl: {}: no answer\n", path);
  return answer;
}

void print_counts(const char* title, const Json& counts) {
  for (const auto& [name, value] : counts.items()) {
    if (value.is_number() && value != 0)
      fmt::print("{:<10}{:<24}{:>16}\n", title, name, value.get<int64_t>());
  }
}

// How several share the load; one has nobody to share it with.
void print_workers(const Json& workers) {
  if (workers.size() < 2) return;
  const auto count = [](const Json& worker, const char* name) {
    return worker[name].get<uint64_t>();
  };
  for (size_t i = 0; i < workers.size(); ++i) {
    fmt::print("worker {}: {} received, {} taken over, {} handed over, {} transmitted, "
               "{} mappings\n",
               i, count(workers[i], "received"), count(workers[i], "taken_over"),
               count(workers[i], "handed_over"), count(workers[i], "transmitted"),
               count(workers[i], "mappings_live"));
  }
}

void print_lanes(const Json& lanes) {
  const auto granted = lanes["granted"].get<unsigned>();
  if (granted == 0) return;
  fmt::print("lanes: {} of {} open\n", lanes["open"].get<unsigned>(), granted);
}

void print_status(const Json& status) {
  fmt::print("adit {} up {:.0f} s\n", status["version"].get<std::string>(),
             status["uptime_s"].get<double>());
  for (const Json& tunnel : status["tunnels"]) {
    const unsigned lanes = tunnel["lanes"].get<unsigned>();
    fmt::print("tunnel {} {}{}: {} -> {}, {}, worker {}, heard {:.1f} s ago, in {} B, out {} B\n",
               tunnel["index"].get<unsigned>(), tunnel["subscriber"].get<std::string>(),
               lanes == 1 ? ""
                          : fmt::format(" lane {} of {}", tunnel["lane"].get<unsigned>(), lanes),
               tunnel["address"].get<std::string>(), tunnel["remote"].get<std::string>(),
               tunnel["protection"].get<std::string>(), tunnel["worker"].get<unsigned>(),
               tunnel["heard_ago_s"].get<double>(),
               tunnel["rx_bytes"].get<uint64_t>(), tunnel["tx_bytes"].get<uint64_t>());
  }
  print_lanes(status["control"]["lanes"]);
  print_workers(status["workers"]);
  print_counts("event", status["worker"]["events"]);
  print_counts("drop", status["worker"]["drops"]);
  print_counts("nat", status["nat"]);
  print_counts("control", status["control"]);
  print_counts("rejected", status["control"]["handshakes_rejected"]);
  print_counts("dhcp", status["dhcp"]);
}

void print_mappings(const Json& answer) {
  for (const Json& mapping : answer["mappings"]) {
    fmt::print("(tunnel {}, {}) <-> {} {}{}\n", mapping["tunnel"].get<unsigned>(),
               mapping["internal"].get<std::string>(), mapping["external"].get<std::string>(),
               mapping["protocol"].get<std::string>(),
               mapping["is_forward"].get<bool>() ? " forwarded" : "");
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Asks a running adit-gateway about itself"};
  std::string socket_path = "/run/adit/gateway.sock";
  bool as_json = false;
  unsigned tunnel = 0;
  app.add_option("--socket", socket_path, "The gateway's control socket")->capture_default_str();
  app.add_flag("--json", as_json, "Print the gateway's JSON as it is");
  app.set_version_flag("--version", ADIT_VERSION);
  CLI::App* status = app.add_subcommand("status", "Tunnels and counters");
  CLI::App* mappings =
      app.add_subcommand("mappings", "Forwards and live mappings of a tunnel, the first 64");
  mappings->add_option("tunnel", tunnel, "Tunnel index")->required();
  unsigned worker = 0;
  CLI::App* move = app.add_subcommand("move", "Move a tunnel to another worker");
  move->add_option("tunnel", tunnel, "Tunnel index")->required();
  move->add_option("worker", worker, "Worker, from 0 on")->required();
  app.require_subcommand(1);
  app.fallthrough();
  CLI11_PARSE(app, argc, argv);

  const std::string request = mappings->parsed() ? fmt::format("mappings {}", tunnel)
                              : move->parsed()   ? fmt::format("move {} {}", tunnel, worker)
                                                 : "status";
  const std::string answer = ask(socket_path, request);
  if (answer.empty()) return 1;
  const Json document = Json::parse(answer, nullptr, false);
  if (document.is_discarded()) {
    fmt::print(stderr, "aditctl: the answer was cut off, or is not JSON\n");
    return 1;
  }
  if (document.contains("error")) {
    fmt::print(stderr, "aditctl: {}\n", document["error"].get<std::string>());
    return 1;
  }
  if (as_json) {
    std::fputs(answer.c_str(), stdout);
  } else if (status->parsed()) {
    print_status(document);
  } else if (mappings->parsed()) {
    print_mappings(document);
  }
  return 0;
}
