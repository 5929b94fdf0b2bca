// Which gateways answer, and how far away each is, without a tunnel: each is sent, at all of its
// name's addresses, a handshake initiation of a key that was made for this and that nobody knows,
// which an adit-gateway answers with a cookie (docs/protocol.md). So nothing of ours is touched,
// neither a session nor the time stamp, and the gateway keeps nothing. Stock WireGuard servers stay
// silent.
//
//     begin ──► names are resolved ──► addressed ──► initiations, up to three each ──► done
//
// When the first has answered, the others are given little longer: they are no nearer.
//
// Owner: Client, on its one thread; watches both descriptors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "client-lite/config.h"
#include "client-lite/resolver.h"
#include "client-lite/udp_socket.h"
#include "lib/net/address.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/noise.h"

namespace adit::client {

class Survey {
 public:
  static constexpr uint64_t kResolveNs = 3'000'000'000;  // for all names together
  static constexpr uint64_t kTryNs = 1'000'000'000;
  static constexpr unsigned kTries = 3;
  static constexpr uint64_t kGraceNs = 250'000'000;  // after the first answer

  struct Finding {
    std::vector<Ipv4Address> addresses;     // none: its name is not resolved
    std::optional<uint64_t> round_trip_ns;  // nothing: no answer
    std::optional<Ipv4Address> answered;    // the address that did, of several the first
  };
  enum class Step : uint8_t {
    none,
    addressed,  // the findings have addresses: the ways to them must not lead into the tunnel
    done,
  };

  Survey();
  // Both false when there is no descriptor to be had.
  bool open_resolver() { return resolver_.open(); }
  // Of these gateways, which must stay where they are until it is done; one under way is abandoned.
  bool begin(std::span<const GatewayConfig> gateways, HostRights& rights, uint64_t now_ns);
  void stop();
  bool is_running() const { return stage_ != Stage::idle; }

  int resolver_fd() const { return resolver_.fd(); }
  int socket_fd() const { return socket_.fd(); }  // another after each begin()
  void on_resolved(uint64_t now_ns);
  void on_readable(std::span<ArrivalBuffer, kReceiveBatch> buffers, uint64_t now_ns);
  // What is due at next_deadline_ns().
  Step tick(uint64_t now_ns);
  uint64_t next_deadline_ns() const { return due_ns_; }

  // In the order of the gateways.
  const std::vector<Finding>& findings() const { return findings_; }

 private:
  enum class Stage : uint8_t { idle, resolving, addressed, asking };
  // One address of a gateway.
  struct Asked {
    size_t gateway;
    Endpoint endpoint;
    tunnel::CookieJar jar;
    uint32_t index = 0;
    uint64_t sent_ns = 0;
  };

  bool is_any_missing() const;
  void address_all();
  void ask_all(uint64_t now_ns);
  void take(std::span<const uint8_t> datagram, const Endpoint& source, uint64_t now_ns);

  tunnel::RandomSource random_;
  tunnel::Identity identity_;
  Resolver resolver_;
  UdpSocket socket_;
  std::span<const GatewayConfig> gateways_;
  std::vector<Finding> findings_;
  std::vector<Asked> asked_;
  Stage stage_ = Stage::idle;
  size_t resolving_ = 0;  // which gateway's name
  unsigned tries_ = 0;
  uint64_t ends_ns_ = 0;  // of resolving, then of asking
  uint64_t due_ns_ = UINT64_MAX;
};

}  // namespace adit::client
