#include "client-lite/lane_sender.h"

#include <algorithm>
#include <cstring>

#include "client-lite/second_tunnel.h"

namespace adit::client {
namespace {

constexpr Ipv4Prefix kNowhere{{}, 32};

}  // namespace

LaneSender::LaneSender(LaneBoard& board, Counters& counters, const Config& config,
                       std::optional<unsigned> receives)
    : board_(board), counters_(counters), receives_(receives), left_path_(counters) {
  left_path_.set_lan(config.lan);
  for (unsigned i = 0; i < config.lanes; ++i) {
    Lane& lane = *lanes_.emplace_back(std::make_unique<Lane>(counters));
    lane.path.set_lan(config.lan);
  }
}

bool LaneSender::refresh(uint64_t now_ns) {
  if (!board_.has_news(version_)) return false;
  LanesView fresh = board_.read(version_);
  if (fresh.moves != view_.moves) {
    leave(now_ns);
  } else if (fresh.tunnel != view_.tunnel) {
    forget_left();
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    lane.path.set_gateway(fresh.gateway);
    lane.path.set_address(fresh.address ? std::optional(fresh.address->address) : std::nullopt);
    if (fresh.mtu_bytes != 0) lane.path.set_mtu(fresh.mtu_bytes);
    take(fresh.lane[i], view_.lane[i], lane);
  }
  if (fresh.lanes != view_.lanes || fresh.tunnel != view_.tunnel) {
    // What waits was given a lane among others, or was for a gateway that has been left.
    counters_.tx_no_session += waiting_.size();
    waiting_.clear();
  }
  packet_lanes_.set(fresh.lanes, fresh.address ? fresh.address->prefix() : kNowhere);
  for (LaneView& lane : fresh.lane) lane.session = {};
  view_ = std::move(fresh);
  find_next_expiry();
  flush_waiting(now_ns);
  return true;
}

void LaneSender::take(const LaneView& fresh, const LaneView& known, Lane& lane) {
  if (fresh.socket != known.socket) {
    lane.socket = fresh.socket ? fresh.socket->share() : UdpSocket{};
  }
  if (fresh.next_counter == known.next_counter) return;
  if (fresh.has_session()) {
    lane.path.install(fresh.session, fresh.next_counter);
  } else {
    lane.path.clear();
  }
}

// The lane's path, with its keys, goes on as the one that is left, and the lane has an empty one.
void LaneSender::leave(uint64_t now_ns) {
  forget_left();
  if (!receives_) return;
  left_path_.swap(lanes_[*receives_]->path);
  left_socket_ = lanes_[*receives_]->socket.share();
  left_ends_ns_ = now_ns + SecondTunnel::kLingerNs;
}

void LaneSender::forget_left() {
  left_path_.clear();
  left_socket_ = {};
  left_ends_ns_ = UINT64_MAX;
}

void LaneSender::expire(uint64_t now_ns) {
  if (now_ns < next_expiry_ns_) return;
  left_path_.expire(now_ns);
  if (now_ns >= left_ends_ns_) forget_left();
  for (auto& lane : lanes_) lane->path.expire(now_ns);
  while (!fragments_.empty() && now_ns >= fragments_.first_came_ns() + kFragmentWaitNs) {
    fragments_.pop();
    ++counters_.tx_fragment_alone;
  }
  find_next_expiry();
}

void LaneSender::find_next_expiry() {
  next_expiry_ns_ = fragments_.empty() ? UINT64_MAX : fragments_.first_came_ns() + kFragmentWaitNs;
  next_expiry_ns_ = std::min({next_expiry_ns_, left_ends_ns_, left_path_.next_expiry_ns()});
  for (const auto& lane : lanes_) {
    next_expiry_ns_ = std::min(next_expiry_ns_, lane->path.next_expiry_ns());
  }
}

bool LaneSender::send_from(Tun& queue, uint64_t now_ns) {
  refresh(now_ns);
  const bool is_there = reader_.read(
      queue, counters_, [this]() -> PacketBuffer& { return buffers_[used_]; },
      [&](std::span<const uint8_t> inner) { return admit(inner, now_ns); },
      [&](const Admitted& packet) { return put_out(packet, now_ns); });
  send_batches(now_ns);
  return is_there;
}

std::optional<Admitted> LaneSender::admit(std::span<const uint8_t> inner, uint64_t now_ns) {
  std::optional<Admitted> packet = lanes_[0]->path.admit(inner);
  if (!packet) return std::nullopt;
  const std::optional<uint8_t> lane = packet_lanes_.choose(inner, *packet, now_ns);
  if (!lane) {
    keep_fragment(inner, *packet, now_ns);
    return std::nullopt;
  }
  packet->lane = *lane;
  return packet;
}

// `inner` stands in the next buffer, unless it is larger than any packet that goes on.
void LaneSender::keep_fragment(std::span<const uint8_t> inner, const Admitted& packet,
                               uint64_t now_ns) {
  PacketBuffer& buffer = buffers_[used_];
  if (inner.data() != buffer.inner().data() || !fragments_.push(buffer, packet, now_ns)) {
    ++counters_.tx_fragment_alone;
  }
  find_next_expiry();
}

// Wraps what stands in the next buffer, and whatever has waited for it. True if this filled the
// batches, which then are sent.
bool LaneSender::put_out(const Admitted& packet, uint64_t now_ns) {
  const bool full = put_one_out(packet, now_ns);
  const ParsedIpv4& parsed = packet.parsed;
  if (parsed.is_fragment && parsed.is_first_fragment && !fragments_.empty()) [[unlikely]] {
    release_fragments(now_ns);
  }
  return full;
}

bool LaneSender::put_one_out(const Admitted& packet, uint64_t now_ns) {
  PacketBuffer& buffer = buffers_[used_];
  if (!lanes_[packet.lane]->path.usable(now_ns)) {
    if (!waiting_.push(buffer, packet)) ++counters_.tx_no_session;
    board_.report(packet.lane).is_awaited.store(true, std::memory_order_relaxed);
    return false;
  }
  wrap(buffer, packet);
  if (++used_ < kSendBatch) return false;
  send_batches(now_ns);
  return true;
}

// Into its lane's batch, where the datagram stays in `buffer` until it is sent.
void LaneSender::wrap(PacketBuffer& buffer, const Admitted& packet) {
  Lane& lane = *lanes_[packet.lane];
  const PacketPath::Wrapped wrapped = lane.path.wrap(buffer, packet);
  if (wrapped.datagram.empty()) return;
  lane.datagrams[lane.count++] = wrapped.datagram;
  lane.bytes += packet.bytes;
}

void LaneSender::send_batches(uint64_t now_ns) {
  used_ = 0;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = *lanes_[i];
    if (lane.count == 0) continue;
    const unsigned taken =
        lane.socket.send(std::span(lane.datagrams).first(lane.count), view_.gateway);
    counters_.tx_send_error += lane.count - taken;
    LaneReport& report = board_.report(static_cast<unsigned>(i));
    report.sent_ns.store(now_ns, std::memory_order_relaxed);
    report.tx_packets.fetch_add(lane.count, std::memory_order_relaxed);
    report.tx_bytes.fetch_add(lane.bytes, std::memory_order_relaxed);
    lane.count = 0;
    lane.bytes = 0;
  }
}

// In the order in which they came; those whose lane still has no session wait on.
void LaneSender::flush_waiting(uint64_t now_ns) {
  for (unsigned left = waiting_.size(); left > 0; --left) send_or_keep(waiting_.pop(), now_ns);
}

void LaneSender::send_or_keep(PacketQueue::Waiting& waiting, uint64_t now_ns) {
  if (lanes_[waiting.packet.lane]->path.usable(now_ns)) {
    wrap(waiting.buffer, waiting.packet);
    send_batches(now_ns);
  } else if (!waiting_.push(waiting.buffer, waiting.packet)) {
    ++counters_.tx_no_session;
  }
}

// A datagram's first has gone, or waits: what has come before it follows.
void LaneSender::release_fragments(uint64_t now_ns) {
  send_batches(now_ns);
  for (unsigned left = fragments_.size(); left > 0; --left) {
    PacketQueue::Waiting& fragment = fragments_.pop();
    const auto inner = fragment.buffer.inner().first(fragment.packet.bytes);
    const std::optional<uint8_t> lane = packet_lanes_.choose(inner, fragment.packet, now_ns);
    if (lane) {
      fragment.packet.lane = *lane;
      send_or_keep(fragment, now_ns);
    } else {
      fragments_.push(fragment.buffer, fragment.packet, fragment.came_ns);
    }
  }
  find_next_expiry();
}

bool LaneSender::send_heartbeat(unsigned lane, uint64_t now_ns) {
  refresh(now_ns);
  return send_control(lane, 0, now_ns);
}

bool LaneSender::send_probe(unsigned lane, uint8_t kind, uint64_t stamp, uint64_t now_ns) {
  refresh(now_ns);
  tunnel::ProbePacket probe{};
  probe.kind = kind;
  probe.mtu_bytes = Be16::from_host(view_.mtu_bytes);
  probe.stamp = Be64::from_host(stamp);
  std::memcpy(control_buffer_.inner().data(), &probe, sizeof probe);
  return send_control(lane, sizeof probe, now_ns);
}

bool LaneSender::send_control(unsigned lane, size_t inner_bytes, uint64_t now_ns) {
  Lane& out = *lanes_[lane];
  if (!out.path.usable(now_ns)) return false;
  const auto datagram = out.path.wrap_control(control_buffer_, inner_bytes).datagram;
  if (datagram.empty()) return false;
  if (out.socket.send({&datagram, 1}, view_.gateway) == 0) ++counters_.tx_send_error;
  return true;
}

}  // namespace adit::client
