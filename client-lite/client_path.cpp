// The outer path: whether it is alive, what it carries, and what becomes of the tunnel when the
// host's network changes. path_watch.h, path_mtu.h and network_watch.h say what, this does it.
#include <sys/epoll.h>

#include <algorithm>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kSecondNs = 1'000'000'000;
// A change of network comes as a burst of messages: the first is looked at at once, the others
// together.
constexpr uint64_t kLookIntervalNs = kSecondNs / 20;
// A table of a hundred thousand routes takes a tenth of a second, in which no packet moves: looking
// takes no more than this share of the time.
constexpr uint64_t kLookShare = 10;
// When something changed but not the way to the gateway, it is asked after no more often than this.
constexpr uint64_t kDoubtIntervalNs = kSecondNs;
// Before the lease has said what the gateway takes, larger ones are not tried.
constexpr uint16_t kUsualMtuBytes = 1500;
// Another program may insist on having the device otherwise.
constexpr uint64_t kMendIntervalNs = kSecondNs;
constexpr uint64_t kProblemIntervalNs = 5 * kSecondNs;
constexpr unsigned kOuterBytesMax = kInnerBytesMax + kOuterOverheadBytes;

}  // namespace

void Client::on_network_readable(uint64_t now_ns) {
  const NetworkWatch::Changes changes = network_watch_.read_changes(tun_.interface_index());
  if (changes.device_gone) return lose_device("taken away");
  if (changes.device) {
    mend_ns_ = std::min(mend_ns_, std::max(now_ns, mended_ns_ + kMendIntervalNs));
  }
  if (changes.host) {
    const uint64_t interval_ns = std::max(kLookIntervalNs, kLookShare * look_takes_ns_);
    look_ns_ = std::min(look_ns_, std::max(now_ns, looked_ns_ + interval_ns));
  }
}

void Client::on_clock_set(uint64_t now_ns) {
  network_watch_.rearm();
  if (!sleep_meter_.slept(adit::client::now_ns(), awake_ns())) {
    log_.info("the wall clock was set");
    return;
  }
  on_awake(now_ns);
}

// The gateway may have given the tunnel up meanwhile, and would not say so: a new session costs
// less than to find that out.
void Client::on_awake(uint64_t now_ns) {
  if (now_ns < awake_ns_ + kSecondNs) return;  // found out in two ways
  awake_ns_ = now_ns;
  log_.info("awake again");
  look_ns_ = kNever;
  looked_ns_ = now_ns;
  network_.refresh();
  outer_path_ = network_.outer_path();
  on_path_changed(now_ns);
  if (has_tunnel() && !config_.answer) act(peer_->connect(now_ns, tai64n_now()), now_ns);
}

void Client::look_at_network(uint64_t now_ns) {
  look_ns_ = kNever;
  looked_ns_ = now_ns;
  network_.refresh();
  look_takes_ns_ = adit::client::now_ns() - now_ns;
  const std::optional<OuterPath> path =
      gateway_.is_zero() ? std::nullopt : network_.outer_path();
  const bool changed = path != outer_path_;
  if (!changed && outer_path_ && has_tunnel()) {  // the link may have another MTU
    limit_path_mtu(now_ns);
    apply_path_mtu(now_ns);
  }
  if (!changed && now_ns < doubted_ns_ + kDoubtIntervalNs) return;
  doubted_ns_ = now_ns;
  if (!changed) {
    // The same link may lead to another place, or be back from nowhere.
    if (has_tunnel() && outer_path_ && !is_stock()) path_watch_.hurry(now_ns);
    // (While gateways are measured, our own routes to them are such changes: it goes on.)
    const bool asks_again =
        phase_ == Phase::resolving && known_addresses_.may_ask_again(now_ns);
    if (phase_ == Phase::waiting || asks_again) begin_attempt(now_ns);
    return;
  }
  log_.info("the way to the gateway is now %s",
            path ? ("from " + path->source.to_string()).c_str() : "none");
  ++counters_.path_changes;
  outer_path_ = path;
  if (outer_path_) on_path_changed(now_ns);
}

void Client::mend_network(uint64_t now_ns) {
  if (now_ns >= mend_ns_) {
    mend_ns_ = kNever;
    const HostNetwork::Device device = network_.mend();
    if (device == HostNetwork::Device::mended) mended_ns_ = now_ns;
    if (device == HostNetwork::Device::lost) {
      lose_device("changed by other hands, and there is no right to set it up again");
    }
  }
  if (!network_.problem().empty()) mend_ns_ = std::min(mend_ns_, now_ns + kProblemIntervalNs);
}

// Another address, link or router, or time asleep: no NAT on the way knows us any more.
void Client::on_path_changed(uint64_t now_ns) {
  backoff_.reset();
  failures_ = 0;
  relearn_heartbeat();
  if (!has_tunnel() || !path_.usable(now_ns)) {
    is_choice_due_ = chooses_nearest();
    lane_offer_ = LaneOffer(lanes_max());
    return restart(now_ns);
  }
  rebind();
  if (lanes_) lanes_->on_path_changed(now_ns);
  round_trip_.reset();
  path_watch_.hurry(now_ns);
  start_path_mtu(now_ns);
  apply_path_mtu(now_ns);
  if (is_stock()) {
    send_heartbeat(now_ns);
    act(peer_->connect(now_ns, tai64n_now()), now_ns);
  }
}

// What a configured port is worth, its owner knows: it stays.
void Client::rebind() {
  if (config_.listen_port != 0) return;
  // Not left to its end: lanes' threads may have the old one open for a moment more.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, udp_.fd(), nullptr);
  const bool is_another = udp_.rebind(rights_);
  if (!watch(udp_.fd(), kTagUdp) || !is_another) {
    log_.warning("no other UDP port is to be had");
    return;
  }
  if (lanes_) lanes_->set_socket(udp_);
  ++counters_.rebinds;
  log_.debug("UDP port %u", udp_.local_port());
}

void Client::watch_path(uint64_t now_ns) {
  if (!watches_path()) return;
  switch (path_watch_.tick(now_ns, round_trip_)) {
    case PathWatch::Step::none:
      return;
    case PathWatch::Step::probe:
      return is_stock() ? peer_->on_packet_waiting(now_ns) : send_heartbeat(now_ns);
    case PathWatch::Step::rebind:
      log_.info("the gateway has fallen silent: trying another port and a new session");
      rebind();
      relearn_heartbeat();
      send_heartbeat(now_ns);
      return act(peer_->connect(now_ns, tai64n_now()), now_ns);
    case PathWatch::Step::dead:
      return give_up("the gateway has fallen silent", now_ns);
  }
}

// The largest packet that the outer path may have to carry; 0: its MTU is not looked for.
uint16_t Client::path_mtu_bytes_max() {
  if (config_.mtu || is_stock()) return 0;
  const uint16_t link_bytes = network_.outer_mtu_bytes(gateway_.address);
  const auto leased_bytes = dhcp_.lease() ? dhcp_.lease()->mtu_bytes : std::nullopt;
  const unsigned wanted = leased_bytes ? *leased_bytes + kOuterOverheadBytes : kUsualMtuBytes;
  return static_cast<uint16_t>(
      std::min<unsigned>({wanted, link_bytes == 0 ? kUsualMtuBytes : link_bytes, kOuterBytesMax}));
}

void Client::start_path_mtu(uint64_t now_ns) {
  const uint16_t largest_bytes = path_mtu_bytes_max();
  if (largest_bytes != 0) path_mtu_.start(now_ns, largest_bytes);
}

// Where there may be more or less than what was probed for, begins anew.
void Client::limit_path_mtu(uint64_t now_ns) {
  const uint16_t largest_bytes = path_mtu_bytes_max();
  if (largest_bytes != 0 && largest_bytes != path_mtu_.bytes_max()) {
    path_mtu_.start(now_ns, largest_bytes);
  }
}

void Client::probe_path_mtu(uint64_t now_ns) {
  if (!outer_path_) return;
  if (!path_.usable(now_ns)) return path_mtu_.postpone(now_ns + kSecondNs);
  const uint16_t before_bytes = path_mtu_.bytes();
  while (const auto probe =
             path_mtu_.tick(now_ns, PathWatch::wait_ns(round_trip_), random_u64() | 1)) {
    const auto datagram =
        path_.wrap_padded_probe(control_buffer_, probe->bytes, probe->stamp, told_mtu()).datagram;
    if (datagram.empty()) break;
    // One that is lost here is as one that is lost on the way: it stays unanswered.
    const auto outcome = udp_.send_whole(datagram, gateway_, rights_);
    if (outcome != UdpSocket::Whole::too_large) break;
    path_mtu_.on_refused(now_ns);
  }
  if (path_mtu_.bytes() != before_bytes) apply_path_mtu(now_ns);
}

// The device's MTU follows, and the gateway is told, so that what comes in follows too.
void Client::apply_path_mtu(uint64_t now_ns) {
  if (!settings_) return;
  const uint16_t mtu_bytes =
      device_mtu_bytes(dhcp_.lease() ? dhcp_.lease()->mtu_bytes : std::nullopt);
  if (mtu_bytes == settings_->mtu_bytes) return;
  log_.info("MTU %u: the path carries packets of %u bytes", mtu_bytes, outer_mtu_bytes());
  settings_->mtu_bytes = mtu_bytes;
  path_.set_mtu(mtu_bytes);
  network_.apply(*settings_);
  send_heartbeat(now_ns);
  if (!lanes_) return;
  publish_device();
  lanes_->send_heartbeats(now_ns);
}

// As a probe says it: 0 before there is one.
Be16 Client::told_mtu() const {
  return Be16::from_host(settings_ ? settings_->mtu_bytes : uint16_t{0});
}

}  // namespace adit::client
