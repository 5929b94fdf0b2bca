#include "lib/nat/tcp_state.h"

#include <array>
#include <cstddef>

#include "lib/net/headers.h"

namespace adit::nat {
namespace {

using enum TcpState;

// One row a state: where each kind of segment leads, by direction. A segment is a reset before it
// is a SYN, a SYN before it is a FIN, and plain if it is none of them.
struct Row {
  TcpState from;
  TcpState syn_out, syn_in;
  TcpState fin_out, fin_in;
  TcpState rst_out, rst_in;
  TcpState plain_out, plain_in;
};

constexpr std::array kTable{
    // The mapping met the connection in its middle, or nothing happened yet. A plain segment that
    // answers an outbound one proves that the connection lives.
    Row{.from = closed,
        .syn_out = init,
        .syn_in = external_init,
        .fin_out = closed,
        .fin_in = closed,
        .rst_out = closed,
        .rst_in = closed,
        .plain_out = closed,
        .plain_in = established},
    // An inbound SYN is an answer (SYN+ACK) or the other half of a simultaneous open (REQ-2a).
    Row{.from = init,
        .syn_out = init,
        .syn_in = established,
        .fin_out = init,
        .fin_in = init,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = init,
        .plain_in = init},
    // A host that answers a SYN with a plain segment has the connection already (RFC 5961 §4).
    Row{.from = external_init,
        .syn_out = established,
        .syn_in = external_init,
        .fin_out = external_init,
        .fin_in = external_init,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = established,
        .plain_in = external_init},
    Row{.from = established,
        .syn_out = established,
        .syn_in = established,
        .fin_out = internal_fin,
        .fin_in = external_fin,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = established,
        .plain_in = established},
    Row{.from = external_fin,
        .syn_out = external_fin,
        .syn_in = external_fin,
        .fin_out = both_fin,
        .fin_in = external_fin,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = external_fin,
        .plain_in = external_fin},
    Row{.from = internal_fin,
        .syn_out = internal_fin,
        .syn_in = internal_fin,
        .fin_out = internal_fin,
        .fin_in = both_fin,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = internal_fin,
        .plain_in = internal_fin},
    // The last acknowledgements pass and change nothing; a new SYN opens the next connection.
    Row{.from = both_fin,
        .syn_out = init,
        .syn_in = external_init,
        .fin_out = both_fin,
        .fin_in = both_fin,
        .rst_out = both_fin,
        .rst_in = both_fin,
        .plain_out = both_fin,
        .plain_in = both_fin},
    // RFC 7857 §2.1: what is no reset brings the connection back, for the reset may have been
    // forged or lost behind us. A SYN is a new one, which has yet to be answered.
    Row{.from = transitory,
        .syn_out = init,
        .syn_in = external_init,
        .fin_out = internal_fin,
        .fin_in = external_fin,
        .rst_out = transitory,
        .rst_in = transitory,
        .plain_out = established,
        .plain_in = established},
};

constexpr bool rows_stand_at_their_state() {
  for (size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<size_t>(kTable[i].from) != i) return false;
  }
  return true;
}
static_assert(rows_stand_at_their_state());

// No connection is under way that a change of the tracked remote would lose sight of.
constexpr bool is_over(TcpState state) {
  return state == closed || state == both_fin || state == transitory;
}

}  // namespace

TcpState next_tcp_state(TcpState state, Direction direction, uint8_t tcp_flags) {
  const Row& row = kTable[static_cast<size_t>(state)];
  const bool out = direction == Direction::outbound;
  if ((tcp_flags & kTcpRst) != 0) return out ? row.rst_out : row.rst_in;
  if ((tcp_flags & kTcpSyn) != 0) return out ? row.syn_out : row.syn_in;
  if ((tcp_flags & kTcpFin) != 0) return out ? row.fin_out : row.fin_in;
  return out ? row.plain_out : row.plain_in;
}

TcpPhase phase_of(TcpState state) {
  switch (state) {
    case closed:
    case init:
    case external_init:
      return TcpPhase::opening;
    case established:
    case external_fin:
    case internal_fin:
      return TcpPhase::established;
    case both_fin:
    case transitory:
      break;
  }
  return TcpPhase::closing;
}

bool track_tcp_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags) {
  if (mapping.tcp_remote == remote) {
    mapping.tcp_state = next_tcp_state(mapping.tcp_state, Direction::outbound, tcp_flags);
    return true;
  }
  if ((tcp_flags & kTcpRst) != 0) return false;
  const bool is_syn = (tcp_flags & kTcpSyn) != 0;
  const bool replaces = is_syn && is_over(mapping.tcp_state) && !mapping.tcp_many_remotes;
  if (mapping.tcp_remote.is_zero() || replaces) {
    // SYN+ACK answers a SYN that came in while another connection was tracked.
    const bool answers = is_syn && (tcp_flags & kTcpAck) != 0;
    mapping.tcp_remote = remote;
    mapping.tcp_state =
        next_tcp_state(answers ? external_init : closed, Direction::outbound, tcp_flags);
    return true;
  }
  mapping.tcp_many_remotes = true;
  return true;
}

bool track_tcp_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags) {
  if (mapping.tcp_remote.is_zero() && (tcp_flags & (kTcpSyn | kTcpRst)) == kTcpSyn) {
    mapping.tcp_remote = remote;  // a static forward's first connection
  }
  if (mapping.tcp_remote != remote) return false;
  mapping.tcp_state = next_tcp_state(mapping.tcp_state, Direction::inbound, tcp_flags);
  return true;
}

}  // namespace adit::nat
