// hostile-gateway: a gateway that its client trusts by its key, and that answers DHCP with whatever
// bytes a test wants. It shakes hands, answers probes, and carries nothing.
//
//   hostile-gateway PRIVATE-KEY-FILE CLIENT-PUBLIC-KEY PORT REPLIES
//
// REPLIES is a file, read anew at each query, with a line for each reply to it: the address given,
// a space, and the options in hexadecimal, all that stands behind the cookie.
#include <arpa/inet.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "lib/dhcp/packet.h"
#include "lib/net/checksum.h"
#include "lib/net/headers.h"
#include "tests/support/tunnel_end.h"

namespace adit::tunnel::test {
namespace {

constexpr auto kServer = Ipv4Address::from_octets(192, 168, 1, 1);
constexpr auto kBroadcast = Ipv4Address::from_octets(255, 255, 255, 255);
// RFC 2131, figure 1: what stands before the options, and where in it.
constexpr size_t kFixedBytes = 240;
constexpr size_t kXidAt = 4;
constexpr size_t kYiaddrAt = 16;
constexpr size_t kCookieAt = 236;
constexpr uint8_t kCookie[] = {0x63, 0x82, 0x53, 0x63};

[[noreturn]] void refuse(const char* why) {
  std::fprintf(stderr, "hostile-gateway: %s\n", why);
  std::exit(2);
}

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecondNs + static_cast<uint64_t>(now.tv_nsec);
}

std::array<uint8_t, 32> key_in(const std::string& base64) {
  const auto key = from_base64(base64);
  if (!key) refuse("not a key");
  return *key;
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Bytes bytes_of(const std::string& hexadecimal) {
  Bytes bytes;
  for (size_t at = 0; at + 2 <= hexadecimal.size(); at += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(hexadecimal.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

// The options stand as they are: lib/dhcp would write sound ones only.
Bytes reply_to(uint32_t xid, Ipv4Address given, const Bytes& options) {
  constexpr size_t kMessageAt = sizeof(Ipv4Header) + sizeof(UdpHeader);
  Bytes packet(kMessageAt + kFixedBytes);
  packet.insert(packet.end(), options.begin(), options.end());

  uint8_t* message = packet.data() + kMessageAt;
  message[0] = static_cast<uint8_t>(dhcp::Op::reply);
  message[1] = dhcp::kHardwareIpsecTunnel;
  const auto wire_xid = Be32::from_host(xid);
  std::memcpy(message + kXidAt, &wire_xid, sizeof wire_xid);
  std::memcpy(message + kYiaddrAt, &given, sizeof given);
  std::memcpy(message + kCookieAt, kCookie, sizeof kCookie);

  UdpHeader udp{};
  udp.source_port = Be16::from_host(dhcp::kServerPort);
  udp.destination_port = Be16::from_host(dhcp::kClientPort);
  udp.length_bytes = Be16::from_host(static_cast<uint16_t>(packet.size() - sizeof(Ipv4Header)));
  std::memcpy(packet.data() + sizeof(Ipv4Header), &udp, sizeof udp);

  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(packet.size()));
  ip.ttl = 64;
  ip.protocol = kIpUdp;
  ip.source = kServer;
  ip.destination = kBroadcast;
  ip.checksum = internet_checksum({reinterpret_cast<const uint8_t*>(&ip), sizeof ip});
  std::memcpy(packet.data(), &ip, sizeof ip);
  return packet;
}

class HostileGateway {
 public:
  HostileGateway(const char* key_file, const char* client_key, uint16_t port, const char* replies)
      : replies_(replies),
        local_(make_identity({key_in(first_line(key_file))})),
        socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const auto client = make_remote_identity(local_, PublicKey{key_in(client_key)}, {});
    if (!client) refuse("the client's key is of low order");
    PeerConfig config;
    config.allowed = config.allowed.with(Protection::aes_256_gcm);
    config.preference = {Protection::aes_256_gcm};
    end_.emplace(local_, *client, config, random_);
    end_->transmit = [this](const Bytes& packet) {
      ::sendto(socket_, packet.data(), packet.size(), 0,
               reinterpret_cast<const sockaddr*>(&client_), sizeof client_);
    };
    sockaddr_in own{};
    own.sin_family = AF_INET;
    own.sin_port = htons(port);
    if (::bind(socket_, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
      refuse("cannot bind the port");
    }
  }

  [[noreturn]] void run() {
    std::printf("ready\n");
    std::fflush(stdout);
    for (;;) {
      Bytes packet(65536);
      socklen_t address_bytes = sizeof client_;
      const ssize_t length = ::recvfrom(socket_, packet.data(), packet.size(), 0,
                                        reinterpret_cast<sockaddr*>(&client_), &address_bytes);
      if (length <= 0) continue;
      packet.resize(static_cast<size_t>(length));
      end_->receive(now_ns(), packet);
      for (const Bytes& inner : end_->received) answer(inner);
      end_->received.clear();
    }
  }

 private:
  void answer(Bytes inner) {
    if (inner[0] == kProbeRequest) {
      inner[0] = kProbeReply;
      end_->send_encrypted(now_ns(), inner);
    } else if (const auto query = dhcp::unwrap(inner)) {
      answer_query(query->message.xid);
    }
  }

  void answer_query(uint32_t xid) {
    std::ifstream lines(replies_);
    std::string address;
    std::string options;
    while (lines >> address >> options) {
      const auto given = Ipv4Address::parse(address);
      if (!given) refuse("a reply without an address");
      end_->send_encrypted(now_ns(), reply_to(xid, *given, bytes_of(options)));
    }
  }

  const std::string replies_;
  const RandomSource random_ = [](std::span<uint8_t> out) {
    if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) std::abort();
  };
  const Identity local_;
  const int socket_;
  sockaddr_in client_{};
  std::optional<End> end_;
};

}  // namespace
}  // namespace adit::tunnel::test

int main(int argc, char** argv) {
  using namespace adit::tunnel::test;
  if (argc != 5) refuse("usage: hostile-gateway PRIVATE-KEY-FILE CLIENT-PUBLIC-KEY PORT REPLIES");
  HostileGateway(argv[1], argv[2], static_cast<uint16_t>(std::atoi(argv[3])), argv[4]).run();
}
