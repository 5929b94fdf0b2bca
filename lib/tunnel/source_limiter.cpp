#include "lib/tunnel/source_limiter.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "lib/tunnel/session.h"

namespace adit::tunnel {

namespace {

constexpr unsigned kPortBits = 4;  // of a port that belong to the source

uint64_t number_of(const Endpoint& source) {
  return uint64_t{source.address.host()} << kPortBits | source.port.host() >> (16 - kPortBits);
}

}  // namespace

SourceLimiter::SourceLimiter(const Rate& rate, size_t sources, uint64_t seed)
    : token_ns_(kSecondNs / rate.per_second),
      deepest_ns_((rate.burst - 1) * token_ns_),
      seed_(seed | 1),
      lines_(sources / std::tuple_size_v<decltype(Line::buckets)>) {
  assert(std::has_single_bit(lines_.size()) && lines_.size() > 1);
}

// Multiply-shift: the product's highest bits depend on all of the source's.
size_t SourceLimiter::line_of(uint64_t source) const {
  return static_cast<size_t>((source * seed_) >> (64 - std::countr_zero(lines_.size())));
}

bool SourceLimiter::may(const Endpoint& source, uint64_t now_ns) const {
  const uint64_t number = number_of(source);
  for (const Bucket& bucket : lines_[line_of(number)].buckets) {
    if (bucket.source == number) return has_token(bucket, now_ns);
  }
  return true;
}

void SourceLimiter::charge(const Endpoint& source, uint64_t now_ns) {
  const uint64_t number = number_of(source);
  auto& buckets = lines_[line_of(number)].buckets;
  auto found = std::ranges::find(buckets, number, &Bucket::source);
  if (found == buckets.end()) {
    // The place of one that is full, or else of the one that is nearest to it.
    found = std::ranges::min_element(buckets, {}, &Bucket::full_ns);
    *found = {number, now_ns};
  }
  found->full_ns = std::max(found->full_ns, now_ns) + token_ns_;
}

}  // namespace adit::tunnel
