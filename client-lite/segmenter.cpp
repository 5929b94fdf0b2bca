#include "client-lite/segmenter.h"

#include <algorithm>
#include <cstring>

#include "lib/net/checksum.h"

namespace adit::client {

bool Segmenter::begin(std::span<const uint8_t> packet, const ParsedIpv4& parsed,
                      const Offload& offload) {
  const uint8_t protocol = offload.kind == Offload::tcp ? kIpTcp : kIpUdp;
  if (offload.kind == Offload::whole || parsed.protocol != protocol || parsed.is_fragment ||
      offload.segment_bytes == 0 || parsed.total_bytes <= parsed.payload_offset()) {
    return false;
  }
  packet_ = packet.first(parsed.total_bytes);
  kind_ = offload.kind;
  ip_bytes_ = parsed.header_bytes;
  headers_bytes_ = parsed.payload_offset();
  segment_bytes_ = offload.segment_bytes;
  at_ = 0;
  index_ = 0;
  return true;
}

size_t Segmenter::next(std::span<uint8_t> room) {
  const size_t payload_bytes = packet_.size() - headers_bytes_;
  if (at_ >= payload_bytes) return 0;
  const size_t here = std::min(segment_bytes_, payload_bytes - at_);
  const size_t bytes = headers_bytes_ + here;
  std::memcpy(room.data(), packet_.data(), headers_bytes_);
  std::memcpy(room.data() + headers_bytes_, packet_.data() + headers_bytes_ + at_, here);

  auto* ip = reinterpret_cast<Ipv4Header*>(room.data());
  ip->total_bytes = Be16::from_host(static_cast<uint16_t>(bytes));
  ip->id = Be16::from_host(static_cast<uint16_t>(ip->id.host() + index_));
  ip->checksum = {};
  ip->checksum = internet_checksum(room.first(ip_bytes_));

  const std::span<uint8_t> transport = room.subspan(ip_bytes_, bytes - ip_bytes_);
  if (kind_ == Offload::tcp) {
    auto* tcp = reinterpret_cast<TcpHeader*>(transport.data());
    tcp->sequence = Be32::from_host(tcp->sequence.host() + static_cast<uint32_t>(at_));
    // The end of the data is at the end, and a congestion window is reduced once.
    if (at_ + here < payload_bytes) tcp->flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    if (at_ > 0) tcp->flags &= static_cast<uint8_t>(~kTcpCwr);
    tcp->checksum = {};
    tcp->checksum = transport_checksum(ip->source, ip->destination, kIpTcp, transport);
  } else {
    auto* udp = reinterpret_cast<UdpHeader*>(transport.data());
    udp->length_bytes = Be16::from_host(static_cast<uint16_t>(transport.size()));
    udp->checksum = {};
    udp->checksum = udp_checksum_to_send(
        transport_checksum(ip->source, ip->destination, kIpUdp, transport));
  }
  at_ += here;
  ++index_;
  return bytes;
}

bool fill_checksum(std::span<uint8_t> packet, const Offload& offload) {
  const size_t at = size_t{offload.checksum_start} + offload.checksum_offset;
  if (at + sizeof(Be16) > packet.size()) return false;
  // What stands there is the pseudo-header's sum, which thereby is part of the whole.
  Be16 checksum = internet_checksum(packet.subspan(offload.checksum_start));
  // UDP's place for it; in TCP a 0 and a 0xffff are both right.
  if (offload.checksum_offset == offsetof(UdpHeader, checksum)) {
    checksum = udp_checksum_to_send(checksum);
  }
  std::memcpy(packet.data() + at, &checksum, sizeof checksum);
  return true;
}

}  // namespace adit::client
