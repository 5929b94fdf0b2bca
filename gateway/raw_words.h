// Bytes of a packet as integers, as a plain load gives them on this machine: values are compared as
// they lie in memory, so constants are turned and not packets.
#pragma once

#include <cstdint>
#include <cstring>

#include "lib/net/be.h"

namespace adit::gateway {

template <typename Word>
Word load(const uint8_t* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}
template <typename Word>
void store(uint8_t* at, Word word) {
  std::memcpy(at, &word, sizeof word);
}
inline uint16_t load_host16(const uint8_t* at) {
  return Be16::from_raw(load<uint16_t>(at)).host();
}
constexpr uint16_t raw16(unsigned host) {
  return Be16::from_host(static_cast<uint16_t>(host)).raw();
}
// An endpoint like nat::packed() of it.
inline uint64_t raw_endpoint(const uint8_t* address, const uint8_t* port) {
  return uint64_t{load<uint32_t>(address)} << 16 | load<uint16_t>(port);
}

}  // namespace adit::gateway
