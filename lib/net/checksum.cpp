#include "lib/net/checksum.h"

#include <cstring>

namespace adit {

PartialSum sum_bytes(std::span<const uint8_t> bytes) {
  // 32-bit words into a 64-bit sum: no carry is lost below 2^32 words.
  PartialSum sum = 0;
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 16; left -= 16, at += 16) {
    uint32_t words[4];
    std::memcpy(words, at, sizeof words);
    sum += uint64_t{words[0]} + words[1] + words[2] + words[3];
  }
  for (; left >= 2; left -= 2, at += 2) {
    uint16_t word;
    std::memcpy(&word, at, sizeof word);
    sum += word;
  }
  if (left == 1) {
    const uint8_t padded[2] = {*at, 0};
    uint16_t word;
    std::memcpy(&word, padded, sizeof word);
    sum += word;
  }
  return sum;
}

Be16 internet_checksum(std::span<const uint8_t> bytes) {
  return Be16::from_raw(static_cast<uint16_t>(~fold(sum_bytes(bytes))));
}

Be16 transport_checksum(Ipv4Address source, Ipv4Address destination, uint8_t protocol,
                        std::span<const uint8_t> segment) {
  PartialSum sum = sum_bytes(segment);
  sum += source.value.raw();
  sum += destination.value.raw();
  sum += Be16::from_host(protocol).raw();
  sum += Be16::from_host(static_cast<uint16_t>(segment.size())).raw();
  return Be16::from_raw(static_cast<uint16_t>(~fold(sum)));
}

}  // namespace adit
