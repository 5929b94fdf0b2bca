// The virtual network card: a TUN device of Linux, one inner packet a read or write; with
// offloads a large one, which stands for many. The device lasts as long as this object; the
// kernel takes its addresses and routes away with it.
//
// A device may have several queues, each an object and a thread's own. The kernel puts a flow's
// packets into the queue that its packets from us were last written to, and those of a flow that it
// does not know by their hash.
//
// Owner: Client, and of a further queue its LaneThread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "client-lite/file_descriptor.h"
#include "lib/net/offload.h"

namespace adit::client {

class Tun {
 public:
  Tun() = default;
  // What is open already, and takes and gives packets one by one with nothing in front of them.
  explicit Tun(FileDescriptor device) : device_(std::move(device)) {}

  enum class Queues : uint8_t { one, many };
  // `offloads` false: the kernel is not even asked for large packets. False: `refusal` says why, in
  // a sentence.
  bool open(const std::string& name, bool offloads, Queues queues, std::string& refusal);
  // Makes `queue` another one of this device, which was opened for many.
  bool open_queue(Tun& queue, std::string& refusal) const;

  int fd() const { return device_.get(); }
  uint32_t interface_index() const { return interface_index_; }
  const std::string& name() const { return name_; }

  // What the kernel leaves to us, and takes from us: large packets of TCP, and of UDP too.
  bool has_tcp_offload() const { return has_tcp_offload_; }
  bool has_udp_offload() const { return has_udp_offload_; }

  enum class Outcome : uint8_t { packet, nothing, gone };
  struct Reading {
    // In `room`; one that is to be cut, or longer than the room, in a buffer of the device's own.
    std::span<uint8_t> packet;
    Offload offload;
  };
  // Reads one packet, or finds that none waits. It stays until the next read.
  Outcome read(std::span<uint8_t> room, Reading& reading);
  // Writes a packet that stands in one or more parts. False when the kernel refuses it: the device
  // is down, or the packet is not sound.
  bool write(const Offload& offload, std::span<const iovec> parts);

 private:
  static constexpr unsigned kPartsMax = 128;

  bool attach(const std::string& name, Queues queues, std::string& refusal);
  void probe_offloads();

  FileDescriptor device_;
  bool has_header_ = false;  // in front of every packet stands what is left to us
  bool has_tcp_offload_ = false;
  bool has_udp_offload_ = false;
  std::array<uint8_t, kLargeBytesMax> large_room_;
  uint32_t interface_index_ = 0;
  std::string name_;
};

}  // namespace adit::client
