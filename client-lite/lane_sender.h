// What one thread needs to send in any lane: sessions as the main thread has published them, with
// keys expanded for this thread alone, and the lanes' sockets. Packets of one read of the device
// leave in a batch for each lane.
//
// Owner: Lanes, for the main thread, and each LaneThread. Nothing here allocates but refresh().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "client-lite/config.h"
#include "client-lite/counters.h"
#include "client-lite/device_reader.h"
#include "client-lite/lane_board.h"
#include "client-lite/packet_lanes.h"
#include "client-lite/packet_path.h"
#include "client-lite/packet_queue.h"
#include "client-lite/tun.h"
#include "client-lite/udp_socket.h"

namespace adit::client {

class LaneSender {
 public:
  // How long a fragment waits for its datagram's first, as at the gateway.
  static constexpr uint64_t kFragmentWaitNs = 2'000'000'000;

  // `receives`: the lane whose packets this thread takes in, too.
  LaneSender(LaneBoard& board, Counters& counters, const Config& config,
             std::optional<unsigned> receives = {});

  // Takes in what the main thread has changed, and sends what waited for it. True if it has.
  bool refresh(uint64_t now_ns);
  // Forgets the keys of sessions that have ended by time, and fragments that have waited for their
  // first long enough; and when that is to be done next.
  void expire(uint64_t now_ns);
  uint64_t next_expiry_ns() const { return next_expiry_ns_; }
  // Sends what waits at this queue of the device, up to a batch. False: the device was taken away.
  bool send_from(Tun& queue, uint64_t now_ns);
  // Seals and sends a control message: nothing at all, or a probe. False: nothing to send it in.
  bool send_heartbeat(unsigned lane, uint64_t now_ns);
  bool send_probe(unsigned lane, uint8_t kind, uint64_t stamp, uint64_t now_ns);

  // For who receives in this lane on this thread.
  PacketPath& path(unsigned lane) { return lanes_[lane]->path; }
  UdpSocket& socket(unsigned lane) { return lanes_[lane]->socket; }
  // What its lane was at the gateway that was left a moment ago: packets may be under way there.
  // Without a descriptor where there is none.
  PacketPath& left_path() { return left_path_; }
  UdpSocket& left_socket() { return left_socket_; }

 private:
  struct Lane {
    explicit Lane(Counters& counters) : path(counters) {}

    PacketPath path;
    UdpSocket socket;
    unsigned count = 0;  // of datagrams in the batch
    uint64_t bytes = 0;  // of inner packets in them
    std::array<std::span<const uint8_t>, kSendBatch> datagrams;
  };

  void find_next_expiry();
  void leave(uint64_t now_ns);
  void forget_left();
  void take(const LaneView& fresh, const LaneView& known, Lane& lane);
  std::optional<Admitted> admit(std::span<const uint8_t> inner, uint64_t now_ns);
  void keep_fragment(std::span<const uint8_t> inner, const Admitted& packet, uint64_t now_ns);
  bool put_out(const Admitted& packet, uint64_t now_ns);
  bool put_one_out(const Admitted& packet, uint64_t now_ns);
  void wrap(PacketBuffer& buffer, const Admitted& packet);
  void send_batches(uint64_t now_ns);
  void flush_waiting(uint64_t now_ns);
  void release_fragments(uint64_t now_ns);
  void send_or_keep(PacketQueue::Waiting& waiting, uint64_t now_ns);
  bool send_control(unsigned lane, size_t inner_bytes, uint64_t now_ns);

  LaneBoard& board_;
  Counters& counters_;
  uint64_t version_ = 0;
  LanesView view_;  // whose sessions have been taken: their keys are not kept twice
  uint64_t next_expiry_ns_ = UINT64_MAX;
  const std::optional<unsigned> receives_;
  PacketPath left_path_;
  UdpSocket left_socket_;
  uint64_t left_ends_ns_ = UINT64_MAX;
  std::vector<std::unique_ptr<Lane>> lanes_;
  DeviceReader reader_;
  PacketLanes packet_lanes_;
  PacketQueue waiting_;    // whose lane has no session
  PacketQueue fragments_;  // whose lane is not known, since their first has not come
  unsigned used_ = 0;      // of buffers_
  std::array<PacketBuffer, kSendBatch> buffers_;
  PacketBuffer control_buffer_;
};

}  // namespace adit::client
