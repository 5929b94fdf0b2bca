// How often somebody may fail: a token bucket for each source of handshakes, in a table of fixed
// size (WireGuard white paper, section 5.3). It is asked under load only, and only about sources
// that a cookie has proved, so nobody can use up what is another's but who sees his messages and
// sends them again.
//
// A source is an IPv4 address and a sixteenth of its ports. Many clients may come from one address,
// a carrier's translator; it gives each of them ports near each other, so that one who does harm
// uses up the tokens of a sixteenth of his neighbours. Only those that fail are charged, so clients
// alone never run out of tokens, however many come at once.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lib/net/address.h"

namespace adit::tunnel {

class SourceLimiter {
 public:
  struct Rate {
    uint32_t per_second = 20;  // tokens that come back; 1 at least
    uint32_t burst = 5;        // tokens of a source that has been quiet; 1 at least
  };
  // `sources` are remembered at a time, a multiple of four that is a power of two, in 16 bytes
  // each. `seed` is random, so that nobody can choose addresses that share a place.
  SourceLimiter(const Rate& rate, size_t sources, uint64_t seed);

  // Whether the source has a token left.
  bool may(const Endpoint& source, uint64_t now_ns) const;
  // Takes one. Where several of a source are under way at once, all may fail that were let in for
  // the same token: then those that have yet to come back are taken too.
  void charge(const Endpoint& source, uint64_t now_ns);

 private:
  // A bucket is the time at which it will be full again: then it says nothing any more, and its
  // place is free. So no hand has to age the table.
  struct Bucket {
    uint64_t source = 0;
    uint64_t full_ns = 0;
  };
  struct alignas(64) Line {
    std::array<Bucket, 4> buckets;
  };

  size_t line_of(uint64_t source) const;
  bool has_token(const Bucket& bucket, uint64_t now_ns) const {
    return bucket.full_ns <= now_ns + deepest_ns_;
  }

  const uint64_t token_ns_;    // a token comes back in this time
  const uint64_t deepest_ns_;  // so long before it is full a bucket still has one token
  const uint64_t seed_;
  std::vector<Line> lines_;
};

}  // namespace adit::tunnel
