// The express way's part for encrypted packets: a group's are gathered, and opened or sealed
// together, so that the cipher of one does not wait for another's, and the expanded keys, which are
// most of what such a packet needs of memory, can be asked for ahead.
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "gateway/packet_offsets.h"
#include "gateway/pipeline.h"
#include "gateway/raw_words.h"
#include "lib/net/checksum.h"
#include "lib/tunnel/seal.h"
#include "lib/tunnel/wire.h"

namespace adit::gateway {

using tunnel::EncryptedHeader;
using tunnel::SessionSet;

// What the group's type 4 packets need of their tunnels, whose current session it is nearly always,
// but for the keys. All of it follows from the packet, so nothing waits for the tunnel's line.
void Pipeline::ask_for_receiving(std::span<const ExpressPacket> group) {
  for (const ExpressPacket& packet : group) {
    if (!packet.sealed) continue;
    rte_prefetch0(packet.ip + 64);
    rte_prefetch0(packet.ip + 128);
    const auto* header = reinterpret_cast<const EncryptedHeader*>(packet.ip + kPayload);
    const tunnel::ReplayWindow& replay =
        tunnels_.open(packet.slot()).sessions.replay(SessionSet::kCurrent);
    rte_prefetch0(&replay);
    rte_prefetch0(replay.place(header->counter.host()));
  }
}

// The same of what goes to tunnels.
void Pipeline::ask_for_sending(std::span<const ExpressPacket> group) {
  for (const ExpressPacket& packet : group) {
    if (packet.way != ExpressPacket::inbound || !packet.line->encrypted) continue;
    rte_prefetch0(&tunnels_.open(packet.slot()).sessions.replay(SessionSet::kCurrent));
    rte_prefetch0(packet.ip + 64);
    rte_prefetch0(packet.ip + 128);
  }
}

// Of a tunnel that has not moved and a session that is confirmed; as open_encrypted() begins.
void Pipeline::gather_to_open(ExpressPacket& packet, uint8_t* header, unsigned tunnel_bytes) {
  tunnel::SessionSet& sessions = tunnels_.open(packet.slot()).sessions;
  const uint64_t counter = reinterpret_cast<const EncryptedHeader*>(header)->counter.host();
  if (!sessions.replay(SessionSet::kCurrent).would_accept(counter)) return;
  gathered_.packets[gathered_.count] = &packet;
  gathered_.jobs[gathered_.count++] = {.session = &sessions.at(SessionSet::kCurrent),
                                       .packet = header,
                                       .text_bytes = tunnel_bytes - tunnel::kEncryptedOverheadBytes,
                                       .counter = counter};
}

// And as it goes on, packet by packet: one in front may have had the same counter.
void Pipeline::open_gathered() {
  const std::span jobs(gathered_.jobs.data(), std::exchange(gathered_.count, 0));
  crypto_.open(jobs);
  for (size_t i = 0; i < jobs.size(); ++i) {
    const CryptoJob& job = jobs[i];
    ExpressPacket& packet = *gathered_.packets[i];
    tunnel::ReplayWindow& replay =
        tunnels_.open(packet.slot()).sessions.replay(SessionSet::kCurrent);
    if (!job.authentic || !replay.accept(job.counter)) [[unlikely]] {
      packet.way = ExpressPacket::gone;
      finish(replay.would_accept(job.counter) ? Fate::not_authentic : Fate::replayed, packet.mbuf);
      continue;
    }
    packet.way = ExpressPacket::outbound;
    packet.opened = true;
    packet.ip = job.packet + sizeof(EncryptedHeader);
    packet.total_bytes = static_cast<uint16_t>(job.text_bytes);
  }
}

// As send_into_tunnel() does it, of a packet that will be in the transmit queue by the time it is
// sealed. False if that may not be, or the packet has no room.
bool Pipeline::gather_to_seal(const ExpressPacket& packet) {
  const TunnelLine& line = *packet.line;
  const rte_mbuf* mbuf = packet.mbuf;
  const auto* begin = static_cast<const uint8_t*>(mbuf->buf_addr);
  const auto padded =
      static_cast<unsigned>(tunnel::padded_bytes(packet.total_bytes, line.mtu_bytes));
  uint8_t* const header = packet.ip - sizeof(EncryptedHeader);
  uint8_t* const end = packet.ip + packet.total_bytes;
  tunnel::SessionSet& sessions = tunnels_.open(packet.slot()).sessions;
  uint64_t& counter = sessions.send_counter(SessionSet::kCurrent);
  if (header - begin < kPayload + kExpressLinkBytes ||
      begin + mbuf->buf_len - packet.ip < padded + tunnel::kTagBytes ||
      counter >= tunnel::kRejectAfterMessages) {
    return false;
  }
  std::memset(end, 0, padded - packet.total_bytes);
  gathered_.jobs[gathered_.count++] = {.session = &sessions.at(SessionSet::kCurrent),
                                       .packet = header,
                                       .text_bytes = padded,
                                       .counter = counter++};
  return true;
}

// The packets stand in the transmit queue already, whole but for this. Nothing else may happen
// between: a session must be where it was, and a packet that the stages send must not be sealed.
void Pipeline::seal_gathered() {
  const std::span jobs(gathered_.jobs.data(), std::exchange(gathered_.count, 0));
  crypto_.seal(jobs);
  if (settings_.ports[settings_.uplink].checksum_udp_by_port) return;
  for (const CryptoJob& job : jobs) write_outer_udp_checksum(job.packet - kPayload);
}

// Of an outer header that is complete otherwise, in software.
void Pipeline::write_outer_udp_checksum(uint8_t* ip) {
  const auto& header = *reinterpret_cast<const Ipv4Header*>(ip);
  store(ip + kUdpChecksum, uint16_t{0});
  const Be16 sum = transport_checksum(header.source, header.destination, kIpUdp,
                                      {ip + kIpBytes, load_host16(ip + kUdpBytes)});
  store(ip + kUdpChecksum, udp_checksum_to_send(sum).raw());
}

}  // namespace adit::gateway
