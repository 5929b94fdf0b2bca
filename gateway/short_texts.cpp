#include "gateway/short_texts.h"

#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "gateway/inlined.h"
#include "gateway/poly1305.h"

namespace adit::gateway {
namespace {

// Of 32 bits: a block of the key stream, and what it is made of.
constexpr unsigned kBlockWords = 16;
constexpr unsigned kBlockBytes = 64;
constexpr unsigned kKeyWord = 4;       // where they stand in it
constexpr unsigned kNumberWord = 12;   // the block's
constexpr unsigned kCounterWord = 14;  // behind the nonce's four zero bytes
constexpr std::array<uint32_t, 4> kConstants{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

// As many as a register has: fewer would not be quicker, more would not fit.
#ifdef __AVX512F__
constexpr unsigned kLanes = 16;
constexpr unsigned kBytesMax = 256;
#else
constexpr unsigned kLanes = 8;
constexpr unsigned kBytesMax = 128;
#endif
using Words [[gnu::vector_size(kLanes * 4)]] = uint32_t;
using Block = std::array<uint32_t, kBlockWords>;

// ---- ChaCha20, a block in each lane ----

// Of two rows so far from each other: what stands in the first's upper lanes, of each
// 2 x kDistance, for what stands in the second's lower ones.
template <unsigned kDistance, unsigned... kLane>
ADIT_INLINED void exchange(Words& first, Words& second,
                           std::integer_sequence<unsigned, kLane...>) {
  const Words lower = __builtin_shufflevector(
      first, second, ((kLane & kDistance) == 0 ? kLane : kLanes + kLane - kDistance)...);
  second = __builtin_shufflevector(
      first, second, ((kLane & kDistance) == 0 ? kLane + kDistance : kLanes + kLane)...);
  first = lower;
}

template <unsigned kDistance>
ADIT_INLINED void exchange(Words* rows) {
#pragma GCC unroll 16
  for (unsigned i = 0; i < kLanes; ++i) {
    if ((i & kDistance) != 0) continue;
    exchange<kDistance>(rows[i], rows[i + kDistance],
                        std::make_integer_sequence<unsigned, kLanes>());
  }
}

// kLanes rows of kLanes words: rows become columns.
ADIT_INLINED void transpose(Words* rows) {
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  if constexpr (kLanes == 16) exchange<8>(rows);
}

template <unsigned kBits>
ADIT_INLINED void step(Words& to, const Words& from, Words& turned) {
  to += from;
  turned ^= to;
  turned = turned << kBits | turned >> (32 - kBits);
}

ADIT_INLINED void quarter_round(Words& a, Words& b, Words& c, Words& d) {
  step<16>(a, b, d);
  step<12>(c, d, b);
  step<8>(a, b, d);
  step<7>(c, d, b);
}

// What a block is made of becomes the block.
void make_blocks(std::array<Block, kLanes>& blocks) {
  constexpr unsigned kParts = kBlockWords / kLanes;  // of a block, a row each
  Words words[kBlockWords];                          // each of all blocks
  for (unsigned i = 0; i < kBlockWords; ++i) {
    std::memcpy(&words[i], &blocks[i % kLanes][i / kLanes * kLanes], sizeof(Words));
  }
  for (unsigned part = 0; part < kParts; ++part) transpose(words + part * kLanes);
  Words x[kBlockWords];
  std::memcpy(x, words, sizeof x);
  for (unsigned i = 0; i < 10; ++i) {
    quarter_round(x[0], x[4], x[8], x[12]);
    quarter_round(x[1], x[5], x[9], x[13]);
    quarter_round(x[2], x[6], x[10], x[14]);
    quarter_round(x[3], x[7], x[11], x[15]);
    quarter_round(x[0], x[5], x[10], x[15]);
    quarter_round(x[1], x[6], x[11], x[12]);
    quarter_round(x[2], x[7], x[8], x[13]);
    quarter_round(x[3], x[4], x[9], x[14]);
  }
  for (unsigned i = 0; i < kBlockWords; ++i) x[i] += words[i];
  for (unsigned part = 0; part < kParts; ++part) transpose(x + part * kLanes);
  for (unsigned i = 0; i < kBlockWords; ++i) {
    std::memcpy(&blocks[i % kLanes][i / kLanes * kLanes], &x[i], sizeof(Words));
  }
}

void prepare(Block& block, const ShortText& text, uint32_t number) {
  std::memcpy(&block[0], kConstants.data(), sizeof kConstants);
  std::memcpy(&block[kKeyWord], text.key, 32);
  const uint64_t front = number;  // and the nonce's zero bytes
  std::memcpy(&block[kNumberWord], &front, sizeof front);
  std::memcpy(&block[kCounterWord], &text.counter, sizeof text.counter);
}

// `stream` has as many bytes as the text.
ADIT_INLINED void add_key_stream(uint8_t* text, const uint8_t* stream, unsigned bytes) {
  const auto add = [&]<typename Word>(Word, unsigned at) {
    Word a;
    Word b;
    std::memcpy(&a, text + at, sizeof a);
    std::memcpy(&b, stream + at, sizeof b);
    a ^= b;
    std::memcpy(text + at, &a, sizeof a);
  };
  unsigned at = 0;
  for (; at + 8 <= bytes; at += 8) add(uint64_t{}, at);
  for (; at < bytes; ++at) add(uint8_t{}, at);
}

// ---- Many texts ----

// Without additional data: the text, and the lengths of both.
void write_tag(const uint8_t* key, const ShortText& text) {
  Poly1305 poly(key);
  poly.add_text(text.text, text.bytes);
  poly.add_block(0, text.bytes);
  poly.finish(text.tag);
}

// Of a text, its tag's key the first.
constexpr unsigned blocks_of(const ShortText& text) {
  return 1 + (text.bytes + kBlockBytes - 1) / kBlockBytes;
}
static_assert(1 + kBytesMax / kBlockBytes <= kLanes);

// From the first on as many as there are lanes for; returns how many.
template <bool kEncrypts>
size_t run_some(std::span<const ShortText> texts) {
  alignas(64) std::array<Block, kLanes> blocks;
  unsigned lanes = 0;
  size_t count = 0;
  for (; count < texts.size() && lanes + blocks_of(texts[count]) <= kLanes; ++count) {
    const ShortText& text = texts[count];
    assert(text.bytes <= kBytesMax);
    for (unsigned i = 0; i < blocks_of(text); ++i) prepare(blocks[lanes++], text, i);
  }
  while (lanes < kLanes) blocks[lanes++] = {};
  make_blocks(blocks);
  lanes = 0;
  for (const ShortText& text : texts.first(count)) {
    const auto* const key = reinterpret_cast<const uint8_t*>(&blocks[lanes]);
    if (!kEncrypts) write_tag(key, text);
    add_key_stream(text.text, key + kBlockBytes, text.bytes);
    if (kEncrypts) write_tag(key, text);
    lanes += blocks_of(text);
  }
  return count;
}

}  // namespace

const unsigned kShortTextMax = kBytesMax;

void encrypt(std::span<const ShortText> texts) {
  while (!texts.empty()) texts = texts.subspan(run_some<true>(texts));
}

void decrypt(std::span<const ShortText> texts) {
  while (!texts.empty()) texts = texts.subspan(run_some<false>(texts));
}

}  // namespace adit::gateway
