// The smoothed round-trip time to the gateway, from probes (RFC 6298 §2).
#pragma once

#include <cstdint>
#include <optional>

namespace adit::client {

class RoundTrip {
 public:
  // A probe that is not answered after so long is forgotten.
  static constexpr uint64_t kLongestNs = 10'000'000'000;

  // A probe left, stamped with the time. Its stamp is remembered: an answer to anything else,
  // an old probe or none of ours, is no sample. Of several on their way it is the first, so that
  // there are samples too where the round trip is longer than the interval.
  void on_probe(uint64_t now_ns) {
    if (!outstanding_ns_ || now_ns - *outstanding_ns_ >= kLongestNs) outstanding_ns_ = now_ns;
  }

  // Returns whether the answer was a sample.
  bool on_reply(uint64_t stamp_ns, uint64_t now_ns) {
    if (!outstanding_ns_ || stamp_ns != *outstanding_ns_ || now_ns < stamp_ns) return false;
    outstanding_ns_.reset();
    const uint64_t sample_ns = now_ns - stamp_ns;
    if (!has_sample_) {
      has_sample_ = true;
      smoothed_ns_ = sample_ns;
      variation_ns_ = sample_ns / 2;
      return true;
    }
    const uint64_t distance_ns =
        smoothed_ns_ > sample_ns ? smoothed_ns_ - sample_ns : sample_ns - smoothed_ns_;
    variation_ns_ = variation_ns_ - variation_ns_ / 4 + distance_ns / 4;  // beta = 1/4
    smoothed_ns_ = smoothed_ns_ - smoothed_ns_ / 8 + sample_ns / 8;       // alpha = 1/8
    return true;
  }

  void reset() { *this = RoundTrip{}; }
  bool has_sample() const { return has_sample_; }
  uint64_t smoothed_ns() const { return smoothed_ns_; }
  uint64_t variation_ns() const { return variation_ns_; }

 private:
  std::optional<uint64_t> outstanding_ns_;
  bool has_sample_ = false;
  uint64_t smoothed_ns_ = 0;
  uint64_t variation_ns_ = 0;
};

}  // namespace adit::client
