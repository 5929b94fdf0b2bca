// Packets without IP options, cut into fragments as a test wants them.
#pragma once

#include "tests/support/packets.h"

namespace adit::test {

Ipv4Header header_of(const Bytes& packet);

// Bytes [begin, end) of a whole packet's payload, as a fragment of it.
Bytes piece_of(const Bytes& whole, size_t begin, size_t end);

// In pieces of `bytes`, a multiple of 8.
std::vector<Bytes> pieces_of(const Bytes& whole, size_t bytes);

Bytes with_ttl(const Bytes& packet, uint8_t ttl);
Bytes with_id(const Bytes& packet, uint16_t id);

}  // namespace adit::test
