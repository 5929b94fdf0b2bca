#include "client-lite/lanes.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;
// What the threads report is asked for so often: well within PathWatch's second of quiet.
constexpr uint64_t kLookIntervalNs = 250'000'000;

std::optional<uint64_t> ago(uint64_t then_ns, uint64_t now_ns) {
  if (then_ns == 0) return std::nullopt;
  return now_ns - std::min(then_ns, now_ns);
}

}  // namespace

Lanes::Lanes(const Config& config, const Log& log, const tunnel::Identity& identity,
             const tunnel::RandomSource& random, SentStamps& stamps, Counters& counters,
             HostRights& rights)
    : log_(log), sender_(board_, counters, config) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0) {
    mail_in_ = FileDescriptor(ends[0]);
    mail_out_ = FileDescriptor(ends[1]);
  }
  const LaneParts parts{config, log, identity, random, stamps, counters, board_, sender_,
                        rights};
  for (unsigned lane = 1; lane < config.lanes; ++lane) {
    links_.push_back(std::make_unique<LaneLink>(lane, parts));
    threads_.push_back(std::make_unique<LaneThread>(lane, board_, config, mail_in_.get()));
  }
}

bool Lanes::open(const Tun& device, std::string& refusal) {
  if (!mail_out_.is_open()) {
    refusal = std::string("socket between threads: ") + std::strerror(errno);
    return false;
  }
  return std::ranges::all_of(threads_, [&](auto& thread) { return thread->open(device, refusal); });
}

void Lanes::start() {
  std::string refusal;
  for (size_t started = 0; started < threads_.size(); ++started) {
    if (threads_[started]->start(refusal)) continue;
    log_.warning("there is no thread for lane %zu: %s: going on with %zu of %u lanes", started + 1,
                 refusal.c_str(), started + 1, count());
    // With their queues, which nobody would read: the kernel uses those that are left.
    threads_.resize(started);
    links_.resize(started);
  }
}

void Lanes::stop() {
  for (auto& thread : threads_) thread->stop();
}

void Lanes::install(const tunnel::Session& session, const SharedCounter& counter) {
  session_ends_ns_ = session.established_ns + tunnel::kRejectAfterNs;
  board_.change([&](LanesView& view) {
    view.lane[0].session = session;
    view.lane[0].next_counter = counter;
  });
}

void Lanes::drop_session() {
  session_ends_ns_ = kNever;
  board_.change([](LanesView& view) {
    view.lane[0].session = {};
    view.lane[0].next_counter = nullptr;
  });
}

void Lanes::set_socket(const UdpSocket& socket) {
  auto shared = std::make_shared<const UdpSocket>(socket.share());
  board_.change([&](LanesView& view) { view.lane[0].socket = std::move(shared); });
}

void Lanes::set_device(std::optional<Ipv4Interface> address, uint16_t mtu_bytes) {
  board_.change([&](LanesView& view) {
    view.address = address;
    view.mtu_bytes = mtu_bytes;
  });
}

void Lanes::begin(const LaneTunnel& tunnel) {
  end_links();
  tunnel_ = tunnel;
  board_.change([&](LanesView& view) {
    view.lanes = tunnel.lanes;
    view.gateway = tunnel.gateway;
  });
}

// The first attempts are made in the turn's timers, after the packet that opens lane 0.
void Lanes::on_up(uint64_t now_ns) {
  if (!tunnel_ || is_up_) return;
  is_up_ = true;
  for (unsigned lane = 1; lane < tunnel_->lanes; ++lane) links_[lane - 1]->begin(*tunnel_, now_ns);
}

void Lanes::end() {
  end_links();
  tunnel_.reset();
  drop_session();
  // What waits for the gateway that is left goes to no other.
  board_.change([](LanesView& view) { ++view.tunnel; });
}

// First the threads hear that they go on receiving, and then of the end of what they receive in.
void Lanes::move(const LaneTunnel& tunnel) {
  board_.change([](LanesView& view) {
    ++view.moves;
    ++view.tunnel;
  });
  end_links();
  drop_session();
  begin(tunnel);
}

void Lanes::end_links() {
  for (auto& link : links_) link->end();
  is_up_ = false;
}

std::optional<uint64_t> Lanes::take_sent_ns() {
  const uint64_t sent_ns = board_.report(0).sent_ns.load(std::memory_order_relaxed);
  if (sent_ns == seen_sent_ns_) return std::nullopt;
  seen_sent_ns_ = sent_ns;
  return sent_ns;
}

std::optional<LaneMail> Lanes::next_mail() {
  LaneMail mail;
  if (recv(mail_out_.get(), &mail, sizeof mail, MSG_DONTWAIT) != sizeof mail) return std::nullopt;
  return mail;
}

void Lanes::on_path_changed(uint64_t now_ns) {
  for (auto& link : links_) link->on_path_changed(now_ns);
}

void Lanes::on_renewed(uint64_t now_ns) {
  for (auto& link : links_) link->on_tunnel_renewed(now_ns);
}

void Lanes::send_heartbeats(uint64_t now_ns) {
  for (auto& link : links_) link->send_heartbeat(now_ns);
}

void Lanes::expire(uint64_t now_ns) {
  if (now_ns >= session_ends_ns_) drop_session();
  for (auto& link : links_) link->expire(now_ns);
  sender_.refresh(now_ns);
  sender_.expire(now_ns);
}

uint64_t Lanes::next_expiry_ns() const {
  uint64_t next_ns = std::min(session_ends_ns_, sender_.next_expiry_ns());
  for (const auto& link : links_) next_ns = std::min(next_ns, link->session_ends_ns());
  return next_ns;
}

std::optional<unsigned> Lanes::tick(const RoundTrip& round_trip, uint64_t heartbeat_ns,
                                    uint64_t now_ns) {
  if (now_ns < next_deadline_ns()) return std::nullopt;
  next_look_ns_ = now_ns + kLookIntervalNs;
  for (unsigned lane = 1; lane < granted(); ++lane) {
    LaneLink& link = *links_[lane - 1];
    link.tick(round_trip, heartbeat_ns, now_ns);
    const auto since_ns = link.useless_since_ns();
    if (since_ns && now_ns >= *since_ns + kDownNsMax) return lane;
  }
  return std::nullopt;
}

uint64_t Lanes::next_deadline_ns() const {
  if (!tunnel_) return kNever;
  uint64_t next_ns = next_look_ns_;
  for (const auto& link : links_) next_ns = std::min(next_ns, link->next_deadline_ns());
  return next_ns;
}

void Lanes::add_counters(Counters& counters) const {
  for (const auto& thread : threads_) counters.add(thread->counters());
}

// Lane 0's handshakes and port are the tunnel's own: its owner fills them in.
std::vector<LaneStatus> Lanes::make_status(uint64_t now_ns) const {
  std::vector<LaneStatus> all(granted());
  for (unsigned lane = 0; lane < all.size(); ++lane) {
    LaneStatus& status = all[lane];
    const LaneReport& report = board_.report(lane);
    status.tx_bytes = report.tx_bytes.load(std::memory_order_relaxed);
    status.rx_bytes = report.rx_bytes.load(std::memory_order_relaxed);
    if (lane == 0) continue;
    const LaneLink& link = *links_[lane - 1];
    status.is_up = tunnel_.has_value() && is_up_ && !link.is_down();
    status.local_port = link.local_port();
    status.last_handshake_ago_ns = ago(link.last_handshake_ns(), now_ns);
    status.last_heard_ago_ns = ago(link.last_heard_ns(), now_ns);
  }
  return all;
}

}  // namespace adit::client
