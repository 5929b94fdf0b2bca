#include "gateway/kernel_sender.h"

#include <linux/if_packet.h>
#include <rte_mbuf.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "lib/net/checksum.h"
#include "lib/net/headers.h"

namespace adit::gateway {
namespace {

// The kernel's UDP_MAX_SEGMENTS, of the kernels that have the smaller one.
constexpr unsigned kSegmentsMax = 64;
constexpr int kSendBufferBytes = 4 << 20;

// An outer datagram without a VLAN tag.
struct Headers {
  EthernetHeader ethernet;
  Ipv4Header ip;
  UdpHeader udp;
};
static_assert(sizeof(Headers) == 42 && alignof(Headers) == 1);

Headers& headers_of(rte_mbuf* frame) { return *rte_pktmbuf_mtod(frame, Headers*); }

bool is_tunnel_datagram(const rte_mbuf* frame) {
  return (frame->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM;
}

std::span<uint8_t> packet_of(rte_mbuf* frame) {
  return std::span(rte_pktmbuf_mtod(frame, uint8_t*), frame->data_len)
      .subspan(sizeof(EthernetHeader));
}

// Whether it is a TCP packet, whole, which this worker has made a moment ago.
bool is_segment(rte_mbuf* frame, ParsedIpv4& parsed) {
  return frame->nb_segs == 1 && frame->data_len > sizeof(EthernetHeader) &&
         headers_of(frame).ethernet.ether_type.host() == kEtherTypeIpv4 &&
         parse_ipv4(packet_of(frame), HeaderChecksum::trusted, parsed) == ParseError::none &&
         parsed.protocol == kIpTcp && !parsed.is_fragment;
}

bool can_be_cut(rte_mbuf* frame) {
  return frame->nb_segs == 1 && frame->data_len > sizeof(Headers) &&
         headers_of(frame).ethernet.ether_type.host() == kEtherTypeIpv4 &&
         headers_of(frame).ip.fragment == Be16{};
}

// Whether what the kernel cuts out of a large packet, `count` datagrams behind `first`, is `frame`.
bool follows(rte_mbuf* first, rte_mbuf* frame, unsigned count) {
  const Headers& a = headers_of(first);
  const Headers& b = headers_of(frame);
  return std::memcmp(&a.ethernet, &b.ethernet, sizeof a.ethernet) == 0 && a.ip.tos == b.ip.tos &&
         a.ip.ttl == b.ip.ttl && a.ip.source == b.ip.source &&
         a.ip.destination == b.ip.destination && a.udp.source_port == b.udp.source_port &&
         a.udp.destination_port == b.udp.destination_port &&
         b.ip.id.host() == static_cast<uint16_t>(a.ip.id.host() + count);
}

// Makes the first datagram's headers the large packet's.
void enlarge(Headers& headers, unsigned ip_bytes) {
  const auto udp_bytes = Be16::from_host(static_cast<uint16_t>(ip_bytes - sizeof(Ipv4Header)));
  PartialSum pseudo = headers.ip.source.value.raw();
  pseudo += headers.ip.destination.value.raw();
  pseudo += Be16::from_host(kIpUdp).raw();
  pseudo += udp_bytes.raw();
  headers.udp.length_bytes = udp_bytes;
  headers.udp.checksum = Be16::from_raw(fold(pseudo));
  headers.ip.total_bytes = Be16::from_host(static_cast<uint16_t>(ip_bytes));
  headers.ip.checksum = {};
  headers.ip.checksum =
      internet_checksum({reinterpret_cast<const uint8_t*>(&headers.ip), sizeof headers.ip});
}

}  // namespace

bool cuts_datagrams(std::string_view release) {
  const char* const end = release.data() + release.size();
  unsigned major = 0;
  unsigned minor = 0;
  const auto [dot, error] = std::from_chars(release.data(), end, major);
  if (error != std::errc{} || dot == end || *dot != '.' ||
      std::from_chars(dot + 1, end, minor).ec != std::errc{}) {
    return false;
  }
  return major > 6 || (major == 6 && minor >= 2);
}

std::unique_ptr<KernelSender> KernelSender::open(unsigned interface, std::string& refusal) {
  utsname kernel{};
  if (uname(&kernel) != 0 || !cuts_datagrams(kernel.release)) {
    refusal = std::string("Linux ") + kernel.release + " does not cut datagrams";
    return nullptr;
  }
  const int socket = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);  // 0: hears nothing
  const auto refuse = [&] {
    refusal = std::string("packet socket: ") + std::strerror(errno);
    return nullptr;
  };
  if (socket < 0) return refuse();
  std::unique_ptr<KernelSender> sender(new KernelSender(socket));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(interface);
  const int on = 1;
  if (setsockopt(socket, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
      bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return refuse();
  }
  // FORCE goes beyond net.core.wmem_max and needs CAP_NET_ADMIN; without it the default holds.
  setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &kSendBufferBytes, sizeof kSendBufferBytes);
  return sender;
}

KernelSender::KernelSender(int socket) : socket_(socket) {
  segments_.set_kinds(true, false);
}

KernelSender::~KernelSender() { close(socket_); }

KernelSender::Outcome KernelSender::send(std::span<rte_mbuf*> frames) {
  Outcome outcome;
  messages_count_ = 0;
  parts_end_ = parts_.data();
  unsigned taken = 0;
  unsigned datagrams = 0;
  for (rte_mbuf* frame : frames) {
    ParsedIpv4 parsed;
    if (is_tunnel_datagram(frame)) {
      datagrams_[datagrams++] = frame;
    } else if (is_segment(frame, parsed)) {
      if (segments_.full()) gather_segments();
      segments_.add(packet_of(frame).first(parsed.total_bytes), parsed);
    } else {
      frames[outcome.left++] = frame;
      continue;
    }
    taken_[taken++] = frame;
  }
  if (taken == 0) return outcome;
  gather(std::span(datagrams_).first(datagrams));
  gather_segments();
  outcome.sent = transmit();
  outcome.lost = taken - outcome.sent;
  rte_pktmbuf_free_bulk(taken_.data(), taken);
  return outcome;
}

// Begins a message, of a header that may still change; its parts follow at parts_end_.
VirtioHeader& KernelSender::begin_message(const VirtioHeader& header) {
  VirtioHeader& place = headers_[messages_count_] = header;
  mmsghdr& message = messages_[messages_count_];
  message = {};
  message.msg_hdr.msg_iov = parts_end_;
  *parts_end_++ = {&place, sizeof place};
  return place;
}

void KernelSender::end_message(unsigned frames) {
  msghdr& message = messages_[messages_count_].msg_hdr;
  message.msg_iovlen = static_cast<size_t>(parts_end_ - message.msg_iov);
  message_frames_[messages_count_++] = static_cast<uint16_t>(frames);
}

// Makes messages of tunnel datagrams: as few as may be.
void KernelSender::gather(std::span<rte_mbuf* const> frames) {
  for (size_t at = 0; at < frames.size();) {
    const size_t begin = at;
    rte_mbuf* const first = frames[at++];
    const unsigned ip_headers_bytes = first->l2_len + first->l3_len;
    VirtioHeader& header = begin_message(
        {.flags = kVirtioNeedsChecksum,
         .segment_type = 0,
         .headers_bytes = static_cast<uint16_t>(ip_headers_bytes + sizeof(UdpHeader)),
         .segment_bytes = 0,
         .checksum_start = static_cast<uint16_t>(ip_headers_bytes),
         .checksum_offset = offsetof(UdpHeader, checksum)});
    *parts_end_++ = {rte_pktmbuf_mtod(first, void*), first->data_len};

    unsigned ip_bytes = first->data_len - unsigned{sizeof(EthernetHeader)};
    const bool can = can_be_cut(first);
    while (can && at < frames.size() && at - begin < kSegmentsMax) {
      rte_mbuf* const frame = frames[at];
      const unsigned payload_bytes = frame->data_len - unsigned{sizeof(Headers)};
      if (!can_be_cut(frame) || frame->data_len > first->data_len ||
          ip_bytes + payload_bytes > kLargeBytesMax ||
          !follows(first, frame, static_cast<unsigned>(at - begin))) {
        break;
      }
      *parts_end_++ = {rte_pktmbuf_mtod_offset(frame, void*, sizeof(Headers)), payload_bytes};
      ip_bytes += payload_bytes;
      ++at;
      if (frame->data_len < first->data_len) break;  // only the last may be shorter
    }
    if (at - begin > 1) {
      header.segment_type = kVirtioUdp;
      header.segment_bytes = static_cast<uint16_t>(first->data_len - sizeof(Headers));
      enlarge(headers_of(first), ip_bytes);
    }
    end_message(static_cast<unsigned>(at - begin));
  }
}

// Makes messages of the segments that have been added: a large packet's first part begins at its
// Ethernet header, which stands in front of it.
void KernelSender::gather_segments() {
  segments_.flush([this](const Offload& offload, std::span<const iovec> parts, unsigned packets,
                         size_t) {
    begin_message(virtio_header(offload, parts[0].iov_len, sizeof(EthernetHeader)));
    iovec* const first = parts_end_;
    parts_end_ = std::ranges::copy(parts, first).out;
    first->iov_base = static_cast<uint8_t*>(first->iov_base) - sizeof(EthernetHeader);
    first->iov_len += sizeof(EthernetHeader);
    end_message(packets);
  });
}

// Returns the number of frames that the kernel has taken.
unsigned KernelSender::transmit() {
  unsigned frames = 0;
  for (unsigned at = 0; at < messages_count_;) {
    const int sent = sendmmsg(socket_, &messages_[at], messages_count_ - at, MSG_DONTWAIT);
    if (sent <= 0) {
      ++at;  // this one is lost; the next may not be
      continue;
    }
    for (const unsigned end = at + static_cast<unsigned>(sent); at < end; ++at) {
      frames += message_frames_[at];
    }
  }
  return frames;
}

}  // namespace adit::gateway
