#include "bench/datapath/reference.h"

#include <cstring>

namespace adit::bench {

using nat::Direction;
using test::Bytes;

namespace {

constexpr MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kNextHopMac{{2, 0, 0, 0, 0, 2}};
constexpr Endpoint kTunnelEndpoint{Ipv4Address::from_octets(30, 1, 1, 10),
                                   Be16::from_host(8000)};

Bytes payload_of(unsigned inner_bytes) {
  Bytes payload;
  for (unsigned i = 28; i < inner_bytes; ++i) payload.push_back(static_cast<uint8_t>(i));
  return payload;
}

Bytes frame_of(const Bytes& packet) {
  const EthernetHeader ethernet{kNextHopMac, kOurMac, Be16::from_host(kEtherTypeIpv4)};
  Bytes frame(sizeof ethernet + packet.size());
  std::memcpy(frame.data(), &ethernet, sizeof ethernet);
  std::memcpy(frame.data() + sizeof ethernet, packet.data(), packet.size());
  return frame;
}

std::string difference(const Bytes& wanted, const Bytes& got) {
  if (wanted.size() != got.size()) {
    return std::to_string(got.size()) + " bytes, not " + std::to_string(wanted.size());
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] != got[i]) return "byte " + std::to_string(i) + " differs";
  }
  return "";
}

}  // namespace

std::string Reference::check(Direction direction, std::span<const uint16_t> inner_bytes,
                             std::span<rte_mbuf* const> sent) {
  const auto drawn = world_.drawn();
  if (sent.size() != drawn.size()) return "not every packet came out";
  for (size_t i = 0; i < sent.size(); ++i) {
    const auto* bytes = rte_pktmbuf_mtod(sent[i], const uint8_t*);
    Bytes frame(bytes, bytes + rte_pktmbuf_data_len(sent[i]));
    const unsigned size = inner_bytes[i % inner_bytes.size()];
    const Flow flow = world_.flow(drawn[i]);
    const std::string wrong = direction == Direction::outbound
                                  ? check_outbound(flow, size, frame)
                                  : check_inbound(flow, size, std::move(frame));
    if (!wrong.empty()) return "packet " + std::to_string(i) + ": " + wrong;
  }
  return "";
}

// Which external endpoint a flow has is the gateway's to choose, once; it must be nobody else's.
std::string Reference::learn(const Flow& flow, const Bytes& sent) {
  Endpoint external;
  std::memcpy(&external.address, sent.data() + 14 + 12, 4);
  std::memcpy(&external.port, sent.data() + 14 + 20, 2);
  if (!world_.translator().is_pool_address(external.address)) return "a source outside the pool";
  const auto [owner, is_new] = internal_.try_emplace(external, flow.slot, flow.internal);
  if (!is_new) return "an external endpoint that another flow has";
  external_.emplace(std::pair{flow.slot, flow.internal}, external);
  return "";
}

std::string Reference::check_outbound(const Flow& flow, unsigned inner_bytes, const Bytes& sent) {
  if (sent.size() != 14 + inner_bytes) return "wrong length";
  auto known = external_.find({flow.slot, flow.internal});
  if (known == external_.end()) {
    if (const std::string wrong = learn(flow, sent); !wrong.empty()) return wrong;
    known = external_.find({flow.slot, flow.internal});
  }
  const Bytes packet = test::udp_packet(known->second, World::remote(), payload_of(inner_bytes),
                                        {.ttl = 63});
  return difference(frame_of(packet), sent);
}

// The outer packet; where a device writes the checksums, it wants none of IP's and the sum of the
// pseudo-header in UDP's place.
Bytes Reference::wrapped(const Flow& flow, const Bytes& payload, uint16_t id) const {
  const Endpoint to = world_.client(flow.slot);
  Bytes packet = test::udp_packet(kTunnelEndpoint, to, payload, {.id = id, .fragment = 0});
  if (!world_.options().checksum_by_port) return packet;
  const auto udp_bytes = static_cast<uint16_t>(8 + payload.size());
  Bytes pseudo(packet.begin() + 12, packet.begin() + 20);
  pseudo.insert(pseudo.end(), {0, kIpUdp, static_cast<uint8_t>(udp_bytes >> 8),
                               static_cast<uint8_t>(udp_bytes)});
  const auto sum = static_cast<uint16_t>(~test::plain_checksum(pseudo));
  packet[10] = packet[11] = 0;
  packet[26] = static_cast<uint8_t>(sum >> 8);
  packet[27] = static_cast<uint8_t>(sum);
  return packet;
}

std::string Reference::check_inbound(const Flow& flow, unsigned inner_bytes, Bytes sent) {
  constexpr size_t kOuterBytes = 14 + 20 + 8;
  if (sent.size() < kOuterBytes + 8) return "no tunnel packet";
  const Bytes inner = test::udp_packet(World::remote(), flow.internal, payload_of(inner_bytes),
                                       {.ttl = 63});
  const tunnel::Session& session = world_.session(flow.slot);
  const auto id = static_cast<uint16_t>(sent[14 + 4] << 8 | sent[14 + 5]);
  Bytes payload(sent.begin() + kOuterBytes, sent.end());
  if (const std::string wrong = difference(frame_of(wrapped(flow, payload, id)), sent);
      !wrong.empty()) {
    return "outer: " + wrong;
  }
  Le32 index = Le32::from_host(session.remote_index);
  if (std::memcmp(payload.data() + 4, &index, sizeof index) != 0) return "wrong receiver index";
  if (session.protection == Protection::plain) {
    const Bytes tag(session.send_tag.begin(), session.send_tag.end());
    if (payload[0] != 5 || !std::equal(tag.begin(), tag.end(), payload.begin() + 1)) {
      return "wrong tunnel header";
    }
    return difference(inner, Bytes(payload.begin() + 8, payload.end()));
  }
  tunnel::Aead aead(session.protection, session.send_key);
  const auto text_bytes = aead.open(payload);
  if (!text_bytes) return "not authentic";
  if (*text_bytes < inner_bytes) return "too short inside";
  return difference(inner, Bytes(payload.begin() + 16, payload.begin() + 16 + inner_bytes));
}

}  // namespace adit::bench
