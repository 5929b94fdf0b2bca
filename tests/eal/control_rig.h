// A control thread without workers: their rings, what it puts into them, and clients that handshake.
// Its own threads are real; time is the test's.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/control.h"
#include "tests/eal/control_rings.h"
#include "tests/eal/rig.h"

namespace adit::gateway::test {

// One that may connect, as far as a handshake goes.
struct HandshakeClient {
  HandshakeClient(const tunnel::PublicKey& gateway, const tunnel::RandomSource& random);

  // The next message 1, macs and all; each has a stamp above the last.
  tunnel::InitiationMessage initiate();

  tunnel::RandomSource random;
  tunnel::Identity identity;
  tunnel::RemoteIdentity gateway;
  tunnel::CookieJar jar;
  uint32_t second = 0;
  std::optional<tunnel::InitiatorState> state;  // of the last one
};

// What the control thread has told a worker; the packet, if there is one, beside it.
struct Told {
  ToWorker message;
  Bytes packet;
  unsigned worker = 0;
};

// A cookie that a worker is to send.
struct Replied {
  Endpoint to;
  Bytes packet;
};

class ControlRig : public testing::Test {
 protected:
  static constexpr unsigned kClients = 100;  // so few that no cookie is asked for

  explicit ControlRig(unsigned clients = kClients);
  ~ControlRig() override;

  // `threads` as control.threads says it. Of several workers each has a queue of its own on every
  // port, and who receives a handshake owns the tunnel.
  void start(unsigned threads, unsigned workers = 1);
  void stop();
  // As if a worker had handed it on.
  void receive(const tunnel::InitiationMessage& message, const Endpoint& from,
               unsigned worker = 0);
  void tick();
  // Ticks as long as it says; the test fails after some seconds.
  void tick_while(const std::function<bool()>& waits);
  // Until so many handshakes have been accepted and refused.
  void tick_until(uint64_t accepted_wanted, uint64_t refused_wanted = 0);
  // Of the messages so far, those of a kind, in their order.
  std::vector<Told> told(ToWorker::Kind kind) const;
  const std::vector<Told>& told() const { return told_; }
  const std::vector<Replied>& replied() const { return replied_; }
  uint64_t refused(tunnel::HandshakeReject reason) const;
  uint64_t refused_in_all() const;
  uint64_t accepted() const { return control_->counters().handshakes_accepted; }
  // The client's session from the answer to its last initiation, if that is what `told` is.
  static std::optional<tunnel::Session> session_of(HandshakeClient& client, const Told& told);
  static Endpoint endpoint_of(unsigned client);
  unsigned buffers_in_use() const;

  Config config_;
  std::vector<HandshakeClient> clients_;
  std::optional<Control> control_;
  uint64_t now_ns_ = kStartNs;
  rte_mempool* pool_ = nullptr;
  std::optional<TunnelTable> tunnels_;

 private:
  void listen();

  tunnel::RandomSource random_;
  SteeringPlan steering_;
  std::vector<std::unique_ptr<ControlRings>> rings_;  // by worker
  std::vector<Told> told_;
  std::vector<Replied> replied_;
};

}  // namespace adit::gateway::test
