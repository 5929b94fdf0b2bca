#include "lib/dhcp/client.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace adit::dhcp {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kBackoffMinNs = 1 * kSecondNs;
constexpr uint64_t kBackoffMaxNs = 16 * kSecondNs;
constexpr uint64_t kExtendIntervalMinNs = 10 * kSecondNs;
constexpr unsigned kRequestTriesMax = 4;  // RFC 2131 §3.1, step 5, gives up after four, too
// Our server stays silent where it has no record of an address, so this is a short try.
constexpr unsigned kRebootTriesMax = 2;
constexpr uint16_t kMtuBytesMin = 576;  // RFC 791: what every link's hosts must take
constexpr int kMaskBitsMin = 8;
// What we say we take (option 57): an IPv4 datagram that fits any tunnel's MTU.
constexpr uint16_t kDatagramBytesMax = 1280;
constexpr auto kBroadcast = Ipv4Address::from_octets(255, 255, 255, 255);

// RFC 3442: a client that asks for both asks for classless routes before the router.
constexpr uint8_t kParameterRequests[] = {
    kOptionSubnetMask, kOptionClasslessRoutes, kOptionRouter,      kOptionDns,
    kOptionMtu,        kOptionVendorSpecific,  kOptionRenewalTime, kOptionRebindingTime,
};

bool is_usable(Ipv4Address address) {
  return !address.is_zero() && !address.is_broadcast() && !address.is_multicast() &&
         !address.is_loopback();
}

// A tunnel is point to point: /32 serves where the mask is none. Nor is one that would take half of
// the Internet, without a route's being asked for.
uint8_t mask_length_bits(std::optional<Ipv4Address> mask) {
  const uint32_t bits = mask ? mask->host() : 0;
  const int ones = std::countl_one(bits);
  const bool is_sane = ones == std::popcount(bits) && ones >= kMaskBitsMin;
  return is_sane ? static_cast<uint8_t>(ones) : 32;
}

// The times of a lease that counts from `from_ns`. T1 < T2 < lease, or RFC 2131's defaults.
void set_times(ClientLease& lease, const Message& ack, uint64_t from_ns) {
  lease.lease_s = std::max(ack.lease_s.value_or(0), kLeaseSecondsMin);
  if (lease.lease_s == kLeaseInfinite) {
    lease.t1_ns = lease.t2_ns = lease.expires_ns = kNever;
    return;
  }
  const uint64_t lease_ns = lease.lease_s * kSecondNs;
  uint64_t t1_ns = ack.t1_s ? *ack.t1_s * kSecondNs : lease_ns / 2;
  uint64_t t2_ns = ack.t2_s ? *ack.t2_s * kSecondNs : lease_ns / 8 * 7;
  if (t1_ns == 0 || t1_ns >= t2_ns || t2_ns >= lease_ns) {
    t1_ns = lease_ns / 2;
    t2_ns = lease_ns / 8 * 7;
  }
  lease.t1_ns = from_ns + t1_ns;
  lease.t2_ns = from_ns + t2_ns;
  lease.expires_ns = from_ns + lease_ns;
}

ClientLease read_lease(const Message& ack, uint64_t from_ns) {
  ClientLease lease;
  lease.address = {ack.yiaddr, mask_length_bits(ack.subnet_mask)};
  lease.server = *ack.server_id;
  lease.router = ack.router;
  for (const Ipv4Address server : ack.dns) {
    if (is_usable(server)) lease.dns.push_back(server);
  }
  lease.routes = ack.routes;
  if (ack.mtu_bytes >= kMtuBytesMin) lease.mtu_bytes = ack.mtu_bytes;
  if (ack.heartbeat_s > uint16_t{0}) lease.heartbeat_s = ack.heartbeat_s;
  set_times(lease, ack, from_ns);
  return lease;
}

}  // namespace

Client::Step Client::start(uint64_t now_ns, std::optional<Ipv4Address> previous_address) {
  lease_.reset();
  refusals_ = 0;
  wanted_ = previous_address;
  if (!previous_address || !is_usable(*previous_address)) {
    wanted_.reset();
    return begin_selecting(now_ns);
  }
  enter(State::rebooting, now_ns);
  return retransmit(now_ns);
}

Client::Step Client::on_message(uint64_t now_ns, const Message& message) {
  if (message.op != Op::reply || message.xid != xid_ || !message.server_id) return {};
  const bool waits_for_ack = state_ == State::requesting || state_ == State::rebooting ||
                             state_ == State::renewing || state_ == State::rebinding;
  switch (message.type) {
    case MessageType::offer:
      if (state_ != State::selecting || !is_usable(message.yiaddr)) return {};
      return begin_requesting(now_ns, message);
    case MessageType::ack: {
      // RFC 4039 §3.1: an ACK answers a DISCOVER only if it says Rapid Commit.
      const bool commits = state_ == State::selecting && message.rapid_commit;
      if (!waits_for_ack && !commits) return {};
      if (!message.lease_s || !is_usable(message.yiaddr)) return {};
      return accept(now_ns, message);
    }
    case MessageType::nak:
      if (!waits_for_ack && state_ != State::selecting) return {};
      return on_nak(now_ns, message);
    default:
      return {};
  }
}

Client::Step Client::tick(uint64_t now_ns) {
  if (now_ns < deadline_ns_) return {};
  switch (state_) {
    case State::stopped:
      return {};
    case State::init:
      return begin_selecting(now_ns);
    case State::selecting:
      return retransmit(now_ns);
    case State::requesting:
      if (tries_ >= kRequestTriesMax) return begin_selecting(now_ns);
      return retransmit(now_ns);
    case State::rebooting:
      if (tries_ >= kRebootTriesMax) return begin_selecting(now_ns);
      return retransmit(now_ns);
    case State::bound:
    case State::renewing:
    case State::rebinding:
      // A sleeping machine may wake up beyond several of these at once: the latest counts.
      if (now_ns >= lease_->expires_ns) return lose(now_ns);
      if (state_ != State::rebinding && now_ns >= lease_->t2_ns) {
        return begin_extending(now_ns, State::rebinding);
      }
      if (state_ == State::bound) return begin_extending(now_ns, State::renewing);
      return retransmit(now_ns);
  }
  return {};
}

// RFC 2131 §4.4.6. Sent once: should it be lost, the server ends the lease with the tunnel.
Client::Step Client::release(uint64_t now_ns) {
  Step step;
  if (lease_) {
    enter(State::stopped, now_ns);
    Message message = make_message(MessageType::release, now_ns);
    message.ciaddr = lease_->address.address;
    message.server_id = lease_->server;
    step.send = Datagram{lease_->address.address, lease_->server, message};
  }
  state_ = State::stopped;
  deadline_ns_ = kNever;
  lease_.reset();
  return step;
}

Client::Step Client::begin_selecting(uint64_t now_ns, Event event) {
  enter(State::selecting, now_ns);
  Step step = retransmit(now_ns);
  step.event = event;
  return step;
}

// RFC 2131 §4.4.1: the REQUEST has the xid of the DISCOVER and of the offer.
Client::Step Client::begin_requesting(uint64_t now_ns, const Message& offer) {
  state_ = State::requesting;
  tries_ = 0;
  wanted_ = offer.yiaddr;
  offering_server_ = *offer.server_id;
  return retransmit(now_ns);
}

Client::Step Client::begin_extending(uint64_t now_ns, State state) {
  enter(state, now_ns);
  return retransmit(now_ns);
}

Client::Step Client::accept(uint64_t now_ns, const Message& ack) {
  lease_ = read_lease(ack, sent_ns_);
  wanted_ = ack.yiaddr;
  refusals_ = 0;
  state_ = State::bound;
  deadline_ns_ = lease_->t1_ns;
  // An answer later than T1 is a lease that tick() renews or ends at once.
  deadline_ns_ = std::max(deadline_ns_, now_ns);
  Step step;
  step.event = Event::configured;
  return step;
}

Client::Step Client::on_nak(uint64_t now_ns, const Message& nak) {
  const State before = state_;
  wanted_.reset();
  lease_.reset();
  Step step;
  if (before == State::rebooting) {
    // The old address is no longer ours, which is no refusal of a new one.
    step = begin_selecting(now_ns);
  } else if (before == State::renewing || before == State::rebinding) {
    step = begin_selecting(now_ns, Event::lost);
  } else {
    state_ = State::init;
    deadline_ns_ = now_ns + backoff_ns(refusals_);
    ++refusals_;
    step.event = Event::refused;
  }
  step.text = nak.text;
  return step;
}

Client::Step Client::lose(uint64_t now_ns) {
  wanted_ = lease_->address.address;
  lease_.reset();
  return begin_selecting(now_ns, Event::lost);
}

// Sends this state's query, again or for the first time, and sets the deadline for the next.
Client::Step Client::retransmit(uint64_t now_ns) {
  Datagram datagram = make_query(now_ns);
  sent_ns_ = now_ns;
  if (state_ == State::renewing || state_ == State::rebinding) {
    const uint64_t end_ns = state_ == State::renewing ? lease_->t2_ns : lease_->expires_ns;
    const uint64_t half_ns = std::max((end_ns - now_ns) / 2, kExtendIntervalMinNs);
    deadline_ns_ = std::min(now_ns + with_jitter_ns(half_ns), end_ns);
  } else {
    deadline_ns_ = now_ns + backoff_ns(tries_);
  }
  ++tries_;
  Step step;
  step.send = datagram;
  return step;
}

// A new exchange with the server: new transaction, first try.
void Client::enter(State state, uint64_t now_ns) {
  state_ = state;
  tries_ = 0;
  xid_ = static_cast<uint32_t>(random_());
  exchange_began_ns_ = now_ns;
}

// What every message of a client has.
Message Client::make_message(MessageType type, uint64_t now_ns) const {
  Message message;
  message.type = type;
  message.xid = xid_;
  const uint64_t elapsed_s = (now_ns - exchange_began_ns_) / kSecondNs;
  message.secs = static_cast<uint16_t>(std::min<uint64_t>(elapsed_s, UINT16_MAX));
  message.client_id = client_id_;
  message.vendor_class.assign(kVendorClass);
  return message;
}

// This state's query; RFC 2131 §4.3.2 and table 5 say which fields each has.
Datagram Client::make_query(uint64_t now_ns) const {
  const auto type = state_ == State::selecting ? MessageType::discover : MessageType::request;
  Datagram datagram{Ipv4Address{}, kBroadcast, make_message(type, now_ns)};
  Message& message = datagram.message;
  message.parameter_requests.assign(kParameterRequests);
  message.max_message_bytes = kDatagramBytesMax;
  if (state_ == State::renewing || state_ == State::rebinding) {
    message.ciaddr = lease_->address.address;
    datagram.source = message.ciaddr;
    if (state_ == State::renewing) datagram.destination = lease_->server;
    return datagram;
  }
  // The client has neither a hardware address nor yet this one to answer to by unicast.
  message.broadcast = true;
  message.requested_address = wanted_;
  message.rapid_commit = state_ == State::selecting;
  if (state_ == State::requesting) message.server_id = offering_server_;
  return datagram;
}

uint64_t Client::backoff_ns(unsigned tries) {
  const unsigned doublings = std::min(tries, 4u);
  static_assert(kBackoffMinNs << 4 == kBackoffMaxNs);
  return with_jitter_ns(kBackoffMinNs << doublings);
}

// RFC 2131 §4.1 randomizes by a second; 10 % either way does the same for shorter intervals.
uint64_t Client::with_jitter_ns(uint64_t interval_ns) {
  const uint64_t spread_ns = interval_ns / 5;
  return interval_ns - spread_ns / 2 + random_() % (spread_ns + 1);
}

}  // namespace adit::dhcp
