// What threads share where a tunnel has lanes. The main thread writes a view of how each lane is
// sent in, which the others copy when its version says that it is another: between two handshakes
// they read one number. They write reports, which the main thread reads when its timers run.
//
//     main ── change() ──► view, version ──► read() by each thread, when has_news()
//     main ◄── LaneReport: single relaxed values ── each thread
//
// Sessions' keys never change; the only thing that senders in one lane have in common is its
// session's counter, an atomic.
//
// Owner: Lanes.
#pragma once

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "client-lite/packet_path.h"
#include "client-lite/udp_socket.h"
#include "lib/net/address.h"
#include "lib/tunnel/session.h"

namespace adit::client {

// How a lane is sent in.
struct LaneView {
  tunnel::Session session;                  // which does not exist while the lane has none
  SharedCounter next_counter;               // of the session: another session has another
  std::shared_ptr<const UdpSocket> socket;  // each thread shares it for itself

  bool has_session() const { return next_counter != nullptr; }
};

struct LanesView {
  // Which it is of the client's tunnels, one after another: a packet that waits is for one of them.
  uint64_t tunnel = 0;
  // How often one has been left for another gateway's while it carried packets.
  uint64_t moves = 0;
  unsigned lanes = 1;  // granted: each endpoint's lane is one of these
  Endpoint gateway;
  std::optional<Ipv4Interface> address;  // inner, in the gateway's network
  uint16_t mtu_bytes = 0;                // of the device; 0: not known yet
  std::array<LaneView, tunnel::kLanesMax> lane;
};

// Of one lane, by whichever thread. Each of these is true by itself, and nothing follows from two
// of them together.
struct alignas(64) LaneReport {
  std::atomic<uint64_t> sent_ns{0};          // when a packet of the device's was sent last
  std::atomic<uint64_t> heard_ns{0};         // when something authentic came last
  std::atomic<uint64_t> heard_packet_ns{0};  // when that was a packet
  std::atomic<bool> is_awaited{false};       // a packet waits for a session
  std::atomic<uint64_t> tx_packets{0};
  std::atomic<uint64_t> tx_bytes{0};  // of inner packets
  std::atomic<uint64_t> rx_bytes{0};
};

// An eventfd. Ringing can only fail because it rings already, silencing because it does not.
inline void ring(int bell) {
  const uint64_t one = 1;
  if (::write(bell, &one, sizeof one) < 0) return;
}
inline void silence(int bell) {
  uint64_t rings = 0;
  if (::read(bell, &rings, sizeof rings) < 0) return;
}

class LaneBoard {
 public:
  // Main thread: `write(LanesView&)` changes the view.
  template <typename Write>
  void change(const Write& write) {
    {
      const std::lock_guard lock(mutex_);
      write(view_);
      version_.fetch_add(1, std::memory_order_release);
    }
    for (const int bell : bells_) ring(bell);
  }
  // Main thread: an eventfd to ring when there is news.
  void add_bell(int bell) { bells_.push_back(bell); }

  // Whether the view is another than at the read() that gave `version`; 0: none was read yet.
  bool has_news(uint64_t version) const {
    return version_.load(std::memory_order_acquire) != version;
  }
  LanesView read(uint64_t& version) const {
    const std::lock_guard lock(mutex_);
    version = version_.load(std::memory_order_relaxed);
    return view_;
  }

  LaneReport& report(unsigned lane) { return reports_[lane]; }
  const LaneReport& report(unsigned lane) const { return reports_[lane]; }

 private:
  mutable std::mutex mutex_;
  std::atomic<uint64_t> version_{1};
  LanesView view_;
  std::array<LaneReport, tunnel::kLanesMax> reports_;
  std::vector<int> bells_;
};

}  // namespace adit::client
