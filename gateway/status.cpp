#include "gateway/status.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "lib/tunnel/keys.h"

namespace adit {

static void to_json(nlohmann::ordered_json& json, const Count& count) { json = uint64_t{count}; }

}  // namespace adit

namespace adit::gateway {
namespace {

using Json = nlohmann::ordered_json;

inline constexpr uint64_t kConnectionNs = 2'000'000'000;  // without getting on
inline constexpr size_t kConnectionsMax = 8;

Json counters_json(const Counters& counters) {
  Json events;
#define X(name) events[#name] = counters.name;
  ADIT_EVENTS(X)
#undef X
  Json drops;
  for (unsigned i = kFirstDrop; i < kFates; ++i) {
    if (counters.fates[i] != 0) drops[fate_name(static_cast<Fate>(i))] = counters.fates[i];
  }
  if (drops.is_null()) drops = Json::object();
  return {{"events", events}, {"drops", drops}, {"held", counters.held()}};
}

Json control_json(const Control& control) {
  const ControlCounters& counters = control.counters();
  Json out;
#define X(name) out[#name] = counters.name;
  ADIT_CONTROL_EVENTS(X)
#undef X
  Json rejected = Json::object();
  for (size_t i = 1; i < counters.handshakes_rejected.size(); ++i) {
    if (counters.handshakes_rejected[i] == 0) continue;
    rejected[tunnel::handshake_reject_name(static_cast<tunnel::HandshakeReject>(i))] =
        counters.handshakes_rejected[i];
  }
  out["handshakes_rejected"] = rejected;
  out["lanes"] = {{"granted", control.lane_counts().granted}, {"open", control.lane_counts().open}};
  out["handshakes_under_way"] = control.handshakes().under_way();
  // Initiations opened and answers made, by thread.
  out["handshake_threads"] = control.handshakes().done();
  return out;
}

nat::Nat::Counts nat_total(std::span<const WorkerFigures> workers) {
  nat::Nat::Counts sum;
  for (const WorkerFigures& worker : workers) sum += worker.nat->counts();
  return sum;
}

// How the load is shared, and how much of it had to be handed over.
Json worker_json(const WorkerFigures& worker) {
  const Counters& counters = *worker.counters;
  return {{"received", counters.received},
          {"taken_over", counters.taken_over},
          {"handed_over", counters.handed_over},
          {"transmitted", counters.transmitted},
          {"drops", counters.drops_total()},
          {"mappings_live", worker.nat->counts().mappings_live},
          {"loops", counters.loops},
          {"busy_loops", counters.busy_loops},
          {"busy_cycles", counters.busy_cycles}};
}

Json nat_json(const nat::Nat::Counts& counts) {
  return {{"mappings_live", counts.mappings_live},
          {"mappings_resting", counts.mappings_resting},
          {"mappings_created", counts.mappings_created},
          {"mappings_revived", counts.mappings_revived},
          {"mappings_expired", counts.mappings_expired},
          {"blocks_granted", counts.blocks_granted},
          {"spilled", counts.spilled}};
}

Json dhcp_json(const dhcp::Server& server) {
  const dhcp::ServerCounters& c = server.counters();
  Json pools = Json::array();
  for (uint32_t i = 0; i < server.pools().size(); ++i) {
    const dhcp::PoolUse use = server.use(i);
    pools.push_back({{"name", server.pools()[i].name},
                     {"capacity", use.capacity},
                     {"bound", use.bound},
                     {"released", use.released},
                     {"quarantined", use.quarantined}});
  }
  return {{"discover", c.discover}, {"offer", c.offer},         {"request", c.request},
          {"ack", c.ack},           {"nak", c.nak},             {"release", c.release},
          {"decline", c.decline},   {"exhausted", c.exhausted}, {"expired", c.expired},
          {"malformed", c.malformed}, {"pools", pools}};
}

double seconds_since(uint64_t then_ns, uint64_t now_ns) {
  return then_ns == 0 || then_ns > now_ns
             ? 0.0
             : static_cast<double>((now_ns - then_ns) / 1'000'000) / 1e3;
}

Json tunnel_json(const Subscriber& subscriber, unsigned worker, const TunnelTable& tunnels,
                 uint64_t now_ns) {
  const TunnelReport& report = tunnels.report(subscriber.slot);
  const TunnelTraffic& traffic = tunnels.open(subscriber.slot).traffic;
  const bool is_its_own = report.epoch.load(std::memory_order_acquire) == subscriber.epoch;
  const auto read = [&](const auto& field) {
    return is_its_own ? field.load(std::memory_order_relaxed) : 0;
  };
  const auto carried = [&](const Count& count) { return is_its_own ? count : Count{}; };
  const uint64_t packed = read(report.remote);
  const Endpoint remote{Ipv4Address::from_host(static_cast<uint32_t>(packed >> 16)),
                        Be16::from_host(static_cast<uint16_t>(packed))};
  return {{"index", subscriber.slot},
          {"worker", worker},
          {"subscriber", subscriber.config->name},
          {"lane", subscriber.lane},
          {"lanes", subscriber.lanes},
          {"public_key", tunnel::to_base64(subscriber.config->public_key)},
          {"remote", remote.is_zero() ? "" : remote.to_string()},
          {"address", subscriber.address.is_zero() ? "" : subscriber.address.to_string()},
          {"protection", tunnel::protection_name(subscriber.protection)},
          {"confirmed", packed != 0},
          {"open_s", seconds_since(subscriber.opened_ns, now_ns)},
          {"heard_ago_s", seconds_since(read(report.heard_ns), now_ns)},
          {"rx_packets", carried(traffic.rx_packets)},
          {"rx_bytes", carried(traffic.rx_bytes)},
          {"tx_packets", carried(traffic.tx_packets)},
          {"tx_bytes", carried(traffic.tx_bytes)}};
}

// All but the tunnels.
Json head_json(const StatusSources& sources, uint64_t now_ns) {
  const Control& control = *sources.control;
  Json ports = Json::array();
  for (const Port* port : sources.ports) {
    ports.push_back({{"name", port->name()},
                     {"mac", port->view().mac.to_string()},
                     {"address", port->view().address.to_string()},
                     {"missed", port->missed()}});
  }
  Json workers = Json::array();
  for (const WorkerFigures& worker : sources.workers) workers.push_back(worker_json(worker));
  Json neighbours = Json::array();
  for (const auto& [key, entry] : control.arp().entries()) {
    neighbours.push_back({{"port", sources.ports[key.first]->name()},
                          {"address", key.second.to_string()},
                          {"mac", entry.resolved ? entry.mac.to_string() : ""}});
  }
  return {{"version", ADIT_VERSION},
          {"uptime_s", seconds_since(sources.started_ns, now_ns)},
          {"worker", counters_json(total(sources.workers))},
          {"workers", workers},
          {"nat", nat_json(nat_total(sources.workers))},
          {"control", control_json(control)},
          {"dhcp", dhcp_json(control.dhcp())},
          {"ports", ports},
          {"neighbours", neighbours}};
}

}  // namespace

Counters total(std::span<const WorkerFigures> workers) {
  Counters sum;
  for (const WorkerFigures& worker : workers) sum += *worker.counters;
  return sum;
}

bool StatusText::append(std::string& text, uint64_t now_ns) {
  if (part_ == Part::head) {
    const std::string head = head_json(*sources_, now_ns).dump(2);
    text.append(head, 0, head.size() - 2);  // without the end of the object
    text += ",\n  \"tunnels\": [";
    part_ = Part::tunnels;
  } else if (part_ == Part::tunnels) {
    append_tunnels(text, now_ns);
  }
  return part_ != Part::done;
}

void StatusText::append_tunnels(std::string& text, uint64_t now_ns) {
  const Control& control = *sources_->control;
  const auto add = [&](const Subscriber& its) {
    if (its.slot == 0) return;
    text += std::exchange(any_tunnel_, true) ? ",\n    " : "\n    ";
    text += tunnel_json(its, control.owner_of(its.slot), *sources_->tunnels, now_ns).dump();
  };
  const auto rest = std::span(control.subscribers()).subspan(next_);
  const auto now = rest.first(std::min(rest.size(), kSubscribersAtATime));
  for (const Subscriber& subscriber : now) {
    add(subscriber);
    for (const auto& lane : subscriber.further) {
      if (lane != nullptr) add(*lane);
    }
  }
  next_ += now.size();
  if (now.size() < rest.size()) return;
  text += "\n  ]\n}\n";
  part_ = Part::done;
}

std::string status_text(const StatusSources& sources, uint64_t now_ns) {
  std::string text;
  for (StatusText all(sources); all.append(text, now_ns);) {
  }
  return text;
}

std::string counters_text(const Counters& counters) {
  std::string text;
  const auto line = [&](const char* kind, const char* name, uint64_t value) {
    if (value != 0) text += fmt::format("{:<8}{:<24}{:>16}\n", kind, name, value);
  };
#define X(name) line("event", #name, counters.name);
  ADIT_EVENTS(X)
#undef X
  for (unsigned i = kFirstDrop; i < kFates; ++i) {
    line("drop", fate_name(static_cast<Fate>(i)), counters.fates[i]);
  }
  text += fmt::format("{:<8}{:<24}{:>16}\n", "held", "", counters.held());
  return text;
}

// ---- The socket ----

StatusServer::StatusServer(const std::string& path, const StatusSources& sources, Control& control)
    : path_(path), sources_(sources), control_(control) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw std::runtime_error("control socket: path too long: " + path);
  }
  path.copy(address.sun_path, path.size());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  // A socket that nobody answers on was left by a process that died.
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool in_use = connect(probe, generic, sizeof address) == 0;
  close(probe);
  if (in_use) throw std::runtime_error("control socket: another gateway answers on " + path);
  unlink(path.c_str());
  const mode_t before = umask(0177);
  const int bound = bind(listener_, generic, sizeof address);
  umask(before);
  if (bound != 0 || listen(listener_, kConnectionsMax) != 0) {
    throw std::runtime_error(fmt::format("control socket {}: {}", path, std::strerror(errno)));
  }
}

StatusServer::~StatusServer() {
  for (const Connection& connection : connections_) close(connection.fd);
  close(listener_);
  unlink(path_.c_str());
}

bool StatusServer::tick(uint64_t now_ns) {
  while (connections_.size() < kConnectionsMax) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) break;
    connections_.push_back({.fd = fd, .deadline_ns = now_ns + kConnectionNs});
  }
  bool has_more = false;
  std::erase_if(connections_, [&](Connection& connection) {
    const bool has_time = now_ns < connection.deadline_ns;
    const Served served = has_time ? serve(connection, now_ns) : Served::done;
    has_more |= served == Served::goes_on;
    if (served != Served::done) return false;
    if (connection.waits_for_mappings) mappings_busy_ = false;
    close(connection.fd);
    return true;
  });
  return has_more;
}

StatusServer::Served StatusServer::serve(Connection& connection, uint64_t now_ns) {
  constexpr auto waits_or_done = [](bool waits) { return waits ? Served::waits : Served::done; };
  if (connection.waits_for_mappings) {
    if (!control_.mappings_listed()) return Served::waits;
    connection.waits_for_mappings = mappings_busy_ = false;
    connection.answer = mappings_answer();
  }
  if (connection.answer.empty() && !connection.more) {
    char bytes[256];
    const ssize_t got = recv(connection.fd, bytes, sizeof bytes, 0);
    if (got == 0) return Served::done;
    if (got < 0) return waits_or_done(errno == EAGAIN || errno == EINTR);
    connection.request.append(bytes, static_cast<size_t>(got));
    const size_t end = connection.request.find('\n');
    if (end == std::string::npos) return waits_or_done(connection.request.size() < sizeof bytes);
    begin_answer(connection, connection.request.substr(0, end));
    if (connection.waits_for_mappings) return Served::waits;
  }
  return write(connection, now_ns);
}

// A piece of the answer at a time; whoever goes on reading may take as long as it takes.
StatusServer::Served StatusServer::write(Connection& connection, uint64_t now_ns) {
  if (connection.written == connection.answer.size()) {
    connection.answer.clear();
    connection.written = 0;
    if (connection.more && !connection.more->append(connection.answer, now_ns)) {
      connection.more.reset();
    }
  }
  const std::string_view rest = std::string_view(connection.answer).substr(connection.written);
  const ssize_t sent = send(connection.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR ? Served::waits : Served::done;
  connection.written += static_cast<size_t>(sent);
  connection.deadline_ns = now_ns + kConnectionNs;
  const bool is_all = connection.written == connection.answer.size() && !connection.more;
  return is_all ? Served::done : Served::goes_on;
}

void StatusServer::begin_answer(Connection& connection, const std::string& request) {
  constexpr std::string_view kMappings = "mappings ";
  if (request == "status") {
    connection.more.emplace(sources_);
    return;
  }
  uint32_t slot = 0;
  unsigned worker = 0;
  if (std::sscanf(request.c_str(), "move %" SCNu32 " %u", &slot, &worker) == 2) {
    const char* const refusal = control_.move_tunnel(slot, worker);
    const Json answer = refusal != nullptr ? Json{{"error", refusal}} : Json{{"moving", slot}};
    connection.answer = answer.dump() + "\n";
    return;
  }
  if (request.starts_with(kMappings) &&
      std::from_chars(request.data() + kMappings.size(), request.data() + request.size(), slot)
              .ec == std::errc{} &&
      slot > 0 && slot < sources_.tunnels->slots()) {
    if (mappings_busy_) {
      connection.answer = R"({"error": "another list is under way"})" "\n";
      return;
    }
    mappings_busy_ = connection.waits_for_mappings = true;
    control_.list_mappings(slot);
    return;
  }
  connection.answer =
      R"({"error": "ask for: status, mappings TUNNEL, or move TUNNEL WORKER"})" "\n";
}

std::string StatusServer::mappings_answer() const {
  static constexpr const char* kNames[] = {"udp", "tcp", "icmp"};
  Json list = Json::array();
  for (const ToControl& item : control_.listed_mappings()) {
    list.push_back({{"tunnel", item.slot},
                    {"protocol", kNames[item.protocol % std::size(kNames)]},
                    {"internal", item.from.to_string()},
                    {"external", item.external.to_string()},
                    {"is_forward", item.is_forward}});
  }
  return Json{{"mappings", list}}.dump(2) + "\n";
}

}  // namespace adit::gateway
