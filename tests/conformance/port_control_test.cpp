// RFC 6888 REQ-9: subscribers control their mappings by the Port Control Protocol (RFC 6887). The
// messages are written by hand here, after the RFC's figures.
#include <cstring>

#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using adit::test::udp_packet;

const Endpoint kServerPort = at(kRouter, 5351);
constexpr uint32_t kHourS = 3600;
enum Code : uint8_t {
  kSuccess = 0,
  kUnsupportedVersion = 1,
  kNotAuthorized = 2,
  kMalformedRequest = 3,
  kUnsupportedOption = 5,
  kUnsupportedProtocol = 9,
  kUserExceededQuota = 10,
  kCannotProvideExternal = 11,
  kAddressMismatch = 12
};
const Bytes kPreferFailure = {2, 0, 0, 0};

void put(Bytes& out, const Bytes& bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }
void put32(Bytes& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}
void put16(Bytes& out, unsigned value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void put_mapped(Bytes& out, Ipv4Address address) {
  put(out, Bytes(10, 0));
  put(out, {0xff, 0xff});
  put32(out, address.host());
}

// What a host asks for, and what it is answered.
struct Ask {
  uint8_t opcode = 1;  // MAP
  uint8_t protocol = kIpUdp;
  unsigned port = 8080;
  uint32_t lifetime_s = kHourS;
  uint8_t nonce = 7;
  Endpoint external = {};
  Endpoint remote = {};  // PEER
  Bytes options = {};
  uint32_t slot = 1;
};

class PortControl : public Lab {
 protected:
  explicit PortControl(RigOptions options = {}) : Lab(enabled(std::move(options))) {}
  static RigOptions enabled(RigOptions options) {
    options.port_control.enabled = true;
    return options;
  }

  static Bytes body(const Ask& ask, const Endpoint& external) {
    Bytes out;
    if (ask.opcode == 0) return out;
    put(out, Bytes(12, ask.nonce));
    put(out, {ask.protocol, 0, 0, 0});
    put16(out, ask.port);
    put16(out, external.port.host());
    put_mapped(out, external.address);
    if (ask.opcode != 2) return out;
    put16(out, ask.remote.port.host());
    put16(out, 0);
    put_mapped(out, ask.remote.address);
    return out;
  }
  static Bytes message(const Ask& ask) {
    Bytes out = {2, ask.opcode, 0, 0};
    put32(out, ask.lifetime_s);
    put_mapped(out, inner(ask.slot));
    put(out, body(ask, ask.external));
    put(out, ask.options);
    return out;
  }
  Bytes response(const Ask& ask, uint8_t code, uint32_t lifetime_s, uint64_t epoch_s,
                 const Bytes& rest) {
    Bytes out = {2, static_cast<uint8_t>(ask.opcode | 0x80), 0, code};
    put32(out, lifetime_s);
    put32(out, static_cast<uint32_t>(epoch_s));
    put(out, Bytes(12, 0));
    put(out, rest);
    return out;
  }
  static Hop sent(const Bytes& payload, uint32_t slot = 1) {
    return inside(udp_packet(at(inner(slot), 5000), kServerPort, payload), slot);
  }
  static Hop answered(const Bytes& payload, uint32_t slot = 1) {
    return inside(udp_packet(kServerPort, at(inner(slot), 5000), payload, {.id = 0}), slot);
  }

  uint64_t elapsed_s() const { return (now_ns_ - kStartNs) / tunnel::kSecondNs; }

  // Asks, expects success, and says which external endpoint it is; everything else is compared
  // byte for byte.
  Endpoint ask_for(const Ask& ask, uint32_t lifetime_s = kHourS) {
    far(ask.slot);
    give_in(sent(message(ask), ask.slot));
    const std::vector<Hop> out = come_out();
    if (out.size() != 1 || out[0].packet.size() < 28 + 60) {
      ADD_FAILURE() << "no answer: " << testing::PrintToString(out);
      return {};
    }
    const uint8_t* const mapped = out[0].packet.data() + 28 + 24;
    Endpoint external;
    std::memcpy(&external.port, mapped + 18, 2);
    std::memcpy(&external.address, mapped + 32, 4);
    Bytes rest = body(ask, external);
    put(rest, ask.options);
    EXPECT_EQ(out[0], answered(response(ask, kSuccess, lifetime_s, elapsed_s(), rest), ask.slot));
    return external;
  }
  // Asks, and expects a refusal that repeats the request.
  void expect_refused(const Ask& ask, uint8_t code, uint32_t lifetime_s) {
    const Bytes asked = message(ask);
    const Bytes rest(asked.begin() + 24, asked.end());
    play({"refused", elapsed_s(), sent(asked, ask.slot),
          {answered(response(ask, code, lifetime_s, elapsed_s(), rest), ask.slot)}});
  }
  void expect_deleted(const Ask& ask) {
    ASSERT_EQ(ask.lifetime_s, 0u);
    play({"deleted", elapsed_s(), sent(message(ask)),
          {answered(response(ask, kSuccess, 0, elapsed_s(), body(ask, ask.external)))}});
  }
  Row reaches(uint64_t at_s, const Endpoint& external, const Endpoint& internal,
              Kind kind = Kind::udp) {
    return {"reaches it", at_s, internet(reply(kind, kElsewhere, external)),
            {inside(reply(kind, kElsewhere, internal, kForwarded))}};
  }
  Row ends_at(uint64_t at_s, const Endpoint& external) {
    return {"is over", at_s, internet(reply(Kind::udp, kElsewhere, external)), {},
            Fate::no_mapping};
  }
};

const Endpoint kListener = at(kInner, 8080);

TEST_F(PortControl, R6888_9_MapMakesAnOrdinaryMapping) {
  for (const Kind kind : {Kind::udp, Kind::tcp}) {
    const uint8_t protocol = kind == Kind::udp ? kIpUdp : kIpTcp;
    const Endpoint external = ask_for({.protocol = protocol});
    EXPECT_EQ(external.address, kGateway);
    play(reaches(1, external, kListener, kind));
    EXPECT_EQ(map(kind, kListener), external) << "and its host's own packets leave from there";
  }
  EXPECT_EQ(nat_counts().mappings_created, 2u);
  EXPECT_EQ(counters_.port_controls_answered, 2u);
}

TEST_F(PortControl, R6888_9_AMappingThatIsThereAlreadyIsKept) {
  const Endpoint external = map(Kind::udp, kListener);
  EXPECT_EQ(ask_for({.external = at(kGateway, external.port.host() ^ 1u)}), external);
  play({reaches(kHourS, external, kListener)});
}

TEST_F(PortControl, R6888_9_ItLivesThroughItsLifetimeUnused) {
  const Endpoint external = ask_for({});
  sweep_all();
  set_time(kHourS);
  sweep_all();
  EXPECT_EQ(nat_counts().mappings_live, 1u);
  play(ends_at(kHourS + 1, external));
}

TEST_F(PortControl, R6888_9_WhatIsUsedLivesOnByTheOrdinaryTimer) {
  const Endpoint external = ask_for({});
  play({reaches(kHourS, external, kListener), reaches(kHourS + 300, external, kListener),
        ends_at(kHourS + 601, external)});
}

TEST_F(PortControl, R6888_9_RenewalMovesItsEnd) {
  const Endpoint external = ask_for({});
  set_time(3000);
  EXPECT_EQ(ask_for({}), external);
  set_time(6599);
  EXPECT_EQ(ask_for({.lifetime_s = 600}, 600), external) << "or brings it nearer";
  set_time(6700);
  EXPECT_EQ(ask_for({.lifetime_s = 120}, 120), external);
  play(ends_at(6821, external));
}

TEST_F(PortControl, R6888_9_OnlyWhoKnowsTheNonceChangesIt) {
  const Endpoint external = ask_for({});
  expect_refused({.nonce = 8}, kNotAuthorized, 1800);
  expect_refused({.lifetime_s = 0, .nonce = 8}, kNotAuthorized, 1800);
  play(reaches(1, external, kListener));
}

TEST_F(PortControl, R6888_9_LifetimeZeroEndsIt) {
  const Endpoint external = ask_for({});
  expect_deleted({.lifetime_s = 0});
  play(ends_at(0, external));
  expect_deleted({.lifetime_s = 0});  // once more does no harm
  EXPECT_EQ(ask_for({.nonce = 8}), external) << "the port rested, and is its endpoint's still";
}

TEST_F(PortControl, R6888_9_LifetimesAreBroughtIntoBounds) {
  ask_for({.port = 1, .lifetime_s = 1}, 120);
  ask_for({.port = 2, .lifetime_s = UINT32_MAX}, 86400);
}

TEST_F(PortControl, R6888_9_SuggestedPortIsGivenWhereItIsFree) {
  const Endpoint first = ask_for({});
  const Endpoint wanted = at(kGateway, first.port.host() ^ 1u);
  EXPECT_EQ(ask_for({.port = 8081, .external = wanted}), wanted);
  play(reaches(1, wanted, at(kInner, 8081)));
  EXPECT_EQ(map(Kind::udp, at(kInner, 8081)), wanted) << "its host's own packets find it there";
  const Endpoint other = ask_for({.port = 8082, .external = wanted});
  EXPECT_NE(other, wanted);
  expect_refused({.port = 8083, .external = wanted, .options = kPreferFailure},
                 kCannotProvideExternal, 30);
  expect_refused({.port = 8083, .external = at(kServer, first.port.host() ^ 2u),
                  .options = kPreferFailure},
                 kCannotProvideExternal, 30);
  const Endpoint third = at(kGateway, first.port.host() ^ 3u);
  if (third != other) {
    EXPECT_EQ(ask_for({.port = 8083, .external = third, .options = kPreferFailure}), third);
  }
}

TEST_F(PortControl, R6888_9_AnnounceTellsHowLongTheTunnelIsOpen) {
  for (const uint64_t at_s : {0, 100}) {
    const Ask announce{.opcode = 0, .lifetime_s = 0};
    play({"announce", at_s, sent(message(announce)),
          {answered(response(announce, kSuccess, 0, at_s, {}))}});
  }
}

TEST_F(PortControl, R6888_9_WhatCannotBeDoneHasItsResult) {
  expect_refused({.protocol = kIpIcmp}, kUnsupportedProtocol, 1800);
  expect_refused({.protocol = 0, .port = 0}, kUnsupportedProtocol, 1800);
  expect_refused({.protocol = 0}, kMalformedRequest, 1800);
  expect_refused({.port = 0}, kUnsupportedProtocol, 1800);
  Bytes third_party = {1, 0, 0, 16};
  put_mapped(third_party, inner(2));
  expect_refused({.options = third_party}, kUnsupportedOption, 1800);
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(PortControl, R6888_9_WhoIsNotWhoItSaysIsRefused) {
  const Ask ask;
  Bytes other = message({.slot = 2});
  const Bytes rest(other.begin() + 24, other.end());
  play({"another's address", 0, sent(other),
        {answered(response(ask, kAddressMismatch, 1800, 0, rest))}});
  EXPECT_EQ(nat_counts().mappings_created, 0u);
}

TEST_F(PortControl, R6888_9_NatPmpIsToldTheVersion) {
  const Ask announce{.opcode = 0};
  play({"an address request of NAT-PMP", 0, sent({0, 0}),
        {answered(response(announce, kUnsupportedVersion, 1800, 0, {}))}});
}

TEST_F(PortControl, R6888_9_WhatIsNoRequestIsDroppedByName) {
  Bytes answer = message({});
  answer[1] |= 0x80;
  Bytes damaged = sent(message({})).packet;
  damaged[60] ^= 1;
  play({{"a response", 0, sent(answer), {}, Fate::port_control_malformed},
        {"one byte", 0, sent({2}), {}, Fate::port_control_malformed},
        {"a wrong checksum", 0, inside(damaged), {}, Fate::port_control_malformed},
        {"another port", 0, inside(udp_packet(at(kInner, 5000), at(kRouter, 5350), answer)), {},
         Fate::to_router}});
}

TEST_F(PortControl, R6888_9_ItEndsWithTheTunnel) {
  const Endpoint external = ask_for({});
  close(1);
  play(ends_at(1, external));
}

// A static forward is the configuration's.
class PortControlForwarded : public PortControl {
 protected:
  PortControlForwarded()
      : PortControl({.forwards = {{nat::Protocol::udp, at(kGateway, 5000), at(kInner, 8080)}}}) {}
  void extend_open(ToWorker& open) override { open.forward_count = open.slot == 1 ? 1 : 0; }
};

TEST_F(PortControlForwarded, R6888_9_WhatTheConfigurationForwardsIsNotAskedFor) {
  expect_refused({}, kNotAuthorized, 1800);
  ask_for({.port = 8081});
  ask_for({.protocol = kIpTcp});
}

class PortControlOfThree : public PortControl {
 protected:
  PortControlOfThree() : PortControl({.nat = {.profiles = {{.limits = {.mappings = 3}}}}}) {}
};

TEST_F(PortControlOfThree, R6888_9_R6888_4_ItCountsAgainstTheLimit) {
  map(Kind::udp, kApplication);
  ask_for({.port = 1});
  const Endpoint last = ask_for({.port = 2});
  expect_refused({.port = 3}, kUserExceededQuota, 30);
  EXPECT_EQ(ask_for({.port = 2}), last) << "a renewal takes nothing";
  play({"nor is there room for a packet's", 0, inside(request(Kind::udp, at(kInner, 9), kService)),
        {inside(adit::test::icmp_packet(kRouter, kInner, 3, 13, 0,
                                        request(Kind::udp, at(kInner, 9), kService, kForwarded),
                                        kErrorHeader))},
        Fate::mapping_limit});
}

class PortControlFiltered : public PortControl {
 protected:
  PortControlFiltered()
      : PortControl({.nat = {.profiles = {{.filtering = kStrict}}}}) {}
  Row filtered(const Endpoint& remote, const Endpoint& external) {
    return {"may not", 1, internet(reply(Kind::udp, remote, external)), {}, Fate::filtered};
  }
};

TEST_F(PortControlFiltered, R6888_9_MapLetsAnybodyInWhileItLasts) {
  const Endpoint external = ask_for({});
  map(Kind::udp, kListener, kService);
  play(reaches(kHourS, external, kListener));
  Row row = filtered(kElsewhere, external);
  row.at_s = kHourS + 1;
  play(row);
}

TEST_F(PortControlFiltered, R6888_9_PeerLetsItsRemoteInAndNobodyElse) {
  const Endpoint external = ask_for({.opcode = 2, .remote = kElsewhere});
  play({reaches(1, external, kListener), filtered(kService, external)});
  EXPECT_EQ(ask_for({.opcode = 2, .lifetime_s = 120, .remote = kElsewhere}, kHourS - 1), external)
      << "a PEER does not shorten what is there";
  EXPECT_EQ(map(Kind::udp, kListener, kElsewhere), external);
}

class PortControlOff : public Lab {};

TEST_F(PortControlOff, R6888_9_OffUnlessConfigured) {
  play({"MAP", 0, inside(udp_packet(at(kInner, 5000), kServerPort, Bytes(60, 2))), {},
        Fate::to_router});
}

}  // namespace
}  // namespace adit::gateway::test
