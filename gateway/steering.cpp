#include "gateway/steering.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "lib/nat/port_block.h"

namespace adit::gateway {

using nat::kPortsPerAddress;
using nat::kUnitsPerAddress;
using nat::kWindowPorts;

namespace {

constexpr unsigned kKeyBit = 111;

// Low ports are one block a worker, each a power of two.
void share_low_ports(SteeringPlan& plan, const config::PortRange& low) {
  const unsigned windows = low.count() / kWindowPorts;
  const unsigned parts = std::min(std::bit_ceil(plan.workers), windows);
  for (unsigned i = 0; i < windows; ++i) {
    const unsigned part = i / (windows / parts);
    // A part too many is nobody's, so that nobody has two.
    plan.shares[low.first / kWindowPorts + i] =
        static_cast<uint8_t>(part < plan.workers ? part : kWorkersMax);
  }
}

}  // namespace

std::optional<SteeringPlan> plan_steering(unsigned workers, unsigned block_ports_max,
                                          unsigned redirection_entries,
                                          const std::optional<config::PortRange>& low_ports) {
  assert(workers >= 1 && workers <= kWorkersMax && std::has_single_bit(block_ports_max));
  SteeringPlan plan{.workers = workers, .slices = 1, .shares = {}};
  if (workers == 1) return plan;
  plan.slices = std::min(kPortsPerAddress / block_ports_max, kRedirectionMax);
  if (redirection_entries != 0) {
    plan.slices = std::min(plan.slices, std::bit_floor(redirection_entries));
  }
  if (plan.slices < workers) return std::nullopt;
  plan.shares.resize(kUnitsPerAddress);
  for (unsigned unit = 0; unit < kUnitsPerAddress; ++unit) {
    const unsigned slice = unit / (kUnitsPerAddress / plan.slices);
    plan.shares[unit] = static_cast<uint8_t>(slice % workers);
  }
  if (low_ports) share_low_ports(plan, *low_ports);
  return plan;
}

std::vector<uint8_t> port_steering_key(unsigned bytes) {
  assert(bytes * 8 > kKeyBit);
  std::vector<uint8_t> key(bytes);
  key[kKeyBit / 8] = static_cast<uint8_t>(0x80 >> kKeyBit % 8);
  return key;
}

std::vector<uint8_t> flow_steering_key(unsigned bytes) {
  std::vector<uint8_t> key(bytes);
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (uint8_t& byte : key) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<uint8_t>(state >> 56);
  }
  return key;
}

std::vector<uint16_t> port_redirection(const SteeringPlan& plan, unsigned entries) {
  assert(std::has_single_bit(entries) && entries >= plan.slices);
  const auto bits = static_cast<unsigned>(std::countr_zero(plan.slices));
  std::vector<uint16_t> queues(entries);
  for (unsigned entry = 0; entry < entries; ++entry) {
    unsigned slice = 0;  // the entry's lowest bits, reversed
    for (unsigned bit = 0; bit < bits; ++bit) slice |= (entry >> bit & 1) << (bits - 1 - bit);
    queues[entry] = static_cast<uint16_t>(slice % plan.workers);
  }
  return queues;
}

std::vector<uint16_t> even_redirection(unsigned queues, unsigned entries) {
  std::vector<uint16_t> out(entries);
  for (unsigned entry = 0; entry < entries; ++entry) {
    out[entry] = static_cast<uint16_t>(entry % queues);
  }
  return out;
}

}  // namespace adit::gateway
