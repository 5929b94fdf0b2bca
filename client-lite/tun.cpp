#include "client-lite/tun.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/net/virtio.h"

namespace adit::client {
namespace {

// TUN_F_USO4 and TUN_F_USO6, of Linux 6.2 and later. The kernel takes the two together only.
constexpr unsigned kUdpOffloadFlags = 0x20 | 0x40;

Offload offload_of(const VirtioHeader& header) {
  Offload offload;
  switch (header.segment_type & ~kVirtioEcn) {
    case kVirtioTcp4:
      offload.kind = Offload::tcp;
      break;
    case kVirtioUdp:
      offload.kind = Offload::udp;
      break;
    default:
      break;
  }
  offload.segment_bytes = header.segment_bytes;
  offload.checksum_missing = (header.flags & kVirtioNeedsChecksum) != 0;
  offload.checksum_start = header.checksum_start;
  offload.checksum_offset = header.checksum_offset;
  return offload;
}

FileDescriptor open_clone_device(std::string& refusal) {
  FileDescriptor device(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!device.is_open()) refusal = std::string("/dev/net/tun: ") + std::strerror(errno);
  return device;
}

}  // namespace

bool Tun::open(const std::string& name, bool offloads, Queues queues, std::string& refusal) {
  device_ = open_clone_device(refusal);
  if (!device_.is_open()) return false;
  unsigned features = 0;
  has_header_ = offloads && ioctl(device_.get(), TUNGETFEATURES, &features) == 0 &&
                (features & IFF_VNET_HDR) != 0;
  if (!attach(name, queues, refusal)) return false;
  interface_index_ = if_nametoindex(name_.c_str());
  probe_offloads();
  return true;
}

// What the kernel leaves to us holds for the device, whatever the queue.
bool Tun::open_queue(Tun& queue, std::string& refusal) const {
  queue.device_ = open_clone_device(refusal);
  if (!queue.device_.is_open()) return false;
  queue.has_header_ = has_header_;
  queue.has_tcp_offload_ = has_tcp_offload_;
  queue.has_udp_offload_ = has_udp_offload_;
  queue.interface_index_ = interface_index_;
  return queue.attach(name_, Queues::many, refusal);
}

bool Tun::attach(const std::string& name, Queues queues, std::string& refusal) {
  ifreq request{};
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | (has_header_ ? IFF_VNET_HDR : 0) |
                                         (queues == Queues::many ? IFF_MULTI_QUEUE : 0));
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (ioctl(device_.get(), TUNSETIFF, &request) != 0) {
    const int error = errno;
    refusal = "device " + name + ": ";
    if (error == EBUSY) {
      refusal += "another program has it";
    } else if (error == EINVAL) {
      refusal += "there is a device of that name that is no TUN device, or has other queues";
    } else if (error == EPERM) {
      refusal += "not permitted: creating it needs CAP_NET_ADMIN";
    } else {
      refusal += std::strerror(error);
    }
    return false;
  }
  name_ = request.ifr_name;
  return true;
}

void Tun::probe_offloads() {
  has_tcp_offload_ = has_udp_offload_ = false;
  if (!has_header_) return;
  constexpr unsigned kTcpFlags = TUN_F_CSUM | TUN_F_TSO4;
  has_udp_offload_ = ioctl(device_.get(), TUNSETOFFLOAD, kTcpFlags | kUdpOffloadFlags) == 0;
  has_tcp_offload_ = has_udp_offload_ || ioctl(device_.get(), TUNSETOFFLOAD, kTcpFlags) == 0;
}

Tun::Outcome Tun::read(std::span<uint8_t> room, Reading& reading) {
  VirtioHeader header{};
  // An ordinary packet thereby is where it is wanted at once.
  const size_t room_bytes = std::min(room.size(), large_room_.size());
  const std::array<iovec, 3> parts{
      iovec{&header, sizeof header}, iovec{room.data(), room_bytes},
      iovec{large_room_.data() + room_bytes, large_room_.size() - room_bytes}};
  const size_t header_bytes = has_header_ ? sizeof header : 0;
  for (;;) {
    const ssize_t got = has_header_ ? ::readv(device_.get(), parts.data(), parts.size())
                                    : ::read(device_.get(), room.data(), room_bytes);
    if (got > static_cast<ssize_t>(header_bytes)) {
      const size_t bytes = static_cast<size_t>(got) - header_bytes;
      reading.offload = offload_of(header);
      reading.packet = room.first(std::min(bytes, room_bytes));
      if (bytes > room_bytes || reading.offload.kind != Offload::whole) {
        std::memcpy(large_room_.data(), room.data(), reading.packet.size());
        reading.packet = std::span(large_room_).first(bytes);
      }
      return Outcome::packet;
    }
    if (got < 0 && errno == EINTR) continue;
    // EBADFD: somebody deleted the device.
    if (got < 0 && errno != EAGAIN && errno != EIO && errno != ENOBUFS) return Outcome::gone;
    return Outcome::nothing;
  }
}

bool Tun::write(const Offload& offload, std::span<const iovec> parts) {
  // The first part is the first packet: headers and a payload of segment_bytes.
  VirtioHeader header = virtio_header(offload, parts[0].iov_len, 0);
  std::array<iovec, 1 + kPartsMax> all;
  size_t count = 0;
  size_t bytes = 0;
  if (has_header_) all[count++] = {&header, sizeof header};
  for (const iovec& part : parts) all[count++] = part;
  for (size_t i = 0; i < count; ++i) bytes += all[i].iov_len;
  ssize_t written;
  do {
    written = ::writev(device_.get(), all.data(), static_cast<int>(count));
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(bytes);
}

}  // namespace adit::client
