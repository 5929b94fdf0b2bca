// Poly1305 (RFC 8439), in limbs of 64 bits: quickest for a few blocks, since nothing is prepared.
#pragma once

#include <cstdint>
#include <cstring>

namespace adit::gateway {

class Poly1305 {
  __extension__ using Wide = unsigned __int128;
  static constexpr unsigned kBlockBytes = 16;

 public:
  // `key`: 32 bytes, the first block of a key stream.
  explicit Poly1305(const uint8_t* key) {
    std::memcpy(r_, key, sizeof r_);
    std::memcpy(s_, key + sizeof r_, sizeof s_);
    r_[0] &= 0x0ffffffc0fffffff;
    r_[1] &= 0x0ffffffc0ffffffc;
  }

  // Of a text, whose last block is filled up with zeros.
  void add_text(const uint8_t* text, unsigned bytes) {
    uint64_t block[2];
    for (; bytes >= kBlockBytes; text += kBlockBytes, bytes -= kBlockBytes) {
      std::memcpy(block, text, sizeof block);
      add_block(block[0], block[1]);
    }
    if (bytes == 0) return;
    block[0] = block[1] = 0;
    std::memcpy(block, text, bytes);
    add_block(block[0], block[1]);
  }

  // Modulo 2^130 - 5: what stands above bit 130 comes back at the lower end, five times.
  void add_block(uint64_t low, uint64_t high) {
    const Wide sum0 = Wide{h_[0]} + low;
    const Wide sum1 = Wide{h_[1]} + high + static_cast<uint64_t>(sum0 >> 64);
    const auto a0 = static_cast<uint64_t>(sum0);
    const auto a1 = static_cast<uint64_t>(sum1);
    const uint64_t a2 = h_[2] + static_cast<uint64_t>(sum1 >> 64) + 1;
    const uint64_t r1_again = r_[1] + (r_[1] >> 2);  // times 2^128: the lowest two bits are clear
    const Wide product0 = Wide{a0} * r_[0] + Wide{a1} * r1_again;
    const Wide product1 = Wide{a0} * r_[1] + Wide{a1} * r_[0] + a2 * r1_again +
                          static_cast<uint64_t>(product0 >> 64);
    const uint64_t product2 = a2 * r_[0] + static_cast<uint64_t>(product1 >> 64);
    const uint64_t again = (product2 >> 2) + (product2 & ~uint64_t{3});
    const Wide folded0 = Wide{static_cast<uint64_t>(product0)} + again;
    const Wide folded1 =
        Wide{static_cast<uint64_t>(product1)} + static_cast<uint64_t>(folded0 >> 64);
    h_[0] = static_cast<uint64_t>(folded0);
    h_[1] = static_cast<uint64_t>(folded1);
    h_[2] = (product2 & 3) + static_cast<uint64_t>(folded1 >> 64);
  }

  void finish(uint8_t* tag) const {
    // Less 2^130 - 5 if it is no less than that, without a branch.
    const Wide sum0 = Wide{h_[0]} + 5;
    const Wide sum1 = Wide{h_[1]} + static_cast<uint64_t>(sum0 >> 64);
    const uint64_t sum2 = h_[2] + static_cast<uint64_t>(sum1 >> 64);
    const uint64_t is_above = 0 - (sum2 >> 2);
    const uint64_t low = (h_[0] & ~is_above) | (static_cast<uint64_t>(sum0) & is_above);
    const uint64_t high = (h_[1] & ~is_above) | (static_cast<uint64_t>(sum1) & is_above);
    const Wide out = (Wide{high} << 64 | low) + (Wide{s_[1]} << 64 | s_[0]);
    std::memcpy(tag, &out, sizeof out);
  }

 private:
  uint64_t r_[2];
  uint64_t s_[2];
  uint64_t h_[3] = {0, 0, 0};
};

}  // namespace adit::gateway
