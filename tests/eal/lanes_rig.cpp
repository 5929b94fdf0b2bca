#include "tests/eal/lanes_rig.h"

#include <rte_mbuf.h>

#include <algorithm>

#include "lib/net/parse.h"

namespace adit::gateway::test {
namespace {

using tunnel::kSecondNs;

constexpr uint64_t kStepNs = 250'000'000;  // in which the control thread's hand comes round

RigOptions rig_options(const Config& config, const nat::Settings& translator) {
  return {.two_ports = true,
          .tunnel_to_tunnel = config.joins_tunnels(),
          .outer = config.subscribers[0].routed,
          .port_control = {.enabled = config.nat.port_control.enabled},
          .nat = translator,
          .workers = kLaneWorkers};
}

}  // namespace

LaneWorld::LaneWorld(const std::function<void(Config&)>& change)
    : gateway_(tunnel::make_identity(tunnel::generate_private_key(random_))),
      clients_{tunnel::make_identity(tunnel::generate_private_key(random_)),
               tunnel::make_identity(tunnel::generate_private_key(random_))} {
  config_.ports.resize(2);
  config_.ports[0].address = {kGateway, 24};
  config_.ports[1].address = {kPublic, 24};
  config_.public_port = 1;
  config_.tunnel.private_key = gateway_.private_key.bytes;
  config_.tunnel.max_tunnels = 15;  // as many as the rig's table has slots
  config_.tunnel.lanes_max = 4;
  config_.eal.balance = false;
  PoolConfig& pool = config_.pools.emplace_back();
  pool.name = "clients";
  pool.network = *Ipv4Prefix::parse("192.168.1.0/24");
  pool.router = kRouter;
  pool.range = {Ipv4Address::from_octets(192, 168, 1, 100),
                Ipv4Address::from_octets(192, 168, 1, 200)};
  config_.nat.external = {{kPublic, Ipv4Address::from_host(kPublic.host() + 7)}};
  for (const char* name : {"site", "other"}) {
    const size_t place = config_.subscribers.size();
    SubscriberConfig& subscriber = config_.subscribers.emplace_back();
    subscriber.name = name;
    subscriber.public_key = clients_[place].public_key.bytes;
    subscriber.address = Ipv4Address::from_host(kInner.host() + static_cast<uint32_t>(place));
    subscriber.protections = config_.tunnel.protections;
    subscriber.limits = config_.nat.limits;
  }
  change(config_);
  translator_ = nat_settings(config_, profiles_);
}

LanesRig::LanesRig(const std::function<void(Config&)>& change)
    : LaneWorld(change), Rig(rig_options(config_, translator_)) {
  plan_.workers = kLaneWorkers;
  plan_.shares = settings_.shares;
  std::vector<Control::Link> links;
  for (unsigned worker = 0; worker < kLaneWorkers; ++worker) {
    rings_.push_back(std::make_unique<ControlRings>(worker));
    links.push_back(rings_.back()->link());
    links.back().counters = &time_[worker];
    links.back().samples = &parts_[worker].pipeline->samples();
  }
  control_ = std::make_unique<Control>(config_, settings_.ports, profiles_, *tunnels_, pool(),
                                       links, plan_, true, true, std::vector<uint32_t>{});
}

void LanesRig::TearDown() {
  settle();
  control_.reset();
  Rig::TearDown();
}

void LanesRig::take_told(unsigned worker, const ToControl& item) {
  ControlRings& rings = *rings_[worker];
  auto& ring = item.kind == ToControl::handshake ? rings.handshakes : rings.to_control;
  ASSERT_TRUE(ring.push(item));
}

void LanesRig::settle() {
  for (bool any = true; any;) {
    any = control_->tick(now_ns_);
    for (unsigned worker = 0; worker < kLaneWorkers; ++worker) {
      for (ToWorker message; rings_[worker]->to_worker.pop({&message, 1}) == 1; any = true) {
        deliver(worker, message);
      }
      for (Reply reply; rings_[worker]->replies.pop({&reply, 1}) == 1; any = true) {
        deliver(worker, reply);
      }
    }
    for (const auto& [from, payload] : std::exchange(outbox_, {})) {
      receive_from(from, payload);
      any = true;
    }
    for (const Bytes& packet : sent(0)) {
      any = true;
      ParsedIpv4 parsed;
      ASSERT_EQ(parse_ipv4(packet, HeaderChecksum::verify, parsed), ParseError::none);
      const auto to = std::ranges::find_if(lanes_, [&](const auto& lane) {
        return lane->outer.port == parsed.destination_port;
      });
      ASSERT_NE(to, lanes_.end());
      (*to)->end->receive(now_ns_, Bytes(packet.begin() + parsed.payload_offset(), packet.end()));
    }
  }
}

void LanesRig::pass(uint64_t duration_ns, const std::vector<LaneEnd*>& alive) {
  for (const uint64_t end_ns = now_ns_ + duration_ns; now_ns_ < end_ns;) {
    now_ns_ += kStepNs;
    for (LaneEnd* const lane : alive) {
      const auto stamp = tunnel::tai64n_from_unix(now_ns_ / kSecondNs,
                                                  static_cast<uint32_t>(now_ns_ % kSecondNs));
      lane->end->carry_out(now_ns_, lane->end->peer.tick(now_ns_, stamp));
    }
    settle();
  }
}

// Of the ports apart for each lane, the first that the card brings to that worker.
Endpoint LanesRig::outer_of(unsigned worker, size_t subscriber, unsigned lane) const {
  Endpoint outer = kClientOuter;
  for (size_t port = 20'000 + 1'000 * (4 * subscriber + lane);; ++port) {
    outer.port = Be16::from_host(static_cast<uint16_t>(port));
    if (queue_of(0, adit::test::udp_packet(outer, kTunnelEndpoint, Bytes(20))) == worker) {
      return outer;
    }
  }
}

LaneEnd& LanesRig::begin(unsigned lane, unsigned wanted, unsigned worker, size_t subscriber) {
  const tunnel::Identity& identity = clients_[subscriber];
  tunnel::PeerConfig peer;
  peer.initiates = true;
  peer.accept(config_.tunnel.protections);
  peer.heartbeat_ns = config_.tunnel.heartbeat_ns;
  peer.lanes = {static_cast<uint8_t>(wanted), static_cast<uint8_t>(lane)};
  auto made = std::make_unique<LaneEnd>();
  made->subscriber = subscriber;
  made->lane = lane;
  made->outer = outer_of(worker, subscriber, lane);
  made->end = std::make_unique<tunnel::test::End>(
      identity, *tunnel::make_remote_identity(identity, gateway_.public_key, {}), peer, random_);
  made->end->transmit = [this, from = made->outer](Bytes payload) {
    outbox_.emplace_back(from, std::move(payload));
  };
  lanes_.insert(lanes_.begin(), std::move(made));  // in front of an earlier one at its port
  LaneEnd& begun = *lanes_.front();
  now_ns_ += kSecondNs;  // its stamp is above the last one's
  begun.end->carry_out(
      now_ns_, begun.end->peer.connect(now_ns_, tunnel::tai64n_from_unix(now_ns_ / kSecondNs, 0)));
  settle();
  return begun;
}

std::vector<LaneEnd*> LanesRig::begin_all(unsigned wanted, size_t subscriber) {
  std::vector<LaneEnd*> all;
  for (unsigned lane = 0; lane < wanted; ++lane) {
    all.push_back(&begin(lane, wanted, lane % kLaneWorkers, subscriber));
  }
  return all;
}

uint32_t LanesRig::slot_of(const LaneEnd& lane) const {
  const auto& session = lane.end->sessions.at(tunnel::SessionSet::kCurrent);
  return tunnels_->slot_of_index(session.remote_index);
}

std::optional<Endpoint> LanesRig::external_by(LaneEnd& lane, const Bytes& inner) {
  settle();
  sent_frames(1);
  lane.end->send(now_ns_, inner);
  settle();
  const std::vector<Bytes> out = sent(1);
  if (out.empty()) return std::nullopt;
  EXPECT_EQ(out.size(), 1u);
  ParsedIpv4 parsed;
  EXPECT_EQ(parse_ipv4(out.front(), HeaderChecksum::verify, parsed), ParseError::none);
  return Endpoint{reinterpret_cast<const Ipv4Header*>(out.front().data())->source,
                  parsed.source_port};
}

}  // namespace adit::gateway::test
