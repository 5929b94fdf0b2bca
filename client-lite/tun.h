// The virtual network card: a TUN device of Linux, one inner packet a read or write; with
// offloads a large one, which stands for many. The device lasts as long as this object; the
// kernel takes its addresses and routes away with it.
//
// Owner: main, which hands it to Client.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "client-lite/file_descriptor.h"
#include "client-lite/offload.h"

namespace adit::client {

class Tun {
 public:
  // `offloads` false: the kernel is not even asked for large packets. False: `refusal` says why, in
  // a sentence.
  bool open(const std::string& name, bool offloads, std::string& refusal);

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
