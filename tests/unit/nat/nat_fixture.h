// A translator with memory of its own and a clock that a test moves. Endpoints by number.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "lib/nat/nat.h"
#include "lib/net/headers.h"

namespace adit::nat {

inline constexpr Ipv4Address kFirstPoolAddress = Ipv4Address::from_octets(30, 1, 1, 10);

inline Ipv4Address pool_address(uint32_t index) {
  return Ipv4Address::from_host(kFirstPoolAddress.host() + index);
}

inline Settings settings_with_pool(uint32_t addresses) {
  Settings settings;
  for (uint32_t i = 0; i < addresses; ++i) settings.pool.push_back(pool_address(i));
  settings.profiles[0].limits = {.mappings = 100'000,
                                 .new_mappings_per_second = 1'000'000,
                                 .new_mappings_burst = 1'000'000};
  return settings;
}

// The n-th endpoint behind a tunnel: a few hosts, many ports.
inline Endpoint internal_endpoint(uint32_t n) {
  return {Ipv4Address::from_host(0xc0a80101 + n / 40000),
          Be16::from_host(static_cast<uint16_t>(1024 + n % 40000))};
}

class TestNat {
 public:
  explicit TestNat(const Settings& settings, uint64_t seed = 1)
      : random_(seed), bytes_(Nat::memory_bytes(settings)) {
    // calloc's pages are zero without being touched; only alignment is left to do.
    block_.reset(std::calloc(1, bytes_ + 64));
    const auto start = reinterpret_cast<uintptr_t>(block_.get());
    memory_ = reinterpret_cast<std::byte*>((start + 63) / 64 * 64);
    nat_ = std::make_unique<Nat>(settings, memory(), [this] { return random_(); });
  }

  Nat& nat() { return *nat_; }
  Nat* operator->() { return nat_.get(); }
  std::span<std::byte> memory() { return {memory_, bytes_}; }

  // A mapping that must come into being.
  Mapping* create(Subscriber& subscriber, Protocol protocol, const Endpoint& internal) {
    Refusal refusal = Refusal::none;
    Mapping* const mapping = nat_->create_outbound(subscriber, protocol, internal, now_s, refusal);
    EXPECT_NE(mapping, nullptr) << "refusal " << static_cast<int>(refusal);
    EXPECT_EQ(refusal, Refusal::none);
    return mapping;
  }
  Refusal refusal_of(Subscriber& subscriber, Protocol protocol, const Endpoint& internal) {
    Refusal refusal = Refusal::none;
    Mapping* const mapping = nat_->create_outbound(subscriber, protocol, internal, now_s, refusal);
    EXPECT_EQ(mapping == nullptr, refusal != Refusal::none);
    return refusal;
  }
  Mapping* find(Subscriber& subscriber, Protocol protocol, const Endpoint& internal) {
    return nat_->find_outbound(subscriber, protocol, internal, now_s);
  }
  Mapping* find_inbound(const Endpoint& external, Protocol protocol) {
    return nat_->find_inbound(external.address, protocol, external.port, now_s);
  }
  // Two rounds: a round that begins within a block sees that block's beginning last, and only
  // the next one finds it empty.
  void sweep_all() {
    for (int round = 0; round < 2; ++round) {
      nat_->sweep(now_s, static_cast<unsigned>(nat_->granted_entries()));
    }
  }

  uint32_t now_s = 0xfffffe00;  // so that every longer test sees the clock wrap

 private:
  struct Free {
    void operator()(void* block) const { std::free(block); }
  };

  std::mt19937_64 random_;
  size_t bytes_;
  std::unique_ptr<void, Free> block_;
  std::byte* memory_ = nullptr;
  std::unique_ptr<Nat> nat_;
};

}  // namespace adit::nat
