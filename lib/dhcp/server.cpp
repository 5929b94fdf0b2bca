#include "lib/dhcp/server.h"

#include <algorithm>
#include <cassert>

namespace adit::dhcp {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kOfferHoldNs = 30 * kSecondNs;
// An address that a client declined is kept back this long: whoever uses it may be gone then.
constexpr uint64_t kQuarantineNs = 600 * kSecondNs;

uint64_t expiry_ns(uint64_t now_ns, const PoolConfig& pool) {
  return pool.lease_s == kLeaseInfinite ? UINT64_MAX : now_ns + pool.lease_s * kSecondNs;
}

bool matches(const Lease& lease, const Assignment& assignment) {
  if (lease.pool != assignment.pool || lease.fixed != assignment.fixed.has_value()) return false;
  return !lease.fixed || lease.address == *assignment.fixed;
}

// RFC 2131 §4.3.1, table 3: what every reply copies from its query.
Message make_reply(const Message& query, const PoolConfig& pool, MessageType type) {
  Message reply;
  reply.op = Op::reply;
  reply.type = type;
  reply.htype = query.htype;
  reply.hlen = query.hlen;
  reply.xid = query.xid;
  reply.broadcast = query.broadcast;
  reply.giaddr = query.giaddr;
  reply.chaddr = query.chaddr;
  reply.client_id = query.client_id;  // RFC 6842 §3
  reply.server_id = pool.router;
  return reply;
}

// The pool's parameters, those the client asked for; a client that sends no list gets all.
void add_parameters(Message& reply, const Message& query, const PoolConfig& pool) {
  const auto wanted = [&](Option option) {
    return query.parameter_requests.empty() || query.requests(option);
  };
  if (wanted(kOptionRouter)) reply.router = pool.router;
  if (wanted(kOptionDns)) reply.dns.assign(pool.dns);
  if (wanted(kOptionMtu)) reply.mtu_bytes = pool.mtu_bytes;
  if (wanted(kOptionClasslessRoutes)) reply.routes.assign(pool.routes);
  if (query.speaks_our_vendor_options()) reply.heartbeat_s = pool.heartbeat_s;
}

void add_lease(Message& reply, const Message& query, const PoolConfig& pool, Ipv4Address address) {
  reply.yiaddr = address;
  // A fixed address outside the pool's network is alone on its link.
  reply.subnet_mask =
      pool.network.contains(address) ? pool.network.mask() : Ipv4Prefix{address, 32}.mask();
  reply.lease_s = pool.lease_s;
  if (pool.lease_s != kLeaseInfinite) {
    reply.t1_s = pool.lease_s / 2;  // RFC 2131 §4.4.5: 0.5 and 0.875 of the lease
    reply.t2_s = static_cast<uint32_t>(uint64_t{pool.lease_s} * 7 / 8);
  }
  add_parameters(reply, query, pool);
}

// RFC 2131 §4.1; a query with giaddr never comes here.
Datagram address_reply(const Message& reply, const Message& query, const PoolConfig& pool) {
  Ipv4Address destination = reply.yiaddr;
  if (!query.ciaddr.is_zero()) {
    destination = query.ciaddr;
  } else if (reply.broadcast) {
    destination = Ipv4Address::from_octets(255, 255, 255, 255);
  }
  if (reply.type == MessageType::nak) destination = Ipv4Address::from_octets(255, 255, 255, 255);
  return {pool.router, destination, reply};
}

}  // namespace

Server::Server(std::vector<PoolConfig> pools) : pools_(std::move(pools)) {
  for (PoolConfig& pool : pools_) {
    assert(pool.dns.size() <= DnsList::capacity() && pool.routes.size() <= RouteList::capacity());
    pool.lease_s = std::max(pool.lease_s, kLeaseSecondsMin);
    pool.excluded.push_back(pool.router);
    leases_.add_pool({pool.first, pool.last, pool.excluded});
  }
}

Outcome Server::on_message(uint64_t now_ns, const ClientKey& key, const Assignment& assignment,
                           const Message& query) {
  assert(assignment.pool < pools_.size());
  Exchange exchange{now_ns, key, assignment, pools_[assignment.pool], query, {}};
  // A client speaks to us through its own tunnel: there is no relay on the way.
  if (query.op != Op::request || !query.giaddr.is_zero()) {
    ++counters_.malformed;
    return exchange.outcome;
  }
  switch (query.type) {
    case MessageType::discover:
      on_discover(exchange);
      break;
    case MessageType::request:
      on_request(exchange);
      break;
    case MessageType::decline:
      on_decline(exchange);
      break;
    case MessageType::release:
      on_release(exchange);
      break;
    case MessageType::inform:
      on_inform(exchange);
      break;
    case MessageType::offer:
    case MessageType::ack:
    case MessageType::nak:
      ++counters_.malformed;
      break;
  }
  return exchange.outcome;
}

void Server::on_discover(Exchange& exchange) {
  ++counters_.discover;
  Lease* lease = hold(exchange, exchange.query.requested_address);
  if (lease == nullptr) return refuse_for_want_of_address(exchange);
  if (exchange.query.rapid_commit) return acknowledge(exchange, *lease);
  offer(exchange, *lease);
}

// RFC 2131 §4.3.2 tells the client's state by the fields it filled in.
void Server::on_request(Exchange& exchange) {
  ++counters_.request;
  const Message& query = exchange.query;
  if (!query.ciaddr.is_zero()) return on_verify(exchange, query.ciaddr);  // RENEWING, REBINDING
  if (!query.requested_address) {
    ++counters_.malformed;
    return;
  }
  if (query.server_id) return on_selecting(exchange);
  on_verify(exchange, *query.requested_address);  // INIT-REBOOT
}

void Server::on_selecting(Exchange& exchange) {
  if (*exchange.query.server_id != exchange.pool.router) {
    // The client took another server's offer, so ours is free again (RFC 2131 §3.1, step 4).
    Lease* lease = leases_.find(exchange.key);
    if (lease != nullptr && lease->state == LeaseState::offered) leases_.release(*lease);
    return;
  }
  Lease* lease = hold(exchange, exchange.query.requested_address);
  if (lease == nullptr) return refuse_for_want_of_address(exchange);
  if (lease->address != *exchange.query.requested_address) {
    return refuse(exchange, "requested address not available");
  }
  acknowledge(exchange, *lease);
}

// A client claims that `address` is its own already. Where there is no record of it, it is granted
// if it is free: this process has not known the client for longer than it has run.
void Server::on_verify(Exchange& exchange, Ipv4Address address) {
  Lease* lease = hold(exchange, address);
  if (lease == nullptr) return refuse_for_want_of_address(exchange);
  if (lease->address == address) return acknowledge(exchange, *lease);
  refuse(exchange, "address not assigned to this client");
}

void Server::on_decline(Exchange& exchange) {
  ++counters_.decline;
  Lease* lease = leases_.find(exchange.key);
  if (lease == nullptr || lease->state == LeaseState::released) return;
  if (exchange.query.requested_address != lease->address) return;
  if (lease->state == LeaseState::bound) exchange.outcome.released = lease->address;
  // A subscriber's own address goes to nobody else: nothing to keep back.
  if (lease->fixed) return leases_.release(*lease);
  leases_.forget_client(*lease);
  leases_.move(*lease, LeaseState::quarantined, exchange.now_ns + kQuarantineNs);
}

void Server::on_release(Exchange& exchange) {
  ++counters_.release;
  const Lease* lease = leases_.find(exchange.key);
  if (lease == nullptr || lease->address != exchange.query.ciaddr) return;
  exchange.outcome.released = release(exchange.key);
}

// RFC 2131 §4.3.5: the parameters without an address or times, to a client that has an address.
void Server::on_inform(Exchange& exchange) {
  ++counters_.inform;
  if (exchange.query.ciaddr.is_zero()) {
    ++counters_.malformed;
    return;
  }
  Message reply = make_reply(exchange.query, exchange.pool, MessageType::ack);
  reply.ciaddr = exchange.query.ciaddr;
  reply.subnet_mask = exchange.pool.network.mask();
  add_parameters(reply, exchange.query, exchange.pool);
  ++counters_.ack;
  exchange.outcome.reply = address_reply(reply, exchange.query, exchange.pool);
}

std::optional<Ipv4Address> Server::release(const ClientKey& key) {
  Lease* lease = leases_.find(key);
  if (lease == nullptr || lease->state == LeaseState::released) return std::nullopt;
  const bool was_bound = lease->state == LeaseState::bound;
  const Ipv4Address address = lease->address;
  leases_.release(*lease);
  return was_bound ? std::optional(address) : std::nullopt;
}

size_t Server::tick(uint64_t now_ns, std::span<ExpiredLease> out) {
  size_t ended = 0;
  size_t written = 0;
  for (size_t i = 0; i < pools_.size(); ++i) {
    const auto pool = static_cast<uint32_t>((tick_pool_ + i) % pools_.size());
    for (const auto state : {LeaseState::bound, LeaseState::offered, LeaseState::quarantined}) {
      Lease* lease = leases_.oldest(pool, state);
      while (lease != nullptr && lease->deadline_ns <= now_ns && ended < out.size()) {
        ++ended;
        if (state == LeaseState::bound) {
          out[written++] = {lease->key, lease->address};
          ++counters_.expired;
        }
        leases_.release(*lease);
        lease = leases_.oldest(pool, state);
      }
    }
  }
  if (!pools_.empty()) tick_pool_ = static_cast<uint32_t>((tick_pool_ + 1) % pools_.size());
  return written;
}

std::optional<HeldLease> Server::lookup(const ClientKey& key) const {
  const Lease* lease = leases_.find(key);
  if (lease == nullptr || lease->state != LeaseState::bound) return std::nullopt;
  return HeldLease{lease->address, lease->pool, lease->deadline_ns};
}

PoolUse Server::use(uint32_t pool) const {
  return {.capacity = leases_.capacity(pool),
          .offered = leases_.count(pool, LeaseState::offered),
          .bound = leases_.count(pool, LeaseState::bound),
          .released = leases_.count(pool, LeaseState::released),
          .quarantined = leases_.count(pool, LeaseState::quarantined)};
}

// The client's lease, if it has one and the configuration still gives it that one. A lease that
// the configuration has moved on from is let go here.
Lease* Server::find_matching(Exchange& exchange) {
  Lease* lease = leases_.find(exchange.key);
  if (lease == nullptr || matches(*lease, exchange.assignment)) return lease;
  if (lease->state == LeaseState::bound) exchange.outcome.released = lease->address;
  leases_.forget_client(*lease);
  if (lease->state != LeaseState::released) leases_.release(*lease);
  return nullptr;
}

// The client's lease, or a new one for it; nullptr when there is no free address.
Lease* Server::hold(Exchange& exchange, std::optional<Ipv4Address> wanted) {
  if (Lease* lease = find_matching(exchange)) return lease;
  const auto& [pool, fixed] = exchange.assignment;
  const uint64_t deadline_ns = exchange.now_ns + kOfferHoldNs;
  if (fixed) return leases_.acquire_fixed(exchange.key, pool, *fixed, deadline_ns);
  return leases_.acquire(exchange.key, pool, wanted, deadline_ns);
}

void Server::offer(Exchange& exchange, Lease& lease) {
  // A client that holds the lease and asks anew keeps it meanwhile.
  if (lease.state != LeaseState::bound) {
    leases_.move(lease, LeaseState::offered, exchange.now_ns + kOfferHoldNs);
  }
  Message reply = make_reply(exchange.query, exchange.pool, MessageType::offer);
  add_lease(reply, exchange.query, exchange.pool, lease.address);
  ++counters_.offer;
  exchange.outcome.reply = address_reply(reply, exchange.query, exchange.pool);
}

void Server::acknowledge(Exchange& exchange, Lease& lease) {
  leases_.move(lease, LeaseState::bound, expiry_ns(exchange.now_ns, exchange.pool));
  exchange.outcome.leased = lease.address;
  Message reply = make_reply(exchange.query, exchange.pool, MessageType::ack);
  reply.ciaddr = exchange.query.ciaddr;
  // RFC 4039 §3.1: the option in the ACK says that the DISCOVER was committed at once.
  reply.rapid_commit = exchange.query.type == MessageType::discover;
  add_lease(reply, exchange.query, exchange.pool, lease.address);
  ++counters_.ack;
  exchange.outcome.reply = address_reply(reply, exchange.query, exchange.pool);
}

void Server::refuse(Exchange& exchange, std::string_view text) {
  Message reply = make_reply(exchange.query, exchange.pool, MessageType::nak);
  reply.text.assign(text);
  ++counters_.nak;
  exchange.outcome.reply = address_reply(reply, exchange.query, exchange.pool);
}

void Server::refuse_for_want_of_address(Exchange& exchange) {
  if (exchange.assignment.fixed) {
    return refuse(exchange, "the configured address is held by another client");
  }
  ++counters_.exhausted;
  exchange.outcome.exhausted = true;
  refuse(exchange, "address pool exhausted");
}

}  // namespace adit::dhcp
