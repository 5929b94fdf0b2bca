// The tunnel index table: index -> where the tunnel's packets come from, its sessions, its inner
// addresses and its place in the translator. A receiver index names a slot in its low bits, so
// finding a tunnel is one array access.
//
// Writer: the worker that owns the tunnel (ownership.h). The control thread decides what is
// in a slot and tells the worker by message; it reads only TunnelReport.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "gateway/counters.h"
#include "gateway/huge_memory.h"
#include "lib/nat/nat.h"
#include "lib/net/address.h"
#include "lib/tunnel/session.h"

namespace adit::gateway {

inline constexpr unsigned kInnerPrefixesMax = 8;
inline constexpr uint32_t kNoSubscriber = UINT32_MAX;  // no position in the configuration

// The limits that an operator hears of when a subscriber meets them (RFC 6888 REQ-11).
inline constexpr std::array kToldLimits = {Fate::rate_limited, Fate::mapping_limit,
                                           Fate::port_limit,   Fate::pool_exhausted,
                                           Fate::session_limit, Fate::portless_limit,
                                           Fate::low_ports_full};

// What of a subscriber's limit is one lane's, where it has several: not none, unless it has none.
constexpr uint32_t lane_share(uint32_t limit, unsigned lanes) {
  return limit == 0 ? 0 : std::max(limit / lanes, 1u);
}

// What a worker tells the others about a tunnel, without a message: single relaxed stores. Writer:
// the owning worker. Readers: the control thread, which believes it only while `epoch` is that of
// the tunnel it means, for until then it is still the slot's last user's; and other workers, which
// ask for the MTU, and whether the tunnel is still there.
struct alignas(64) TunnelReport {
  std::atomic<uint32_t> epoch{0};      // 0: there is no tunnel
  std::atomic<uint16_t> mtu_bytes{0};  // of an inner packet
  // What became of the last move that the control thread asked for: its number, and a MoveRefusal.
  std::atomic<uint8_t> move_refusal{0};
  std::atomic<uint32_t> move_answered{0};
  // These may be late where packets are ordinary (Pipeline::sweep_tunnels): by half a second, and by
  // two where a million tunnels have been open at once.
  std::atomic<uint64_t> heard_ns{0};         // last authenticated type 4 packet received
  std::atomic<uint64_t> heard_packet_ns{0};  // the last of them that carried an inner packet
  std::atomic<uint64_t> sent_ns{0};          // last type 4 packet sent
  std::atomic<uint64_t> sent_packet_ns{0};   // the last of them that carried an inner packet
  // Endpoint: address << 16 | port, host order; zero until a session is confirmed.
  std::atomic<uint64_t> remote{0};

  // Worker: a new tunnel uses the slot.
  void begin(uint32_t new_epoch);
  // Worker: an authenticated type 4 packet came, or one was sent, with an inner packet or without.
  void heard(uint64_t at_ns, bool is_packet) {
    heard_ns.store(at_ns, std::memory_order_relaxed);
    if (is_packet) heard_packet_ns.store(at_ns, std::memory_order_relaxed);
  }
  void sent(uint64_t at_ns, bool is_packet) {
    sent_ns.store(at_ns, std::memory_order_relaxed);
    if (is_packet) sent_packet_ns.store(at_ns, std::memory_order_relaxed);
  }
};
static_assert(sizeof(TunnelReport) == 64);

// The same of what a tunnel has carried, as far as it has been added up (Pipeline::sweep_tunnels).
struct TunnelTraffic {
  Count rx_packets;  // inner packets from the client
  Count rx_bytes;    // inner bytes
  Count tx_packets;
  Count tx_bytes;
};

// What a tunnel has only while it is open: its keys, and what is rarely looked at. Each slot has a
// place for it, in memory that is the machine's until the slot is first used; all zero is an
// OpenTunnel without sessions.
struct OpenTunnel {
  tunnel::SessionSet sessions;
  TunnelTraffic traffic;
  std::array<Ipv4Prefix, kInnerPrefixesMax> prefixes{};  // behind the client
  struct LimitNotice {
    uint32_t told_at_s = 0;  // 0: never
    uint32_t untold = 0;     // packets refused since
  };
  std::array<LimitNotice, kToldLimits.size()> limit_notices{};  // by place in kToldLimits
  uint16_t mtu_bytes_max = 0;     // as configured; the client may say that its path takes less
  uint32_t icmp_errors_left = 0;  // of this second's, see IcmpErrorSettings
  uint32_t icmp_errors_at_s = 0;
  // Which of its stays with a worker this is: no other one of any tunnel has the same. Its epoch, or
  // the number of the move by which it came.
  uint32_t residence = 0;
  uint64_t remote_hint_ns = 0;    // last answer to a right packet from a wrong address (rule 12)
  Endpoint mark;                  // where the last kProbeMark came from; zero: there was none
};

struct alignas(64) Tunnel {
  bool active = false;
  bool reaches_tunnels = false;  // those that do too, by their inner addresses
  uint8_t prefix_count = 0;
  uint8_t routed_count = 0;  // of the prefixes, the last ones: of the Internet, not translated
  uint16_t mtu_bytes = 0;  // of an inner packet
  uint8_t lane = 0;        // which it is of its subscriber's lanes
  uint8_t lanes = 1;       // how many those are, which share the subscriber's limits
  uint32_t filter_sessions = 0;  // how many it has in Filter
  uint32_t slot = 0;
  uint32_t epoch = 0;             // of this use of the slot: tells a late message from a new tunnel
  Endpoint remote;                // where its packets come from; zero until a session is confirmed
  uint16_t forward_count = 0;     // of its static forwards; 0: it has none
  Ipv4Address inner_address;      // zero until leased
  Ipv4Address external_address;   // its alone, one to one with inner_address; zero: none
  Ipv4Address router;             // our own address inside, which speaks for us in ICMP errors
  uint32_t owner = kNoSubscriber;  // position in the configuration
  uint32_t opened_at_s = 0;
  uint32_t first_forward = 0;     // where its static forwards stand in Forwards
  uint32_t proper_slot = 0;       // of its subscriber's lane 0, which others reach
  OpenTunnel* open = nullptr;     // its slot's place for that: never null in the table
  nat::Subscriber subscriber;

  bool owns(Ipv4Address source) const;
  bool is_routed(Ipv4Address source) const;
  std::span<const Ipv4Prefix> inner_prefixes() const {
    return {open->prefixes.data(), size_t{prefix_count} - routed_count};
  }
  std::span<const Ipv4Prefix> routed_prefixes() const {
    return {open->prefixes.data() + prefix_count - routed_count, routed_count};
  }
  // The session to send on, or nullptr.
  const tunnel::Session* sending(uint64_t now_ns) const {
    const tunnel::Session& current = open->sessions.at(tunnel::SessionSet::kCurrent);
    return current.exists() && !current.expired(now_ns) ? &current : nullptr;
  }
};
static_assert(sizeof(Tunnel) == 128);

// The one line of a tunnel that an ordinary packet touches: copies of what the Tunnel says, in the
// form in which packets are compared with it, made by Pipeline::refresh_line() whenever a message
// or a packet that is not ordinary has changed the Tunnel. Where a copy may be out of date the
// packet goes through the stages, which look at the Tunnel itself.
struct alignas(64) TunnelLine {
  // As its packets begin: type 5 and tag, or type 4; and the local index of the current session.
  uint32_t receive_word = 0;
  uint32_t index = 0;  // 0: nothing is ordinary here
  Endpoint remote;
  uint16_t mtu_bytes = 0;  // of an inner packet
  uint64_t hash_key = 0;   // of the subscriber
  uint32_t expires_s = 0;  // coarse clock: when the session may be over
  Ipv4Address inner_address;
  uint32_t block_first = 0;   // the subscriber's first block; checked by what is found there
  uint8_t block_bits = 0;     // log2 of its ports; 0: none
  bool more_blocks = false;   // a mapping may stand in another one
  bool encrypted = false;     // the session's data packets are type 4
  uint8_t unused = 0;
  uint32_t send_word = 0;     // first four bytes of what we send: type 5 and tag
  Le32 remote_index;
  // Traffic since it was last reported (Pipeline::report_traffic).
  uint32_t rx_packets = 0;
  uint32_t rx_bytes = 0;
  uint32_t tx_packets = 0;
  uint32_t tx_bytes = 0;

  bool has_traffic() const { return (rx_packets | tx_packets) != 0; }
};
static_assert(sizeof(TunnelLine) == 64);

class TunnelTable {
 public:
  // `slots` is a power of two. Slot 0 is never used, so that index 0 is nobody's.
  explicit TunnelTable(unsigned slots, unsigned workers = 1);

  unsigned slots() const { return mask_ + 1; }
  unsigned slot_bits() const;
  // The worker whose a tunnel in this slot is until it is moved (ownership.h). Slots of the same
  // lowest bits have the same.
  unsigned home(uint32_t slot) const { return homes_[slot % kHomeClasses]; }
  Tunnel& at(uint32_t slot) { return tunnels_[slot & mask_]; }
  const Tunnel& at(uint32_t slot) const { return tunnels_[slot & mask_]; }
  Tunnel& by_index(uint32_t receiver_index) { return tunnels_[receiver_index & mask_]; }
  uint32_t slot_of(const Tunnel& tunnel) const {
    return static_cast<uint32_t>(&tunnel - tunnels_.data());
  }
  uint32_t slot_of_index(uint32_t receiver_index) const { return receiver_index & mask_; }
  TunnelLine& line(uint32_t slot) { return lines_[slot & mask_]; }
  TunnelReport& report(uint32_t slot) { return reports_[slot & mask_]; }
  const TunnelReport& report(uint32_t slot) const { return reports_[slot & mask_]; }
  // at(slot).open without a look at the Tunnel.
  OpenTunnel& open(uint32_t slot) { return open_[slot & mask_]; }
  const OpenTunnel& open(uint32_t slot) const { return open_[slot & mask_]; }

  // Makes a slot as new; its sessions, and so the keys, are forgotten.
  void clear(uint32_t slot);

 private:
  template <typename Of>
  struct Array {  // of one for each slot
    explicit Array(unsigned slots) : memory(slots * sizeof(Of)) {}
    Of* data() const { return reinterpret_cast<Of*>(memory.data()); }
    Of& operator[](uint32_t slot) const { return data()[slot]; }
    HugeMemory memory;
  };
  static constexpr unsigned kHomeClasses = 64;
  uint32_t mask_;
  std::array<uint8_t, kHomeClasses> homes_{};
  Array<TunnelLine> lines_;
  Array<Tunnel> tunnels_;
  Array<TunnelReport> reports_;
  Array<OpenTunnel> open_;
};

// What a tunnel that may be takes of memory, whether it is open or not. What it takes besides while
// it is open: an OpenTunnel, and its expanded keys.
inline constexpr size_t kTunnelBytes = sizeof(TunnelLine) + sizeof(Tunnel) + sizeof(TunnelReport);
static_assert(kTunnelBytes <= 256);

}  // namespace adit::gateway
