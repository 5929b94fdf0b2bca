#include "tests/support/nic_model.h"

#include <rte_thash.h>

#include "lib/net/headers.h"

namespace adit::test {

NicModel::NicModel(std::vector<uint8_t> key, std::vector<uint16_t> queues, bool hashes_addresses)
    : key_(std::move(key)), queues_(std::move(queues)), hashes_addresses_(hashes_addresses) {}

NicModel NicModel::by_port(const gateway::SteeringPlan& plan, unsigned entries) {
  return {gateway::port_steering_key(40), gateway::port_redirection(plan, entries), false};
}

NicModel NicModel::by_flow(const gateway::SteeringPlan& plan, unsigned entries) {
  return {gateway::flow_steering_key(40), gateway::even_redirection(plan.workers, entries), true};
}

uint32_t NicModel::hash_of(std::span<const uint8_t> frame) const {
  size_t at = 14;
  if (frame.size() > 18 && frame[12] == 0x81 && frame[13] == 0) at += 4;
  const auto byte = [&](size_t i) { return at + i < frame.size() ? uint32_t{frame[at + i]} : 0u; };
  const auto word = [&](size_t i) { return byte(i) << 8 | byte(i + 1); };
  if (byte(0) >> 4 != 4) return 0;
  const bool is_fragment = (word(6) & 0x3fff) != 0;
  const bool has_ports = !is_fragment && (byte(9) == kIpUdp || byte(9) == kIpTcp);
  const size_t ports = (byte(0) & 15) * 4;
  uint32_t tuple[3] = {word(12) << 16 | word(14), word(16) << 16 | word(18),
                       word(ports) << 16 | word(ports + 2)};
  if (has_ports) return rte_softrss(tuple, 3, key_.data());
  return hashes_addresses_ ? rte_softrss(tuple, 2, key_.data()) : 0;
}

unsigned NicModel::queue_of(std::span<const uint8_t> frame) const {
  return queues_[hash_of(frame) & (queues_.size() - 1)];
}

}  // namespace adit::test
