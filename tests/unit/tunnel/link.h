// A client and a gateway (tests/support/tunnel_end.h) on a simulated clock and a link that loses
// and delays.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "lib/tunnel/peer.h"
#include "tests/support/tunnel_end.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel::test {

inline constexpr uint64_t kMillisecondNs = 1'000'000;

// The network between the two, and the clock of both.
class Link {
 public:
  explicit Link(const PeerConfig& client_config, const PeerConfig& gateway_config,
                uint64_t seed = 1)
      : ends_(PresharedKey{{9}}, seed), gateway_config_(gateway_config), engine_(seed) {
    client = std::make_unique<End>(ends_.client, ends_.gateway_seen_by_client, client_config,
                                   ends_.random);
    client->transmit = [this](Bytes packet) { put(true, std::move(packet)); };
    restart_gateway();
  }

  // A gateway that remembers nothing.
  void restart_gateway() {
    gateway = std::make_unique<End>(ends_.gateway, ends_.client_seen_by_gateway, gateway_config_,
                                    ends_.random);
    gateway->transmit = [this](Bytes packet) { put(false, std::move(packet)); };
  }

  Tai64n stamp() const {
    return tai64n_from_unix(1'700'000'000 + now_ns / kSecondNs,
                            static_cast<uint32_t>(now_ns % kSecondNs));
  }
  void connect() { client->carry_out(now_ns, client->peer.connect(now_ns, stamp())); }

  // Runs packets and timers in their order until `until_ns`; then the clock stands there.
  void run_until(uint64_t until_ns) {
    for (;;) {
      const uint64_t packet_ns = in_flight_.empty() ? ~uint64_t{0} : in_flight_.begin()->first;
      const uint64_t timer_ns = std::max(
          now_ns, std::min(client->peer.next_deadline_ns(), gateway->peer.next_deadline_ns()));
      if (std::min(packet_ns, timer_ns) > until_ns) break;
      if (packet_ns <= timer_ns) {
        now_ns = packet_ns;
        auto [to_gateway, packet] = std::move(in_flight_.begin()->second);
        in_flight_.erase(in_flight_.begin());
        (to_gateway ? gateway : client)->receive(now_ns, std::move(packet));
      } else {
        now_ns = timer_ns;
        client->carry_out(now_ns, client->peer.tick(now_ns, stamp()));
        gateway->carry_out(now_ns, gateway->peer.tick(now_ns, stamp()));
      }
    }
    now_ns = until_ns;
  }
  void run_for(uint64_t duration_ns) { run_until(now_ns + duration_ns); }

  // Decides for each packet whether it is lost. Default: none is.
  std::function<bool(bool to_gateway, const Bytes& packet)> loses;
  // Sees every packet that is sent.
  std::function<void(bool to_gateway, const Bytes& packet)> tap;

  bool chance(unsigned percent) { return engine_() % 100 < percent; }
  TwoEnds& ends() { return ends_; }

  uint64_t now_ns = 1'000 * kSecondNs;
  uint64_t delay_min_ns = 10 * kMillisecondNs;
  uint64_t delay_max_ns = 50 * kMillisecondNs;  // packets overtake each other
  std::unique_ptr<End> client;
  std::unique_ptr<End> gateway;

 private:
  void put(bool to_gateway, Bytes packet) {
    if (tap) tap(to_gateway, packet);
    if (loses && loses(to_gateway, packet)) return;
    const uint64_t delay_ns = delay_min_ns + engine_() % (delay_max_ns - delay_min_ns + 1);
    in_flight_.emplace(now_ns + delay_ns, std::pair(to_gateway, std::move(packet)));
  }

  TwoEnds ends_;
  PeerConfig gateway_config_;
  std::mt19937_64 engine_;
  std::multimap<uint64_t, std::pair<bool, Bytes>> in_flight_;
};

constexpr ProtectionSet set_of(std::initializer_list<Protection> protections) {
  ProtectionSet set;
  for (const Protection protection : protections) set = set.with(protection);
  return set;
}
inline constexpr ProtectionSet kAll =
    set_of({Protection::chacha20_poly1305, Protection::aes_256_gcm, Protection::plain});

inline PeerConfig client_config(ProtectionSet offered) {
  PeerConfig config;
  config.initiates = true;
  config.allowed = offered;
  config.heartbeat_ns = 10 * kSecondNs;
  config.dead_after_ns = 35 * kSecondNs;
  return config;
}
inline PeerConfig gateway_config(ProtectionSet allowed) {
  PeerConfig config = client_config(allowed);
  config.initiates = false;
  config.preference = {Protection::aes_256_gcm, Protection::chacha20_poly1305, Protection::plain};
  config.slot = 0x155;
  config.slot_bits = 12;
  return config;
}

}  // namespace adit::tunnel::test
