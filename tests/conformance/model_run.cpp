#include "tests/conformance/model_run.h"

namespace adit::gateway::test {
namespace {

using adit::test::icmp_packet;
using adit::test::icmp_query;
using adit::test::Ipv4Options;
using adit::test::payload_bytes;
using adit::test::tcp_packet;
using adit::test::udp_packet;

constexpr unsigned kIcmpErrorsPerSecond = 20;  // the rig's
const Bytes kText = payload_bytes(21);

// A packet on its way out, or on its way in: queries go out, and their replies come in.
Bytes packet_of(const Step& step, Step::Verb way, const Endpoint& from, const Endpoint& to,
                const Ipv4Options& ip = {}) {
  if (step.kind == Kind::udp) return udp_packet(from, to, kText, ip);
  if (step.kind == Kind::tcp) return tcp_packet(from, to, kText, {.flags = step.tcp_flags}, ip);
  const bool is_out = way == Step::out;
  return icmp_query(from.address, to.address, is_out ? kIcmpEchoRequest : kIcmpEchoReply,
                    (is_out ? from : to).port.host(), 7, kText, ip);
}

Ipv4Options as_sent(const Step& step) {
  return {.fragment = step.may_fragment ? uint16_t{0} : kIpDontFragment};
}
Ipv4Options as_forwarded(const Step& step) {
  Ipv4Options ip = as_sent(step);
  ip.ttl = kForwarded.ttl;
  return ip;
}

std::optional<Fate> fate_of(ModelNat::Verdict verdict) {
  switch (verdict) {
    case ModelNat::Verdict::mapping_limit:
      return Fate::mapping_limit;
    case ModelNat::Verdict::rate_limited:
      return Fate::rate_limited;
    case ModelNat::Verdict::no_range:
      return Fate::pool_exhausted;
    default:
      return std::nullopt;
  }
}

unsigned word_at(const Bytes& packet, size_t offset) {
  return packet[offset] * 256u + packet[offset + 1];
}
// An address at `address_at`, a port at `port_at`.
Endpoint endpoint_in(const Bytes& packet, size_t address_at, size_t port_at) {
  const uint8_t* const octets = packet.data() + address_at;
  return at(Ipv4Address::from_octets(octets[0], octets[1], octets[2], octets[3]),
            word_at(packet, port_at));
}

}  // namespace

std::optional<std::string> ModelRun::run(const std::vector<Step>& steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string wrong = take(steps[i]);
    if (wrong.empty()) continue;
    failed_at = i;
    return wrong;
  }
  return std::nullopt;
}

std::string ModelRun::take(const Step& step) {
  if (step.verb == Step::wait) {
    now_ns_ += step.seconds * tunnel::kSecondNs;
    sweep_all();
    model_.forget_what_is_over(now_s());
    return "";
  }
  if (step.verb == Step::reopen) {
    reopen(step.slot);
    return "";
  }
  open_if_closed(step.slot);
  fates_before_ = counters_.fates;
  switch (step.verb) {
    case Step::out:
      return send_out(step);
    case Step::in:
    case Step::ttl_one_in:
    case Step::in_at:
      return send_in(step);
    case Step::hairpin:
    case Step::hairpin_at:
      return send_hairpin(step);
    case Step::error_in:
      return send_error_in(step);
    case Step::error_out:
      return send_error_out(step);
    case Step::error_round:
      return send_error_round(step);
    case Step::ttl_one_out: {
      const Bytes packet =
          packet_of(step, Step::out, step.internal(), step.remote_endpoint(), {.ttl = 1});
      give_in(inside(packet, step.slot));
      return compare(step, told(step.slot, kIcmpTimeExceeded, 0, packet), Fate::ttl_exceeded);
    }
    default: {
      Endpoint somebody = step.internal();
      somebody.address = inner(kModelSlots + 3);
      give_in(inside(packet_of(step, Step::out, somebody, step.remote_endpoint()), step.slot));
      return compare(step, {}, Fate::spoofed_source);
    }
  }
}

// ---- Tunnels ----

void ModelRun::open_if_closed(uint32_t slot) {
  if (is_open_[slot]) return;
  far(slot);
  model_.open(slot, now_s());
  is_open_[slot] = true;
}

void ModelRun::reopen(uint32_t slot) {
  if (is_open_[slot]) {
    close(slot);
    model_.close(slot, now_s());
  }
  is_open_[slot] = false;
  std::erase_if(left_from_, [&](const auto& e) { return std::get<1>(e.first) == slot; });
}

// ---- Endpoints ----

std::optional<Endpoint> ModelRun::last_left_from(Kind kind, uint32_t slot, uint16_t port) const {
  const auto known = left_from_.find({kind, slot, port});
  return known == left_from_.end() ? std::nullopt : std::optional(known->second);
}

// Some port of the pool: somebody's, or nobody's.
Endpoint ModelRun::pool_endpoint(unsigned which) const {
  const Ipv4Address address = nat_settings_.pool[which % 2];
  if (which % 8 == 7 && nat_settings_.low_ports > 0) return at(address, 512 + which % 16);
  const unsigned range = nat_settings_.last_port - nat_settings_.first_port + 1u;
  return at(address, nat_settings_.first_port + which * 13u % range);
}

// Asks the gateway, without using the mapping: an error about a packet that came from outside
// quotes it as it came, to the external endpoint.
Endpoint ModelRun::ask_where_it_is(const Step& step) {
  const Endpoint internal = step.internal();
  give_in(inside(icmp_packet(internal.address, kService.address, 3, 3, 0,
                             packet_of(step, Step::in, kService, internal, kForwarded)),
                 step.slot));
  const std::vector<Hop> out = come_out();
  constexpr size_t kQuote = 20 + 8;
  if (out.size() != 1 || out[0].packet.size() < kQuote + 28) return {};
  return endpoint_in(out[0].packet, kQuote + 16, kQuote + 22);
}

// ---- What the gateway chooses: the model learns it ----

std::optional<Fate> ModelRun::refused_by() const {
  for (const Fate reason : {Fate::port_limit, Fate::pool_exhausted, Fate::low_ports_full}) {
    if (counters_.drops(reason) != fates_before_[static_cast<unsigned>(reason)]) return reason;
  }
  return std::nullopt;
}

std::string ModelRun::learn_refusal(const Step& step, const Endpoint& to, Fate reason,
                                    const std::vector<Hop>& out) {
  const std::string broken =
      model_.learn_refusal(step.slot, step.internal(), step.kind, reason);
  return broken.empty() ? compare(step, refusal(step, to), reason, out) : broken;
}

std::string ModelRun::learn_mapping(const Step& step, const Endpoint& external, const Use& use) {
  const std::string broken = model_.learn(step.slot, step.internal(), external, use);
  if (!broken.empty()) return "the new mapping has " + broken;
  left_from_[{step.kind, step.slot, step.port}] = external;
  return "";
}

std::string ModelRun::learn(const Step& step, const Use& use) {
  const std::vector<Hop> out = come_out();
  if (const auto reason = refused_by()) return learn_refusal(step, use.remote, *reason, out);
  if (out.size() != 1 || out[0].place != kInternet || out[0].packet.size() < 28) {
    return "a new mapping was due, and its packet did not leave:" + drops();
  }
  const Endpoint external = endpoint_in(out[0].packet, 12, step.kind == Kind::icmp ? 24 : 20);
  Ipv4Options ip = as_forwarded(step);
  const std::string shared = learn_id(step, external, use.remote, out, ip);
  if (!shared.empty()) return shared;
  if (out[0] != internet(packet_of(step, Step::out, external, use.remote, ip))) {
    return "a new mapping's packet is not what it should be: " + testing::PrintToString(out[0]);
  }
  ++passed[step.verb];
  return learn_mapping(step, external, use);
}

// RFC 7857 §10: a packet that may be fragmented leaves with an id that its addresses and protocol
// have not had lately; which, the gateway chooses.
std::string ModelRun::learn_id(const Step& step, const Endpoint& external, const Endpoint& to,
                               const std::vector<Hop>& out, Ipv4Options& ip) {
  if (!step.may_fragment || out.empty() || out[0].packet.size() < 20) return "";
  ip.id = static_cast<uint16_t>(word_at(out[0].packet, 4));
  const bool is_new =
      ids_[{step.kind, external.address.host(), to.address.host()}].insert(ip.id).second;
  return is_new ? "" : "an id that its addresses and protocol had before";
}

// ---- Packets ----

std::string ModelRun::send_out(const Step& step) {
  const Endpoint internal = step.internal();
  const Endpoint& remote = step.remote_endpoint();
  const Use use{step.kind, remote, step.tcp_flags, now_s()};
  Endpoint external;
  const ModelNat::Verdict verdict = model_.outbound(step.slot, internal, use, external);
  give_in(inside(packet_of(step, Step::out, internal, remote, as_sent(step)), step.slot));
  if (verdict == ModelNat::Verdict::make_new) return learn(step, use);
  if (const auto reason = fate_of(verdict)) return compare(step, refusal(step, remote), *reason);
  const std::vector<Hop> out = come_out();
  Ipv4Options ip = as_forwarded(step);
  const std::string broken = learn_id(step, external, remote, out, ip);
  if (!broken.empty()) return broken;
  return compare(step, {internet(packet_of(step, Step::out, external, remote, ip))}, Fate::next,
                 out);
}

std::string ModelRun::send_in(Step step) {
  const Endpoint& remote = step.remote_endpoint();
  const auto external = step.verb == Step::in_at
                            ? pool_endpoint(step.port)
                            : last_left_from(step.kind, step.slot, step.port);
  if (!external) return "";
  // The tunnel's own port is not the translator's, and a SYN to nobody has a rule of its own.
  if (*external == kTunnelEndpoint && step.kind == Kind::udp) return "";
  const auto holder = model_.owner_of(step.kind, *external, now_s());
  if (!holder) step.tcp_flags = kTcpAck;

  const bool is_last_hop = step.verb == Step::ttl_one_in;
  const Bytes packet = packet_of(step, Step::in, remote, *external,
                                 {.ttl = is_last_hop ? uint8_t{1} : uint8_t{64}});
  give_in(internet(packet));
  if (!holder) return compare(step, {}, Fate::no_mapping);
  if (is_last_hop) {
    if (!may_tell(holder->slot)) return compare(step, {}, Fate::ttl_exceeded);
    return compare(step,
                   {internet(icmp_packet(external->address, remote.address, kIcmpTimeExceeded, 0,
                                         0, packet, kErrorHeader))},
                   Fate::ttl_exceeded);
  }
  const auto owner = model_.inbound(*external, {step.kind, remote, step.tcp_flags, now_s()});
  return compare(step, {inside(packet_of(step, Step::in, remote, owner->internal, kForwarded),
                               owner->slot)});
}

// RFC 4787 REQ-9, RFC 5382 REQ-8: to an external endpoint, whose owner gets the packet from the
// sender's. To the sender it is a packet out, to the owner one that came in.
std::string ModelRun::send_hairpin(Step step) {
  const Endpoint internal = step.internal();
  const auto target = step.verb == Step::hairpin_at
                          ? pool_endpoint(step.peer_port)
                          : last_left_from(step.kind, step.peer, step.peer_port);
  if (!target) return "";
  // A SYN to nobody has a rule of its own.
  if (!model_.owner_of(step.kind, *target, now_s())) step.tcp_flags = kTcpAck;
  const Bytes packet = packet_of(step, Step::out, internal, *target, as_sent(step));
  if (step.kind == Kind::icmp) {
    give_in(inside(packet, step.slot));
    // The address has many hosts behind it: a query to it is the gateway's own to answer.
    return compare(step, {inside(packet_of(step, Step::in, *target, internal, as_sent(step)),
                                 step.slot)});
  }

  const Use use{step.kind, *target, step.tcp_flags, now_s()};
  Endpoint source;
  const ModelNat::Verdict verdict = model_.outbound(step.slot, internal, use, source);
  give_in(inside(packet, step.slot));
  if (const auto reason = fate_of(verdict)) return compare(step, refusal(step, *target), *reason);
  const std::vector<Hop> out = come_out();
  if (verdict == ModelNat::Verdict::make_new) {
    if (const auto reason = refused_by()) return learn_refusal(step, *target, *reason, out);
    source = ask_where_it_is(step);
    const std::string broken = learn_mapping(step, source, use);
    if (!broken.empty()) return broken;
  }
  const auto owner = model_.inbound(*target, {step.kind, source, step.tcp_flags, now_s()});
  if (!owner) return compare(step, {}, Fate::no_mapping, out);
  Ipv4Options ip = as_forwarded(step);
  const std::string broken = learn_id(step, source, *target, out, ip);
  if (!broken.empty()) return broken;
  return compare(step, {inside(packet_of(step, Step::out, source, owner->internal, ip),
                               owner->slot)},
                 Fate::next, out);
}

std::string ModelRun::send_error_in(const Step& step) {
  const auto external = last_left_from(step.kind, step.slot, step.port);
  if (!external) return "";
  const auto quote = [&](const Endpoint& from) {
    return packet_of(step, Step::out, from, step.remote_endpoint(), kForwarded);
  };
  give_in(internet(icmp_packet(kSomeRouter, external->address, 3, 1, 0, quote(*external))));
  const auto owner = model_.owner_of(step.kind, *external, now_s());
  if (!owner) return compare(step, {}, Fate::icmp_no_mapping);
  return compare(step, {inside(icmp_packet(kSomeRouter, owner->internal.address, 3, 1, 0,
                                           quote(owner->internal), kForwarded),
                               owner->slot)});
}

std::string ModelRun::send_error_out(const Step& step) {
  const Ipv4Address remote = step.remote_endpoint().address;
  const auto quote = [&](const Endpoint& to) {
    return packet_of(step, Step::in, step.remote_endpoint(), to, kForwarded);
  };
  const Endpoint internal = step.internal();
  give_in(inside(icmp_packet(internal.address, remote, 3, 3, 0, quote(internal)), step.slot));
  const auto external = model_.external_of(step.kind, step.slot, internal, now_s());
  if (!external) return compare(step, {}, Fate::icmp_no_mapping);
  return compare(step, {internet(icmp_packet(external->address, remote, 3, 3, 0,
                                             quote(*external), kForwarded))});
}

// RFC 5508 REQ-7: about a hairpinned packet. What the host got came from the peer's external
// endpoint and to its internal one; the peer sent it from its internal endpoint and to the host's
// external one, and is told of that.
std::string ModelRun::send_error_round(const Step& step) {
  const auto peer = last_left_from(step.kind, step.peer, step.peer_port);
  if (step.kind == Kind::icmp || !peer) return "";  // queries are not hairpinned
  const Endpoint internal = step.internal();
  const auto quote = [&](const Endpoint& from, const Endpoint& to) {
    return packet_of(step, Step::out, from, to, kForwarded);
  };
  give_in(inside(icmp_packet(internal.address, peer->address, 3, 3, 0, quote(*peer, internal)),
                 step.slot));
  const auto external = model_.external_of(step.kind, step.slot, internal, now_s());
  const auto owner = model_.owner_of(step.kind, *peer, now_s());
  if (!external || !owner) return compare(step, {}, Fate::icmp_no_mapping);
  return compare(step, {inside(icmp_packet(external->address, owner->internal.address, 3, 3, 0,
                                           quote(owner->internal, *external), kForwarded),
                               owner->slot)});
}

// ---- What the gateway itself says ----

// RFC 1812 §4.3.2.8: so many errors of the gateway's own a second, and no more.
bool ModelRun::may_tell(uint32_t slot) {
  if (told_at_s_ != now_s()) told_.clear();
  told_at_s_ = now_s();
  unsigned& told = told_[tunnels_->home(slot)];
  if (told == kIcmpErrorsPerSecond) return false;
  ++told;
  return true;
}

std::vector<Hop> ModelRun::told(uint32_t slot, uint8_t type, uint8_t code, const Bytes& about) {
  if (!may_tell(slot)) return {};
  return {inside(icmp_packet(kRouter, inner(slot), type, code, 0, about, kErrorHeader), slot)};
}

std::vector<Hop> ModelRun::refusal(const Step& step, const Endpoint& to) {
  return told(step.slot, kIcmpUnreachable, kIcmpAdminProhibited,
              packet_of(step, Step::out, step.internal(), to, as_forwarded(step)));
}

// ---- Both sides ----

std::string ModelRun::compare(const Step& step, const std::vector<Hop>& expected, Fate drop,
                              const std::vector<Hop>& out) {
  if (out != expected) {
    return "came out: " + testing::PrintToString(out) +
           "\nexpected: " + testing::PrintToString(expected) + "\ndropped by:" + drops();
  }
  for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
    const auto name = static_cast<Fate>(fate);
    if (counters_.fates[fate] - fates_before_[fate] != (name == drop ? 1u : 0u)) {
      return std::string("drops by ") + fate_name(name) + " are not as expected";
    }
  }
  ++(drop == Fate::next ? passed[step.verb] : dropped[drop]);
  return "";
}

// Why packets of this step were dropped.
std::string ModelRun::drops() const {
  std::string reasons;
  for (unsigned fate = kFirstDrop; fate < kFates; ++fate) {
    if (counters_.fates[fate] == fates_before_[fate]) continue;
    reasons += std::string(" ") + fate_name(static_cast<Fate>(fate));
  }
  return reasons.empty() ? " nothing" : reasons;
}

}  // namespace adit::gateway::test
