#include "gateway/hand_off.h"

#include <string>

namespace adit::gateway {

HandOff::HandOff(const char* name, unsigned workers)
    : workers_(workers), rings_(size_t{workers} * workers) {
  for (unsigned from = 0; from < workers; ++from) {
    for (unsigned to = 0; to < workers; ++to) {
      if (from == to) continue;
      const std::string ring = std::string(name) + std::to_string(from) + "_" + std::to_string(to);
      rings_[from * workers + to] =
          std::make_unique<Channel<HandedPacket>>(ring.c_str(), kRingPackets);
    }
  }
}

}  // namespace adit::gateway
