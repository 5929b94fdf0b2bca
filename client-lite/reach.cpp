#include "client-lite/reach.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "client-lite/clock.h"
#include "client-lite/file_descriptor.h"
#include "client-lite/packet_path.h"
#include "client-lite/path_mtu.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/noise.h"

namespace adit::client {
namespace {

constexpr unsigned kTries = 3;
constexpr uint64_t kTryNs = 1'000'000'000;
constexpr unsigned kHopsMax = 16;
constexpr uint64_t kHopsNs = 700'000'000;
constexpr uint32_t kHeadersBytes = 20 + 8;
// How long a probe of the path's MTU may take: a few round trips, within these bounds.
constexpr uint64_t kProbeNsMin = 250'000'000;
constexpr uint64_t kProbeNsMax = 1'000'000'000;
// The largest packet looked for, where no greater `mtu` is configured.
constexpr unsigned kUsualMtuBytes = 1500;

// The least stamp above `stamp`: see Peer, which does the same.
tunnel::Tai64n above(tunnel::Tai64n stamp) {
  for (size_t i = stamp.size(); i-- > 0;) {
    if (++stamp[i] != 0) break;
  }
  return stamp;
}

// One connected socket: errors of the way come back to it.
class Probe {
 public:
  Probe(const Config& config, const Endpoint& endpoint)
      : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_port = htons(config.listen_port);
    const int on = 1;
    setsockopt(socket_.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on);
    if (config.fwmark) {
      setsockopt(socket_.get(), SOL_SOCKET, SO_MARK, &*config.fwmark, sizeof *config.fwmark);
    }
    // The configured port is what a firewall may know; where it is taken, any other.
    if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) {
      local.sin_port = 0;
      bind(socket_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local);
    }
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = endpoint.address.value.raw();
    to.sin_port = endpoint.port.raw();
    if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      note(errno);
    }
  }

  bool failed() const { return failure_ != Reach::silent; }
  Reach::Outcome failure() const { return failure_; }

  void set_ttl(int ttl) { setsockopt(socket_.get(), IPPROTO_IP, IP_TTL, &ttl, sizeof ttl); }
  void set_discovery(int how) {
    setsockopt(socket_.get(), IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how);
  }
  uint32_t path_mtu_bytes() const {
    int bytes = 0;
    socklen_t size = sizeof bytes;
    if (getsockopt(socket_.get(), IPPROTO_IP, IP_MTU, &bytes, &size) != 0) return 0;
    return static_cast<uint32_t>(bytes);
  }

  void send(const void* bytes, size_t size) {
    if (::send(socket_.get(), bytes, size, 0) >= 0) return;
    if (errno == EPERM || errno == EACCES || errno == ENETUNREACH) return note(errno);
    // The kernel has reported an earlier packet's error in this one's place.
    drain_errors();
    ::send(socket_.get(), bytes, size, 0);
  }
  // False: the link does not take it.
  bool send_whole(std::span<const uint8_t> datagram) {
    if (::send(socket_.get(), datagram.data(), datagram.size(), 0) >= 0) return true;
    if (errno != EMSGSIZE) return true;  // as one that is lost on the way
    drain_errors();
    return false;
  }
  // The MTU of a link that a packet did not fit, as it or its router told since the last call; 0:
  // none did.
  uint32_t take_told_mtu() { return std::exchange(told_mtu_bytes_, 0); }
  // What comes until the deadline; 0: nothing, or an error that ends it all.
  size_t receive(std::span<uint8_t> room, uint64_t deadline_ns) {
    while (!failed()) {
      const uint64_t now = now_ns();
      if (now >= deadline_ns) return 0;
      pollfd wait{socket_.get(), POLLIN, 0};
      poll(&wait, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1);
      drain_errors();
      const ssize_t got = recv(socket_.get(), room.data(), room.size(), 0);
      if (got > 0) return static_cast<size_t>(got);
    }
    return 0;
  }

  unsigned last_hop = 0;
  Ipv4Address last_hop_address;

 private:
  void note(int error) {
    failure_ = error == ENETUNREACH || error == EHOSTUNREACH ? Reach::no_route
                                                             : Reach::not_permitted;
  }

  void drain_errors() {
    for (;;) {
      uint8_t payload = 0;  // of the packet that an error is about: its TTL, if it was a hop's
      iovec part{&payload, sizeof payload};
      alignas(cmsghdr) std::array<uint8_t, 512> control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      if (recvmsg(socket_.get(), &message, MSG_ERRQUEUE) < 0) return;
      for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
           item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) {
          on_error(item, payload);
        }
      }
    }
  }

  void on_error(cmsghdr* item, uint8_t payload) {
    sock_extended_err error;
    std::memcpy(&error, CMSG_DATA(item), sizeof error);
    const bool is_icmp = error.ee_origin == SO_EE_ORIGIN_ICMP;
    if (error.ee_errno == EMSGSIZE) told_mtu_bytes_ = error.ee_info;
    if (is_icmp && error.ee_type == ICMP_DEST_UNREACH) on_unreachable(error.ee_code);
    if (!is_icmp || error.ee_type != ICMP_TIME_EXCEEDED) return;
    if (payload <= last_hop || payload > kHopsMax) return;
    sockaddr_in offender;
    std::memcpy(&offender, CMSG_DATA(item) + sizeof error, sizeof offender);
    last_hop = payload;
    last_hop_address = {Be32::from_raw(offender.sin_addr.s_addr)};
  }

  void on_unreachable(uint8_t code) {
    switch (code) {
      case ICMP_FRAG_NEEDED:
        return;  // the kernel has learnt the path's MTU from it
      case ICMP_PORT_UNREACH:
        failure_ = Reach::closed;
        return;
      case ICMP_NET_ANO:
      case ICMP_HOST_ANO:
      case ICMP_PKT_FILTERED:
        failure_ = Reach::prohibited;
        return;
      default:
        failure_ = Reach::no_route;
    }
  }

  FileDescriptor socket_;
  Reach::Outcome failure_ = Reach::silent;
  uint32_t told_mtu_bytes_ = 0;
};

class Handshake {
 public:
  Handshake(const Config& config, const GatewayConfig& gateway, const StateFiles& files)
      : random_(fill_random),
        local_(tunnel::make_identity(tunnel::PrivateKey{config.private_key})),
        remote_(tunnel::make_remote_identity(
            local_, tunnel::PublicKey{gateway.public_key},
            tunnel::PresharedKey{config.preshared_key.value_or(KeyBytes{})})),
        jar_(tunnel::PublicKey{gateway.public_key}),
        files_(files),
        stamp_(files.read_stamp().value_or(tunnel::Tai64n{})) {
    if (!gateway.stock_wireguard) offered_ = tunnel::set_of(config.protections);
  }

  bool is_possible() const { return remote_.has_value(); }

  void send(Probe& probe) {
    stamp_ = std::max(tai64n_now(), above(stamp_));
    files_.write_stamp(stamp_);
    tunnel::InitiationMessage message{};
    state_ = tunnel::create_initiation(local_, *remote_, static_cast<uint32_t>(random_u64()),
                                       offered_, stamp_, random_, message);
    jar_.stamp({reinterpret_cast<uint8_t*>(&message), sizeof message}, now_ns());
    sent_ns_ = now_ns();
    probe.send(&message, sizeof message);
  }

  // Nothing: not for us.
  std::optional<Reach::Outcome> take(std::span<const uint8_t> bytes, Reach& reach) {
    if (!state_) return std::nullopt;
    if (bytes.size() == sizeof(tunnel::CookieReplyMessage) && bytes[0] == 3) {
      tunnel::CookieReplyMessage reply;
      std::memcpy(&reply, bytes.data(), sizeof reply);
      return jar_.on_reply(reply, now_ns()) ? std::optional(Reach::refuses_key) : std::nullopt;
    }
    if (bytes.size() != sizeof(tunnel::ResponseMessage) || bytes[0] != 2) return std::nullopt;
    if (!tunnel::check_mac1(local_.public_key, bytes)) return std::nullopt;
    tunnel::ResponseMessage response;
    std::memcpy(&response, bytes.data(), sizeof response);
    if (response.receiver_index.host() != state_->local_index) return std::nullopt;
    reach.round_trip_ns = now_ns() - sent_ns_;
    session_ = tunnel::open_response(local_, *remote_, *state_, response, now_ns());
    if (!session_) return Reach::differs;
    reach.protection = tunnel::protection_name(session_->protection);
    return Reach::answered;
  }

  // The session that was made; answered.
  const tunnel::Session& session() const { return *session_; }

 private:
  tunnel::RandomSource random_;
  tunnel::Identity local_;
  std::optional<tunnel::RemoteIdentity> remote_;
  tunnel::CookieJar jar_;
  const StateFiles& files_;
  tunnel::Tai64n stamp_;
  tunnel::ProtectionSet offered_;
  std::optional<tunnel::InitiatorState> state_;
  uint64_t sent_ns_ = 0;
  std::optional<tunnel::Session> session_;
};

// A gateway asks for a cookie while it is busy; one that asks for another, having got the first,
// and never answers, is there and does not take the key.
Reach::Outcome shake_hands(Handshake& handshake, Probe& probe, Reach& reach) {
  Reach::Outcome outcome = Reach::silent;
  std::array<uint8_t, 256> room;
  for (unsigned attempt = 0; attempt < kTries && !probe.failed(); ++attempt) {
    handshake.send(probe);
    const uint64_t deadline_ns = now_ns() + kTryNs;
    while (const size_t bytes = probe.receive(room, deadline_ns)) {
      const auto taken = handshake.take(std::span(room).first(bytes), reach);
      if (!taken) continue;
      outcome = *taken;
      if (outcome != Reach::refuses_key) return outcome;
      break;
    }
  }
  return probe.failed() ? probe.failure() : outcome;
}

// Packets that are to end on the way, each told by its only byte: the routers that say so show how
// far it is open.
void count_hops(Probe& probe) {
  std::array<uint8_t, 256> room;
  for (uint8_t ttl = 1; ttl <= kHopsMax; ++ttl) {
    probe.set_ttl(ttl);
    probe.send(&ttl, sizeof ttl);
  }
  const uint64_t deadline_ns = now_ns() + kHopsNs;
  while (probe.receive(room, deadline_ns) != 0) continue;
}

// For a stock peer, which answers no probes: a packet as long as the first link takes, that must
// not be cut. If a later link is narrower, its router may say so. The gateway drops it, for it is
// no message.
uint32_t told_mtu_bytes(Probe& probe) {
  const uint32_t first_bytes = probe.path_mtu_bytes();
  if (first_bytes <= kHeadersBytes || first_bytes > 9000) return first_bytes;
  probe.set_discovery(IP_PMTUDISC_DO);
  const std::string longest(first_bytes - kHeadersBytes, '\0');
  probe.send(longest.data(), longest.size());
  std::array<uint8_t, 256> room;
  const uint64_t deadline_ns = now_ns() + kHopsNs;
  while (probe.receive(room, deadline_ns) != 0) continue;
  return probe.path_mtu_bytes();
}

// As the client measures it: padded probes in the session just made, answered as long. What a link
// or a router tells is no more than the size to try next.
class MtuSearch {
 public:
  MtuSearch(Probe& probe, const Endpoint& gateway, const tunnel::Session& session,
            uint64_t round_trip_ns)
      : probe_(probe),
        gateway_(gateway),
        wait_ns_(std::clamp(3 * round_trip_ns, kProbeNsMin, kProbeNsMax)) {
    path_.set_gateway(gateway);
    path_.install(session);
    probe_.set_discovery(IP_PMTUDISC_PROBE);
  }

  // 0: nothing so long as the least that is looked for was answered.
  uint32_t run(unsigned largest_bytes) {
    search_.start(now_ns(), static_cast<uint16_t>(largest_bytes));
    while (search_.is_searching() && !probe_.failed()) {
      const auto asked = search_.tick(now_ns(), wait_ns_, random_u64() | 1);
      if (!asked) continue;
      const bool fits = send(*asked);
      if (fits) wait_for_reply();
      const uint32_t told_bytes = probe_.take_told_mtu();
      if (told_bytes >= PathMtu::kLeastBytes && told_bytes < asked->bytes) {
        search_.start(now_ns(), static_cast<uint16_t>(told_bytes));
      } else if (!fits) {
        search_.on_refused(now_ns());
      }
    }
    return is_answered_ ? search_.bytes() : 0;
  }

 private:
  bool send(const PathMtu::Probe& asked) {
    const auto wrapped = path_.wrap_padded_probe(*buffer_, asked.bytes, asked.stamp, {});
    return probe_.send_whole(wrapped.datagram);
  }

  void wait_for_reply() {
    while (const size_t bytes = probe_.receive(buffer_->bytes, search_.next_deadline_ns())) {
      const uint64_t turn_ns = now_ns();
      const auto datagram = std::span(buffer_->bytes).first(bytes);
      const Received received = path_.receive(datagram, gateway_, turn_ns);
      if (received.kind != Received::probe_reply) continue;
      if (!search_.on_reply(received.stamp, turn_ns)) continue;
      is_answered_ = true;
      return;
    }
  }

  Probe& probe_;
  const Endpoint gateway_;
  const uint64_t wait_ns_;
  Counters counters_;
  PacketPath path_{counters_};
  PathMtu search_;
  std::unique_ptr<PacketBuffer> buffer_ = std::make_unique<PacketBuffer>();
  bool is_answered_ = false;
};

}  // namespace

Reach reach(const Config& config, const GatewayConfig& gateway, const Endpoint& endpoint,
            const StateFiles& files) {
  Reach result;
  Handshake handshake(config, gateway, files);
  if (!handshake.is_possible()) {
    result.outcome = Reach::low_order_key;
    return result;
  }
  Probe probe(config, endpoint);
  result.outcome = shake_hands(handshake, probe, result);
  if (result.outcome == Reach::silent) count_hops(probe);
  result.last_hop = probe.last_hop;
  result.last_hop_address = probe.last_hop_address;
  if (result.outcome != Reach::answered) return result;
  if (gateway.stock_wireguard) {
    result.path_mtu_bytes = told_mtu_bytes(probe);
    return result;
  }
  const unsigned wanted_bytes = std::min<unsigned>(config.mtu.value_or(0), kInnerBytesMax);
  MtuSearch search(probe, endpoint, handshake.session(), result.round_trip_ns);
  result.path_mtu_bytes = search.run(std::max(kUsualMtuBytes, wanted_bytes + kOuterOverheadBytes));
  result.is_mtu_measured = true;
  return result;
}

}  // namespace adit::client
