// The control thread's part in tunnels: opened, followed and closed.
#include <fmt/format.h>
#include <rte_mbuf.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <algorithm>

#include "gateway/control.h"

namespace adit::gateway {
namespace {

using tunnel::Action;

static_assert(kSubscriberPrefixesMax <= kInnerPrefixesMax);

tunnel::Tai64n tai64n_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return tunnel::tai64n_from_unix(static_cast<uint64_t>(now.tv_sec),
                                  static_cast<uint32_t>(now.tv_nsec));
}

// For the log.
std::string name_of(const Subscriber& subscriber) {
  const std::string& name = subscriber.config->name;
  if (subscriber.lanes == 1) return name;
  return fmt::format("{} (lane {} of {})", name, subscriber.lane, subscriber.lanes);
}

}  // namespace

// Gives a subscriber, whose identity is known, a slot and a peer if it has none. False: there is no
// slot.
bool Control::prepare_peer(Subscriber& subscriber) {
  if (subscriber.peer) return true;
  std::vector<uint32_t>& free_slots = free_slots_[worker_for(subscriber)];
  if (free_slots.empty()) {
    ++counters_.tunnel_table_full;
    return false;
  }
  subscriber.slot = free_slots.back();
  free_slots.pop_back();
  subscriber.epoch = 0;
  tunnel::PeerConfig config;
  config.initiates = false;
  config.heartbeat_ns = config_.tunnel.heartbeat_ns;
  config.dead_after_ns = config_.tunnel.dead_after_ns;
  config.slot = subscriber.slot;
  config.slot_bits = static_cast<uint8_t>(tunnels_.slot_bits());
  const unsigned lanes =
      subscriber.lane == 0 ? config_.lanes_of(*subscriber.config) : subscriber.lanes;
  config.lanes = {static_cast<uint8_t>(lanes), subscriber.lane};
  config.accept(subscriber.config->protections);
  subscriber.peer.emplace(identity_, *remotes_.identity(position_of(subscriber)), config, random_);
  subscriber.peer->restore_received_stamp(subscriber.last_stamp);
  return true;
}

// Whose its tunnel should be: the worker's that its ports bring replies to, if it has always the
// same; else the worker's that receives its packets, where that is known; else that which has the
// most room.
unsigned Control::worker_for(const Subscriber& subscriber) const {
  if (links_.size() == 1) return 0;
  if (config_.nat.allocation == Allocation::deterministic) {
    const auto range = config_.nat.ranges().range_of(position_of(subscriber));
    if (range) return steering_.shares[range->first_port / nat::kWindowPorts];
  }
  if (spreads_ && !free_slots_[asker_].empty()) return asker_;
  const auto roomiest = std::ranges::max_element(free_slots_, {}, &std::vector<uint32_t>::size);
  return static_cast<unsigned>(roomiest - free_slots_.begin());
}

void Control::open_tunnel(Subscriber& subscriber, uint64_t now_ns) {
  subscriber.epoch = next_epoch_++;
  subscriber.opened_ns = now_ns;
  if (subscriber.lane == 0) {
    subscriber.address = subscriber.config->address.value_or(Ipv4Address{});
    begin_lanes(subscriber);
  }
  by_slot_[subscriber.slot] = &subscriber;
  hand_.open(subscriber.slot);
  subscriber.open_place = open_.size();
  open_.push_back(&subscriber);
  ++counters_.tunnels_opened;
  count_lanes(subscriber);

  const ToWorker message = message_about(subscriber);
  tell_owner(message);
  tell_others(message, ToWorker::open_elsewhere);
  spdlog::info("tunnel {} opened for {}", subscriber.slot, name_of(subscriber));
}

// What there is to say of its tunnel.
ToWorker Control::message_about(const Subscriber& subscriber) const {
  ToWorker message;
  message.kind = ToWorker::open_tunnel;
  message.slot = subscriber.slot;
  message.epoch = subscriber.epoch;
  message.subscriber = position_of(subscriber);
  message.lane = subscriber.lane;
  message.lanes = subscriber.lanes;
  message.proper_slot = subscribers_[position_of(subscriber)].slot;
  message.paired_address = subscriber.paired_address;
  message.mtu_bytes = config_.tunnel.mtu;
  message.address = subscriber.address;
  message.router = config_.pools[subscriber.config->pool].router;
  message.tunnel_to_tunnel = config_.pools[subscriber.config->pool].tunnel_to_tunnel;
  message.profile = static_cast<uint16_t>(subscriber.profile + subscriber.lanes - 1);
  message.first_forward = subscriber.first_forward;
  message.forward_count = static_cast<uint16_t>(subscriber.config->forwards.size());
  message.external_address = subscriber.config->external_address.value_or(Ipv4Address{});
  for (const Ipv4Prefix& prefix : subscriber.config->prefixes) {
    message.prefixes[message.prefix_count++] = prefix;
  }
  for (const Ipv4Prefix& prefix : subscriber.config->routed) {
    message.prefixes[message.prefix_count++] = prefix;
    ++message.routed_count;
  }
  return message;
}

// `why`: for the log. Lane 0's end is that of all.
void Control::close_tunnel(Subscriber& subscriber, const char* why) {
  if (subscriber.lane == 0) close_further_lanes(subscriber);
  ToWorker message = message_about(subscriber);
  message.kind = ToWorker::close_tunnel;
  tell_owner(message);
  tell_others(message, ToWorker::close_elsewhere);
  if (subscriber.lane == 0) dhcp_.release(subscriber.config->public_key);
  // The last one takes its place.
  open_[subscriber.open_place] = open_.back();
  open_.back()->open_place = subscriber.open_place;
  open_.pop_back();
  by_slot_[subscriber.slot] = nullptr;
  hand_.close(subscriber.slot);
  balance_.forget(subscriber.slot);
  give_back(subscriber.slot);
  spdlog::info("tunnel {} of {} {}", subscriber.slot, name_of(subscriber), why);
  subscriber.peer.reset();
  subscriber.slot = 0;
  subscriber.epoch = 0;
  subscriber.address = {};
  count_lanes(subscriber);
}

// What the worker has seen of its tunnel, which the hand may have passed: in front of whatever else
// happens to the peer, for it is older.
void Control::tell_peer(Subscriber& subscriber) {
  if (subscriber.epoch == 0) return;
  const TunnelReport& report = tunnels_.report(subscriber.slot);
  if (report.epoch.load(std::memory_order_acquire) != subscriber.epoch) return;
  hand_.at(subscriber.slot).tell(*subscriber.peer, report);
}

// Does what is due.
void Control::follow(Subscriber& subscriber, uint64_t now_ns) {
  tunnel::Peer& peer = *subscriber.peer;
  TunnelHand::Watched& watched = hand_.at(subscriber.slot);
  tell_peer(subscriber);
  if (peer.next_deadline_ns() <= now_ns) act(subscriber, peer.tick(now_ns, tai64n_now()), {});
  if (watched.is_open) watched.wait_for(peer);
}

void Control::act(Subscriber& subscriber, const tunnel::Actions& actions, const Endpoint& to) {
  hand_.at(subscriber.slot).ask();
  ToWorker answer;  // a response and its session, which travel together
  bool died = false;
  for (const Action& action : actions) {
    switch (action.kind) {
      case Action::send_message:
        answer.packet = packet_of(action.message_span());
        break;
      case Action::install_session:
        answer.session = action.session;
        subscriber.protection = action.session.protection;
        break;
      case Action::send_heartbeat: {
        ToWorker message;
        message.kind = ToWorker::heartbeat;
        message.slot = subscriber.slot;
        tell_owner(message);
        break;
      }
      case Action::drop_sessions: {
        ToWorker message;
        message.kind = ToWorker::drop_sessions;
        message.slot = subscriber.slot;
        tell_owner(message);
        break;
      }
      case Action::dead:
        died = true;
        break;
    }
  }
  if (answer.packet != nullptr) {
    answer.kind = ToWorker::install_session;
    answer.slot = subscriber.slot;
    answer.remote = to;
    tell_owner(answer);
  }
  if (!died) return;
  ++counters_.tunnels_aged_out;
  close_tunnel(subscriber, subscriber.lane == 0 ? "aged out, its address is free" : "aged out");
}

}  // namespace adit::gateway
