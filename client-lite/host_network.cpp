#include "client-lite/host_network.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

namespace adit::client {
namespace {

// "route 30.1.1.10/32 via 10.1.1.1 dev eth0", as change_of() writes it. nullopt when the device is
// gone: its routes went with it.
std::optional<Route> route_of(std::istringstream& words) {
  std::string prefix;
  std::string via_word;
  std::string via;
  std::string dev_word;
  std::string device;
  words >> prefix >> via_word >> via >> dev_word >> device;
  const std::optional<Ipv4Prefix> destination = Ipv4Prefix::parse(prefix);
  const std::optional<Ipv4Address> next_hop = Ipv4Address::parse(via);
  const uint32_t index = if_nametoindex(device.c_str());
  if (!destination || !next_hop || via_word != "via" || dev_word != "dev" || index == 0) {
    return std::nullopt;
  }
  return Route{*destination, *next_hop, index, 0, 0, kRouteProtocol};
}

// More than these that stay, and they are logged again.
constexpr size_t kLoggedProblemsMax = 64;

}  // namespace

bool HostNetwork::is_over(int error) { return error != EPERM && error != EPIPE; }

bool HostNetwork::open(const std::string& journal_path, std::string& refusal) {
  if (!netlink_.open()) {
    refusal = std::string("rtnetlink: ") + std::strerror(errno);
    return false;
  }
  if (!journal_.open(journal_path, refusal)) return false;
  undo_leftovers();
  return refuse_outside(refusal);
}

void HostNetwork::set_kill_switch(std::span<const Ipv4Prefix> routes) {
  refused_routes_.assign(routes.begin(), routes.end());
  refusals_ = refusals_of(routes);
}

// What a killed run refused is refused without a gap.
bool HostNetwork::refuse_outside(std::string& refusal) {
  for (const Refusal& refused : refusals_) {
    const std::string change = change_of(refused);
    const bool stood = journal_.stands(change);
    if (stood) found_refusals_.push_back(refused);
    if (!journal_.record(change)) {
      refusal = "kill switch: the undo journal cannot be written";
      return false;
    }
    const int error = rights_.change_refusal(refused, true);
    // Another client refuses the same, and takes it back at its own end.
    if (error == EEXIST && !stood) journal_.strike_out(change);
    if (error == 0 || error == EEXIST) continue;
    if (refused.is_ipv6) {
      journal_.strike_out(change);
      log_.warning("kill switch: IPv6 is not refused: %s", std::strerror(error));
      continue;
    }
    refusal = "kill switch: " + refused.to_string() + ": " + std::strerror(error);
    return false;
  }
  return true;
}

// Other hands may have taken some away, or another client its own, on which we relied.
// (Recorded afterwards, for most are there, and each look would add to the journal.)
void HostNetwork::hold_refusals() {
  std::string problem;
  for (const Refusal& refused : refusals_) {
    const std::string change = change_of(refused);
    const int error = rights_.change_refusal(refused, true);
    if (error == 0 && !journal_.record(change)) {
      rights_.change_refusal(refused, false);
      problem = "kill switch: the undo journal cannot be written";
    } else if (error != 0 && error != EEXIST && !refused.is_ipv6) {
      problem = "kill switch: " + refused.to_string() + ": " + std::strerror(error);
    }
  }
  if (!problem.empty() && problem != kill_switch_problem_) log_.warning("%s", problem.c_str());
  kill_switch_problem_ = std::move(problem);
}

const std::string& HostNetwork::problem() const {
  if (!kill_switch_problem_.empty()) return kill_switch_problem_;
  return problem_.empty() ? dns_.problem() : problem_;
}

// Only what is ours: where another client runs on this device, what is refused is its doing.
void HostNetwork::withdraw_refusals() {
  for (const Refusal& refused : refusals_) {
    const std::string change = change_of(refused);
    if (!journal_.stands(change)) continue;
    if (is_over(rights_.change_refusal(refused, false))) journal_.strike_out(change);
  }
  refusals_.clear();
  refused_routes_.clear();
}

void HostNetwork::set_device(const std::string& name, uint32_t interface_index) {
  device_ = name;
  interface_index_ = interface_index;
  rights_.confine(interface_index);
  dns_.confine(interface_index);
}

void HostNetwork::undo_leftovers() {
  // The last change first, as if the killed run had ended well.
  const std::vector<std::string> left = journal_.standing();
  for (auto change = left.rbegin(); change != left.rend(); ++change) {
    const bool stays = std::any_of(refusals_.begin(), refusals_.end(), [&](const Refusal& refusal) {
      return *change == change_of(refusal);
    });
    if (stays) continue;
    log_.info("undoing what an earlier run left: %s", change->c_str());
    if (is_over(undo_change(*change))) journal_.strike_out(*change);
  }
  if (journal_.standing().empty()) journal_.clear();
}

// 0 or an errno; 0 too for what says nothing.
int HostNetwork::undo_change(const std::string& change) {
  std::istringstream words(change);
  std::string kind;
  words >> kind;
  if (kind == "route") {
    if (const std::optional<Route> route = route_of(words)) return rights_.remove_route(*route);
  } else if (kind == "refuse") {
    std::string prefix;
    words >> prefix;
    if (const auto refused = Refusal::parse(prefix)) return rights_.change_refusal(*refused, false);
  } else if (kind == "dns") {
    std::string tool_name;
    std::string device;
    words >> tool_name >> device;
    const std::optional<DnsTool> tool = dns_tool_named(tool_name);
    if (tool && !device.empty() && !dns_.undo(*tool, device)) return EPERM;
  }
  return 0;
}

void HostNetwork::set_gateway(Ipv4Address gateway) {
  gateway_ = gateway;
  if (settings_ || !refusals_.empty()) reconcile_routes();
}

void HostNetwork::set_other_gateways(std::vector<Ipv4Address> gateways) {
  if (gateways == other_gateways_) return;
  other_gateways_ = std::move(gateways);
  if (settings_ || !refusals_.empty()) reconcile_routes();
}

void HostNetwork::apply(const Settings& settings) {
  problem_.clear();
  // What is as wanted is left alone: a new tunnel needs no right where it changes nothing.
  const bool is_set_up = interface_is_up(interface_index_) &&
                         interface_mtu_bytes(interface_index_) == settings.mtu_bytes;
  const int link = is_set_up ? 0 : rights_.set_link_up(interface_index_, settings.mtu_bytes);
  if (link != 0) set_problem("device " + device_ + ": " + std::strerror(link));
  settings_ = settings;
  apply_address();
  apply_dns();
  if (problem_.empty()) logged_problems_.clear();
}

// A device that loses its last address loses its routes with it: the new one comes first, and the
// old one goes when nothing leads by it any more.
void HostNetwork::apply_address() {
  const Ipv4Interface address = fitting_address();
  put_address(address);
  reconcile_routes();
  if (has_address(address)) remove_addresses_but(address);
}

// Who else has come into the tunnel's network since its address was taken. (Without the right to
// change the device, nobody is asked after.)
std::optional<HostAddress> HostNetwork::network_sharer() const {
  if (settings_->address.length_bits == 32) return std::nullopt;  // it is no network
  const std::vector<HostAddress> host = host_addresses(device_);
  const HostAddress* sharer = network_taken_by(settings_->address.prefix(), host);
  return sharer != nullptr && rights_.can_change() ? std::optional(*sharer) : std::nullopt;
}

// Without its network where that is shared: the hosts that are meant are there.
Ipv4Interface HostNetwork::fitting_address() const {
  return network_sharer() ? Ipv4Interface{settings_->address.address, 32} : settings_->address;
}

void HostNetwork::put_address(const Ipv4Interface& address) {
  if (has_address(address)) return;
  // Where both are in one network the new one is the old one's secondary, and would go with it.
  int error = addresses_.empty() ? 0 : rights_.keep_secondary_addresses(interface_index_);
  if (error == 0) error = rights_.add_address(interface_index_, address);
  if (error != 0) return set_problem(address.to_string() + ": " + std::strerror(error));
  if (std::find(addresses_.begin(), addresses_.end(), address) == addresses_.end()) {
    addresses_.push_back(address);
  }
}

void HostNetwork::remove_addresses_but(const std::optional<Ipv4Interface>& address) {
  std::erase_if(addresses_, [&](const Ipv4Interface& other) {
    if (other == address) return false;
    rights_.remove_address(interface_index_, other);
    return true;
  });
}

HostNetwork::Device HostNetwork::mend() {
  char name[IF_NAMESIZE];
  if (if_indextoname(interface_index_, name) == nullptr) return Device::intact;  // it has gone
  device_ = name;  // it may be another now
  hold_refusals();
  if (!settings_) return Device::intact;
  if (device_is_intact()) {
    if (!problem_.empty() && rights_.can_change()) {
      apply(Settings(*settings_));
    } else {
      apply_dns();
    }
    return Device::intact;
  }
  if (!rights_.can_change()) return Device::lost;
  // A device that is taken away loses its address and routes first. The kernel answers when that is
  // done, and then nothing is left to be set up.
  if (rights_.set_link_up(interface_index_, settings_->mtu_bytes) == ENODEV) return Device::intact;
  if (problem_.empty()) {
    log_.warning("device %s was changed by other hands: it is set up again", device_.c_str());
  }
  apply(Settings(*settings_));
  return Device::mended;
}

// Whether the device is up, and has its address and the routes that we gave it.
bool HostNetwork::device_is_intact() {
  // (A smaller MTU than ours is somebody's wish, and does no harm.)
  if (!interface_is_up(interface_index_) ||
      interface_mtu_bytes(interface_index_) > settings_->mtu_bytes) {
    return false;
  }
  const std::optional<std::vector<Route>> table = netlink_.routes();
  const auto is_there = [&](const Route& route) {
    return route.interface_index != interface_index_ || !table ||
           std::find(table->begin(), table->end(), route) != table->end();
  };
  return std::all_of(installed_.begin(), installed_.end(), is_there) &&
         has_address(fitting_address());
}

bool HostNetwork::has_address(const Ipv4Interface& address) const {
  const std::vector<HostAddress> addresses = host_addresses("");
  return std::any_of(addresses.begin(), addresses.end(), [&](const HostAddress& other) {
    return other.device == device_ && other.address == address;
  });
}

void HostNetwork::withdraw() {
  dns_.withdraw();
  settings_.reset();
  reconcile_routes();
  remove_addresses_but(std::nullopt);
}

void HostNetwork::undo_all() {
  withdraw_refusals();
  withdraw();
  if (journal_.standing().empty()) journal_.clear();
}

void HostNetwork::undo_start() {
  std::erase_if(refusals_, [this](const Refusal& refused) {
    return std::find(found_refusals_.begin(), found_refusals_.end(), refused) !=
           found_refusals_.end();
  });
  undo_all();
}

std::string HostNetwork::conflict_of(const Ipv4Interface& address, Ipv4Address gateway) const {
  return client::conflict_of(address, gateway, host_addresses(device_));
}

void HostNetwork::refresh() {
  hold_refusals();
  if (settings_) {
    apply_address();
  } else if (!refusals_.empty()) {
    reconcile_routes();
  }
}

void HostNetwork::apply_dns() {
  const bool for_all = std::any_of(traversing_.begin(), traversing_.end(), is_default);
  dns_.want(device_, {settings_->dns, for_all});
}

void HostNetwork::set_problem(std::string problem) {
  if (rights_.is_lost()) return;  // which says more than what comes of it
  if (logged_problems_.size() >= kLoggedProblemsMax) logged_problems_.clear();
  if (logged_problems_.insert(problem).second) log_.warning("%s", problem.c_str());
  problem_ = std::move(problem);
}

}  // namespace adit::client
