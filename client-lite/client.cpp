#include "client-lite/client.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "client-lite/clock.h"
#include "client-lite/privileges.h"
#include "client-lite/sandbox.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kSecondNs = 1'000'000'000;
// A deadline that is missed by so much was not missed for want of a processor.
constexpr uint64_t kStoppedNs = 2 * kSecondNs;

std::string directory_of(const std::string& path) {
  return path.substr(0, std::max<size_t>(path.rfind('/'), 1));
}

const char* yes_or_no(bool value) { return value ? "yes" : "no"; }

tunnel::Identity identity_of(const Config& config) {
  return tunnel::make_identity(tunnel::PrivateKey{config.private_key});
}

}  // namespace

Client::Client(const Config& config, const Log& log)
    : config_(config),
      log_(log),
      random_(fill_random),
      identity_(identity_of(config)),
      rights_(config.fwmark),
      network_(log, rights_),
      files_(config.state_directory, config.device),
      stamps_(files_, log),
      return_watch_(config.return_after_ns.value_or(0)),
      dhcp_(identity_.public_key.bytes, random_u64),
      order_(in_order(config.gateways.size())),
      known_addresses_(config.gateways.size()),
      is_choice_due_(chooses_nearest()),
      lane_senses_(config.gateways.size()) {
  path_.set_takes_dhcp(!config.address.has_value());
  path_.set_lan(config.lan);
  last_address_ = files_.read_address();
  if (config.lanes > 1) {
    lanes_ = std::make_unique<Lanes>(config_, log_, identity_, random_, stamps_, counters_, rights_);
  }
}

Client::~Client() = default;

bool Client::open() {
  std::string refusal;
  const auto refuse = [&] {
    log_.error("%s", refusal.c_str());
    network_.undo_start();
    return false;
  };
  const std::string& state = config_.state_directory;
  if (!state.empty() && !make_directory(state)) {
    log_.warning("%s: %s: nothing is kept there", state.c_str(), std::strerror(errno));
  }
  const std::string control = directory_of(config_.control_socket);
  if (!control.empty() && !make_directory(control)) {
    refusal = control + ": " + std::strerror(errno);
    return refuse();
  }
  const auto place = config_.sandbox ? HostRights::Place::in_child : HostRights::Place::here;
  if (!rights_.open(place, refusal)) return refuse();
  if (config_.dns == Dns::kAuto && !network_.open_dns(config_.sandbox)) {
    refusal = std::string("a child to run other programs: ") + std::strerror(errno);
    return refuse();
  }
  if (config_.kill_switch) network_.set_kill_switch(config_.routes);
  if (!network_.open(journal_path_of(config_.control_socket), refusal)) return refuse();
  if (!open_device(refusal)) return refuse();
  if (config_.address) refusal = network_.conflict_of(*config_.address, {});
  if (!refusal.empty()) return refuse();
  if (!udp_.open(config_.listen_port, rights_, refusal)) return refuse();
  if (!config_.offloads) udp_.forgo_segments();
  if (lanes_) lanes_->set_socket(udp_);

  const sigset_t wanted = ending_signals();
  epoll_ = FileDescriptor(epoll_create1(EPOLL_CLOEXEC));
  timer_ = FileDescriptor(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC));
  signals_ = FileDescriptor(signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!epoll_.is_open() || !resolver_.open() || !survey_.open_resolver() ||
      !network_watch_.open() || !watch_all()) {
    refusal = std::string("event loop: ") + std::strerror(errno);
    return refuse();
  }
  if (!control_.open(config_.control_socket, epoll_.get(), kTagControl, refusal)) return refuse();
  const std::array writable{state, control};
  if (config_.sandbox && !give_up_rights(writable, refusal)) return refuse();
  if (lanes_) lanes_->start();
  lane_offer_ = LaneOffer(lanes_max());
  return true;
}

bool Client::watch_all() {
  return watch(tun_.fd(), kTagTun) && watch(udp_.fd(), kTagUdp) &&
         watch(timer_.get(), kTagTimer) && watch(signals_.get(), kTagSignal) &&
         watch(resolver_.fd(), kTagResolver) &&
         watch(survey_.resolver_fd(), kTagSurveyResolver) &&
         watch(network_watch_.netlink_fd(), kTagNetwork) &&
         watch(network_watch_.clock_fd(), kTagClock) &&
         (!lanes_ || watch(lanes_->mail_fd(), kTagLanes)) &&
         (network_.dns_fd() < 0 || watch(network_.dns_fd(), kTagDns)) &&
         (rights_.fd() < 0 || watch(rights_.fd(), kTagRights));
}

// A kernel without Landlock or seccomp is no reason to be without a tunnel.
bool Client::give_up_rights(std::span<const std::string> writable_directories,
                            std::string& refusal) {
  if (!drop_privileges(kNoRights, refusal)) return false;
  std::string lack;
  if (!confine_files(writable_directories, lack)) log_.info("%s", lack.c_str());
  if (!enter_sandbox(Sandbox::client, lack)) log_.warning("%s", lack.c_str());
  return true;
}

sigset_t Client::ending_signals() {
  sigset_t ending;
  sigemptyset(&ending);
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    struct sigaction before{};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaddset(&ending, signal);
  }
  return ending;
}

// A device of many queues would take a second client's as further ones. The name of an abstract
// socket is one in its network namespace, as the device's is, and goes with its owner.
bool Client::lock_device(std::string& refusal) {
  device_lock_ = FileDescriptor(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string text = "adit-client " + config_.device;
  text.copy(name.sun_path + 1, sizeof name.sun_path - 1);
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (bind(device_lock_.get(), reinterpret_cast<const sockaddr*>(&name), bytes) == 0) return true;
  refusal = "device " + config_.device + ": " +
            (errno == EADDRINUSE ? "another adit-client has it" : std::strerror(errno));
  return false;
}

bool Client::open_device(std::string& refusal) {
  if (lanes_ && !lock_device(refusal)) return false;
  const Tun::Queues queues = lanes_ ? Tun::Queues::many : Tun::Queues::one;
  if (!tun_.open(config_.device, config_.offloads, queues, refusal)) return false;
  if (lanes_ && !lanes_->open(tun_, refusal)) return false;
  network_.set_device(tun_.name(), tun_.interface_index());
  writer_.learn_kinds();
  return true;
}

bool Client::watch(int fd, Tag tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

bool Client::run() {
  started_ns_ = now_ns();
  sleep_meter_.slept(started_ns_, awake_ns());  // from here on
  set_heartbeat(started_ns_);
  log_.info("device %s, UDP port %u, public key %s", tun_.name().c_str(), udp_.local_port(),
            tunnel::to_base64(identity_.public_key.bytes).c_str());
  log_.info("large packets: device TCP %s, UDP %s; socket UDP_SEGMENT %s, UDP_GRO %s",
            yes_or_no(tun_.has_tcp_offload()), yes_or_no(tun_.has_udp_offload()),
            yes_or_no(udp_.sends_segments()), yes_or_no(udp_.receives_segments()));
  begin_attempt(started_ns_);
  while (!stopping_ && !failed_) {
    arm_timer();
    const uint64_t due_ns = std::max(armed_ns_, now_ns());  // what took long itself is no sleep
    std::array<epoll_event, 8> events;
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    // One look at the clock a turn: what a turn does takes microseconds.
    const uint64_t turn_ns = now_ns();
    if (was_stopped(due_ns, turn_ns)) on_awake(turn_ns);
    for (int i = 0; i < count; ++i) on_event(static_cast<Tag>(events[i].data.u64), turn_ns);
    run_timers(turn_ns);
    if (rights_.is_lost()) fail("the child that may change this host's network is gone");
  }
  shut_down();
  return !failed_;
}

void Client::on_event(Tag tag, uint64_t now_ns) {
  switch (tag) {
    case kTagTun:
      return on_tun_readable(now_ns);
    case kTagUdp:
      return on_udp_readable(now_ns);
    case kTagCanary:
      return on_canary_readable(now_ns);
    case kTagTimer: {
      uint64_t expirations;
      armed_ns_ = 0;  // it has gone off, and is to be set anew whatever the deadline
      // Read only to make it quiet; run_timers() looks at every deadline anyway.
      if (read(timer_.get(), &expirations, sizeof expirations) < 0) return;
      return;
    }
    case kTagSignal: {
      signalfd_siginfo signal;
      if (read(signals_.get(), &signal, sizeof signal) == sizeof signal) stopping_ = true;
      return;
    }
    case kTagResolver:
      return on_resolved(now_ns);
    case kTagSurveyResolver:
      return survey_.on_resolved(now_ns);
    case kTagSurvey:
      return survey_.on_readable(inbound_, now_ns);
    case kTagNetwork:
      return on_network_readable(now_ns);
    case kTagClock:
      return on_clock_set(now_ns);
    case kTagLanes:
      return lanes_->on_mail(now_ns, [this](auto reject) { count_reject(reject); });
    case kTagDns:
      return network_.on_dns_readable();
    case kTagRights:
      return rights_.on_readable();
    case kTagControl:
      return control_.on_readable([this](const std::string& request) -> std::string {
        if (request == "status") return to_text(make_status());
        if (request == "status json") return to_json(make_status());
        if (request == "end") {
          stopping_ = true;
          return "ending\n";
        }
        return "unknown request\n";
      });
  }
}

void Client::run_timers(uint64_t now_ns) {
  path_.expire(now_ns);
  if (now_ns >= look_ns_) look_at_network(now_ns);
  mend_network(now_ns);
  if (phase_ == Phase::waiting && now_ns >= retry_ns_) begin_attempt(now_ns);
  watch_gateways(now_ns);
  if (phase_ == Phase::handshaking) offer_lanes(now_ns);
  if (peer_) act(peer_->tick(now_ns, tai64n_now()), now_ns);
  run_second(now_ns);
  if (phase_ != Phase::waiting && now_ns >= attempt_ends_ns_) on_overdue(now_ns);
  if (lanes_) tend_lanes(now_ns);
  if (has_tunnel()) watch_path(now_ns);
  if (phase_ == Phase::up) learn_heartbeat(now_ns);
  if (has_tunnel() && now_ns >= next_heartbeat_ns_) {
    next_heartbeat_ns_ = now_ns + heartbeat_ns_;
    send_heartbeat(now_ns);
    if (!is_stock()) path_watch_.on_probe(now_ns, round_trip_);
  }
  if (has_tunnel()) probe_path_mtu(now_ns);
  if (has_tunnel() && dhcp_start_due_) {
    dhcp_start_due_ = false;
    act(dhcp_.start(now_ns, last_address_), now_ns);
  }
  if (has_tunnel()) act(dhcp_.tick(now_ns), now_ns);
}

uint64_t Client::next_deadline_ns() const {
  uint64_t next_ns = std::min({look_ns_, mend_ns_, path_.next_expiry_ns()});
  if (lanes_) next_ns = std::min(next_ns, lanes_->next_expiry_ns());
  if (phase_ == Phase::waiting) return std::min(retry_ns_, next_ns);
  next_ns = std::min({next_ns, attempt_ends_ns_, survey_.next_deadline_ns()});
  if (waits_to_return()) next_ns = std::min(next_ns, next_round_ns_);
  if (peer_) next_ns = std::min(next_ns, peer_->next_deadline_ns());
  if (second_) next_ns = std::min(next_ns, second_->next_deadline_ns());
  if (phase_ == Phase::handshaking) next_ns = std::min(next_ns, lane_offer_.next_deadline_ns());
  if (lanes_ && outer_path_) next_ns = std::min(next_ns, lanes_->next_deadline_ns());
  if (has_tunnel()) {
    next_ns = std::min({next_ns, next_heartbeat_ns_, dhcp_.next_deadline_ns()});
    // Without a way there is nothing to probe.
    if (watches_path()) next_ns = std::min(next_ns, path_watch_.next_deadline_ns());
    if (outer_path_) next_ns = std::min(next_ns, path_mtu_.next_deadline_ns());
    if (phase_ == Phase::up && learns_heartbeat() && outer_path_) {
      next_ns = std::min({next_ns, next_test_ns_, binding_test_.next_deadline_ns()});
    }
  }
  return next_ns;
}

// Most turns change no deadline.
void Client::arm_timer() {
  itimerspec when{};
  const uint64_t next_ns = next_deadline_ns();
  if (next_ns == armed_ns_) return;
  armed_ns_ = next_ns;
  if (next_ns != kNever) {
    when.it_value.tv_sec = static_cast<time_t>(next_ns / kSecondNs);
    // Zero would disarm the timer; a deadline of 0 is merely long past.
    when.it_value.tv_nsec = std::max<long>(static_cast<long>(next_ns % kSecondNs), 1);
  }
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

// The whole machine, without its clocks' telling of it, or this program.
bool Client::was_stopped(uint64_t due_ns, uint64_t now_ns) const {
  return now_ns > due_ns && now_ns - due_ns > kStoppedNs;
}

void Client::lose_device(const char* how) {
  fail("device " + tun_.name() + " was " + how);
}

void Client::fail(std::string reason) {
  if (failed_) return;
  failed_ = true;
  last_error_ = std::move(reason);
  log_.error("%s", last_error_.c_str());
}

void Client::shut_down() {
  const uint64_t turn_ns = now_ns();
  if (lanes_) lanes_->stop();
  // The kernel has the packet when this returns, and sends it though the socket closes.
  act(dhcp_.release(turn_ns), turn_ns);
  end_second(turn_ns);
  if (failed_) {
    // Nobody asked for the end: what a kill switch refuses stays refused until the next start.
    network_.withdraw();
  } else {
    network_.undo_all();
  }
  log_.info("ended");
  log_.text(to_text(make_status()));
}

}  // namespace adit::client
