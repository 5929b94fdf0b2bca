#include "tests/eal/control_rig.h"

#include <poll.h>
#include <rte_mbuf.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <numeric>

#include "tests/support/cores.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::gateway::test {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr tunnel::PresharedKey kPresharedKey{{7}};

}  // namespace

HandshakeClient::HandshakeClient(const tunnel::PublicKey& gateway_key,
                                 const tunnel::RandomSource& source)
    : random(source),
      identity(tunnel::make_identity(tunnel::generate_private_key(random))),
      gateway(*make_remote_identity(identity, gateway_key, kPresharedKey)),
      jar(gateway_key) {}

tunnel::InitiationMessage HandshakeClient::initiate() {
  tunnel::InitiationMessage message;
  constexpr auto kOffer = tunnel::ProtectionSet{}.with(Protection::aes_256_gcm);
  ++second;
  state = create_initiation(identity, gateway, second, kOffer,
                            tunnel::tai64n_from_unix(second, 0), random, message);
  jar.stamp(tunnel::test::bytes_in(message), 0);
  return message;
}

ControlRig::ControlRig(unsigned clients) : random_(tunnel::test::seeded_random(1)) {
  config_.ports = {{.name = "up", .device = "none", .address = {kGateway, 24}}};
  random_(config_.tunnel.private_key);
  const auto key = public_key_of(tunnel::PrivateKey{config_.tunnel.private_key});
  PoolConfig pool;
  pool.network = *Ipv4Prefix::parse("192.168.0.0/16");
  pool.router = kRouter;
  pool.range = {Ipv4Address::from_octets(192, 168, 2, 0),
                Ipv4Address::from_octets(192, 168, 9, 255)};
  config_.pools = {pool};
  for (unsigned i = 0; i < clients; ++i) {
    clients_.emplace_back(key, tunnel::test::seeded_random(100 + i));
    SubscriberConfig subscriber;
    subscriber.name = "client " + std::to_string(i);
    subscriber.public_key = clients_.back().identity.public_key.bytes;
    subscriber.preshared_key = kPresharedKey.bytes;
    subscriber.protections = {Protection::aes_256_gcm};
    config_.subscribers.push_back(std::move(subscriber));
  }
  pool_ = rte_pktmbuf_pool_create("control-packets", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, -1);
}

ControlRig::~ControlRig() {
  stop();
  rte_mempool_free(pool_);
}

void ControlRig::start(unsigned threads, unsigned workers) {
  config_.control_threads = threads;
  config_.eal.balance = false;
  config_.tunnel.max_tunnels = static_cast<uint32_t>(clients_.size());
  told_.clear();
  replied_.clear();
  rings_.clear();
  tunnels_.emplace(std::bit_ceil(static_cast<unsigned>(clients_.size()) + 1), workers);
  std::vector<Control::Link> links;
  for (unsigned worker = 0; worker < workers; ++worker) {
    rings_.push_back(std::make_unique<ControlRings>(worker));
    links.push_back(rings_.back()->link());
  }
  PortView port;
  port.address = config_.ports[0].address;
  const bool has_several = workers > 1;
  control_.emplace(config_, std::vector{port}, std::vector<uint16_t>(clients_.size()), *tunnels_,
                   pool_, links, steering_, has_several, has_several, adit::test::all_cores());
}

void ControlRig::stop() {
  control_.reset();
  listen();
}

void ControlRig::receive(const tunnel::InitiationMessage& message, const Endpoint& from,
                         unsigned worker) {
  ToControl item;
  item.kind = ToControl::handshake;
  item.from = from;
  item.packet = rte_pktmbuf_alloc(pool_);
  ASSERT_NE(item.packet, nullptr);
  std::memcpy(rte_pktmbuf_append(item.packet, sizeof message), &message, sizeof message);
  ASSERT_TRUE(rings_[worker]->handshakes.push(item));
}

void ControlRig::tick() {
  control_->tick(now_ns_);
  listen();
}

void ControlRig::tick_while(const std::function<bool()>& waits) {
  const auto ends = std::chrono::steady_clock::now() + kPatience;
  while (waits()) {
    ASSERT_LT(std::chrono::steady_clock::now(), ends)
        << accepted() << " accepted, " << refused_in_all() << " refused";
    pollfd event{control_->event(), POLLIN, 0};
    poll(&event, 1, 1);
    tick();
  }
}

void ControlRig::tick_until(uint64_t accepted_wanted, uint64_t refused_wanted) {
  tick_while([&] { return accepted() < accepted_wanted || refused_in_all() < refused_wanted; });
}

void ControlRig::listen() {
  const auto take = [](rte_mbuf* packet) {
    if (packet == nullptr) return Bytes();
    Bytes bytes = copy_of(packet);
    rte_pktmbuf_free(packet);
    return bytes;
  };
  for (unsigned worker = 0; worker < rings_.size(); ++worker) {
    ControlRings& rings = *rings_[worker];
    rings.to_worker.drain(rings.to_worker.capacity(), [&](const ToWorker& message) {
      told_.push_back({message, take(message.packet), worker});
    });
    rings.replies.drain(rings.replies.capacity(), [&](const Reply& reply) {
      replied_.push_back({reply.to, take(reply.packet)});
    });
  }
}

std::vector<Told> ControlRig::told(ToWorker::Kind kind) const {
  std::vector<Told> out;
  for (const Told& told : told_) {
    if (told.message.kind == kind) out.push_back(told);
  }
  return out;
}

uint64_t ControlRig::refused(tunnel::HandshakeReject reason) const {
  return control_->counters().handshakes_rejected[static_cast<size_t>(reason)];
}

uint64_t ControlRig::refused_in_all() const {
  const auto& counts = control_->counters().handshakes_rejected;
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

std::optional<tunnel::Session> ControlRig::session_of(HandshakeClient& client, const Told& told) {
  tunnel::ResponseMessage response;
  if (told.packet.size() != sizeof response) return std::nullopt;
  std::memcpy(&response, told.packet.data(), sizeof response);
  if (!check_mac1(client.identity.public_key, told.packet)) return std::nullopt;
  return open_response(client.identity, client.gateway, *client.state, response, 0);
}

Endpoint ControlRig::endpoint_of(unsigned client) {
  return {kClientOuter.address, Be16::from_host(static_cast<uint16_t>(20'000 + client))};
}

unsigned ControlRig::buffers_in_use() const { return rte_mempool_in_use_count(pool_); }

}  // namespace adit::gateway::test
