#include "tests/conformance/netfilter.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "tests/eal/rig.h"

namespace adit::gateway::test {
namespace {

// A write to a TUN device returns when the kernel has routed the packet; this is for what it does
// a little later.
constexpr int kQuietMs = 5;

// As a router at home or in an office has it: what nobody asked for is dropped, pings are
// answered, what connection tracking finds invalid goes nowhere, and the MSS is clamped. Segments
// of the tests have the same sequence numbers all along, which is none of a translator's business.
// The tunnels' MTU is the inside's. Answers of the kernel's own are not limited: a test may ask for
// more of them in a millisecond than there would be in a second. ADIT_MASQUERADE is another nft
// statement in masquerade's place: with a wrong one rows must differ.
constexpr const char* kSetUp = R"(
set -e
ip address add 192.168.1.1/24 dev inside
ip link set inside mtu 1440 up
ip address add 30.1.1.10/24 dev outside
ip link set outside mtu "$outside_mtu" up
ip link set lo up
ip route add default dev outside
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_ratemask=0 \
  net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.inside.rp_filter=0 \
  net.ipv4.conf.outside.rp_filter=0 net.ipv4.conf.all.send_redirects=0 \
  net.ipv4.conf.inside.send_redirects=0 net.netfilter.nf_conntrack_tcp_be_liberal=1
nft -f - <<END
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname outside ${ADIT_MASQUERADE:-masquerade}
  }
}
table ip filter {
  chain forward {
    type filter hook forward priority filter;
    ct state invalid drop
    iifname outside ct state new drop
    tcp flags & syn == syn tcp option maxseg size set rt mtu
  }
  chain input {
    type filter hook input priority filter;
    ct state invalid drop
    iifname outside icmp type echo-request accept
    iifname outside drop
  }
}
END
)";

std::runtime_error failure(const std::string& what) {
  return std::runtime_error("netfilter: " + what + ": " + std::strerror(errno));
}

int open_tun(const char* name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw failure("/dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    close(fd);
    throw failure(name);
  }
  return fd;
}

uint32_t slot_of(const Bytes& packet) {
  Ipv4Header ip;
  std::memcpy(&ip, packet.data(), sizeof ip);
  return ip.destination.host() - kInner.host() + 1;
}

// The rows' packets have the TTL 64, so that what comes out with it was made here: and then its
// identification is its own affair, and not compared.
void forget_own_identification(Bytes& packet) {
  Ipv4Header ip;
  std::memcpy(&ip, packet.data(), sizeof ip);
  if (ip.ttl != 64) return;
  ip.id = Be16::from_host(kErrorHeader.id);
  ip.checksum = Be16{};
  std::memcpy(packet.data(), &ip, sizeof ip);
  const uint16_t sum =
      adit::test::plain_checksum(std::span(packet).first((packet[0] & 15u) * 4));
  packet[10] = static_cast<uint8_t>(sum >> 8);
  packet[11] = static_cast<uint8_t>(sum);
}

}  // namespace

Netfilter::Netfilter(unsigned outside_mtu_bytes) {
  if (unshare(CLONE_NEWNET) != 0) throw failure("unshare");
  // IPv6 would only talk to itself.
  if (std::system("sysctl -qw net.ipv6.conf.default.disable_ipv6=1") != 0) {
    throw failure("sysctl");
  }
  inside_ = open_tun("inside");
  outside_ = open_tun("outside");
  const std::string script =
      "outside_mtu=" + std::to_string(outside_mtu_bytes) + '\n' + kSetUp;
  if (std::system(script.c_str()) != 0) throw failure("its set-up");
}

Netfilter::~Netfilter() {
  close(inside_);
  close(outside_);
}

void Netfilter::give_in(const Hop& in) {
  was_used_ = true;
  const int fd = in.place == kInternet ? outside_ : inside_;
  // What is no IPv4 at all is refused here already (EINVAL), and so it is lost all the same.
  if (write(fd, in.packet.data(), in.packet.size()) < 0 && errno != EINVAL) throw failure("write");
}

std::vector<Hop> Netfilter::come_out() {
  std::vector<Hop> out;
  pollfd devices[] = {{inside_, POLLIN, 0}, {outside_, POLLIN, 0}};
  while (poll(devices, 2, kQuietMs) > 0) {
    for (const pollfd& device : devices) {
      Bytes packet(65536);
      const ssize_t bytes = read(device.fd, packet.data(), packet.size());
      if (bytes < static_cast<ssize_t>(sizeof(Ipv4Header)) || packet[0] >> 4 != 4) continue;
      packet.resize(static_cast<size_t>(bytes));
      forget_own_identification(packet);
      const bool is_inside = device.fd == inside_;
      const uint32_t slot = is_inside ? slot_of(packet) : kInternet;
      out.push_back({slot, std::move(packet)});
    }
  }
  return out;
}

}  // namespace adit::gateway::test
