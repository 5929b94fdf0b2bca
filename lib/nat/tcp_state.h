// What the translator believes about the one TCP connection that a mapping tracks, so that it
// knows which timer the mapping runs on: RFC 7857 §2.1 (after RFC 6146 §3.5.2), RFC 5382 REQ-5.
// The state machine is the table in tcp_state.cpp. Sequence numbers are not followed: a forged
// reset can only start the closing timer, and the next segment of a live connection undoes it.
#pragma once

#include <cstdint>

#include "lib/nat/mapping.h"

namespace adit::nat {

// The state after a segment with `tcp_flags` in `direction`.
TcpState next_tcp_state(TcpState state, Direction direction, uint8_t tcp_flags);

// Which timer a connection runs on. Half-closed ones have the established one: the side that is
// still open can be silent for as long as before (RFC 7857 §2.1). Opening and closing have one
// each (RFC 7857 §2.2).
enum class TcpPhase : uint8_t { opening, established, closing };
TcpPhase phase_of(TcpState state);

// A segment between the mapping's internal endpoint and `remote`: moves the state of the tracked
// connection, chooses which one is tracked. Returns whether the segment keeps the mapping alive.
// What does not: anything inbound from a remote that is not the tracked one, and a reset that
// refuses such a remote. Otherwise whoever probes an external port could hold it for ever.
bool track_tcp_outbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags);
bool track_tcp_inbound(Mapping& mapping, const Endpoint& remote, uint8_t tcp_flags);

}  // namespace adit::nat
