// One lane's packets, on a thread of their own. It reads its queue of the device and sends each
// packet in the packet's lane, receives at its lane's socket and writes to its queue; for a
// moment also at the one that its lane had at a gateway that was left. Handshake messages go to the
// main thread as they came.
//
// It has the main thread's filter of system calls, and gives up all rights before it begins. What a
// packet needs is its own; what others give it comes by the LaneBoard.
//
// Owner: Lanes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "client-lite/config.h"
#include "client-lite/counters.h"
#include "client-lite/device_writer.h"
#include "client-lite/file_descriptor.h"
#include "client-lite/lane_board.h"
#include "client-lite/lane_sender.h"
#include "client-lite/tun.h"
#include "client-lite/udp_socket.h"

namespace adit::client {

// A handshake message that came in a lane, as one datagram of a Unix socket.
struct LaneMail {
  uint8_t lane = 0;
  uint8_t bytes = 0;  // of the message
  std::array<uint8_t, sizeof(tunnel::ResponseMessage)> message{};

  std::span<const uint8_t> span() const { return std::span(message).first(bytes); }
};

class LaneThread {
 public:
  // `mail` is the socket to send LaneMail to.
  LaneThread(unsigned lane, LaneBoard& board, const Config& config, int mail);
  ~LaneThread() { stop(); }
  LaneThread(const LaneThread&) = delete;
  LaneThread& operator=(const LaneThread&) = delete;

  // Makes its queue of `device`. False: `refusal` says why.
  bool open(const Tun& device, std::string& refusal);
  // False: there is no thread, and `refusal` says why.
  bool start(std::string& refusal);
  // Ends it, and waits until it has ended.
  void stop();

  const Counters& counters() const { return counters_; }

 private:
  void run();
  void receive(uint64_t now_ns);
  void receive_left(uint64_t now_ns);
  void take(std::span<uint8_t> datagram, const Endpoint& source, uint64_t now_ns);
  void post(std::span<const uint8_t> message);
  void answer_heartbeat(uint64_t now_ns);

  const unsigned lane_;
  LaneBoard& board_;
  const int mail_;
  Counters counters_;
  Tun queue_;
  LaneSender sender_;
  DeviceWriter writer_{queue_, counters_};
  FileDescriptor wake_;
  std::atomic<bool> is_ending_{false};
  uint64_t last_answer_ns_ = 0;  // rule 12
  std::array<ArrivalBuffer, kReceiveBatch> inbound_;
  std::thread thread_;
};

}  // namespace adit::client
