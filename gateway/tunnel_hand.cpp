#include "gateway/tunnel_hand.h"

namespace adit::gateway {

// In the order in which they happened: an answer that we sent before we heard again answers
// nothing.
void TunnelHand::Watched::tell(tunnel::Peer& peer, const TunnelReport& report) {
  const uint64_t heard_ns = report.heard_ns.load(std::memory_order_relaxed);
  const uint64_t sent_ns = report.sent_ns.load(std::memory_order_relaxed);
  const auto tell_sent = [&] {
    if (sent_ns == seen_sent_ns) return;
    const bool carried_packet =
        report.sent_packet_ns.load(std::memory_order_relaxed) > seen_sent_ns;
    seen_sent_ns = sent_ns;
    peer.on_sent(sent_ns, carried_packet);
  };
  if (sent_ns < heard_ns) tell_sent();
  if (heard_ns != seen_heard_ns) {
    const bool carried_packet =
        report.heard_packet_ns.load(std::memory_order_relaxed) > seen_heard_ns;
    seen_heard_ns = heard_ns;
    peer.on_heard(heard_ns, carried_packet);
  }
  tell_sent();
}

void TunnelHand::Watched::wait_for(const tunnel::Peer& peer) {
  due_ns = peer.next_deadline_ns();
  due_but_silence_ns = peer.next_deadline_but_silence_ns();
  hears_all = peer.awaits_confirmation();
}

}  // namespace adit::gateway
