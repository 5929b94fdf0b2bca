// The virtual network card: a TUN device of Linux, one inner packet a read or write. The device
// lasts as long as this object; the kernel takes its addresses and routes away with it.
//
// Owner: main, which hands it to Client.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "client-lite/file_descriptor.h"

namespace adit::client {

class Tun {
 public:
  // False: `refusal` says why, in a sentence.
  bool open(const std::string& name, std::string& refusal);

  int fd() const { return device_.get(); }
  uint32_t interface_index() const { return interface_index_; }
  const std::string& name() const { return name_; }

  enum class Outcome : uint8_t { packet, nothing, gone };
  // Reads one packet into `room`, or finds that none waits.
  Outcome read(std::span<uint8_t> room, size_t& bytes);
  // False when the kernel refuses the packet: the device is down, or the packet is not sound.
  bool write(std::span<const uint8_t> packet);

 private:
  FileDescriptor device_;
  uint32_t interface_index_ = 0;
  std::string name_;
};

}  // namespace adit::client
