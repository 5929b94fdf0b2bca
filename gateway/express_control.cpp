// The express way's part for what clients say to the gateway itself, sealed: heartbeats above all,
// one from each tunnel in some seconds. A group's are opened together and their answers sealed
// together, and nothing is needed of a tunnel but its line, its report and its current session.
// Whatever else is said goes through the stages, in its turn, from where it has been opened.
#include <rte_prefetch.h>

#include "gateway/packet_offsets.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/tunnel/seal.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using tunnel::ProbePacket;
using tunnel::SessionSet;

// Of a tunnel that has not moved and a session that is confirmed: it tells nothing new of them.
bool Pipeline::is_current(const TunnelLine& line, const uint8_t* outer) const {
  return load<uint32_t>(outer + kPayload + 4) == line.index && now_s_ < line.expires_s &&
         load<uint32_t>(outer + kSource) == line.remote.address.value.raw() &&
         load<uint16_t>(outer + kSourcePort) == line.remote.port.raw();
}

// What has no room for an inner packet, of a small burst; in a large one they are many anyway. What
// is needed of their tunnels comes meanwhile. Packets behind them may overtake them, but for bare
// ones, which depend on what a heartbeat says: where there is one, nobody waits.
void Pipeline::let_controls_wait(std::span<ExpressPacket> group) {
  constexpr unsigned kBytesMax = kPayload + tunnel::kEncryptedOverheadBytes + kIpBytes - 1;
  if (group.size() >= WaitingControls::kAtOnce) return;
  for (const ExpressPacket& packet : group) {
    const bool may_be_bare = packet.way == ExpressPacket::stages ||
                             (packet.way == ExpressPacket::outbound && !packet.sealed);
    if (may_be_bare) return;
  }
  for (ExpressPacket& packet : group) {
    const bool may_wait = packet.sealed && packet.total_bytes <= kBytesMax;
    if (!may_wait || waiting_.count == waiting_.packets.size()) continue;
    rte_prefetch0(&tunnels_.report(packet.slot()));
    rte_prefetch0(&tunnels_.open(packet.slot()).sessions.at(SessionSet::kCurrent));
    if (waiting_.count == 0) waiting_.since_ns = now_ns_;
    waiting_.packets[waiting_.count++] = {packet.mbuf, packet.ip, packet.line};
    packet.way = ExpressPacket::gone;
  }
}

// Whether all that wait may. By now the lines that say so have come, without anybody waiting for
// them; and nothing has been received since, so that the others are not overtaken either.
bool Pipeline::may_go_on_waiting() {
  for (; waiting_.looked_at < waiting_.count; ++waiting_.looked_at) {
    const WaitingControls::One& one = waiting_.packets[waiting_.looked_at];
    if (!is_current(*one.line, one.ip)) return false;
  }
  return true;
}

bool Pipeline::run_waiting(uint64_t now_ns, uint64_t wait_ns) {
  const unsigned count = waiting_.count;
  if (count == 0) return false;
  set_time(now_ns);
  const bool is_time = count >= WaitingControls::kAtOnce || now_ns - waiting_.since_ns >= wait_ns;
  if (!is_time && may_go_on_waiting()) return false;
  std::array<rte_mbuf*, 2 * WaitingControls::kAtOnce> packets;
  for (unsigned i = 0; i < count; ++i) packets[i] = waiting_.packets[i].mbuf;
  waiting_.count = waiting_.looked_at = 0;
  received_by_ = static_cast<uint8_t>(worker_);
  run_express(settings_.uplink, std::span(packets).first(count), Controls::at_once);
  return true;
}

// Of a type 4 packet in a plain session, whose own packets are bare: such a session has nothing
// else to open. Asks for what is needed of its tunnel, beside what has been asked for.
void Pipeline::gather_control(ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  const uint8_t* const outer = packet.ip;
  uint8_t* const header = packet.ip + kPayload;
  const unsigned tunnel_bytes = packet.total_bytes - kPayload;
  rte_prefetch0(&tunnels_.report(packet.slot()));
  rte_prefetch0(&tunnels_.open(packet.slot()).sessions.at(SessionSet::kCurrent));
  if (is_current(line, outer) && tunnel_bytes >= tunnel::kEncryptedOverheadBytes) {
    return gather_to_open(packet, header, tunnel_bytes);
  }
  const auto* const tunnel = reinterpret_cast<const char*>(&tunnels_.at(packet.slot()));
  rte_prefetch0(tunnel);
  rte_prefetch0(tunnel + 64);
}

// A probe that has been opened and asks for nothing but its answer becomes that: what is left to do
// is to wrap it, as a packet that is to be sealed. False where the stages have to look at it. As
// answer_control_text() and send_into_tunnel() do it.
bool Pipeline::gather_answer(const ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  if (packet.total_bytes != sizeof(ProbePacket)) return false;
  auto& probe = *reinterpret_cast<ProbePacket*>(packet.ip);
  const uint16_t mtu_bytes = probe.mtu_bytes.host();
  const bool is_news = mtu_bytes != 0 && mtu_bytes != line.mtu_bytes;
  if (probe.kind != tunnel::kProbeRequest || is_news) return false;
  // A packet in front, in the same burst, may have changed the tunnel.
  if (line.index == 0 || now_s_ >= line.expires_s) return false;
  if (!gather_to_seal(packet)) return false;
  probe.kind = tunnel::kProbeReply;
  ++counters_.probes_answered;
  TunnelReport& report = tunnels_.report(packet.slot());
  report.heard(now_ns_, false);
  report.sent(now_ns_, false);
  return true;
}

}  // namespace adit::gateway
