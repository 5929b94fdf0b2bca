// ChaCha20-Poly1305 (RFC 8439) of short texts, several at a time: the blocks of the key stream that
// they need, two to five of a text, are made together, one in each lane of a vector. The library's
// functions do one text after another, and of so short a one most of their work is for nothing.
// Agrees byte for byte with lib/tunnel/seal.h, as all of gateway/crypto.h does, whose part it is.
#pragma once

#include <cstdint>
#include <span>

namespace adit::gateway {

// Bytes, above which the library is as quick: it depends on how many lanes a register has.
extern const unsigned kShortTextMax;

struct ShortText {
  const uint8_t* key = nullptr;  // of 32 bytes
  uint64_t counter = 0;          // the nonce: four zero bytes, then this, little-endian
  uint8_t* text = nullptr;
  unsigned bytes = 0;      // at most kShortTextMax
  uint8_t* tag = nullptr;  // where to write that of the ciphertext, 16 bytes
};

// In place, and without additional data.
void encrypt(std::span<const ShortText> texts);
void decrypt(std::span<const ShortText> texts);

}  // namespace adit::gateway
