// A translator written to be read: std::map, no blocks, no hashes, no sweep. It cannot know which
// port the gateway will choose, so it is told (learn), says which rule the choice breaks, and
// predicts everything from then on. Its TCP is written from RFC 7857 §2.1's words, not from our
// table.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {

// What of a packet matters to a mapping.
struct Use {
  Kind kind = Kind::udp;
  Endpoint remote = {};
  uint8_t tcp_flags = 0;
  uint32_t now_s = 0;
};

class ModelNat {
 public:
  // `tunnels` says which worker a slot's tunnel is of: its ports are of that one's share.
  ModelNat(const nat::Settings& settings, const TunnelTable& tunnels)
      : settings_(settings), profile_(settings.profiles[0]), tunnels_(tunnels) {}

  void open(uint32_t slot, uint32_t now_s);
  void close(uint32_t slot, uint32_t now_s);
  void forget_what_is_over(uint32_t now_s);

  enum class Verdict : uint8_t { forward, make_new, mapping_limit, rate_limited, no_range };
  // A packet from inside; `external` is set when it is to be forwarded.
  Verdict outbound(uint32_t slot, const Endpoint& internal, const Use& use, Endpoint& external);
  // After make_new: what the gateway did. Empty, or the rule that it broke.
  std::string learn(uint32_t slot, const Endpoint& internal, const Endpoint& external,
                    const Use& use);
  std::string learn_refusal(uint32_t slot, const Endpoint& internal, Kind kind,
                            Fate reason) const;

  struct Owner {
    uint32_t slot = 0;
    Endpoint internal;
  };
  // A packet from outside; nullopt: there is no mapping.
  std::optional<Owner> inbound(const Endpoint& external, const Use& use);
  // The same without using it, as an ICMP error does.
  std::optional<Owner> owner_of(Kind kind, const Endpoint& external, uint32_t now_s) const;
  std::optional<Endpoint> external_of(Kind kind, uint32_t slot, const Endpoint& internal,
                                      uint32_t now_s) const;

 private:
  enum class Phase : uint8_t {
    nothing,
    opening,
    opening_from_outside,
    open,
    fin_inside,
    fin_outside,
    closed,
    reset
  };
  struct Mapping {
    uint32_t slot = 0;
    Endpoint internal = {};
    Endpoint external = {};
    uint32_t last_use_s = 0;
    std::optional<uint32_t> tunnel_closed_s = std::nullopt;
    Phase phase = Phase::nothing;
    Endpoint tracked = {};
    bool has_many_remotes = false;
    bool has_left_dns = false;  // has sent to another port than 53
  };
  using InternalKey = std::tuple<Kind, uint32_t, uint32_t, uint16_t>;
  using ExternalKey = std::tuple<Kind, uint32_t, uint16_t>;
  struct Bucket {
    uint32_t tokens = 0;
    uint32_t filled_s = 0;
  };

  std::optional<Endpoint> range_of(uint32_t slot) const;
  bool is_in_range(const Endpoint& external, const Endpoint& range) const;
  bool wants_low_port(Kind kind, const Endpoint& internal) const;
  bool is_low(const Endpoint& external) const;
  static InternalKey internal_key(Kind kind, uint32_t slot, const Endpoint& internal);
  static ExternalKey external_key(Kind kind, const Endpoint& external);
  static Phase next(Phase phase, bool is_out, uint8_t flags);
  static void use_out(Mapping& mapping, const Use& use);
  static void use_in(Mapping& mapping, const Use& use);

  uint32_t last_second(Kind kind, const Mapping& mapping) const;
  uint32_t timeout_s(Kind kind, const Mapping& mapping) const;
  bool is_live(Kind kind, const Mapping& mapping, uint32_t now_s) const;
  bool take_token(uint32_t slot, uint32_t now_s);

  nat::Settings settings_;
  nat::Profile profile_;
  const TunnelTable& tunnels_;
  std::map<InternalKey, Mapping> mappings_;          // live or resting
  std::map<ExternalKey, InternalKey> by_external_;
  std::map<ExternalKey, uint32_t> of_closed_tunnels_;  // resting until this second
  std::map<uint32_t, Bucket> buckets_;
};

}  // namespace adit::gateway::test
