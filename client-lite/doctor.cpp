#include "client-lite/doctor.h"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "client-lite/clock.h"
#include "client-lite/conflicts.h"
#include "client-lite/control_socket.h"
#include "client-lite/dns.h"
#include "client-lite/packet_path.h"
#include "client-lite/path_mtu.h"
#include "client-lite/privileges.h"
#include "client-lite/reach.h"
#include "client-lite/resolver.h"
#include "client-lite/state_files.h"
#include "lib/tunnel/keys.h"

namespace adit::client {
namespace {

// 2026-01-01: this program is not older.
constexpr time_t kOldestTime = 1'767'225'600;
// 2036-01-01: it is hardly in use so long.
constexpr time_t kLatestTime = 2'082'758'400;
constexpr const char* kChooseAnother = "choose another address";

std::string text(const char* format, double value) {
  char out[64];
  std::snprintf(out, sizeof out, format, value);
  return out;
}

// The value of a member of one of our own status objects, a text without its quotes; "null" also
// where there is none.
std::string value_of(const std::string& json, const std::string& name) {
  const std::string key = "\"" + name + "\":";
  size_t begin = json.find(key);
  if (begin == std::string::npos) return "null";
  begin += key.size();
  if (json[begin] != '"') return json.substr(begin, json.find_first_of(",}", begin) - begin);
  size_t end = ++begin;
  while (end < json.size() && json[end] != '"') end += json[end] == '\\' ? 2 : 1;
  return json.substr(begin, end - begin);
}

class Examination {
 public:
  explicit Examination(const Config& config)
      : config_(config), files_(config.state_directory, config.device) {}

  bool run() {
    const auto key =
        tunnel::public_key_of(tunnel::PrivateKey{config_.private_key});
    public_key_ = tunnel::to_base64(key.bytes);
    say(kOk, "our key", public_key_);
    look_at_clock();
    look_at_rights();
    look_at_dns();
    const auto status = ask_control_socket(config_.control_socket, "status json");
    if (status && status->find("\"state\":\"up\"") != std::string::npos) {
      look_at_tunnel(*status);
      return failures_ == 0;
    }
    if (status) say(kWarn, "tunnel", "a client is running, and not up");
    look_at_address();
    for (const GatewayConfig& gateway : config_.gateways) {
      look_at_gateway(gateway);
      if (one_answers_) tell_unreached(kWarn);
    }
    tell_unreached(kFail);
    return failures_ == 0;
  }

 private:
  enum Verdict : uint8_t { kOk, kWarn, kFail };
  struct Unreached {
    const char* what;
    std::string finding;
    std::string advice;
  };

  void say(Verdict verdict, const char* what, const std::string& finding,
           const std::string& advice = "") {
    static constexpr const char* kWords[] = {"ok", "warn", "FAIL"};
    std::printf("%-5s %-9s %s\n", kWords[verdict], what, finding.c_str());
    if (!advice.empty()) std::printf("%-15s → %s\n", "", advice.c_str());
    std::fflush(stdout);  // the next one may take seconds
    if (verdict == kFail) ++failures_;
  }

  // What keeps one gateway from being used: a failure only if no other answers either, which is not
  // known yet.
  void cannot_use(const char* what, const std::string& finding, const std::string& advice) {
    unreached_.push_back({what, finding, advice});
  }
  void tell_unreached(Verdict verdict) {
    for (const Unreached& each : unreached_) say(verdict, each.what, each.finding, each.advice);
    unreached_.clear();
  }

  // By what the client says: another handshake would take its session away.
  void look_at_tunnel(const std::string& status) {
    std::string finding = "a client is running and up";
    const std::string heard = value_of(status, "last_heard_s");
    if (heard != "null") finding += "; it last heard its gateway " + heard + " s ago";
    say(kOk, "tunnel", finding, "`adit-client status` says more; the gateway is not asked now");
    const std::string error = value_of(status, "last_error");
    if (error != "null") say(kWarn, "tunnel", "its last error: " + error);
    say(kOk, "MTU", "the client's is " + value_of(status, "mtu"));
  }

  void look_at_clock() {
    const time_t now = time(nullptr);
    tm parts{};
    gmtime_r(&now, &parts);
    char date[64];
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &parts);
    const auto stamp = files_.read_stamp();
    if (stamp && *stamp > tai64n_now()) {
      say(kWarn, "clock",
          std::string(date) + ", which is before the last start of the client: it has gone back",
          "set it; the client counts on from its last time stamp meanwhile, and gateways listen");
    } else if (now < kOldestTime) {
      say(kFail, "clock", std::string(date) + ", which cannot be",
          "set it, or a gateway that has seen a later time does not listen");
    } else if (now >= kLatestTime) {
      say(kWarn, "clock", std::string(date) + ", years after this program was made",
          "set it before the client starts: a gateway that has once seen a later time listens to "
          "no earlier one but from who has kept its last time stamp");
    } else {
      say(kOk, "clock", date);
    }
  }

  void look_at_rights() {
    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
      say(kFail, "device", std::string("/dev/net/tun: ") + std::strerror(errno),
          "load the module tun, and let this user open it");
    } else if (!has_net_admin()) {
      say(kFail, "device", "no right to make network devices",
          "run as root, or with the capability CAP_NET_ADMIN");
    } else {
      say(kOk, "device", config_.device + " can be made");
    }
  }

  void look_at_dns() {
    if (config_.dns == Dns::kNone) return say(kOk, "DNS", "left alone, as configured");
    const std::optional<DnsTool> tool = find_dns_tool();
    if (tool) {
      return say(
          kOk, "DNS",
          std::string("the gateway's servers would go to ") + name_of(*tool) + "; none is asked");
    }
    say(kWarn, "DNS", "neither systemd-resolved nor resolvconf is here",
        "install one, or name the gateway's servers in /etc/resolv.conf; dns: none if none are "
        "wanted");
  }

  // A fixed one, against the host's networks. Whether it leaves a gateway where it is, is that
  // gateway's affair.
  void look_at_address() {
    if (!config_.address) return;
    const std::string conflict = conflict_of(*config_.address, {}, host_addresses(config_.device));
    if (!conflict.empty()) say(kFail, "address", conflict, kChooseAnother);
  }

  std::vector<Ipv4Address> resolve(const std::string& host) {
    const NameAnswer answer = look_up(host);
    if (answer.addresses.empty()) {
      cannot_use("name", answer.failure,
                 "look at this machine's resolver, or configure the gateway's address");
    } else if (!Ipv4Address::parse(host)) {
      std::string list;
      for (const Ipv4Address address : answer.addresses) {
        list += (list.empty() ? "" : ", ") + address.to_string();
      }
      say(kOk, "name", host + " is " + list);
    }
    return answer.addresses;
  }

  // At the first of its addresses that answers, which is the one that a client comes to use.
  void look_at_gateway(const GatewayConfig& gateway) {
    for (const Ipv4Address address : resolve(gateway.host)) {
      if (answers(gateway, {address, Be16::from_host(gateway.port)})) return;
    }
  }

  bool answers(const GatewayConfig& gateway, const Endpoint& endpoint) {
    if (config_.address) {
      const std::string conflict = conflict_of(*config_.address, endpoint.address, {});
      if (!conflict.empty()) {
        cannot_use("address", conflict, kChooseAnother);
        return false;
      }
    }
    const Reach found = reach(config_, gateway, endpoint, files_);
    say_reach(gateway, endpoint.to_string(), found);
    if (found.outcome != Reach::answered) return false;
    one_answers_ = true;
    say_mtu(found);
    return true;
  }

  void say_reach(const GatewayConfig& gateway, const std::string& where, const Reach& found) {
    switch (found.outcome) {
      case Reach::answered:
        return say(kOk, "gateway",
                   where + " answers, keys match, " + found.protection + ", " +
                       text("%.1f ms", static_cast<double>(found.round_trip_ns) / 1e6));
      case Reach::differs:
        return cannot_use(
            "gateway", where + " answers, but the answer does not open",
            "the preshared keys differ: compare preshared_key_file with the gateway's");
      case Reach::refuses_key:
        return cannot_use("gateway", where + " is there, but does not know our key",
                          "have this public key added there: " + public_key_);
      case Reach::low_order_key:
        return cannot_use("gateway", "its public_key is no key that anybody can have",
                          "ask its operator for the right one");
      case Reach::no_route:
        return cannot_use("gateway", "no route leads to " + where,
                          "look at this machine's network, then at the address");
      case Reach::not_permitted:
        return cannot_use("gateway", "this machine refuses to send UDP to " + where,
                          "look at its own firewall and routes (nft list ruleset; ip route get)");
      case Reach::closed:
        return cannot_use("gateway", "nothing listens at " + where,
                          "look at the port; is the gateway running?");
      case Reach::prohibited:
        return cannot_use("gateway", "a firewall on the way refuses UDP to " + where,
                          "have it allow UDP to that port, or use another network");
      case Reach::silent:
        return say_silence(gateway, where, found);
    }
  }

  void say_silence(const GatewayConfig& gateway, const std::string& where, const Reach& found) {
    const std::string seen = found.last_hop == 0
                                 ? "no router tells of it"
                                 : "it is seen to pass " + std::to_string(found.last_hop) +
                                       " routers, the last " + found.last_hop_address.to_string();
    std::string advice =
        "UDP to that port is blocked behind there, or the gateway is down, or public_key is not "
        "its, or this machine's clock was later when it last heard us";
    if (gateway.stock_wireguard) advice += ", or it does not know our key " + public_key_;
    cannot_use("gateway", "no answer from " + where + "; of UDP towards it, " + seen, advice);
  }

  void say_mtu(const Reach& found) {
    if (found.is_mtu_measured && found.path_mtu_bytes == 0) {
      return say(kWarn, "MTU",
                 "no packet of " + std::to_string(PathMtu::kLeastBytes) +
                     " bytes or more comes there and back",
                 "something on the way loses long packets, or the gateway answers no probes");
    }
    if (found.path_mtu_bytes <= kOuterOverheadBytes) return;
    const uint32_t fits = found.path_mtu_bytes - kOuterOverheadBytes;
    const std::string finding =
        std::string(found.is_mtu_measured ? "" : "as far as links and routers tell, ") +
        "the way carries packets of " + std::to_string(found.path_mtu_bytes) +
        " bytes, in the tunnel " + std::to_string(fits);
    if (config_.mtu && *config_.mtu > fits) {
      return say(kWarn, "MTU", finding + ", and mtu is " + std::to_string(*config_.mtu),
                 "lower mtu, or leave it out");
    }
    say(kOk, "MTU", finding);
  }

  const Config& config_;
  const StateFiles files_;
  std::string public_key_;
  unsigned failures_ = 0;
  bool one_answers_ = false;
  std::vector<Unreached> unreached_;
};

}  // namespace

bool examine(const Config& config) { return Examination(config).run(); }

}  // namespace adit::client
