#include "bench/swarm/frames.h"

#include <cstring>

#include "bench/swarm/payload.h"
#include "lib/net/checksum.h"

namespace adit::bench {
namespace {

void write_ethernet(uint8_t* at, const Link& link) {
  const EthernetHeader ethernet{link.to, link.from, Be16::from_host(kEtherTypeIpv4)};
  std::memcpy(at, &ethernet, sizeof ethernet);
}

struct IpFields {
  Ipv4Address from;
  Ipv4Address to;
  uint16_t id = 0;
  bool dont_fragment = false;
  uint8_t ttl = 64;
};

void write_ip(uint8_t* at, const IpFields& fields, unsigned total_bytes) {
  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(total_bytes));
  ip.id = Be16::from_host(fields.id);
  ip.fragment = Be16::from_host(fields.dont_fragment ? kIpDontFragment : 0);
  ip.ttl = fields.ttl;
  ip.protocol = kIpUdp;
  ip.source = fields.from;
  ip.destination = fields.to;
  ip.checksum = internet_checksum({reinterpret_cast<const uint8_t*>(&ip), sizeof ip});
  std::memcpy(at, &ip, sizeof ip);
}

// Around what stands behind it already.
void write_udp(uint8_t* at, const Endpoint& from, const Endpoint& to, unsigned udp_bytes) {
  const UdpHeader udp{from.port, to.port, Be16::from_host(static_cast<uint16_t>(udp_bytes)), {}};
  std::memcpy(at, &udp, sizeof udp);
  const Be16 checksum =
      udp_checksum_to_send(transport_checksum(from.address, to.address, kIpUdp, {at, udp_bytes}));
  std::memcpy(at + offsetof(UdpHeader, checksum), &checksum, sizeof checksum);
}

// The inner packet, whole, with the payload of some stamp: its sum is any stamp's.
void write_inner(uint8_t* at, const Flow& flow, const Endpoint& from, const Endpoint& to,
                 uint8_t ttl) {
  write_payload(at + kInnerHeaderBytes, flow.inner_bytes - kInnerHeaderBytes, {flow.number, 0, 0});
  write_udp(at + sizeof(Ipv4Header), from, to,
            flow.inner_bytes - static_cast<unsigned>(sizeof(Ipv4Header)));
  write_ip(at, {from.address, to.address, static_cast<uint16_t>(flow.number), true, ttl},
           flow.inner_bytes);
}

Frame headers_of(const uint8_t* whole, unsigned header_bytes, unsigned frame_bytes) {
  Frame frame;
  std::memcpy(frame.bytes.data(), whole, header_bytes);
  frame.header_bytes = static_cast<uint16_t>(header_bytes);
  frame.frame_bytes = static_cast<uint16_t>(frame_bytes);
  return frame;
}

}  // namespace

Frame plain_frame(const Link& link, const Flow& flow, const Endpoint& from, const Endpoint& to,
                  uint8_t ttl) {
  uint8_t whole[2048];
  write_ethernet(whole, link);
  write_inner(whole + kIpAt, flow, from, to, ttl);
  return headers_of(whole, kIpAt + kInnerHeaderBytes, kIpAt + flow.inner_bytes);
}

Frame tunnel_frame(const Link& link, const Outer& outer, const Flow& flow, const Endpoint& from,
                   const Endpoint& to, uint8_t ttl) {
  uint8_t whole[2048];
  uint8_t* const header = whole + kUdpPayloadAt;
  unsigned header_bytes = 0;
  unsigned tunnel_bytes = 0;
  if (outer.sealed_bytes != 0) {
    const tunnel::EncryptedHeader words{
        static_cast<uint8_t>(tunnel::MessageType::encrypted), {}, Le32::from_host(outer.index), {}};
    header_bytes = sizeof words;
    tunnel_bytes = outer.sealed_bytes + tunnel::kEncryptedOverheadBytes;
    std::memcpy(header, &words, sizeof words);
  } else {
    tunnel::PlainHeader words{
        static_cast<uint8_t>(tunnel::MessageType::plain), {}, Le32::from_host(outer.index)};
    std::memcpy(words.session_tag, outer.tag.data(), sizeof words.session_tag);
    header_bytes = sizeof words;
    tunnel_bytes = flow.inner_bytes + header_bytes;
    std::memcpy(header, &words, sizeof words);
  }
  write_inner(header + header_bytes, flow, from, to, ttl);
  const unsigned frame_bytes = wrap_datagram(whole, link, outer.from, outer.to, tunnel_bytes);
  return headers_of(whole, kUdpPayloadAt + header_bytes + kInnerHeaderBytes, frame_bytes);
}

namespace {
UdpHeader udp_of(const uint8_t* frame) {
  UdpHeader udp;
  std::memcpy(&udp, frame + kUdpAt, sizeof udp);
  return udp;
}
Be16 checksum_over_udp(const uint8_t* frame) {
  Ipv4Header ip;
  std::memcpy(&ip, frame + kIpAt, sizeof ip);
  return transport_checksum(ip.source, ip.destination, kIpUdp,
                            {frame + kUdpAt, udp_of(frame).length_bytes.host()});
}
}  // namespace

void set_udp_checksum(uint8_t* frame) {
  UdpHeader udp = udp_of(frame);
  udp.checksum = {};
  std::memcpy(frame + kUdpAt, &udp, sizeof udp);
  udp.checksum = udp_checksum_to_send(checksum_over_udp(frame));
  std::memcpy(frame + kUdpAt, &udp, sizeof udp);
}

bool is_udp_checksum_right(const uint8_t* frame) {
  return udp_of(frame).checksum.raw() != 0 && checksum_over_udp(frame).raw() == 0;
}

bool has_headers(const uint8_t* received, const Frame& expected) {
  const uint8_t* const bytes = expected.bytes.data();
  constexpr unsigned kAfterId = kIpIdAt + 2;
  constexpr unsigned kAfterChecksum = kIpChecksumAt + 2;
  return std::memcmp(received, bytes, kIpIdAt) == 0 &&
         std::memcmp(received + kAfterId, bytes + kAfterId, kIpChecksumAt - kAfterId) == 0 &&
         std::memcmp(received + kAfterChecksum, bytes + kAfterChecksum,
                     expected.header_bytes - kAfterChecksum) == 0 &&
         internet_checksum({received + kIpAt, sizeof(Ipv4Header)}).raw() == 0;
}

unsigned wrap_datagram(uint8_t* frame, const Link& link, const Endpoint& from, const Endpoint& to,
                       unsigned bytes) {
  const unsigned udp_bytes = static_cast<unsigned>(sizeof(UdpHeader)) + bytes;
  const unsigned total_bytes = static_cast<unsigned>(sizeof(Ipv4Header)) + udp_bytes;
  write_ethernet(frame, link);
  write_ip(frame + kIpAt, {from.address, to.address}, total_bytes);
  write_udp(frame + kUdpAt, from, to, udp_bytes);
  return kIpAt + total_bytes;
}

}  // namespace adit::bench
