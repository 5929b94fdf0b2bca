// The worker's side of the conversation with the control thread.
#include "gateway/messages.h"

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <algorithm>
#include <utility>

#include "gateway/pipeline.h"
#include "lib/nat/coarse_clock.h"

namespace adit::gateway {
namespace {

RoutedTunnel routed(const Tunnel& tunnel) {
  return {.slot = tunnel.slot,
          .reached = tunnel.reaches_tunnels,
          .address = tunnel.inner_address,
          .external_address = tunnel.external_address,
          .inner = tunnel.inner_prefixes(),
          .routed = tunnel.routed_prefixes(),
          .forwards = {tunnel.slot, tunnel.first_forward, tunnel.forward_count,
                       tunnel.subscriber.profile}};
}

RoutedTunnel routed(const ToWorker& message) {
  const std::span<const Ipv4Prefix> prefixes(message.prefixes.data(), message.prefix_count);
  return {.slot = message.slot,
          .reached = message.tunnel_to_tunnel,
          .address = message.address,
          .external_address = message.external_address,
          .inner = prefixes.first(message.prefix_count - message.routed_count),
          .routed = prefixes.last(message.routed_count),
          .forwards = {message.slot, message.first_forward, message.forward_count,
                       message.profile}};
}

}  // namespace

void Pipeline::take(const ToWorker& message, uint64_t now_ns) {
  set_time(now_ns);
  if (message.packet != nullptr) ++counters_.handed_in;
  Tunnel& tunnel = tunnels_.at(message.slot);
  switch (message.kind) {
    case ToWorker::open_tunnel:
      return open_tunnel(message);
    case ToWorker::close_tunnel:
      return close_tunnel(message);
    case ToWorker::set_address:
      return set_address(tunnel, message.address);
    case ToWorker::open_elsewhere:
      return add_routes(routed(message));
    case ToWorker::close_elsewhere:
      return remove_routes(routed(message));
    case ToWorker::set_address_elsewhere:
      return move_route(message.slot, message.previous_address, message.address,
                        message.tunnel_to_tunnel);
    case ToWorker::install_session:
      return install_session(message);
    case ToWorker::drop_sessions:
      tunnel.open->sessions.clear();
      return refresh_line(tunnel);
    case ToWorker::heartbeat:
      return send_heartbeat(tunnel, tunnel.remote);
    case ToWorker::set_neighbour:
      return set_neighbour(message);
    case ToWorker::lose_neighbour:
      return forget_neighbour(message.port, message.address);
    case ToWorker::send_frame:
      return finish(send_frame(message.port, message.packet, message.mac, kEtherTypeArp),
                    message.packet);
    case ToWorker::move_tunnel:
    case ToWorker::move_free_slot:
      return begin_move(message);
    case ToWorker::list_mappings:
      return list_mappings(tunnel);
    case ToWorker::send_inner: {
      const bool stale = !tunnel.active || tunnel.epoch != message.epoch;
      return finish(stale ? Fate::stale_tunnel
                          : send_into_tunnel(tunnel, message.packet, Seal::always),
                    message.packet);
    }
  }
}

// Another core has written them: all are asked for before the first is needed.
void Pipeline::take(std::span<const Reply> replies, uint64_t now_ns) {
  set_time(now_ns);
  counters_.handed_in += replies.size();
  for (const Reply& reply : replies) {
    rte_mbuf_prefetch_part1(reply.packet);
    rte_mbuf_prefetch_part2(reply.packet);
  }
  for (const Reply& reply : replies) rte_prefetch0(rte_pktmbuf_mtod(reply.packet, void*));
  for (const Reply& reply : replies) {
    finish(send_outer_udp(reply.packet, reply.to), reply.packet);
  }
}

void Pipeline::open_tunnel(const ToWorker& message) {
  Tunnel& tunnel = tunnels_.at(message.slot);
  close_tunnel(message);  // in case the message that closed it was lost
  tunnels_.clear(message.slot);
  tunnel.active = true;
  tunnel.slot = message.slot;
  tunnel.owner = message.subscriber;
  tunnel.opened_at_s = now_s_;
  tunnel.epoch = message.epoch;
  tunnel.open->residence = message.epoch;
  tunnels_.report(message.slot).begin(message.epoch);
  tunnel.open->mtu_bytes_max = message.mtu_bytes;
  set_mtu(tunnel, message.mtu_bytes);
  tunnel.router = message.router;
  tunnel.reaches_tunnels = message.tunnel_to_tunnel;
  tunnel.prefix_count = message.prefix_count;
  tunnel.open->prefixes = message.prefixes;
  tunnel.routed_count = message.routed_count;
  tunnel.external_address = message.external_address;
  tunnel.inner_address = message.address;
  tunnel.lane = message.lane;
  tunnel.lanes = message.lanes;
  tunnel.proper_slot = message.lane == 0 ? message.slot : message.proper_slot;
  nat_.attach(tunnel.subscriber, message.slot, message.profile, now_s_, message.subscriber,
              message.paired_address);
  tunnel.first_forward = message.first_forward;
  tunnel.forward_count = message.forward_count;
  if (tunnel.lane == 0) add_routes(routed(tunnel));
  refresh_line(tunnel);
}

void Pipeline::close_tunnel(const ToWorker& message) {
  Tunnel& tunnel = tunnels_.at(message.slot);
  if (!tunnel.active) return;
  if (tunnel.lane == 0) remove_routes(routed(tunnel));
  nat_.detach(tunnel.subscriber, now_s_);
  tunnels_.clear(message.slot);  // the keys too
  if (has_others_) send_block_home();  // its range
}

void Pipeline::set_address(Tunnel& tunnel, Ipv4Address address) {
  if (tunnel.lane == 0) {
    move_route(tunnel.slot, tunnel.inner_address, address, tunnel.reaches_tunnels);
  }
  tunnel.inner_address = address;
  refresh_line(tunnel);
}

// ---- What every worker knows of every tunnel, where anybody needs it ----

void Pipeline::add_routes(const RoutedTunnel& tunnel) {
  move_route(tunnel.slot, {}, tunnel.address, tunnel.reached);
  if (inner_routes_ != nullptr) {
    for (const Ipv4Prefix& prefix : tunnel.inner) {
      inner_routes_->add(prefix, tunnel.slot, tunnel.reached);
    }
  }
  if (outer_routes_ != nullptr) {
    for (const Ipv4Prefix& prefix : tunnel.routed) outer_routes_->add(prefix, tunnel.slot);
    if (!tunnel.external_address.is_zero()) {
      outer_routes_->add({tunnel.external_address, 32}, tunnel.slot);
    }
  }
  if (tunnel.forwards.count != 0) forwards_->open(tunnel.forwards);
}

void Pipeline::remove_routes(const RoutedTunnel& tunnel) {
  move_route(tunnel.slot, tunnel.address, {}, tunnel.reached);
  if (tunnel.forwards.count != 0) forwards_->close(tunnel.forwards);
  if (inner_routes_ != nullptr) {
    for (const Ipv4Prefix& prefix : tunnel.inner) inner_routes_->remove(prefix, tunnel.slot);
  }
  if (outer_routes_ != nullptr) {
    for (const Ipv4Prefix& prefix : tunnel.routed) outer_routes_->vacate(prefix, tunnel.slot);
    outer_routes_->vacate({tunnel.external_address, 32}, tunnel.slot);
  }
}

// Its inner address was `from` and is `to`; zero: none.
void Pipeline::move_route(uint32_t slot, Ipv4Address from, Ipv4Address to, bool reached) {
  if (inner_routes_ == nullptr) return;
  if (!from.is_zero()) inner_routes_->remove({from, 32}, slot);
  if (!to.is_zero()) inner_routes_->add({to, 32}, slot, reached);
}

void Pipeline::install_session(const ToWorker& message) {
  Tunnel& tunnel = tunnels_.at(message.slot);
  if (tunnel.active) {
    tunnel.open->sessions.install(message.session);
    refresh_line(tunnel);
  }
  finish(send_outer_udp(message.packet, message.remote), message.packet);
}

// For a person who looks: bounded, and the list is cut rather than the traffic held up.
void Pipeline::list_mappings(const Tunnel& tunnel) {
  nat::Mapping mappings[kListedMappingsMax];
  unsigned count = 0;
  if (tunnel.forward_count != 0) {
    for (const nat::Mapping& forward : forwards_->of(tunnel)) {
      if (count < kListedMappingsMax) mappings[count++] = forward;
    }
  }
  if (tunnel.active) {
    count += nat_.list(tunnel.subscriber, std::span(mappings).subspan(count), now_s_);
  }
  for (unsigned i = 0; i < count; ++i) {
    ToControl item;
    item.kind = ToControl::mapping;
    item.slot = tunnel.slot;
    item.from = mappings[i].internal;
    item.external = mappings[i].external;
    item.protocol = mappings[i].protocol;
    item.is_forward = mappings[i].is_forward;
    hand_to_control(item);
  }
  ToControl end;
  end.kind = ToControl::mappings_end;
  hand_to_control(end);
}

// RFC 6888 REQ-14. At most one for each packet that makes a mapping, and few a sweep.
void Pipeline::tell_block(const nat::BlockEvent& event) {
  ToControl item;
  item.kind = event.is_granted ? ToControl::block_granted : ToControl::block_returned;
  if (event.is_granted) item.subscriber = tunnels_.at(event.tunnel_slot).owner;
  item.external = event.first;
  item.count = event.ports;
  ++counters_.block_events;
  if (is_drop(hand_to_control(item))) ++counters_.events_lost;
}

// RFC 6888 REQ-11: once a window for each limit, however many packets meet it.
void Pipeline::tell_limit(Tunnel& tunnel, Fate limit) {
  if (settings_.limit_window_s == 0) return;
  const auto place = std::ranges::find(kToldLimits, limit);
  if (place == kToldLimits.end()) return;
  OpenTunnel::LimitNotice& notice =
      tunnel.open->limit_notices[static_cast<size_t>(place - kToldLimits.begin())];
  ++notice.untold;
  const uint32_t ago_s = nat::elapsed_s(notice.told_at_s, now_s_);
  if (notice.told_at_s != 0 && ago_s < settings_.limit_window_s) return;
  ToControl item;
  item.kind = ToControl::limit_met;
  item.subscriber = tunnel.owner;
  item.reason = static_cast<uint8_t>(limit);
  item.count = notice.untold;
  notice = {.told_at_s = now_s_, .untold = 0};
  ++counters_.limit_events;
  if (is_drop(hand_to_control(item))) ++counters_.events_lost;
}

void Pipeline::set_neighbour(const ToWorker& message) {
  Neighbour* neighbour = neighbours_.find(message.port, message.address);
  if (neighbour == nullptr) neighbour = neighbours_.add(message.port, message.address);
  if (neighbour == nullptr) return;  // full: the next packet to it says so
  neighbour->mac = message.mac;
  neighbour->resolved = true;
  if (rte_mbuf* waiting = std::exchange(neighbour->waiting, nullptr)) {
    finish(send_frame(message.port, waiting, neighbour->mac, kEtherTypeIpv4), waiting);
  }
}

void Pipeline::forget_neighbour(unsigned port, Ipv4Address address) {
  Neighbour* neighbour = neighbours_.find(port, address);
  if (neighbour == nullptr) return;
  if (neighbour->waiting != nullptr) finish(Fate::neighbour_unresolved, neighbour->waiting);
  if (last_neighbour_[port] == neighbour) last_neighbour_[port] = nullptr;
  neighbours_.remove(*neighbour);
}

void Pipeline::drain() {
  run_waiting(now_ns_, 0);
  flush_hand_off();
  neighbours_.for_each([this](Neighbour& neighbour) {
    if (rte_mbuf* waiting = std::exchange(neighbour.waiting, nullptr)) {
      finish(Fate::neighbour_unresolved, waiting);
    }
  });
  counters_.fates[static_cast<unsigned>(Fate::fragment_timeout)] += fragments_.clear();
  reassembly_.clear(counters_);
  for (; holding_.gone < holding_.packets.size(); ++holding_.gone) {
    finish(Fate::move_hold_full, holding_.packets[holding_.gone].mbuf);
  }
  for (TxQueue& queue : tx_) {
    for (unsigned i = 0; i < queue.count; ++i) finish(Fate::tx_full, queue.packets[i]);
    queue.count = 0;
  }
  for (unsigned i = 0; i < control_outbox_.count; ++i) {
    if (rte_mbuf* packet = control_outbox_.items[i].packet) {
      finish(Fate::control_ring_full, packet);
    }
  }
  control_outbox_.count = 0;
}

}  // namespace adit::gateway
