// What the tests of moving tunnels share: three workers behind a card that steers.
#pragma once

#include "tests/eal/rig.h"

namespace adit::gateway::test {

class Moving : public Rig {
 protected:
  static constexpr unsigned kWorkers = 3;
  static RigOptions with_workers(RigOptions options) {
    options.two_ports = true;
    options.workers = kWorkers;
    return options;
  }
  explicit Moving(const RigOptions& options = {}) : Rig(with_workers(options)) {}

  // From now on the card brings the tunnel's packets to this worker.
  void roam(FarEnd& far, unsigned worker) {
    const Bytes heartbeat = far.seal({});
    const uint16_t before = far.outer.port.host();
    for (unsigned port = 21000;; ++port) {
      far.outer.port = Be16::from_host(static_cast<uint16_t>(port));
      if (port != before &&
          queue_of(0, adit::test::udp_packet(far.outer, kTunnelEndpoint, heartbeat)) == worker) {
        break;
      }
    }
    receive_from(far, heartbeat);
    sent_frames(0);
  }
  // Moves it, and says what the owner had to say to that.
  std::optional<MoveRefusal> moved(uint32_t slot, unsigned worker) {
    move(slot, worker);
    return answer_to_move(slot);
  }
  void close(uint32_t slot) {
    ToWorker message;
    message.kind = ToWorker::close_tunnel;
    message.slot = slot;
    tell(message);
  }
  static Ipv4Address inner_address(uint32_t slot) {
    return Ipv4Address::from_host(kInner.host() - 1 + slot);
  }
  static Endpoint internal(uint32_t slot, unsigned port) {
    return {inner_address(slot), Be16::from_host(static_cast<uint16_t>(port))};
  }
  static Bytes outbound(uint32_t slot, unsigned port, uint8_t seed = 1) {
    return adit::test::udp_packet(internal(slot, port), kService,
                                  adit::test::payload_bytes(24, seed));
  }
  unsigned slice_of(const Endpoint& external) const {
    return settings_.shares[external.port.host() / nat::kWindowPorts];
  }
  uint64_t blocks_of(unsigned worker) const { return parts_[worker].nat->counts().blocks_granted; }
  uint64_t live_at(unsigned worker) const { return parts_[worker].nat->counts().mappings_live; }

  // A reply to an external endpoint arrives at the far end as it should.
  void expect_reply(FarEnd& far, uint32_t slot, unsigned port, const Endpoint& external,
                    uint8_t seed = 2) {
    const Bytes payload = adit::test::payload_bytes(24, seed);
    receive(1, adit::test::udp_packet(kService, external, payload));
    EXPECT_EQ(far.open(sent_to_tunnel(far.outer)),
              adit::test::udp_packet(kService, internal(slot, port), payload, {.ttl = 63}));
  }
};

}  // namespace adit::gateway::test
