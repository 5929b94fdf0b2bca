// Frames in a file, as tcpdump and Pktgen-DPDK read them.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

namespace adit::bench {

class PcapFile {
 public:
  // Throws std::runtime_error.
  explicit PcapFile(const std::string& path) : path_(path), file_(path, std::ios::binary) {
    const struct {
      uint32_t magic = 0xa1b2c3d4;  // microseconds, our byte order
      uint16_t major = 2;
      uint16_t minor = 4;
      uint32_t unused[2] = {0, 0};
      uint32_t longest = 65535;
      uint32_t link = 1;  // Ethernet
    } header;
    put(header);
  }
  void add(const uint8_t* frame, uint32_t bytes) {
    const struct {
      uint32_t seconds = 0;
      uint32_t microseconds = 0;
      uint32_t kept;
      uint32_t bytes;
    } record{.kept = bytes, .bytes = bytes};
    put(record);
    file_.write(reinterpret_cast<const char*>(frame), bytes);
  }
  void close() {
    if (!file_.flush()) throw std::runtime_error("cannot write " + path_);
  }

 private:
  template <typename T>
  void put(const T& value) {
    file_.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string path_;
  std::ofstream file_;
};

}  // namespace adit::bench
